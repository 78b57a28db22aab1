"""Depths one after the other."""

from __future__ import annotations

import pytest

from soct.registration.depth_chain import chain_depths
from soct.registration.slice_poses import StagePosition, solve_slice_poses
from soct.space import Voxel


def test_every_slice_lies_its_step_below_the_one_before_and_the_middle_one_stays() -> None:
    stages = [StagePosition(k, (20.0 * k, 0.0, 0.0), (5.0, 5.0)) for k in range(4)]
    poses = solve_slice_poses(stages, [], Voxel(10, 10, 10))
    found = chain_depths(poses, {1: 22.0, 3: 17.5})
    assert [p.z for p in found.poses.values()] == pytest.approx([-2, 20, 40, 57.5])
    assert [p.correction[0] for p in found.poses.values()] == pytest.approx([-2, 0, 0, -2.5])
