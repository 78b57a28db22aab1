"""How the stage's axes lie against the camera's: one 2 x 2 matrix (angle, scale, shear) for the whole run.

Every slice can fit that matrix from its own pairs of tiles, and does so where it has enough of them. A slice that is
mostly blank has not: its tiles are placed better by what the other slices measured. This step matches tiles of slices spread
over the run and fits one matrix to all their pairs; `stitch_3d_with_refinement.stitch_global_transform` then uses the result
for all slices. Off by default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    from soct.mosaic.grid_model import GridModel


class EstimateGlobalTransformParams(Params):
    """Parameters of `estimate_global_transform`."""

    enabled: bool = parameter(False, "Measure the stage's axes against the camera's for the run.")
    max_slices: int = parameter(
        10, "Slices, spread evenly over the run, whose tiles are matched.", ge=1, le=10_000
    )
    max_side_tiles: int = parameter(
        8, "Rows and columns of the block of tiles that is matched in each.", ge=2, le=1000
    )
    match_slabs: int = parameter(
        3, "Depth projections of each overlap that vote on its shift.", ge=1, le=16
    )
    max_tile_shift_um: float | None = parameter(
        None,
        "Greatest error of the stage between neighbouring tiles; empty: from the size of tile and overlap.",
        unit="um",
        gt=0,
    )


@dataclass(frozen=True)
class _Matched:
    """The accepted pairs of one slice: what the stage says of them, and what the images do."""

    model: GridModel
    steps_px: NDArray[np.float64]
    offsets_px: NDArray[np.float64]
    confidence: NDArray[np.float64]


def central_block(grid: MosaicGrid, tiles: Sequence[GridTile], side: int) -> tuple[GridTile, ...]:
    """Return the tiles of the block of `side` rows and columns in the middle of a grid."""
    row0, col0 = max(0, (grid.rows - side) // 2), max(0, (grid.cols - side) // 2)
    return tuple(t for t in tiles if 0 <= t.row - row0 < side and 0 <= t.col - col0 < side)


def _fit_slice(
    context: Context,
    params: EstimateGlobalTransformParams,
    grid: MosaicGrid,
    overlap: float | tuple[float, float],
) -> _Matched | None:
    """Match the middle of one slice; None where there is nothing to match."""
    from soct.mosaic.tile_placement import TileOptions, place_tiles
    from soct.steps.grid_tiles import (
        choose_matched_slabs,
        expected_positions,
        present_tiles,
        project_slabs,
        tile_loader,
    )

    tiles = central_block(grid, present_tiles(grid), params.max_side_tiles)
    if len(tiles) < 2:
        return None
    load = tile_loader(context, grid, tiles, mark_gap=True)
    slabs = choose_matched_slabs(load, params.match_slabs)
    search = None
    if params.max_tile_shift_um is not None:
        search = params.max_tile_shift_um / min(grid.voxel_um.y, grid.voxel_um.x)
    nominal = expected_positions(grid, tiles, overlap).px
    placement = place_tiles(
        lambda i: project_slabs(load(i), slabs),
        nominal,
        (grid.tile_shape[1], grid.tile_shape[2]),
        TileOptions(search_px=search),
        workers=context.threads,
    )
    held = placement.pair_accepted
    if not held.any():
        return None
    first, second = placement.pairs[held, 0], placement.pairs[held, 1]
    return _Matched(
        placement.model,
        nominal[second] - nominal[first],
        placement.pair_offset_px[held],
        placement.pair_confidence[held],
    )


def run(context: Context, params: EstimateGlobalTransformParams) -> Result:
    """Write the matrix that all pairs share."""
    import numpy as np

    from soct.formats.documents import write_document
    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.mosaic.grid_model import fit_grid_model, nominal_model
    from soct.steps.grid_tiles import tile_overlap

    paths = sorted(context.all("resample_mosaic_grid", "grid").items())
    count = min(params.max_slices, len(paths))
    spread = np.unique(((np.arange(count) + 0.5) * len(paths) / count).astype(int))
    overlap = tile_overlap(context, None)
    found: dict[int, _Matched] = {}
    for done, k in enumerate(spread):
        (slice_id,), path = paths[int(k)]
        matched = _fit_slice(context, params, open_mosaic_grid(path), overlap)
        if matched is not None:
            found[slice_id] = matched
        context.progress((done + 1) / len(spread))
    models = {i: matched.model for i, matched in found.items()}
    # All pairs at once: a slice with few of them says little by itself, and its own fit leans on the prior.
    pooled = nominal_model()
    if found:
        pooled = fit_grid_model(
            np.concatenate([m.steps_px for m in found.values()]),
            np.concatenate([m.offsets_px for m in found.values()]),
            np.concatenate([m.confidence for m in found.values()]),
        )
    write_document(
        context.output("transform"),
        {
            "matrix_yx": pooled.matrix.tolist(),
            "scatter_px": pooled.scatter_px,
            "pairs": pooled.n_pairs,
            "slices": {
                str(i): {"matrix_yx": m.matrix.tolist(), "pairs": m.n_pairs}
                for i, m in models.items()
            },
        },
    )
    warnings = []
    if not models:
        warnings.append("no two tiles could be matched: the stage's axes are taken as the camera's")
    return _report(pooled, models, tuple(warnings))


def describe_matrix(matrix: Any) -> tuple[float, tuple[float, float], float]:
    """Split a matrix into angle (deg), scales along (y, x) and shear (deg).

    The angle is positive where the image's y grows as the stage moves along +x; the shear is what is missing
    to a right angle between the two axes.
    """
    import numpy as np

    m = np.asarray(matrix, np.float64)
    along_y, along_x = m[:, 0], m[:, 1]
    of_x = float(np.rad2deg(np.arctan2(along_x[0], along_x[1])))
    of_y = float(np.rad2deg(np.arctan2(-along_y[1], along_y[0])))
    return (of_x + of_y) / 2, (float(np.hypot(*along_y)), float(np.hypot(*along_x))), of_x - of_y


def _report(
    pooled: GridModel, models: Mapping[int, GridModel], warnings: tuple[str, ...]
) -> Result:
    import numpy as np

    angle, (scale_y, scale_x), shear = describe_matrix(pooled.matrix)
    apart = [float(np.abs(m.matrix - pooled.matrix).max()) for m in models.values()]
    return Result(
        metrics=(
            Metric("stage_rotation_deg", angle, "deg", "angle of the stage against the camera"),
            Metric("stage_scale_y", scale_y, "", "distance in the image per distance of the stage, y"),
            Metric("stage_scale_x", scale_x, "", "the same along x"),
            Metric("stage_shear_deg", shear, "deg", "how far the stage's axes are from a right angle"),
            Metric("global_pairs", pooled.n_pairs, "", "pairs of tiles behind the matrix"),
            Metric("global_slices", len(models), "", "slices that could be matched"),
            Metric(
                "global_spread",
                max(apart) if apart else None,
                "",
                "largest difference of a slice's matrix from the pooled one",
            ),
        ),
        warnings=warnings,
    )  # fmt: skip


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import largest, measure_slices

    own = params["estimate_global_transform"]
    needs = []
    for size in measure_slices(acquisition, slices, params):
        tiles = min(size.tiles, own.max_side_tiles**2)
        strips = 8 * tiles * own.match_slabs * size.tile[1] * size.tile[2]
        needs.append(Need(0, strips + 6 * size.tile_bytes))
    return largest(needs)


STEP = Step(
    id="estimate_global_transform",
    version=2,
    scope=Scope.RUN,
    params=EstimateGlobalTransformParams,
    run=run,
    cost=Cost(tile=0.05, serial=0.5),
    estimate=estimate,
    summary="Measure angle, scale and shear of the stage against the camera for all slices.",
    inputs=(
        Input("estimate_xy_shifts"),
        Input("resample_mosaic_grid"),
        Input("fix_focal_curvature", optional=True),
    ),
    outputs=(Output("transform", "global_transform.json"),),
)
