"""Images: what is read is what is there, and windows show the points that they are asked for."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from soct.errors import InputError, UsageError
from soct.spectral import Affine, Image


def plane_field(height: int = 40, width: int = 60) -> Image:
    """A ramp: bilinear interpolation of it is exact."""
    yy, xx = np.mgrid[:height, :width] + 0.5
    return Image(0.01 * xx + 0.02 * yy)


def test_importing_the_room_imports_no_science():
    code = (
        "import sys, soct.spectral as s; dir(s); "
        "assert not {'scipy', 'numba', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_integers_become_brightness_and_floats_stay():
    assert Image(np.full((2, 3), 51, np.uint8))[0, 0] == np.float32(0.2)
    assert Image(np.full((2, 3), 65535, np.uint16))[0, 0] == 1
    assert Image(np.full((2, 3), 7.5))[0, 0] == 7.5
    assert Image(np.ones((2, 3), bool)).dtype == np.float32


def test_colours_are_averaged_and_alpha_is_left_out():
    colours = np.zeros((2, 3, 4), np.uint8)
    colours[..., 0], colours[..., 3] = 255, 255
    assert Image(colours)[0, 0] == pytest.approx(1 / 3)
    assert Image(colours[..., :3])[0, 0] == pytest.approx(1 / 3)
    assert Image(colours[..., [0, 3]])[0, 0] == 1


def test_an_image_is_always_a_copy():
    given = np.zeros((4, 5), np.float32)
    image = Image(given)
    image += 1
    again = Image(image)
    again[0, 0] = 9
    assert not given.any()
    assert (image == 1).all()


def test_images_are_arrays_in_arithmetic():
    image = plane_field()
    for result in (image - 0.5, 2 * image, image * np.float64(2), np.sqrt(image), image - image):
        assert isinstance(result, Image)
        assert result.dtype == np.float32
    assert isinstance(image[3:9, ::2], Image)
    for result in (image > 0.5, image.mean(axis=0), image[4], image.sum(), np.mean(image)):
        assert not isinstance(result, Image)
    assert isinstance(image.mean(), np.floating)
    copy = pickle.loads(pickle.dumps(image))
    assert isinstance(copy, Image)
    np.testing.assert_array_equal(copy, image)


@pytest.mark.parametrize("shape", [(5,), (2, 2, 7), (2, 2, 2, 2), (0, 4)])
def test_what_is_no_image_is_refused_with_its_shape(shape):
    with pytest.raises(ValueError, match=str(shape[-1])):
        Image(np.zeros(shape))


def test_a_complex_array_is_no_image():
    with pytest.raises(ValueError, match="complex"):
        Image(np.zeros((3, 3), complex))


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.jpg"])
def test_what_is_saved_is_loaded(tmp_path, name):
    yy, xx = np.mgrid[:32, :48]
    image = Image(0.5 + 0.4 * np.sin(xx / 9) * np.cos(yy / 7))
    image.save(tmp_path / name, 98)
    for loaded in (Image.load(tmp_path / name), Image(str(tmp_path / name))):
        tolerance = {"a.tif": 0, "a.png": 0.5 / 255 + 1e-6, "a.jpg": 0.02}[name]
        assert np.abs(np.asarray(loaded - image)).max() <= tolerance


def test_lower_quality_makes_smaller_jpegs(tmp_path):
    image = Image(np.random.default_rng(0).random((64, 64)))
    for quality in (20, 90):
        image.save(tmp_path / f"{quality}.jpg", qual=quality)
    assert (tmp_path / "20.jpg").stat().st_size < (tmp_path / "90.jpg").stat().st_size
    with pytest.raises(UsageError, match="1 to 100"):
        image.save(tmp_path / "a.jpg", qual=0)
    with pytest.raises(UsageError, match=r"\.png"):
        image.save(tmp_path / "a.gif")


def test_files_of_every_depth_and_colour_are_read(tmp_path):
    deep = np.array([[0, 65535], [32768, 1]], np.uint16)
    Pillow.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_allclose(Image(tmp_path / "deep.png"), deep / 65535, atol=1e-7)
    tifffile.imwrite(tmp_path / "deep.tif", deep)
    np.testing.assert_allclose(Image(tmp_path / "deep.tif"), deep / 65535, atol=1e-7)
    red = np.zeros((3, 20, 30), np.uint8)
    red[0] = 255
    tifffile.imwrite(tmp_path / "planar.tif", red, photometric="rgb", planarconfig="separate")
    assert Image(tmp_path / "planar.tif").shape == (20, 30)
    assert Image(tmp_path / "planar.tif")[0, 0] == pytest.approx(1 / 3)
    Pillow.fromarray(np.moveaxis(red, 0, -1)).quantize(4).save(tmp_path / "palette.png")
    assert Image(tmp_path / "palette.png")[0, 0] == pytest.approx(1 / 3)
    Pillow.fromarray(np.ones((4, 6), bool)).save(tmp_path / "mask.png")
    assert Image(tmp_path / "mask.png")[0, 0] == 1


def test_a_missing_file_is_a_file_not_found_error_that_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        Image(tmp_path / "gone.tif")
    with pytest.raises(InputError, match="gone"):
        Image.load(tmp_path / "gone.png")


@pytest.mark.parametrize("name", ["bad.tif", "bad.png", "bad.jpg", "bad.dat"])
def test_an_unreadable_file_is_one_clear_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x89PNG and then nothing of use")
    with pytest.raises(InputError, match="cannot be read") as caught:
        Image(tmp_path / name)
    assert name in str(caught.value)


def test_a_cut_file_and_a_stack_of_planes_are_errors(tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((7, 20, 30), np.uint8))
    with pytest.raises(InputError, match="7 planes"):
        Image(tmp_path / "stack.tif")
    Image(np.random.default_rng(1).random((90, 90))).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:900])
    with pytest.raises(InputError, match="cannot be read"):
        Image(tmp_path / "cut.png")


def test_stretching_makes_the_given_part_black_and_white():
    image = Image(np.arange(10_000.0).reshape(100, 100))
    stretched = image.stretched(1)
    assert image[0, 1] == 1
    assert (stretched == 0).sum() == pytest.approx(100, abs=2)
    assert (stretched == 1).sum() == pytest.approx(100, abs=2)
    assert image.stretch(1) is None
    np.testing.assert_array_equal(image, stretched)
    flat = Image(np.full((4, 4), 3.0))
    flat.stretch()
    assert not flat.any()
    with pytest.raises(ValueError, match="percent"):
        image.stretch(50)


def test_reducing_averages_squares():
    image = Image(np.arange(35.0).reshape(5, 7))
    small = image.scaled()
    assert small.shape == (2, 3)
    np.testing.assert_allclose(small[0, 0], image[:2, :2].mean())
    np.testing.assert_allclose(small[1, 2], image[2:4, 4:6].mean(), rtol=1e-6)
    assert not np.shares_memory(image.scaled(1), image)
    np.testing.assert_allclose(plane_field().scaled(2.5)[1, 1], 0.03 * 1.5 * 2.5, rtol=0.02)
    with pytest.raises(ValueError, match="fac"):
        image.scaled(0.5)
    with pytest.raises(ValueError, match="7 x 5"):
        image.scaled(9)


def test_apodizing_fades_the_outer_quarter_and_only_once():
    image = plane_field(64, 80)
    faded = image.apodized(gray=0.25)
    np.testing.assert_array_equal(faded[16:48, 20:60], image[16:48, 20:60])
    np.testing.assert_allclose(faded[0], 0.25, atol=0.01)
    half = np.cos(np.pi * (7.5 + 0.5) / 16) / 2
    np.testing.assert_allclose(
        faded[7:9, 30].mean() - 0.25, (image[7:9, 30].mean() - 0.25) * (0.5 - half), rtol=0.01
    )
    again = faded.apodized(gray=0.25)
    np.testing.assert_array_equal(again, faded)
    assert (faded.apodized(gray=0.25, force=True) != faded).any()
    image.apodize()
    np.testing.assert_allclose(image[:, 0], plane_field(64, 80).mean(), atol=0.01)


def test_a_window_shows_at_its_centre_the_point_asked_for():
    image = plane_field()
    for siz in (8, (7, 4)):
        window = image.straightwindow((30.3, 21.7), siz)
        assert window.shape == ((8, 8) if siz == 8 else (4, 7))
        assert window.mean() == pytest.approx(0.01 * 30.3 + 0.02 * 21.7, abs=1e-6)
    whole = image.straightwindow((30, 20), (10, 6))
    np.testing.assert_array_equal(whole, image[17:23, 25:35])
    np.testing.assert_array_equal(image.straightwindow(siz=(60, 40)), image)


def test_beyond_the_edge_a_window_is_the_mean_of_what_it_shows():
    image = Image(np.random.default_rng(2).random((40, 60)))
    window = image.straightwindow((0, 0), 20)
    np.testing.assert_array_equal(window[10:, 10:], image[:10, :10])
    np.testing.assert_allclose(window[:10], image[:10, :10].mean(), rtol=1e-5)
    assert image.straightwindow((0, 0), 20, border=0.7)[0, 0] == np.float32(0.7)
    assert (image.straightwindow((500, 0), 4, border=0.5) == 0.5).all()
    with pytest.raises(ValueError, match=r"500.*60 x 40"):
        image.straightwindow((500, 0), 4)


def test_missing_pixels_neither_spread_nor_count():
    image = plane_field()
    image[:, 5] = np.nan
    window = image.straightwindow((5, 20), (20, 10))
    assert np.isnan(window).sum() == 10
    assert np.isfinite(window[:, 0]).all()


def test_a_transformed_window_turns_the_image_about_its_point():
    image = plane_field()
    turn = Affine.rotator(0.4)
    window = image.transformedwindow((30, 20), turn, (12, 10))
    yy, xx = np.mgrid[:10, :12] + 0.5
    points = turn.inverse() * np.stack([xx.ravel() - 6, yy.ravel() - 5], 1) + (30, 20)
    np.testing.assert_allclose(window.ravel(), points @ (0.01, 0.02), atol=1e-5)
    np.testing.assert_array_equal(
        image.transformedwindow((30, 20), siz=8), image.straightwindow((30, 20), 8)
    )
    np.testing.assert_allclose(
        image.transformedwindow((30, 20), np.diag([2.0, 2.0]), 8)[:, 3:5].mean(axis=1)[[0, -1]],
        [0.3 + 0.02 * (20 - 1.75), 0.3 + 0.02 * (20 + 1.75)],
        atol=1e-5,
    )


def test_a_region_is_a_copy_within_the_image():
    image = plane_field()
    part = image.roi((3, 5, 10, 7))
    np.testing.assert_array_equal(part, image[5:12, 3:13])
    part += 1
    assert image[5, 3] < 1
    with pytest.raises(ValueError, match="60 x 40"):
        image.roi((55, 0, 10, 10))
    with pytest.raises(ValueError, match="x0, y0, w, h"):
        image.roi((1, 2, 3))


def test_the_difference_leaves_the_margin_out():
    image = plane_field()
    other = image.copy()
    other[0] += 5
    other[:, -2:] -= 5
    assert image.rmsdelta(other) == 0
    assert image.delta(other).shape == (36, 54)
    assert image.rmsdelta(image + 0.25, margin=0) == pytest.approx(0.25, rel=1e-5)
    with pytest.raises(ValueError, match="differ"):
        image.delta(image[1:])
    with pytest.raises(ValueError, match="margin"):
        image.delta(image, margin=0.5)
