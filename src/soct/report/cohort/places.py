"""Where a number lies among the same numbers of other runs: robust z, rank, and whether it stands out.

The robust z is the distance from the median in robust standard deviations (1.4826 times the median absolute
deviation), counted so that positive is worse. In a small cohort that deviation is itself uncertain, so the z
from which a number stands out depends on how many runs there are: `THRESHOLDS` holds the z that the farthest
of n equal runs (normal deviates) exceeds in one cohort of a hundred; `benchmarks/cohort.py` measures it anew.
Five runs hardly know how much runs differ, but the limits do: a number that is beyond a limit of its profile
where the median is within stands out from `BEYOND_LIMIT_Z` on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soct.quality.limits import QualityLimits, Status
from soct.report.comparison.metrics import goodness
from soct.report.headline import Headline

SMALLEST = 3
"""Of fewer runs nothing can be said."""
THRESHOLDS: tuple[tuple[int, float], ...] = (
    (3, 114.0), (4, 15.7), (5, 18.9), (6, 10.1), (7, 10.8), (8, 7.9), (9, 8.2), (10, 6.9), (12, 6.3),
    (15, 6.0), (20, 5.2), (30, 4.8), (50, 4.5), (100, 4.3),
)  # fmt: skip
BEYOND_LIMIT_Z = 3.5
"""The customary robust z of an outlier; enough where a limit says the same."""
_ROBUST_SIGMA = 1.4826
_ALIKE = 0.01
"""Share of the way from the warning to the error limit that is at least one deviation: among runs that are
all but equal, a difference that means nothing never stands out."""
FARTHEST_Z = 999.0
"""Larger ones are written as this."""


@dataclass(frozen=True)
class Spread:
    """How one headline number is spread over the finished runs."""

    name: str
    label: str
    count: int
    median: float | None
    """In the number's own unit; of magnitudes where the sign means no more than a direction."""
    deviation: float
    threshold: float | None
    """The z from which on a number stands out; None where there are too few runs."""
    scale: float
    unit: str
    goodnesses: tuple[float, ...]
    """Of the finished runs, ascending: the worst first."""

    @property
    def median_is_good(self) -> bool:
        """Whether the median lies within the warning limit."""
        limit = QualityLimits().limit(self.name)
        if limit is None or self.median is None:
            return False
        return limit.status(self.median) is Status.OK

    def z(self, value: float) -> float:
        """Return how many deviations a value lies beyond the median, positive where it is worse."""
        if self.median is None:
            return 0.0
        worse = _goodness(self.name, self.median) - _goodness(self.name, value)
        z = worse / self.deviation
        return math.copysign(min(abs(z), FARTHEST_Z), z)


@dataclass(frozen=True)
class Place:
    """Where one number of one run lies."""

    name: str
    label: str
    text: str
    status: Status
    """By the limits of the run's own profile."""
    z: float
    excess: float
    """z over the z from which it stands out: from 1 on for the worse, from -1 down for the better."""
    rank: int
    """1 for the best; equal ones share a rank."""
    count: int
    detail: str = ""

    @property
    def is_outlier(self) -> bool:
        """Whether it stands out for the worse."""
        return self.excess >= 1.0

    @property
    def is_better_than_all(self) -> bool:
        """Whether it stands out for the better."""
        return self.excess <= -1.0


def threshold(count: int) -> float | None:
    """Return the z from which on one of `count` numbers stands out, or None for fewer than `SMALLEST`."""
    known = [z for n, z in THRESHOLDS if n <= count]
    return known[-1] if count >= SMALLEST else None


def measure_spread(name: str, headlines: Sequence[Headline]) -> Spread:
    """Return the spread of a headline number over finished runs.

    Parameters
    ----------
    name : str
        Name of the limit.
    headlines : sequence of Headline
        With a value each.
    """
    values = np.array([_goodness(name, h.value) for h in headlines if h.value is not None])
    values = np.sort(values[np.isfinite(values)])
    limit = QualityLimits().limit(name)
    first = headlines[0] if headlines else None
    middle = float(np.median(values)) if values.size else 0.0
    deviation = _ROBUST_SIGMA * float(np.median(np.abs(values - middle))) if values.size else 0.0
    least = 1e-3 * abs(middle)
    if limit is not None:
        least = _ALIKE * (abs(limit.error - limit.warning) or abs(limit.error))
    rising = limit is not None and limit.higher_is_better
    return Spread(
        name=name,
        label=name if first is None else first.label,
        count=int(values.size),
        median=(middle if rising else abs(middle)) if values.size else None,
        deviation=max(deviation, least, 1e-12),
        threshold=threshold(int(values.size)),
        scale=1.0 if first is None else first.scale,
        unit="" if first is None else first.unit,
        goodnesses=tuple(float(v) for v in values),
    )


def place_in(spread: Spread, headline: Headline) -> Place:
    """Return where a run's number lies in a spread that has a threshold."""
    assert headline.value is not None
    assert spread.threshold is not None
    own = _goodness(spread.name, headline.value)
    z = spread.z(headline.value)
    excess = z / spread.threshold
    if headline.status in (Status.WARNING, Status.ERROR) and spread.median_is_good:
        excess = max(excess, z / BEYOND_LIMIT_Z)
    return Place(
        spread.name,
        headline.label,
        headline.text,
        headline.status,
        z,
        excess,
        1 + sum(g > own for g in spread.goodnesses),
        spread.count + (own not in spread.goodnesses),
        headline.detail,
    )


def _goodness(name: str, value: float) -> float:
    return goodness(QualityLimits().limit(name), value)
