"""The kernels of tile and stack rendering over an array module: CuPy on a GPU, numpy as the plain reference.

Each function does what the compiled kernel of the same name in `soct.mosaic.rendering` and
`soct.mosaic.stack_rendering` does; values agree within 2e-5 of the greatest absolute value (sums are taken in
another order), masks exactly but for voxels whose weight is at a limit. ``xp`` is the array module of all arrays
given; outputs are changed in place.

Arrays follow `soct.space`.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def correct_shading(xp: Any, tile: Any, dark: Any, scale: Any, gain: float) -> Any:
    """Return ``(tile - dark) * scale * gain``; within 2e-6, relatively, of any other order of the three."""
    out = tile - dark
    out *= scale
    out *= xp.float32(gain)
    return out


def _continued(xp: Any, values: Any, axis: int) -> Any:
    """Add one sample before and two after an axis: a linear continuation, then the last one again."""
    n = values.shape[axis]
    first = xp.take(values, xp.asarray([0]), axis=axis)
    last = xp.take(values, xp.asarray([n - 1]), axis=axis)
    before, after = first, last
    if n > 1:
        before = xp.float32(2) * first - xp.take(values, xp.asarray([1]), axis=axis)
        after = xp.float32(2) * last - xp.take(values, xp.asarray([n - 2]), axis=axis)
    return xp.concatenate([before, values, after, after], axis=axis)


def add_tile(
    xp: Any,
    tile: Any,
    dark: Any,
    scale: Any,
    flat: bool,
    gain: float,
    taps_y: Any,
    taps_x: Any,
    y0: int,
    x0: int,
    weight: Any,
    out: Any,
) -> None:
    """Add ``weight x tile``, interpolated from tile pixel ``(y0, x0)`` on, to every plane of `out`."""
    out += weight * _interpolate(
        xp, tile, dark, scale, flat, gain, taps_y, taps_x, y0, x0, weight.shape
    )


def _interpolate(
    xp: Any,
    tile: Any,
    dark: Any,
    scale: Any,
    flat: bool,
    gain: float,
    taps_y: Any,
    taps_x: Any,
    y0: int,
    x0: int,
    shape: tuple[int, int],
) -> Any:
    """Return the corrected tile at ``shape`` pixels from ``(y0, x0)`` on; NaN where a tap touches NaN."""
    rows, columns = shape
    values = correct_shading(xp, tile, dark, scale, gain) if flat else tile * xp.float32(gain)
    values = _continued(xp, values, 2)
    across = xp.zeros((tile.shape[0], values.shape[1], columns), xp.float32)
    for b in range(4):
        if taps_x[b] != 0:
            across += xp.float32(taps_x[b]) * values[:, :, x0 + b : x0 + b + columns]
    across = _continued(xp, across, 1)
    down = xp.zeros((tile.shape[0], rows, columns), xp.float32)
    for a in range(4):
        if taps_y[a] != 0:
            down += xp.float32(taps_y[a]) * across[:, y0 + a : y0 + a + rows]
    return down


def add_tile_with_gaps(
    xp: Any,
    tile: Any,
    dark: Any,
    scale: Any,
    flat: bool,
    gain: float,
    taps_y: Any,
    taps_x: Any,
    y0: int,
    x0: int,
    weight: Any,
    out: Any,
    have: Any,
) -> None:
    """As `add_tile`, for a tile with NaN: near a gap only the two nearest samples per axis count.

    `have` sums the weights with data.
    """
    _, h, w = tile.shape
    rows, columns = weight.shape
    mean = _interpolate(xp, tile, dark, scale, flat, gain, taps_y, taps_x, y0, x0, weight.shape)
    whole = xp.isfinite(mean)
    if not bool(whole.all()):
        known = xp.isfinite(tile)
        values = xp.where(known, tile, xp.float32(0))
        if flat:
            values = xp.where(known, correct_shading(xp, values, dark, scale, 1.0), xp.float32(0))
        ty, tx = (np.asarray([float(v) for v in taps], np.float32) for taps in (taps_y, taps_x))
        fy, fx = (float(t[2] + t[3] - t[0]) for t in (ty, tx))
        total, norm = xp.zeros(out.shape, xp.float32), xp.zeros(out.shape, xp.float32)
        for a, tap_y in enumerate((1 - fy, fy)):
            r = xp.minimum(xp.arange(rows) + (y0 + a), h - 1)[:, None]
            for b, tap_x in enumerate((1 - fx, fx)):
                c = xp.minimum(xp.arange(columns) + (x0 + b), w - 1)[None, :]
                tap = xp.float32(tap_y * tap_x)
                if tap > 0:
                    total += tap * values[:, r, c]
                    norm += tap * known[:, r, c]
        good = norm >= xp.float32(0.5)
        near = xp.float32(gain) * total / xp.where(good, norm, xp.float32(1))
        mean = xp.where(whole, mean, near)
        whole |= good
    out += xp.where(whole, weight * mean, xp.float32(0))
    have += xp.where(whole, weight + xp.zeros_like(mean), xp.float32(0))


def settle(xp: Any, out: Any, total: Any, have: Any) -> None:
    """NaN where no tile has data; where some tiles lack it, the others' weights are made whole."""
    nothing = xp.broadcast_to(total <= 0, out.shape)
    if have.shape[0] == out.shape[0]:
        short = (have > 0) & (have < xp.float32(1.0 - 1e-5))
        out /= xp.where(short, have, xp.float32(1))
        nothing = nothing | (have <= 0)
    out[nothing] = xp.nan


def _keys(xp: Any, t: Any) -> list[Any]:
    t2 = t * t
    t3 = t2 * t
    return [
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    ]


def resample_plane(
    xp: Any,
    plane: Any,
    plane_z: int,
    valid: Any,
    row0: int,
    matrix: Any,
    y0: int,
    cubic: bool,
    gain: float,
    floor: float,
    cap: float,
    ramp_px: float,
    lateral: Any,
    values: Any,
    weights: Any,
) -> None:
    """One source plane onto the output rows ``y0 ..``: values, and their weight without the SNR."""
    sy, sx = plane.shape
    ny, nx = values.shape
    m = [[float(v) for v in row] for row in matrix]
    i = xp.arange(ny, dtype=xp.float64)[:, None] + y0
    j = xp.arange(nx, dtype=xp.float64)[None, :]
    fy = m[0][0] * i + m[0][1] * j + (m[0][2] - row0)
    fx = m[1][0] * i + m[1][1] * j + m[1][2]
    inside = (fy >= -0.5) & (fx >= -0.5) & (fy <= sy - 0.5) & (fx <= sx - 0.5)
    by, bx = xp.floor(fy).astype(xp.int64), xp.floor(fx).astype(xp.int64)
    ty, tx = fy - by, fx - bx
    known = (valid[0] <= plane_z) & (valid[1] > plane_z)
    source = xp.where(known, xp.minimum(plane, xp.float32(cap)), xp.float32(0))

    def tap(y: Any, x: Any) -> tuple[Any, Any]:
        there = (y >= 0) & (x >= 0) & (y < sy) & (x < sx)
        at = xp.clip(y, 0, sy - 1), xp.clip(x, 0, sx - 1)
        return source[at], known[at] & there

    total, norm = xp.zeros((ny, nx)), xp.zeros((ny, nx))
    for a in range(2):
        for b in range(2):
            value, good = tap(by + a, bx + b)
            w = xp.where(good, (ty if a else 1.0 - ty) * (tx if b else 1.0 - tx), 0.0)
            total += w * value
            norm += w
    enough = norm >= 0.5
    total /= xp.where(enough, norm, 1.0)
    if cubic:
        wy, wx = _keys(xp, ty), _keys(xp, tx)
        sharp, whole = xp.zeros((ny, nx)), inside.copy()
        for a in range(4):
            for b in range(4):
                value, good = tap(by + (a - 1), bx + (b - 1))
                whole &= good
                sharp += wy[a] * wx[b] * value
        total = xp.where(whole, sharp, total)
        enough |= whole
    seen = inside & enough
    ry = xp.clip(xp.floor(fy + 0.5).astype(xp.int64), 0, sy - 1)
    rx = xp.clip(xp.floor(fx + 0.5).astype(xp.int64), 0, sx - 1)
    w = lateral[ry, rx].astype(xp.float64)
    w = xp.where(w > 0, w, 1e-3)
    if ramp_px > 0:
        top = (plane_z - valid[0].astype(xp.float64)[ry, rx] + 1.0) / (ramp_px + 1.0)
        bottom = (valid[1].astype(xp.float64)[ry, rx] - plane_z) / (ramp_px + 1.0)
        for t in (top, bottom):
            ramp = xp.maximum(0.5 - 0.5 * xp.cos(np.pi * xp.maximum(t, 0.0)), 1e-3)
            w = xp.where(t < 1.0, w * ramp, w)
    values[...] = xp.where(seen, (total - floor) * gain, 0.0)
    weights[...] = xp.where(seen, w, 0.0)


def accumulate(
    xp: Any,
    low: Any,
    low_weight: Any,
    high: Any,
    high_weight: Any,
    fraction: float,
    snr: float,
    numerator: Any,
    denominator: Any,
) -> None:
    """Mix two resampled planes linearly and add them, weighted, to an output plane."""
    both = (low_weight > 0) & (high_weight > 0)
    f = xp.float32(fraction)
    one = low_weight if fraction <= 0.5 else high_weight
    value = low if fraction <= 0.5 else high
    w = xp.where(both, (1 - f) * low_weight + f * high_weight, one) * xp.float32(snr)
    v = xp.where(both, (1 - f) * low + f * high, value)
    w = xp.where(both | (one > 0), w, xp.float32(0))
    numerator += w * v
    denominator += w
