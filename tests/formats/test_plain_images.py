"""One reader of plain images: scripts and montages get the same numbers from a file, or the same refusal."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image as Pillow

from soct.errors import InputError, UsageError
from soct.formats.plain_images import read_pixels, read_plain_header, read_plain_image
from soct.spectral import Image

SHAPE = (24, 37)


def noise(dtype, *more):
    top = np.iinfo(dtype).max
    return np.random.default_rng(3).integers(0, top, (*SHAPE, *more), dtype, endpoint=True)


def both(path):
    """Return what a montage reads (numbers of the file), and what a script reads (brightness)."""
    header = read_plain_header(path)
    assert header.shape == SHAPE
    return read_plain_image(header), np.asarray(Image(path))


def check(path, mean, top):
    plain, brightness = both(path)
    np.testing.assert_allclose(plain, mean, rtol=1e-6, atol=1e-4 * top / 255)
    np.testing.assert_allclose(brightness, mean / top, atol=2e-7)


@pytest.mark.parametrize("colours", [3, 4, 2])
def test_a_coloured_png_keeps_its_16_bits_and_loses_its_alpha(tmp_path, colours):
    values = noise(np.uint16, colours)
    sitk.WriteImage(sitk.GetImageFromArray(values, isVector=True), str(tmp_path / "a.png"))
    assert read_plain_header(tmp_path / "a.png").dtype == np.uint16
    check(tmp_path / "a.png", values[..., : 1 if colours == 2 else 3].mean(axis=2), 65535)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.gif"])
def test_a_palette_is_looked_up(tmp_path, name):
    picture = Pillow.fromarray(noise(np.uint8, 3)).quantize(16)
    picture.save(tmp_path / name)
    assert read_pixels(tmp_path / name).shape == (*SHAPE, 3)
    check(tmp_path / name, np.asarray(picture.convert("RGB")).mean(axis=2), 255)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_inverted_grey_is_turned_round(tmp_path, dtype):
    values, top = noise(dtype), np.iinfo(dtype).max
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    check(tmp_path / "a.tif", top - values.astype(float), top)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_compression_changes_nothing(tmp_path, dtype, white_is_zero):
    values, top = noise(dtype), np.iinfo(dtype).max
    picture = Pillow.fromarray(values)
    picture.save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={262: 1 - white_is_zero})
    # Of what it declares inverted, Pillow inverts 8 bits when it writes, but not 16.
    turned = white_is_zero and dtype is np.uint16
    check(tmp_path / "a.tif", top - values.astype(float) if turned else values, top)


def test_cmyk_is_no_red_green_and_blue_with_alpha(tmp_path):
    picture = Pillow.fromarray(noise(np.uint8, 3)).convert("CMYK")
    picture.save(tmp_path / "a.tif")
    check(tmp_path / "a.tif", np.asarray(picture.convert("RGB")).mean(axis=2), 255)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_order_of_bytes_changes_nothing(tmp_path, order):
    values = noise(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=order)
    check(tmp_path / "a.tif", values, 65535)
    np.testing.assert_array_equal(Image(values.astype(order + "u2")), Image(values))


def test_a_smaller_copy_in_a_tiff_is_no_second_plane(tmp_path):
    values = noise(np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(values, subifds=0)
        file.write(values[::2, ::2], subfiletype=1)
    check(tmp_path / "a.tif", values, 255)


@pytest.mark.parametrize("colours", [(), (3,)])
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_truncated_file_is_never_filled_with_zeros(tmp_path, name, colours, dtype):
    values, path = noise(dtype, *colours), tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, values)
    elif name == "a.jpg":
        Pillow.fromarray((values >> (8 * (dtype is np.uint16))).astype(np.uint8)).save(path)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(values, isVector=bool(colours)), str(path))
    read_pixels(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    for read in (read_pixels, Image, lambda p: read_plain_image(read_plain_header(p))):
        with pytest.raises(InputError, match=rf"cannot be read[\s\S]*{name}"):
            read(path)


@pytest.mark.parametrize("read", [read_pixels, read_plain_header, Image])
def test_a_missing_image_is_a_file_that_is_not_found(tmp_path, read):
    with pytest.raises(FileNotFoundError, match=r"gone\.tif") as caught:
        read(tmp_path / "gone.tif")
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_saving_into_a_missing_folder_is_one_error_that_names_it(tmp_path, name):
    with pytest.raises(FileNotFoundError, match="nowhere") as caught:
        Image(np.zeros((4, 5))).save(tmp_path / "nowhere" / name)
    assert isinstance(caught.value, UsageError)
    assert "partial" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
