"""Kernels of the pyramid: taking planes in, their histogram, and exact means over blocks of valid voxels.

Every parallel loop runs over independent outputs, and sums over a block are taken in one order, in double
precision: the result does not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.space import FloatArray

# A float32 without its 16 lowest bits: 128 bins per factor of two, from the smallest to the largest value.
HISTOGRAM_BINS = 1 << 15
SMALLEST = np.finfo(np.float32).tiny
_ROW_STEP = 4
_GROUPS = 8


@njit(cache=True, nogil=True, parallel=True)
def take_planes(
    planes: FloatArray, valid: NDArray[np.bool_], data: FloatArray, mask: NDArray[np.uint8]
) -> None:
    """Copy planes: 0 where there are no data, positive elsewhere.

    Parameters
    ----------
    planes : ndarray of float32, shape (n, Y, X)
        Values that are not finite count as no data.
    valid : ndarray of bool, shape (n, Y, X)
        Where there are data.
    data, mask : ndarray of float32 and uint8, shape (n, Y, X)
        Written.
    """
    n, n_y, n_x = planes.shape
    smallest = np.float32(SMALLEST)
    for row in prange(n * n_y):
        z, y = row // n_y, row % n_y
        for x in range(n_x):
            value = planes[z, y, x]
            if valid[z, y, x] and np.isfinite(value):
                data[z, y, x] = max(value, smallest)
                mask[z, y, x] = 1
            else:
                data[z, y, x] = 0.0
                mask[z, y, x] = 0


@njit(cache=True, nogil=True, parallel=True)
def count_values(
    bits: NDArray[np.uint32], mask: NDArray[np.uint8], counts: NDArray[np.int64]
) -> None:
    """Add every fourth row of planes to a histogram.

    Parameters
    ----------
    bits : ndarray of uint32, shape (n, Y, X)
        Positive float32 values, seen as integers.
    mask : ndarray of uint8, shape (n, Y, X)
        Only voxels where it is set count.
    counts : ndarray of int64, shape (groups, HISTOGRAM_BINS)
        Added to; whole numbers, so their sum over groups does not depend on the order.
    """
    n, n_y, n_x = bits.shape
    n_groups = counts.shape[0]
    for group in prange(n_groups):
        for z in range(n):
            for y in range(group * _ROW_STEP, n_y, n_groups * _ROW_STEP):
                for x in range(n_x):
                    if mask[z, y, x]:
                        counts[group, bits[z, y, x] >> np.uint32(16)] += 1


@njit(cache=True, nogil=True, parallel=True)
def reduce_planes(
    data: FloatArray,
    mask: NDArray[np.uint8],
    factors: tuple[int, int, int],
    depth: int,
    total: NDArray[np.float64],
    count: NDArray[np.int32],
    means: FloatArray,
    any_valid: NDArray[np.uint8],
) -> None:
    """Add planes to the blocks that they fall into, and write the means of the blocks that become complete.

    Parameters
    ----------
    data, mask : ndarray of float32 and uint8, shape (n, Y, X)
        Values, 0 where `mask` is 0.
    factors : tuple of int
        Size ``(z, y, x)`` of a block; those at the far edges may be smaller.
    depth : int
        Planes that the unfinished blocks hold already.
    total, count : ndarray of float64 and int32, shape (ceil(Y / y), ceil(X / x))
        Sums and numbers of valid voxels of the unfinished blocks; updated.
    means, any_valid : ndarray of float32 and uint8, shape (m, ceil(Y / y), ceil(X / x))
        Written: means over valid voxels, 0 where there are none. With more planes than the complete blocks
        need, the last one gets the unfinished blocks.
    """
    n, n_y, n_x = data.shape
    factor_z, factor_y, factor_x = factors
    n_blocks = total.shape[1]
    smallest = np.float32(SMALLEST)
    for row in prange(total.shape[0]):
        held = depth
        written = 0
        for z in range(n + 1):
            if held == factor_z or (z == n and written < means.shape[0]):
                for block in range(n_blocks):
                    number = count[row, block]
                    if number > 0:
                        mean = np.float32(total[row, block] / number)
                        means[written, row, block] = max(mean, smallest)
                        any_valid[written, row, block] = 1
                    else:
                        means[written, row, block] = 0.0
                        any_valid[written, row, block] = 0
                    total[row, block] = 0.0
                    count[row, block] = 0
                written += 1
                held = 0
            if z == n:
                break
            for y in range(row * factor_y, min((row + 1) * factor_y, n_y)):
                for block in range(n_blocks):
                    value = 0.0
                    number = 0
                    for x in range(block * factor_x, min((block + 1) * factor_x, n_x)):
                        value += data[z, y, x]
                        number += mask[z, y, x]
                    total[row, block] += value
                    count[row, block] += number
            held += 1


def new_histogram() -> NDArray[np.int64]:
    """Return an empty histogram for `count_values`."""
    return np.zeros((_GROUPS, HISTOGRAM_BINS), np.int64)


def percentile(counts: NDArray[np.int64], percent: float) -> float:
    """Return the value below which `percent` of the counted voxels lie, to better than 1 %; 0 without any."""
    cumulative = counts.sum(axis=0).cumsum()
    if cumulative[-1] == 0:
        return 0.0
    rank = max(1, int(np.ceil(cumulative[-1] * percent / 100)))
    bin_index = np.uint32(np.searchsorted(cumulative, rank))
    middle = np.array([(bin_index << np.uint32(16)) + np.uint32(1 << 15)], np.uint32)
    return float(middle.view(np.float32)[0])
