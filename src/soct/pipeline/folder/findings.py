"""``state/acquisition.json``: what was found of the input, for reports made when it is long gone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soct.formats.atomic import write_bytes

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition, SliceRecord


def _path(run_folder: Path) -> Path:
    return run_folder / "state" / "acquisition.json"


def write_findings(run_folder: Path, acquisition: Acquisition) -> None:
    """Write what was found, unless the file already says the same."""
    document = {
        "kind": acquisition.kind,
        "ignored": [str(path) for path in acquisition.ignored],
        "metadata": {
            name: value
            for name, value in acquisition.session.items()
            if isinstance(value, str | int | float | bool)
        },
        "tile_metadata": _tile_metadata(acquisition),
        "slices": {str(s): _slice(record) for s, record in acquisition.slices.items()},
    }
    content = json.dumps(document, default=str).encode()
    path = _path(run_folder)
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, content)


def read_findings(run_folder: Path) -> Mapping[str, Any]:
    """Return what was found of the input; empty where that is not known."""
    try:
        document = json.loads(_path(run_folder).read_bytes())
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _grid(path: Path) -> dict[str, Any]:
    """Return what the names of a mosaic grid's files tell."""
    from soct.errors import InputError
    from soct.formats.mosaic_grid import open_mosaic_grid

    try:
        grid = open_mosaic_grid(path)
    except InputError:  # create_mosaic_grid says so when the slice's turn comes
        return {"first_row": 0, "first_col": 0, "rows": 0, "cols": 0, "found": [], "bytes": 0}
    heights = [t.stage_mm[2] for t in grid.tiles if t.stage_mm[2] is not None]
    found = grid.stored_tiles()
    return {
        "first_row": 0,
        "first_col": 0,
        "rows": grid.rows,
        "cols": grid.cols,
        "found": found,
        "bytes": len(found) * 4 * math.prod(grid.tile_shape),
        "stage_z_mm": heights[0] if heights else None,
    }


def _tile_metadata(acquisition: Acquisition) -> list[dict[str, Any]]:
    """Return what the first tile says about how all were recorded, with the file that says it."""
    first = next((t for record in acquisition.slices.values() for t in record.tiles), None)
    if first is None:
        return []
    info = first.info
    pixel_y, pixel_x = info.pixel_um
    facts: list[tuple[str, Any, str]] = [
        ("A-lines per B-scan", info.nx, ""),
        ("A-lines while the galvo returns", info.n_extra, ""),
        ("B-scans", info.ny, ""),
        ("frames per B-scan", info.n_repeat, ""),
        ("depth samples kept", info.n_z, ""),
        ("field of view, y", info.height_um, "um"),
        ("field of view, x", info.width_um, "um"),
        ("pixel, y", pixel_y, "um"),
        ("pixel, x", pixel_x, "um"),
        ("depth per sample", info.axial_resolution_um, "um"),
        ("depth sample of the focus", info.focus_z, ""),
    ]
    name = "info.txt" if first.data_type == "oct" else "header of the .oct file"
    source = f"{name} of tile ({first.row}, {first.col}) of slice {first.slice_id}"
    return [
        {"name": label, "value": value, "unit": unit, "source": source}
        for label, value, unit in facts
        if value is not None
    ]


def _slice(record: SliceRecord) -> dict[str, Any]:
    if record.grid is not None:
        return _grid(record.grid)
    places = [(tile.row, tile.col) for tile in record.tiles]
    absent = [(p.row, p.col) for p in record.problems if p.row is not None and p.col is not None]
    rows = [row for row, _ in places + absent]
    cols = [col for _, col in places + absent]
    first_row, first_col = min(rows, default=0), min(cols, default=0)
    heights = [tile.stage_mm[2] for tile in record.tiles if tile.stage_mm[2] is not None]
    return {
        "first_row": first_row,
        "first_col": first_col,
        "rows": max(rows) - first_row + 1 if rows else 0,
        "cols": max(cols) - first_col + 1 if cols else 0,
        "found": [(row - first_row, col - first_col) for row, col in places],
        "bytes": record.n_bytes,
        "stage_z_mm": heights[0] if heights else None,
    }
