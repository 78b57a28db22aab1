"""One Zarr array on disk: sharded, checksummed, written whole shard by whole shard through tensorstore.

Metadata files are written here and not by a library, so that equal input gives equal bytes. Reading takes
Zarr version 2 and 3; whatever is broken becomes an `InputError` that names the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike, NDArray

from soct.compute.threads import available_cpus
from soct.errors import InputError, ResourceError
from soct.formats.atomic import write_bytes
from soct.formats.tiles import shown
from soct.formats.zarr_check import check_v2, check_v3

Codec = Literal["none", "zstd"]
Range = tuple[int, int]

MAX_METADATA_BYTES = 64 << 20
# A chunk is decoded whole, and the index of a shard is read whole: a larger one is a wrong header.
MAX_CHUNK_BYTES = 8 << 30
MAX_CHUNKS_PER_SHARD = 1 << 20
_DTYPES = {"float32", "float64", "uint8", "uint16", "uint32", "int8", "int16", "int32"}


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """Serialise metadata: the same content gives the same bytes."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def read_metadata(file: Path) -> dict[str, Any]:
    """Read one JSON metadata file of a Zarr store.

    Raises
    ------
    InputError
        It is absent, too large or not a JSON object.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_METADATA_BYTES + 1)
        if len(data) > MAX_METADATA_BYTES:
            raise ValueError(f"more than {MAX_METADATA_BYTES} bytes")
        content = json.loads(data)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            "Zarr metadata cannot be read", file=shown(file), expected="a JSON file", found=reason
        ) from error
    except (ValueError, RecursionError) as error:
        reason = shown(f"{type(error).__name__}: {error}")[:200]
        raise InputError(
            "Zarr metadata are broken", file=shown(file), expected="a JSON object", found=reason
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            "Zarr metadata are broken",
            file=shown(file),
            expected="a JSON object",
            found=type(content).__name__,
        )
    return content


def context(threads: int | None) -> ts.Context:
    """Bound the threads that tensorstore uses for one array, and keep it from caching."""
    limit = max(1, threads if threads is not None else available_cpus())
    return ts.Context(
        {
            "data_copy_concurrency": {"limit": limit},
            "file_io_concurrency": {"limit": limit},
            "cache_pool": {"total_bytes_limit": 0},
        }
    )


def _bytes_codec(dtype: np.dtype[Any]) -> dict[str, Any]:
    codec: dict[str, Any] = {"name": "bytes"}
    if dtype.itemsize > 1:
        codec["configuration"] = {"endian": "little"}
    return codec


def array_metadata(
    shape: Sequence[int],
    dtype: DTypeLike,
    chunks: Sequence[int],
    shards: Sequence[int],
    codec: Codec,
    dimension_names: Sequence[str],
) -> dict[str, Any]:
    """Describe a sharded array whose every chunk and index carries a crc32c checksum."""
    kind = np.dtype(dtype)
    chain = [_bytes_codec(kind)]
    if codec == "zstd":
        chain.append({"name": "zstd", "configuration": {"level": 1, "checksum": False}})
    chain.append({"name": "crc32c"})
    index = [_bytes_codec(np.dtype("uint64")), {"name": "crc32c"}]
    sharding = {
        "chunk_shape": list(chunks),
        "codecs": chain,
        "index_codecs": index,
        "index_location": "end",
    }
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": kind.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(shards)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0 if kind.kind == "f" else 0,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "dimension_names": list(dimension_names),
        "storage_transformers": [],
    }


def _as_shape(value: object, file: Path, what: str) -> tuple[int, ...]:
    is_shape = isinstance(value, list) and all(
        isinstance(n, int) and not isinstance(n, bool) and 0 < n < 2**31 for n in value
    )
    if not is_shape or not 0 < len(value) <= 8:  # type: ignore[arg-type]
        raise InputError(
            f"A Zarr array has a wrong {what}",
            file=shown(file),
            expected="one to eight positive whole numbers",
            found=shown(repr(value))[:120],
        )
    return tuple(value)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Layout:
    """Shape, chunks (the unit of reading) and shards (the unit of writing: one file) of an array."""

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    shards: tuple[int, ...]
    dtype: str
    version: Literal[2, 3]
    separator: str = "/"

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of shards per axis."""
        return tuple(-(-n // s) for n, s in zip(self.shape, self.shards, strict=True))

    def file_name(self, index: Sequence[int]) -> str:
        """Name of a shard's file, relative to the array's folder."""
        key = self.separator.join(str(i) for i in index)
        return key if self.version == 2 else f"c{self.separator}{key}"


def _check_layout(layout: Layout, file: Path) -> None:
    problem = None
    if not len(layout.shape) == len(layout.chunks) == len(layout.shards):
        problem = "shape, chunks and shards of different length"
    elif layout.dtype not in _DTYPES:
        problem = f"data type {layout.dtype[:40]}"
    elif math.prod(layout.chunks) * np.dtype(layout.dtype).itemsize > MAX_CHUNK_BYTES:
        problem = f"a chunk of {layout.chunks}"
    elif any(s % c for s, c in zip(layout.shards, layout.chunks, strict=True)):
        problem = f"shards {layout.shards} of chunks {layout.chunks}"
    elif math.prod(layout.shards) // math.prod(layout.chunks) > MAX_CHUNKS_PER_SHARD:
        problem = f"{layout.shards} shards of {layout.chunks} chunks"
    if problem is not None:
        raise InputError(
            "A Zarr array has a layout that soct does not read",
            file=shown(file),
            expected=f"chunks of at most {MAX_CHUNK_BYTES} bytes, {', '.join(sorted(_DTYPES))}",
            found=shown(problem),
        )


def read_layout(folder: Path) -> Layout:
    """Read and check the metadata of an array, before anything is allocated.

    Raises
    ------
    InputError
        The folder holds no array, or one that soct does not read.
    """
    file, version = folder / "zarr.json", 3
    if not file.exists() and (folder / ".zarray").exists():
        file, version = folder / ".zarray", 2
    content = read_metadata(file)
    try:
        if version == 2:
            check_v2(content)
            chunks = _as_shape(content["chunks"], file, "chunks")
            layout = Layout(
                _as_shape(content["shape"], file, "shape"),
                chunks,
                chunks,
                np.dtype(content["dtype"]).name,
                2,
                str(content.get("dimension_separator", ".")),
            )
        else:
            check_v3(content)
            shards = _as_shape(content["chunk_grid"]["configuration"]["chunk_shape"], file, "grid")
            codecs = content["codecs"]
            is_sharded = codecs[0]["name"] == "sharding_indexed"
            chunks = (
                _as_shape(codecs[0]["configuration"]["chunk_shape"], file, "chunk shape")
                if is_sharded
                else shards
            )
            encoding = content["chunk_key_encoding"]
            default = "/" if encoding["name"] == "default" else "."
            separator = encoding.get("configuration", {}).get("separator", default)
            layout = Layout(
                _as_shape(content["shape"], file, "shape"),
                chunks,
                shards,
                str(content["data_type"]),
                3,
                str(separator),
            )
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, SyntaxError) as error:
        raise InputError(
            "Zarr metadata are incomplete",
            file=shown(file),
            expected="the metadata of an array",
            found=shown(f"{type(error).__name__}: {error}")[:120],
        ) from error
    _check_layout(layout, file)
    return layout


class ZarrArray:
    """An array on disk, open for reading, and for writing where it was created here."""

    def __init__(self, folder: Path, layout: Layout, store: ts.TensorStore) -> None:
        self.folder = folder
        self.layout = layout
        self._store = store

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self.layout.shape

    def write(self, start: Sequence[int], block: NDArray[Any]) -> ts.WriteFutures:
        """Begin to write a block that covers whole shards; the block must not change until it is done.

        Raises
        ------
        ResourceError
            From `finish`: the disk is full.
        """
        where = tuple(slice(a, a + n) for a, n in zip(start, block.shape, strict=True))
        return self._store[where].write(block, can_reference_source_data_indefinitely=True)

    def finish(self, futures: Sequence[ts.WriteFutures]) -> None:
        """Wait until blocks are on disk."""
        try:
            for future in futures:
                future.result()
        except (ValueError, OSError, RuntimeError) as error:
            raise ResourceError(
                "A volume cannot be written",
                file=shown(self.folder),
                found=shown(str(error))[:300],
                hint="Look at the free space and the permissions of that disk.",
            ) from error

    def read(self, ranges: Sequence[Range]) -> NDArray[Any]:
        """Read a block; every chunk's checksum is tested.

        Raises
        ------
        InputError
            A shard is damaged: its file is named.
        """
        return self.begin_read(ranges)()

    def begin_read(self, ranges: Sequence[Range]) -> Callable[[], NDArray[Any]]:
        """Begin to read a block in the background; what is returned waits for it, and raises as `read` does."""
        where = tuple(slice(a, b) for a, b in ranges)
        future = self._store[where].read()

        def wait() -> NDArray[Any]:
            try:
                return np.asarray(future.result())
            except (ValueError, OSError, RuntimeError) as error:
                raise self._damaged(ranges, error) from error

        return wait

    def _damaged(self, ranges: Sequence[Range], error: Exception) -> InputError:
        file = self.folder
        for index in self.shards_in(ranges):
            part = tuple(
                slice(max(a, i * s), min(b, (i + 1) * s))
                for (a, b), i, s in zip(ranges, index, self.layout.shards, strict=True)
            )
            try:
                self._store[part].read().result()
            except (ValueError, OSError, RuntimeError):
                file = self.folder / self.layout.file_name(index)
                break
        return InputError(
            "A Zarr shard is damaged",
            file=shown(file),
            expected="data that match their checksum",
            found=shown(str(error).split(" [")[0])[:200],
            hint="Remove the file's store and run again: soct computes it anew.",
        )

    def shards_in(self, ranges: Sequence[Range]) -> Iterator[tuple[int, ...]]:
        """Yield the indices of the shards that a block touches."""
        yield from product(
            *(
                range(a // s, -(-b // s))
                for (a, b), s in zip(ranges, self.layout.shards, strict=True)
            )
        )

    def stored(self) -> NDArray[np.bool_]:
        """Return which shards have a file, by shard index (shards full of zeros have none)."""
        there = np.zeros(self.layout.grid, bool)
        for index in np.ndindex(*self.layout.grid):
            there[index] = (self.folder / self.layout.file_name(index)).exists()
        return there


def create_array(
    folder: Path,
    shape: Sequence[int],
    dtype: DTypeLike,
    chunks: Sequence[int],
    shards: Sequence[int],
    codec: Codec = "none",
    dimension_names: Sequence[str] = ("z", "y", "x"),
    threads: int | None = None,
) -> ZarrArray:
    """Create an array; blocks full of zeros take no space."""
    folder.mkdir(parents=True, exist_ok=True)
    metadata = array_metadata(shape, dtype, chunks, shards, codec, dimension_names)
    write_bytes(folder / "zarr.json", json_bytes(metadata))
    return open_array(folder, threads, write=True)


def open_array(folder: Path, threads: int | None = None, *, write: bool = False) -> ZarrArray:
    """Open an array of Zarr version 2 or 3.

    Raises
    ------
    InputError
        It is absent, broken, or of a layout that soct does not read.
    """
    layout = read_layout(folder)
    spec = {
        "driver": "zarr3" if layout.version == 3 else "zarr",
        "kvstore": {"driver": "file", "path": f"{folder.resolve()}/"},
        "recheck_cached_data": False,
    }
    try:
        store = ts.open(spec, open=True, read=True, write=write, context=context(threads)).result()
    except (ValueError, OSError, RuntimeError, OverflowError, TypeError) as error:
        raise InputError(
            "A Zarr array cannot be opened",
            file=shown(folder),
            expected="an array with codecs that soct knows",
            found=shown(str(error).split(" [")[0])[:300],
        ) from error
    return ZarrArray(folder, layout, store)
