"""Every fault of position appears at its stated size, in the data and in what the stage says."""

from __future__ import annotations

import numpy as np
import pytest

from soct.simulate.faults import Faults
from soct.simulate.poses import draw_poses, locate_tissue
from soct.simulate.spec import AcquisitionSpec
from tests.simulate.specimens import Ruler, look


def spec_with(**changes: object) -> AcquisitionSpec:
    size = {"slices": 6, "rows": 3, "cols": 4, "tile_px": (40, 50), "n_z": 20, "overlap": 0.2}
    known = {k: changes.pop(k) for k in list(changes) if k in AcquisitionSpec.model_fields}
    return AcquisitionSpec(**(size | known), faults=Faults.none(**changes))


def by_slice(spec: AcquisitionSpec, name: str) -> np.ndarray:
    return np.array([getattr(s, name) for s in draw_poses(spec).slices.values()])


def test_without_faults_tiles_lie_on_their_grid_and_the_stage_says_so() -> None:
    for t in draw_poses(spec_with()).tiles:
        assert t.position_px == t.nominal_px == (32.0 * t.row, 40.0 * t.col)
        assert t.stage_mm == pytest.approx((13 + 0.8 * t.row, 8 + t.col))


def test_tile_jitter_has_its_standard_deviation_and_leaves_the_first_tile() -> None:
    tiles = draw_poses(spec_with(slices=20, tile_jitter_px=1.5)).tiles
    off = np.array([np.subtract(t.position_px, t.nominal_px) for t in tiles if t.row or t.col])
    assert off.std() == pytest.approx(1.5, rel=0.1)
    assert all(t.position_px == t.nominal_px for t in tiles if not t.row and not t.col)


def test_stage_scale_and_rotation_turn_the_grid_against_the_camera() -> None:
    tiles = draw_poses(spec_with(stage_scale=1.02, stage_rotation_deg=1.0)).tiles
    at = {(t.row, t.col): np.array(t.position_px) for t in tiles if t.slice_id == 0}
    step = at[0, 1] - at[0, 0]
    assert np.hypot(*step) == pytest.approx(1.02 * 40)
    assert np.rad2deg(np.arctan2(step[0], step[1])) == pytest.approx(1.0)


def test_the_stage_can_run_against_the_index() -> None:
    tiles = draw_poses(spec_with(stage_direction=(1, -1))).tiles
    at = {(t.row, t.col): t.stage_mm for t in tiles if t.slice_id == 0}
    assert at[0, 1][1] < at[0, 0][1]
    assert at[1, 0][0] > at[0, 0][0]


def test_the_mosaic_moves_between_slices_and_the_stage_reports_it() -> None:
    spec = spec_with(roi_move_px=9)
    poses = draw_poses(spec)
    moves = by_slice(spec, "roi_px")
    assert 0 < np.abs(moves).max() <= 9
    for t in poses.tiles:
        if not t.row and not t.col:
            roi = poses.slices[t.slice_id].roi_px
            assert t.position_px == roi
            assert t.stage_mm == pytest.approx((13 + roi[0] * 0.025, 8 + roi[1] * 0.025))


def test_drift_and_rotation_move_the_tissue_but_not_the_stage() -> None:
    spec = spec_with(slice_drift_um=50.0, slice_rotation_deg=2.0, surface_sample=4.0)
    poses = draw_poses(spec)
    index = next(k for k, t in enumerate(poses.tiles) if t.slice_id == 3)
    seen = {axis: look(spec, Ruler(axis), index)[:, :, 10] - 10000 for axis in "yx"}
    pose = poses.slices[3]
    along = np.array([seen["y"][0, 49] - seen["y"][0, 0], seen["x"][0, 49] - seen["x"][0, 0]])
    assert np.rad2deg(np.arctan2(*along)) == pytest.approx(pose.rotation_deg, abs=0.01)
    centre = np.array(poses.centre_px)
    back = locate_tissue(poses, 3, centre[:1], centre[1:])
    assert np.ravel(back) - centre == pytest.approx(pose.drift_px)
    at = np.ravel(locate_tissue(poses, 3, np.zeros(1), np.zeros(1))) * 25
    assert (seen["y"][0, 0], seen["x"][0, 0]) == pytest.approx(tuple(at), abs=0.01)


def test_drift_rotation_and_gain_have_their_standard_deviations() -> None:
    spec = spec_with(
        slices=400, rows=1, cols=1, slice_drift_um=50.0, slice_rotation_deg=0.3, gain_drift=0.2
    )
    steps = np.diff(by_slice(spec, "drift_px"), axis=0) * 25
    assert steps.std() == pytest.approx(50, rel=0.1)
    assert by_slice(spec, "rotation_deg").std() == pytest.approx(0.3, rel=0.1)
    assert np.log(by_slice(spec, "gain")).std() == pytest.approx(0.2, rel=0.1)


def test_a_steady_drift_adds_up_and_the_stage_does_not_see_it() -> None:
    spec = spec_with(slices=6, slice_drift_um=0.0, slice_drift_steady_um=(-50.0, 25.0))
    drift = np.array(by_slice(spec, "drift_px")) * 25
    assert drift == pytest.approx(np.arange(6)[:, None] * np.array([-50.0, 25.0]))
    still = spec_with(slices=6, slice_drift_um=0.0)
    stage = [[t.stage_mm for t in draw_poses(s).tiles] for s in (spec, still)]
    assert stage[0] == stage[1]


def test_a_range_of_rotations_is_filled_evenly_and_changes_nothing_else() -> None:
    size = {"slices": 400, "rows": 1, "cols": 1, "slice_drift_um": 50.0}
    spec = spec_with(**size, slice_rotation_range_deg=30.0)
    turns = by_slice(spec, "rotation_deg")
    assert turns[0] == 0
    assert 29 < np.abs(turns).max() <= 30
    assert turns.std() == pytest.approx(30 / np.sqrt(3), rel=0.1)
    assert np.array_equal(by_slice(spec, "drift_px"), by_slice(spec_with(**size), "drift_px"))


@pytest.mark.parametrize("seen", [True, False])
def test_cut_thickness_varies_and_stage_z_tells_it_or_not(seen: bool) -> None:
    spec = spec_with(slices=300, rows=1, cols=1, cut_jitter_um=6.0, cut_jitter_seen=seen)
    depth, stage = by_slice(spec, "z_um"), by_slice(spec, "stage_z_mm") * 1000
    assert np.diff(depth).std() == pytest.approx(6, rel=0.15)
    assert np.diff(depth).mean() == pytest.approx(200, abs=2)
    expected = depth if seen else 200.0 * np.arange(300)
    assert stage == pytest.approx(expected)


def test_a_glitch_moves_only_what_the_stage_says_of_its_slice() -> None:
    spec = spec_with(glitches=[{"slice_id": 2, "y_mm": 0.5, "x_mm": -3.0}])
    for t in draw_poses(spec).tiles:
        error = (0.5, -3.0) if t.slice_id == 2 else (0.0, 0.0)
        clean = (13 + 0.8 * t.row, 8.0 + t.col)
        assert np.subtract(t.stage_mm, clean) == pytest.approx(error)
        assert t.position_px == t.nominal_px


def test_glitches_by_number_are_inside_the_run_and_never_adjacent() -> None:
    glitch = np.hypot(*by_slice(spec_with(slices=20, glitch_count=5), "glitch_mm").T)
    at = np.flatnonzero(glitch)
    assert len(at) == 5
    assert at.min() > 0
    assert at.max() < 19
    assert np.diff(at).min() > 1
    assert np.all((glitch[at] >= 1) & (glitch[at] <= 4))


def test_a_mosaic_that_grows_starts_its_indices_anew_and_keeps_its_stage_positions() -> None:
    spec = spec_with(growth=[{"slice_id": 2, "axis": "x", "side": "low", "tiles": 2}])
    poses = draw_poses(spec)
    assert poses.slices[1].grid == (3, 4)
    assert poses.slices[2].grid == (3, 6)
    first = next(t for t in poses.tiles if t.slice_id == 2)
    assert (first.row, first.col) == (0, 0)
    assert first.position_px == (0.0, -80.0)
    assert first.stage_mm == pytest.approx((13.0, 6.0))


def test_missing_blank_and_truncated_tiles_come_in_the_stated_numbers_and_do_not_mix() -> None:
    spec = spec_with(
        missing_fraction=0.25, blank_fraction=0.25, truncated_fraction=0.125,
        missing_tiles=[(0, 1, 2)], missing_slices=[4],
    )  # fmt: skip
    poses = draw_poses(spec)
    n = 5 * 12
    assert sorted(poses.slices) == [0, 1, 2, 3, 5]
    assert len(poses.tiles) == n
    assert sum(t.missing for t in poses.tiles) == n // 4 + 1
    assert sum(t.blank for t in poses.imaged) == n // 4
    assert sum(t.truncated for t in poses.imaged) == round(n / 8)
    assert not any(t.blank and t.truncated for t in poses.tiles)
    assert any(t.missing and (t.slice_id, t.row, t.col) == (0, 1, 2) for t in poses.tiles)
    assert poses.slices[5].z_um == pytest.approx(1000)
