"""Whether measuring the tiles' places helped, overlap by overlap.

The rule is one that can be told in a sentence: a slice is ``better`` when the median overlap correlates more by at
least 0.01 and at least 60 % of the overlaps agree, ``worse`` for the mirror image, ``same`` otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Verdict = Literal["better", "same", "worse", "unknown"]
LEAST_GAIN = 0.01
LEAST_SHARE = 0.6


@dataclass(frozen=True)
class StitchComparison:
    """Overlaps of one slice before and after.

    Attributes
    ----------
    verdict : {"better", "same", "worse", "unknown"}
        ``unknown`` where no overlap can be compared.
    gain : float
        Median change of the correlation.
    improved : float
        Share of the overlaps whose correlation rose.
    n : int
        Overlaps compared.
    worst : tuple of int
        Overlaps by number: those that lost most first, then those that agree least; at most five.
    """

    verdict: Verdict
    gain: float
    improved: float
    n: int
    worst: tuple[int, ...]


def compare_overlaps(
    before: NDArray[np.float64], after: NDArray[np.float64], count: int = 5
) -> StitchComparison:
    """Judge the change from the correlation of every overlap.

    Parameters
    ----------
    before, after : ndarray (m,)
        Correlation; NaN where an overlap cannot be compared.
    count : int
        Worst places wanted.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    known = np.flatnonzero(np.isfinite(before) & np.isfinite(after))
    if not known.size:
        return StitchComparison("unknown", float("nan"), float("nan"), 0, ())
    change = after[known] - before[known]
    gain = float(np.median(change))
    rose = float((change > 0).mean())
    fell = float((change < 0).mean())
    verdict: Verdict = "same"
    if gain >= LEAST_GAIN and rose >= LEAST_SHARE:
        verdict = "better"
    elif gain <= -LEAST_GAIN and fell >= LEAST_SHARE:
        verdict = "worse"
    lost = known[np.argsort(change, kind="stable")]
    losers = [int(p) for p in lost if after[p] - before[p] < -LEAST_GAIN]
    poor = [int(p) for p in known[np.argsort(after[known], kind="stable")] if int(p) not in losers]
    return StitchComparison(verdict, gain, rose, known.size, tuple([*losers, *poor][:count]))
