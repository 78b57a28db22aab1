"""Limits from what an instrument usually does: how far from the median a value is an outlier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEAST_VALUES = 5
"""Fewer values say nothing about how they scatter."""
_SIGMA_PER_MAD = 1.4826
# A process that hardly scatters must not make every later run an outlier.
_LEAST_SCATTER = 0.05


@dataclass(frozen=True)
class RobustLimit:
    """Where values become unusual, and very unusual.

    Attributes
    ----------
    warning, error : float
    median, mad : float
        Of the values; ``mad`` is scaled to a standard deviation of a Gaussian.
    count : int
        How many values there were.
    """

    warning: float
    error: float
    median: float
    mad: float
    count: int


def robust_limit(values: Sequence[float], *, higher_is_better: bool) -> RobustLimit | None:
    """Return limits beyond which a value is an outlier among its like.

    The warning lies 3 MAD from the median, or at the fence of 1.5 interquartile ranges where that is farther; the
    error 6 MAD, or 3 interquartile ranges.

    Parameters
    ----------
    values : sequence of float
        Magnitudes; what is not finite is left out.
    higher_is_better : bool
        Whether outliers lie below.

    Returns
    -------
    RobustLimit or None
        None for fewer than `LEAST_VALUES` values.
    """
    data = np.array([v for v in values if math.isfinite(v)], np.float64)
    if data.size < LEAST_VALUES:
        return None
    median = float(np.median(data))
    mad = _SIGMA_PER_MAD * float(np.median(np.abs(data - median)))
    low, high = (float(q) for q in np.percentile(data, (25, 75)))
    scatter = max(mad, _LEAST_SCATTER * abs(median))
    span = high - low
    if higher_is_better:
        warning = min(median - 3 * scatter, low - 1.5 * span)
        error = min(median - 6 * scatter, low - 3 * span)
    else:
        warning = max(median + 3 * scatter, high + 1.5 * span)
        error = max(median + 6 * scatter, high + 3 * span)
    return RobustLimit(warning, error, median, mad, int(data.size))
