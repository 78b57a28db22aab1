"""By how many whole pixels signals that show the same are displaced: every lag within reach is tried.

Newton steps find the nearest minimum; this finds the right one when displacements are wider than the features. At every lag only rows
that both signals have are compared, and polynomials are fitted there anew, so that a background draws nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.tomography.mass import Profiles, polynomials

# Taller signals are looked at by means of rows first.
_MOST_ROWS = 384
# Part of the whole signal's energy that the compared rows count at least: flat ends agree with anything flat.
_LEAST_ENERGY = 0.3
_LEAST_OVERLAP = 0.5
_REFERENCES = 4
# Rows that this part of all signals show have a mean.
_COMMON = 0.8
# What another lag leaves unexplained, as a part of what no lag leaves, for it to be taken.
_CLEARLY = 0.8
# The same once signals are aligned by parts of a pixel: what is left is small then, and differs by less.
_CLEARLY_LEFT = 0.9
# The nearest of several like lags: a periodic object agrees with itself at many.
_NEARNESS = 0.05


def coarse_shifts(
    profiles: Profiles, start: NDArray[np.float64], top: int, bottom: int, order: int, reach: int
) -> NDArray[np.float64]:
    """Shifts from which Newton steps reach the best agreement, with the mean of `start`.

    Parameters
    ----------
    profiles : float64 ndarray (n, rows)
    start : ndarray (n,)
        They are kept where no signal agrees clearly better elsewhere.
    top, bottom : int
        Rows of the common frame that are compared.
    order : int
        Degree of each signal's own polynomial.
    reach : int
        Greatest change of a shift, pixels.
    """
    factor = _bin_rows(profiles)
    if factor > 1:
        binned, limits = _binned(profiles, factor, top, bottom)
        coarse = coarse_shifts(binned, start / factor, *limits, order, max(2, -(-reach // factor)))
        start = coarse * factor
        reach = 2 * factor
    search = RowSearch(profiles, top, bottom, order)
    lags = search.arrange(start, reach)
    if np.abs(lags).max(initial=0) <= 1:
        return start
    shifts = start + lags
    if search.disagreement(shifts) > _CLEARLY * search.disagreement(start):
        return start
    return shifts - shifts.mean() + start.mean()


def lags_left(
    profiles: Profiles, shifts: NDArray[np.float64], top: int, bottom: int, order: int, reach: int
) -> NDArray[np.int64]:
    """Return by how much each signal fits the mean of all clearly better elsewhere, pixels; 0 where it does not."""
    factor = _bin_rows(profiles)
    binned, limits = _binned(profiles, factor, top, bottom)
    search = RowSearch(binned, *limits, order)
    shifts = shifts / factor
    reach = max(2, -(-reach // factor))
    lags = search.lags(shifts, search.mean(shifts), reach, _CLEARLY_LEFT)
    return np.where(np.abs(lags) > 1, factor * lags, 0)


def _bin_rows(profiles: Profiles) -> int:
    return -(-profiles.shape[1] // _MOST_ROWS)


def _binned(
    profiles: Profiles, factor: int, top: int, bottom: int
) -> tuple[Profiles, tuple[int, int]]:
    """Means of `factor` rows, and the limits among these."""
    rows = profiles.shape[1] // factor
    binned = profiles[:, : rows * factor].reshape(-1, rows, factor).mean(axis=2)
    return binned, (top // factor, min(rows, -(-bottom // factor)))


@dataclass(frozen=True)
class RowSearch:
    """Compares signals ``(n, rows)`` with a template over rows `top` to before `bottom` of the common frame."""

    profiles: Profiles
    top: int
    bottom: int
    order: int

    def mean(self, shifts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Median of the signals at shifts, each without its polynomial; NaN at rows that more than a few do not show.

        Only signals that show all of these rows have a part in it: their polynomials are then fitted over the same rows.
        """
        values, seen = self._cut(shifts)
        coverage = seen.mean(axis=0)
        common = coverage >= _COMMON * coverage.max()
        whole = np.flatnonzero(seen[:, common].all(axis=1))
        if whole.size == 0:
            whole = np.arange(len(values))
        part = values[np.ix_(whole, common)]
        basis = polynomials(part.shape[1], self.order)
        mean = np.full(len(coverage), np.nan)
        # The median, so that a projection that is spoilt does not spoil the template.
        typical = np.median(part - (part @ basis) @ basis.T, axis=0)
        mean[common] = typical - basis @ (basis.T @ typical)
        return mean

    def one(self, shifts: NDArray[np.float64], k: int) -> NDArray[np.float64]:
        """Return signal `k` as a template; NaN where it was not measured."""
        values, seen = self._cut(shifts[k : k + 1])
        return np.where(seen[0], values[0], np.nan)

    def disagreement(self, shifts: NDArray[np.float64]) -> float:
        """Part of the signals' energy, on average, that their mean does not explain."""
        return float(self._unexplained(shifts, self.mean(shifts), 0).mean())

    def lags(
        self,
        shifts: NDArray[np.float64],
        template: NDArray[np.float64],
        reach: int,
        clearly: float = _CLEARLY,
    ) -> NDArray[np.int64]:
        """Best lag of each signal against a template; 0 unless another one is clearly better."""
        rest = self._unexplained(shifts, template, reach)
        lags = np.arange(-reach, reach + 1)
        best = (rest * (1 + _NEARNESS * np.abs(lags) / max(reach, 1))).argmin(axis=1)
        better = rest[np.arange(len(rest)), best] < clearly * rest[:, reach]
        return lags[np.where(better, best, reach)]

    def arrange(self, start: NDArray[np.float64], reach: int) -> NDArray[np.int64]:
        """Lags at which all signals agree with each other: from several templates, and then from the mean of what they give."""
        n = len(self.profiles)
        singles = np.unique(np.linspace(0, n - 1, _REFERENCES + 2).astype(int)[1:-1])
        templates = [self.mean(start), *(self.one(start, int(k)) for k in singles)]
        settled: list[NDArray[np.int64]] = []
        for k, template in enumerate(templates):
            lags = self.lags(start, template, reach)
            settled.append(self._settle(start, lags, reach))
            if k == 1 and all(np.abs(lags).max() <= 1 for lags in settled):
                # The mean and one of the signals find all others where they are.
                break
        return min(settled, key=lambda lags: self.disagreement(start + lags))

    def _settle(
        self, start: NDArray[np.float64], lags: NDArray[np.int64], reach: int
    ) -> NDArray[np.int64]:
        for _ in range(3):
            # The template moves with the median, so that what most signals do costs no reach.
            lags = lags - int(np.median(lags))
            again = self.lags(start, self.mean(start + lags), reach)
            if np.array_equal(again, lags):
                break
            lags = again
        return lags

    def _cut(self, shifts: NDArray[np.float64]) -> tuple[Profiles, NDArray[np.bool_]]:
        """Signals at whole shifts, and where they were measured."""
        places = np.arange(self.top, self.bottom) + _whole(shifts)[:, None]
        size = self.profiles.shape[1]
        seen = (places >= 0) & (places < size)
        return np.take_along_axis(self.profiles, np.clip(places, 0, size - 1), 1), seen

    def _unexplained(
        self, shifts: NDArray[np.float64], template: NDArray[np.float64], reach: int
    ) -> Profiles:
        """Part of the energy that template and polynomial leave at every lag: ``(n, 2 reach + 1)``, 2 where too little overlaps."""
        known = np.flatnonzero(np.isfinite(template))
        first, last = int(known[0]), int(known[-1]) + 1
        size = last - first
        at = _whole(shifts) + self.top + first
        bases, which = self._bases(at, size, reach)
        scores = np.full((len(self.profiles), 2 * reach + 1), -1.0)
        least = max(1, int(_LEAST_OVERLAP * size))
        known_part = np.ascontiguousarray(template[first:last])
        _correlate(self.profiles, at, known_part, bases, which, reach, least, scores)
        return 1.0 - scores * np.abs(scores)

    def _bases(
        self, at: NDArray[np.int64], size: int, reach: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Polynomials over every number of rows that can overlap, and which of them is for how many."""
        starts = np.unique(at[:, None] + np.arange(-reach, reach + 1))
        rows = self.profiles.shape[1]
        overlaps = np.minimum(starts + size, rows) - np.maximum(starts, 0)
        sizes = np.unique(np.append(np.clip(overlaps, 0, size), [0, size]))
        bases = np.zeros((len(sizes), self.order + 1, size))
        for k, m in enumerate(sizes[1:], 1):
            basis = polynomials(int(m), self.order)
            bases[k, : basis.shape[1], :m] = basis.T
        which = np.zeros(size + 1, np.int64)
        which[sizes] = np.arange(len(sizes))
        return bases, which


def _whole(shifts: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.round(shifts).astype(np.int64)


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def _products(
    a: Any, t: Any, bases: Any
) -> tuple[float, float, float]:  # pragma: no cover - compiled
    """Energies of two pieces of signal without their polynomials, and their product."""
    size = a.size
    aa: Any = 0.0
    at: Any = 0.0
    tt: Any = 0.0
    for y in range(size):
        aa += a[y] * a[y]
        at += a[y] * t[y]
        tt += t[y] * t[y]
    for j in range(bases.shape[0]):
        pa: Any = 0.0
        pt: Any = 0.0
        for y in range(size):
            pa += bases[j, y] * a[y]
            pt += bases[j, y] * t[y]
        aa -= pa * pa
        at -= pa * pt
        tt -= pt * pt
    return aa, at, tt


@njit(cache=True, nogil=True, parallel=True)
def _correlate(
    signals: Any,
    first: Any,
    template: Any,
    bases: Any,
    which: Any,
    reach: int,
    least: int,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Correlation of every signal with a template, which begins at row `first` of it, at every lag; polynomials left out."""
    n, rows = signals.shape
    size = template.size
    whole = _products(template, template, bases[which[size]])[0]
    for i in prange(n):
        top = min(max(0, first[i]), rows)
        stop = max(top, min(rows, first[i] + size))
        piece = signals[i, top:stop]
        own = _products(piece, piece, bases[which[piece.size]])[0]
        for k in range(2 * reach + 1):
            start = first[i] + k - reach
            top = max(0, start)
            stop = min(rows, start + size)
            if stop - top < least:
                continue
            part = template[top - start : stop - start]
            aa, at, tt = _products(signals[i, top:stop], part, bases[which[stop - top]])
            aa = max(aa, _LEAST_ENERGY * own)
            tt = max(tt, _LEAST_ENERGY * whole)
            if aa * tt > 0.0:
                out[i, k] = at / np.sqrt(aa * tt)
