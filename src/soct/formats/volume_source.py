"""Anything that holds one volume, opened to be read block by block, whatever its format.

OME-Zarr, plain Zarr, uncompressed NIfTI and TIFF with a page per plane are read where they lie. Compressed NIfTI, NRRD, other
TIFF, raw tiles and `.oct` files are read as a whole when their first block is asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from soct.errors import InputError, UsageError
from soct.formats.ngff import ORIGIN, image_orientation, image_window, parse_image, read_group
from soct.formats.tiles import shown
from soct.formats.zarr_array import open_array, read_metadata
from soct.geometry.orientation import Shape, Window, reorientation
from soct.space import Array, Voxel

BAND_BYTES = 256 << 20
"""How much of a volume is in memory at a time, unless a single plane is larger."""


@dataclass(frozen=True)
class VolumeSource:
    """A volume that can be read in blocks.

    Attributes
    ----------
    path : Path
        Where it comes from, for messages.
    shape : tuple of int
        ``(z, y, x)``.
    dtype : dtype
        Of the voxels.
    read_block : callable
        Returns the block of a window, ``((z0, z1), (y0, y1), (x0, x1))``.
    voxel_um : Voxel or None
        None where the file does not say it.
    translation_um : Voxel
        Where the centre of the first voxel lies, along the array's own axes.
    orientation : str or None
        What z, y and x grow towards; None where it is not known.
    window : (float, float) or None
        Values shown black and white, where the file says them.
    chunk_z : int
        Planes that are read together at no extra cost.
    """

    path: Path
    shape: Shape
    dtype: np.dtype[Any]
    read_block: Callable[[Window], Array]
    voxel_um: Voxel | None
    translation_um: Voxel = ORIGIN
    orientation: str | None = None
    window: tuple[float, float] | None = None
    chunks: Shape = (1, 1, 1)

    @property
    def band_planes(self) -> int:
        """Planes to read at a time: whole chunks, as far as memory allows."""
        plane = max(1, self.shape[1] * self.shape[2] * max(4, self.dtype.itemsize))
        fit = max(1, BAND_BYTES // plane)
        return fit if fit < self.chunks[0] else fit // self.chunks[0] * self.chunks[0]

    def planes(self) -> Iterator[Array]:
        """Yield the volume in bands of planes ``(n, y, x)``."""
        n_z, n_y, n_x = self.shape
        for start in range(0, n_z, self.band_planes):
            stop = min(start + self.band_planes, n_z)
            yield self.read_block(((start, stop), (0, n_y), (0, n_x)))


def turned(source: VolumeSource, code: str) -> VolumeSource:
    """Return a source with its axes turned to an orientation; every voxel keeps its place in the body.

    Raises
    ------
    UsageError
        The source's orientation is not known.
    """
    if source.orientation is None:
        raise UsageError(
            "The volume does not say its orientation, so it cannot be turned",
            file=shown(source.path),
            expected="--orientation FROM:TO",
            found=f"--orientation {code}",
        )
    turn = reorientation(source.orientation, code)
    shape = source.shape

    def read(window: Window) -> Array:
        return turn.apply(source.read_block(turn.input_window(window, shape)))

    voxel = source.voxel_um
    starts = []
    for axis, flip in zip(turn.axes, turn.flips, strict=True):
        length = (shape[axis] - 1) * voxel[axis] if voxel is not None else 0.0
        start = source.translation_um[axis]
        starts.append(-(start + length) if flip else start)
    chunks = tuple(source.chunks[axis] for axis in turn.axes)
    return replace(
        source,
        shape=turn.shape(shape),
        read_block=read,
        voxel_um=None if voxel is None else turn.voxel(voxel),
        translation_um=Voxel(*starts),
        orientation=code,
        chunks=(chunks[0], chunks[1], chunks[2]),
    )


def coarser(source: VolumeSource, factors: Shape, *, labels: bool = False) -> VolumeSource:
    """Return a source whose voxels are blocks of another's: means of the voxels that are not 0.

    Of labels the middle voxel is taken. Blocks at the end may be smaller.
    """
    if factors == (1, 1, 1):
        return source
    shape = tuple(-(-n // f) for n, f in zip(source.shape, factors, strict=True))

    def read(window: Window) -> Array:
        inner = [
            (a * f, min(b * f, n))
            for (a, b), f, n in zip(window, factors, source.shape, strict=True)
        ]
        block = source.read_block((inner[0], inner[1], inner[2]))
        return block_middles(block, factors) if labels else block_means(block, factors)

    voxel = source.voxel_um
    moved = tuple(
        t + (f - 1) / 2 * v
        for t, f, v in zip(source.translation_um, factors, voxel or (0.0,) * 3, strict=True)
    )
    chunks = tuple(max(1, c // f) for c, f in zip(source.chunks, factors, strict=True))
    return replace(
        source,
        shape=(shape[0], shape[1], shape[2]),
        dtype=source.dtype if labels else np.dtype(np.float32),
        read_block=read,
        voxel_um=None
        if voxel is None
        else Voxel(*(v * f for v, f in zip(voxel, factors, strict=True))),
        translation_um=Voxel(*moved),
        chunks=(chunks[0], chunks[1], chunks[2]),
    )


def block_means(block: Array, factors: Shape) -> Array:
    """Return float32 means over blocks of the voxels that are finite and not 0; 0 where there is none."""
    values = np.where(np.isfinite(block), block, 0).astype(np.float64)
    count = (values != 0).astype(np.float64)
    for axis, factor in enumerate(factors):
        starts = np.arange(0, block.shape[axis], factor)
        values = np.add.reduceat(values, starts, axis=axis)
        count = np.add.reduceat(count, starts, axis=axis)
    means: Array = (values / np.maximum(count, 1)).astype(np.float32)
    return means


def block_middles(block: Array, factors: Shape) -> Array:
    """Return the middle voxel of every block, as labels are made coarser."""
    index = [
        np.minimum(np.arange(0, n, f) + f // 2, n - 1)
        for n, f in zip(block.shape, factors, strict=True)
    ]
    return block[np.ix_(*index)]


def as_type(
    source: VolumeSource, dtype: np.dtype[Any], window: tuple[float, float] | None
) -> VolumeSource:
    """Return a source with voxels of another type.

    Parameters
    ----------
    source : VolumeSource
    dtype : dtype
        uint8, uint16 or float32.
    window : (float, float) or None
        These values become 1 and the largest integer; 0 stays 0, for there are no data. None: values are
        rounded and clipped.
    """
    if dtype == source.dtype and window is None:
        return source

    def read(bounds: Window) -> Array:
        block = source.read_block(bounds)
        return _cast(block, dtype, window)

    shown_as = source.window
    if window is not None and dtype.kind == "u":
        shown_as = (0.0, float(np.iinfo(dtype).max))
    return replace(source, dtype=dtype, read_block=read, window=shown_as)


def _cast(block: Array, dtype: np.dtype[Any], window: tuple[float, float] | None) -> Array:
    if dtype.kind != "u":
        return block.astype(dtype)
    values = np.nan_to_num(block.astype(np.float64), nan=0.0)
    largest = float(np.iinfo(dtype).max)
    if window is not None:
        low, high = window
        scaled = 1 + (values - low) / (high - low) * (largest - 1)
        values = np.where(values == 0, 0, np.clip(scaled, 1, largest))
    return np.clip(np.rint(values), 0, largest).astype(dtype)


def measure_window(
    source: VolumeSource, percent: tuple[float, float] = (0.5, 99.8)
) -> tuple[float, float]:
    """Return percentiles of the voxels that are not 0, from every few planes."""
    n_z, n_y, n_x = source.shape
    step = max(1, n_z // 32)
    stride = max(1, int(np.sqrt(n_y * n_x / 250_000)))
    values = []
    for z in range(step // 2, n_z, step):
        plane = source.read_block(((z, z + 1), (0, n_y), (0, n_x)))[0, ::stride, ::stride]
        kept = plane[np.isfinite(plane) & (plane != 0)]
        values.append(kept.astype(np.float64))
    found = np.concatenate(values) if values else np.zeros(0)
    if not found.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(found, percent))
    return (low, high) if high > low else (low, low + 1.0)


def open_source(
    path: Path,
    *,
    level: int = 0,
    voxel_um: Voxel | None = None,
    orientation: str | None = None,
) -> VolumeSource:
    """Open a volume of any format that soct reads.

    Parameters
    ----------
    path : Path
        OME-Zarr 0.4 or 0.5, a plain Zarr array, NIfTI, NRRD, TIFF, a raw tile's folder, or a `.oct` file.
    level : int
        Which resolution of an OME-Zarr image; 0 is the finest.
    voxel_um : Voxel, optional
        Instead of what the file says.
    orientation : str, optional
        Instead of what the file says.

    Raises
    ------
    InputError
        There is nothing, or nothing that is a volume.
    """
    path = Path(path)
    if path.is_dir():
        source = _open_folder(path, level)
    elif path.name.lower().endswith(".oct"):
        source = _open_oct(path)
    elif path.exists():
        source = _open_file(path)
    else:
        raise InputError("There is no such volume", file=shown(path), expected="a file or folder")
    if level and not (path.is_dir() and _is_image(path)):
        raise UsageError(
            "Only OME-Zarr images have levels", file=shown(path), found=f"level {level}"
        )
    if voxel_um is not None:
        source = replace(source, voxel_um=voxel_um)
    return source if orientation is None else replace(source, orientation=orientation)


def _is_image(path: Path) -> bool:
    try:
        attributes = read_group(path)
    except InputError:
        return False
    return "multiscales" in attributes or "multiscales" in attributes.get("ome", {})


def _open_folder(path: Path, level: int) -> VolumeSource:
    if (path / "info.txt").is_file():
        return _open_tile(path)
    if (path / ".zarray").is_file() or _is_array(path):
        return _open_array(path)
    return _open_image(path, level)


def _is_array(path: Path) -> bool:
    file = path / "zarr.json"
    return file.is_file() and read_metadata(file).get("node_type") == "array"


def _open_array(path: Path) -> VolumeSource:
    array = open_array(path)
    shape = array.shape
    if len(shape) < 3 or any(n != 1 for n in shape[:-3]):
        raise InputError(
            "A Zarr array is not a volume", file=shown(path), expected="(z, y, x)", found=str(shape)
        )
    leading = [(0, 1)] * (len(shape) - 3)

    def read(window: Window) -> Array:
        block = array.read([*leading, *window])
        return block.reshape(block.shape[-3:])

    own = {}
    if (path / "zarr.json").is_file():
        own = read_metadata(path / "zarr.json").get("attributes", {}).get("soct", {})
    said = own.get("voxel_um") if isinstance(own, dict) else None
    voxel = Voxel(*(float(v) for v in said)) if isinstance(said, list) and len(said) == 3 else None
    code = own.get("orientation") if isinstance(own, dict) else None
    kept, layout = shape[-3:], array.layout.chunks[-3:]
    return VolumeSource(
        path,
        (kept[0], kept[1], kept[2]),
        np.dtype(array.layout.dtype),
        read,
        voxel,
        orientation=code if isinstance(code, str) else None,
        chunks=(layout[0], layout[1], layout[2]),
    )


def _open_image(path: Path, level: int) -> VolumeSource:
    from soct.formats.ome_zarr import open_volume

    volume = open_volume(path, level)
    image = parse_image(path)
    dtype = np.dtype(open_array(path / image.levels[level].path).layout.dtype)
    chunks = volume.chunks
    return VolumeSource(
        path,
        volume.shape,
        dtype,
        lambda window: volume.read(*window),
        volume.voxel_um if image.says_unit else None,
        volume.translation_um,
        image_orientation(path),
        image_window(path),
        (chunks[0], chunks[1], chunks[2]),
    )


def _open_tile(path: Path) -> VolumeSource:
    from soct.formats.raw import read_tile
    from soct.formats.tile_check import check_tile
    from soct.formats.tile_search import TileFolder
    from soct.formats.tiles import Problem

    folder = path.resolve()
    tile = check_tile(TileFolder(0, 0, 0, folder), folder)
    if isinstance(tile, Problem):
        raise InputError(tile.message, file=shown(path), expected=tile.expected, found=tile.found)
    info = tile.info
    axial = info.axial_resolution_um
    voxel = None if axial is None else Voxel(axial, *info.pixel_um)
    return _whole(path, info.shape, np.dtype(np.float32), lambda: read_tile(tile), voxel)


def _open_oct(path: Path) -> VolumeSource:
    from soct.formats.thorlabs import read_header, read_magnitude

    header = read_header(path)
    x, y, z = header.size
    rx, ry, rz = (1000 * r for r in header.range_mm)
    voxel = Voxel(rz / z, ry / y, rx / x)
    return _whole(
        path, (z, y, x), np.dtype(np.float32), lambda: read_magnitude(path, crop=(0, z)), voxel
    )


def _open_file(path: Path) -> VolumeSource:
    from soct.formats.volume_files import read_header, read_volume, read_window
    from soct.geometry.orientation import RAS, direction_matrix, is_oblique

    header = read_header(path)
    if header.says_orientation and is_oblique(header.affine):
        raise UsageError(
            "The axes of the volume are oblique, which only a resampling can straighten",
            file=shown(path),
            expected="axes along those of the body",
        )

    def load() -> Array:
        unknown = header.orientation is None
        voxel = None if header.says_voxel else (1.0, 1.0, 1.0)
        return read_volume(path, voxel_um=voxel, orientation=RAS if unknown else None).data

    start = Voxel(0.0, 0.0, 0.0)
    if header.orientation is not None:
        start = Voxel(*(1000 * (direction_matrix(header.orientation).T @ header.affine[:3, 3])))
    whole = _whole(
        path, header.shape, header.dtype, load, header.voxel_um, start, header.orientation
    )

    def read(window: Window) -> Array:
        block = read_window(path, window)
        return whole.read_block(window) if block is None else block

    return replace(whole, read_block=read)


def _whole(
    path: Path,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    load: Callable[[], Array],
    voxel_um: Voxel | None,
    translation_um: Voxel = ORIGIN,
    orientation: str | None = None,
) -> VolumeSource:
    loaded = cache(load)

    def read(window: Window) -> Array:
        return loaded()[tuple(itertools.starmap(slice, window))]

    return VolumeSource(
        path,
        (shape[0], shape[1], shape[2]),
        dtype,
        read,
        voxel_um,
        translation_um,
        orientation,
    )


def in_memory(source: VolumeSource, data: Array) -> VolumeSource:
    """Return a source of other voxels in the place of another's."""
    if data.shape != source.shape:
        raise ValueError(f"voxels of shape {data.shape} in a place of shape {source.shape}")

    def read(window: Window) -> Array:
        return data[tuple(itertools.starmap(slice, window))]

    return replace(source, dtype=data.dtype, read_block=read, window=None)


def volume_of(
    path: Path,
    data: Array,
    voxel_um: Voxel,
    orientation: str | None = None,
    window: tuple[float, float] | None = None,
) -> VolumeSource:
    """Return a source of voxels that are in memory; `path` is what messages name."""
    z, y, x = data.shape

    def read(block: Window) -> Array:
        return data[tuple(itertools.starmap(slice, block))]

    return VolumeSource(
        path, (z, y, x), data.dtype, read, voxel_um, orientation=orientation, window=window
    )
