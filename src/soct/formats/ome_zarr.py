"""Volumes as OME-Zarr: one resolution for the pipeline's own use, a pyramid for the final one.

A volume is complete when its `zarr.json` is there: it is written last, and lists which shards have a file,
so that a lost file is found and not read as zeros. No metadata hold a time: equal input gives equal bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from soct.errors import InputError
from soct.formats.atomic import write_bytes
from soct.formats.ngff import Image, Level, group_metadata, multiscales, parse_image
from soct.formats.pyramid import PyramidWriter
from soct.formats.pyramid_layout import balanced
from soct.formats.shards import ShardAssembler, check_stored, pack_stored
from soct.formats.tiles import shown
from soct.formats.zarr_array import (
    Codec,
    Range,
    ZarrArray,
    create_array,
    json_bytes,
    open_array,
)
from soct.space import Voxel

__all__ = ["PyramidWriter", "VolumeReader", "VolumeWriter", "create_volume", "open_volume"]

VALID_NAME = "soct_valid"
MAX_PLANE_VOXELS = 1 << 30
_CHUNK_EDGE = 64
_SHARD_BYTES = 32 << 20


def block_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Choose chunks of about 1 MiB for a volume that is read in any direction."""
    return tuple(balanced(n, _CHUNK_EDGE) for n in shape)


def block_shards(shape: Sequence[int], chunks: Sequence[int], itemsize: int = 4) -> tuple[int, ...]:
    """Choose shards of about 32 MiB: deep in z, one chunk high in y, so that bands of rows stay thin."""
    z = chunks[0] * min(-(-shape[0] // chunks[0]), 8)
    column = z * chunks[1] * chunks[2] * itemsize
    wide = max(1, min(-(-shape[2] // chunks[2]), _SHARD_BYTES // column))
    return (z, chunks[1], chunks[2] * wide)


def plane_chunks(shape: Sequence[int]) -> tuple[int, ...]:
    """Choose chunks of about 1 MiB for a volume of which single planes are read, and that is written in bands."""
    return (min(shape[0], 4), balanced(shape[1], _CHUNK_EDGE), balanced(shape[2], 16 * _CHUNK_EDGE))


def band_shards(shape: Sequence[int], chunks: Sequence[int], itemsize: int = 4) -> tuple[int, ...]:
    """Choose shards for bands of rows that come over the full depth: at most 512 deep, near 32 MiB."""
    z = chunks[0] * min(-(-shape[0] // chunks[0]), max(1, 512 // chunks[0]))
    column = z * chunks[1] * chunks[2] * itemsize
    wide = max(1, min(-(-shape[2] // chunks[2]), _SHARD_BYTES // column))
    return (z, chunks[1], chunks[2] * wide)


class VolumeWriter:
    """Writes one volume block by block; see `create_volume`. A context manager that closes on success."""

    def __init__(
        self,
        path: Path,
        array: ZarrArray,
        dtype: np.dtype[Any],
        level: Level,
        attributes: Mapping[str, Any],
        threads: int | None,
    ) -> None:
        self.path = path
        self.shape = array.shape
        self.shards = array.layout.shards
        self._array = array
        self._shards = ShardAssembler(array, dtype)
        self._level = level
        self._attributes = dict(attributes)
        self._threads = threads
        self._stored: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.close()

    def write(self, start: Sequence[int], block: NDArray[Any]) -> None:
        """Write a block ``(z, y, x)`` whose first voxel lies at `start`.

        Blocks must not overlap; those that cover whole `shards` need no extra memory. Blocks may come in any
        order; voxels that never come are zeros.
        """
        self._shards.add(start, block)

    def write_valid(self, valid: NDArray[np.int16]) -> None:
        """Write the valid depth range per A-line.

        Parameters
        ----------
        valid : ndarray of int16, shape (2, Y, X)
            First valid z, and one past the last; both 0 where there is none.
        """
        shape = (2, *self.shape[1:])
        if valid.shape != shape:
            raise ValueError(f"valid has shape {valid.shape}, expected {shape}")
        write_valid(self.path, valid, self._stored, self._threads)

    def update_attributes(self, attributes: Mapping[str, Any]) -> None:
        """Add to soct's own attributes, which are written by `close`."""
        self._attributes.update(attributes)

    def close(self) -> None:
        """Write what is left and the metadata: from here on the volume is complete."""
        self._shards.flush()
        self._stored[self._level.path] = pack_stored(self._array)
        name = self.path.name.removesuffix(".zarr").removesuffix(".ome")
        content = group_metadata(
            {"multiscales": [multiscales(name, [self._level])]},
            {**self._attributes, "stored": dict(sorted(self._stored.items()))},
        )
        write_bytes(self.path / "zarr.json", json_bytes(content))


def write_valid(
    path: Path, valid: NDArray[np.int16], stored: dict[str, str], threads: int | None
) -> None:
    """Write a volume's valid depth range as array `VALID_NAME`, and note its shards in `stored`."""
    edge = tuple(balanced(n, 1024) for n in valid.shape[1:])
    array = create_array(
        path / VALID_NAME,
        valid.shape,
        np.int16,
        (2, *edge),
        (2, *edge),
        "zstd",
        ("bound", "y", "x"),
        threads,
    )
    block = np.ascontiguousarray(valid, np.int16)
    array.finish([array.write((0, 0, 0), block)])
    stored[VALID_NAME] = pack_stored(array)


def create_volume(
    path: Path,
    shape: Sequence[int],
    voxel_um: Voxel,
    dtype: DTypeLike = np.float32,
    chunks: Sequence[int] | None = None,
    shards: Sequence[int] | None = None,
    codec: Codec = "none",
    attributes: Mapping[str, Any] | None = None,
    translation_um: Sequence[float] = (0.0, 0.0, 0.0),
    threads: int | None = None,
) -> VolumeWriter:
    """Begin a volume of one resolution, OME-NGFF 0.5 on Zarr v3.

    Parameters
    ----------
    path : Path
        The folder ``*.ome.zarr`` to write; it must not hold a volume already.
    shape : sequence of int
        ``(z, y, x)``.
    voxel_um : Voxel
        Voxel size.
    dtype : dtype
        Of the voxels.
    chunks, shards : sequence of int, optional
        Unit of reading, and unit of writing (one file each); the defaults suit any direction.
    codec : {"none", "zstd"}
        Compression; both carry checksums. Speckle hardly compresses.
    attributes : mapping, optional
        JSON-able, kept under the key ``soct``.
    translation_um : sequence of float
        Where the centre of the first voxel lies.
    threads : int, optional
        Threads for the disk; the default is all processors.
    """
    path = Path(path)
    if (path / "zarr.json").exists():
        raise ValueError(f"{path} holds a volume already")
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"a volume of shape {tuple(shape)}")
    kind = np.dtype(dtype)
    chunks = tuple(chunks) if chunks is not None else block_chunks(shape)
    shards = tuple(shards) if shards is not None else block_shards(shape, chunks, kind.itemsize)
    array = create_array(path / "0", shape, kind, chunks, shards, codec, threads=threads)
    level = Level("0", Voxel(*voxel_um), Voxel(*translation_um))
    return VolumeWriter(path, array, kind, level, attributes or {}, threads)


class VolumeReader:
    """One resolution of an OME-Zarr image, open for reading; see `open_volume`."""

    def __init__(
        self,
        path: Path,
        array: ZarrArray,
        level: Level,
        image: Image,
        threads: int | None,
    ) -> None:
        self.path = path
        self.voxel_um = level.voxel_um
        self.translation_um = level.translation_um
        self.attributes = image.attributes
        self._stored = image.stored or {}
        self._array = array
        self._threads = threads
        self._leading = [(0, 1)] * (len(array.shape) - 3)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape ``(z, y, x)``."""
        z, y, x = self._array.shape[-3:]
        return (z, y, x)

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of one file; blocks of whole files are read fastest."""
        return self._array.layout.shards[-3:]

    @property
    def chunks(self) -> tuple[int, ...]:
        """Shape of the smallest part that is read."""
        return self._array.layout.chunks[-3:]

    def read(
        self, z: Range | None = None, y: Range | None = None, x: Range | None = None
    ) -> NDArray[Any]:
        """Read a block; each range is ``(start, stop)``, None for the whole axis.

        Raises
        ------
        InputError
            A shard is damaged; it is named.
        """
        return self.begin_read(z, y, x)()

    def begin_read(
        self, z: Range | None = None, y: Range | None = None, x: Range | None = None
    ) -> Callable[[], NDArray[Any]]:
        """Begin to read a block in the background; what is returned waits for it, and raises as `read` does."""
        asked = (z, y, x)
        ranges = [(0, n) if r is None else r for r, n in zip(asked, self.shape, strict=True)]
        if not all(0 <= a <= b <= n for (a, b), n in zip(ranges, self.shape, strict=True)):
            raise ValueError(f"block {ranges} is outside of the volume {self.shape}")
        wait = self._array.begin_read([*self._leading, *ranges])

        def block() -> NDArray[Any]:
            found = wait()
            return found.reshape(found.shape[-3:])

        return block

    def read_valid(self) -> NDArray[np.int16]:
        """Read the valid depth range per A-line, shape ``(2, Y, X)``; the full depth where none is stored."""
        folder = self.path / VALID_NAME
        shape = (2, *self.shape[1:])
        if not folder.exists() and VALID_NAME not in self._stored:
            valid = np.zeros(shape, np.int16)
            valid[1] = self.shape[0]
            return valid
        array = open_array(folder, self._threads)
        if VALID_NAME in self._stored:
            check_stored(array, self._stored[VALID_NAME])
        if array.shape != shape:
            raise InputError(
                "The valid range does not fit its volume",
                file=shown(folder),
                expected=f"shape {shape}",
                found=f"shape {array.shape}",
            )
        return array.read([(0, n) for n in shape]).astype(np.int16, copy=False)


def open_volume(path: Path, level: int = 0, threads: int | None = None) -> VolumeReader:
    """Open one resolution of an OME-Zarr image (0.4 or 0.5, with axes z, y, x last).

    Parameters
    ----------
    path : Path
        The folder ``*.ome.zarr``.
    level : int
        0 is the finest.
    threads : int, optional
        Threads for the disk; the default is all processors.

    Raises
    ------
    InputError
        There is no complete image, it is broken, or files of it are missing.
    """
    path = Path(path)
    image = parse_image(path)
    if not 0 <= level < len(image.levels):
        raise InputError(
            "An image has no such level",
            file=shown(path),
            expected=f"a level from 0 to {len(image.levels) - 1}",
            found=str(level),
        )
    chosen = image.levels[level]
    array = open_array(path / chosen.path, threads)
    if len(array.shape) < 3 or any(n != 1 for n in array.shape[:-3]):
        raise InputError(
            "An image is not a volume",
            file=shown(path / chosen.path),
            expected="shape (z, y, x), or more axes of length 1 before",
            found=f"shape {array.shape}",
        )
    if math.prod(array.shape[-2:]) > MAX_PLANE_VOXELS:
        raise InputError(
            "An image is implausibly large",
            file=shown(path / chosen.path),
            expected=f"planes of at most {MAX_PLANE_VOXELS} voxels",
            found=f"shape {array.shape}",
        )
    if image.stored is not None:
        check_stored(array, image.stored.get(chosen.path, ""))
    return VolumeReader(path, array, chosen, image, threads)
