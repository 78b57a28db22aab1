"""How the stage drifted over a run: totals, spread, and steps that stand out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soct.registration.stage import StageShift


@dataclass(frozen=True)
class AxisDrift:
    """The steps along one axis, in mm."""

    total_mm: float
    """Displacement from the first to the last slice."""
    span_mm: float
    """Distance between the extreme positions of the whole run."""
    median_mm: float
    mean_mm: float
    std_mm: float
    low_mm: float
    """Steps below this are outliers."""
    high_mm: float
    """Steps above this are outliers."""
    outliers: tuple[tuple[int, int], ...]
    """Pairs (fixed, moving) whose step lies outside."""


@dataclass(frozen=True)
class DriftReport:
    """The drift of a run along y and x, and which pairs stand out along either."""

    n_pairs: int
    n_unreliable: int
    y: AxisDrift
    x: AxisDrift
    max_step_mm: float
    max_step_pair: tuple[int, int] | None
    path_mm: float
    """Length of all steps together."""

    @property
    def outliers(self) -> tuple[tuple[int, int], ...]:
        """Pairs that stand out along y or x, ascending."""
        return tuple(sorted(set(self.y.outliers) | set(self.x.outliers)))


def analyze_shifts(shifts: Sequence[StageShift], *, iqr_factor: float = 1.5) -> DriftReport:
    """Summarise the shifts of a run and mark outliers by Tukey's rule.

    Parameters
    ----------
    shifts : sequence of StageShift
        Consecutive pairs, ascending.
    iqr_factor : float
        A step further than this many interquartile ranges outside the quartiles is an outlier.
    """
    steps = np.array([s.shift_mm for s in shifts], np.float64).reshape(-1, 2)
    pairs = [(s.fixed_id, s.moving_id) for s in shifts]
    length = np.hypot(steps[:, 0], steps[:, 1])
    top = int(np.argmax(length)) if len(length) else None
    return DriftReport(
        n_pairs=len(pairs),
        n_unreliable=sum(not s.reliable for s in shifts),
        y=_describe(steps[:, 0], pairs, iqr_factor),
        x=_describe(steps[:, 1], pairs, iqr_factor),
        max_step_mm=0.0 if top is None else float(length[top]),
        max_step_pair=None if top is None else pairs[top],
        path_mm=float(length.sum()),
    )


def _describe(
    step: np.ndarray[tuple[int], np.dtype[np.float64]], pairs: list[tuple[int, int]], factor: float
) -> AxisDrift:
    if len(step) == 0:
        return AxisDrift(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ())
    q1, median, q3 = (float(q) for q in np.percentile(step, [25, 50, 75]))
    # Identical steps have no spread; readings a micrometre apart are then not outliers.
    reach = max(factor * (q3 - q1), 1e-3)
    position = np.concatenate([[0.0], np.cumsum(step)])
    out = tuple(p for p, s in zip(pairs, step, strict=True) if s < q1 - reach or s > q3 + reach)
    return AxisDrift(
        float(step.sum()), float(np.ptp(position)), median, float(step.mean()), float(step.std()),
        q1 - reach, q3 + reach, out,
    )  # fmt: skip
