"""Flat and dark field of the tiles (BaSiC), pooled over the run; applied where tiles are stitched."""

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
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition
    from soct.formats.mosaic_grid import GridTile, MosaicGrid
    from soct.intensity.illumination import Illumination
    from soct.quality.seams import MosaicSeams
    from soct.space import FloatArray
    from soct.steps.grid_tiles import TileLoader

TILE_COPIES = 6
"""How many times the bytes of a tile its projection needs."""


class FixIlluminationParams(Params):
    """Parameters of `fix_illumination`."""

    enabled: bool = parameter(True, "Divide tiles by the flat field they share.")
    method: Literal["basic", "basicpy", "median", "mean"] = parameter(
        "basic",
        "How the flat field is estimated: basic is BaSiC with overlap equations, basicpy that library (extra soct[basicpy]).",
    )
    darkfield: bool = parameter(
        False, "Estimate a dark field too (needs tiles of different brightness)."
    )
    max_samples: int = parameter(
        2000, "Tiles, spread evenly over all slices, that vote.", ge=1, le=100_000
    )
    max_iterations: int = parameter(500, "Limit on the rounds of reweighting.", ge=1, le=10_000)
    smoothness_flatfield: float | None = parameter(
        None,
        "Standard errors that a fine detail must reach to count (basicpy: its smoothness_flatfield); empty: automatic.",
        ge=0,
    )
    overlap_fraction: float | None = parameter(
        None,
        "Overlap of neighbouring tiles where no stage position was recorded; empty: as estimate_xy_shifts found it.",
        ge=0,
        lt=0.9,
    )


def project_tile(tile: FloatArray) -> FloatArray:
    """Mean of a tile over the same depths below its own surface, noise floor taken off."""
    import numpy as np

    from soct.geometry.surface import (
        bin_a_lines,
        evaluate_quadratic,
        fit_surface,
        locate_interface,
        measure_water_level,
        smooth_a_lines,
    )
    from soct.intensity.depth_profiles import project_below_surface

    # The surface of a tile is a smooth quadratic: squares of A-lines show it as well as single ones.
    bin_px = max(1, min(4, min(tile.shape[1:]) // 16))
    smoothed = smooth_a_lines(
        bin_a_lines(tile, bin_px) if bin_px > 1 else tile, sigma_px=(0.8, 2 / bin_px, 2 / bin_px)
    )
    water = measure_water_level(smoothed)
    found = locate_interface(smoothed, water)
    surface = fit_surface(found.depth_px, found.confidence, mode="quadratic")
    depth_px = evaluate_quadratic(
        surface.coefficients, (tile.shape[1], tile.shape[2]), bin_px=bin_px
    )
    depth_px = np.maximum(depth_px, 0)
    # Below the deepest interface the frame still holds light: all A-lines average over as many samples.
    reach = min(40.0, tile.shape[0] - 2.0 - float(depth_px.max()) - 3.0)
    if surface.measured_fraction < 0.02 or reach < 4:
        return np.nan_to_num(np.nanmean(tile, axis=0)) - np.float32(water.floor)
    return project_below_surface(tile, depth_px, floor=water.floor, depth_px=int(reach))


def _project_tiles(
    context: Context, loaders: Mapping[int, TileLoader], chosen: Sequence[tuple[int, int]]
) -> NDArray[np.float32]:
    """Projections of the chosen tiles (slice, number), reduced, a tile per thread at a time."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from soct.intensity.illumination import reduce_projection

    def project(which: tuple[int, int]) -> FloatArray:
        slice_id, number = which
        return reduce_projection(project_tile(loaders[slice_id](number)))

    tile_bytes = max(4 * int(np.prod(load.grid.tile_shape)) for load in loaders.values())
    workers = max(1, min(context.threads, context.memory_bytes // (TILE_COPIES * tile_bytes)))
    projections = []
    with ThreadPoolExecutor(workers) as pool:
        for projection in pool.map(project, chosen):
            projections.append(projection)
            context.progress(len(projections) / len(chosen))
    return np.stack(projections)


def _thumbnails(
    grid: MosaicGrid,
    tiles: Sequence[GridTile],
    positions: NDArray[np.float64],
    illumination: Illumination,
    limit: int = 500,
) -> tuple[FloatArray, FloatArray]:
    """Tiles pasted at their expected places, before and after: shows shading as the eye sees it."""
    import numpy as np

    from soct.intensity.illumination import correct_illumination

    _, h, w = grid.tile_shape
    height, width = (int(np.ceil(positions[:, a].max())) + n for a, n in ((0, h), (1, w)))
    step = max(1, -(-max(height, width) // limit))
    before = np.zeros((-(-height // step), -(-width // step)), np.float32)
    after = np.zeros_like(before)
    for tile, (y, x) in zip(tiles, np.round(positions).astype(int), strict=True):
        image = grid.read_tile(tile.row, tile.col).mean(axis=0)
        oy, ox = -y % step, -x % step
        r, c = (y + oy) // step, (x + ox) // step
        for out, shown in ((before, image), (after, correct_illumination(image, illumination))):
            part = shown[oy::step, ox::step]
            part = part[: out.shape[0] - r, : out.shape[1] - c]
            out[r : r + part.shape[0], c : c + part.shape[1]] = part
    return before, after


def _seams(
    projections: FloatArray,
    positions: NDArray[np.float64],
    groups: NDArray[np.int64],
    illumination: Illumination,
) -> tuple[MosaicSeams, MosaicSeams]:
    """Compare overlapping tiles that hold tissue before and after the flat field."""
    from soct.intensity.illumination import reduce_projection
    from soct.quality.seams import measure_seams

    voting = illumination.weights > 0
    if not voting.any():
        voting[:] = True
    flat, dark = reduce_projection(illumination.flat), reduce_projection(illumination.dark)
    tiles, where, slices = projections[voting], positions[voting], groups[voting]
    corrected = (tiles - dark) / flat
    return (
        measure_seams(tiles, where, groups=slices, smoothing_px=1.0),
        measure_seams(corrected, where, groups=slices, smoothing_px=1.0),
    )


def run(context: Context, params: FixIlluminationParams) -> Result:
    """Estimate the flat field from tiles of all slices."""
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.intensity.illumination import choose_samples, estimate_illumination
    from soct.steps.grid_tiles import (
        expected_positions,
        present_tiles,
        tile_loader,
        tile_overlap,
    )

    paths = context.all("resample_mosaic_grid", "grid")
    grids = {
        ids[0]: open_mosaic_grid(path, threads=context.threads)
        for ids, path in sorted(paths.items())
    }
    tiles = {s: present_tiles(g) for s, g in grids.items()}
    overlap = tile_overlap(context, params.overlap_fraction)
    expected = {s: expected_positions(g, tiles[s], overlap).px for s, g in grids.items()}
    loaders = {s: tile_loader(context, g, tiles[s]) for s, g in grids.items()}
    wanted = [(s, k) for s in grids for k in range(len(tiles[s]))]
    chosen = [wanted[i] for i in choose_samples(len(wanted), params.max_samples)]
    shape = next(iter(grids.values())).tile_shape[1:]
    projections = _project_tiles(context, loaders, chosen)
    scale = np.array(projections.shape[1:]) / np.array(shape)
    places = np.array([expected[s][k] * scale for s, k in chosen])
    groups = np.array([s for s, _ in chosen])
    result = estimate_illumination(
        projections,
        positions_px=places,
        groups=groups,
        method=params.method,
        darkfield=params.darkfield,
        smoothness=params.smoothness_flatfield,
        max_iterations=params.max_iterations,
        output_shape=shape,
    )
    write_npz(context.output("fields"), flat=result.flat, dark=result.dark)
    before, after = _seams(projections, places, groups, result)
    middle = list(grids)[len(grids) // 2]
    pictures = _thumbnails(grids[middle], tiles[middle], expected[middle], result)
    write_npz(
        context.output("figures"),
        flat=result.flat,
        dark=result.dark,
        before=pictures[0],
        after=pictures[1],
        slice_id=np.int64(middle),
    )

    def number(value: float) -> float | None:
        return value if np.isfinite(value) else None

    voters = int(np.count_nonzero(result.weights > 0))
    warnings = () if voters else ("no tile holds enough tissue: the flat field is 1 everywhere",)
    return Result(
        metrics=(
            Metric(
                "flatfield_min", float(result.flat.min()), "", "darkest place of the flat field"
            ),
            Metric(
                "flatfield_max", float(result.flat.max()), "", "brightest place of the flat field"
            ),
            Metric(
                "shading_step_before",
                number(before.shading),
                "",
                "step of brightness between overlapping tiles, before",
            ),
            Metric("shading_step", number(after.shading), "", "the same after the flat field"),
            Metric("shading_l1_before", number(before.l1), "", "difference in overlaps, before"),
            Metric("shading_l1", number(after.l1), "", "the same after the flat field"),
            Metric(
                "shading_pearson_before",
                number(before.pearson),
                "",
                "correlation in overlaps, before",
            ),
            Metric("shading_pearson", number(after.pearson), "", "the same after the flat field"),
            Metric("tiles_sampled", len(chosen), "", "tiles looked at"),
            Metric("tiles_voting", voters, "", "tiles with enough tissue to vote"),
            Metric(
                "overlap_equations", result.equations, "", "pixels seen twice that constrain it"
            ),
            Metric("flatfield_method", result.reason, "", "what was done"),
        ),
        warnings=warnings,
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import largest, measure_slices

    sizes = measure_slices(acquisition, slices, params)
    tiles = min(sum(size.tiles for size in sizes), params["fix_illumination"].max_samples)
    # Projections of at most 128 x 128, several copies of them, and one tile while it is smoothed.
    area = max((min(128, s.tile[1]) * min(128, s.tile[2]) for s in sizes), default=0)
    return largest([Need(0, 40 * tiles * area + TILE_COPIES * size.tile_bytes) for size in sizes])


STEP = Step(
    id="fix_illumination",
    version=3,
    scope=Scope.RUN,
    params=FixIlluminationParams,
    run=run,
    cost=Cost(tile=0.009, mvoxel=0.066, most_tiles="max_samples", serial=0.1),
    estimate=estimate,
    summary="Estimate the flat field that all tiles share.",
    inputs=(Input("estimate_xy_shifts"), Input("resample_mosaic_grid")),
    outputs=(Output("fields", "flatfield.npz"), Output("figures", "figures.npz", optional=True)),
)
