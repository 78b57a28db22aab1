"""A BIDS derivative holds the volume under the names that BIDS gives, and says where it comes from."""

from __future__ import annotations

import json

import numpy as np
import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode, UsageError
from soct.formats.bids import subject_label
from soct.formats.ome_zarr import PyramidWriter, open_volume
from soct.formats.validation import validate_volume
from soct.space import Voxel


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "sub-mouse_7.ome.zarr"
    data = np.random.default_rng(0).uniform(1, 2, (6, 8, 10)).astype(np.float32)
    with PyramidWriter(path, data.shape, Voxel(30, 20, 10), (50,), orientation="PIR") as writer:
        writer.append(data, np.ones(data.shape, bool))
    return path


def soct(*arguments: object) -> int:
    words = [str(a) for a in arguments]
    return run_guarded(lambda: run_app(words), words)


def rows(path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_a_volume_becomes_a_data_set(volume, tmp_path, capsys):
    out = tmp_path / "dataset"
    assert soct("convert", volume, out, "--layout", "bids") == ExitCode.OK
    store = out / "sub-mouse7" / "micr" / "sub-mouse7_sample-01_OCT.ome.zarr"
    assert capsys.readouterr().out.strip() == str(store)
    assert validate_volume(store, samples=True) == ()
    np.testing.assert_array_equal(open_volume(store).read(), open_volume(volume).read())
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "soct"
    assert rows(out / "samples.tsv") == [
        ["sample_id", "participant_id", "sample_type"],
        ["sample-01", "sub-mouse7", "tissue"],
    ]
    assert rows(out / "participants.tsv")[1] == ["sub-mouse7"]
    sidecar = json.loads(store.with_name("sub-mouse7_sample-01_OCT.json").read_text())
    assert sidecar["PixelSize"] == [10.0, 20.0, 30.0]
    assert sidecar["PixelSizeUnits"] == "um"
    assert soct("convert", volume, out, "--layout", "bids") == ExitCode.USAGE


def test_options_of_convert_hold_for_a_data_set_too(volume, tmp_path):
    out = tmp_path / "dataset"
    options = ["--layout", "bids", "--voxel-um", 60, "--orientation", "SAR"]
    assert soct("convert", volume, out, *options) == ExitCode.OK
    (store,) = out.rglob("*.ome.zarr")
    assert open_volume(store).voxel_um == (60, 60, 60)


@pytest.mark.parametrize(
    ("name", "label"), [("sub-01", "01"), ("mouse A-1", "mouseA1"), ("sub-sub-x", "subx")]
)
def test_labels_hold_letters_and_digits_only(name, label):
    assert subject_label(name) == label


def test_a_name_without_letters_is_refused():
    with pytest.raises(UsageError):
        subject_label("sub-__")
