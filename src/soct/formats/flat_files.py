"""Two-dimensional pictures of any size, written by bands of rows with coarser levels: OME-Zarr 0.5, or TIFF in tiles.

Each level halves the one before: its pixels are exact means over the base pixels with data in the block. Nothing larger than a
band is ever in memory; the coarser levels of a TIFF, which come after the base level, wait on disk.

In OME-Zarr the picture is a volume of one plane, ``(1, y, x)``, which everything that reads volumes opens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from soct.compute.threads import available_cpus
from soct.errors import UsageError
from soct.formats.atomic import write_bytes
from soct.formats.conversion import new_place
from soct.formats.ngff import Level, group_metadata, multiscales
from soct.formats.pyramid_layout import balanced
from soct.formats.shards import ShardAssembler, pack_stored
from soct.formats.tiles import shown
from soct.formats.volume_sink import suffix_of
from soct.formats.zarr_array import create_array, json_bytes
from soct.space import Array, FloatArray, Voxel

SUFFIXES = (".ome.zarr", ".ome.tif", ".ome.tiff", ".tif", ".tiff")
MOST_BAND_ROWS = 512

Band = tuple[FloatArray, NDArray[np.bool_]]
"""Rows of a picture, and which of their pixels have data."""

_CHUNK = 512
_SHARD_COLUMNS = 8 * _CHUNK
_SMALLEST_SIDE = 512
_TIFF_TILE = 256
_WINDOW_PERCENT = (0.5, 99.8)
_TIFF_BUFFER_BYTES = 64 << 20
_MOST_CLASSIC_BYTES = 3 << 30
_FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}
_CONSTANT_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class FlatSpec:
    """What a picture is.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns.
    dtype : dtype
        float32; or uint8 or uint16, whose largest value stands for 1.
    pixel_um : (float, float) or None
        Size of a pixel along (y, x); None where it is not known.
    fill : float
        Value of pixels without data.
    band_rows : int
        Rows of every band but the last: a power of 2, at most `MOST_BAND_ROWS`.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    pixel_um: tuple[float, float] | None = None
    fill: float = 0.0
    band_rows: int = MOST_BAND_ROWS

    @property
    def levels(self) -> int:
        """Number of levels: the last one is small enough to look at, or has one row per band."""
        count = 1
        while max(self.shape) >> (count - 1) > _SMALLEST_SIDE and self.band_rows >> count:
            count += 1
        return count

    def shape_of(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        h, w = self.shape
        return -(-h >> level), -(-w >> level)


def flat_suffix(path: Path) -> str:
    """Return which of `SUFFIXES` a name has.

    Raises
    ------
    UsageError
        It has none of them.
    """
    return suffix_of(path, SUFFIXES, "pictures of this kind by bands")


def write_flat(path: Path, spec: FlatSpec, bands: Iterable[Band]) -> None:
    """Write a picture; it is there when it is complete.

    Parameters
    ----------
    path : Path
        See `SUFFIXES`; must not exist.
    spec : FlatSpec
    bands : iterable of (float32 ndarray, bool ndarray)
        From the top down, of `spec.band_rows` rows. Arrays may be used again for the next band.

    Raises
    ------
    UsageError
        The name has another ending or exists, or the type of pixels is none of those.
    ResourceError
        The disk is full.
    """
    suffix = flat_suffix(path)
    if spec.dtype.name not in _FULL_SCALE:
        raise UsageError(
            f"Pictures of type {spec.dtype} are not written",
            file=shown(path),
            expected=", ".join(_FULL_SCALE),
        )
    with new_place(path) as place:
        if suffix == ".ome.zarr":
            _write_zarr(place, spec, bands)
        else:
            _write_tiff(place, spec, bands, ome=suffix.startswith(".ome"))


@njit(cache=True, nogil=True, parallel=True)
def _halve(data: Any, count: Any, means: Any, counts: Any) -> None:  # pragma: no cover - compiled
    """Means over blocks of 2 x 2, where each pixel counts by the base pixels that it stands for.

    Counts are whole numbers of type float32, exact up to blocks of 4096 x 4096; so the loop is vector instructions.
    """
    h, w = data.shape
    one = np.float32(1.0)
    for y in prange(means.shape[0]):
        # An odd row stands alone: the one below counts nothing.
        below = np.float32(1.0 if 2 * y + 1 < h else 0.0)
        a, b = data[2 * y], data[min(2 * y + 1, h - 1)]
        na, nb = count[2 * y], count[min(2 * y + 1, h - 1)]
        out, number = means[y], counts[y]
        for x in range(w // 2):
            n0, n1, n2, n3 = na[2 * x], na[2 * x + 1], below * nb[2 * x], below * nb[2 * x + 1]
            n = n0 + n1 + n2 + n3
            total = a[2 * x] * n0 + a[2 * x + 1] * n1 + b[2 * x] * n2 + b[2 * x + 1] * n3
            out[x] = total / max(n, one)
            number[x] = n
        if w % 2:
            n0, n2 = na[w - 1], below * nb[w - 1]
            out[w // 2] = (a[w - 1] * n0 + b[w - 1] * n2) / max(n0 + n2, one)
            number[w // 2] = n0 + n2


@njit(cache=True, nogil=True, parallel=True)
def _to_whole(data: Any, scale: Any, out: Any) -> None:  # pragma: no cover - compiled
    """Brightness 0..1 to whole numbers; what is no number becomes 0."""
    zero = np.float32(0.0)
    for y in prange(data.shape[0]):
        for x in range(data.shape[1]):
            value = np.rint(data[y, x] * scale)
            out[y, x] = min(value, scale) if value > zero else zero


def _levels(spec: FlatSpec, bands: Iterable[Band]) -> Iterator[tuple[int, int, Array]]:
    """Turn bands into the rows of all levels as they are stored: level, first row, rows."""
    received = 0
    for band, valid in bands:
        due = min(spec.band_rows, spec.shape[0] - received)
        if band.shape != (due, spec.shape[1]) or valid.shape != band.shape or not due:
            raise ValueError(f"a band {band.shape} instead of {(due, spec.shape[1])}")
        data = np.ascontiguousarray(band, np.float32)
        count = valid.astype(np.float32)
        for level in range(spec.levels):
            if level:
                shape = (-(-data.shape[0] // 2), -(-data.shape[1] // 2))
                means, counts = np.empty(shape, np.float32), np.empty(shape, np.float32)
                _halve(data, count, means, counts)
                data, count = means, counts
            yield level, received >> level, _stored(spec, data, count)
        received += due
    if received != spec.shape[0]:
        raise ValueError(f"{received} rows instead of {spec.shape[0]}")


def _stored(spec: FlatSpec, data: FloatArray, count: FloatArray) -> Array:
    values = data if count.all() else np.where(count > 0, data, np.float32(spec.fill))
    if spec.dtype == np.float32:
        return values
    out = np.empty(data.shape, spec.dtype)
    _to_whole(values, np.float32(_FULL_SCALE[spec.dtype.name]), out)
    return out


def _write_zarr(place: Path, spec: FlatSpec, bands: Iterable[Band]) -> None:
    parts = []
    for level in range(spec.levels):
        h, w = spec.shape_of(level)
        chunk = (1, min(spec.band_rows, h), balanced(w, _CHUNK))
        shard = (*chunk[:2], chunk[2] * max(1, _SHARD_COLUMNS // chunk[2]))
        array = create_array(place / str(level), (1, h, w), spec.dtype, chunk, shard, "zstd")
        parts.append(ShardAssembler(array, spec.dtype))
    smallest: list[Array] = []
    # Rows are compressed and written while the next band is made.
    with ThreadPoolExecutor(1) as pool:
        writing: list[Future[None]] = []
        for level, row, rows in _levels(spec, bands):
            if level == 0:
                _wait(writing)
                rows = rows.copy() if spec.dtype == np.float32 else rows
            if level == spec.levels - 1:
                smallest.append(rows)
            writing.append(pool.submit(parts[level].add, (0, row, 0), rows[None]))
        _wait(writing)
    for part in parts:
        part.flush()
    name = place.name.removesuffix(".zarr").removesuffix(".ome")
    scales = multiscales(name, [_level(spec, i) for i in range(spec.levels)])
    if spec.pixel_um is None:
        # Without a unit, scales are numbers of base pixels.
        for axis in scales["axes"]:
            del axis["unit"]
    own = {
        "kind": "mosaic",
        "pixel_um": None if spec.pixel_um is None else list(spec.pixel_um),
        "stored": {part.array.folder.name: pack_stored(part.array) for part in parts},
    }
    metadata = group_metadata({"multiscales": [scales], "omero": _omero(spec, smallest)}, own)
    write_bytes(place / "zarr.json", json_bytes(metadata))


def _omero(spec: FlatSpec, smallest: list[Array]) -> dict[str, Any]:
    """Say how to show the picture: as most of its smallest copy is, leaving pixels without data out."""
    values = np.concatenate([rows.ravel() for rows in smallest])
    values = values[np.isfinite(values) & (values != 0)]
    start, end = np.percentile(values, _WINDOW_PERCENT).tolist() if values.size else (0.0, 1.0)
    low, high = 0.0, float(_FULL_SCALE[spec.dtype.name])
    window = {"min": min(low, start), "max": max(high, end), "start": start, "end": end}
    channel = {"label": "mosaic", "color": "FFFFFF", "active": True, "window": window}
    return {"channels": [channel], "rdefs": {"model": "greyscale", "defaultZ": 0, "defaultT": 0}}


def _wait(writing: list[Future[None]]) -> None:
    for future in writing:
        future.result()
    writing.clear()


def _level(spec: FlatSpec, level: int) -> Level:
    y, x = spec.pixel_um or (1.0, 1.0)
    factor = 1 << level
    start = (factor - 1) / 2
    return Level(str(level), Voxel(1.0, y * factor, x * factor), Voxel(0.0, start * y, start * x))


def _write_tiff(place: Path, spec: FlatSpec, bands: Iterable[Band], *, ome: bool) -> None:
    import tifffile

    side = min(_TIFF_TILE, spec.band_rows)
    coarser = [
        np.lib.format.open_memmap(
            place.parent / f"level{i}.npy", "w+", spec.dtype, spec.shape_of(i)
        )
        for i in range(1, spec.levels)
    ]

    def base() -> Iterator[Array]:
        for level, row, rows in _levels(spec, bands):
            if level:
                coarser[level - 1][row : row + len(rows)] = rows
            else:
                yield from _tiles(rows, side)

    options: dict[str, Any] = {"tile": (side, side), "photometric": "minisblack", "metadata": None}
    if spec.dtype.kind == "u":
        options.update(compression="zlib", compressionargs={"level": 1})
        options.update(maxworkers=available_cpus(), buffersize=_TIFF_BUFFER_BYTES)
    if spec.pixel_um is not None:
        y, x = spec.pixel_um
        options.update(resolution=(1e4 / x, 1e4 / y), resolutionunit="CENTIMETER")
    # A third more for the coarser levels; what fits into a classic TIFF, more programs read.
    is_big = 4 / 3 * spec.shape[0] * spec.shape[1] * spec.dtype.itemsize > _MOST_CLASSIC_BYTES
    with tifffile.TiffWriter(place, bigtiff=is_big, ome=ome) as file:
        first = {**options, "metadata": _ome(spec)} if ome else options
        # Not the generator itself: the writer closes that after the last tile, when coarser rows are still to come.
        tiles = chain(base())
        file.write(
            tiles,
            shape=spec.shape,
            dtype=spec.dtype,
            subifds=len(coarser),
            software="soct",
            **first,
        )
        if next(tiles, None) is not None:
            raise AssertionError("more tiles than the picture has")
        for i, level in enumerate(coarser, 1):
            if spec.pixel_um is not None:
                y, x = spec.pixel_um
                options["resolution"] = (1e4 / (x * 2**i), 1e4 / (y * 2**i))
            file.write(
                _tiles(level, side), shape=level.shape, dtype=spec.dtype, subfiletype=1, **options
            )


def _ome(spec: FlatSpec) -> dict[str, Any]:
    sizes: dict[str, Any] = {}
    for axis, size in zip("YX", spec.pixel_um or (), strict=False):
        sizes |= {f"PhysicalSize{axis}": float(size), f"PhysicalSize{axis}Unit": "µm"}
    return {"axes": "YX", "UUID": _CONSTANT_UUID, **sizes}


def _tiles(rows: Array, side: int) -> Iterator[Array]:
    """Cut rows into square tiles, whole ones also at the right and lower edge."""
    for y in range(0, rows.shape[0], side):
        for x in range(0, rows.shape[1], side):
            part = rows[y : y + side, x : x + side]
            tile = np.zeros((side, side), rows.dtype)
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile
