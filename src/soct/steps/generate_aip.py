"""Average-intensity projection (AIP) of every mosaic grid: the tiles of a slice side by side, mean over depth.

The projection is a mosaic grid itself, one plane deep, with everything that the grid knows of its tiles. The picture
beside it shows at a glance which tiles are missing, dark or shifted by the galvo. Off by default; it reads the grid
once more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from soct.formats.npz import write_npz
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


class GenerateAipParams(Params):
    """Parameters of `generate_aip`."""

    enabled: bool = parameter(False, "Write the projection of every mosaic grid.")
    max_side_px: int = parameter(
        2000, "Largest height or width of the picture.", unit="px", ge=16, le=20_000
    )


def run(context: Context, params: GenerateAipParams) -> Result:
    """Write the projection of one slice."""
    import numpy as np

    from soct.formats.images import to_grey, write_png
    from soct.formats.mosaic_grid import MosaicGridWriter, open_mosaic_grid
    from soct.mosaic.flat_mosaic import choose_reduction, reduce_tile, render_flat_mosaic
    from soct.space import Voxel
    from soct.steps.grid_tiles import present_tiles

    grid = open_mosaic_grid(context.mine("create_mosaic_grid", "grid"), threads=context.threads)
    tiles = present_tiles(grid)
    n_z, n_y, n_x = grid.tile_shape
    places = np.array([(t.row * n_y, t.col * n_x) for t in tiles], np.float64).reshape(-1, 2)
    small = choose_reduction(np.array([(0, 0), ((grid.rows - 1) * n_y, (grid.cols - 1) * n_x)]), (n_y, n_x), params.max_side_px)  # fmt: skip
    pictures, means = [], []
    voxel = grid.voxel_um
    with MosaicGridWriter(
        context.output("aip"),
        grid.rows,
        grid.cols,
        (1, n_y, n_x),
        Voxel(voxel.z * n_z, voxel.y, voxel.x),
        attributes={"slice_id": context.unit.slices[0], "projection": "mean over depth"},
        threads=context.threads,
    ) as writer:
        for done, tile in enumerate(tiles):
            image = grid.read_tile(tile.row, tile.col).mean(axis=0, dtype=np.float64)
            image = image.astype(np.float32)
            writer.write_tile(tile.row, tile.col, image[None])
            pictures.append(reduce_tile(image, small))
            means.append(float(image.mean()))
            context.progress((done + 1) / len(tiles))
        writer.close(grid.tiles)
    mosaic = render_flat_mosaic(pictures, places, (n_y, n_x), "none")
    write_png(context.output("picture"), to_grey(mosaic.image))
    write_npz(context.output("figures"), picture=mosaic.image)
    return Result(
        metrics=(
            Metric("aip_mean", float(np.mean(means)), "", "mean brightness of the tiles"),
            Metric("aip_darkest_tile", float(np.min(means)), "", "mean of the darkest tile"),
        )
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, largest, measure_slices

    return largest(
        [
            Need(
                FLOAT * size.grid_tiles * size.native[1] * size.native[2],
                3 * size.native_bytes + 4 * FLOAT * params["generate_aip"].max_side_px ** 2,
            )
            for size in measure_slices(acquisition, slices, params)
        ]
    )


STEP = Step(
    id="generate_aip",
    version=1,
    scope=Scope.SLICE,
    params=GenerateAipParams,
    run=run,
    cost=Cost(raw_mvoxel=0.02, serial=0.5),
    estimate=estimate,
    summary="Project every mosaic grid over depth, as OME-Zarr and picture.",
    inputs=(Input("create_mosaic_grid"),),
    outputs=(
        Output("aip", "aip_z{slice:02d}.ome.zarr"),
        Output("picture", "aip_z{slice:02d}.png"),
        Output("figures", "figures_z{slice:02d}.npz", optional=True),
    ),
)
