"""What is left of a shift between slices is taken out where they blend."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from soct.mosaic.stack_rendering import SlicePlacement, add_slice, finish
from soct.simulate.evaluate import evaluate
from tests.steps.chain import Chain, Made


def test_a_plane_lies_where_its_drift_moves_it() -> None:
    image = np.zeros((3, 20, 20), np.float32)
    image[:, 8, 9] = 1.0
    drift = np.array([(2.0, -3.0), (0.0, 0.0), (0.5, 0.0)])
    placement = SlicePlacement(np.eye(3)[:2], 0.0, (3, 20, 20), drift=drift)
    total, weight = np.zeros((3, 20, 20), np.float32), np.zeros((3, 20, 20), np.float32)
    valid = np.zeros((2, 20, 20), np.int16)
    valid[1] = 3
    ones = np.ones((20, 20), np.float32)
    add_slice(
        total, weight, image, valid, ones, placement, np.ones(3, np.float32),
        block_z0=0, row0=0, z0=0, y0=0, ramp_px=0.0, cubic=False,
    )  # fmt: skip
    planes, _ = finish(total, weight)
    assert planes[0, 10, 6] == pytest.approx(1.0)
    assert planes[1, 8, 9] == pytest.approx(1.0)
    assert planes[2, 8:10, 9] == pytest.approx([0.5, 0.5])
    assert placement.source_window((5, 10), (5, 10)) == ((0, 15), (0, 15))


def shifted(made: Made, folder: Path, pixels: float, limit_um: float) -> Chain:
    """The stack with its last slice put wrong."""
    made.chain.run("normalize")
    made.chain.run("estimate_slice_poses")
    made.chain.run("interpolate_missing_slice")
    chain = Chain(made.simulation.raw, folder, {"stack": {"max_blend_refinement_um": limit_um}})
    chain.done |= {n: dict(d) for n, d in made.chain.done.items() if n != "stack"}
    poses = made.chain.document("estimate_slice_poses", "poses")
    poses["slices"]["2"]["shift_px"][0] += pixels
    path = folder / "poses.json"
    path.write_text(json.dumps(poses))
    known = chain.done["estimate_slice_poses"][()]
    chain.done["estimate_slice_poses"] = {
        (): dataclasses.replace(known, outputs={**known.outputs, "poses": path})
    }
    return chain


def test_a_shift_that_is_left_is_measured_and_taken_out(plain: Made, tmp_path: Path) -> None:
    chain = shifted(plain, tmp_path, 2.0, 100.0)
    assert chain.metric("stack", "blend_refinement_um") == pytest.approx(50.0, abs=10.0)
    (tmp_path / "off").mkdir()
    wrong = shifted(plain, tmp_path / "off", 2.0, 0.0)
    assert wrong.metric("stack", "blend_refinement_um") == 0.0
    better, worse = (
        evaluate(c.path("stack", "volume"), plain.simulation.path).ncc for c in (chain, wrong)
    )
    assert better > worse


def test_a_longer_shift_than_allowed_is_left_and_told(plain: Made, tmp_path: Path) -> None:
    chain = shifted(plain, tmp_path, 6.0, 60.0)
    told = chain.run("stack")[()].result.fallbacks
    assert any("slices 1 and 2 are blended as they lie" in t for t in told)
