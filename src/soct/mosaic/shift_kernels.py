"""Kernels that lay shifted tiles on a canvas: separable interpolation, four taps along x and then four along y.

A tile's shift is constant, so the taps are too. Beyond the tile's edge they see a linear continuation, so a ramp is reproduced
exactly. One pass over the tile applies the flat field, the gain and the weights as well. Threads share planes, or bands of
rows where planes are few, never a voxel: the result does not depend on their number.

The kernels for a GPU are those of `soct.mosaic.rendering_arrays`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

Interpolation = Literal["cubic", "linear", "nearest"]


def interpolation_taps(fraction: float, method: Interpolation = "cubic") -> NDArray[np.float32]:
    """Weights of the samples at -1, 0, 1 and 2 for a position between 0 and 1.

    Parameters
    ----------
    fraction : float
        In [0, 1).
    method : {"cubic", "linear", "nearest"}
        Keys' cubic convolution (sharp), two taps, or one.
    """
    t = float(fraction)
    if method == "nearest":
        return np.array([0, t < 0.5, t >= 0.5, 0], np.float32)
    if method == "linear":
        return np.array([0, 1 - t, t, 0], np.float32)
    if method != "cubic":
        raise ValueError(f"there is no interpolation {method!r}; choose cubic, linear or nearest")
    return np.array(
        [
            -0.5 * t**3 + t**2 - 0.5 * t,
            1.5 * t**3 - 2.5 * t**2 + 1.0,
            -1.5 * t**3 + 2.0 * t**2 + 0.5 * t,
            0.5 * t**3 - 0.5 * t**2,
        ],
        np.float32,
    )


@njit(cache=True, nogil=True)
def _filter_row(
    tile: Any,
    r: int,
    dark: Any,
    scale: Any,
    flat: bool,
    gain: Any,
    taps: Any,
    x0: int,
    row: Any,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """One row of a plane: corrected, then interpolated along x from tile column `x0` on."""
    w = tile.shape[1]
    if flat:
        for x in range(w):
            row[x + 1] = (tile[r, x] - dark[r, x]) * scale[r, x] * gain
    else:
        for x in range(w):
            row[x + 1] = tile[r, x] * gain
    row[0] = row[1]
    row[w + 1] = row[w]
    if w > 1:
        row[0] = np.float32(2.0) * row[1] - row[2]
        row[w + 1] = np.float32(2.0) * row[w] - row[w - 1]
    row[w + 2] = row[w + 1]
    a, b, c, d = taps[0], taps[1], taps[2], taps[3]
    n = out.size
    if b == 1.0:
        for x in range(n):
            out[x] = row[x0 + x + 1]
    else:
        for x in range(n):
            out[x] = (
                a * row[x0 + x] + b * row[x0 + x + 1] + c * row[x0 + x + 2] + d * row[x0 + x + 3]
            )


@njit(cache=True, nogil=True)
def _fill_ring(
    plane: Any,
    r: int,
    dark: Any,
    scale: Any,
    flat: bool,
    gain: Any,
    taps_x: Any,
    x0: int,
    row: Any,
    ring: Any,
) -> None:  # pragma: no cover - compiled
    """Filter tile row `r` along x into its place among four rows; beyond the tile rows go on linearly."""
    h = plane.shape[0]
    columns = ring.shape[1]
    slot = (r + 4) % 4
    one = ring[(slot + 3) % 4]
    two = ring[(slot + 2) % 4]
    if r < h:
        # Before the first row, rows 1 and 0 are needed; both are filtered again when their turn comes.
        last = 1 if r < 0 and h > 1 else 0
        for k in range(last, -1, -1):
            into = ring[(slot + k) % 4]
            _filter_row(plane, max(r, 0) + k, dark, scale, flat, gain, taps_x, x0, row, into)
        one = ring[slot]
        two = ring[(slot + 1) % 4]
        if not last:
            return
    elif r > h or h == 1:
        two = one
    for x in range(columns):
        ring[slot, x] = np.float32(2.0) * one[x] - two[x]


@njit(cache=True, nogil=True)
def _filter_column(ring: Any, t: int, taps: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Interpolate along y between the rows around tile row `t`."""
    ra = ring[(t + 3) % 4]
    rb = ring[t % 4]
    rc = ring[(t + 1) % 4]
    rd = ring[(t + 2) % 4]
    a, b, c, d = taps[0], taps[1], taps[2], taps[3]
    if b == 1.0:
        for x in range(out.size):
            out[x] = rb[x]
    else:
        for x in range(out.size):
            out[x] = a * ra[x] + b * rb[x] + c * rc[x] + d * rd[x]


# A single plane is shared out to threads by bands of rows; each costs three rows that its neighbour filters too.
_BAND_ROWS = 128
_MANY_PLANES = 8


@njit(cache=True, nogil=True)
def _bands(nz: int, rows: int) -> int:  # pragma: no cover - compiled
    """Into how many bands of rows a plane is cut; the result does not depend on it."""
    return 1 if nz >= _MANY_PLANES else max(1, (rows + _BAND_ROWS - 1) // _BAND_ROWS)


@njit(cache=True, nogil=True, parallel=True)
def add_tile(
    tile: Any,
    dark: Any,
    scale: Any,
    flat: bool,
    gain: Any,
    taps_y: Any,
    taps_x: Any,
    y0: int,
    x0: int,
    weight: Any,
    out: Any,
) -> None:  # pragma: no cover - compiled
    """Add ``weight x tile``, interpolated from tile pixel ``(y0, x0)`` on, to every plane of `out`."""
    nz = tile.shape[0]
    rows, columns = weight.shape
    bands = _bands(nz, rows)
    for part in prange(nz * bands):
        z = part // bands
        first = rows * (part % bands) // bands
        stop = rows * (part % bands + 1) // bands
        row = np.empty(tile.shape[2] + 3, np.float32)
        ring = np.empty((4, columns), np.float32)
        ready = y0 + first - 1
        for m in range(first, stop):
            while ready <= y0 + m + 2:
                _fill_ring(tile[z], ready, dark, scale, flat, gain, taps_x, x0, row, ring)
                ready += 1
            t = y0 + m
            ra = ring[(t + 3) % 4]
            rb = ring[t % 4]
            rc = ring[(t + 1) % 4]
            rd = ring[(t + 2) % 4]
            a, b, c, d = taps_y[0], taps_y[1], taps_y[2], taps_y[3]
            if b == 1.0:
                for x in range(columns):
                    out[z, m, x] += weight[m, x] * rb[x]
            else:
                for x in range(columns):
                    out[z, m, x] += weight[m, x] * (a * ra[x] + b * rb[x] + c * rc[x] + d * rd[x])


@njit(cache=True, nogil=True)
def mean_beside_gap(
    plane: Any,
    dark: Any,
    scale: Any,
    flat: bool,
    fy: Any,
    fx: Any,
    y: int,
    x: int,
) -> Any:  # pragma: no cover - compiled
    """Mean of the two nearest samples per axis, by distance; NaN where less than half of it is known."""
    h, w = plane.shape
    total = np.float32(0.0)
    norm = np.float32(0.0)
    for a in range(2):
        r = min(y + a, h - 1)
        for b in range(2):
            c = min(x + b, w - 1)
            tap = (fy if a else np.float32(1.0) - fy) * (fx if b else np.float32(1.0) - fx)
            v = plane[r, c]
            if tap <= 0.0 or not np.isfinite(v):
                continue
            if flat:
                v = (v - dark[r, c]) * scale[r, c]
            total += tap * v
            norm += tap
    return total / norm if norm >= 0.5 else np.float32(np.nan)


@njit(cache=True, nogil=True, parallel=True)
def add_tile_with_gaps(
    tile: Any,
    dark: Any,
    scale: Any,
    flat: bool,
    gain: Any,
    taps_y: Any,
    taps_x: Any,
    y0: int,
    x0: int,
    weight: Any,
    out: Any,
    have: Any,
) -> None:  # pragma: no cover - compiled
    """As `add_tile`, for a tile with NaN; `have` sums the weights with data.

    A voxel that any tap without data would touch is NaN at first, and then takes the samples that are there.
    """
    nz = tile.shape[0]
    rows, columns = weight.shape
    bands = _bands(nz, rows)
    fy = taps_y[2] + taps_y[3] - taps_y[0]
    fx = taps_x[2] + taps_x[3] - taps_x[0]
    for part in prange(nz * bands):
        z = part // bands
        first = rows * (part % bands) // bands
        stop = rows * (part % bands + 1) // bands
        row = np.empty(tile.shape[2] + 3, np.float32)
        ring = np.empty((4, columns), np.float32)
        line = np.empty(columns, np.float32)
        ready = y0 + first - 1
        for m in range(first, stop):
            while ready <= y0 + m + 2:
                _fill_ring(tile[z], ready, dark, scale, flat, gain, taps_x, x0, row, ring)
                ready += 1
            _filter_column(ring, y0 + m, taps_y, line)
            for x in range(columns):
                v = line[x]
                if not np.isfinite(v):
                    v = gain * mean_beside_gap(tile[z], dark, scale, flat, fy, fx, y0 + m, x0 + x)
                if np.isfinite(v):
                    out[z, m, x] += weight[m, x] * v
                    have[z, m, x] += weight[m, x]


# Shares add up to 1 but for rounding. Where they do, nothing is divided, so that a pixel does not depend on
# whether other tiles of its band have gaps.
_WHOLE = np.float32(1.0 - 1e-5)


@njit(cache=True, nogil=True, parallel=True)
def settle(out: Any, total: Any, have: Any) -> None:  # pragma: no cover - compiled
    """NaN where no tile has data; where some tiles lack it, the others' weights are made whole."""
    nz, rows, columns = out.shape
    gaps = have.shape[0] == nz
    for z in prange(nz):
        for y in range(rows):
            for x in range(columns):
                if total[y, x] <= 0.0:
                    out[z, y, x] = np.nan
                elif gaps:
                    whole = have[z, y, x]
                    if whole <= 0.0:
                        out[z, y, x] = np.nan
                    elif whole < _WHOLE:
                        out[z, y, x] /= whole


@njit(cache=True, nogil=True, parallel=True)
def planes_with_gaps(tile: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Say of every plane whether a value is missing in it."""
    nz, h, w = tile.shape
    for z in prange(nz):
        total = np.float32(0.0)
        for y in range(h):
            for x in range(w):
                # 0 x NaN and 0 x inf are NaN, so the sum tells.
                total += tile[z, y, x] * np.float32(0.0)
        out[z] = total != 0.0
