"""What several steps ask of a mosaic grid: which tiles it has, where they are expected, how they load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from soct.formats.mosaic_grid import GridTile, MosaicGrid
    from soct.mosaic.grid import NominalPositions
    from soct.space import FloatArray


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


def tile_loader(
    grid: MosaicGrid, tiles: Sequence[GridTile], curvature: Path | None
) -> Callable[[int], FloatArray]:
    """Return a function that gives tile i flattened by the focal curvature, NaN where that leaves no data."""
    import numpy as np

    from soct.geometry.focal_curvature import shift_a_lines

    depth = None
    if curvature is not None:
        with np.load(curvature) as saved:
            if np.any(saved["depth_px"]):
                depth = np.asarray(saved["depth_px"], np.float32)

    def load(i: int) -> FloatArray:
        data = grid.read_tile(tiles[i].row, tiles[i].col)
        return data if depth is None else shift_a_lines(data, depth)

    return load
