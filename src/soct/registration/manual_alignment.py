"""Poses corrected by hand: what a person says of two slices holds exactly.

A person aligns a slice with the one before it. From that joint on all slices are moved as one block, so that the two
lie as was said and every other pair lies as it did: slices below follow, as they follow any slice that they
were registered to.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from soct.registration.slice_poses import SlicePose, SlicePoses, relative_transform
from soct.registration.transforms import RigidTransform2D


@dataclass(frozen=True)
class ManualJoint:
    """What was said of two consecutive slices.

    Attributes
    ----------
    fixed, moving : int
        Slice ids.
    transform : RigidTransform2D
        Fixed pixels to moving pixels.
    z_step : int or None
        Depth of the moving slice's first plane in the fixed slice, in whole voxels; None where nothing was said.
    """

    fixed: int
    moving: int
    transform: RigidTransform2D
    z_step: int | None = None


@dataclass(frozen=True)
class JointChange:
    """How far a joint was moved by hand: pixels at the slice's centre, degrees, voxels."""

    moving: int
    shift_px: float
    rotation_deg: float
    z_px: float


def apply_manual_joints(
    poses: SlicePoses, joints: Sequence[ManualJoint]
) -> tuple[SlicePoses, tuple[JointChange, ...]]:
    """Move slices so that every joint is as it was said to be.

    Parameters
    ----------
    poses : SlicePoses
    joints : sequence of ManualJoint
        Of slices that follow each other among the poses. A depth is whole voxels: where the present one is within
        half a voxel of it, that stays.

    Raises
    ------
    ValueError
        A joint of slices that do not follow each other.
    """
    ids = list(poses.poses)
    now = dict(poses.poses)
    changes = []
    for joint in sorted(joints, key=lambda j: ids.index(j.moving)):
        place = ids.index(joint.moving)
        if place == 0 or ids[place - 1] != joint.fixed:
            raise ValueError(f"slices {joint.fixed} and {joint.moving} do not follow each other")
        fixed, moving = now[joint.fixed], now[joint.moving]
        before = relative_transform(fixed.transform, moving.transform, joint.transform.centre)
        # Canvas to canvas: where the block's points go, so that the joint holds.
        wanted = joint.transform.compose(fixed.transform)
        move = moving.transform.inverse().compose(wanted)
        dz = 0.0
        if joint.z_step is not None:
            apart = joint.z_step - (moving.z - fixed.z)
            dz = apart if abs(apart) > 0.5 else 0.0
        for one in ids[place:]:
            now[one] = _moved(now[one], move, dz)
        changes.append(
            JointChange(
                joint.moving,
                math.dist(before.shift, joint.transform.shift),
                joint.transform.rotation_deg - before.rotation_deg,
                dz,
            )
        )
    by_hand = {j.moving for j in joints}
    final = {i: replace(p, confidence=1.0) if i in by_hand else p for i, p in now.items()}
    alone = tuple(i for i in poses.stage_only if i not in by_hand)
    return replace(poses, poses=final, stage_only=alone), tuple(changes)


def _moved(pose: SlicePose, move: RigidTransform2D, dz: float) -> SlicePose:
    """Return a pose after the canvas under it was moved: ``T'(p) = T(move(p))``."""
    transform = pose.transform.compose(move).about(pose.transform.centre)
    (z, y, x), shift = pose.correction, pose.transform.shift
    moved = (transform.shift[0] - shift[0], transform.shift[1] - shift[1])
    return replace(
        pose,
        z=pose.z + dz,
        transform=transform,
        correction=(z + dz, y + moved[0], x + moved[1]),
    )
