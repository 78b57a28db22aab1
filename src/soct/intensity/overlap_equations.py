"""Overlap equations: the same tissue seen at two places of the field of view.

Where two tiles overlap, the log ratio of their brightness is the difference of the log flat field at two
places, whatever the tissue is. Rough positions suffice, because what a wrong position adds has no
preferred sign; yet each pair is first matched to the pixel, and the scatter that is left sets its weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import fft

from soct.space import Array

BIN_PX = 4
MAX_PAIRS = 400
MAX_SEARCH_PX = 8


@dataclass(frozen=True)
class OverlapEquations:
    """Log ratios of small bins seen by two tiles.

    Attributes
    ----------
    ratio : ndarray (m,) float64
        Log brightness in the first tile minus that in the second.
    first, second : ndarray (m, 2) float64
        Bin centre (y, x) in either tile, in pixels.
    pair : ndarray (m,) int64
        Which pair of tiles each comes from.
    """

    ratio: Array
    first: Array
    second: Array
    pair: Array

    def normal_equations(
        self, ky: Array, kx: Array, shape: tuple[int, int], start: Array
    ) -> tuple[Array, Array]:
        """Weighted normal matrix (k, k) and right side (k,) for orthonormal cosine coefficients.

        Parameters
        ----------
        ky, kx : ndarray (k,)
            Orders.
        shape : tuple of int
            Tile shape that the coefficients belong to.
        start : ndarray (k,)
            Current coefficients; residuals from them set the robust weights.
        """
        design = _cosines(self.first, ky, kx, shape) - _cosines(self.second, ky, kx, shape)
        residual = self.ratio - (design * start).sum(1)
        centre = np.median(residual)
        spread = 1.4826 * np.median(np.abs(residual - centre)) + 1e-4
        weight = 1 / np.maximum(np.abs(residual) / (1.5 * spread), 1)
        # Bins of one pair share their misplacement: their mean scatters more than independent bins would.
        counts = np.bincount(self.pair)
        clipped = np.clip(residual, -3 * spread, 3 * spread)
        means = np.bincount(self.pair, clipped) / np.maximum(counts, 1)
        used = counts > 0
        excess = np.mean(means[used] ** 2 * counts[used]) / spread**2
        weight = weight / (spread**2 * max(float(excess), 4.0))
        return _accumulate(design, weight, self.ratio)


def build_overlap_equations(
    stack: Array, tissue: Array, positions_px: Array, groups: Array
) -> OverlapEquations | None:
    """Collect the overlap equations of all neighbouring tiles.

    Parameters
    ----------
    stack : ndarray (n, y, x)
        Tile projections, dark field taken off.
    tissue : ndarray (n, y, x) bool
        Pixels that count.
    positions_px : ndarray (n, 2)
        Rough positions (y, x) in pixels of `stack`; rows that are not finite are left out.
    groups : ndarray (n,)
        Tiles of different groups don't overlap.

    Returns
    -------
    OverlapEquations or None
        None where nothing overlaps.
    """
    shape = np.array(stack.shape[1:])
    pairs = _find_pairs(positions_px, groups, shape)
    if len(pairs) > MAX_PAIRS:
        pairs = [pairs[i] for i in (np.arange(MAX_PAIRS) * len(pairs)) // MAX_PAIRS]
    parts = []
    for number, (i, j) in enumerate(pairs):
        step = np.round(positions_px[j] - positions_px[i]).astype(int)
        step = step + _match(stack[i], stack[j], step)
        low, high = np.maximum(step, 0), np.minimum(shape, shape + step)
        size = (high - low) // BIN_PX
        if (size < 1).any():
            continue
        high = low + size * BIN_PX
        here = (slice(low[0], high[0]), slice(low[1], high[1]))
        there = (
            slice(low[0] - step[0], high[0] - step[0]),
            slice(low[1] - step[1], high[1] - step[1]),
        )
        a, b = _bin(stack[i][here], size), _bin(stack[j][there], size)
        known = _bin((tissue[i][here] & tissue[j][there]).astype(np.float32), size) > 0.99
        known &= (a > 0) & (b > 0)
        if not known.any():
            continue
        bins = np.argwhere(known) * BIN_PX + (BIN_PX - 1) / 2 + low
        parts.append((np.log(a[known] / b[known]), bins, bins - step, np.full(len(bins), number)))
    if not parts:
        return None
    ratio, first, second, pair = (np.concatenate(p) for p in zip(*parts, strict=True))
    return OverlapEquations(ratio.astype(float), first, second, pair)


def _find_pairs(positions: Array, groups: Array, shape: Array) -> list[tuple[int, int]]:
    """Neighbours whose overlap is at least two bins wide and half a tile long."""
    pairs: list[tuple[int, int]] = []
    order = np.argsort(groups, kind="stable")
    for block in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        known = block[np.isfinite(positions[block]).all(1)]
        for at, i in enumerate(known):
            others = known[at + 1 :]
            overlap = shape - np.abs(positions[others] - positions[i])
            good = (overlap >= 2 * BIN_PX).all(1) & (overlap >= shape / 2).any(1)
            pairs.extend((int(i), int(j)) for j in others[good])
    return pairs


def _match(first: Array, second: Array, step: Array) -> Array:
    """Whole-pixel correction of a step by phase correlation of the expected overlap."""
    shape = np.array(first.shape)
    low, high = np.maximum(step, 0), np.minimum(shape, shape + step)
    if (high - low < 8).any():
        return np.zeros(2, int)
    a = first[low[0] : high[0], low[1] : high[1]]
    b = second[low[0] - step[0] : high[0] - step[0], low[1] - step[1] : high[1] - step[1]]
    floor = 0.1 * float(np.median(a) + np.median(b)) + 1e-12
    a, b = _detrend(np.log(np.maximum(a, 0) + floor)), _detrend(np.log(np.maximum(b, 0) + floor))
    size = [fft.next_fast_len(int(n) + MAX_SEARCH_PX, True) for n in a.shape]
    cross = fft.rfft2(a, size) * np.conj(fft.rfft2(b, size))
    cross /= np.sqrt(np.abs(cross)) + 1e-9
    plane = fft.irfft2(cross, size)
    reach = [
        np.arange(-min(MAX_SEARCH_PX, n // 3), min(MAX_SEARCH_PX, n // 3) + 1) for n in a.shape
    ]
    window = plane[np.ix_(reach[0] % size[0], reach[1] % size[1])]
    peak = np.unravel_index(int(np.argmax(window)), window.shape)
    # A peak that does not stand out is chance: then the rough position is the better guess.
    if window[peak] < window.mean() + 5 * window.std():
        return np.zeros(2, int)
    return np.array([int(reach[0][peak[0]]), int(reach[1][peak[1]])])


def _detrend(image: Array) -> Array:
    centred = image - image.mean(0, keepdims=True) - image.mean(1, keepdims=True) + image.mean()
    return np.asarray(centred)


def _bin(image: Array, size: Array) -> Array:
    return np.asarray(image.reshape(size[0], BIN_PX, size[1], BIN_PX).mean((1, 3)))


def _cosines(points: Array, ky: Array, kx: Array, shape: tuple[int, int]) -> Array:
    """Orthonormal cosine basis (m, k) at pixel positions."""
    n_y, n_x = shape
    y = np.cos(np.pi * (points[:, :1] + 0.5) * np.arange(ky.max() + 1)[None] / n_y)
    x = np.cos(np.pi * (points[:, 1:] + 0.5) * np.arange(kx.max() + 1)[None] / n_x)
    y *= np.where(np.arange(ky.max() + 1) == 0, np.sqrt(1 / n_y), np.sqrt(2 / n_y))
    x *= np.where(np.arange(kx.max() + 1) == 0, np.sqrt(1 / n_x), np.sqrt(2 / n_x))
    return np.asarray(y[:, ky] * x[:, kx])


@njit(cache=True, nogil=True)
def _accumulate(design: Array, weight: Array, ratio: Array) -> tuple[Array, Array]:
    # Summed here and not by BLAS, whose result depends on its number of threads.
    m, k = design.shape
    matrix = np.zeros((k, k))
    vector = np.zeros(k)
    for r in range(m):
        w = weight[r]
        for a in range(k):
            wa = w * design[r, a]
            vector[a] += wa * ratio[r]
            for b in range(a, k):
                matrix[a, b] += wa * design[r, b]
    for a in range(k):
        for b in range(a):
            matrix[a, b] = matrix[b, a]
    return matrix, vector
