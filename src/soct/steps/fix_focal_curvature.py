"""The curved coherence gate: how far each A-line of a tile is shifted in depth, shared by all tiles."""

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
    from collections.abc import Mapping, Sequence

    from soct.formats.acquisition import Acquisition
    from soct.formats.mosaic_grid import GridTile, MosaicGrid
    from soct.geometry.surface import InterfaceMap

TILE_COPIES = 6
"""How many times the bytes of a tile its interface needs."""


class FixFocalCurvatureParams(Params):
    """Parameters of `fix_focal_curvature`."""

    enabled: bool = parameter(
        True, "Measure the curvature and flatten tiles where it is significant."
    )
    min_curvature_um: float = parameter(
        5.0, "Peak-to-valley curvature below which tiles are left as they are.", unit="um", ge=0
    )
    max_tiles: int = parameter(
        400, "Tiles, spread evenly over all slices, from which the curvature is measured.", ge=1
    )


def _squares(tile: tuple[int, int]) -> int:
    """Side of the squares of A-lines that show a bowl as well as single A-lines do: 32 of them across."""
    return max(1, min(4, min(tile) // 32))


def _find_interfaces(
    context: Context,
    grids: Mapping[int, MosaicGrid],
    chosen: Sequence[tuple[int, GridTile]],
    bin_px: int,
) -> list[InterfaceMap]:
    """Interfaces of the chosen tiles, a tile per thread at a time."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from soct.geometry.surface import bin_a_lines, detect_interface

    # Averaging over a square smooths too: with it, the blur across is 2 A-lines whatever the square.
    sigma = float(np.sqrt(4 - (bin_px**2 - 1) / 12)) / bin_px

    def find(which: tuple[int, GridTile]) -> InterfaceMap:
        slice_id, at = which
        tile = grids[slice_id].read_tile(at.row, at.col)
        block = bin_a_lines(tile, bin_px) if bin_px > 1 else tile
        return detect_interface(block, sigma_px=(0.8, sigma, sigma))

    tile_bytes = max(4 * int(np.prod(grid.tile_shape)) for grid in grids.values())
    workers = max(1, min(context.threads, context.memory_bytes // (TILE_COPIES * tile_bytes)))
    interfaces = []
    with ThreadPoolExecutor(workers) as pool:
        for interface in pool.map(find, chosen):
            interfaces.append(interface)
            context.progress(len(interfaces) / len(chosen))
    return interfaces


def run(context: Context, params: FixFocalCurvatureParams) -> Result:
    """Write the depth shift of every A-line of a tile."""
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.geometry.focal_curvature import estimate_focal_curvature
    from soct.steps.grid_tiles import present_tiles

    paths = context.all("resample_mosaic_grid", "grid")
    grids = {ids[0]: open_mosaic_grid(path) for ids, path in sorted(paths.items())}
    wanted = [(s, t) for s, grid in grids.items() for t in present_tiles(grid)]
    step = max(1, -(-len(wanted) // params.max_tiles))
    first = next(iter(grids.values()))
    tile_shape = (first.tile_shape[1], first.tile_shape[2])
    bin_px = _squares(tile_shape)
    interfaces = _find_interfaces(context, grids, wanted[::step], bin_px)
    curvature = estimate_focal_curvature(interfaces, bin_px=bin_px, tile_shape=tile_shape)
    # On the optical axis, in the middle of a tile, depth is what the stage and the cut say.
    middle = [slice((n - 1) // 2, n // 2 + 1) for n in curvature.depth_px.shape]
    axis = (
        float(curvature.depth_px[middle[0], middle[1]].mean()) if curvature.depth_px.size else 0.0
    )
    depth = np.asarray(curvature.depth_px - axis, np.float32)
    size_um = float(np.ptp(depth)) * first.voxel_um.z
    applied = size_um >= params.min_curvature_um
    if not applied:
        depth = np.zeros(first.tile_shape[1:], np.float32)
    write_npz(context.output("curvature"), depth_px=depth, voxel_um=np.array(first.voxel_um))
    return Result(
        metrics=(
            Metric(
                "focal_curvature_um", size_um, "um", "peak-to-valley curvature of a tile's surface"
            ),
            Metric("focal_curvature_applied", applied, "", "whether tiles are flattened by it"),
            Metric("tiles_measured", len(interfaces), "", "tiles whose surface was measured"),
        )
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import largest, measure_slices

    sizes = measure_slices(acquisition, slices, params)
    tiles = min(sum(size.tiles for size in sizes), params["fix_focal_curvature"].max_tiles)
    # Depth and confidence of every tile that is looked at, and what is left of them, and one tile at work.
    needs = []
    for size in sizes:
        bin_px = _squares((size.tile[1], size.tile[2]))
        squares = -(-size.tile[1] // bin_px) * -(-size.tile[2] // bin_px)
        needs.append(Need(0, 24 * tiles * squares + TILE_COPIES * size.tile_bytes))
    return largest(needs)


STEP = Step(
    id="fix_focal_curvature",
    version=4,
    scope=Scope.RUN,
    params=FixFocalCurvatureParams,
    run=run,
    cost=Cost(tile=0.0125, mvoxel=0.03, most_tiles="max_tiles", serial=0.1),
    estimate=estimate,
    summary="Measure the depth shift that the scan optics give each A-line of a tile.",
    inputs=(Input("resample_mosaic_grid"),),
    outputs=(Output("curvature", "focal_curvature.npz"),),
)
