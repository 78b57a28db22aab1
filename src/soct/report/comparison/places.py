"""Where two volumes lie against each other, so that their pictures can be laid tissue on tissue.

A volume begins at its own first voxel, wherever that lies among the slices: the transform in its OME-Zarr
metadata says how large a voxel is, not where the run put it. So `stack` saves the place of the first voxel in
the space of the slices' poses. That space may differ between runs by a shift (it is the stage's at the middle
slice), which is what the poses of all common slices have in common.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from soct.report.figures import FigureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soct.report.reportlet import Page

Zyx: TypeAlias = tuple[float, float, float]
_STACK, _POSES = "stack", "estimate_slice_poses"


@dataclass(frozen=True)
class Placed:
    """Where the first voxel of either volume lies, in the space of this run's slices."""

    this: Zyx
    """Micrometres, of the voxel's centre."""
    other: Zyx
    common: int
    """Slices by which the two spaces were matched."""


def place_volumes(page: Page, other: Page) -> Placed | None:
    """Return where both volumes lie, or None where a run did not save it or no slice is common."""
    try:
        shift, common = frame_shift(page, other)
        mine, its = _first_voxel(page), _first_voxel(other)
    except (FigureError, ValueError, IndexError):
        return None
    if mine is None or its is None or common == 0:
        return None
    return Placed(_zyx(mine), _zyx(its + shift), common)


def frame_shift(page: Page, other: Page) -> tuple[NDArray[np.float64], int]:
    """Return what leads from the other run's space to this one's, in micrometres, and the slices that say so.

    Raises
    ------
    FigureError
        When a run saved no poses.
    """
    ids, pose = page.figures.arrays(_POSES, "run", "slice_ids", "pose_um")
    its_ids, its_pose = other.figures.arrays(_POSES, "run", "slice_ids", "pose_um")
    common, here, there = np.intersect1d(ids.astype(int), its_ids.astype(int), return_indices=True)
    if common.size == 0:
        return np.zeros(3), 0
    differences = pose[here].astype(float) - its_pose[there].astype(float)
    known = differences[np.isfinite(differences).all(axis=1)]
    return (np.median(known, axis=0) if known.size else np.zeros(3)), len(known)


def _first_voxel(page: Page) -> NDArray[np.float64] | None:
    if "origin_um" not in page.figures.names(_STACK):
        return None
    origin = page.figures.array(_STACK, "run", "origin_um").ravel().astype(float)
    return origin if origin.size == 3 and bool(np.isfinite(origin).all()) else None


def _zyx(values: NDArray[np.float64]) -> Zyx:
    return float(values[0]), float(values[1]), float(values[2])
