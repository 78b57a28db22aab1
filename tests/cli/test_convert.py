"""`soct convert`, as it is typed."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from soct.formats.ome_zarr import PyramidWriter
from soct.space import Voxel


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "in.ome.zarr"
    data = np.random.default_rng(0).uniform(1, 2, (6, 8, 10)).astype(np.float32)
    with PyramidWriter(path, data.shape, Voxel(25, 25, 25), (50,)) as writer:
        writer.append(data, np.ones(data.shape, bool))
    return path


def soct(*arguments: object) -> int:
    words = [str(a) for a in arguments]
    return run_guarded(lambda: run_app(words), words)


def test_a_volume_is_converted_and_the_path_is_the_only_output(volume, tmp_path, capsys):
    out = tmp_path / "b.nii.gz"
    options = ["--voxel-um", 50, "--orientation", "PIR:SAR", "--dtype", "uint8", "--window", "1,2"]
    assert soct("convert", volume, out, *options) == ExitCode.OK
    told = capsys.readouterr()
    assert told.out.strip() == str(out)
    assert "4 x 3 x 5 uint8" in told.err
    image = sitk.ReadImage(str(out))
    assert image.GetSize() == (5, 3, 4)
    assert image.GetSpacing() == pytest.approx((0.05, 0.05, 0.05))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("out.xyz",), ExitCode.USAGE),
        (("out.nii", "--dtype", "float16"), ExitCode.USAGE),
        (("out.ome.zarr", "--ngff", "0.3"), ExitCode.USAGE),
        (("out.nii", "--window", "1"), ExitCode.USAGE),
        (("out.nii", "--orientation", "SAR"), ExitCode.USAGE),
        (("in.ome.zarr",), ExitCode.USAGE),
        (("nowhere/out.nii",), ExitCode.USAGE),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(volume, tmp_path, capsys, arguments, code):
    name, *rest = arguments
    assert soct("convert", volume, tmp_path / name, *rest) == code
    assert capsys.readouterr().err.startswith("error: ")


def test_an_input_that_is_none_is_an_input_error(tmp_path, capsys):
    assert soct("convert", tmp_path / "absent.nii", tmp_path / "out.nii") == ExitCode.INPUT
    assert soct("convert", tmp_path, tmp_path / "out.nii") == ExitCode.INPUT
    assert "error: " in capsys.readouterr().err
