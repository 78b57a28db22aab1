"""The compiled heart of `newton`: what one row of pixels adds to the objective and its derivatives.

Sums run over one image row at a time and rows are added by the caller. A row is first gathered into a dense
buffer and then summed, so that the sums vectorise; within a row they are single precision. One thread: a
pair takes many short passes, and pairs run side by side.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soct.registration.contrast import BoolArray
from soct.space import FloatArray

Matrix = NDArray[np.float64]

# n, f, m, ff, fm, mm | my f, mx f (times 1, dx) | my m, mx m (1, dx) | my, mx (1, dx) | products of fixed and
# moving gradients yy, yx, xx (1, dx, dx^2)
_SUMS = 27


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _sample_row(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: Matrix,
    y: int,
    row: FloatArray,
) -> int:  # pragma: no cover - compiled
    """Fill ``(x, f, m, m_y, m_x, f_y, f_x)`` of a row's usable pixels; the number of them.

    The fixed gradient is turned into the moving frame, the linear part being near a rotation.
    """
    w = fixed.shape[1]
    hm, wm = moving.shape
    a00, a01, ty = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    a10, a11, tx = matrix[1, 0], matrix[1, 1], matrix[1, 2]
    r00, r01 = np.float32(a00), np.float32(a01)
    r10, r11 = np.float32(a10), np.float32(a11)
    c05, c1, c15 = np.float32(0.5), np.float32(1.0), np.float32(1.5)
    c2, c25, c4 = np.float32(2.0), np.float32(2.5), np.float32(4.0)
    c45, c5 = np.float32(4.5), np.float32(5.0)
    n = 0
    above, here, below = np.uintp(y - 1), np.uintp(y), np.uintp(y + 1)
    for x in range(1, w - 1):
        at = np.uintp(x)
        if not fixed_valid[here, at]:
            continue
        qy = a00 * y + a01 * x + ty
        qx = a10 * y + a11 * x + tx
        if qy < 1.0 or qx < 1.0 or qy >= hm - 2 or qx >= wm - 2:
            continue
        iy = int(qy)
        ix = int(qx)
        # Unsigned indices: numba then leaves out the test for negative ones at every load.
        y0, y1, y2, y3 = np.uintp(iy - 1), np.uintp(iy), np.uintp(iy + 1), np.uintp(iy + 2)
        x0, x1, x2, x3 = np.uintp(ix - 1), np.uintp(ix), np.uintp(ix + 1), np.uintp(ix + 2)
        if not (
            moving_valid[y1, x1]
            and moving_valid[y2, x1]
            and moving_valid[y1, x2]
            and moving_valid[y2, x2]
        ):
            continue
        t = np.float32(qx - ix)
        u = np.float32(qy - iy)
        wx0 = ((c1 - c05 * t) * t - c05) * t
        wx1 = (c15 * t - c25) * t * t + c1
        wx2 = ((c2 - c15 * t) * t + c05) * t
        wx3 = (c05 * t - c05) * t * t
        dx0 = (c2 - c15 * t) * t - c05
        dx1 = (c45 * t - c5) * t
        dx2 = (c4 - c45 * t) * t + c05
        dx3 = (c15 * t - c1) * t
        b0, b1, b2, b3 = moving[y0, x0], moving[y0, x1], moving[y0, x2], moving[y0, x3]
        v0 = wx0 * b0 + wx1 * b1 + wx2 * b2 + wx3 * b3
        g0 = dx0 * b0 + dx1 * b1 + dx2 * b2 + dx3 * b3
        b0, b1, b2, b3 = moving[y1, x0], moving[y1, x1], moving[y1, x2], moving[y1, x3]
        v1 = wx0 * b0 + wx1 * b1 + wx2 * b2 + wx3 * b3
        g1 = dx0 * b0 + dx1 * b1 + dx2 * b2 + dx3 * b3
        b0, b1, b2, b3 = moving[y2, x0], moving[y2, x1], moving[y2, x2], moving[y2, x3]
        v2 = wx0 * b0 + wx1 * b1 + wx2 * b2 + wx3 * b3
        g2 = dx0 * b0 + dx1 * b1 + dx2 * b2 + dx3 * b3
        b0, b1, b2, b3 = moving[y3, x0], moving[y3, x1], moving[y3, x2], moving[y3, x3]
        v3 = wx0 * b0 + wx1 * b1 + wx2 * b2 + wx3 * b3
        g3 = dx0 * b0 + dx1 * b1 + dx2 * b2 + dx3 * b3
        wy0 = ((c1 - c05 * u) * u - c05) * u
        wy1 = (c15 * u - c25) * u * u + c1
        wy2 = ((c2 - c15 * u) * u + c05) * u
        wy3 = (c05 * u - c05) * u * u
        dy0 = (c2 - c15 * u) * u - c05
        dy1 = (c45 * u - c5) * u
        dy2 = (c4 - c45 * u) * u + c05
        dy3 = (c15 * u - c1) * u
        ey = c05 * (fixed[below, at] - fixed[above, at])
        ex = c05 * (fixed[here, np.uintp(x + 1)] - fixed[here, np.uintp(x - 1)])
        row[0, n] = x
        row[1, n] = fixed[here, at]
        row[2, n] = wy0 * v0 + wy1 * v1 + wy2 * v2 + wy3 * v3
        row[3, n] = dy0 * v0 + dy1 * v1 + dy2 * v2 + dy3 * v3
        row[4, n] = wy0 * g0 + wy1 * g1 + wy2 * g2 + wy3 * g3
        row[5, n] = r00 * ey + r01 * ex
        row[6, n] = r10 * ey + r11 * ex
        n += 1
    return n


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


@njit(cache=True, nogil=True)
def row_sums(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: Matrix,
    centre_x: float,
    scale: float,
    step: int,
) -> Matrix:  # pragma: no cover - compiled
    """Add up each used row of each plane, ``(k, rows, 27)``."""
    k, h, w = fixed.shape
    rows = (h + step - 1) // step
    out = np.zeros((k, rows, _SUMS))
    for index in range(k * rows):
        p = index // rows
        r = index % rows
        y = r * step
        if y < 1 or y > h - 2:
            continue
        row = np.empty((7, w), dtype=np.float32)
        n = _sample_row(fixed[p], fixed_valid[p], moving[p], moving_valid[p], matrix, y, row)
        if n > 0:
            _sum_row(row, n, centre_x, scale, out[p, r])
    return out
