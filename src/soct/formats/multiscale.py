"""OME-Zarr 0.4 and 0.5 and plain Zarr, written from a stream of planes of any type and sign.

Coarser levels hold means over blocks of the voxels that are not 0; see `soct.formats.pyramid` for the final
volume of a run, which also keeps a label of what is valid.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soct.formats.atomic import write_bytes
from soct.formats.ngff import Level, group_metadata, multiscales
from soct.formats.pyramid_layout import level_factors, volume_layout
from soct.formats.shards import pack_stored
from soct.formats.volume_sink import VolumeSpec
from soct.formats.volume_source import block_means, block_middles
from soct.formats.zarr_array import ZarrArray, create_array, json_bytes, open_array
from soct.geometry.orientation import Shape
from soct.space import Array, Voxel

LEVELS_UM = (10.0, 25.0, 50.0, 100.0)
ZSTD_V2 = {"id": "zstd", "level": 1}


def _create_v2(folder: Path, shape: Shape, dtype: np.dtype[Any], chunks: Shape) -> ZarrArray:
    """Create an array of Zarr version 2, as OME-Zarr 0.4 has them; it carries no checksums."""
    content = {
        "zarr_format": 2,
        "shape": list(shape),
        "chunks": list(chunks),
        "dtype": dtype.newbyteorder("<").str,
        "compressor": ZSTD_V2,
        "fill_value": 0,
        "order": "C",
        "filters": None,
        "dimension_separator": "/",
    }
    folder.mkdir(parents=True)
    write_bytes(folder / ".zarray", json_bytes(content))
    return open_array(folder, write=True)


@dataclass
class _Level:
    """One resolution: planes wait until they fill a row of blocks."""

    array: ZarrArray
    factor: Shape
    depth: int
    dtype: np.dtype[Any]
    labels: bool = False
    held: list[Array] = field(default_factory=list)
    waiting: list[Array] = field(default_factory=list)
    written: int = 0

    def take(self, planes: Array, *, is_last: bool) -> None:
        """Take planes of the base level."""
        if self.factor == (1, 1, 1):
            self._keep(planes, is_last=is_last)
            return
        # Lateral means first, so that what waits for its block is small.
        self.held.append(planes)
        n = sum(len(part) for part in self.held)
        whole = n if is_last else n // self.factor[0] * self.factor[0]
        if not whole:
            return
        joined = np.concatenate(self.held)
        self.held = [joined[whole:].copy()] if whole < n else []
        reduce = block_middles if self.labels else block_means
        means = reduce(joined[:whole], self.factor)
        if self.dtype.kind in "ui":
            means = np.rint(means)
        self._keep(means.astype(self.dtype), is_last=is_last)

    def _keep(self, planes: Array, *, is_last: bool) -> None:
        self.waiting.append(planes)
        n = sum(len(part) for part in self.waiting)
        whole = n if is_last else n // self.depth * self.depth
        if not whole:
            return
        joined = np.concatenate(self.waiting) if len(self.waiting) > 1 else self.waiting[0]
        block = np.ascontiguousarray(joined[:whole], self.dtype)
        self.array.finish([self.array.write((self.written, 0, 0), block)])
        self.written += whole
        self.waiting = [joined[whole:].copy()] if whole < n else []


def _feed(levels: list[_Level], n_z: int, planes: Iterable[Array]) -> None:
    received = 0
    for band in planes:
        received += len(band)
        for level in levels:
            level.take(band, is_last=received == n_z)
    if received != n_z:
        raise ValueError(f"{received} planes instead of {n_z}")


def write_array(path: Path, spec: VolumeSpec, planes: Iterable[Array]) -> None:
    """Write a plain Zarr v3 array whose attributes under ``soct`` say its voxel size and orientation."""
    layout = volume_layout(spec.shape)
    array = create_array(path, spec.shape, spec.dtype, layout.chunks, layout.shards, "zstd")
    _feed([_Level(array, (1, 1, 1), layout.shards[0], spec.dtype)], spec.shape[0], planes)
    import json

    content = json.loads((path / "zarr.json").read_bytes())
    content["attributes"] = {
        "soct": {
            "voxel_um": list(spec.voxel_um),
            "translation_um": list(spec.translation_um),
            "orientation": spec.orientation,
        }
    }
    write_bytes(path / "zarr.json", json_bytes(content))


def write_image(path: Path, spec: VolumeSpec, planes: Iterable[Array], *, version: str) -> None:
    """Write an OME-Zarr image with levels near 10, 25, 50 and 100 um, as far as they are coarser.

    Parameters
    ----------
    path : Path
        The folder to make.
    spec : VolumeSpec
    planes : iterable of ndarray
        Bands of planes.
    version : {"0.4", "0.5"}
    """
    levels, described = [], []
    for number, factor in enumerate(level_factors(spec.voxel_um, LEVELS_UM)):
        name = str(number)
        z, y, x = (-(-n // f) for n, f in zip(spec.shape, factor, strict=True))
        layout = volume_layout((z, y, x))
        folder = path / name
        if version == "0.4":
            array, depth = (
                _create_v2(folder, (z, y, x), spec.dtype, layout.chunks),
                layout.chunks[0],
            )
        else:
            array = create_array(
                folder, (z, y, x), spec.dtype, layout.chunks, layout.shards, "zstd"
            )
            depth = layout.shards[0]
        levels.append(_Level(array, factor, depth, spec.dtype, spec.labels))
        described.append(_describe(name, spec, factor))
    _feed(levels, spec.shape[0], planes)
    _write_metadata(path, spec, described, [level.array for level in levels], version)


def _describe(name: str, spec: VolumeSpec, factor: Shape) -> Level:
    voxel = Voxel(*(v * f for v, f in zip(spec.voxel_um, factor, strict=True)))
    start = (
        t + (f - 1) / 2 * v
        for t, v, f in zip(spec.translation_um, spec.voxel_um, factor, strict=True)
    )
    return Level(name, voxel, Voxel(*start))


def _write_metadata(
    path: Path, spec: VolumeSpec, levels: list[Level], arrays: list[ZarrArray], version: str
) -> None:
    name = path.name.removesuffix(".zarr").removesuffix(".ome")
    own: dict[str, Any] = {"kind": "volume"}
    if spec.orientation is not None:
        own["orientation"] = spec.orientation
    ome: dict[str, Any] = {}
    if spec.labels:
        ome["image-label"] = {"colors": [{"label-value": 1, "rgba": [255, 160, 60, 128]}]}
    elif spec.window is not None:
        ome["omero"] = _omero(name, spec)
    if version == "0.4":
        scales = {"version": "0.4", **multiscales(name, levels)}
        write_bytes(path / ".zgroup", json_bytes({"zarr_format": 2}))
        content = {"multiscales": [scales], **ome, "soct": {"format": 1, **own}}
        write_bytes(path / ".zattrs", json_bytes(content))
        return
    own["stored"] = {array.folder.name: pack_stored(array) for array in arrays}
    ome = {"multiscales": [multiscales(name, levels, spec.orientation)], **ome}
    write_bytes(path / "zarr.json", json_bytes(group_metadata(ome, own)))


def _omero(name: str, spec: VolumeSpec) -> dict[str, Any]:
    start, end = spec.window or (0.0, 1.0)
    low, high = min(0.0, start), end
    if spec.dtype.kind in "ui":
        info = np.iinfo(spec.dtype)
        low, high = float(info.min), float(info.max)
    window = {"min": low, "max": max(high, end), "start": start, "end": end}
    channel = {"label": "OCT", "color": "FFFFFF", "active": True, "window": window}
    rdefs = {"model": "greyscale", "defaultZ": spec.shape[0] // 2, "defaultT": 0}
    return {"name": name, "channels": [channel], "rdefs": rdefs}
