"""Overlap equations: the same tissue seen at two places of the field of view.

Where two tiles overlap, the log ratio of their brightness is the difference of the log flat field at two
places, whatever the tissue is. Rough positions suffice, because what a wrong position adds has no
preferred sign; yet each pair is first matched to the pixel, and the scatter that is left sets its weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from soct.space import Array

BIN_PX = 4
MAX_PAIRS = 400
MAX_SEARCH_PX = 8
CHUNK = 4096


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

    def design(self, orders: tuple[int, int], shape: tuple[int, int]) -> Array:
        """Build the matrix (m, k) from cosine coefficients, row-major without the first, to ratios.

        Parameters
        ----------
        orders : tuple of int
            How many orders along y and x.
        shape : tuple of int
            Tile shape that the coefficients belong to.
        """
        design = _cosines(self.first, orders, shape)
        design -= _cosines(self.second, orders, shape)
        return design.reshape(len(design), -1)[:, 1:]

    def normal_equations(self, design: Array, start: Array) -> tuple[Array, Array]:
        """Weighted normal matrix (k, k) and right side (k,) for orthonormal cosine coefficients.

        Its last bits depend on the number of BLAS threads: the caller holds that at one.

        Parameters
        ----------
        design : ndarray (m, k)
            From `design`.
        start : ndarray (k,)
            Current coefficients; residuals from them set the robust weights.
        """
        residual = self.ratio - design @ start
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
        matrix = np.zeros((design.shape[1], design.shape[1]))
        for at in range(0, len(design), CHUNK):
            rows = design[at : at + CHUNK] * np.sqrt(weight[at : at + CHUNK, None])
            matrix += rows.T @ rows
        return matrix, np.asarray((weight * self.ratio) @ design)


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


def _cosines(points: Array, orders: tuple[int, int], shape: tuple[int, int]) -> Array:
    """Orthonormal cosine basis (m, rows, columns) at pixel positions."""
    y, x = (
        np.cos(np.pi / n * (points[:, axis, None] + 0.5) * np.arange(k))
        * np.where(np.arange(k) == 0, np.sqrt(1 / n), np.sqrt(2 / n))
        for axis, (k, n) in enumerate(zip(orders, shape, strict=True))
    )
    return np.asarray(y[:, :, None] * x[:, None])
