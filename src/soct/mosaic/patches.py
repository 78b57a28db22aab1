"""Any image onto any canvas: resampled to canvas pixels, then mixed in as a running weighted mean.

`shift_patch` serves images that are only moved, with the stitcher's separable kernel (`soct.mosaic.rendering`);
`map_patch` those that are mapped affinely, with 4 x 4 taps of the same cubic convolution. Both give a patch of canvas
pixels with weights that fade over a ramp at the image's borders, and `blend_patch` mixes it in:

    mean += weight / (sum of weights so far) x (value - mean)

so that one image alone is stored as it is, equal images stay what they are, and there is nothing to divide by at
the end. "No data" is NaN, and weight 0.

Arrays are ``(row, column)``; matrices map points ``(x, y)`` in pixel-edge coordinates (the centre of the first pixel is
``(0.5, 0.5)``), as `soct.spectral` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.mosaic.rendering import (
    _add_tile,
    _add_tile_with_gaps,
    _mean_beside_gap,
    interpolation_taps,
)
from soct.space import FloatArray

MARGIN = 2
"""Pixels by which `continued` goes on beyond an image: what the taps reach."""

_NOTHING = np.zeros((1, 1), np.float32)
_LEAST_DISTANCE = 1e-2


@dataclass(frozen=True)
class Patch:
    """Part of an image on canvas pixels.

    Attributes
    ----------
    values, weights : float32 ndarray (rows, columns)
        Where the weight is 0, the value means nothing (it is finite).
    """

    values: FloatArray
    weights: FloatArray


def continued(
    image: NDArray[Any], row0: int, row1: int, full_scale: float = 1.0
) -> tuple[FloatArray, bool]:
    """Rows of an image with `MARGIN` more pixels on each side, which go on linearly beyond the image.

    Parameters
    ----------
    image : ndarray (h, w)
        Any real type.
    row0, row1 : int
        Rows wanted, within the image.
    full_scale : float
        Value that becomes 1.

    Returns
    -------
    float32 ndarray (row1 - row0 + 2 MARGIN, w + 2 MARGIN)
        Its row 0 is image row ``row0 - MARGIN``.
    bool
        Whether any value is missing (not finite).
    """
    h, w = image.shape
    first, stop = max(row0 - MARGIN, 0), min(row1 + MARGIN, h)
    out = np.empty((row1 - row0 + 2 * MARGIN, w + 2 * MARGIN), np.float32)
    top = first - (row0 - MARGIN)
    bottom = top + stop - first
    inner = out[top:bottom, MARGIN:-MARGIN]
    inner[:] = image[first:stop]
    if full_scale != 1.0:
        inner /= np.float32(full_scale)
    with np.errstate(invalid="ignore", over="ignore"):
        _continue_lines(out[top:bottom].T, MARGIN, MARGIN + w)
        _continue_lines(out, top, bottom)
        # A sum is a number only where all of its parts are; whole numbers always are.
        gaps = image.dtype.kind == "f" and not np.isfinite(out.sum())
    return out, bool(gaps)


def _continue_lines(lines: FloatArray, first: int, stop: int) -> None:
    """Fill the lines before `first` and from `stop` on along the slope of the two next to them."""
    slope = lines[first] - lines[first + 1] if stop - first > 1 else np.float32(0.0)
    for k in range(first):
        lines[k] = lines[first] + np.float32(first - k) * slope
    slope = lines[stop - 1] - lines[stop - 2] if stop - first > 1 else np.float32(0.0)
    for k in range(stop, len(lines)):
        lines[k] = lines[stop - 1] + np.float32(k - stop + 1) * slope


def border_ramp(length: int, start: float, count: int, first: int, ramp_px: float) -> FloatArray:
    """Weight along one axis of canvas pixels ``first .. first + count`` of an image that begins at `start`.

    Rises linearly from the image's edge to 1 at `ramp_px` inside; never 0, so that an image alone covers its pixels.
    """
    centre = first + np.arange(count) + 0.5
    distance = np.minimum(centre - start, start + length - centre)
    return _ramp(distance, ramp_px)


def _ramp(distance: NDArray[np.float64], ramp_px: float) -> FloatArray:
    inside = np.maximum(distance, _LEAST_DISTANCE)
    return np.minimum(inside / max(ramp_px, _LEAST_DISTANCE), 1.0).astype(np.float32)


def shift_patch(
    image: NDArray[Any],
    position: tuple[float, float],
    rect: tuple[int, int, int, int],
    ramp_px: float,
    full_scale: float = 1.0,
) -> Patch:
    """Resample an image that is only moved.

    Parameters
    ----------
    image : ndarray (h, w)
        Any real type, NaN for no data.
    position : (float, float)
        Point ``(x, y)`` on the canvas where the image's top-left corner lies.
    rect : (y0, y1, x0, x1)
        Canvas pixels wanted; their centres must lie within the image.
    ramp_px : float
        Width of the ramp at the image's borders.
    full_scale : float
        Value of the image that becomes 1.
    """
    (x, y), (y0, y1, x0, x1) = position, rect
    h, w = image.shape
    # Fractions are those of the whole image: a band of it gives the pixels that the whole would.
    row, ty = _split(y0, y)
    column, tx = _split(x0, x)
    low, high = max(row, 0), min(row + y1 - y0 + 1, h)
    source, gaps = continued(image, low, high, full_scale)
    weights = np.multiply.outer(
        border_ramp(h, y, y1 - y0, y0, ramp_px), border_ramp(w, x, x1 - x0, x0, ramp_px)
    )
    # Laid out in memory as bands of a mosaic are, so that one compiled kernel serves both.
    values = np.zeros((1, y1 - y0, x1 - x0 + 1), np.float32)[:, :, :-1]
    ones = np.ones(weights.shape, np.float32)
    arguments = (
        source[None], _NOTHING, _NOTHING, False, np.float32(1.0), ty, tx,
        row - low + MARGIN, column + MARGIN, ones, values,
    )  # fmt: skip
    if not gaps:
        _add_tile(*arguments)
        return Patch(values[0], weights)
    have = np.zeros((1, y1 - y0, x1 - x0 + 1), np.float32)[:, :, :-1]
    _add_tile_with_gaps(*arguments, have)
    return Patch(values[0], weights * have[0])


def _split(pixel: int, start: float) -> tuple[int, NDArray[np.float32]]:
    """Pixel of the image at or before a canvas pixel, and the taps for what is left."""
    offset = np.floor(-start + 1e-9)
    fraction = max(-start - offset, 0.0)
    return int(pixel + offset), interpolation_taps(fraction)


def map_patch(
    image: NDArray[Any],
    to_image: NDArray[np.float64],
    rect: tuple[int, int, int, int],
    ramp_px: float,
    full_scale: float = 1.0,
) -> Patch:
    """Resample an image that is mapped affinely.

    Parameters
    ----------
    image : ndarray (h, w)
        Any real type, NaN for no data.
    to_image : float64 ndarray (2, 3)
        Canvas point ``(x, y, 1)`` to point of the image.
    rect : (y0, y1, x0, x1)
        Canvas pixels wanted.
    ramp_px : float
        Width of the ramp at the image's borders, in pixels of the image.
    full_scale : float
        Value of the image that becomes 1.
    """
    y0, y1, x0, x1 = rect
    h, w = image.shape
    corners = np.array([[x, y, 1.0] for x in (x0 + 0.5, x1 - 0.5) for y in (y0 + 0.5, y1 - 0.5)])
    v = (corners @ to_image.T)[:, 1]
    low = min(max(int(np.floor(v.min())) - 1, 0), h - 1)
    high = max(min(int(np.ceil(v.max())) + 1, h), low + 1)
    source, gaps = continued(image, low, high, full_scale)
    values = np.zeros((y1 - y0, x1 - x0), np.float32)
    weights = np.zeros_like(values)
    ramp = np.float32(max(ramp_px, _LEAST_DISTANCE))
    matrix = np.ascontiguousarray(to_image, np.float64)
    _map_rows(source, low - MARGIN, h, w, matrix, y0, x0, ramp, values, weights)
    if gaps:
        _fill_gaps(source, low - MARGIN, matrix, y0, x0, values, weights)
    return Patch(values, weights)


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
def _map_rows(
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
def _fill_gaps(
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
            value = _mean_beside_gap(
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


@njit(cache=True, nogil=True, parallel=True)
def blend_patch(
    values: Any, weights: Any, mean: Any, total: Any
) -> None:  # pragma: no cover - compiled
    """Mix a patch into the weighted mean so far, and add its weights to their sum."""
    rows, columns = values.shape
    least = np.float32(1e-30)
    for y in prange(rows):
        for x in range(columns):
            w = weights[y, x]
            whole = total[y, x] + w
            mean[y, x] += w / max(whole, least) * (values[y, x] - mean[y, x])
            total[y, x] = whole
