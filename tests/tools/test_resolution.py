"""`soct resolution`: phantoms of known resolution, read block by block from every kind of file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, InputError
from soct.formats.volume_files import write_volume
from soct.formats.volume_source import open_source
from soct.geometry.orientation import OrientedVolume, make_affine
from soct.tools.resolution import measure_resolution
from soct.tools.resolution_report import table_rows, write_resolution_report

SHAPE = (40, 160, 160)
VOXEL = (20.0, 10.0, 10.0)
BLUR_UM = 40.0
NOISE = 0.5
HALF_BIT_SNR = 0.2071


def expected_um() -> float:
    """Closed form: a Gaussian spectrum and white noise correlate by half a bit."""
    along = [np.fft.fftfreq(n, d) for n, d in zip(SHAPE, VOXEL, strict=True)]
    square = sum(g**2 for g in np.meshgrid(*along, indexing="ij"))
    mean = np.exp(-4 * np.pi**2 * BLUR_UM**2 * square).mean()
    return float(2 * np.pi * BLUR_UM / np.sqrt(-np.log(HALF_BIT_SNR * NOISE**2 * mean)))


def phantom(seed: int, background: float = 0.0, smear: bool = False):
    """A blurred texture with noise; the left third, where asked for, is without structure."""
    signal = ndi.gaussian_filter(
        np.random.default_rng(1).standard_normal(SHAPE), BLUR_UM / np.asarray(VOXEL), mode="wrap"
    )
    signal = 10 + signal / signal.std()
    if background:
        signal[:, :, :80] = background
    volume = signal + NOISE * np.random.default_rng(seed).standard_normal(SHAPE)
    return ndi.shift(volume, (0, 0.5, 0.5), order=1, mode="nearest") if smear else volume


def write(path, volume):
    affine = make_affine("PIR", VOXEL)
    write_volume(path, OrientedVolume(volume.astype(np.float32), affine))
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    return write(folder / "a.nii", phantom(2)), write(folder / "b.nii", phantom(3))


def soct(*arguments):
    words = ["resolution", *map(str, arguments)]
    return run_guarded(lambda: run_app(words), words)


def test_two_volumes_have_the_resolution_that_they_were_given(files):
    found = measure_resolution(*files)
    assert found.noise == "second volume"
    for direction in found.directions:
        assert direction.quartiles_um()[0] == pytest.approx(expected_um(), rel=0.12)
    assert [d.name for d in found.directions] == ["in plane", "along z"]


def test_one_volume_with_white_noise_has_it_too(files):
    found = measure_resolution(files[0])
    assert found.noise == "spectrum"
    assert found.notices == ()
    for direction in found.directions:
        assert direction.quartiles_um()[0] == pytest.approx(expected_um(), rel=0.15)


def test_a_resampled_volume_is_told_to_flatter(tmp_path):
    found = measure_resolution(write(tmp_path / "a.nii", phantom(2, smear=True)))
    assert any("in plane" in n and "flatters" in n for n in found.notices)
    assert found.directions[0].may_flatter
    _, rows = table_rows(found)
    assert rows[0][0] == "in plane, at best"
    assert found.directions[0].quartiles_um()[0] < 0.8 * expected_um()


def test_regions_without_structure_tell_the_noise_of_a_resampled_volume(tmp_path):
    volume = phantom(2, background=1.5, smear=True)
    found = measure_resolution(write(tmp_path / "a.nii", volume))
    assert found.noise == "background"
    assert any("taken into account" in n for n in found.notices)
    assert found.directions[0].quartiles_um()[0] == pytest.approx(expected_um(), rel=0.15)
    assert all(place[2] >= 70 for place in found.places)


@pytest.mark.parametrize("name", ["a.tif", "a.nii.gz"])
def test_every_kind_of_file_gives_the_same_numbers(tmp_path, files, name):
    volume = open_source(files[0]).read_block(((0, 40), (0, 160), (0, 160)))
    other = measure_resolution(write(tmp_path / name, volume), blocks=2)
    first = measure_resolution(files[0], blocks=2)
    assert other.places == first.places
    for one, two in zip(other.directions, first.directions, strict=True):
        np.testing.assert_allclose(one.values_um("half-bit"), two.values_um("half-bit"), rtol=1e-3)


@pytest.mark.parametrize("name", ["a.tif", "a.nii"])
def test_a_block_of_a_file_is_read_where_it_lies(tmp_path, name):
    volume = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    write_volume(tmp_path / name, OrientedVolume(volume, make_affine("PIR", VOXEL)))
    source = open_source(tmp_path / name)
    block = source.read_block(((1, 3), (2, 6), (0, 4)))
    np.testing.assert_array_equal(block, volume[1:3, 2:6, 0:4])
    assert block.dtype == np.uint16


def test_zeros_are_no_data_and_never_measured(tmp_path):
    volume = phantom(2)
    volume[:, :, :90] = 0
    found = measure_resolution(write(tmp_path / "a.nii", volume))
    assert all(place[2] >= 88 for place in found.places)
    volume[:, ::8] = 0
    with pytest.raises(InputError, match="full of data"):
        measure_resolution(write(tmp_path / "b.nii", volume))


def test_few_planes_say_nothing_of_z(tmp_path):
    found = measure_resolution(write(tmp_path / "a.nii", phantom(2)[:8]))
    assert [d.name for d in found.directions] == ["in plane"]
    assert any("8 planes" in n for n in found.notices)


def test_volumes_that_do_not_fit_are_refused(tmp_path, files):
    small = write(tmp_path / "small.nii", phantom(2)[:, :100])
    with pytest.raises(InputError, match="differ in size"):
        measure_resolution(files[0], small)
    with pytest.raises(InputError, match="no such volume"):
        measure_resolution(tmp_path / "gone.nii")


def test_the_command_prints_a_table_or_json_and_writes_a_page(tmp_path, files, capsys):
    page = tmp_path / "out.html"
    assert soct(*files[:1], "--other", files[1], "-o", page, "--blocks", 2) == ExitCode.OK
    shown = capsys.readouterr().out
    assert "in plane" in shown
    assert "along z" in shown
    text = page.read_text()
    assert "half-bit threshold" in text
    assert "could not be made" not in text
    assert soct(files[0], "--json", "--blocks", 2) == ExitCode.OK
    told = json.loads(capsys.readouterr().out)
    assert told["directions"]["in plane"]["resolution"]["half-bit"]["median_um"] > 20
    assert soct(files[0], "-o", page) == ExitCode.USAGE
    assert "exists already" in capsys.readouterr().err


def test_the_same_measurement_gives_the_same_page(tmp_path, files):
    found = measure_resolution(files[0], blocks=2)
    for name in ("a.html", "b.html"):
        write_resolution_report(found, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
