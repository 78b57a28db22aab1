"""How tiles share the pixels that several of them see.

A tile's weight is defined on its own pixels, without regard to who else is there; the renderer divides by the sum.
So a missing tile needs no special case: its neighbours take its pixels whole.

``diffusion`` solves the Laplace equation: 1 where only this tile is, 0 just outside it, harmonic between, insulated at the
border of the mosaic. It has no kink anywhere, whatever the shape of the overlap. ``feather`` is the distance to the
tile's border, ``average`` counts all alike, ``none`` gives a pixel to the tile whose centre is nearest.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soct.space import FloatArray

BlendMethod = Literal["diffusion", "feather", "average", "none"]

_FLOOR = 1e-3
# Below float32 rounding beside a whole weight, and enough to take over where the winner has no data.
_TRACE = 1e-8
_CELLS = 16


def check_method(method: str) -> None:
    """Raise ValueError for a blending method that does not exist."""
    if method not in get_args(BlendMethod):
        known = ", ".join(get_args(BlendMethod))
        raise ValueError(f"there is no blending method {method!r}; choose one of {known}")


def border_distance(
    rect: tuple[int, int, int, int], others: list[tuple[int, int, int, int]]
) -> FloatArray:
    """Distance of each pixel's centre to the nearest shared edge of a tile, pixels; at least one half.

    An edge counts if a neighbour goes on beyond it: at the border of the mosaic there is nothing to fade into.

    Parameters
    ----------
    rect : (y0, y1, x0, x1)
        Canvas pixels of the tile.
    others : list of rect
    """
    y0, y1, x0, x1 = rect
    y = np.arange(y1 - y0, dtype=np.float32)[:, None] + np.float32(0.5)
    x = np.arange(x1 - x0, dtype=np.float32)[None, :] + np.float32(0.5)
    far = np.float32(y1 - y0 + x1 - x0)
    distance = np.full((y1 - y0, x1 - x0), far, np.float32)
    if any(o[0] < y0 for o in others):
        distance = np.minimum(distance, y)
    if any(o[1] > y1 for o in others):
        distance = np.minimum(distance, y1 - y0 - y)
    if any(o[2] < x0 for o in others):
        distance = np.minimum(distance, x)
    if any(o[3] > x1 for o in others):
        distance = np.minimum(distance, x1 - x0 - x)
    return distance


@njit(cache=True, nogil=True)
def _relax(field: Any, kind: Any, sweeps: int, omega: float) -> None:  # pragma: no cover - compiled
    """Successive over-relaxation of the Laplace equation where ``kind == 1``; ``kind == 2`` is insulated."""
    rows, columns = field.shape
    for sweep in range(sweeps):
        change = 0.0
        for k in range(rows):
            y = k if sweep % 2 == 0 else rows - 1 - k
            for x in range(columns):
                if kind[y, x] != 1:
                    continue
                total = 0.0
                count = 0
                if y > 0 and kind[y - 1, x] != 2:
                    total += field[y - 1, x]
                    count += 1
                if y + 1 < rows and kind[y + 1, x] != 2:
                    total += field[y + 1, x]
                    count += 1
                if x > 0 and kind[y, x - 1] != 2:
                    total += field[y, x - 1]
                    count += 1
                if x + 1 < columns and kind[y, x + 1] != 2:
                    total += field[y, x + 1]
                    count += 1
                if count == 0:
                    continue
                step = omega * (total / count - field[y, x])
                field[y, x] += step
                change = max(change, abs(step))
        if change < 1e-4:
            break


def diffusion_weight(
    rect: tuple[int, int, int, int], others: list[tuple[int, int, int, int]]
) -> FloatArray:
    """Harmonic weight of a tile.

    Parameters
    ----------
    rect : (y0, y1, x0, x1)
        Canvas pixels of the tile.
    others : list of rect
        The tiles that overlap or touch it.

    Returns
    -------
    float32 ndarray (y1 - y0, x1 - x0)
        In (0, 1].
    """
    y0, y1, x0, x1 = rect
    h, w = y1 - y0, x1 - x0
    width = max(
        (
            min(min(y1, b) - max(y0, a), min(x1, d) - max(x0, c))
            for a, b, c, d in others
            if min(y1, b) > max(y0, a) and min(x1, d) > max(x0, c)
        ),
        default=0,
    )
    if width <= 0:
        return np.ones((h, w), np.float32)
    # A smooth field needs no more than some sixteen nodes across the overlap.
    step = max(1, width // _CELLS)
    ys = _nodes(h, step)
    xs = _nodes(w, step)
    gy, gx = y0 + ys, x0 + xs
    inside = np.zeros((ys.size, xs.size), bool)
    inside[1:-1, 1:-1] = True
    covered = np.zeros_like(inside)
    for a, b, c, d in others:
        rows = (gy >= a - 0.5) & (gy <= b - 0.5)
        columns = (gx >= c - 0.5) & (gx <= d - 0.5)
        covered |= rows[:, None] & columns[None, :]
    kind = np.where(inside, np.where(covered, 1, 0), np.where(covered, 0, 2)).astype(np.int8)
    field = np.where(inside, 1.0, 0.0)
    if not (kind[1:-1, 1:-1] == 0).any():
        # Every pixel is shared: the middle of the tile stands for its own ground.
        field[ys.size // 2, xs.size // 2] = 1.0
        kind[ys.size // 2, xs.size // 2] = 0
    nodes = (0, field.shape[0], 0, field.shape[1])
    around = [(-1, nodes[1] + 1, -1, nodes[3] + 1)]
    start = border_distance(nodes, around) / max(width / step, 1.0)
    field = np.where(kind == 1, np.minimum(start, 1.0), field)
    _relax(field, kind, 200, 1.7)
    # Insulated nodes take the value inside, so that interpolation up to the border sees no slope.
    for side, inner in ((0, 1), (-1, -2)):
        field[side] = np.where(kind[side] == 2, field[inner], field[side])
        field[:, side] = np.where(kind[:, side] == 2, field[:, inner], field[:, side])
    return np.maximum(_interpolate(field, ys, xs, h, w), np.float32(_FLOOR))


def _nodes(n: int, step: int) -> NDArray[np.float64]:
    """Nodes from one pixel outside to one pixel outside, about `step` apart."""
    count = max(int(np.ceil((n + 1) / step)), 2) + 1
    return np.linspace(-1.0, n, count)


def _interpolate(
    field: NDArray[np.float64], ys: NDArray[np.float64], xs: NDArray[np.float64], h: int, w: int
) -> FloatArray:
    """Bilinear interpolation from evenly spaced nodes to pixels."""
    ty = (np.arange(h) + 1.0) / (ys[1] - ys[0])
    tx = (np.arange(w) + 1.0) / (xs[1] - xs[0])
    iy = np.minimum(ty.astype(np.int64), ys.size - 2)
    ix = np.minimum(tx.astype(np.int64), xs.size - 2)
    fy = (ty - iy).astype(np.float32)[:, None]
    fx = (tx - ix).astype(np.float32)[None, :]
    nodes = field.astype(np.float32)
    rows = nodes[iy] * (1 - fy) + nodes[iy + 1] * fy
    result: FloatArray = rows[:, ix] * (1 - fx) + rows[:, ix + 1] * fx
    return result


def nearest_centre_weight(
    rect: tuple[int, int, int, int], others: list[tuple[int, int, int, int]]
) -> FloatArray:
    """1 where no other tile's centre is nearer than this one's (ties to the one further up and left), else a trace."""
    y0, y1, x0, x1 = rect
    y = np.arange(y0, y1)[:, None]
    x = np.arange(x0, x1)[None, :]

    def distance(r: tuple[int, int, int, int]) -> NDArray[np.float64]:
        d: NDArray[np.float64] = (y - 0.5 * (r[0] + r[1] - 1)) ** 2 + (
            x - 0.5 * (r[2] + r[3] - 1)
        ) ** 2
        return d

    own = distance(rect)
    wins = np.ones(own.shape, bool)
    for other in others:
        theirs = distance(other)
        here = (y >= other[0]) & (y < other[1]) & (x >= other[2]) & (x < other[3])
        lost = (theirs < own) | ((theirs == own) & (other < rect))
        wins &= ~(here & lost)
    return np.where(wins, np.float32(1.0), np.float32(_TRACE))


def tile_weight(
    method: BlendMethod,
    rect: tuple[int, int, int, int],
    others: list[tuple[int, int, int, int]],
) -> FloatArray:
    """Weight of a tile on its own pixels, before the division by the sum over tiles.

    Parameters
    ----------
    method : {"diffusion", "feather", "average", "none"}
    rect : (y0, y1, x0, x1)
        Canvas pixels of the tile.
    others : list of rect
        The tiles that overlap it.

    Returns
    -------
    float32 ndarray (y1 - y0, x1 - x0)

    Raises
    ------
    ValueError
        For an unknown method.
    """
    check_method(method)
    shape = (rect[1] - rect[0], rect[3] - rect[2])
    if method == "diffusion":
        return diffusion_weight(rect, others)
    if method == "feather":
        return border_distance(rect, others)
    if method == "average":
        return np.ones(shape, np.float32)
    return nearest_centre_weight(rect, others)
