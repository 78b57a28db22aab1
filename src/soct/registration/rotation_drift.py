"""How slices turn over a run: what pairs measured, added up, against what all pairs together say.

Convention: see `soct.space`. A pair's rotation is that of the moving slice against the fixed one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

OUTLIER_MADS = 3.5
LEAST_OUTLIER_DEG = 0.05


@dataclass(frozen=True)
class PairRotation:
    """Measured rotation of one pair of slices."""

    fixed: int
    moving: int
    rotation_deg: float
    accepted: bool
    confidence: float = 1.0


@dataclass(frozen=True)
class RotationDrift:
    """Rotation over a run.

    Attributes
    ----------
    slice_ids : tuple of int
    step_deg : float64 ndarray (n,)
        Of each slice against the one before, as measured; NaN for the first and where no pair was accepted.
    cumulative_deg : float64 ndarray (n,)
        The steps added up from the first slice, 0 there; a step that was not measured is taken from `solved_deg`.
    solved_deg : float64 ndarray (n,)
        By the global solve, 0 at the first slice.
    trend_deg : float
        Median slope of `solved_deg` per slice (Theil and Sen); NaN for fewer than three slices.
    trend_range_deg : (float, float)
        95 % confidence interval of the trend.
    outliers : tuple of int
        Slices whose step stands out.
    bridged : tuple of int
        Slices whose step was not measured.
    closure_deg : float
        Median disagreement of a pair that skips a slice with the two steps that it spans: the precision of one
        measurement, times the root of three. NaN without such pairs.
    """

    slice_ids: tuple[int, ...]
    step_deg: NDArray[np.float64]
    cumulative_deg: NDArray[np.float64]
    solved_deg: NDArray[np.float64]
    trend_deg: float
    trend_range_deg: tuple[float, float]
    outliers: tuple[int, ...]
    bridged: tuple[int, ...]
    closure_deg: float

    @property
    def has_trend(self) -> bool:
        """Whether the slices turn steadily: the confidence interval leaves out 0 and the outer slices differ."""
        low, high = self.trend_range_deg
        if not (np.isfinite(low) and np.isfinite(high)) or low <= 0.0 <= high:
            return False
        steady = abs(self.trend_deg) * (len(self.slice_ids) - 1)
        return bool(steady > 2.0 * _noise(self))

    @property
    def range_deg(self) -> float:
        """Largest rotation of a slice against another."""
        return float(np.ptp(self.solved_deg)) if self.solved_deg.size else 0.0

    @property
    def disagreement_deg(self) -> float:
        """Largest difference between adding up and solving, after the best common offset."""
        if not self.solved_deg.size:
            return 0.0
        difference = self.cumulative_deg - self.solved_deg
        return float(np.abs(difference - np.median(difference)).max())


def _noise(drift: RotationDrift) -> float:
    """Typical departure of a slice from the straight line."""
    k = np.arange(len(drift.slice_ids))
    residual = drift.solved_deg - drift.trend_deg * k
    return float(1.4826 * np.median(np.abs(residual - np.median(residual))))


def analyze_rotation_drift(
    pairs: Sequence[PairRotation], solved_deg: Mapping[int, float]
) -> RotationDrift:
    """Follow the rotation through a run.

    Parameters
    ----------
    pairs : sequence of PairRotation
        Neighbours and pairs that skip a slice.
    solved_deg : mapping
        Rotation of every stacked slice by the global solve.
    """
    ids = tuple(sorted(solved_deg))
    solved = np.array([solved_deg[i] for i in ids], np.float64)
    solved = solved - solved[0] if solved.size else solved
    measured = {(p.fixed, p.moving): p for p in pairs if p.accepted and np.isfinite(p.rotation_deg)}
    step = np.full(len(ids), np.nan)
    for k in range(1, len(ids)):
        pair = measured.get((ids[k - 1], ids[k]))
        if pair is not None:
            step[k] = pair.rotation_deg
    taken = np.where(np.isfinite(step[1:]), step[1:], np.diff(solved))
    cumulative = np.concatenate([[0.0], np.cumsum(taken)]) if ids else np.zeros(0)
    trend, low, high = _trend(solved)
    return RotationDrift(
        ids,
        step,
        cumulative,
        solved,
        trend,
        (low, high),
        tuple(ids[k] for k in _outliers(step)),
        tuple(ids[k] for k in range(1, len(ids)) if not np.isfinite(step[k])),
        _closure(ids, step, measured),
    )


def _trend(solved: NDArray[np.float64]) -> tuple[float, float, float]:
    if solved.size < 3:
        return (float("nan"),) * 3
    found = stats.theilslopes(solved, np.arange(solved.size), alpha=0.95)
    return float(found.slope), float(found.low_slope), float(found.high_slope)


def _outliers(step: NDArray[np.float64]) -> list[int]:
    """Find steps far from the median one; fewer than five steps say nothing about which of them is odd."""
    known = np.flatnonzero(np.isfinite(step))
    if known.size < 5:
        return []
    centre = float(np.median(step[known]))
    away = np.abs(step[known] - centre)
    limit = max(OUTLIER_MADS * 1.4826 * float(np.median(away)), LEAST_OUTLIER_DEG)
    return [int(k) for k in known[away > limit]]


def _closure(
    ids: tuple[int, ...],
    step: NDArray[np.float64],
    measured: Mapping[tuple[int, int], PairRotation],
) -> float:
    place = {i: k for k, i in enumerate(ids)}
    loops = []
    for (fixed, moving), pair in measured.items():
        a, b = place.get(fixed), place.get(moving)
        if a is not None and b is not None and b - a == 2:
            loops.append(abs(pair.rotation_deg - step[a + 1] - step[b]))
    finite = [v for v in loops if np.isfinite(v)]
    return float(np.median(finite)) if finite else float("nan")
