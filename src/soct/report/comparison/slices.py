"""Slices that two runs placed or judged differently, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from soct.report.figures import FigureError
from soct.report.model import LedgerRow

if TYPE_CHECKING:
    from soct.report.reportlet import Page

_POSES = "estimate_slice_poses"
_USE_WEIGHT, _WORD_WEIGHT = 10.0, 0.5
"""A slice used by one run only outweighs any shift within the limits; other words in the ledger weigh little."""
_IGNORED = frozenset({"notes", "use", "auto_excluded"})
_MOVED_UM, _TURNED_DEG = 1e-6, 1e-9


@dataclass(frozen=True)
class SliceDifference:
    """One slice that both runs have and do not treat alike, or that one run lacks."""

    slice_id: int
    shift_um: tuple[float, float, float] | None = None
    """(z, y, x), this run less the other, once the mean difference of all slices is taken out."""
    rotation_deg: float | None = None
    decisions: tuple[tuple[str, str, str], ...] = ()
    """``(what, this run, other run)``."""
    rank: float = 0.0

    @property
    def in_plane_um(self) -> float | None:
        """Length of the shift in the plane."""
        return None if self.shift_um is None else float(np.hypot(*self.shift_um[1:]))


@dataclass(frozen=True)
class SliceDifferences:
    """All slices that differ, the worst first."""

    slices: tuple[SliceDifference, ...]
    compared: int
    """Slices whose poses both runs have."""
    note: str = ""
    """Why poses could not be compared, or what was taken out."""


@dataclass(frozen=True)
class _Pose:
    shift: tuple[float, float, float]
    rotation: float


def compare_slices(page: Page, other: Page) -> SliceDifferences:
    """Compare poses and decisions slice by slice."""
    try:
        poses = _poses(page, other)
        note = "" if poses else "The runs have no slice in common whose pose both saved."
    except (FigureError, ValueError, IndexError) as error:
        poses, note = {}, f"Poses cannot be compared: {error}"
    mine = {row.slice_id: row for row in page.view.ledger}
    its = {row.slice_id: row for row in other.view.ledger}
    found = []
    limits = page.view.limits
    for slice_id in sorted({*mine, *its, *poses}):
        decisions = _decisions(mine.get(slice_id), its.get(slice_id))
        pose = poses.get(slice_id)
        moved = pose is not None and np.hypot(*pose.shift[1:]) > _MOVED_UM
        turned = pose is not None and abs(pose.rotation) > _TURNED_DEG
        deeper = pose is not None and abs(pose.shift[0]) > _MOVED_UM
        if not (decisions or moved or turned or deeper):
            continue
        rank = _USE_WEIGHT * any(what == "used" for what, _, _ in decisions)
        rank += _WORD_WEIGHT * len(decisions)
        if pose is not None:
            rank += float(np.hypot(*pose.shift[1:])) / limits.slice_residual_p95_um.warning
            rank += abs(pose.shift[0]) / limits.z_offset_std_um.warning
            rank += abs(pose.rotation) / limits.rotation_deg.warning
        found.append(
            SliceDifference(
                slice_id,
                None if pose is None else pose.shift,
                None if pose is None else pose.rotation,
                decisions,
                rank,
            )
        )
    found.sort(key=lambda d: (-d.rank, d.slice_id))
    return SliceDifferences(tuple(found), len(poses), note)


def _poses(page: Page, other: Page) -> dict[int, _Pose]:
    """Differences of poses; what all slices have in common is only another frame, and is taken out."""
    names = ("slice_ids", "pose_um", "rotation_deg")
    ids, pose, turn = page.figures.arrays(_POSES, "run", *names)
    its_ids, its_pose, its_turn = other.figures.arrays(_POSES, "run", *names)
    common, here, there = np.intersect1d(ids.astype(int), its_ids.astype(int), return_indices=True)
    if common.size == 0:
        return {}
    shift = pose[here].astype(float) - its_pose[there].astype(float)
    rotation = turn[here].astype(float) - its_turn[there].astype(float)
    shift = shift - np.nanmedian(shift, axis=0)
    rotation = rotation - np.nanmedian(rotation)
    return {
        int(s): _Pose((float(d[0]), float(d[1]), float(d[2])), float(r))
        for s, d, r in zip(common, shift, rotation, strict=True)
        if np.isfinite(d).all() and np.isfinite(r)
    }


def _decisions(mine: LedgerRow | None, its: LedgerRow | None) -> tuple[tuple[str, str, str], ...]:
    if mine is None or its is None:
        return (("used", _used(mine), _used(its)),)
    found = []
    if (mine.used, mine.missing) != (its.used, its.missing):
        found.append(("used", _used(mine), _used(its)))
    if mine.interpolated != its.interpolated:
        found.append(("interpolated", _flag(mine.interpolated), _flag(its.interpolated)))
    for name in dict.fromkeys((*mine.columns, *its.columns)):
        here, there = mine.columns.get(name, ""), its.columns.get(name, "")
        if here != there and name not in _IGNORED and name != "interpolated":
            found.append((name, here or "–", there or "–"))
    return tuple(found)


def _used(row: LedgerRow | None) -> str:
    if row is None:
        return "no such slice"
    if row.used:
        return "yes"
    return f"no ({row.reason})" if row.reason else "no"


def _flag(value: bool) -> str:
    return "yes" if value else "no"
