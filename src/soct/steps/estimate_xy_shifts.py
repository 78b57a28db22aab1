"""Stage positions of all tiles -> shifts between consecutive slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from soct.errors import InputError
from soct.steps.declaration import (
    Context,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soct.formats.acquisition import SliceRecord, TileRecord
    from soct.formats.mosaic_grid import GridTile
    from soct.registration.stage import StageSlice


class EstimateXyShiftsParams(Params):
    """Parameters of `estimate_xy_shifts`."""

    overlap_fraction: float = parameter(
        0.2,
        "Overlap of neighbouring tiles, used only where no stage position was recorded.",
        ge=0,
        lt=0.9,
    )


def _stage_slice(record: SliceRecord, overlap_fraction: float) -> StageSlice:
    """Return where the stage stood for a slice's tiles, raw or in a mosaic grid."""
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.registration.stage import StageSlice, place_by_index
    from soct.steps.grid_tiles import present_tiles

    tiles: Sequence[TileRecord | GridTile] = record.tiles
    if record.grid is not None:
        grid = open_mosaic_grid(record.grid)
        tiles = present_tiles(grid)
        pixel_um = (grid.voxel_um.y, grid.voxel_um.x)
        tile_um = (grid.tile_shape[1] * pixel_um[0], grid.tile_shape[2] * pixel_um[1])
    else:
        info = record.tiles[0].info
        tile_um = (info.height_um, info.width_um)
        pixel_um = (info.height_um / info.ny, info.width_um / info.nx)
    rows, cols = [t.row for t in tiles], [t.col for t in tiles]
    stage = np.array(
        [[np.nan if v is None else v for v in t.stage_mm] for t in tiles], np.float64
    ).reshape(-1, 3)
    if not np.isfinite(stage[:, :2]).all():
        return place_by_index(
            record.slice_id,
            rows,
            cols,
            tile_um=tile_um,
            pixel_um=pixel_um,
            overlap_fraction=overlap_fraction,
        )
    return StageSlice(
        record.slice_id,
        np.array(rows, np.int64),
        np.array(cols, np.int64),
        stage[:, 1],
        stage[:, 0],
        stage[:, 2],
        tile_um,
        pixel_um,
    )


def run(context: Context, params: EstimateXyShiftsParams) -> Result:
    """Write the stage positions and the shifts that follow from them."""
    from soct.formats.tables import ShiftRow, read_table
    from soct.registration.stage import estimate_xy_shifts
    from soct.steps.stage_tables import read_shifts, write_shifts, write_stage

    assert context.acquisition is not None
    slices = {}
    for slice_id, record in context.acquisition.slices.items():
        if record.grid is not None or record.tiles:
            slices[slice_id] = _stage_slice(record, params.overlap_fraction)
    if not slices:
        raise InputError(
            "no slice has a tile to take a position from", file=context.acquisition.root
        )
    write_stage(context.output("stage_positions"), slices)
    shifts = estimate_xy_shifts(slices)
    given = context.acquisition.tables.get("shifts_xy.csv")
    nominal = [i for i, s in slices.items() if s.source == "nominal"]
    warnings = []
    if given is not None and nominal:
        read_table(given, ShiftRow)
        shifts = read_shifts(given)
        warnings.append(
            "the slices carry no stage positions: shifts are taken from the input's shifts_xy.csv"
        )
    elif nominal:
        warnings.append(
            f"no stage positions in slices {nominal[:10]}: tiles are placed by index and overlap {params.overlap_fraction}"
        )
    write_shifts(context.output("shifts"), shifts)
    unreliable = [s.moving_id for s in shifts if not s.reliable]
    return Result(
        metrics=(
            Metric("slices", len(slices), "", "slices with tiles"),
            Metric(
                "shifts_unreliable",
                len(unreliable),
                "",
                "shifts across a change of the mosaic's shape",
            ),
        ),
        warnings=tuple(warnings),
    )


STEP = Step(
    id="estimate_xy_shifts",
    version=1,
    scope=Scope.RUN,
    params=EstimateXyShiftsParams,
    run=run,
    summary="Shifts between slices from the stage positions.",
    outputs=(Output("shifts", "shifts_xy.csv"), Output("stage_positions", "stage_positions.csv")),
    reads_raw=True,
)
