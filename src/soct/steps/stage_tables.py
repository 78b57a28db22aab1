"""Stage positions and shifts between their tables on disk and the science that reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from soct.registration.stage import StageShift, StageSlice
    from soct.registration.stage_rehoming import CleanShift

_GEOMETRY = ("tile_y_um", "tile_x_um", "pixel_y_um", "pixel_x_um", "source")


def write_stage(path: Path, slices: Mapping[int, StageSlice]) -> None:
    """Write `stage_positions.csv`: one row per tile."""
    import math

    from soct.formats.tables import StagePositionRow, write_table

    rows: list[StagePositionRow] = []
    for s in slices.values():
        geometry = dict(zip(_GEOMETRY, map(str, (*s.tile_um, *s.pixel_um, s.source)), strict=True))
        rows.extend(
            StagePositionRow(
                s.slice_id,
                int(s.cols[k]),
                int(s.rows[k]),
                float(s.x_mm[k]),
                float(s.y_mm[k]),
                None if math.isnan(s.z_mm[k]) else float(s.z_mm[k]),
                geometry,
            )
            for k in range(len(s.rows))
        )
    write_table(path, StagePositionRow, rows)


def read_stage(path: Path) -> dict[int, StageSlice]:
    """Read what `write_stage` wrote, by slice."""
    import numpy as np

    from soct.formats.tables import StagePositionRow, read_table
    from soct.registration.stage import StageSlice

    by_slice: dict[int, list[StagePositionRow]] = {}
    for row in read_table(path, StagePositionRow):
        by_slice.setdefault(row.slice_id, []).append(row)
    slices = {}
    for slice_id, rows in sorted(by_slice.items()):
        extra = rows[0].extra
        slices[slice_id] = StageSlice(
            slice_id,
            np.array([r.tile_y for r in rows], np.int64),
            np.array([r.tile_x for r in rows], np.int64),
            np.array([r.y_mm for r in rows], np.float64),
            np.array([r.x_mm for r in rows], np.float64),
            np.array([np.nan if r.z_mm is None else r.z_mm for r in rows], np.float64),
            (float(extra["tile_y_um"]), float(extra["tile_x_um"])),
            (float(extra["pixel_y_um"]), float(extra["pixel_x_um"])),
            "stage" if extra["source"] == "stage" else "nominal",
        )
    return slices


def write_shifts(path: Path, shifts: Iterable[StageShift]) -> None:
    """Write `shifts_xy.csv`."""
    from soct.formats.tables import ShiftRow, write_table

    rows = [
        ShiftRow(
            s.fixed_id,
            s.moving_id,
            s.shift_px[1],
            s.shift_px[0],
            s.shift_mm[1],
            s.shift_mm[0],
            s.reliable,
        )
        for s in shifts
    ]
    write_table(path, ShiftRow, rows)


def read_shifts(path: Path) -> tuple[StageShift, ...]:
    """Read `shifts_xy.csv`, soct's or another tool's."""
    from soct.formats.tables import ShiftRow, read_table
    from soct.registration.stage import StageShift

    return tuple(
        StageShift(
            r.fixed_id,
            r.moving_id,
            (r.y_shift_mm, r.x_shift_mm),
            (r.y_shift, r.x_shift),
            r.reliable,
        )
        for r in read_table(path, ShiftRow)
    )


def write_clean_shifts(path: Path, shifts: Iterable[CleanShift]) -> None:
    """Write `shifts_xy_clean.csv`; the shift before correction is kept beside the clean one."""
    from soct.formats.tables import CleanShiftRow, write_table

    rows = [
        CleanShiftRow(
            s.fixed_id,
            s.moving_id,
            s.shift_px[1],
            s.shift_px[0],
            s.shift_mm[1],
            s.shift_mm[0],
            s.reliable,
            {"raw_x_mm": str(s.raw_mm[1]), "raw_y_mm": str(s.raw_mm[0])},
            s.corrected,
            s.reliable_in,
        )
        for s in shifts
    ]
    write_table(path, CleanShiftRow, rows)


def read_clean_shifts(path: Path) -> tuple[CleanShift, ...]:
    """Read what `write_clean_shifts` wrote."""
    from soct.formats.tables import CleanShiftRow, read_table
    from soct.registration.stage_rehoming import CleanShift

    return tuple(
        CleanShift(
            r.fixed_id,
            r.moving_id,
            (r.y_shift_mm, r.x_shift_mm),
            (r.y_shift, r.x_shift),
            r.reliable,
            r.corrected,
            r.reliable_in,
            (
                float(r.extra.get("raw_y_mm", r.y_shift_mm)),
                float(r.extra.get("raw_x_mm", r.x_shift_mm)),
            ),
        )
        for r in read_table(path, CleanShiftRow)
    )
