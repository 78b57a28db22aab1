"""Kernels along A-lines over an array module: CuPy on a GPU, numpy as the plain reference.

``xp`` is the array module of all arrays given. Arrays follow `soct.space`.
"""

from __future__ import annotations

from typing import Any


def mean_projection(xp: Any, tile: Any, first: int, stop: int) -> Any:
    """Mean over planes ``first .. stop`` of a tile ``(z, y, x)``, within 1e-6, relatively, of any other order.

    Worth a GPU only for tiles that are there already: the transfer takes longer than the sum.
    """
    return tile[first:stop].mean(axis=0, dtype=xp.float32)


def shift_a_lines(xp: Any, data: Any, shift: Any) -> Any:
    """Do what `soct.geometry.focal_curvature.shift_a_lines` does, within 2e-6 of the greatest absolute value.

    Parameters
    ----------
    xp : module
    data : float32 array (z, y, x)
    shift : float32 array (y, x)
        Samples by which each A-line moves up.
    """
    nz = data.shape[0]
    whole = xp.floor(shift)
    t = (shift - whole).astype(xp.float32)
    t = xp.where(t < 1e-4, xp.float32(0), t)[None]
    i = xp.arange(nz, dtype=xp.int64)[:, None, None] + whole.astype(xp.int64)[None]

    def at(step: int) -> Any:
        return xp.take_along_axis(data, xp.clip(i + step, 0, nz - 1), axis=0)

    p0, p1, p2, p3 = at(-1), at(0), at(1), at(2)
    linear = p1 + t * (p2 - p1)
    cubic = p1 + xp.float32(0.5) * t * (
        p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
    )
    limited = xp.clip(cubic, xp.minimum(p1, p2), xp.maximum(p1, p2))
    inner = (i > 0) & (i + 2 < nz) & xp.isfinite(cubic)
    out = xp.where(t == 0, p1, xp.where(inner, limited, linear))
    outside = (i < 0) | (i >= nz) | ((t > 0) & (i + 1 >= nz))
    return xp.where(outside, xp.float32(xp.nan), out)
