"""The mosaic grids that linumpy would have made of raw tiles: what labs have when the raw tiles are gone.

One OME-Zarr array per slice, one chunk per tile, overlaps duplicated, lengths in millimetres. The array's second axis
carries the stage's x, its third the stage's y; nothing says where the stage was, how much tiles overlap, or
which positions were never imaged (they are zero). The shifts between slices come in a table beside the grids.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorstore as ts

from soct.errors import InputError
from soct.formats.acquisition import Acquisition, SliceRecord, open_acquisition
from soct.formats.atomic import write_bytes
from soct.formats.raw import read_tile
from soct.formats.tables import ShiftRow, SliceConfigRow, write_table
from soct.formats.zarr_array import json_bytes
from soct.geometry.galvo import GalvoDecision, apply_galvo_shift
from soct.registration.stage import StageSlice, estimate_xy_shifts
from soct.space import FloatArray

GalvoState = Literal["fixed", "cropped", "whole"]
"""``fixed``: return lines moved to the end and cut off; ``cropped``: the frame's first ``nx`` columns, wherever the return
lines are; ``whole``: all columns, return lines inside."""


def write_linumpy_grids(
    raw: Path,
    out: Path,
    *,
    version: Literal["0.4", "0.5"] = "0.4",
    sharding_factor: int = 1,
    galvo: GalvoState = "fixed",
    galvo_at: int | None = None,
    tables: bool = True,
    float_ids: bool = True,
    slices: Iterable[int] | None = None,
) -> list[Path]:
    """Convert raw tiles to mosaic grids without soct's key, and write the tables beside them.

    Parameters
    ----------
    raw : Path
        Raw tiles.
    out : Path
        Folder to fill; made where it is absent.
    version : {"0.4", "0.5"}
        OME-NGFF on Zarr version 2 or 3.
    sharding_factor : int
        With version 0.5, tiles along each side of a shard; 1 writes plain chunks.
    galvo : {"fixed", "cropped", "whole"}
        What was done about the return lines.
    galvo_at : int, optional
        Column at which the return lines start; None: at the frame's end.
    tables : bool
        Write `shifts_xy.csv` and `slice_config.csv`.
    float_ids : bool
        Write slice ids in the tables as ``0.0``, as pandas does once a column held a gap.
    slices : iterable of int, optional
        Which slices; all where omitted.

    Returns
    -------
    list of Path
        The grids.

    Raises
    ------
    InputError
        A slice has no tile.
    """
    acquisition = open_acquisition(raw)
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for slice_id in acquisition.slices if slices is None else slices:
        record = acquisition.slices[slice_id]
        if not record.tiles:
            raise InputError(f"slice {slice_id} has no tile", file=raw)
        path = out / f"mosaic_grid_3d_z{slice_id:02d}.ome.zarr"
        _write_grid(path, record, version, sharding_factor, galvo, galvo_at)
        written.append(path)
    if tables:
        _write_tables(acquisition, out, float_ids)
    return written


def _tile(
    tile_zyx: FloatArray, n_extra: int, galvo: GalvoState, galvo_at: int | None
) -> FloatArray:
    """Treat the return lines as asked, and turn ``(z, y, x)`` to ``(z, x, y)``."""
    width = tile_zyx.shape[2]
    if galvo == "cropped":
        tile_zyx = tile_zyx[..., : width - n_extra]
    elif galvo == "fixed":
        at = width - n_extra if galvo_at is None else galvo_at
        shift = (width - at - n_extra) % width
        decision = GalvoDecision(n_extra, at, shift, 1.0, 0, 0, np.zeros(0, np.float32), "")
        tile_zyx = apply_galvo_shift(tile_zyx, decision)
    return np.ascontiguousarray(tile_zyx.transpose(0, 2, 1))


def _write_grid(
    path: Path,
    record: SliceRecord,
    version: str,
    sharding_factor: int,
    galvo: GalvoState,
    galvo_at: int | None,
) -> None:
    info = record.tiles[0].info
    row0, col0 = min(t.row for t in record.tiles), min(t.col for t in record.tiles)
    rows = max(t.row for t in record.tiles) - row0 + 1
    cols = max(t.col for t in record.tiles) - col0 + 1
    width = info.nx + (info.n_extra if galvo == "whole" else 0)
    chunk = (info.n_z, width, info.ny)
    shape = (info.n_z, cols * width, rows * info.ny)
    store = _create(path / "0", shape, chunk, version, sharding_factor)
    for tile in record.tiles:
        data = _tile(read_tile(tile), info.n_extra, galvo, galvo_at)
        x, y = (tile.col - col0) * width, (tile.row - row0) * info.ny
        store[:, x : x + width, y : y + info.ny].write(data).result()
    mm = [
        (info.axial_resolution_um or 3.5) / 1000,
        info.width_um / info.nx / 1000,
        info.height_um / info.ny / 1000,
    ]
    multiscale: dict[str, Any] = {
        "name": path.name,
        "axes": [{"name": a, "type": "space", "unit": "millimeter"} for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": mm}]}],
    }
    if version == "0.4":
        attributes = {"multiscales": [{**multiscale, "version": "0.4"}]}
        write_bytes(path / ".zgroup", json_bytes({"zarr_format": 2}))
        write_bytes(path / ".zattrs", json_bytes(attributes))
        return
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": {"version": "0.5", "multiscales": [multiscale]}},
    }
    write_bytes(path / "zarr.json", json_bytes(group))


def _create(
    folder: Path,
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    version: str,
    sharding_factor: int,
) -> ts.TensorStore:
    spec: dict[str, Any] = {"kvstore": {"driver": "file", "path": f"{folder.resolve()}/"}}
    if version == "0.4":
        spec["driver"] = "zarr"
        spec["metadata"] = {
            "shape": list(shape),
            "chunks": list(chunk),
            "dtype": "<f4",
            "dimension_separator": "/",
            "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1},
        }
    else:
        codecs: list[dict[str, Any]] = [{"name": "bytes", "configuration": {"endian": "little"}}]
        grid = list(chunk)
        if sharding_factor > 1:
            grid = [chunk[0], chunk[1] * sharding_factor, chunk[2] * sharding_factor]
            sharding = {"chunk_shape": list(chunk), "codecs": codecs, "index_codecs": [*codecs]}
            codecs = [{"name": "sharding_indexed", "configuration": sharding}]
        spec["driver"] = "zarr3"
        spec["metadata"] = {
            "shape": list(shape),
            "data_type": "float32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": grid}},
            "codecs": codecs,
        }
    return ts.open(spec, create=True, delete_existing=True).result()


def _write_tables(acquisition: Acquisition, out: Path, float_ids: bool) -> None:
    """Write the shifts that the stage positions give, and a ledger in which every slice is used."""
    if all(None not in t.stage_mm[:2] for s in acquisition.slices.values() for t in s.tiles):
        stage = {i: _stage(s) for i, s in acquisition.slices.items() if s.tiles}
        rows = [
            ShiftRow(s.fixed_id, s.moving_id, *s.shift_px[::-1], *s.shift_mm[::-1], s.reliable)
            for s in estimate_xy_shifts(stage)
        ]
        write_table(out / "shifts_xy.csv", ShiftRow, rows)
    write_table(
        out / "slice_config.csv", SliceConfigRow, [SliceConfigRow(i) for i in acquisition.slices]
    )
    if float_ids:
        for name, columns in (("shifts_xy.csv", 2), ("slice_config.csv", 1)):
            if (out / name).exists():
                _with_float_ids(out / name, columns)


def _with_float_ids(path: Path, columns: int) -> None:
    header, *lines = path.read_text().splitlines()
    out = [header]
    for line in lines:
        cells = line.split(",")
        out.append(",".join([f"{cell}.0" for cell in cells[:columns]] + cells[columns:]))
    write_bytes(path, ("\n".join(out) + "\n").encode())


def _stage(record: SliceRecord) -> StageSlice:
    info = record.tiles[0].info
    at = np.array([t.stage_mm[:2] for t in record.tiles], float)
    return StageSlice(
        record.slice_id,
        np.array([t.row for t in record.tiles]),
        np.array([t.col for t in record.tiles]),
        at[:, 1],
        at[:, 0],
        np.full(len(at), np.nan),
        (info.height_um, info.width_um),
        info.pixel_um,
    )
