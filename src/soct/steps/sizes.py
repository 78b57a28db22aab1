"""How large the data of a slice will be, from names and sizes alone: what steps' estimates are made of.

Estimates err on the large side: mosaics are taken with a tenth of overlap, shards of empty tiles as written.
Nothing is imported that computes, for the main process plans with this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from soct.steps.declaration import Need, Work

if TYPE_CHECKING:
    from pathlib import Path

    from soct.formats.acquisition import Acquisition

FLOAT = 4
SHARD_ROWS = 64
BLOCK_COLUMNS = 1024
WAITING_BYTES = 256 << 20
"""What a mosaic grid keeps until its files are complete."""
_STEP = 0.9


@dataclass(frozen=True)
class SliceSize:
    """Sizes of one slice; shapes are ``(z, y, x)``.

    Attributes
    ----------
    tiles : int
        Tiles with data.
    grid : (int, int)
        Rows and columns of tiles.
    native, tile : tuple of int
        Shape of a tile as recorded (return lines included), and at the working resolution.
    voxel_um : (float, float, float)
        At the working resolution.
    """

    tiles: int
    grid: tuple[int, int]
    native: tuple[int, int, int]
    tile: tuple[int, int, int]
    voxel_um: tuple[float, float, float]

    @property
    def voxel_z_um(self) -> float:
        """Depth of a voxel at the working resolution."""
        return self.voxel_um[0]

    @property
    def native_bytes(self) -> int:
        """Of one recorded tile."""
        return FLOAT * math.prod(self.native)

    @property
    def tile_bytes(self) -> int:
        """Of one tile at the working resolution."""
        return FLOAT * math.prod(self.tile)

    @property
    def grid_tiles(self) -> int:
        """Positions of the grid."""
        return self.grid[0] * self.grid[1]

    @property
    def canvas(self) -> tuple[int, int]:
        """Rows and columns of the stitched slice."""
        y, x = (
            math.ceil(n * (1 + _STEP * (count - 1)))
            for n, count in zip(self.tile[1:], self.grid, strict=True)
        )
        return y, x

    @property
    def plane(self) -> int:
        """Pixels of one plane of the stitched slice."""
        return math.prod(self.canvas)

    def planes_kept(self, params: Mapping[str, Any]) -> int:
        """Planes below the interface that are kept."""
        crop = params.get("crop_interface")
        depth = crop.out_depth_um if crop is not None else math.inf
        return int(min(self.tile[0], max(1.0, depth / self.voxel_z_um)))

    def grid_files(self, tile_bytes: int, sharding_factor: int = 4) -> int:
        """Return the files of a mosaic grid whose tiles are so large: shards of several tiles, and metadata."""
        from soct.formats.tiles import shard_tiles

        high, wide = shard_tiles(*self.grid, tile_bytes, sharding_factor)
        return 2 + math.ceil(self.grid[0] / high) * math.ceil(self.grid[1] / wide)

    def block_bytes(self, halo: int = 0) -> int:
        """Of one float32 block of a slice as steps cut it (`soct.steps.blocks`), over the full depth."""
        y = min(SHARD_ROWS + 2 * halo, self.canvas[0])
        x = min(BLOCK_COLUMNS + 2 * halo, self.canvas[1])
        return FLOAT * self.tile[0] * y * x


def measure_slice(
    acquisition: Acquisition, slice_id: int, params: Mapping[str, Any]
) -> SliceSize | None:
    """Return the sizes of a slice; None where it has no tile to tell them.

    Parameters
    ----------
    acquisition : Acquisition
    slice_id : int
    params : mapping
        Parameters of every step.
    """
    record = acquisition.slices[slice_id]
    create, resample = params.get("create_mosaic_grid"), params.get("resample_mosaic_grid")
    if record.grid is not None:
        axes = create.grid_axes if create else "auto"
        count, grid, native, voxel = _measure_grid(record.grid, None if axes == "auto" else axes)
        shape = native
    elif record.tiles:
        tiles, info = record.tiles, record.tiles[0].info
        columns = [tile.col for tile in tiles]
        rows = tiles[-1].row - tiles[0].row + 1  # they come row by row
        cols = max(columns) - min(columns) + 1
        axial = info.axial_resolution_um or (create.axial_resolution_um if create else 1.0)
        count, grid, voxel = len(tiles), (rows, cols), (axial, *info.pixel_um)
        shape, native = (info.n_z, info.ny, info.nx), info.shape
    else:
        return None
    target = resample.resolution_um if resample is not None else -1.0
    tile = [
        max(1, math.ceil(n * v / target)) if target > v else n
        for n, v in zip(shape, voxel, strict=True)
    ]
    z, y, x = (max(v, target) for v in voxel)
    return SliceSize(count, grid, native, (tile[0], tile[1], tile[2]), (z, y, x))


@cache
def _measure_grid(
    path: Path, axes: Literal["yx", "xy"] | None
) -> tuple[int, tuple[int, int], tuple[int, int, int], tuple[float, float, float]]:
    """Tiles, rows and columns, tile shape and voxel of a mosaic grid; of one voxel where it is broken."""
    from soct.errors import InputError
    from soct.formats.mosaic_grid import open_mosaic_grid

    try:
        grid = open_mosaic_grid(path, axes)
    except InputError:  # create_mosaic_grid says so when the slice's turn comes
        return 1, (1, 1), (1, 1, 1), (1.0, 1.0, 1.0)
    return grid.rows * grid.cols, (grid.rows, grid.cols), grid.tile_shape, tuple(grid.voxel_um)  # type: ignore[return-value]


def measure_slices(
    acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]
) -> list[SliceSize]:
    """Return the sizes of those slices that tell them."""
    sizes = (measure_slice(acquisition, s, params) for s in slices)
    return [size for size in sizes if size is not None]


def largest(needs: list[Need]) -> Need:
    """Add up disk and files of several needs, and take the largest memory."""
    return Need(
        sum(need.disk_bytes for need in needs),
        max((n.memory_bytes for n in needs), default=0),
        sum(need.files for need in needs),
    )


def measure_work(
    acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]
) -> Work:
    """Return how much data these slices hold: what the time of a unit grows with."""
    sizes = measure_slices(acquisition, slices, params)
    return Work(
        slices=len(slices),
        tiles=sum(size.tiles for size in sizes),
        raw_mvoxels=1e-6 * sum(size.tiles * math.prod(size.native) for size in sizes),
        mvoxels=1e-6 * sum(size.tiles * math.prod(size.tile) for size in sizes),
        kept_mvoxels=1e-6 * sum(size.planes_kept(params) * size.plane for size in sizes),
        mpixels=1e-6 * sum(size.plane for size in sizes),
    )
