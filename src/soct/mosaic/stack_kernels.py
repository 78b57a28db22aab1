"""Compiled kernels of stack rendering: rows of output through all planes of a slice, and the mean of all slices.

What does not change with depth (where an output voxel lies in the slice, its neighbours' depth range, its weight at
the border) is worked out once for a row, not once for each of its planes. Rows are independent of each other, so
results do not depend on the number of threads. `soct.mosaic.rendering_arrays` is the same over an array module.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

_HALF = 0.5
_LEAST = 1e-3
"""Weight of a voxel at the very end of a ramp: data that nothing else covers still count."""
_OUTSIDE, _EDGE, _INSIDE = 0, 1, 2
"""Of an output voxel: beyond the slice, with neighbours beyond it (or more than four), with all four within."""


@njit(cache=True, nogil=True)
def _keys(t: float) -> tuple[float, float, float, float]:  # pragma: no cover - compiled
    """Keys' cubic convolution weights (a = -1/2) for a fraction t in [0, 1)."""
    t2 = t * t
    t3 = t2 * t
    return (
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    )


@njit(cache=True, nogil=True)
def _sample(
    plane: Any, k: int, valid: Any, by: int, bx: int, ty: float, tx: float, cubic: bool, cap: float
) -> tuple[bool, float]:  # pragma: no cover - compiled
    """Interpolate slice plane ``k`` where not all neighbours need hold data; whether half of the weight does."""
    sy, sx = plane.shape
    if cubic and by >= 1 and bx >= 1 and by + 2 < sy and bx + 2 < sx:
        wy = _keys(ty)
        wx = _keys(tx)
        good = True
        total = 0.0
        for a in range(4):
            for b in range(4):
                yy = by - 1 + a
                xx = bx - 1 + b
                if k < valid[0, yy, xx] or k >= valid[1, yy, xx]:
                    good = False
                else:
                    total += wy[a] * wx[b] * min(plane[yy, xx], cap)
        if good:
            return True, total
    total = 0.0
    norm = 0.0
    for a in range(2):
        for b in range(2):
            yy = by + a
            xx = bx + b
            if yy < 0 or xx < 0 or yy >= sy or xx >= sx:
                continue
            if k < valid[0, yy, xx] or k >= valid[1, yy, xx]:
                continue
            w = (ty if a else 1.0 - ty) * (tx if b else 1.0 - tx)
            total += w * min(plane[yy, xx], cap)
            norm += w
    if norm < _HALF:
        return False, 0.0
    return True, total / norm


@njit(cache=True, nogil=True)
def _locate_row(
    valid: Any,
    row0: int,
    matrix: Any,
    y: int,
    cubic: bool,
    lateral: Any,
    kinds: Any,
    corners: Any,
    fractions: Any,
    held: Any,
    own: Any,
    border: Any,
) -> None:  # pragma: no cover - compiled
    """Work out what the voxels of the output row ``y`` see of a slice, whatever the plane.

    `corners` and `fractions` are the upper left neighbour ``(y, x)`` and how far beyond it; `held` the planes in
    which all four neighbours hold data, `own` those in which the nearest does, and `border` its weight.
    """
    sy, sx = lateral.shape
    for j in range(kinds.shape[0]):
        fy = matrix[0, 0] * y + matrix[0, 1] * j + matrix[0, 2] - row0
        fx = matrix[1, 0] * y + matrix[1, 1] * j + matrix[1, 2]
        kinds[j] = _OUTSIDE
        if fy < -0.5 or fx < -0.5 or fy > sy - 0.5 or fx > sx - 0.5:
            continue
        by = int(np.floor(fy))
        bx = int(np.floor(fx))
        corners[0, j] = by
        corners[1, j] = bx
        fractions[0, j] = fy - by
        fractions[1, j] = fx - bx
        ry = min(max(int(np.floor(fy + 0.5)), 0), sy - 1)
        rx = min(max(int(np.floor(fx + 0.5)), 0), sx - 1)
        own[0, j] = valid[0, ry, rx]
        own[1, j] = valid[1, ry, rx]
        border[j] = lateral[ry, rx] if lateral[ry, rx] > 0.0 else _LEAST
        kinds[j] = _EDGE
        if not cubic and by >= 0 and bx >= 0 and by + 1 < sy and bx + 1 < sx:
            kinds[j] = _INSIDE
            held[0, j] = max(
                max(valid[0, by, bx], valid[0, by, bx + 1]),
                max(valid[0, by + 1, bx], valid[0, by + 1, bx + 1]),
            )
            held[1, j] = min(
                min(valid[1, by, bx], valid[1, by, bx + 1]),
                min(valid[1, by + 1, bx], valid[1, by + 1, bx + 1]),
            )
            if (
                valid[1, by, bx] <= valid[0, by, bx]
                and valid[1, by, bx + 1] <= valid[0, by, bx + 1]
                and valid[1, by + 1, bx] <= valid[0, by + 1, bx]
                and valid[1, by + 1, bx + 1] <= valid[0, by + 1, bx + 1]
            ):
                kinds[j] = _OUTSIDE


@njit(cache=True, nogil=True)
def _resample_row(
    plane: Any,
    k: int,
    valid: Any,
    cubic: bool,
    gain: float,
    floor: float,
    cap: float,
    ramp: Any,
    kinds: Any,
    corners: Any,
    fractions: Any,
    held: Any,
    own: Any,
    border: Any,
    values: Any,
    weights: Any,
) -> None:  # pragma: no cover - compiled
    """Slice plane ``k`` onto a row that was located: values, and their weight without the SNR."""
    longest = ramp.shape[0] - 1
    for j in range(values.shape[0]):
        values[j] = 0.0
        weights[j] = 0.0
        if kinds[j] == _OUTSIDE:
            continue
        by = corners[0, j]
        bx = corners[1, j]
        ty = fractions[0, j]
        tx = fractions[1, j]
        if kinds[j] == _INSIDE and k >= held[0, j] and k < held[1, j]:
            r = np.uint32(by)
            c = np.uint32(bx)
            w00 = (1.0 - ty) * (1.0 - tx)
            w01 = (1.0 - ty) * tx
            w10 = ty * (1.0 - tx)
            w11 = ty * tx
            total = w00 * min(plane[r, c], cap)
            total += w01 * min(plane[r, c + np.uint32(1)], cap)
            total += w10 * min(plane[r + np.uint32(1), c], cap)
            total += w11 * min(plane[r + np.uint32(1), c + np.uint32(1)], cap)
        else:
            found, total = _sample(plane, k, valid, by, bx, ty, tx, cubic, cap)
            if not found:
                continue
        w = border[j]
        top = k - own[0, j] + 1
        bottom = own[1, j] - k
        if top < longest:
            w *= ramp[max(top, 0)]
        if bottom < longest:
            w *= ramp[max(bottom, 0)]
        values[j] = (total - floor) * gain
        weights[j] = w


@njit(cache=True, nogil=True)
def _ramp(length: float) -> Any:  # pragma: no cover - compiled
    """Return the weights of the first planes with data of an A-line, by their number from 1 on; 1 beyond."""
    n = int(np.ceil(length)) + 1 if length > 0.0 else 0
    weights = np.ones(n + 1, np.float64)
    for i in range(n + 1):
        t = i / (length + 1.0)
        if length > 0.0 and t < 1.0:
            weights[i] = max(0.5 - 0.5 * np.cos(np.pi * t), _LEAST)
    return weights


@njit(cache=True, nogil=True)
def _mix_row(
    low: Any,
    low_weight: Any,
    high: Any,
    high_weight: Any,
    fraction: float,
    snr: float,
    numerator: Any,
    denominator: Any,
) -> None:  # pragma: no cover - compiled
    """Mix two resampled rows linearly and add them, weighted, to an output row."""
    # Without branches, so that it runs on several voxels at a time.
    near = fraction <= _HALF
    for j in range(numerator.shape[0]):
        wl = low_weight[j]
        wh = high_weight[j]
        both = (wl > 0.0) & (wh > 0.0)
        w = (1.0 - fraction) * wl + fraction * wh
        v = (1.0 - fraction) * low[j] + fraction * high[j]
        one = wl if near else wh
        w = w if both else one
        v = v if both else (low[j] if near else high[j])
        numerator[j] += w * snr * v
        denominator[j] += w * snr


@njit(cache=True, nogil=True, parallel=True)
def add_rows(
    block: Any,
    block_z0: int,
    valid: Any,
    row0: int,
    matrices: Any,
    y0: int,
    cubic: bool,
    gain: float,
    floor: float,
    cap: float,
    ramp_px: float,
    lateral: Any,
    targets: Any,
    sources: Any,
    fractions: Any,
    snr: Any,
    numerator: Any,
    denominator: Any,
) -> None:  # pragma: no cover - compiled
    """Add a slice's block to planes of the output.

    Parameters
    ----------
    block : float32 ndarray (sz, sy, sx)
        Planes ``block_z0 ..`` and rows ``row0 ..`` of the slice.
    valid, lateral, cubic, gain, floor, cap, ramp_px, y0
        As for `soct.mosaic.stack_rendering.add_slice`.
    matrices : float64 ndarray (sz, 2, 3) or (1, 2, 3)
        Output to slice pixels of every plane, or of all.
    targets, sources, fractions, snr : ndarray (n,)
        Of every output plane that is reached: its number, the slice plane above, how far it lies below that, and
        the weight.
    numerator, denominator : float32 ndarray (z, y, x)
        Added to.
    """
    nx = numerator.shape[2]
    ramp = _ramp(ramp_px)
    one = matrices.shape[0] == 1
    # Every row through all its planes: threads meet once for a block, not twice for each of its planes.
    for i in prange(numerator.shape[1]):
        kinds = np.empty(nx, np.int8)
        corners = np.empty((2, nx), np.int32)
        parts = np.empty((2, nx), np.float64)
        held = np.empty((2, nx), np.int32)
        own = np.empty((2, nx), np.int32)
        border = np.empty(nx, np.float64)
        if one:
            _locate_row(
                valid, row0, matrices[0], y0 + i, cubic, lateral,
                kinds, corners, parts, held, own, border,
            )  # fmt: skip
        # Two neighbouring source planes, each resampled once: plane k lies in row k % 2.
        values = np.zeros((2, nx), np.float32)
        weights = np.zeros((2, nx), np.float32)
        there = np.full(2, -1000000000, np.int64)
        for n in range(targets.shape[0]):
            low = sources[n]
            high = low + 1 if fractions[n] > 0.0 else low
            for k in range(low, high + 1):
                at = k % 2
                if there[at] == k:
                    continue
                there[at] = k
                m = k - block_z0
                if m < 0 or m >= block.shape[0]:
                    values[at] = 0.0
                    weights[at] = 0.0
                    continue
                if not one:
                    _locate_row(
                        valid, row0, matrices[m], y0 + i, cubic, lateral,
                        kinds, corners, parts, held, own, border,
                    )  # fmt: skip
                _resample_row(
                    block[m], k, valid, cubic, gain, floor, cap, ramp,
                    kinds, corners, parts, held, own, border, values[at], weights[at],
                )  # fmt: skip
            _mix_row(
                values[low % 2],
                weights[low % 2],
                values[high % 2],
                weights[high % 2],
                fractions[n],
                snr[n],
                numerator[targets[n], i],
                denominator[targets[n], i],
            )


@njit(cache=True, nogil=True, parallel=True)
def divide(
    numerator: Any, denominator: Any, values: Any, valid: Any
) -> None:  # pragma: no cover - compiled
    """Divide sums by weights, row by row: 0 and False where nothing was added."""
    nz, ny, nx = numerator.shape
    for row in prange(nz * ny):
        z, y = row // ny, row % ny
        for x in range(nx):
            w = denominator[z, y, x]
            valid[z, y, x] = w > 0.0
            values[z, y, x] = numerator[z, y, x] / w if w > 0.0 else np.float32(0.0)


@njit(cache=True, nogil=True, parallel=True)
def ramp_from_border(footprint: Any, ramp_px: float) -> Any:  # pragma: no cover - compiled
    """Return a raised cosine over the distance from what is not the footprint, which all beyond the image is.

    Distances are exact (separable squares) up to the length of the ramp, where all end.
    """
    ny, nx = footprint.shape
    reach = int(np.ceil(ramp_px + 1.0))
    across = np.empty((ny, nx), np.int32)
    width = 64
    for chunk in prange((nx + width - 1) // width):
        for x in range(chunk * width, min((chunk + 1) * width, nx)):
            across[0, x] = 1 if footprint[0, x] else 0
        for y in range(1, ny):
            for x in range(chunk * width, min((chunk + 1) * width, nx)):
                across[y, x] = min(across[y - 1, x] + 1, reach) if footprint[y, x] else 0
        for x in range(chunk * width, min((chunk + 1) * width, nx)):
            across[ny - 1, x] = min(across[ny - 1, x], 1)
        for y in range(ny - 2, -1, -1):
            for x in range(chunk * width, min((chunk + 1) * width, nx)):
                across[y, x] = min(across[y, x], across[y + 1, x] + 1)
    weights = np.zeros((ny, nx), np.float32)
    for y in prange(ny):
        for x in range(nx):
            nearest = across[y, x] ** 2
            for d in range(1, reach):
                if d * d >= nearest:
                    break
                left = across[y, x - d] if x >= d else 0
                right = across[y, x + d] if x + d < nx else 0
                nearest = min(nearest, d * d + min(left, right) ** 2)
            if nearest > 0:
                t = min(np.sqrt(nearest) / (ramp_px + 1.0), 1.0)
                weights[y, x] = max(0.5 - 0.5 * np.cos(np.pi * t), _LEAST)
    return weights


@njit(cache=True, nogil=True, parallel=True)
def count_data(
    valid: Any, z0: int, first: Any, last: Any, count: Any
) -> Any:  # pragma: no cover - compiled
    """Take planes ``z0 ..`` into the first and last plane with data, and their number, of every A-line.

    Returns
    -------
    int64 ndarray (z,)
        How many voxels of each plane hold data.
    """
    nz, ny, nx = valid.shape
    rows = np.zeros((ny, nz), np.int64)
    for y in prange(ny):
        for z in range(nz):
            for x in range(nx):
                if valid[z, y, x]:
                    first[y, x] = min(first[y, x], z0 + z)
                    last[y, x] = z0 + z
                    count[y, x] += 1
                    rows[y, z] += 1
    return rows.sum(axis=0)
