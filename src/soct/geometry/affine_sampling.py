"""Windows of an image seen through an affine map, bilinear, each output pixel computed once.

A matrix here maps output indices ``(x, y, 1)`` (columns, rows) to source indices; index 0 is the centre of the first pixel.
A pixel sees the image where its centre lies on it, edges included: half a pixel beyond the outer pixel centres, where
the outer pixels go on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soct.space import FloatArray

# What rounding does to a point that lies on the image's edge must not decide.
_EDGE = 0.5 + 1e-9


@njit(cache=True, nogil=True, inline="always")
def _sees(x: float, y: float, width: int, height: int) -> bool:  # pragma: no cover - compiled
    return -_EDGE <= x <= width - 1 + _EDGE and -_EDGE <= y <= height - 1 + _EDGE


@njit(cache=True, nogil=True)
def _sample(
    image: Any, matrix: Any, out: Any
) -> tuple[float, int, int]:  # pragma: no cover - compiled
    """Fill what is seen; return the sum and number of the finite values, and how many pixels see the image."""
    height, width = image.shape
    total = 0.0
    count = 0
    seen = 0
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            x = matrix[0, 0] * c + matrix[0, 1] * r + matrix[0, 2]
            y = matrix[1, 0] * c + matrix[1, 1] * r + matrix[1, 2]
            if not _sees(x, y, width, height):
                continue
            x = min(max(x, 0.0), width - 1.0)
            y = min(max(y, 0.0), height - 1.0)
            x0 = int(x)
            y0 = int(y)
            fx = np.float32(x - x0)
            fy = np.float32(y - y0)
            # A weight of 0 must not let a NaN in.
            x1 = x0 + 1 if fx > 0.0 else x0
            y1 = y0 + 1 if fy > 0.0 else y0
            one = np.float32(1.0)
            upper = (one - fx) * image[y0, x0] + fx * image[y0, x1]
            lower = (one - fx) * image[y1, x0] + fx * image[y1, x1]
            value = (one - fy) * upper + fy * lower
            out[r, c] = value
            seen += 1
            if np.isfinite(value):
                total += value
                count += 1
    return total, count, seen


@njit(cache=True, nogil=True)
def _span(start: float, size: int, count: int) -> tuple[int, int]:  # pragma: no cover - compiled
    """First and last + 1 of `count` steps from `start` that see an axis of `size` samples."""
    first = int(np.ceil(-_EDGE - start))
    stop = int(np.floor(size - 1 + _EDGE - start)) + 1
    first = min(max(first, 0), count)
    return first, min(max(stop, first), count)


# Sums in any order, so that they run on several pixels at once; NaN stays what it is.
@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _sample_shifted(
    image: Any, x: float, y: float, out: Any
) -> tuple[float, int, int]:  # pragma: no cover - compiled
    """Do what `_sample` does for a shift alone, ten times as fast: all pixels have the same weights."""
    height, width = image.shape
    top, bottom = _span(y, height, out.shape[0])
    left, right = _span(x, width, out.shape[1])
    one = np.float32(1.0)
    nothing = np.float32(0.0)
    ix = int(np.floor(x))
    fx = np.float32(x - ix)
    step = 1 if fx > 0.0 else 0
    # Where both columns lie in the image; beside it the outer one stands for both.
    inner_left = min(max(left, -ix), right)
    inner_right = max(min(right, width - step - ix), inner_left)
    total: Any = 0.0
    count = 0
    for r in range(top, bottom):
        at = min(max(y + r, 0.0), height - 1.0)
        y0 = int(at)
        fy = np.float32(at - y0)
        y1 = y0 + 1 if fy > 0.0 else y0
        for c in range(left, inner_left):
            out[r, c] = (one - fy) * image[y0, 0] + fy * image[y1, 0]
        for c in range(inner_left, inner_right):
            upper = (one - fx) * image[y0, c + ix] + fx * image[y0, c + ix + step]
            lower = (one - fx) * image[y1, c + ix] + fx * image[y1, c + ix + step]
            out[r, c] = (one - fy) * upper + fy * lower
        for c in range(inner_right, right):
            out[r, c] = (one - fy) * image[y0, width - 1] + fy * image[y1, width - 1]
        for c in range(left, right):
            there = abs(out[r, c]) < np.inf
            total += out[r, c] if there else nothing
            count += 1 if there else 0
    return total, count, (bottom - top) * (right - left)


@njit(cache=True, nogil=True)
def _fill_outside(
    matrix: Any, width: int, height: int, value: float, out: Any
) -> None:  # pragma: no cover - compiled
    for r in range(out.shape[0]):
        for c in range(out.shape[1]):
            x = matrix[0, 0] * c + matrix[0, 1] * r + matrix[0, 2]
            y = matrix[1, 0] * c + matrix[1, 1] * r + matrix[1, 2]
            if not _sees(x, y, width, height):
                out[r, c] = value


def sample_affine(
    image: FloatArray,
    matrix: NDArray[np.float64],
    shape: tuple[int, int],
    outside: float | None = None,
) -> tuple[FloatArray, int]:
    """Look at an image through an affine map.

    Parameters
    ----------
    image : float32 ndarray (rows, columns)
    matrix : float64 ndarray (2, 3)
        Maps output indices ``(x, y)`` to indices ``(x, y)`` of the image.
    shape : (int, int)
        Rows and columns of the result.
    outside : float, optional
        Value of pixels that do not see the image; None: the mean of those that do (0 where none does).

    Returns
    -------
    values : float32 ndarray `shape`
    seen : int
        How many pixels see the image.
    """
    out = np.empty(shape, np.float32)
    source = np.asarray(image)
    moves = np.ascontiguousarray(matrix, np.float64)
    if np.array_equal(moves[:, :2], np.eye(2)):
        total, count, seen = _sample_shifted(source, moves[0, 2], moves[1, 2], out)
    else:
        total, count, seen = _sample(source, moves, out)
    if seen < out.size:
        value = (total / count if count else 0.0) if outside is None else outside
        _fill_outside(moves, source.shape[1], source.shape[0], value, out)
    return out, seen
