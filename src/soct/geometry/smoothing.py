"""Gaussian smoothing of a block of A-lines in which some samples are no data.

Sums of values and of weights run through the same separable passes, so a voxel is the mean of what is known about it.
Beyond the block's faces the outermost samples go on. Threads share planes or rows, never a voxel: the result
does not depend on their number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.space import Array, FloatArray

_LEAST_WEIGHT = np.float32(0.05)


def gaussian_taps(sigma_px: float, truncate: float = 3.0) -> NDArray[np.float32]:
    """Return the weights of a sampled Gaussian, an odd number that sums to one."""
    reach = int(truncate * sigma_px + 0.5)
    at = np.arange(-reach, reach + 1)
    taps = np.exp(-0.5 * (at / sigma_px) ** 2) if reach else np.ones(1)
    return (taps / taps.sum()).astype(np.float32)


@njit(cache=True, nogil=True)
def _smooth_row(row: Any, taps: Any, padded: Any, out: Any) -> None:  # pragma: no cover - compiled
    reach = taps.size // 2
    n = row.size
    for x in range(reach):
        padded[x] = row[0]
        padded[reach + n + x] = row[n - 1]
    for x in range(n):
        padded[reach + x] = row[x]
        out[x] = np.float32(0.0)
    for k in range(taps.size):
        tap = taps[k]
        for x in range(n):
            out[x] += tap * padded[x + k]


@njit(cache=True, nogil=True)
def _mix_rows(rows: Any, at: int, taps: Any, out: Any) -> None:  # pragma: no cover - compiled
    """``out = sum of taps x rows`` around row `at`, the first and last rows going on."""
    reach = taps.size // 2
    n, width = rows.shape
    for x in range(width):
        out[x] = np.float32(0.0)
    for k in range(taps.size):
        r = min(max(at + k - reach, 0), n - 1)
        tap = taps[k]
        for x in range(width):
            out[x] += tap * rows[r, x]


@njit(cache=True, nogil=True, parallel=True)
def _smooth_planes(
    data: Any, known: Any, taps_y: Any, taps_x: Any, total: Any, weight: Any
) -> None:  # pragma: no cover - compiled
    """Smooth every plane; without `known` (no planes) every sample counts, and no weights are made."""
    nz, h, w = data.shape
    masked = known.shape[0] == nz
    for z in prange(nz):
        row = np.empty(w, np.float32)
        share = np.empty(w, np.float32)
        padded = np.empty(w + taps_x.size - 1, np.float32)
        across = np.empty((h, w), np.float32)
        shares = np.empty((h if masked else 0, w), np.float32)
        for y in range(h):
            if masked:
                for x in range(w):
                    here = known[z, y, x]
                    row[x] = data[z, y, x] if here else np.float32(0.0)
                    share[x] = np.float32(1.0) if here else np.float32(0.0)
                _smooth_row(row, taps_x, padded, across[y])
                _smooth_row(share, taps_x, padded, shares[y])
            else:
                _smooth_row(data[z, y], taps_x, padded, across[y])
        for y in range(h):
            _mix_rows(across, y, taps_y, total[z, y])
            if masked:
                _mix_rows(shares, y, taps_y, weight[z, y])


@njit(cache=True, nogil=True, parallel=True)
def _smooth_depths(
    total: Any, weight: Any, taps_z: Any, least: Any, out: Any
) -> None:  # pragma: no cover - compiled
    nz, h, w = total.shape
    masked = weight.shape[0] == nz
    for y in prange(h):
        share = np.empty(w, np.float32)
        for z in range(nz):
            _mix_rows(total[:, y], z, taps_z, out[z, y])
            if masked:
                _mix_rows(weight[:, y], z, taps_z, share)
                for x in range(w):
                    enough = share[x] > least
                    out[z, y, x] = out[z, y, x] / share[x] if enough else np.float32(np.nan)


def smooth_block(
    data: Array, known: NDArray[np.bool_], sigma_px: tuple[float, float, float]
) -> FloatArray:
    """Smooth a block, counting only what is known.

    Parameters
    ----------
    data : ndarray (z, y, x)
    known : bool ndarray (z, y, x)
    sigma_px : tuple of float
        Gaussian sigma along z, y, x, cut off at three of it.

    Returns
    -------
    ndarray (z, y, x) float32
        NaN where hardly anything known is near.
    """
    data = np.ascontiguousarray(data, np.float32)
    taps_z, taps_y, taps_x = (gaussian_taps(sigma) for sigma in sigma_px)
    whole = bool(known.all())
    shape = (0, *data.shape[1:]) if whole else data.shape
    total, weight = np.empty_like(data), np.empty(shape, np.float32)
    mask = np.ascontiguousarray(known[:0] if whole else known)
    _smooth_planes(data, mask, taps_y, taps_x, total, weight)
    out = np.empty_like(data)
    _smooth_depths(total, weight, taps_z, _LEAST_WEIGHT, out)
    return out
