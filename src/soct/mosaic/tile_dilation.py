"""How far apart neighbouring tiles lie, over how far apart they should lie, and whether that depends on the place.

A ratio that is everywhere the same is a wrong pixel size or overlap; one that grows along rows or columns is a stage
or a scan that stretches while the slice is imaged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Axis = Literal["y", "x"]


@dataclass(frozen=True)
class PitchRatio:
    """One pair of neighbouring tiles.

    Attributes
    ----------
    axis : {"y", "x"}
        Along which they are neighbours.
    row, col : int
        Grid index of the first.
    ratio : float
        Measured over expected distance.
    """

    axis: Axis
    row: int
    col: int
    ratio: float


@dataclass(frozen=True)
class Trend:
    """Change of the pitch ratio per tile along rows or columns, with its standard error."""

    axis: Axis
    along: Literal["row", "column"]
    slope: float
    error: float

    @property
    def is_significant(self) -> bool:
        """Whether the slope differs from 0 by more than three standard errors."""
        return bool(np.isfinite(self.slope) and abs(self.slope) > 3.0 * self.error)


def measure_pitch_ratios(
    index: NDArray[np.int64],
    nominal_px: NDArray[np.float64],
    positions_px: NDArray[np.float64],
    used: NDArray[np.bool_],
) -> tuple[PitchRatio, ...]:
    """Compare the distance of neighbouring tiles with the expected one.

    Parameters
    ----------
    index : int ndarray (n, 2)
        ``(row, column)`` of each tile.
    nominal_px, positions_px : ndarray (n, 2)
    used : bool ndarray (n,)
        Tiles whose place was measured.
    """
    place = {(int(r), int(c)): k for k, (r, c) in enumerate(index) if used[k]}
    ratios = []
    for (row, col), i in place.items():
        for axis, other in (("y", (row + 1, col)), ("x", (row, col + 1))):
            j = place.get(other)
            if j is None:
                continue
            expected = float(np.hypot(*(nominal_px[j] - nominal_px[i])))
            if expected > 1.0:
                measured = float(np.hypot(*(positions_px[j] - positions_px[i])))
                ratios.append(PitchRatio(axis, row, col, measured / expected))  # type: ignore[arg-type]
    return tuple(ratios)


def fit_trends(ratios: tuple[PitchRatio, ...]) -> tuple[Trend, ...]:
    """Fit a straight line to the ratios of each axis, along rows and along columns together."""
    trends = []
    for axis in ("y", "x"):
        chosen = [r for r in ratios if r.axis == axis]
        place = np.array([(r.row, r.col) for r in chosen], np.float64).reshape(-1, 2)
        values = np.array([r.ratio for r in chosen])
        if len(chosen):
            centre, half = np.median(values), 4.0 * _spread(values)
            keep = np.abs(values - centre) <= half
            place, values = place[keep], values[keep]
        slopes, errors = _fit_plane(place, values)
        for k, along in enumerate(("row", "column")):
            trends.append(Trend(axis, along, float(slopes[k]), float(errors[k])))  # type: ignore[arg-type]
    return tuple(trends)


def _spread(values: NDArray[np.float64]) -> float:
    return max(1.4826 * float(np.median(np.abs(values - np.median(values)))), 1e-6)


def _fit_plane(
    place: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Slopes along both directions and their errors; NaN where the places do not tell."""
    slopes, errors = np.full(2, np.nan), np.full(2, np.nan)
    spans = [k for k in (0, 1) if len(values) and np.ptp(place[:, k]) > 0]
    freedom = len(values) - 1 - len(spans)
    if not spans or freedom < 1:
        return slopes, errors
    design = np.column_stack([np.ones(len(values)), place[:, spans] - place[:, spans].mean(axis=0)])
    solution = np.linalg.lstsq(design, values, rcond=None)[0]
    noise = float(((values - design @ solution) ** 2).sum()) / freedom
    covariance = noise * np.linalg.pinv(design.T @ design)
    for number, k in enumerate(spans, 1):
        slopes[k] = solution[number]
        # Fewer tiles than this cannot tell their own noise.
        errors[k] = np.sqrt(covariance[number, number]) * np.sqrt(1 + 4.0 / freedom)
    return slopes, errors
