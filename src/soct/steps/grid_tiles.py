"""What several steps ask of a mosaic grid: which tiles it has, where they are expected, how they load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soct.formats.mosaic_grid import GridTile, MosaicGrid
    from soct.mosaic.grid import NominalPositions
    from soct.space import FloatArray
    from soct.steps.declaration import Context


def present_tiles(grid: MosaicGrid) -> tuple[GridTile, ...]:
    """Return the tiles that hold data, row-major; also for grids that list none."""
    from soct.formats.mosaic_grid import GridTile

    if grid.tiles:
        return tuple(t for t in grid.tiles if t.status == "ok")
    return tuple(
        GridTile(row, col)
        for row in range(grid.rows)
        for col in range(grid.cols)
        if grid.has(row, col)
    )


def expected_positions(
    grid: MosaicGrid, tiles: Sequence[GridTile], overlap_fraction: float
) -> NominalPositions:
    """Return the expected pixel positions of `tiles`, from the stage or else from their index."""
    import numpy as np

    from soct.mosaic.grid import nominal_positions

    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    return nominal_positions(
        np.array([t.row for t in tiles], np.int64),
        np.array([t.col for t in tiles], np.int64),
        np.array(
            [(number(t.stage_mm[1]), number(t.stage_mm[0])) for t in tiles], np.float64
        ).reshape(-1, 2),
        (grid.voxel_um.y, grid.voxel_um.x),
        (grid.tile_shape[1], grid.tile_shape[2]),
        overlap_fraction,
    )


@dataclass(frozen=True)
class TileLoader:
    """Reads the tiles of a grid, flattened by the focal curvature that the run's tiles share."""

    grid: MosaicGrid
    tiles: Sequence[GridTile]
    curvature_px: FloatArray | None
    """Depth shift of each A-line (y, x) in samples; None where tiles are flat."""

    def __call__(self, i: int) -> FloatArray:
        """Return tile i, ``(z, y, x)``; NaN where flattening leaves no data."""
        from soct.geometry.focal_curvature import shift_a_lines

        data = self.grid.read_tile(self.tiles[i].row, self.tiles[i].col)
        return data if self.curvature_px is None else shift_a_lines(data, self.curvature_px)

    @property
    def whole_planes(self) -> tuple[int, int]:
        """First plane, and one past the last, on which every A-line has data."""
        import math

        nz = self.grid.tile_shape[0]
        if self.curvature_px is None:
            return 0, nz
        low, high = float(self.curvature_px.min()), float(self.curvature_px.max())
        first, stop = math.ceil(max(-low, 0.0)), nz - math.ceil(max(high, 0.0))
        return (first, stop) if stop > first else (0, nz)


def tile_loader(context: Context, grid: MosaicGrid, tiles: Sequence[GridTile]) -> TileLoader:
    """Return the loader of a grid's tiles, with the run's focal curvature where it was measured."""
    import numpy as np

    depth = None
    if context.has("fix_focal_curvature", "curvature"):
        with np.load(context.run("fix_focal_curvature", "curvature")) as saved:
            if np.any(saved["depth_px"]):
                depth = np.asarray(saved["depth_px"], np.float32)
    return TileLoader(grid, tiles, depth)
