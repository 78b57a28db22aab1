"""Glitches of the stage's encoders, mosaic growth, and real moves: what a big step between slices is.

A step is a *glitch* if and only if a neighbouring step takes it back. Everything else that is big is either
*growth* (whole fields of view: the bookkeeping of the mosaic changed, not the tissue) or a *real* move, and
real moves stay.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.registration.stage import StageShift

Floats = NDArray[np.float64]
Kind = Literal["glitch", "growth", "real"]


@dataclass(frozen=True)
class RehomingLimits:
    """What counts as a big step, as taken back, and as mosaic growth.

    Parameters
    ----------
    max_shift_mm : float
        Steps up to this length are never touched.
    return_fraction : float
        A neighbour takes step ``s`` back if what is left of both is below this fraction of ``|s|``.
    tile_fov_mm : (float, float), optional
        Field of view along (y, x); None switches the search for mosaic growth off.
    tile_fov_tolerance : float
        How far from a whole multiple, as a fraction of the field of view, still counts as growth.
    """

    max_shift_mm: float = 0.5
    return_fraction: float = 0.4
    tile_fov_mm: tuple[float, float] | None = None
    tile_fov_tolerance: float = 0.05


@dataclass(frozen=True)
class CleanShift:
    """One row of ``shifts_xy_clean.csv``: the shift after correction, and what it was."""

    fixed_id: int
    moving_id: int
    shift_mm: tuple[float, float]
    shift_px: tuple[float, float]
    reliable: bool
    corrected: str
    """Why it was changed (``glitch``, ``growth``), or empty."""
    reliable_in: bool
    raw_mm: tuple[float, float]


@dataclass(frozen=True)
class RehomingEvent:
    """One big step, or the two steps of a glitch, and what was decided about it."""

    kind: Kind
    pairs: tuple[tuple[int, int], ...]
    slice_id: int
    """The slice whose position was wrong (glitch), or the first one after the step."""
    shift_mm: tuple[float, float]
    """The (first) step as measured, along (y, x)."""
    residual_mm: tuple[float, float]
    """What is left of it: the net displacement of a glitch, the step without whole fields of view."""


@dataclass(frozen=True)
class RehomingReport:
    """The corrected table and the events that led to it."""

    shifts: tuple[CleanShift, ...]
    events: tuple[RehomingEvent, ...]

    @property
    def glitched_ids(self) -> tuple[int, ...]:
        """Slices whose stage position was wrong."""
        return tuple(sorted(e.slice_id for e in self.events if e.kind == "glitch"))


def _is_taken_back(a: Floats, b: Floats, limits: RehomingLimits) -> tuple[bool, float]:
    """Whether one of two neighbouring steps is big and the other takes it back, and what is left."""
    big = max(float(np.hypot(*a)), float(np.hypot(*b)))
    left = float(np.hypot(*(a + b)))
    lengths = [float(np.hypot(*s)) for s in (a, b)]
    return (
        any(n > limits.max_shift_mm and left < limits.return_fraction * n for n in lengths),
        left / max(big, 1e-12),
    )


def _pair_glitches(steps: Floats, linked: NDArray[np.bool_], limits: RehomingLimits) -> list[int]:
    """Choose the disjoint pairs (i, i + 1) of steps that take each other back.

    A run of jumps there and back can be paired in two ways; the way that explains more steps wins, then the
    one that leaves less. Solved exactly by dynamic programming along the run.
    """
    n = len(steps)
    best: list[tuple[int, float]] = [(0, 0.0)] * (n + 2)
    take = [False] * n
    for i in range(n - 2, -1, -1):
        best[i] = best[i + 1]
        if not linked[i]:
            continue
        back, left = _is_taken_back(steps[i], steps[i + 1], limits)
        count, negative = best[i + 2]
        if back and (count + 1, negative - left) > best[i]:
            best[i], take[i] = (count + 1, negative - left), True
    chosen, i = [], 0
    while i < n:
        if take[i]:
            chosen.append(i)
        i += 2 if take[i] else 1
    return chosen


def _glitched_axes(a: Floats, b: Floats, limits: RehomingLimits) -> NDArray[np.bool_]:
    """Mark the axes that jumped: a small real move along the other axis is kept as it is."""
    size = np.maximum(np.abs(a), np.abs(b))
    axes: NDArray[np.bool_] = (np.abs(a + b) < limits.return_fraction * size) & (
        size > limits.max_shift_mm / 4
    )
    return axes if axes.any() else np.ones(2, np.bool_)


def detect_rehoming_events(
    shifts: Sequence[StageShift], limits: RehomingLimits | None = None
) -> RehomingReport:
    """Tell glitches of the stage from mosaic growth and real moves, and correct the first two.

    Both steps of a glitch are replaced by half of their sum: the net displacement is kept and the glitched
    slice lies midway. Growth is corrected in position space: the whole fields of view leave the position of
    every later slice, the rest of the step stays.

    Parameters
    ----------
    shifts : sequence of StageShift
        Consecutive pairs, ascending.
    limits : RehomingLimits, optional
        The limits; the defaults of the profile where omitted.

    Returns
    -------
    RehomingReport
        The table with a row per input row. ``reliable`` is False where the row came in unreliable, was
        corrected, or exceeds ``max_shift_mm``.
    """
    limits = limits or RehomingLimits()
    steps = np.array([s.shift_mm for s in shifts], np.float64).reshape(-1, 2)
    clean = steps.copy()
    why = [""] * len(steps)
    events: list[RehomingEvent] = []
    linked = np.array(
        [a.moving_id == b.fixed_id for a, b in itertools.pairwise(shifts)] + [False],
        np.bool_,
    )[: len(steps)]
    for i in _pair_glitches(steps, linked, limits):
        axes = _glitched_axes(steps[i], steps[i + 1], limits)
        net = steps[i] + steps[i + 1]
        for j in (i, i + 1):
            clean[j, axes] = net[axes] / 2
            why[j] = "glitch"
        events.append(_event("glitch", shifts, (i, i + 1), steps[i], net))
    for i, step in enumerate(steps):
        if why[i] or float(np.hypot(*step)) <= limits.max_shift_mm:
            continue
        tiles = _count_tiles(step, limits)
        if tiles is not None:
            clean[i] = step - tiles
            why[i] = "growth"
        events.append(_event("growth" if why[i] else "real", shifts, (i,), step, clean[i]))
    rows = tuple(
        _row(s, clean[i], why[i], float(np.hypot(*steps[i])) > limits.max_shift_mm)
        for i, s in enumerate(shifts)
    )
    return RehomingReport(rows, tuple(sorted(events, key=lambda e: e.pairs)))


def _count_tiles(step: Floats, limits: RehomingLimits) -> Floats | None:
    """Return the whole fields of view in a step (mm along y and x), or None where it is not growth.

    Every axis that moved by more than the limit must be a whole multiple; an axis below it is left alone.
    """
    if limits.tile_fov_mm is None:
        return None
    fov = np.asarray(limits.tile_fov_mm, np.float64)
    whole = np.round(step / fov)
    near = np.abs(step / fov - whole) <= limits.tile_fov_tolerance
    big = np.abs(step) > limits.max_shift_mm
    if not big.any() or not (near & (whole != 0))[big].all():
        return None
    return np.where(big, whole * fov, 0.0)


def _event(
    kind: Kind,
    shifts: Sequence[StageShift],
    members: tuple[int, ...],
    step: Floats,
    residual: Floats,
) -> RehomingEvent:
    return RehomingEvent(
        kind,
        tuple((shifts[i].fixed_id, shifts[i].moving_id) for i in members),
        shifts[members[0]].moving_id,
        (float(step[0]), float(step[1])),
        (float(residual[0]), float(residual[1])),
    )


def _row(s: StageShift, clean: Floats, why: str, big: bool) -> CleanShift:
    mm = (float(clean[0]), float(clean[1]))
    if not why:
        return CleanShift(
            s.fixed_id, s.moving_id, s.shift_mm, s.shift_px, s.reliable and not big, "",
            s.reliable, s.shift_mm,
        )  # fmt: skip
    px = tuple(
        _rescale(mm[a], s.shift_mm[a], s.shift_px[a], s.shift_mm[1 - a], s.shift_px[1 - a])
        for a in (0, 1)
    )
    return CleanShift(
        s.fixed_id, s.moving_id, mm, (px[0], px[1]), False, why, s.reliable, s.shift_mm
    )


def _rescale(mm: float, raw_mm: float, raw_px: float, other_mm: float, other_px: float) -> float:
    """Convert to pixels with the scale of the row itself, so that a table read from disk suffices."""
    if raw_mm != 0:
        return mm * raw_px / raw_mm
    return mm * other_px / other_mm if other_mm != 0 else 0.0
