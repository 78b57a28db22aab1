"""Volumes come back from NIfTI, NRRD and TIFF as they went, voxel by voxel, each where it lay."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from soct.errors import InputError, UsageError, UserError
from soct.formats.volume_files import read_header, read_volume, write_volume
from soct.geometry.orientation import OrientedVolume, make_affine, orientation_of

KINDS = ("v.nii", "v.nii.gz", "v.nrrd", "v.tif")
CODES = ("SAR", "PIR", "PIL", "LSA", "ARI")


def some_volume(code: str, dtype: type = np.uint16) -> OrientedVolume:
    data = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype)
    return OrientedVolume(data, make_affine(code, (50.0, 40.0, 25.0), (100.0, -200.0, 30.0)))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("code", CODES)
def test_a_volume_comes_back_as_it_went(tmp_path, name, code):
    before = some_volume(code)
    write_volume(tmp_path / name, before)
    after = read_volume(tmp_path / name)
    assert after.orientation == code
    assert np.array_equal(after.data, before.data)
    assert after.data.dtype == before.data.dtype
    assert np.allclose(after.affine[:3, :3], before.affine[:3, :3], atol=1e-6)
    if not name.endswith("tif"):  # TIFF has no origin
        assert np.allclose(after.affine, before.affine, atol=1e-5)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", KINDS)
def test_equal_volumes_give_equal_bytes(tmp_path, name):
    (tmp_path / "again").mkdir()
    write_volume(tmp_path / name, some_volume("PIR"))
    write_volume(tmp_path / "again" / name, some_volume("PIR"))
    assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.int16, np.float32])
@pytest.mark.parametrize("name", KINDS)
def test_the_type_of_the_voxels_is_kept(tmp_path, name, dtype):
    write_volume(tmp_path / name, some_volume("SAR", dtype))
    assert read_volume(tmp_path / name).data.dtype == dtype


@pytest.mark.parametrize("name", ["v.nii.gz", "v.nrrd"])
def test_itk_agrees_where_a_voxel_lies(tmp_path, name):
    volume = some_volume("PIR")
    write_volume(tmp_path / name, volume)
    image = sitk.ReadImage(str(tmp_path / name))
    k, j, i = 3, 1, 4
    left, posterior, superior = image.TransformIndexToPhysicalPoint((i, j, k))
    right, anterior, up = (volume.affine @ (k, j, i, 1))[:3]
    assert (left, posterior, superior) == pytest.approx((-right, -anterior, up), abs=1e-5)
    assert image[i, j, k] == volume.data[k, j, i]


def test_a_nifti_of_another_program_is_right_anterior_superior(tmp_path):
    # Hand-made header: 2 x 3 x 4 voxels of 1 mm, sform identity, so x grows to the right.
    header = np.zeros(352, np.uint8)
    header[:4] = np.array([348], "<i4").view(np.uint8)
    header[40:56] = np.array([3, 2, 3, 4, 1, 1, 1, 1], "<i2").view(np.uint8)
    header[70:74] = np.array([2, 8], "<i2").view(np.uint8)
    header[76:108] = np.array([1, 1, 1, 1, 0, 0, 0, 0], "<f4").view(np.uint8)
    header[108:112] = np.array([352], "<f4").view(np.uint8)
    header[123] = 2  # millimetres
    header[254:256] = np.array([1], "<i2").view(np.uint8)
    header[280:328] = np.array([1, 0, 0, -5, 0, 1, 0, 6, 0, 0, 1, 7], "<f4").view(np.uint8)
    header[344:348] = np.frombuffer(b"n+1\0", np.uint8)
    voxels = np.arange(24, dtype=np.uint8)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(header.tobytes() + voxels.tobytes()))
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.orientation == "SAR"
    assert (volume.affine @ (0, 0, 0, 1))[:3] == pytest.approx((-5, 6, 7))
    assert volume.data[1, 2, 1] == 1 + 2 * 2 + 6
    header[254:256] = 0
    (tmp_path / "b.nii").write_bytes(header.tobytes() + voxels.tobytes())
    assert read_header(tmp_path / "b.nii").orientation is None
    with pytest.raises(InputError, match="does not say its orientation"):
        read_volume(tmp_path / "b.nii")
    assert read_volume(tmp_path / "b.nii", orientation="PIR").orientation == "PIR"


def nrrd(path, extra, space="right-anterior-superior", edge=2):
    text = (
        f"NRRD0004\ntype: uint8\ndimension: 3\nspace: {space}\nsizes: {edge} {edge} {edge}\n{extra}"
    )
    path.write_bytes(text.encode() + b"encoding: raw\n\n" + bytes(edge**3))


def test_a_nrrd_says_its_own_axes_and_units(tmp_path):
    lengths = "space directions: (0.05,0,0) (0,0.05,0) (0,0,0.05)\nspace origin: (1,2,3)\n"
    nrrd(tmp_path / "ras.nrrd", lengths)
    volume = read_volume(tmp_path / "ras.nrrd")
    assert volume.orientation == "SAR"
    assert volume.affine[:3, 3] == pytest.approx((1, 2, 3))
    microns = 'space units: "um" "um" "um"\nspace directions: (25,0,0) (0,25,0) (0,0,25)\n'
    nrrd(tmp_path / "um.nrrd", microns)
    assert read_volume(tmp_path / "um.nrrd").voxel_um == pytest.approx((25, 25, 25))


def test_micrometres_given_as_millimetres_are_noticed(tmp_path):
    nrrd(tmp_path / "a.nrrd", "space directions: (25,0,0) (0,25,0) (0,0,25)\n", edge=60)
    header = read_header(tmp_path / "a.nrrd")
    assert header.voxel_um == pytest.approx((25, 25, 25))
    assert "micrometres" in header.notes[0]


def test_a_plain_tiff_needs_its_voxel_size_and_orientation(tmp_path):
    tifffile.imwrite(tmp_path / "a.tiff", np.zeros((5, 4, 5), np.uint16))
    with pytest.raises(InputError, match="voxel size and orientation"):
        read_volume(tmp_path / "a.tiff")
    volume = read_volume(tmp_path / "a.tiff", voxel_um=(50, 40, 30), orientation="AIR")
    assert volume.voxel_um == pytest.approx((50, 40, 30))
    assert orientation_of(volume.affine) == "AIR"


def test_imagej_and_lzw_tiffs_are_read(tmp_path):
    data = np.arange(60, dtype=np.uint16).reshape(3, 4, 5)
    meta = {"axes": "ZYX", "spacing": 50.0, "unit": "um"}
    tifffile.imwrite(
        tmp_path / "ij.tif", data, imagej=True, resolution=(1 / 30, 1 / 40), metadata=meta
    )
    assert read_header(tmp_path / "ij.tif").voxel_um == pytest.approx((50, 40, 30), rel=1e-4)
    from PIL import Image

    pages = [Image.fromarray(plane) for plane in data]
    pages[0].save(
        tmp_path / "lzw.tif", save_all=True, append_images=pages[1:], compression="tiff_lzw"
    )
    read = read_volume(tmp_path / "lzw.tif", voxel_um=(1, 1, 1), orientation="SAR")
    assert np.array_equal(read.data, data)


@pytest.mark.parametrize("name", KINDS)
def test_blocks_taken_as_one_are_means_or_middle_labels_in_their_place(tmp_path, name):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 1000, (5, 6, 8)).astype(np.uint16)
    volume = OrientedVolume(data, make_affine("SAR", (10, 10, 10)))
    write_volume(tmp_path / name, volume)
    means = read_volume(tmp_path / name, factors=(2, 3, 2))
    assert means.data.shape == (2, 2, 4)
    assert means.data[0, 0, 0] == pytest.approx(data[:2, :3, :2].mean())
    assert means.voxel_um == pytest.approx((20, 30, 20))
    assert (means.affine @ (0, 0, 0, 1))[:3] == pytest.approx((0.005, 0.01, 0.005))
    labels = read_volume(tmp_path / name, factors=(2, 3, 2), labels=True)
    assert labels.data[1, 1, 2] == data[3, 4, 5]
    assert (labels.affine @ (1, 1, 2, 1))[:3] == pytest.approx((0.05, 0.04, 0.03))


@pytest.mark.parametrize("name", KINDS)
def test_a_cut_file_is_an_error_that_names_it(tmp_path, name):
    rng = np.random.default_rng(0)
    noise = OrientedVolume(
        rng.integers(0, 65535, (9, 40, 40)).astype(np.uint16), make_affine("SAR", (1, 1, 1))
    )
    write_volume(tmp_path / name, noise)
    whole = (tmp_path / name).read_bytes()
    for part in (0, 7, 300, len(whole) // 2):
        (tmp_path / name).write_bytes(whole[:part])
        with pytest.raises(InputError) as caught:
            read_volume(tmp_path / name, voxel_um=(1, 1, 1), orientation="SAR")
        assert name in str(caught.value)
    with pytest.raises(InputError, match="no such"):
        read_volume(tmp_path / f"absent{name}")


def test_a_raw_nrrd_that_was_cut_is_an_error(tmp_path):
    nrrd(tmp_path / "a.nrrd", "space directions: (1,0,0) (0,1,0) (0,0,1)\n", edge=9)
    whole = (tmp_path / "a.nrrd").read_bytes()
    (tmp_path / "a.nrrd").write_bytes(whole[:-80])
    with pytest.raises(InputError, match="cannot be read"):
        read_volume(tmp_path / "a.nrrd")


def test_a_header_that_promises_a_terabyte_takes_no_memory(tmp_path):
    text = (
        "NRRD0004\ntype: uint8\ndimension: 3\nspace: right-anterior-superior\nsizes: 20000 20000 20000\n"
        "space directions: (1,0,0) (0,1,0) (0,0,1)\nencoding: raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(text.encode() + bytes(100))
    with pytest.raises(InputError, match="more voxels than it holds"):
        read_volume(tmp_path / "a.nrrd")


def test_a_nrrd_never_reads_another_file(tmp_path):
    text = (
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: other.raw\n\n"
    )
    (tmp_path / "a.nrrd").write_bytes(text.encode())
    (tmp_path / "other.raw").write_bytes(bytes(8))
    with pytest.raises(InputError, match="cannot be read"):
        read_header(tmp_path / "a.nrrd")


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=600), name=st.sampled_from(KINDS), head=st.booleans())
def test_random_bytes_are_an_error_that_names_the_file(tmp_path, data, name, head):
    start = {"v.nii": b"\x5c\x01\0\0", "v.nii.gz": b"\x1f\x8b", "v.nrrd": b"NRRD0004\n"}
    content = (start.get(name, b"II*\0") if head else b"") + data
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_volume(tmp_path / name)
    assert name in str(caught.value)


def test_names_that_say_no_kind_are_refused(tmp_path):
    with pytest.raises(UsageError, match="kind"):
        write_volume(tmp_path / "v.mha", some_volume("SAR"))
    with pytest.raises(UsageError, match="type"):
        write_volume(
            tmp_path / "v.tif",
            OrientedVolume(np.zeros((2, 2, 2), complex), make_affine("SAR", (1, 1, 1))),
        )
