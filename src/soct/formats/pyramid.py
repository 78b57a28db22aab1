"""The final volume: all resolutions written in one pass over its planes, in bounded memory.

Voxels without data are 0 and all others positive; ``labels/validity`` says the same without a convention.
Each coarser level holds exact means over blocks of valid voxels of the base level.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tensorstore as ts
from numpy.typing import DTypeLike, NDArray

from soct.formats.atomic import write_bytes
from soct.formats.block_means import (
    count_values,
    new_histogram,
    percentile,
    reduce_planes,
    take_planes,
)
from soct.formats.ngff import Level, group_metadata, multiscales
from soct.formats.pyramid_layout import Layout, Shape, level_factors, level_shape, volume_layout
from soct.formats.shards import pack_stored
from soct.formats.zarr_array import Codec, ZarrArray, create_array, json_bytes
from soct.space import FloatArray, Voxel

LABEL_PATH = "labels/validity"
WINDOW_PERCENT = (0.5, 99.8)


class _Band:
    """One level: collects planes up to the height of a shard, then writes them all at once."""

    def __init__(
        self, layout: Layout, data: ZarrArray, mask: ZarrArray | None, dtype: np.dtype[Any]
    ) -> None:
        self.layout = layout
        self.array = data
        self.mask_array = mask
        self._dtype = dtype
        self._buffers = [self._allocate()]
        self._writing: list[ts.WriteFutures] = []
        self._filled = 0
        self.written = 0

    def _allocate(self) -> tuple[FloatArray, NDArray[np.uint8]]:
        shape = (self.layout.shards[0], *self.layout.shape[1:])
        return np.empty(shape, np.float32), np.empty(shape, np.uint8)

    def room(self, wanted: int) -> tuple[FloatArray, NDArray[np.uint8]]:
        """Return where the next planes go, at most `wanted`; `commit` them once they are filled."""
        data, mask = self._buffers[0]
        stop = min(self._filled + wanted, len(data))
        return data[self._filled : stop], mask[self._filled : stop]

    def add(self, data: FloatArray, mask: NDArray[np.uint8]) -> None:
        done = 0
        while done < len(data):
            room, room_mask = self.room(len(data) - done)
            n = len(room)
            room[:], room_mask[:] = data[done : done + n], mask[done : done + n]
            self.commit(n)
            done += n

    def commit(self, n: int) -> None:
        self._filled += n
        if self._filled == self.layout.shards[0]:
            self.flush()

    def _stored_values(self, data: FloatArray, mask: NDArray[np.uint8]) -> NDArray[Any]:
        if self._dtype == np.float32:
            return data
        largest = np.iinfo(self._dtype).max
        values = np.clip(np.rint(data), 1, largest).astype(self._dtype)
        return np.multiply(values, mask, dtype=self._dtype)

    def flush(self) -> None:
        if self._filled == 0:
            return
        self.wait()
        data, mask = self._buffers[0]
        data, mask = data[: self._filled], mask[: self._filled]
        start = (self.written, 0, 0)
        self._writing = [self.array.write(start, self._stored_values(data, mask))]
        if self.mask_array is not None:
            self._writing.append(self.mask_array.write(start, mask))
        self.written += self._filled
        self._filled = 0
        if self.written < self.layout.shape[0]:
            # The band is on its way to the disk while the next one is filled.
            if len(self._buffers) == 1:
                self._buffers.append(self._allocate())
            self._buffers.reverse()

    def wait(self) -> None:
        self.array.finish(self._writing)
        self._writing = []


class _Reducer:
    """Sums planes of the base level into planes of a coarser one."""

    def __init__(self, factor: Shape, band: _Band) -> None:
        self.factor = factor
        self.band = band
        shape = band.layout.shape[1:]
        self._total = np.zeros(shape, np.float64)
        self._count = np.zeros(shape, np.int32)
        self._depth = 0

    def add(self, data: FloatArray, mask: NDArray[np.uint8], *, is_last: bool = False) -> None:
        n_held = self._depth + len(data)
        n_out, rest = divmod(n_held, self.factor[0])
        n_out += is_last and rest > 0
        means = np.empty((n_out, *self._total.shape), np.float32)
        any_valid = np.empty(means.shape, np.uint8)
        reduce_planes(
            data, mask, self.factor, self._depth, self._total, self._count, means, any_valid
        )
        self._depth = 0 if is_last else rest
        self.band.add(means, any_valid)


class PyramidWriter:
    """Writes a volume with all its resolutions, plane after plane; a context manager that closes on success.

    Parameters
    ----------
    path : Path
        ``{subject}.ome.zarr``, which must not hold a volume already.
    shape : sequence of int
        ``(z, y, x)`` of the base level.
    voxel_um : Voxel
        Of the base level.
    level_um : sequence of float
        Voxel sizes of the levels asked for; see `level_factors`.
    dtype : dtype
        Of all levels: float32, or an unsigned integer type, to which values are rounded and clipped.
    attributes : mapping, optional
        JSON-able, kept under the key ``soct``.
    orientation : str, optional
        What z, y and x grow towards, such as ``"SAR"``.
    validity : bool
        Also write ``labels/validity``.
    codec : {"none", "zstd"}
        Compression; both carry checksums.
    translation_um : sequence of float
        Where the centre of the first voxel lies.
    threads : int, optional
        Threads for the disk; the default is all processors. Kernels use numba's current number.
    factors : sequence of (int, int, int), optional
        Factors of the levels in place of `level_um`, the base level first: those of another volume, say.
    """

    def __init__(
        self,
        path: Path,
        shape: Sequence[int],
        voxel_um: Voxel,
        level_um: Sequence[float] = (10, 25, 50, 100),
        dtype: DTypeLike = np.float32,
        attributes: Mapping[str, Any] | None = None,
        orientation: str | None = None,
        validity: bool = True,
        codec: Codec = "zstd",
        translation_um: Sequence[float] = (0.0, 0.0, 0.0),
        threads: int | None = None,
        factors: Sequence[Shape] | None = None,
    ) -> None:
        self.path = Path(path)
        self.dtype = np.dtype(dtype)
        if (self.path / "zarr.json").exists():
            raise ValueError(f"{path} holds a volume already")
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a volume of shape {tuple(shape)}")
        if self.dtype != np.float32 and self.dtype.kind != "u":
            raise ValueError(f"data type {self.dtype}, expected float32 or an unsigned integer")
        self.shape = (shape[0], shape[1], shape[2])
        self._attributes = dict(attributes or {})
        self._orientation = orientation
        factors = tuple(factors) if factors is not None else level_factors(voxel_um, level_um)
        origin = Voxel(*translation_um)
        self.levels = tuple(
            _level(str(i), voxel_um, origin, factor) for i, factor in enumerate(factors)
        )
        multiscales("", self.levels, orientation)  # a wrong orientation shows before the work
        bands = [
            self._band(level.path, level_shape(shape, factor), validity, codec, threads)
            for level, factor in zip(self.levels, factors, strict=True)
        ]
        self._base = bands[0]
        self._reducers = [
            _Reducer(factor, band) for factor, band in zip(factors[1:], bands[1:], strict=True)
        ]
        self._histogram = new_histogram()
        self._largest = 0.0
        self._received = 0
        self._closed = False

    def _band(
        self, name: str, shape: Shape, validity: bool, codec: Codec, threads: int | None
    ) -> _Band:
        layout = volume_layout(shape)
        blocks = (layout.chunks, layout.shards)
        data = create_array(self.path / name, shape, self.dtype, *blocks, codec, threads=threads)
        mask = None
        if validity:
            folder = self.path / LABEL_PATH / name
            mask = create_array(folder, shape, np.uint8, *blocks, "zstd", threads=threads)
        return _Band(layout, data, mask, self.dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None and not self._closed:
            self.close()

    @property
    def band_planes(self) -> int:
        """Planes that are written together; appending as many at a time is fastest."""
        return self._base.layout.shards[0]

    def append(self, planes: FloatArray, valid: NDArray[np.bool_]) -> None:
        """Take the next planes.

        Parameters
        ----------
        planes : ndarray of float32, shape (n, Y, X)
            Any values where there are no data; elsewhere those below the smallest float become that.
        valid : ndarray of bool, shape (n, Y, X)
            Where there are data. Values that are not finite count as no data.
        """
        if planes.shape[1:] != self.shape[1:] or planes.shape != valid.shape:
            raise ValueError(f"planes {planes.shape} and {valid.shape} for volume {self.shape}")
        if self._received + len(planes) > self.shape[0]:
            raise ValueError(f"more than {self.shape[0]} planes")
        planes = np.ascontiguousarray(planes, np.float32)
        valid = np.ascontiguousarray(valid, np.bool_)
        done = 0
        while done < len(planes):
            data, mask = self._base.room(len(planes) - done)
            n = len(data)
            take_planes(planes[done : done + n], valid[done : done + n], data, mask)
            count_values(data.view(np.uint32), mask, self._histogram)
            self._largest = max(self._largest, float(data.max()))
            for reducer in self._reducers:
                reducer.add(data, mask)
            self._base.commit(n)
            done += n
        self._received += len(planes)

    def close(self) -> None:
        """Write what is left, the label and the metadata: from here on the volume is complete."""
        if self._received != self.shape[0]:
            raise ValueError(f"{self._received} planes instead of {self.shape[0]}")
        nothing = np.empty((0, *self.shape[1:]), np.float32)
        for reducer in self._reducers:
            reducer.add(nothing, np.empty(nothing.shape, np.uint8), is_last=True)
        bands = [self._base, *(reducer.band for reducer in self._reducers)]
        for band in bands:
            band.flush()
            band.wait()
        if bands[0].mask_array is not None:
            self._write_label({b.array.folder.name: b.mask_array for b in bands if b.mask_array})
        name = self.path.name.removesuffix(".zarr").removesuffix(".ome")
        ome = {
            "multiscales": [multiscales(name, self.levels, self._orientation)],
            "omero": self._omero(name),
        }
        stored = {band.array.folder.name: pack_stored(band.array) for band in bands}
        attributes = {**self._attributes, "kind": "volume", "stored": stored}
        if self._orientation is not None:
            attributes["orientation"] = self._orientation
        write_bytes(self.path / "zarr.json", json_bytes(group_metadata(ome, attributes)))
        self._closed = True

    def _omero(self, name: str) -> dict[str, Any]:
        start, end = (percentile(self._histogram, p) for p in WINDOW_PERCENT)
        largest = max(self._largest, end)
        window = {"min": 0.0, "max": largest, "start": min(start, end), "end": end}
        channel = {"label": "OCT", "color": "FFFFFF", "active": True, "window": window}
        return {
            "name": name,
            "channels": [channel],
            "rdefs": {"model": "greyscale", "defaultZ": self.shape[0] // 2, "defaultT": 0},
        }

    def _write_label(self, arrays: Mapping[str, ZarrArray]) -> None:
        image_label = {
            "colors": [{"label-value": 1, "rgba": [255, 255, 255, 128]}],
            "source": {"image": "../../"},
        }
        ome = {
            "multiscales": [multiscales("validity", self.levels, self._orientation)],
            "image-label": image_label,
        }
        stored = {name: pack_stored(array) for name, array in arrays.items()}
        folder = self.path / LABEL_PATH
        write_bytes(folder / "zarr.json", json_bytes(group_metadata(ome, {"stored": stored})))
        labels = group_metadata({"labels": [folder.name]})
        write_bytes(folder.parent / "zarr.json", json_bytes(labels))


def _level(path: str, voxel_um: Voxel, origin: Voxel, factor: Shape) -> Level:
    size = Voxel(*(v * f for v, f in zip(voxel_um, factor, strict=True)))
    start = (o + (f - 1) / 2 * v for o, v, f in zip(origin, voxel_um, factor, strict=True))
    return Level(path, size, Voxel(*start))
