"""Depths of the slices one after the other, as pipelines without a global solve have them.

Each slice lies by its own step below the one before: the step that the images measured, or the stage's. Overlaps
that stand out from the others are replaced (`soct.mosaic.stacking.enforce_z_consistency`) by the caller, who knows
how deep the slices are.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace

from soct.registration.slice_poses import SlicePoses


def chain_depths(poses: SlicePoses, steps: Mapping[int, float]) -> SlicePoses:
    """Lay every slice its step below the one before; the middle slice keeps its depth.

    Parameters
    ----------
    poses : SlicePoses
    steps : mapping
        ``moving slice -> voxels`` from the first plane of the slice before to its own; slices without an entry
        keep their present step.
    """
    ordered = list(poses.poses.values())
    z = [0.0]
    for before, one in itertools.pairwise(ordered):
        z.append(z[-1] + steps.get(one.slice_id, one.z - before.z))
    middle = len(ordered) // 2
    start = ordered[middle].z - z[middle]
    moved = {}
    for one, depth in zip(ordered, z, strict=True):
        dz, y, x = one.correction
        at = depth + start
        moved[one.slice_id] = replace(one, z=at, correction=(dz + at - one.z, y, x))
    return replace(poses, poses=moved)
