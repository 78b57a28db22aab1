"""One slice by stage positions alone, coarse: what the motor-only diagnostics show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from soct.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from soct.mosaic.rendering import Shading
    from soct.space import FloatArray, Voxel
    from soct.steps.declaration import Context


@dataclass(frozen=True)
class MotorMosaic:
    """A slice whose tiles lie where the stage says.

    Attributes
    ----------
    data : float32 ndarray (z, y, x)
        NaN where no tile is.
    voxel_um : Voxel
    corner_um : (float, float)
        Corner ``(y, x)`` of the first pixel, in the frame in which the slice's first tile has its corner at the stage position.
    """

    data: FloatArray
    voxel_um: Voxel
    corner_um: tuple[float, float]


def read_shading(context: Context) -> Shading | None:
    """Return the run's flat and dark field where they were measured."""
    import numpy as np

    from soct.mosaic.rendering import Shading

    if not context.has("fix_illumination", "fields"):
        return None
    with np.load(context.run("fix_illumination", "fields")) as saved:
        return Shading(np.asarray(saved["flat"]), np.asarray(saved["dark"]))


def render_motor_mosaic(
    context: Context, grid_path: Path, resolution_um: float, overlap_fraction: float | None
) -> MotorMosaic:
    """Shrink every tile to the resolution and lay it where the stage says; nothing is matched or blended.

    Parameters
    ----------
    context : Context
    grid_path : Path
        Mosaic grid of the slice.
    resolution_um : float
        An axis that is coarser keeps its sampling.
    overlap_fraction : float
        Used only where no stage position was recorded; None: as the run measured it.
    """
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.geometry.resampling import plan_resampling, resample_tile
    from soct.mosaic.rendering import BandRenderer, plan_bands
    from soct.steps.grid_tiles import (
        expected_positions,
        present_tiles,
        tile_loader,
        tile_overlap,
    )

    grid = open_mosaic_grid(grid_path)
    tiles = present_tiles(grid)
    if not tiles:
        raise InputError("a slice has no tile with data", file=grid.path)
    load = tile_loader(context, grid, tiles, mark_gap=True)
    nominal = expected_positions(grid, tiles, tile_overlap(context, overlap_fraction)).px
    coarse = plan_resampling(grid.tile_shape, grid.voxel_um, resolution_um)
    shading = read_shading(context)

    def tile(i: int) -> FloatArray:
        data = load(i)
        if shading is not None:
            data = (data - (0.0 if shading.dark is None else shading.dark)) / shading.flat
        context.progress(0.9 * (i + 1) / len(tiles))
        return resample_tile(data, coarse)

    plan = plan_bands(
        np.asarray(coarse.scale_position(nominal)), (coarse.shape[1], coarse.shape[2])
    )
    data = BandRenderer(plan, tile, blending="none", interpolation="linear").render(
        0, plan.shape[0]
    )
    voxel = coarse.voxel_um
    return MotorMosaic(data, voxel, (plan.origin_px[0] * voxel.y, plan.origin_px[1] * voxel.x))
