"""The compiled heart of `newton`: what one row of pixels adds to the objective and its derivatives.

Sums run over one image row at a time and rows are added by the caller. A row is first gathered into a dense
buffer and then summed, so that the sums vectorise; within a row they are single precision. Rows are shared among
the threads, and each is summed by one, so that the bytes are the same for any number of them.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.registration.contrast import BoolArray
from soct.space import FloatArray

Matrix = NDArray[np.float64]

# n, f, m, ff, fm, mm | my f, mx f (times 1, dx) | my m, mx m (1, dx) | my, mx (1, dx) | products of fixed and
# moving gradients yy, yx, xx (1, dx, dx^2)
_SUMS = 27
_BLOCK = 16
_WORTH_THREADS_PX = 150_000


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _find_places(
    fixed_valid: BoolArray,
    moving_valid: BoolArray,
    shape: tuple[int, int],
    matrix: Matrix,
    y: int,
    places: NDArray[np.int32],
    shares: FloatArray,
) -> int:  # pragma: no cover - compiled
    """Fill ``(x, flat index of the moving pixel)`` and the shares ``(t, u)`` of the next; the number of them.

    `moving_valid` is flat; a pixel counts where its four moving neighbours are valid.
    """
    w = fixed_valid.shape[0]
    hm, wm = shape
    slope_y, slope_x = matrix[0, 1], matrix[1, 1]
    from_y = matrix[0, 0] * y + matrix[0, 2]
    from_x = matrix[1, 0] * y + matrix[1, 2]
    columns, at, along_x, along_y = places[0], places[1], shares[0], shares[1]
    # Without a branch first, so that it vectorises; then only the usable ones are kept, in place.
    for x in range(w):
        qy = min(max(from_y + slope_y * x, 0.0), float(hm))
        qx = min(max(from_x + slope_x * x, 0.0), float(wm))
        iy, ix = np.int32(qy), np.int32(qx)
        inside = (qy >= 1.0) & (qx >= 1.0) & (qy < hm - 2) & (qx < wm - 2)
        at[x] = iy * np.int32(wm) + ix if inside else np.int32(-1)
        along_x[x] = np.float32(qx - ix)
        along_y[x] = np.float32(qy - iy)
    right, below, across = np.uintp(1), np.uintp(wm), np.uintp(wm + 1)
    n = 0
    for x in range(1, w - 1):
        if at[x] < 0 or not fixed_valid[x]:
            continue
        # Unsigned indices: numba then leaves out the test for negative ones at every load.
        i = np.uintp(at[x])
        if not (
            moving_valid[i]
            and moving_valid[i + right]
            and moving_valid[i + below]
            and moving_valid[i + across]
        ):
            continue
        columns[n], at[n], along_x[n], along_y[n] = x, at[x], along_x[x], along_y[x]
        n += 1
    return n


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _interpolate(
    b0: np.float32, b1: np.float32, b2: np.float32, b3: np.float32, t: np.float32
) -> tuple[np.float32, np.float32]:  # pragma: no cover - compiled
    """Value and slope of a cubic B-spline at `t` between the middle two of four coefficients."""
    c05, c2, c3 = np.float32(0.5), np.float32(2.0), np.float32(3.0)
    c4, sixth = np.float32(4.0), np.float32(1 / 6)
    k0 = sixth * (b0 + c4 * b1 + b2)
    k1 = c05 * (b2 - b0)
    k2 = c05 * (b0 + b2) - b1
    k3 = sixth * (b3 - b0) + c05 * (b1 - b2)
    return ((k3 * t + k2) * t + k1) * t + k0, (c3 * k3 * t + c2 * k2) * t + k1


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _along_row(
    moving: FloatArray,
    ahead: int,
    start: int,
    stop: int,
    shares: FloatArray,
    value: FloatArray,
    slope: FloatArray,
) -> None:  # pragma: no cover - compiled
    """Interpolate pixels `start` to `stop`, whose samples follow each other from ``ahead + start`` on."""
    one, two, three = np.uintp(1), np.uintp(2), np.uintp(3)
    for i in range(start, stop):
        p = np.uintp(ahead + i)
        to = np.uintp(i)
        value[to], slope[to] = _interpolate(
            moving[p], moving[p + one], moving[p + two], moving[p + three], shares[to]
        )


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sample_moving(
    moving: FloatArray,
    width: int,
    places: NDArray[np.int32],
    shares: FloatArray,
    n: int,
    taps: FloatArray,
    row: FloatArray,
) -> None:  # pragma: no cover - compiled
    """Fill m, m_y and m_x; `moving` is flat, `taps` has room for the values and slopes of four rows."""
    at, share_x = places[1], shares[0]
    v0, v1, v2, v3 = taps[0], taps[1], taps[2], taps[3]
    s0, s1, s2, s3 = taps[4], taps[5], taps[6], taps[7]
    i = 0
    while i < n:
        # Over small angles, long runs of pixels have their samples side by side.
        j = i + 1
        while j < n and at[j] == at[j - 1] + 1:
            j += 1
        ahead = at[i] - width - 1 - i
        _along_row(moving, ahead, i, j, share_x, v0, s0)
        _along_row(moving, ahead + width, i, j, share_x, v1, s1)
        _along_row(moving, ahead + 2 * width, i, j, share_x, v2, s2)
        _along_row(moving, ahead + 3 * width, i, j, share_x, v3, s3)
        i = j
    value, along_y, along_x, share = row[2], row[3], row[4], shares[1]
    for i in range(n):
        value[i], along_y[i] = _interpolate(v0[i], v1[i], v2[i], v3[i], share[i])
        along_x[i], _ = _interpolate(s0[i], s1[i], s2[i], s3[i], share[i])


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sample_fixed(
    fixed: FloatArray, matrix: Matrix, y: int, columns: NDArray[np.int32], n: int, row: FloatArray
) -> None:  # pragma: no cover - compiled
    """Fill x, f, f_y and f_x; the gradient is turned into the moving frame, the linear part being near a rotation."""
    half, one = np.float32(0.5), np.uintp(1)
    r00, r01 = np.float32(matrix[0, 0]), np.float32(matrix[0, 1])
    r10, r11 = np.float32(matrix[1, 0]), np.float32(matrix[1, 1])
    above, here, below = fixed[y - 1], fixed[y], fixed[y + 1]
    to_x, value, along_y, along_x = row[0], row[1], row[5], row[6]
    for i in range(n):
        x = np.uintp(columns[i])
        ey = half * (below[x] - above[x])
        ex = half * (here[x + one] - here[x - one])
        to_x[i] = columns[i]
        value[i] = here[x]
        along_y[i] = r00 * ey + r01 * ex
        along_x[i] = r10 * ey + r11 * ex


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sum_row(
    row: FloatArray, n: int, centre_x: float, scale: float, out: Matrix
) -> None:  # pragma: no cover - compiled
    """Write the 27 sums of a sampled row; the offset along x is ``(x - centre_x) / scale``."""
    middle, unit = np.float32(centre_x), np.float32(1.0 / scale)
    z = np.float32(0)
    sf, sm, ff, fm, mm = z, z, z, z, z
    yf, yfd, xf, xfd, ym, ymd, xm, xmd, y0, yd, x0, xd = z, z, z, z, z, z, z, z, z, z, z, z
    yy0, yy1, yy2, yx0, yx1, yx2, xx0, xx1, xx2 = z, z, z, z, z, z, z, z, z
    for i in range(n):
        d = (row[0, i] - middle) * unit
        f, m = row[1, i], row[2, i]
        my, mx = row[3, i], row[4, i]
        fy, fx = row[5, i], row[6, i]
        sf += f
        sm += m
        ff += f * f
        fm += f * m
        mm += m * m
        v = my * f
        yf += v
        yfd += v * d
        v = mx * f
        xf += v
        xfd += v * d
        v = my * m
        ym += v
        ymd += v * d
        v = mx * m
        xm += v
        xmd += v * d
        y0 += my
        yd += my * d
        x0 += mx
        xd += mx * d
        v = fy * my
        yy0 += v
        v *= d
        yy1 += v
        yy2 += v * d
        v = np.float32(0.5) * (fy * mx + fx * my)
        yx0 += v
        v *= d
        yx1 += v
        yx2 += v * d
        v = fx * mx
        xx0 += v
        v *= d
        xx1 += v
        xx2 += v * d
    out[0], out[1], out[2], out[3], out[4], out[5] = n, sf, sm, ff, fm, mm
    out[6], out[7], out[8], out[9] = yf, yfd, xf, xfd
    out[10], out[11], out[12], out[13] = ym, ymd, xm, xmd
    out[14], out[15], out[16], out[17] = y0, yd, x0, xd
    out[18], out[19], out[20] = yy0, yy1, yy2
    out[21], out[22], out[23] = yx0, yx1, yx2
    out[24], out[25], out[26] = xx0, xx1, xx2


def first_rows(planes: int, step: int) -> NDArray[np.int64]:
    """First row used of each plane: planes are looked at between each other's rows."""
    return np.arange(planes, dtype=np.int64) * step // planes


@njit(cache=True, nogil=True)
def _sum_rows(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: Matrix,
    centre_x: float,
    scale: float,
    place: tuple[int, int, int],
    out: Matrix,
) -> None:  # pragma: no cover - compiled
    """Fill the sums of some rows of one plane; `place` is the first row, the step and the plane's height."""
    first, step, h = place
    w = fixed.shape[1]
    flat, flat_valid = moving.reshape(-1), moving_valid.reshape(-1)
    places = np.empty((2, w), dtype=np.int32)
    shares = np.empty((2, w), dtype=np.float32)
    taps = np.empty((8, w), dtype=np.float32)
    # x, f, m, m_y, m_x, f_y, f_x of the usable pixels.
    row = np.empty((7, w), dtype=np.float32)
    for r in range(out.shape[0]):
        y = first + r * step
        if y < 1 or y > h - 2:
            continue
        n = _find_places(fixed_valid[y], flat_valid, moving.shape, matrix, y, places, shares)
        if n > 0:
            _sample_moving(flat, moving.shape[1], places, shares, n, taps, row)
            _sample_fixed(fixed, matrix, y, places[0], n, row)
            _sum_row(row, n, centre_x, scale, out[r])


@njit(cache=True, nogil=True)
def _on_one_thread(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: Matrix,
    centre_x: float,
    scale: float,
    step: int,
    first: NDArray[np.int64],
    out: Matrix,
) -> None:  # pragma: no cover - compiled
    h = fixed.shape[1]
    for p in range(fixed.shape[0]):
        _sum_rows(
            fixed[p],
            fixed_valid[p],
            moving[p],
            moving_valid[p],
            matrix,
            centre_x,
            scale,
            (first[p], step, h),
            out[p],
        )


@njit(cache=True, nogil=True, parallel=True)
def _on_all_threads(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: Matrix,
    centre_x: float,
    scale: float,
    step: int,
    first: NDArray[np.int64],
    out: Matrix,
) -> None:  # pragma: no cover - compiled
    k, rows, _ = out.shape
    h = fixed.shape[1]
    blocks = (rows + _BLOCK - 1) // _BLOCK
    for index in prange(k * blocks):
        p = index // blocks
        r = (index % blocks) * _BLOCK
        _sum_rows(
            fixed[p],
            fixed_valid[p],
            moving[p],
            moving_valid[p],
            matrix,
            centre_x,
            scale,
            (first[p] + r * step, step, h),
            out[p, r : r + _BLOCK],
        )


def row_sums(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: Matrix,
    centre_x: float,
    scale: float,
    step: int,
) -> Matrix:
    """Add up every `step`-th row of each plane from `first_rows` on, ``(k, rows, 27)``."""
    k, h, w = fixed.shape
    rows = -(-h // step)
    out = np.zeros((k, rows, _SUMS))
    # Waking the other threads takes longer than a short pass.
    pass_over = _on_all_threads if k * rows * w >= _WORTH_THREADS_PX else _on_one_thread
    first = first_rows(k, step)
    pass_over(fixed, fixed_valid, moving, moving_valid, matrix, centre_x, scale, step, first, out)
    return out
