"""A picture of any size straight to a file: band after band, each image loaded when its rows come up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.formats.flat_files import MOST_BAND_ROWS, Band, FlatSpec, write_flat
from soct.spectral.canvas import Canvas, bands, cut
from soct.spectral.renderer import add_image

# Mean, weights, mask, what is written and the coarser levels.
_BYTES_PER_BAND_PIXEL = 24
_LEAST_BAND_ROWS = 64
_AHEAD = 2


@dataclass(frozen=True)
class Streamed:
    """What was written.

    Attributes
    ----------
    path : Path
    size : (int, int)
        Width and height in pixels.
    pmin : (float, float)
        Point of the placement at the top-left corner of the picture.
    levels : int
        Resolutions in the file.
    missing : tuple
        Tiles for which there was no image.
    loads : int
        How often an image was loaded: more often than there are images where memory was short.
    """

    path: Path
    size: tuple[int, int]
    pmin: tuple[float, float]
    levels: int
    missing: tuple[Hashable, ...]
    loads: int


def stream(
    path: Path,
    canvas: Canvas,
    load: Callable[[Any], ArrayLike | None],
    check: Callable[[Hashable, ArrayLike], NDArray[Any]],
    *,
    blend: float,
    fill: float,
    dtype: np.dtype[Any],
    pixel_um: float | tuple[float, float] | None,
    memory_bytes: int,
    progress: Callable[[int, int], None] | None,
) -> Streamed:
    """Render to a file; see `soct.spectral.renderer.Renderer.render_to`."""
    rows = MOST_BAND_ROWS
    band_bytes = _BYTES_PER_BAND_PIXEL * canvas.size[0]
    while rows > _LEAST_BAND_ROWS and rows * band_bytes > memory_bytes // 2:
        rows //= 2
    pixel = None
    if pixel_um is not None:
        x, y = np.broadcast_to(np.asarray(pixel_um, np.float64), (2,)).tolist()
        if not (0 < x < np.inf and 0 < y < np.inf):
            raise ValueError(f"pixel_um is a size in micrometres, or (x, y), not {pixel_um!r}")
        pixel = (y, x)
    spec = FlatSpec(canvas.shape, dtype, pixel, fill, rows)
    plan = [(y0, y1, _tiles_in(canvas, y0, y1)) for y0, y1 in bands(canvas.shape[0], rows)]
    order = [tile for *_, tiles in plan for tile in tiles]
    with _Waiting(order, load, check, max(memory_bytes - rows * band_bytes, 0)) as waiting:
        write_flat(path, spec, _render(canvas, plan, waiting, blend, progress))
    return Streamed(
        path, canvas.size, canvas.origin, spec.levels, tuple(waiting.missing), waiting.loads
    )


def _tiles_in(canvas: Canvas, y0: int, y1: int) -> list[Hashable]:
    """Tiles with pixels in some rows, in the order of the placement."""
    return [
        tile
        for tile, image in canvas.images.items()
        if image.rect[0] < y1 and image.rect[1] > y0 and image.rect[3] > image.rect[2]
    ]


def _render(
    canvas: Canvas,
    plan: list[tuple[int, int, list[Hashable]]],
    waiting: _Waiting,
    blend: float,
    progress: Callable[[int, int], None] | None,
) -> Iterator[Band]:
    mean = np.empty((plan[0][1], canvas.size[0]), np.float32)
    total = np.empty_like(mean)
    for y0, y1, tiles in plan:
        mean[:] = 0
        total[:] = 0
        for tile in tiles:
            plane = waiting.take(tile)
            if plane is not None:
                add_image(cut(canvas.images[tile], y0, y1), plane, blend, mean, total, y0)
        n = y1 - y0
        yield mean[:n], total[:n] > 0
        if progress is not None:
            progress(y1, canvas.shape[0])


class _Waiting:
    """Images on their way: the next ones are loaded while one is rendered, and kept while memory has room.

    Parameters
    ----------
    order : list
        Tiles in the order in which `take` will ask for them, some more than once.
    load, check : callable
    budget : int
        Bytes of images to keep.
    """

    def __init__(
        self,
        order: list[Hashable],
        load: Callable[[Any], ArrayLike | None],
        check: Callable[[Hashable, ArrayLike], NDArray[Any]],
        budget: int,
    ) -> None:
        self.missing: list[Hashable] = []
        self.loads = 0
        self._order = order
        self._left = Counter(order)
        self._at = 0
        self._load, self._check = load, check
        self._budget = budget
        self._held: dict[Hashable, Future[NDArray[Any] | None]] = {}
        self._largest = 0
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, tile: Hashable) -> NDArray[Any] | None:
        """Return the next image of the order, None where there is none."""
        self._request(tile)
        self._at += 1
        self._look_ahead()
        plane = self._held[tile].result()
        if plane is not None:
            self._largest = max(self._largest, plane.nbytes)
        elif tile not in self.missing:
            self.missing.append(tile)
        self._left[tile] -= 1
        if not self._left[tile] or (plane is not None and self._is_full(0)):
            del self._held[tile]
        return plane

    def _look_ahead(self) -> None:
        soon = self._order[self._at : self._at + 64]
        for tile in [t for t in dict.fromkeys(soon) if t not in self._held][:_AHEAD]:
            if self._is_full(1):
                return
            self._request(tile)

    def _is_full(self, more: int) -> bool:
        return (len(self._held) + more) * self._largest > self._budget

    def _request(self, tile: Hashable) -> None:
        if tile not in self._held:
            self._held[tile] = self._pool.submit(self._get, tile)

    def _get(self, tile: Hashable) -> NDArray[Any] | None:
        data = self._load(tile)
        self.loads += 1
        return None if data is None else self._check(tile, data)
