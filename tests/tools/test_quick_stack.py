"""A stack of flat mosaics: one plane per slice, slices where they truly are."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from soct.tools.quick_stack import FlatStack, quick_stack
from soct.tools.quick_stitch import QuickOptions
from tests.steps.chain import Made, tissue_of


def pose_errors(made: Made, stack: FlatStack) -> np.ndarray:
    """Distance (px, RMS over its corners) of every slice from its place, after one rigid motion of the stack."""
    found, true = [], []
    for mosaic in stack.mosaics:
        slice_id = mosaic.slice_id
        assert slice_id is not None
        assert mosaic.positions_px is not None
        places = made.tile_positions(slice_id)
        apart = [
            places[at] - at_px for at, at_px in zip(mosaic.index, mosaic.positions_px, strict=True)
        ]
        origin = np.mean(apart, axis=0)
        corners = np.array([(y, x) for y in (5.0, 70.0) for x in (5.0, 70.0)])
        found.append(stack.poses.poses[slice_id].transform.inverse().apply(corners))
        true.append(tissue_of(made, slice_id, corners + origin))
    a, b = np.array(found), np.array(true)
    middle = a.mean(axis=(0, 1)), b.mean(axis=(0, 1))
    u, _, v = np.linalg.svd((a - middle[0]).reshape(-1, 2).T @ (b - middle[1]).reshape(-1, 2))
    left = (a - middle[0]) @ (u @ v) + middle[1] - b
    return np.sqrt((left**2).sum(axis=2).mean(axis=1))


@pytest.fixture(scope="module")
def stacked(plain: Made) -> FlatStack:
    return quick_stack(plain.simulation.raw, QuickOptions(refine=True))


def test_slices_lie_within_a_third_of_a_pixel_of_their_true_pose(
    plain: Made, stacked: FlatStack
) -> None:
    """Projections of cuts that lie 200 um apart show less of the same tissue than facing planes do."""
    errors = pose_errors(plain, stacked)
    assert errors.max() < 0.3
    assert not stacked.poses.stage_only


def test_there_is_one_plane_per_slice_one_cut_apart(plain: Made, stacked: FlatStack) -> None:
    assert stacked.planes.shape[0] == len(plain.slice_ids)
    assert stacked.voxel_um == pytest.approx((200.0, 25.0, 25.0), rel=0.03)
    assert (stacked.planes > 0).mean(axis=(1, 2)).min() > 0.5


def test_a_missing_slice_leaves_an_empty_plane(faulty: Made) -> None:
    made = quick_stack(faulty.simulation.raw, QuickOptions(refine=True), voxel_um=50)
    assert made.planes.shape[0] == 6
    assert made.slices == (0, 1, 3, 4, 5)
    assert not made.planes[2].any()
    assert made.voxel_um == pytest.approx((100.0, 50.0, 50.0), rel=0.1)


def test_the_command_writes_a_volume_of_any_format(plain: Made, tmp_path, capsys) -> None:
    out = tmp_path / "flat.nii.gz"
    words = ["quick-stack", str(plain.simulation.raw), str(out), "--orientation", "PIR"]
    assert run_guarded(lambda: run_app(words), words) == ExitCode.OK
    assert capsys.readouterr().out.strip() == str(out)
    assert sitk.ReadImage(str(out)).GetSpacing() == pytest.approx((0.025, 0.025, 0.2), rel=0.03)
