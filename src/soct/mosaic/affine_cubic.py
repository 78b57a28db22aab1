"""Sampling an image at the pixels of a canvas that is mapped to it affinely: Keys' cubic convolution, 4 x 4 taps.

Pixels in a line of the canvas find their samples in a line of the image. As long as that line stays between the same two rows,
and its columns do not slip against the canvas, all taps are read one after the other from four rows, and vector
instructions do eight pixels at a time; a turn by 0.01 slips once in a hundred pixels. Beyond a slope of a quarter, pixels
are sampled one by one.

The matrix maps canvas points ``(x, y)`` to those of the image, in pixel-edge coordinates. Threads share rows, never a pixel.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from soct.mosaic.shift_kernels import mean_beside_gap

MARGIN = 2
"""Pixels by which a source goes on beyond the image: what the taps reach."""


@njit(cache=True, nogil=True, inline="always")
def _along(p: Any, q: Any, r: Any, s: Any, a: Any, c: Any, d: Any) -> Any:  # pragma: no cover
    """Four samples with taps a, 1 - a - c - d, c, d: exact where they are equal."""
    return q + (a * (p - q) + c * (r - q) + d * (s - q))


@njit(cache=True, nogil=True, inline="always")
def _outer_taps(t: Any) -> tuple[Any, Any, Any]:  # pragma: no cover - compiled
    """Keys' cubic convolution (a = -1/2) at -1, 1 and 2; what is left to 1 is the tap at 0."""
    half, one = np.float32(0.5), np.float32(1.0)
    return (
        half * t * (t * (np.float32(2.0) - t) - one),
        half * t * (t * (np.float32(4.0) - np.float32(3.0) * t) + one),
        half * t * t * (t - one),
    )


@njit(cache=True, nogil=True, inline="always")
def _border_weight(u: Any, v: Any, w: Any, h: Any, scale: Any) -> Any:  # pragma: no cover
    least, one = np.float32(0.01), np.float32(1.0)
    across = min(max(min(u, w - u), least) * scale, one)
    return across * min(max(min(v, h - v), least) * scale, one)


@njit(cache=True, nogil=True)
def _pixels_inside(
    start: float, step: float, limit: float, count: int
) -> tuple[int, int]:  # pragma: no cover - compiled
    """First and last + 1 of `count` steps with ``0 <= start + step j < limit``."""
    first, stop = 0, count
    if step != 0.0:
        ends = -start / step, (limit - start) / step
        low, high = min(ends[0], ends[1]), max(ends[0], ends[1])
        first = int(max(0.0, min(np.floor(low), count)))
        stop = int(max(0.0, min(np.ceil(high) + 1.0, count)))
    # One too many at each end at most, and all where the step is 0: settled by the condition itself.
    while first < stop and not 0.0 <= start + step * first < limit:
        first += 1
    while stop > first and not 0.0 <= start + step * (stop - 1) < limit:
        stop -= 1
    return first, stop


@njit(cache=True, nogil=True)
def _steps_left(x: float, step: float) -> int:  # pragma: no cover - compiled
    """Count the steps until `x`, a fraction, has left 0..1; a hair beyond does no harm."""
    left = np.inf
    if step > 0.0:
        left = (1.0 - x) / step
    elif step < 0.0:
        left = -x / step
    return max(1, int(np.ceil(left))) if left < 1e9 else 1000000000


@njit(cache=True, nogil=True)
def _map_segment(
    source: Any,
    row: int,
    column: int,
    t0: Any,
    dt: Any,
    s0: Any,
    ds: Any,
    u0: Any,
    du: Any,
    v0: Any,
    w: Any,
    h: Any,
    scale: Any,
    values: Any,
    weights: Any,
) -> None:  # pragma: no cover - compiled
    """Canvas pixels in a line whose samples lie in a line too, without a jump: vector instructions do it."""
    n = values.size
    stop = column + n + 3
    ra, rb = source[row, column:stop], source[row + 1, column:stop]
    rc, rd = source[row + 2, column:stop], source[row + 3, column:stop]
    for j in range(n):
        f = np.float32(j)
        a, c, d = _outer_taps(t0 + dt * f)
        pa = _along(ra[j], ra[j + 1], ra[j + 2], ra[j + 3], a, c, d)
        pb = _along(rb[j], rb[j + 1], rb[j + 2], rb[j + 3], a, c, d)
        pc = _along(rc[j], rc[j + 1], rc[j + 2], rc[j + 3], a, c, d)
        pd = _along(rd[j], rd[j + 1], rd[j + 2], rd[j + 3], a, c, d)
        a, c, d = _outer_taps(s0 + ds * f)
        values[j] = _along(pa, pb, pc, pd, a, c, d)
        weights[j] = _border_weight(u0 + du * f, v0 + ds * f, w, h, scale)


@njit(cache=True, nogil=True)
def _map_pixel(source: Any, row: int, column: int, t: Any, s: Any) -> Any:  # pragma: no cover
    a, c, d = _outer_taps(t)
    p = source[row : row + 4, column : column + 4]
    pa = _along(p[0, 0], p[0, 1], p[0, 2], p[0, 3], a, c, d)
    pb = _along(p[1, 0], p[1, 1], p[1, 2], p[1, 3], a, c, d)
    pc = _along(p[2, 0], p[2, 1], p[2, 2], p[2, 3], a, c, d)
    pd = _along(p[3, 0], p[3, 1], p[3, 2], p[3, 3], a, c, d)
    a, c, d = _outer_taps(s)
    return _along(pa, pb, pc, pd, a, c, d)


# Beyond this slope, pixels in a line find their samples in a line only for a few at a time.
_STEEP = 0.25


@njit(cache=True, nogil=True, parallel=True)
def map_rows(
    source: Any,
    row0: int,
    h: int,
    w: int,
    matrix: Any,
    y0: int,
    x0: int,
    ramp: Any,
    values: Any,
    weights: Any,
) -> None:  # pragma: no cover - compiled
    """Sample the image at the centre of every canvas pixel that lies in it; row 0 of the source is image row `row0`."""
    rows, columns = values.shape
    du, dv = matrix[0, 0], matrix[1, 0]
    height, width = np.float32(h), np.float32(w)
    scale = np.float32(1.0) / ramp
    is_steep = abs(dv) + abs(du - 1.0) > _STEEP
    for m in prange(rows):
        y, x = y0 + m + 0.5, x0 + 0.5
        u0 = matrix[0, 0] * x + (matrix[0, 1] * y + matrix[0, 2])
        v0 = matrix[1, 0] * x + (matrix[1, 1] * y + matrix[1, 2])
        in_u, in_v = _pixels_inside(u0, du, w, columns), _pixels_inside(v0, dv, h, columns)
        j, stop = max(in_u[0], in_v[0]), min(in_u[1], in_v[1])
        while j < stop:
            u, v = u0 + du * j, v0 + dv * j
            # The sample at or before is one less (`int` rounds down what is positive), the first tap two less.
            column, row = int(u + 0.5), int(v + 0.5)
            t, s = u + 0.5 - column, v + 0.5 - row
            column += MARGIN - 2
            row -= row0 + 2
            if is_steep:
                values[m, j] = _map_pixel(source, row, column, np.float32(t), np.float32(s))
                weights[m, j] = _border_weight(np.float32(u), np.float32(v), width, height, scale)
                j += 1
                continue
            n = min(stop - j, _steps_left(t, du - 1.0), _steps_left(s, dv))
            _map_segment(
                source,
                row,
                column,
                np.float32(t),
                np.float32(du - 1.0),
                np.float32(s),
                np.float32(dv),
                np.float32(u),
                np.float32(du),
                np.float32(v),
                width,
                height,
                scale,
                values[m, j : j + n],
                weights[m, j : j + n],
            )
            j += n


@njit(cache=True, nogil=True, parallel=True)
def fill_gaps(
    source: Any, row0: int, matrix: Any, y0: int, x0: int, values: Any, weights: Any
) -> None:  # pragma: no cover - compiled
    """Where a sample is missing, take those that are there; without enough of them the weight is 0."""
    rows, columns = values.shape
    for m in prange(rows):
        for j in range(columns):
            if weights[m, j] <= 0.0 or np.isfinite(values[m, j]):
                continue
            x, y = x0 + j + 0.5, y0 + m + 0.5
            fx = matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] + (MARGIN - 0.5)
            fy = matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] - (row0 + 0.5)
            column, row = int(np.floor(fx)), int(np.floor(fy))
            value = mean_beside_gap(
                source,
                source,
                source,
                False,
                np.float32(fy - row),
                np.float32(fx - column),
                row,
                column,
            )
            if not np.isfinite(value):
                value = np.float32(0.0)
                weights[m, j] = 0.0
            values[m, j] = value
