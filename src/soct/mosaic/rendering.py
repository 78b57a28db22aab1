"""Tiles to one volume, band by band: every voxel is interpolated once, at the tile's sub-pixel position.

A tile's shift is constant, so interpolation is separable: four taps along x, then four along y (Keys' cubic convolution,
a = -1/2, whose passband is flat where linear interpolation already blurs by a third), in one pass over the tile that also
applies the flat field, the gain and the blending weight. Beyond the tile's edge the taps see a linear continuation,
so a ramp is reproduced exactly. Threads share planes, or bands of rows where planes are few, never a voxel: the result does not
depend on their number.

"No data" is NaN and never a value: a voxel that one tile lacks is left to the others.

On a GPU (`Backend.xp`) a tile goes up once, bands are summed there and come down finished; the kernels are those of
`soct.mosaic.rendering_arrays`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.compute.backend import CPU, Backend
from soct.mosaic import rendering_arrays
from soct.mosaic.blending import BlendMethod, check_method, tile_weight
from soct.space import FloatArray

Rect = tuple[int, int, int, int]
Interpolation = Literal["cubic", "linear", "nearest"]


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
def _add_tile(
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
def _mean_beside_gap(
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
def _add_tile_with_gaps(
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
    """As `_add_tile`, for a tile with NaN; `have` sums the weights with data.

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
                    v = gain * _mean_beside_gap(tile[z], dark, scale, flat, fy, fx, y0 + m, x0 + x)
                if np.isfinite(v):
                    out[z, m, x] += weight[m, x] * v
                    have[z, m, x] += weight[m, x]


# Shares add up to 1 but for rounding. Where they do, nothing is divided, so that a pixel does not depend on
# whether other tiles of its band have gaps.
_WHOLE = np.float32(1.0 - 1e-5)


@njit(cache=True, nogil=True, parallel=True)
def _settle(out: Any, total: Any, have: Any) -> None:  # pragma: no cover - compiled
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
def _planes_with_gaps(tile: Any, out: Any) -> None:  # pragma: no cover - compiled
    nz, h, w = tile.shape
    for z in prange(nz):
        total = np.float32(0.0)
        for y in range(h):
            for x in range(w):
                # 0 x NaN and 0 x inf are NaN, so the sum tells.
                total += tile[z, y, x] * np.float32(0.0)
        out[z] = total != 0.0


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
            _settle(out, total, have)
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
        add: Callable[..., None] = _add_tile
        add_with_gaps: Callable[..., None] = _add_tile_with_gaps
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
        _planes_with_gaps(data, flags)
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
