"""A picture of every slice before anything is measured: tiles projected over depth and laid where they are expected.

Tiles lie where the stage stood, or by index and overlap where it was not recorded. Doubled or cut structures at the
seams are the errors that matching the tiles will have to remove; a picture in which nothing fits means wrong
positions, axes or overlap, seen before hours of work. Off by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

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


class MosaicPreviewParams(Params):
    """Parameters of `mosaic_preview`."""

    enabled: bool = parameter(False, "Write a preview of every slice.")
    max_side_px: int = parameter(
        2000, "Largest height or width of the preview.", unit="px", ge=16, le=20_000
    )
    blending: Literal["feather", "average", "none"] = parameter(
        "none", "How tiles are mixed where they overlap; none shows every seam as it is."
    )


def run(context: Context, params: MosaicPreviewParams) -> Result:
    """Write the preview of one slice."""
    import numpy as np

    from soct.formats.images import to_grey, write_png
    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.formats.ome_zarr import create_volume
    from soct.mosaic.flat_mosaic import choose_reduction, reduce_tile, render_flat_mosaic
    from soct.space import Voxel
    from soct.steps.grid_tiles import expected_positions, present_tiles, tile_overlap

    grid = open_mosaic_grid(context.mine("create_mosaic_grid", "grid"), threads=context.threads)
    tiles = present_tiles(grid)
    expected = expected_positions(grid, tiles, tile_overlap(context, None))
    shape = (grid.tile_shape[1], grid.tile_shape[2])
    small = choose_reduction(expected.px, shape, params.max_side_px)
    pictures = []
    for done, tile in enumerate(tiles):
        image = grid.read_tile(tile.row, tile.col).mean(axis=0, dtype=np.float64)
        pictures.append(reduce_tile(image.astype(np.float32), small))
        context.progress((done + 1) / len(tiles))
    mosaic = render_flat_mosaic(pictures, expected.px, shape, params.blending)
    seen = np.isfinite(mosaic.image)
    voxel = grid.voxel_um
    pixel = (voxel.y * mosaic.pixel_factor[0], voxel.x * mosaic.pixel_factor[1])
    with create_volume(
        context.output("preview"),
        (1, *mosaic.image.shape),
        Voxel(voxel.z * grid.tile_shape[0], *pixel),
        attributes={"slice_id": context.unit.slices[0], "projection": "mean over depth"},
        threads=context.threads,
    ) as writer:
        writer.write((0, 0, 0), np.where(seen, mosaic.image, 0)[None].astype(np.float32))
        writer.write_valid(np.stack([np.zeros_like(seen), seen]).astype(np.int16))
    write_png(context.output("picture"), to_grey(mosaic.image))
    write_npz(context.output("figures"), picture=mosaic.image, pixel_um=np.array(pixel))
    overlap = expected.overlap_px
    return Result(
        metrics=(
            Metric("preview_overlap_y_px", overlap[0], "px", "expected overlap along y"),
            Metric("preview_overlap_x_px", overlap[1], "px", "expected overlap along x"),
            Metric(
                "preview_positions",
                "stage" if expected.from_stage else "index and overlap",
                "",
                "what the tiles were placed by",
            ),
        )
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, largest, measure_slices

    picture = FLOAT * params["mosaic_preview"].max_side_px ** 2
    return largest(
        [
            Need(2 * picture, 3 * size.native_bytes + 6 * picture)
            for size in measure_slices(acquisition, slices, params)
        ]
    )


STEP = Step(
    id="mosaic_preview",
    version=1,
    scope=Scope.SLICE,
    params=MosaicPreviewParams,
    run=run,
    cost=Cost(raw_mvoxel=0.02, serial=0.5),
    estimate=estimate,
    summary="Show every slice with its tiles where they are expected.",
    inputs=(Input("create_mosaic_grid"), Input("estimate_xy_shifts")),
    outputs=(
        Output("preview", "preview_z{slice:02d}.ome.zarr"),
        Output("picture", "preview_z{slice:02d}.png"),
        Output("figures", "figures_z{slice:02d}.npz", optional=True),
    ),
)
