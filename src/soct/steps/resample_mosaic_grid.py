"""Mosaic grid -> mosaic grid at the working resolution, tile by tile."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from soct.steps.declaration import (
    Context,
    Cost,
    Input,
    Metric,
    Need,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soct.formats.acquisition import Acquisition
    from soct.formats.mosaic_grid import MosaicGrid


class ResampleMosaicGridParams(Params):
    """Parameters of `resample_mosaic_grid`."""

    resolution_um: float = parameter(
        10.0, "Voxel edge to resample to; -1 keeps the native sampling.", unit="um", ge=-1, le=1000
    )
    allow_upsampling: bool = parameter(
        False, "Interpolate axes that are coarser than the target; off keeps their own sampling."
    )
    sharding_factor: int = parameter(
        4, "Tiles along each side of one shard of the grid (one file on disk).", ge=1, le=64
    )
    codec: Literal["none", "zstd"] = parameter(
        "none", "Compression on disk; speckle hardly compresses, so none is faster."
    )


def _attributes(grid: MosaicGrid, n_x: int) -> dict[str, Any]:
    """Keep what the grid says of itself; columns without data count in new pixels."""
    kept = {k: grid.attributes[k] for k in ("slice_id", "row0", "col0") if k in grid.attributes}
    if "no_data_columns" in grid.attributes:
        first, stop = grid.attributes["no_data_columns"]
        factor = n_x / grid.tile_shape[2]
        kept["no_data_columns"] = [math.floor(first * factor), math.ceil(stop * factor)]
    return kept


def run(context: Context, params: ResampleMosaicGridParams) -> Result:
    """Resample every tile, or link the grid where nothing changes."""
    from soct.formats.atomic import link_tree
    from soct.formats.mosaic_grid import MosaicGridWriter, open_mosaic_grid
    from soct.geometry.resampling import plan_resampling, resample_tile
    from soct.steps.grid_tiles import present_tiles

    path = context.mine("create_mosaic_grid", "grid")
    grid = open_mosaic_grid(path)
    plan = plan_resampling(
        grid.tile_shape,
        grid.voxel_um,
        params.resolution_um,
        allow_upsampling=params.allow_upsampling,
    )
    voxel = plan.voxel_um
    metrics = (
        Metric("voxel_z_um", voxel.z, "um", "axial voxel size after resampling"),
        Metric("voxel_y_um", voxel.y, "um", "voxel size along y after resampling"),
        Metric("voxel_x_um", voxel.x, "um", "voxel size along x after resampling"),
    )
    if plan.is_identity:
        link_tree(path, context.output("grid"))
        return Result(metrics=metrics)
    with MosaicGridWriter(
        context.output("grid"),
        grid.rows,
        grid.cols,
        plan.shape,
        voxel,
        sharding_factor=params.sharding_factor,
        codec=params.codec,
        attributes=_attributes(grid, plan.shape[2]),
        threads=context.threads,
    ) as writer:
        tiles = present_tiles(grid)
        there = {(tile.row, tile.col) for tile in tiles}
        for position in writer.tile_order():
            if position not in there:
                writer.skip_tile(*position)
        for done, tile in enumerate(tiles):
            data = resample_tile(grid.read_tile(tile.row, tile.col), plan)
            writer.write_tile(tile.row, tile.col, data)
            context.progress((done + 1) / len(tiles))
        writer.close(grid.tiles)
    return Result(metrics=metrics)


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import WAITING_BYTES, largest, measure_slices

    return largest(
        [
            Need(
                # Equal grids are linked.
                size.grid_tiles * size.tile_bytes if size.tile_bytes < size.native_bytes else 0,
                min(WAITING_BYTES, size.grid_tiles * size.tile_bytes) + 3 * size.native_bytes,
                size.grid_files(size.tile_bytes),
            )
            for size in measure_slices(acquisition, slices, params)
        ]
    )


STEP = Step(
    id="resample_mosaic_grid",
    version=2,
    scope=Scope.SLICE,
    params=ResampleMosaicGridParams,
    run=run,
    cost=Cost(raw_mvoxel=0.017, serial=0.1),
    estimate=estimate,
    summary="Resample every tile to the working resolution, anti-aliased.",
    inputs=(Input("create_mosaic_grid"),),
    outputs=(Output("grid", "mosaic_grid_3d_z{slice:02d}.ome.zarr"),),
    cli_name="resample",
)
