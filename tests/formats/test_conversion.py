"""Converted volumes keep their voxels, their size and their place, as readers that are not soct's say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
import zarr

from soct.errors import InputError, ResourceError, UsageError
from soct.formats import conversion
from soct.formats.conversion import Wish, convert, prepare
from soct.formats.ngff import parse_image
from soct.formats.ome_zarr import PyramidWriter
from soct.formats.validation import validate_volume
from soct.formats.volume_files import read_header
from soct.formats.volume_sink import SUFFIXES, VolumeSpec, write_planes
from soct.formats.volume_source import VolumeSource, block_means, measure_window, open_source
from soct.geometry.orientation import LPS_FROM_RAS, make_affine, orientation_of
from soct.space import Voxel
from tests.formats.raw_files import samples, write_tile
from tests.formats.test_thorlabs import field, write_oct

VOXEL = Voxel(30.0, 20.0, 10.0)
SHAPE = (7, 9, 11)
SPOT = (1, 6, 3)
FILES = [s for s in SUFFIXES if "zarr" not in s]


def pattern(dtype: str = "float32") -> np.ndarray:
    data = np.random.default_rng(3).uniform(10, 90, SHAPE).astype(dtype)
    data[SPOT] = 120
    return data


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """An OME-Zarr of which z, y and x grow towards posterior, inferior and right."""
    path = tmp_path / "in.ome.zarr"
    data = pattern()
    with PyramidWriter(path, SHAPE, VOXEL, (60,), orientation="PIR") as writer:
        writer.append(data, np.ones(SHAPE, bool))
    return path


def world_of(path: Path) -> np.ndarray:
    """Where SimpleITK says the brightest voxel lies, in right-anterior-superior millimetres."""
    image = sitk.ReadImage(str(path))
    data = sitk.GetArrayFromImage(image)
    z, y, x = (int(i) for i in np.unravel_index(int(data.argmax()), data.shape))
    point = np.array([*image.TransformIndexToPhysicalPoint((x, y, z)), 1.0])
    return (LPS_FROM_RAS @ point)[:3]


TRUE_PLACE = (make_affine("PIR", VOXEL) @ np.array([*SPOT, 1.0]))[:3]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd"])
@pytest.mark.parametrize("code", [None, "SAR", "ASL", "RPI"])
def test_simpleitk_finds_every_voxel_at_its_place_in_the_body(tmp_path, volume, suffix, code):
    out = tmp_path / f"out{suffix}"
    convert(volume, out, Wish(orientation=code))
    np.testing.assert_allclose(world_of(out), TRUE_PLACE, atol=1e-5)
    header = read_header(out)
    assert header.orientation == (code or "PIR")
    image = sitk.ReadImage(str(out))
    assert sorted(image.GetSpacing()) == pytest.approx([0.01, 0.02, 0.03])
    assert image.GetPixelID() == sitk.sitkFloat32
    if code is None:
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), pattern())


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".tif", ".ome.zarr", ".zarr"])
def test_a_volume_goes_through_a_format_and_back_unchanged(tmp_path, volume, suffix):
    convert(volume, tmp_path / f"there{suffix}", Wish(orientation="LSA"))
    convert(tmp_path / f"there{suffix}", tmp_path / "back.ome.zarr", Wish(orientation="PIR"))
    back = open_source(tmp_path / "back.ome.zarr")
    assert back.voxel_um == pytest.approx(VOXEL)
    assert back.orientation == "PIR"
    np.testing.assert_array_equal(np.concatenate(list(back.planes())), pattern())


@pytest.mark.parametrize("suffix", [".tif", ".ome.tiff"])
def test_tiff_is_ome_with_the_voxel_size(tmp_path, volume, suffix):
    out = tmp_path / f"out{suffix}"
    convert(volume, out, Wish(dtype="uint16", window=(0, 100)))
    with tifffile.TiffFile(out) as file:
        assert file.is_ome
        assert file.series[0].shape == SHAPE
        assert 'PhysicalSizeZ="30.0"' in file.ome_metadata
        assert 'PhysicalSizeX="10.0"' in file.ome_metadata
        stored = file.asarray()
    expected = np.clip(np.rint(1 + pattern().astype(float) / 100 * 65534), 1, 65535)
    np.testing.assert_allclose(stored, expected, atol=1)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_of_both_versions_is_valid_and_readable_by_others(tmp_path, volume, version):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader
    from ome_zarr_models import open_ome_zarr

    out = tmp_path / "out.ome.zarr"
    convert(volume, out, Wish(orientation="SAR"), ngff=version)
    open_ome_zarr(zarr.open_group(str(out), mode="r"), version=version)
    (node,) = list(Reader(parse_url(str(out)))())[:1]
    turned = pattern().transpose(1, 0, 2)[::-1, ::-1]
    np.testing.assert_array_equal(np.asarray(node.data[0]), turned)
    group = zarr.open_group(str(out), mode="r")
    assert group.metadata.zarr_format == (2 if version == "0.4" else 3)
    np.testing.assert_array_equal(group["0"][:], turned)
    levels = parse_image(out).levels
    assert levels[0].voxel_um == (20.0, 30.0, 10.0)
    assert len(levels) == len(node.data) > 2
    if version == "0.5":
        assert validate_volume(out, samples=True) == ()
    again = open_source(out)
    affine = make_affine("SAR", again.voxel_um or (1, 1, 1), again.translation_um)
    place = affine @ [*np.unravel_index(int(turned.argmax()), turned.shape), 1.0]
    np.testing.assert_allclose(place[:3], TRUE_PLACE, atol=1e-9)


def test_levels_hold_means_of_voxels_that_are_not_zero(tmp_path):
    data = pattern()
    data[0, 0, 0] = 0
    write_planes(
        tmp_path / "a.ome.zarr",
        VolumeSpec(SHAPE, data.dtype, Voxel(10, 10, 10)),
        [data[:3], data[3:4], data[4:]],
    )
    group = zarr.open_group(str(tmp_path / "a.ome.zarr"), mode="r")
    level = group["1"][:]
    assert level.shape == (4, 5, 6)
    block = data[:2, :2, :2]
    assert level[0, 0, 0] == pytest.approx(block.sum() / 7, rel=1e-6)
    assert level[-1, -1, -1] == pytest.approx(data[6, 8, 10], rel=1e-6)
    assert level[1, 2, 3] == pytest.approx(data[2:4, 4:6, 6:8].mean(), rel=1e-6)


@pytest.mark.parametrize("suffix", [".ome.zarr", ".nii.gz", ".nrrd", ".tif", ".zarr"])
@pytest.mark.parametrize("dtype", ["int16", "float32", "uint8"])
def test_every_type_and_sign_survives(tmp_path, suffix, dtype):
    data = pattern(dtype)
    if dtype != "uint8":
        data -= 50
    spec = VolumeSpec(SHAPE, data.dtype, VOXEL, orientation="SAR")
    write_planes(tmp_path / f"a{suffix}", spec, [data])
    source = open_source(tmp_path / f"a{suffix}")
    assert source.dtype == data.dtype
    np.testing.assert_array_equal(np.concatenate(list(source.planes())), data)


def test_a_coarser_voxel_averages_whole_blocks_and_keeps_the_place(tmp_path, volume):
    source = prepare(volume, Wish(target_um=60.0, level=0))
    assert source.voxel_um == (60.0, 60.0, 60.0)
    assert source.translation_um == (15.0, 20.0, 25.0)
    data = np.concatenate(list(source.planes()))
    np.testing.assert_array_equal(data, block_means(pattern(), (2, 3, 6)))
    assert data[1, 1, 0] == pytest.approx(pattern()[2:4, 3:6, 0:6].mean(), rel=1e-6)


def test_the_level_that_is_fine_enough_is_found(volume):
    assert prepare(volume, Wish(target_um=60.0)).shape == prepare(volume, Wish(level=1)).shape
    assert prepare(volume, Wish(target_um=40.0)).voxel_um == (30.0, 40.0, 40.0)


def test_labels_are_never_averaged(tmp_path):
    data = np.random.default_rng(1).integers(0, 5000, SHAPE).astype(np.uint16)
    write_planes(tmp_path / "a.nrrd", VolumeSpec(SHAPE, data.dtype, VOXEL), [data])
    source = prepare(tmp_path / "a.nrrd", Wish(target_um=60.0, labels=True))
    assert source.dtype == np.uint16
    assert set(np.concatenate(list(source.planes())).ravel()) <= set(data.ravel())


def test_only_bands_of_planes_are_ever_read(tmp_path, monkeypatch):
    shape = (40, 64, 64)
    with PyramidWriter(tmp_path / "a.ome.zarr", shape, Voxel(50, 50, 50), ()) as writer:
        data = np.random.default_rng(0).random(shape, np.float32)
        writer.append(data, np.ones(shape, bool))
    monkeypatch.setattr("soct.formats.volume_source.BAND_BYTES", 3 * 64 * 64 * 4)
    sizes = []

    def watch(path: Path, **said: object) -> VolumeSource:
        source = open_source(path, **said)  # type: ignore[arg-type]
        block = source.read_block

        def read(window):
            found = block(window)
            sizes.append(found.nbytes)
            return found

        from dataclasses import replace

        return replace(source, read_block=read)

    monkeypatch.setattr(conversion, "open_source", watch)
    for name in ("b.nii", "c.ome.zarr", "d.tif"):
        wish = Wish(source_orientation="PIR", orientation="SAR")
        convert(tmp_path / "a.ome.zarr", tmp_path / name, wish)
    assert max(sizes) <= 3 * 64 * 64 * 4
    got = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "b.nii")))
    np.testing.assert_array_equal(got, data.transpose(1, 0, 2)[::-1, ::-1])


def test_an_existing_output_is_never_touched(tmp_path, volume):
    out = tmp_path / "out.nii"
    out.write_text("mine")
    with pytest.raises(UsageError, match="ever overwritten"):
        convert(volume, out, Wish())
    assert out.read_text() == "mine"


def test_what_reads_back_otherwise_is_not_published(tmp_path, volume, monkeypatch):
    def flip(path, spec, planes, *, ngff):
        write_planes(path, spec, planes, ngff=ngff)
        data = bytearray(path.read_bytes())
        data[-20] ^= 4
        path.write_bytes(data)

    monkeypatch.setattr(conversion, "write_planes", flip)
    with pytest.raises(ResourceError, match="reads back otherwise"):
        convert(volume, tmp_path / "out.nii", Wish())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.ome.zarr"]


@pytest.mark.parametrize("suffix", [".nii.gz", ".tif", ".ome.zarr"])
def test_a_damaged_input_leaves_nothing_behind(tmp_path, volume, suffix):
    shard = next(p for p in (volume / "0" / "c").rglob("*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[10] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        convert(volume, tmp_path / f"out{suffix}", Wish())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.ome.zarr"]


def test_unknown_orientation_stays_unknown_in_every_format(tmp_path):
    data = pattern()
    for suffix in (".nii", ".nrrd", ".tif", ".ome.zarr", ".zarr"):
        out = tmp_path / f"a{suffix}"
        write_planes(out, VolumeSpec(SHAPE, data.dtype, VOXEL), [data])
        source = open_source(out)
        assert source.orientation is None, suffix
        assert source.voxel_um == pytest.approx(VOXEL), suffix
    with pytest.raises(UsageError, match="does not say its orientation"):
        prepare(tmp_path / "a.nii", Wish(orientation="SAR"))
    assert prepare(tmp_path / "a.nii", Wish(source_orientation="PIR", orientation="SAR")).shape == (
        9,
        7,
        11,
    )


def test_zero_stays_zero_when_values_are_mapped_to_integers(tmp_path):
    data = pattern()
    data[0] = 0
    write_planes(tmp_path / "a.nii", VolumeSpec(SHAPE, data.dtype, VOXEL), [data])
    source = prepare(tmp_path / "a.nii", Wish(dtype="uint8", window=(20.0, 80.0)))
    got = np.concatenate(list(source.planes()))
    assert got.dtype == np.uint8
    assert not got[0].any()
    assert got[1:].min() == 1
    assert got[SPOT] == 255
    low, high = measure_window(open_source(tmp_path / "a.nii"))
    assert 10 <= low < 12
    assert 88 < high <= 120


def test_raw_tiles_and_oct_files_are_inputs(tmp_path):
    tile = write_tile(tmp_path / "tile_x00_y00_z00", samples(1), axial_resolution=5)
    convert(tile, tmp_path / "tile.nii", Wish())
    got = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "tile.nii")))
    np.testing.assert_array_equal(got, samples(1).transpose(2, 0, 1))
    file = write_oct(tmp_path / "a.oct", [field(1)], (0.5, 0.4, 0.06))
    convert(file, tmp_path / "oct.nrrd", Wish())
    image = sitk.ReadImage(str(tmp_path / "oct.nrrd"))
    assert image.GetSpacing() == pytest.approx((0.1, 0.1, 0.005))
    expected = np.abs(field(1)).transpose(2, 1, 0)
    np.testing.assert_allclose(sitk.GetArrayFromImage(image), expected, rtol=1e-6)


def test_a_voxel_size_that_nobody_says_is_asked_for(tmp_path):
    write_tile(tmp_path / "tile", samples(1))
    with pytest.raises(UsageError, match="voxel size"):
        convert(tmp_path / "tile", tmp_path / "a.nii", Wish())
    spec = convert(tmp_path / "tile", tmp_path / "a.nii", Wish(source_voxel_um=Voxel(1, 2, 3)))
    assert spec.voxel_um == (1, 2, 3)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Wish(orientation="XYZ"), "three letters"),
        (Wish(dtype="uint8", window=(3.0, 3.0)), "smaller and a larger"),
        (Wish(window=(0.0, 1.0)), "integers"),
        (Wish(level=9), "no such level"),
    ],
)
def test_wishes_that_make_no_sense_are_refused(volume, wish, words):
    with pytest.raises((UsageError, InputError), match=words):
        prepare(volume, wish)


def test_a_volume_too_long_for_nifti_is_told(tmp_path):
    spec = VolumeSpec((1, 1, 40_000), np.dtype(np.uint8), VOXEL)
    with pytest.raises(UsageError, match="too long for NIfTI"):
        write_planes(tmp_path / "a.nii", spec, [])


def test_the_nifti_quaternion_says_what_the_matrix_says(tmp_path):
    """Programs that prefer the quaternion (qform) and those that prefer the matrix (sform) must agree."""
    import struct

    data = pattern()
    for code in ("SAR", "PIR", "LSA", "IPL", "RAS"):
        out = tmp_path / f"{code}.nii"
        write_planes(out, VolumeSpec(SHAPE, data.dtype, VOXEL, orientation=code), [data])
        head = out.read_bytes()[:348]
        hand, *size = struct.unpack_from("<4f", head, 76)
        b, c, d, *offset = struct.unpack_from("<6f", head, 256)
        rows = np.array(struct.unpack_from("<12f", head, 280)).reshape(3, 4)
        a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        turn = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        turn[:, 2] *= hand
        np.testing.assert_allclose(turn * size, rows[:, :3], atol=1e-7)
        np.testing.assert_allclose(offset, rows[:, 3])
        affine = np.eye(4)
        affine[:3, :3] = rows[:, [2, 1, 0]]
        assert orientation_of(affine) == code
