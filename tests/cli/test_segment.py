"""`soct segment`, as it is typed."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import zarr

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from soct.formats.ome_zarr import PyramidWriter
from soct.formats.validation import validate_volume
from soct.intensity.brain_mask import dice
from soct.space import Voxel
from tests.intensity.test_brain_mask import phantom, speckled


def soct(*arguments: object) -> int:
    words = [str(a) for a in arguments]
    return run_guarded(lambda: run_app(words), words)


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "brain.ome.zarr"
    truth, _ = phantom(5)
    data = speckled(truth, 6)
    with PyramidWriter(path, data.shape, Voxel(50, 50, 50), (100,), orientation="PIR") as writer:
        writer.append(data, np.ones(data.shape, bool))
    return path


def test_a_mask_is_written_with_the_place_of_its_volume(volume, tmp_path, capsys):
    _, inside = phantom(5)
    assert soct("segment", volume, tmp_path / "mask.nii.gz") == ExitCode.OK
    image = sitk.ReadImage(str(tmp_path / "mask.nii.gz"))
    assert image.GetSpacing() == pytest.approx((0.05, 0.05, 0.05))
    assert dice(sitk.GetArrayFromImage(image) > 0, inside) >= 0.95
    assert "mm3 of brain" in capsys.readouterr().err
    assert soct("segment", volume, tmp_path / "mask.ome.zarr", "--threshold", 0.6) == ExitCode.OK
    assert validate_volume(tmp_path / "mask.ome.zarr", samples=True) == ()
    group = zarr.open_group(str(tmp_path / "mask.ome.zarr"), mode="r")
    assert "image-label" in group.attrs["ome"]
    assert set(np.unique(group["1"][:])) == {0, 1}
    assert soct("segment", volume, tmp_path / "mask.nii.gz") == ExitCode.USAGE
