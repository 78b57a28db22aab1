"""The stage tables of a simulated acquisition lead back to where its slices really lay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from soct.registration.stage import (
    StageSlice,
    estimate_xy_shifts,
    measure_cut_thickness,
    measure_stage_axes,
)
from soct.registration.stage_offsets import common_space_offsets, measure_origins
from soct.registration.stage_rehoming import RehomingLimits, detect_rehoming_events
from soct.simulate.poses import Poses, draw_poses
from soct.simulate.spec import AcquisitionSpec, preset


def acquire(**faults: Any) -> tuple[AcquisitionSpec, Poses]:
    spec = preset("demo", slices=12, seed=4, faults=faults | {"tile_jitter_px": 0.0})
    return spec, draw_poses(spec)


def read_stage(spec: AcquisitionSpec, poses: Poses) -> dict[int, StageSlice]:
    fov = (spec.tile_px[0] * spec.pixel_um, spec.tile_px[1] * spec.pixel_um)
    slices = {}
    for i, pose in poses.slices.items():
        tiles = [t for t in poses.imaged if t.slice_id == i]
        y, x = np.array([t.stage_mm for t in tiles]).T
        z = np.full(len(tiles), pose.stage_z_mm)
        rows, cols = np.array([(t.row, t.col) for t in tiles]).T
        slices[i] = StageSlice(i, rows, cols, y, x, z, fov, (spec.pixel_um, spec.pixel_um))
    return slices


def error_um(spec: AcquisitionSpec, poses: Poses) -> dict[int, float]:
    """Distance of each slice's offset from the truth, about the first slice (which never glitches)."""
    stage = read_stage(spec, poses)
    fov = (stage[0].tile_um[0] / 1000, stage[0].tile_um[1] / 1000)
    clean = detect_rehoming_events(estimate_xy_shifts(stage), RehomingLimits(tile_fov_mm=fov))
    space = common_space_offsets(
        clean.shifts, list(stage), axes=measure_stage_axes(stage), origins_mm=measure_origins(stage)
    )
    first = {
        i: np.array(s.roi_px) + np.array(s.first_index) * spec.pitch_px
        for i, s in poses.slices.items()
    }
    return {
        i: float(
            np.hypot(*(np.subtract(o, space.offset_um[0]) - (first[i] - first[0]) * spec.pixel_um))
        )
        for i, o in space.offset_um.items()
    }


@pytest.mark.parametrize(
    "faults",
    [
        {},
        {"stage_direction": (-1, 1)},
        {"missing_slices": (3, 7)},
        {"missing_fraction": 0.1},
        {"growth": [{"slice_id": 4, "side": "low"}, {"slice_id": 9, "axis": "y", "side": "high"}]},
        {"growth": [{"slice_id": 4, "side": "low"}, {"slice_id": 4, "side": "high"}]},
    ],
    ids=["plain", "reversed", "missing slices", "missing tiles", "growth", "growth both ways"],
)
def test_without_glitches_the_offsets_are_exact(faults: dict[str, Any]) -> None:
    assert max(error_um(*acquire(**faults)).values()) < 0.1


def test_with_glitches_only_the_glitched_slices_are_off_by_no_more_than_the_mosaic_moved() -> None:
    spec, poses = acquire(glitch_count=3, roi_move_px=4.0)
    glitched = {i for i, s in poses.slices.items() if any(s.glitch_mm)}
    assert len(glitched) == 3
    for i, error in error_um(spec, poses).items():
        if i in glitched:
            # Midway between its neighbours, while its mosaic moved by up to 4 px along either axis.
            assert error < 2 * np.hypot(4, 4) * spec.pixel_um
        else:
            assert error < 0.1


def test_cut_thickness_is_the_true_one_where_the_stage_saw_it() -> None:
    spec, poses = acquire(cut_jitter_um=8.0)
    depth = measure_cut_thickness(read_stage(spec, poses), nominal_um=spec.thickness_um).depth_um
    assert depth == pytest.approx({i: s.z_um for i, s in poses.slices.items()}, abs=0.01)
