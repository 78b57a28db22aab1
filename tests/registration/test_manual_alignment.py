"""What a person says of two slices holds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from soct.registration.manual_alignment import ManualJoint, apply_manual_joints
from soct.registration.slice_poses import (
    SlicePoses,
    StagePosition,
    relative_transform,
    solve_slice_poses,
)
from soct.registration.transforms import RigidTransform2D
from soct.space import Voxel

CENTRE = (50.0, 60.0)


@pytest.fixture
def poses() -> SlicePoses:
    stages = [StagePosition(k, (20.0 * k, 2.0 * k, -1.0 * k), CENTRE) for k in range(5)]
    return solve_slice_poses(stages, [], Voxel(10, 10, 10))


def joint_of(poses: SlicePoses, fixed: int, moving: int) -> RigidTransform2D:
    return relative_transform(poses.poses[fixed].transform, poses.poses[moving].transform, CENTRE)


def test_the_joint_is_exactly_as_said_and_all_others_stay(poses: SlicePoses) -> None:
    said = RigidTransform2D(1.7, (6.5, -3.25), (10.0, 90.0))
    moved, changes = apply_manual_joints(poses, [ManualJoint(1, 2, said)])
    points = np.array([(0.0, 0.0), (100.0, 20.0), (30.0, 110.0)])
    assert joint_of(moved, 1, 2).apply(points) == pytest.approx(said.apply(points), abs=1e-9)
    for a, b in ((0, 1), (2, 3), (3, 4)):
        assert joint_of(moved, a, b).apply(points) == pytest.approx(
            joint_of(poses, a, b).apply(points), abs=1e-9
        )
    assert moved.poses[1] == poses.poses[1]
    assert changes[0].rotation_deg == pytest.approx(1.7)


def test_slices_from_the_joint_on_move_by_what_was_changed(poses: SlicePoses) -> None:
    now = joint_of(poses, 1, 2)
    nudged = replace(now, shift=(now.shift[0] + 4.0, now.shift[1] - 7.0))
    moved, changes = apply_manual_joints(poses, [ManualJoint(1, 2, nudged)])
    for k in range(5):
        far = np.subtract(moved.poses[k].transform.shift, poses.poses[k].transform.shift)
        assert far == pytest.approx((4.0, -7.0) if k >= 2 else (0.0, 0.0), abs=1e-9)
        assert moved.poses[k].correction[1:] == pytest.approx(
            np.add(poses.poses[k].correction[1:], far), abs=1e-9
        )
    assert changes[0].shift_px == pytest.approx(np.hypot(4, 7))


def test_unchanged_transforms_change_nothing_but_who_said_it(poses: SlicePoses) -> None:
    joints = [ManualJoint(k, k + 1, joint_of(poses, k, k + 1), 20) for k in range(4)]
    moved, _ = apply_manual_joints(poses, joints)
    for k in range(5):
        assert moved.poses[k].position == pytest.approx(poses.poses[k].position, abs=1e-9)
        assert moved.poses[k].confidence == (1.0 if k else poses.poses[0].confidence)
    assert moved.stage_only == (0,)


def test_whole_planes_move_slices_in_depth_and_half_a_plane_does_not(poses: SlicePoses) -> None:
    near = replace(
        poses, poses={k: replace(p, z=p.z + 0.4 * (k > 0)) for k, p in poses.poses.items()}
    )
    same, _ = apply_manual_joints(near, [ManualJoint(0, 1, joint_of(near, 0, 1), 20)])
    assert [p.z for p in same.poses.values()] == pytest.approx([p.z for p in near.poses.values()])
    deeper, _ = apply_manual_joints(poses, [ManualJoint(0, 1, joint_of(poses, 0, 1), 23)])
    assert [p.z for p in deeper.poses.values()] == pytest.approx([0, 23, 43, 63, 83])


def test_a_joint_of_slices_that_do_not_follow_each_other_is_refused(poses: SlicePoses) -> None:
    with pytest.raises(ValueError, match="slices 0 and 2 do not follow"):
        apply_manual_joints(poses, [ManualJoint(0, 2, RigidTransform2D())])
