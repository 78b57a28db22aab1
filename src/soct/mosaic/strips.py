"""The parts of tiles that neighbours share: found from nominal positions, cut once, kept small.

Only the overlaps of a slice are kept, and where they are many as half-precision numbers scaled by a power of two
(relative error 5e-4, far below speckle), so that a slice of any size needs memory for its strips and one tile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from soct.space import FloatArray

SINGLE_PRECISION_BYTES = 128 << 20
"""Strips that take no more than this are kept as they are, which saves the time to convert them."""

Box = tuple[int, int, int, int]
"""``(y0, y1, x0, x1)`` in pixels of a tile."""


def find_neighbours(
    nominal_px: NDArray[np.float64],
    tile_shape: tuple[int, int],
    *,
    min_overlap_px: float = 2.0,
    min_length: float = 0.5,
) -> NDArray[np.int64]:
    """Pairs of tiles that share an edge strip, from nominal positions.

    Parameters
    ----------
    nominal_px : ndarray (n, 2)
        Nominal ``(y, x)`` of each tile's first pixel. NaN rows have no neighbours.
    tile_shape : (int, int)
        Height and width of every tile.
    min_overlap_px : float
        Least overlap across the strip; abutting tiles are no pair.
    min_length : float
        Least overlap along the strip, as a fraction of the tile: diagonal neighbours are no pair.

    Returns
    -------
    int64 ndarray (m, 2)
        ``first < second`` by position, sorted.
    """
    nominal = np.asarray(nominal_px, np.float64)
    h, w = tile_shape
    order = np.argsort(nominal[:, 0], kind="stable")
    ys = nominal[order, 0]
    pairs: list[tuple[int, int]] = []
    finite = np.asarray(np.isfinite(nominal).all(axis=1))
    for k, i in enumerate(order):
        if not finite[i]:
            continue
        stop = int(np.searchsorted(ys, ys[k] + h - min_overlap_px, side="right"))
        rest = order[k + 1 : stop]
        dy = h - np.abs(nominal[rest, 0] - nominal[i, 0])
        dx = w - np.abs(nominal[rest, 1] - nominal[i, 1])
        good = (
            finite[rest]
            & (np.minimum(dy, dx) >= min_overlap_px)
            & (np.maximum(dy / h, dx / w) >= min_length)
            & ~((dy >= 0.9 * h) & (dx >= 0.9 * w))
        )
        for j in rest[good]:
            before = tuple(nominal[i]) <= tuple(nominal[j])
            # The tile further up, or further left in a row, comes first.
            down = abs(nominal[i, 0] - nominal[j, 0]) > abs(nominal[i, 1] - nominal[j, 1])
            first_is_i = before if down else nominal[i, 1] <= nominal[j, 1]
            pairs.append((int(i), int(j)) if first_is_i else (int(j), int(i)))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def overlap_boxes(
    offset: NDArray[np.float64] | tuple[float, float],
    tile_shape: tuple[int, int],
    margin: float = 0.0,
) -> tuple[Box, Box]:
    """Boxes in the first and the second tile that can show the same tissue.

    Parameters
    ----------
    offset : (float, float)
        Expected position of the second tile minus that of the first.
    tile_shape : (int, int)
    margin : float
        Greatest error of `offset`, pixels.
    """
    sides = []
    for d, size in zip(offset, tile_shape, strict=True):
        low = int(np.floor(d - margin))
        high = int(np.ceil(d + margin))
        first = (min(max(low, 0), size), max(min(size + high, size), 0))
        second = (min(max(-high, 0), size), max(min(size - low, size), 0))
        sides.append((first, second))
    (fy, sy), (fx, sx) = sides
    return (*fy, *fx), (*sy, *sx)


@dataclass
class StripStore:
    """The strips of all tiles, cut as the tiles come by.

    Attributes
    ----------
    pairs : int64 ndarray (m, 2)
    boxes : list of (Box, Box)
        Where each pair's strips lie in their tiles.
    """

    pairs: NDArray[np.int64]
    boxes: list[tuple[Box, Box]]
    tile_shape: tuple[int, int]
    _strips: list[list[NDArray[np.floating] | None]] = field(default_factory=list)
    _scale: float = 0.0
    _sums: NDArray[np.float64] | None = None
    _counts: NDArray[np.float64] | None = None
    _area: int | None = None

    def __post_init__(self) -> None:
        self._strips = [[None, None] for _ in self.boxes]
        self._of_tile: dict[int, list[tuple[int, int]]] = {}
        for p, (i, j) in enumerate(self.pairs):
            self._of_tile.setdefault(int(i), []).append((p, 0))
            self._of_tile.setdefault(int(j), []).append((p, 1))

    @property
    def channels(self) -> int:
        """Number of images per tile; 0 before the first tile."""
        return 0 if self._sums is None else self._sums.size

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean brightness over all strips, per channel."""
        if self._sums is None or self._counts is None:
            return np.zeros(0)
        mean: NDArray[np.float64] = self._sums / np.maximum(self._counts, 1.0)
        return mean

    @property
    def nbytes(self) -> int:
        """Memory that the strips take."""
        return sum(s.nbytes for pair in self._strips for s in pair if s is not None)

    def add(self, tile: int, images: FloatArray) -> None:
        """Cut the strips of one tile.

        Parameters
        ----------
        tile : int
        images : ndarray (k, h, w) or (h, w)
            NaN is no data.
        """
        data = np.asarray(images)
        if data.ndim == 2:
            data = data[None]
        for p, side in self._of_tile.get(tile, ()):
            y0, y1, x0, x1 = self.boxes[p][side]
            part = data[:, y0:y1, x0:x1].astype(np.float32)
            finite = np.isfinite(part)
            if self._sums is None or self._counts is None:
                self._sums = np.zeros(data.shape[0])
                self._counts = np.zeros(data.shape[0])
            if not self._scale:
                level = float(np.abs(part[finite]).max()) if finite.any() else 0.0
                # Leaves six binary orders above the first tile's maximum before half precision overflows.
                self._scale = 2.0 ** (9 - np.ceil(np.log2(level))) if level > 0 else 0.0
            part *= np.float32(self._scale or 1.0)
            whole = bool(finite.all())
            seen = part if whole else np.where(finite, part, np.float32(0.0))
            self._sums += seen.sum(axis=(1, 2), dtype=np.float64)
            self._counts += finite.sum(axis=(1, 2))
            if not self._is_small(data.shape[0]):
                np.clip(part, -60000.0, 60000.0, out=part)
                part = part.astype(np.float16)
            self._strips[p][side] = part

    def _is_small(self, channels: int) -> bool:
        """Whether all strips together are so small that half precision would save nothing that matters."""
        if self._area is None:
            self._area = sum((b[1] - b[0]) * (b[3] - b[2]) for pair in self.boxes for b in pair)
        return 4 * channels * self._area <= SINGLE_PRECISION_BYTES

    def has(self, pair: int) -> bool:
        """Whether both tiles of a pair have come by."""
        first, second = self._strips[pair]
        return first is not None and second is not None

    def cut(self, pair: int, side: int, box: Box, out: FloatArray) -> tuple[int, int]:
        """Copy a box (in tile pixels) of one strip into the corner of `out`.

        Parameters
        ----------
        pair, side : int
        box : Box
            Inside the strip's own box.
        out : float32 ndarray (k, h, w)

        Returns
        -------
        (int, int)
            Size of what was copied.
        """
        strip = self._strips[pair][side]
        if strip is None:
            raise KeyError(f"tile {self.pairs[pair][side]} has not been read")
        oy, _, ox, _ = self.boxes[pair][side]
        y0, y1, x0, x1 = box
        out[:, : y1 - y0, : x1 - x0] = strip[:, y0 - oy : y1 - oy, x0 - ox : x1 - ox]
        return y1 - y0, x1 - x0


def collect_strips(
    load: Callable[[int], FloatArray | None],
    tiles: NDArray[np.int64] | range,
    pairs: NDArray[np.int64],
    boxes: list[tuple[Box, Box]],
    tile_shape: tuple[int, int],
) -> StripStore:
    """Visit every tile once, in the order given, and keep what its neighbours share.

    Parameters
    ----------
    load : callable
        ``load(i)`` gives tile i as ``(k, h, w)`` or ``(h, w)``, or None where there is no tile.
    tiles : sequence of int
    pairs, boxes, tile_shape
        As in `StripStore`.
    """
    store = StripStore(pairs, boxes, tile_shape)
    for tile in tiles:
        images = load(int(tile))
        if images is not None:
            if tuple(images.shape[-2:]) != tuple(tile_shape):
                raise ValueError(
                    f"tile {tile} has shape {images.shape[-2:]}, but the mosaic's tiles are {tile_shape}"
                )
            store.add(int(tile), images)
    return store
