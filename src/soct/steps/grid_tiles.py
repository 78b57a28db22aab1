"""What several steps ask of a mosaic grid: which tiles it has, where they are expected, how they load."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    grid: MosaicGrid, tiles: Sequence[GridTile], overlap_fraction: float | tuple[float, float]
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


def tile_overlap(context: Context, given: float | None) -> float | tuple[float, float]:
    """Return the overlap of tiles whose stage positions are not known: as given, else as the run found it."""
    from soct.formats.documents import read_document

    if given is not None:
        return given
    found = read_document(context.run("estimate_xy_shifts", "overlap"))["overlap_fraction_yx"]
    return (float(found[0]), float(found[1]))


@dataclass(frozen=True)
class TileLoader:
    """Reads the tiles of a grid, flattened by the focal curvature that the run's tiles share."""

    grid: MosaicGrid
    tiles: Sequence[GridTile]
    curvature_px: FloatArray | None
    """Depth shift of each A-line (y, x) in samples; None where tiles are flat."""
    gap: tuple[int, int] | None = None
    """Columns of every tile, first and one past the last, that were never kept: NaN."""

    def __call__(self, i: int) -> FloatArray:
        """Return tile i, ``(z, y, x)``; NaN where flattening leaves no data, and in the gap."""
        from soct.geometry.focal_curvature import shift_a_lines

        data = self.grid.read_tile(self.tiles[i].row, self.tiles[i].col)
        if self.curvature_px is not None:
            data = shift_a_lines(data, self.curvature_px)
        if self.gap is not None:
            data[..., self.gap[0] : self.gap[1]] = float("nan")
        return data

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


def tile_loader(
    context: Context, grid: MosaicGrid, tiles: Sequence[GridTile], *, mark_gap: bool = False
) -> TileLoader:
    """Return the loader of a grid's tiles, with the run's focal curvature where it was measured.

    Parameters
    ----------
    context : Context
    grid : MosaicGrid
    tiles : sequence of GridTile
        The tiles to load, by number.
    mark_gap : bool
        Make columns that were never kept NaN (`no_data_columns` of the grid); else they hold what the return
        lines recorded.
    """
    import numpy as np

    depth = None
    if context.has("fix_focal_curvature", "curvature"):
        with np.load(context.run("fix_focal_curvature", "curvature")) as saved:
            if np.any(saved["depth_px"]):
                depth = np.asarray(saved["depth_px"], np.float32)
    gap = grid.attributes.get("no_data_columns") if mark_gap else None
    return TileLoader(grid, tiles, depth, None if gap is None else (int(gap[0]), int(gap[1])))


def choose_slabs(profile: NDArray[np.float64], count: int) -> list[tuple[int, int]]:
    """Cut the depths that carry signal into `count` slabs of equal thickness.

    Parameters
    ----------
    profile : ndarray (nz,)
        Mean brightness over depth.
    count : int
        Slabs wanted; fewer where the depths do not suffice.
    """
    import numpy as np

    floor, peak = float(np.min(profile)), float(np.max(profile))
    good = np.flatnonzero(profile > floor + 0.1 * (peak - floor))
    if peak <= floor or good.size == 0:
        return [(0, len(profile))]
    low, high = int(good[0]), int(good[-1]) + 1
    edges = np.unique(np.linspace(low, high, min(count, high - low) + 1).round().astype(int))
    return list(itertools.pairwise(int(e) for e in edges))


def choose_matched_slabs(load: TileLoader, count: int) -> list[tuple[int, int]]:
    """Slabs to match on, from up to five tiles spread over the list; only planes without gaps."""
    import numpy as np

    n = len(load.tiles)
    chosen = sorted({round((k + 0.5) * n / 5 - 0.5) for k in range(5)} & set(range(n)))
    first, stop = load.whole_planes
    profile = np.mean(
        [np.nanmean(load(i)[first:stop], axis=(1, 2), dtype=np.float64) for i in chosen], axis=0
    )
    return [(first + a, first + b) for a, b in choose_slabs(profile, count)]


def project_slabs(tile: FloatArray, slabs: Sequence[tuple[int, int]]) -> FloatArray:
    """Return the mean of each slab of a tile, ``(k, y, x)``."""
    import numpy as np

    return np.stack([np.mean(tile[a:b], axis=0) for a, b in slabs]).astype(np.float32)
