"""Any image onto any canvas: resampled to canvas pixels, then mixed in as a running weighted mean.

`shift_patch` serves images that are only moved, with the stitcher's separable kernels (`soct.mosaic.shift_kernels`);
`map_patch` those that are mapped affinely (`soct.mosaic.affine_cubic`). Both give a patch of canvas
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

from soct.mosaic.affine_cubic import MARGIN, fill_gaps, map_rows
from soct.mosaic.shift_kernels import (
    add_tile,
    add_tile_with_gaps,
    interpolation_taps,
)
from soct.space import FloatArray

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
        add_tile(*arguments)
        return Patch(values[0], weights)
    have = np.zeros((1, y1 - y0, x1 - x0 + 1), np.float32)[:, :, :-1]
    add_tile_with_gaps(*arguments, have)
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
    map_rows(source, low - MARGIN, h, w, matrix, y0, x0, ramp, values, weights)
    if gaps:
        fill_gaps(source, low - MARGIN, matrix, y0, x0, values, weights)
    return Patch(values, weights)


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
