"""Mosaic grids: the raw tiles of one slice side by side, overlaps duplicated, one chunk per tile.

A grid is not a stitched image. soct's own grids carry, under the key ``soct``, the shape of a tile and what is
known of each tile. Grids without it are read with the chunk as the tile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from soct.errors import InputError
from soct.formats.atomic import write_bytes
from soct.formats.ngff import NAMESPACE, Level, group_metadata, multiscales, parse_image, read_group
from soct.formats.shards import ShardAssembler, check_stored, pack_stored
from soct.formats.tiles import StagePosition, shard_tiles, shown
from soct.formats.zarr_array import (
    MAX_CHUNK_BYTES,
    Codec,
    Range,
    ZarrArray,
    create_array,
    json_bytes,
    open_array,
)
from soct.space import FloatArray, Voxel

GridAxes = Literal["yx", "xy"]

_SLICE_ID = re.compile(r"_z(\d{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class GridTile:
    """What is known of one position of a grid.

    Attributes
    ----------
    row, col : int
        Position in the grid; rows grow along y, columns along x.
    stage_mm : tuple
        Stage position ``(x, y, z)``, None where it was not recorded.
    source : str
        Folder of the raw tile, relative to the input.
    status : str
        ``ok``, ``missing``, or why the tile is not there.
    galvo_shift : int or None
        A-lines by which the tile was turned to put the galvo's return last.
    galvo_confidence : float or None
        How sure that is, 0 to 1.
    """

    row: int
    col: int
    stage_mm: StagePosition = (None, None, None)
    source: str = ""
    status: str = "ok"
    galvo_shift: int | None = None
    galvo_confidence: float | None = None


class MosaicGridWriter:
    """Writes one mosaic grid tile by tile; a context manager that closes on success.

    Tiles may come in any order. Each file is written once, when its tiles are there; in the order of
    `tile_order` one file waits in memory, in row-major order one band of files.

    Parameters
    ----------
    path : Path
        ``mosaic_grid_3d_z<NN>.ome.zarr``, which must not hold a grid already.
    rows, cols : int
        Size of the grid.
    tile_shape : tuple of int
        ``(z, y, x)`` of every tile.
    voxel_um : Voxel
        Voxel size.
    sharding_factor : int
        A file holds at most the square of this many tiles.
    codec : {"none", "zstd"}
        Compression; both carry checksums.
    attributes : mapping, optional
        JSON-able, kept under the key ``soct``; ``slice_id`` belongs here.
    threads : int, optional
        Threads for the disk; the default is all processors.
    """

    def __init__(
        self,
        path: Path,
        rows: int,
        cols: int,
        tile_shape: Sequence[int],
        voxel_um: Voxel,
        sharding_factor: int = 4,
        codec: Codec = "none",
        attributes: Mapping[str, Any] | None = None,
        threads: int | None = None,
    ) -> None:
        if min(rows, cols, *tile_shape) < 1 or len(tile_shape) != 3:
            raise ValueError(f"a grid of {rows} x {cols} tiles of {tuple(tile_shape)}")
        self.path = Path(path)
        if (self.path / "zarr.json").exists():
            raise ValueError(f"{path} holds a grid already")
        self.rows, self.cols = rows, cols
        self.tile_shape = (tile_shape[0], tile_shape[1], tile_shape[2])
        self.voxel_um = Voxel(*voxel_um)
        n_z, n_y, n_x = self.tile_shape
        high, wide = shard_tiles(rows, cols, 4 * n_z * n_y * n_x, sharding_factor)
        self.shard_tiles = (high, wide)
        array = create_array(
            self.path / "0",
            (n_z, rows * n_y, cols * n_x),
            np.float32,
            self.tile_shape,
            (n_z, high * n_y, wide * n_x),
            codec,
            threads=threads,
        )
        self._array = array
        self._shards = ShardAssembler(array, np.dtype(np.float32))
        self._attributes = dict(attributes or {})
        self._done: set[tuple[int, int]] = set()
        self._skipped: set[tuple[int, int]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and not (self.path / "zarr.json").exists():
            self.close()

    def tile_order(self) -> Iterator[tuple[int, int]]:
        """Yield all positions ``(row, col)`` file by file: in this order memory is smallest."""
        high, wide = self.shard_tiles
        for top in range(0, self.rows, high):
            for left in range(0, self.cols, wide):
                for row in range(top, min(top + high, self.rows)):
                    for col in range(left, min(left + wide, self.cols)):
                        yield row, col

    def _start(self, row: int, col: int) -> tuple[int, int, int]:
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise ValueError(
                f"tile ({row}, {col}) is outside of the grid {self.rows} x {self.cols}"
            )
        if (row, col) in self._done or (row, col) in self._skipped:
            raise ValueError(f"tile ({row}, {col}) came twice")
        return (0, row * self.tile_shape[1], col * self.tile_shape[2])

    def write_tile(self, row: int, col: int, tile: FloatArray) -> None:
        """Take one tile, shape `tile_shape`."""
        start = self._start(row, col)
        if tile.shape != self.tile_shape:
            raise ValueError(f"tile ({row}, {col}) has shape {tile.shape}, not {self.tile_shape}")
        self._done.add((row, col))
        self._shards.add(start, tile)

    def skip_tile(self, row: int, col: int) -> None:
        """Say that a tile will not come: it stays zero, and its file need not wait for it."""
        start = self._start(row, col)
        self._skipped.add((row, col))
        self._shards.skip(start, self.tile_shape)

    def close(self, tiles: Sequence[GridTile] = ()) -> None:
        """Write what is left and the metadata: from here on the grid is complete.

        Parameters
        ----------
        tiles : sequence of GridTile
            What is known of the tiles. Positions that are not in it are listed as ``ok`` or ``missing``.
        """
        self._shards.flush()
        known = {(tile.row, tile.col): tile for tile in tiles}
        entries = []
        for row, col in np.ndindex(self.rows, self.cols):
            status = "ok" if (row, col) in self._done else "missing"
            entries.append(asdict(known.get((row, col), GridTile(row, col, status=status))))
        name = self.path.name.removesuffix(".zarr").removesuffix(".ome")
        attributes = {
            **self._attributes,
            "kind": "mosaic_grid",
            "tile_shape": list(self.tile_shape),
            "tiles": entries,
            "stored": {"0": pack_stored(self._array)},
        }
        ome = {"multiscales": [multiscales(name, [Level("0", self.voxel_um)])]}
        write_bytes(self.path / "zarr.json", json_bytes(group_metadata(ome, attributes)))


@dataclass(frozen=True)
class MosaicGrid:
    """A mosaic grid, open for reading; see `open_mosaic_grid`.

    Attributes
    ----------
    path : Path
        Its folder.
    rows, cols : int
        Number of tiles along y and x.
    tile_shape : tuple of int
        ``(z, y, x)``.
    voxel_um : Voxel
        Voxel size.
    tiles : tuple of GridTile
        What is known of the tiles, row-major; empty for grids that soct did not write.
    attributes : mapping
        What soct keeps under its own key; empty for grids that soct did not write.
    slice_id : int or None
        From the attributes, else from the name.
    """

    path: Path
    rows: int
    cols: int
    tile_shape: tuple[int, int, int]
    voxel_um: Voxel
    tiles: tuple[GridTile, ...]
    attributes: Mapping[str, Any]
    slice_id: int | None
    _array: ZarrArray
    _transposed: bool

    @property
    def is_transposed(self) -> bool:
        """Whether the array's second axis is x."""
        return self._transposed

    def _ranges(self, row: int, col: int) -> list[Range]:
        if not (0 <= row < self.rows and 0 <= col < self.cols):
            raise ValueError(
                f"tile ({row}, {col}) is outside of the grid {self.rows} x {self.cols}"
            )
        n_z, n_y, n_x = self.tile_shape
        y, x = (row * n_y, (row + 1) * n_y), (col * n_x, (col + 1) * n_x)
        return [(0, n_z), x, y] if self._transposed else [(0, n_z), y, x]

    def has(self, row: int, col: int) -> bool:
        """Whether there is a tile at a position; elsewhere the grid is zero."""
        if self.tiles:
            return self.tiles[row * self.cols + col].status == "ok"
        ranges = self._ranges(row, col)
        names = [self._array.layout.file_name(i) for i in self._array.shards_in(ranges)]
        if not any((self._array.folder / name).exists() for name in names):
            return False
        return bool(self._array.read(ranges).any())

    def stored_tiles(self) -> list[tuple[int, int]]:
        """Return the positions ``(row, col)`` that may hold data, from names alone: others have no file."""
        there = self._array.stored()
        return [
            (row, col)
            for row in range(self.rows)
            for col in range(self.cols)
            if (not self.tiles or self.tiles[row * self.cols + col].status == "ok")
            and any(there[i] for i in self._array.shards_in(self._ranges(row, col)))
        ]

    def read_tile(self, row: int, col: int) -> FloatArray:
        """Read one tile, ``(z, y, x)`` float32.

        Raises
        ------
        InputError
            A shard is damaged; it is named.
        """
        tile = self._array.read(self._ranges(row, col)).astype(np.float32, copy=False)
        return np.ascontiguousarray(tile.transpose(0, 2, 1)) if self._transposed else tile


def _malformed(path: Path, expected: str, found: object) -> InputError:
    return InputError(
        "A mosaic grid is broken",
        file=shown(path),
        expected=expected,
        found=shown(repr(found))[:200],
    )


def _whole(value: object, minimum: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value < 2**31:
        raise ValueError(f"{value!r:.40} instead of a whole number")
    return value


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{value!r:.40} instead of a number")
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} instead of a number")
    return number


def _parse_tile(entry: Mapping[str, Any]) -> GridTile:
    x, y, z = (_number(v) for v in entry.get("stage_mm", (None, None, None)))
    shift = entry.get("galvo_shift")
    return GridTile(
        row=_whole(entry["row"], 0),
        col=_whole(entry["col"], 0),
        stage_mm=(x, y, z),
        source=str(entry.get("source", "")),
        status=str(entry.get("status", "ok")),
        galvo_shift=None if shift is None else _whole(shift, -(2**31)),
        galvo_confidence=_number(entry.get("galvo_confidence")),
    )


def _parse_tiles(attributes: Mapping[str, Any], rows: int, cols: int) -> tuple[GridTile, ...]:
    found = {(t.row, t.col): t for t in map(_parse_tile, attributes.get("tiles", []))}
    if not found:
        return ()
    return tuple(
        found.get((row, col), GridTile(row, col, status="missing"))
        for row in range(rows)
        for col in range(cols)
    )


def _tile_on_disk(path: Path, array: ZarrArray, attributes: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of a tile in the order of the array's axes."""
    given = attributes.get("tile_shape")
    if given is None:
        # Depth may be cut into several chunks: a tile is always as deep as the grid.
        tile = (array.shape[0], *array.layout.chunks[1:])
    else:
        tile = tuple(_whole(n, 1) for n in given)
    fits = len(tile) == len(array.shape) == 3 and tile[0] == array.shape[0]
    if not fits or any(n % t for n, t in zip(array.shape[1:], tile[1:], strict=True)):
        raise _malformed(path, "tiles as deep as the grid, in whole numbers", (array.shape, tile))
    if 4 * math.prod(tile) > MAX_CHUNK_BYTES:
        raise _malformed(path, f"tiles of at most {MAX_CHUNK_BYTES} bytes", tile)
    return tile


def _slice_id(path: Path, attributes: Mapping[str, Any]) -> int | None:
    if attributes.get("slice_id") is not None:
        return _whole(attributes["slice_id"], 0)
    found = _SLICE_ID.findall(path.name)
    return int(found[-1]) if found else None


def open_mosaic_grid(
    path: Path, grid_axes: GridAxes | None = None, threads: int | None = None
) -> MosaicGrid:
    """Open a mosaic grid, OME-NGFF 0.4 or 0.5.

    Parameters
    ----------
    path : Path
        The folder ``mosaic_grid_3d_z<NN>.ome.zarr``.
    grid_axes : {"yx", "xy"}, optional
        What the array's second and third axes are. The default is ``yx`` for soct's own grids, and ``xy`` for
        grids without soct's key, whose second axis carries the stage's x.
    threads : int, optional
        Threads for the disk; the default is all processors.

    Raises
    ------
    InputError
        There is no complete grid, it is broken, or files of it are missing.
    """
    path = Path(path)
    image = parse_image(path)
    is_own = NAMESPACE in read_group(path)
    level = image.levels[0]
    array = open_array(path / level.path, threads)
    try:
        tile = _tile_on_disk(path, array, image.attributes)
        transposed = (grid_axes or ("yx" if is_own else "xy")) == "xy"
        counts = tuple(n // t for n, t in zip(array.shape, tile, strict=True))
        order = (0, 2, 1) if transposed else (0, 1, 2)
        _, rows, cols = (counts[i] for i in order)
        n_z, n_y, n_x = (tile[i] for i in order)
        if rows * cols > 1_000_000:
            raise ValueError(f"{rows} x {cols} tiles")
        tiles = _parse_tiles(image.attributes, rows, cols)
        slice_id = _slice_id(path, image.attributes)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _malformed(path, "soct's description of a grid", str(error)) from error
    if image.stored is not None:
        check_stored(array, image.stored.get(level.path, ""))
    return MosaicGrid(
        path=path,
        rows=rows,
        cols=cols,
        tile_shape=(n_z, n_y, n_x),
        voxel_um=Voxel(*(level.voxel_um[i] for i in order)),
        tiles=tiles,
        attributes=image.attributes,
        slice_id=slice_id,
        _array=array,
        _transposed=transposed,
    )
