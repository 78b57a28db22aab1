"""Tiles to one volume, band by band: every voxel is interpolated once, at the tile's sub-pixel position.

Interpolation is Keys' cubic convolution (a = -1/2), whose passband is flat where linear interpolation already blurs by a third. The
flat field, the gain and the blending weight are applied in the same pass over a tile: `soct.mosaic.shift_kernels`.

"No data" is NaN and never a value: a voxel that one tile lacks is left to the others.

On a GPU (`Backend.xp`) a tile goes up once, bands are summed there and come down finished; the kernels are those of
`soct.mosaic.rendering_arrays`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.compute.backend import CPU, Backend
from soct.mosaic import rendering_arrays
from soct.mosaic.blending import BlendMethod, check_method, tile_weight
from soct.mosaic.shift_kernels import (
    Interpolation,
    add_tile,
    add_tile_with_gaps,
    interpolation_taps,
    planes_with_gaps,
    settle,
)
from soct.space import FloatArray

Rect = tuple[int, int, int, int]


@dataclass(frozen=True)
class BandPlan:
    """Where tiles lie on the output canvas.

    Attributes
    ----------
    positions_px : float64 ndarray (n, 2)
        ``(y, x)`` of each tile's first pixel on the canvas.
    tile_shape : (int, int)
    shape : (int, int)
        Rows and columns of the canvas.
    origin_px : (float, float)
        The canvas' first pixel in the frame of the placement.
    rects : tuple of (y0, y1, x0, x1)
        Canvas pixels whose centres lie within each tile.
    """

    positions_px: NDArray[np.float64]
    tile_shape: tuple[int, int]
    shape: tuple[int, int]
    origin_px: tuple[float, float]
    rects: tuple[Rect, ...]

    def tiles_in(self, y0: int, y1: int) -> list[int]:
        """Tiles that reach into canvas rows ``y0 .. y1``, by position in the list."""
        return [i for i, r in enumerate(self.rects) if r[0] < y1 and r[1] > y0 and r[3] > r[2]]

    def neighbours(self, tile: int) -> list[int]:
        """Tiles whose pixels overlap or touch those of `tile`."""
        a, b, c, d = self.rects[tile]
        table = self._table
        near = (
            (table[:, 0] <= b) & (table[:, 1] >= a) & (table[:, 2] <= d) & (table[:, 3] >= c)
        )  # fmt: skip
        near[tile] = False
        return [int(i) for i in np.flatnonzero(near)]

    @property
    def _table(self) -> NDArray[np.int64]:
        return np.array(self.rects, np.int64).reshape(-1, 4)


def plan_bands(
    positions_px: NDArray[np.float64],
    tile_shape: tuple[int, int],
    *,
    origin_px: tuple[float, float] | None = None,
    shape: tuple[int, int] | None = None,
) -> BandPlan:
    """Lay tiles on a canvas.

    Parameters
    ----------
    positions_px : ndarray (n, 2)
        `Placement.positions_px`.
    tile_shape : (int, int)
    origin_px : (float, float), optional
        Canvas origin in the frame of the positions; the whole pixel at or before the first tile where absent.
    shape : (int, int), optional
        Size of the canvas; what the tiles need where absent.

    Raises
    ------
    ValueError
        If a position is not finite.
    """
    positions = np.asarray(positions_px, np.float64).reshape(-1, 2)
    if not np.isfinite(positions).all():
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))[:20].tolist()
        raise ValueError(f"tiles without a finite position: {bad}")
    if origin_px is None:
        low = np.floor(positions.min(axis=0) + 1e-6) if len(positions) else np.zeros(2)
        origin_px = (float(low[0]), float(low[1]))
    local = positions - np.array(origin_px)
    # A hair off a whole pixel is rounding, not a shift to interpolate for.
    near = np.abs(local - np.rint(local)) < 1e-6
    local = np.where(near, np.rint(local), local)
    first = np.ceil(local).astype(np.int64)
    last = np.floor(local + np.array(tile_shape) - 1).astype(np.int64) + 1
    if shape is None:
        top = last.max(axis=0) if len(last) else np.zeros(2, np.int64)
        shape = (int(max(top[0], 0)), int(max(top[1], 0)))
    rects = tuple(
        (
            max(int(f[0]), 0),
            min(int(e[0]), shape[0]),
            max(int(f[1]), 0),
            min(int(e[1]), shape[1]),
        )
        for f, e in zip(first, last, strict=True)
    )
    return BandPlan(local, (int(tile_shape[0]), int(tile_shape[1])), shape, origin_px, rects)


@dataclass(frozen=True)
class Shading:
    """Correction applied to tiles while they are rendered: ``(tile - dark) / flat``.

    Attributes
    ----------
    flat : float32 ndarray (h, w)
        Mean 1. Where it is not positive there is no data to trust, and 1 is taken.
    dark : float32 ndarray (h, w) or None
    """

    flat: FloatArray
    dark: FloatArray | None = None


@dataclass
class _Tile:
    data: Any
    """On the backend."""
    gaps: bool


class BandRenderer:
    """Render a mosaic by bands of rows, from top to bottom.

    A tile is loaded when a band first needs it and dropped when the bands have passed it, so that memory is one band and the
    tiles that touch it. Tiles may be whole or any range of planes (to bound memory, render slabs of planes one after the
    other, with a renderer for each).

    Parameters
    ----------
    plan : BandPlan
    load_tile : callable
        ``load_tile(i)`` gives tile i as float32 ``(nz, h, w)``, NaN for no data, or None where there is no tile. Called once per
        tile while the bands go down.
    blending : {"diffusion", "feather", "average", "none"}
    interpolation : {"cubic", "linear", "nearest"}
    shading : Shading, optional
    gains : ndarray (n,), optional
        Factor per tile.
    columns : (int, int), optional
        Render only these columns of the canvas, to bound memory on wide mosaics: pixels are the same.
    backend : Backend
        What computes.
    """

    def __init__(
        self,
        plan: BandPlan,
        load_tile: Callable[[int], FloatArray | None],
        *,
        blending: BlendMethod = "diffusion",
        interpolation: Interpolation = "cubic",
        shading: Shading | None = None,
        gains: NDArray[np.float64] | None = None,
        columns: tuple[int, int] | None = None,
        backend: Backend = CPU,
    ) -> None:
        check_method(blending)
        interpolation_taps(0.0, interpolation)
        self.plan = plan
        self._columns = columns or (0, plan.shape[1])
        self._load = load_tile
        self._blending: BlendMethod = blending
        self._interpolation: Interpolation = interpolation
        self._gains = None if gains is None else np.asarray(gains, np.float32)
        self._flat = shading is not None
        self._dark = np.zeros((1, 1), np.float32)
        self._scale = np.ones((1, 1), np.float32)
        if shading is not None:
            flat = np.asarray(shading.flat, np.float32)
            if flat.shape != plan.tile_shape:
                raise ValueError(f"flat field {flat.shape} and tiles {plan.tile_shape} differ")
            self._scale = np.where(flat > 0, 1.0 / np.where(flat > 0, flat, 1.0), 1.0).astype(
                np.float32
            )
            self._dark = np.zeros_like(flat)
            if shading.dark is not None:
                self._dark = np.ascontiguousarray(shading.dark, np.float32)
        self._backend = backend
        self._dark, self._scale = backend.up(self._dark), backend.up(self._scale)
        self._tiles: dict[int, _Tile | None] = {}
        self._weights: dict[int, FloatArray] = {}
        self._depth: int | None = None

    def render(self, y0: int, y1: int) -> FloatArray:
        """Canvas rows ``y0 .. y1``.

        Returns
        -------
        float32 ndarray (nz, y1 - y0, columns)
            The renderer's columns; NaN where no tile has data.

        Raises
        ------
        ValueError
            If the rows are not on the canvas, or a tile has another shape than the plan says.
        """
        if not 0 <= y0 < y1 <= self.plan.shape[0]:
            raise ValueError(f"rows {y0}..{y1} are not on a canvas of {self.plan.shape[0]} rows")
        self._drop_above(y0)
        x0, x1 = self._columns
        rects = self.plan.rects
        here = [
            i
            for i in self.plan.tiles_in(y0, y1)
            if rects[i][2] < x1 and rects[i][3] > x0 and self._get(i) is not None
        ]
        total = np.zeros((y1 - y0, x1 - x0), np.float32)
        parts = []
        for i in here:
            a, b, c, d = rects[i]
            a0, b0, c0, d0 = max(a, y0), min(b, y1), max(c, x0), min(d, x1)
            part = self._weight(i)[a0 - a : b0 - a, c0 - c : d0 - c]
            total[a0 - y0 : b0 - y0, c0 - x0 : d0 - x0] += part
            parts.append((i, (a0, b0, c0, d0), part))
        xp = np if self._backend.compiled else self._backend.xp
        out = xp.zeros((self._depth or 1, y1 - y0, x1 - x0), np.float32)
        gaps = any(tile.gaps for tile in self._tiles.values() if tile is not None)
        have = xp.zeros(out.shape if gaps else (0, 1, 1), np.float32)
        for i, (a, b, c, d), part in parts:
            there = (slice(a - y0, b - y0), slice(c - x0, d - x0))
            whole = np.where(total[there] > 0, total[there], np.float32(1.0))
            share = self._backend.up((part / whole).astype(np.float32))
            tile = self._tiles[i]
            if tile is None:
                continue
            self._add(i, tile, (a, c), share, out[:, *there], have, there)
        if self._backend.compiled:
            settle(out, total, have)
        else:
            rendering_arrays.settle(xp, out, self._backend.up(total), have)
        done: FloatArray = self._backend.down(out)
        return done

    def covered(self, y0: int, y1: int) -> NDArray[np.bool_]:
        """Pixels of canvas rows ``y0 .. y1`` that some tile covers, ``(y1 - y0, columns)``.

        Tiles that turned out missing count only as far as their rows have been rendered.
        """
        mask = np.zeros((y1 - y0, self.plan.shape[1]), bool)
        for i in self.plan.tiles_in(y0, y1):
            if self._tiles.get(i, _UNSEEN) is not None:
                a, b, c, d = self.plan.rects[i]
                mask[max(a, y0) - y0 : min(b, y1) - y0, c:d] = True
        return mask

    def _add(
        self,
        i: int,
        tile: _Tile,
        corner: tuple[int, int],
        share: Any,
        out: Any,
        have: Any,
        there: tuple[slice, slice],
    ) -> None:
        start = np.array(corner) - self.plan.positions_px[i]
        whole = np.floor(start + 1e-9).astype(np.int64)
        ty, tx = (interpolation_taps(max(f, 0.0), self._interpolation) for f in start - whole)
        gain = np.float32(1.0 if self._gains is None else self._gains[i])
        arguments = (
            tile.data,
            self._dark,
            self._scale,
            self._flat,
            gain,
            ty,
            tx,
            int(whole[0]),
            int(whole[1]),
            share,
            out,
        )
        add: Callable[..., None] = add_tile
        add_with_gaps: Callable[..., None] = add_tile_with_gaps
        if not self._backend.compiled:
            xp = self._backend.xp
            add = partial(rendering_arrays.add_tile, xp)
            add_with_gaps = partial(rendering_arrays.add_tile_with_gaps, xp)
        if tile.gaps:
            add_with_gaps(*arguments, have[(slice(None), *there)])
        else:
            add(*arguments)
            if have.size:
                have[(slice(None), *there)] += share

    def _get(self, i: int) -> _Tile | None:
        if i not in self._tiles:
            data = self._load(i)
            if data is None:
                self._tiles[i] = None
            else:
                self._tiles[i] = self._check(i, data)
        return self._tiles[i]

    def _check(self, i: int, data: FloatArray) -> _Tile:
        data = np.ascontiguousarray(data, np.float32)
        if data.ndim == 2:
            data = data[None]
        if data.shape[1:] != self.plan.tile_shape:
            raise ValueError(f"tile {i} has shape {data.shape[1:]}, not {self.plan.tile_shape}")
        if self._depth is None:
            self._depth = data.shape[0]
        elif self._depth != data.shape[0]:
            raise ValueError(f"tile {i} has {data.shape[0]} planes, the others {self._depth}")
        flags = np.zeros(data.shape[0], np.bool_)
        planes_with_gaps(data, flags)
        return _Tile(self._backend.up(data), bool(flags.any()))

    def _weight(self, i: int) -> FloatArray:
        if i not in self._weights:
            others = [
                self.plan.rects[k]
                for k in self.plan.neighbours(i)
                if self._tiles.get(k, _UNSEEN) is not None
            ]
            self._weights[i] = tile_weight(self._blending, self.plan.rects[i], others)
        return self._weights[i]

    def _drop_above(self, y0: int) -> None:
        for i in [k for k in self._weights if self.plan.rects[k][1] <= y0]:
            del self._weights[i]
        for i in [k for k, t in self._tiles.items() if t and self.plan.rects[k][1] <= y0]:
            # A missing tile stays known as missing.
            del self._tiles[i]


_UNSEEN = _Tile(np.empty((0, 0, 0), np.float32), False)
