"""Attenuation over an array module: CuPy on a GPU, numpy as the plain reference.

``xp`` is the array module of all arrays given. Arrays follow `soct.space`.
"""

from __future__ import annotations

from typing import Any

FIT_PX = 12


def correct_attenuation(
    xp: Any, block: Any, optical_depth: Any, strength: float, lowest_transmission: float
) -> Any:
    """Divide by ``exp(-2 s OD)``, limited from below; within 2e-6, relatively, of the processors' result."""
    loss = xp.exp(optical_depth * xp.float32(-2 * strength))
    return block / xp.maximum(loss, xp.float32(lowest_transmission))


def integrate(
    xp: Any,
    data: Any,
    surface: Any,
    limits: Any,
    method: int,
    floor: float,
    needed: float,
    dz_mm: float,
    max_mu: float,
) -> tuple[Any, Any]:
    """Attenuation and optical depth of every A-line, as `soct.intensity.attenuation` defines them.

    Both within 1e-5, relatively, of the compiled kernel (sums are double precision in both).

    Parameters
    ----------
    xp : module
    data : float32 array (z, y, x)
    surface : float64 array (y, x)
    limits : int64 array (2, y, x)
    method : int
        Of `soct.intensity.attenuation.METHODS`.
    floor, needed, dz_mm, max_mu : float

    Returns
    -------
    mu, depth : float32 array (z, y, x)
    """
    nz = data.shape[0]
    z = xp.arange(nz, dtype=xp.int64)[:, None, None]
    top = xp.maximum(xp.ceil(surface).astype(xp.int64), limits[0])[None]
    end = limits[1][None]
    finite = xp.isfinite(data)
    line = xp.where(finite, xp.maximum(data.astype(xp.float64) - floor, 0.0), 0.0)
    stops = ~finite
    if method == 3:
        stops = stops | ((z > top + FIT_PX) & (line < needed))
    stops &= (z >= top) & (z < end)
    end = xp.where(stops.any(axis=0), stops.argmax(axis=0), end[0])[None]
    long_enough = end - top >= 2
    inside = (z >= top) & (z < end) & long_enough
    line = xp.where(inside, line, 0.0)
    tail = _tail(xp, line, z, top, end, method)
    below = xp.zeros_like(line)
    below[:-1] = xp.cumsum(line[:0:-1], axis=0)[::-1]
    deeper = below + tail
    lit = deeper > 0
    m = xp.log1p(line / xp.where(lit, deeper, 1.0)) / (2 * dz_mm)
    m = xp.where(lit, m, xp.where(line > 0, max_mu, 0.0))
    mu = xp.where(inside, xp.minimum(m, max_mu), xp.nan).astype(xp.float32)
    step = xp.where(inside, mu.astype(xp.float64) * dz_mm, 0.0)
    passed = xp.cumsum(step, axis=0)
    mean = passed[-1:] / xp.maximum(end - top, 1)
    depth = xp.where(inside, passed - 0.5 * step, 0.0)
    depth = xp.where(long_enough & (z >= end), passed[-1:] + mean * (z - end + 1), depth)
    return mu, depth.astype(xp.float32)


def _tail(xp: Any, line: Any, z: Any, top: Any, end: Any, method: int) -> Any:
    """Light below the last sample, ``(1, y, x)``."""
    n = xp.minimum(FIT_PX, end - top)
    number = xp.maximum(n, 1).astype(xp.float64)
    w = xp.where((z >= end - n) & (z < end), line, 0.0)
    total = line.sum(axis=0, keepdims=True)
    last = w.sum(axis=0, keepdims=True) / number
    none = xp.zeros_like(last)
    if method in (1, 3):
        g = xp.log(xp.where(w > 0, w, 1.0))
        s0, s1, s2, t0, t1 = (
            a.sum(axis=0, keepdims=True) for a in (w, w * z, w * z * z, w * g, w * z * g)
        )
        spread = s0 * s2 - s1 * s1
        good = (spread > 0) & (last > 0)
        decay = -(s0 * t1 - s1 * t0) / xp.where(good, spread, 1.0)
        slowest = 0.1 * last / xp.where(good, total + last, 1.0)
        decay = xp.maximum(xp.maximum(decay, slowest), 1e-4)
        return xp.where(good, _geometric(xp, last, decay, number), none)
    if method == 2:
        first = xp.where((z >= top) & (z < top + n), line, 0.0).sum(axis=0, keepdims=True) / number
        falls = (last > 0) & (first > last) & (end - top > n)
        ratio = xp.where(falls, first, 2.0) / xp.where(falls, last, 1.0)
        decay = xp.log(ratio) / xp.where(falls, end - top - n, 1)
        flat = xp.where(last > 0, last * (end - top), none)
        return xp.where(falls, _geometric(xp, last, decay, number), flat)
    return none


def _geometric(xp: Any, last: Any, decay: Any, number: Any) -> Any:
    """Sum below the end of light that goes on decaying from its mean over the last `number` samples."""
    return last * xp.exp(-decay * 0.5 * (number + 1)) / (1 - xp.exp(-decay))
