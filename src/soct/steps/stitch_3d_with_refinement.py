"""Tiles of one slice -> one volume: matched on their overlaps, placed by one solve, rendered by bands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from soct.errors import ConfigurationError, InputError
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
    finite,
    parameter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from soct.compute.backend import Backend, Device
    from soct.formats.acquisition import Acquisition
    from soct.formats.mosaic_grid import MosaicGrid
    from soct.mosaic.grid_model import GridModel
    from soct.mosaic.placement import Placement
    from soct.mosaic.rendering import BandPlan, BandRenderer, Shading
    from soct.quality.seams import MosaicSeams
    from soct.space import FloatArray
    from soct.steps.grid_tiles import TileLoader

THUMBNAIL_PX = 600


class StitchParams(Params):
    """Parameters of `stitch_3d_with_refinement`."""

    stitch_blending_method: Literal["diffusion", "feather", "average", "none"] = parameter(
        "diffusion", "How tiles are mixed where they overlap."
    )
    interpolation: Literal["cubic", "linear", "nearest"] = parameter(
        "cubic", "Interpolation at sub-pixel tile positions."
    )
    match_slabs: int = parameter(
        3, "Depth projections of each overlap that vote on its shift.", ge=1, le=16
    )
    max_tile_shift_um: float | None = parameter(
        None,
        "Greatest error of the stage between neighbouring tiles; empty: 2 % of a tile plus 10 % of the overlap.",
        unit="um",
        gt=0,
    )
    overlap_fraction: float | None = parameter(
        None,
        "Overlap of neighbouring tiles where no stage position was recorded; empty: as estimate_xy_shifts found it.",
        ge=0,
        lt=0.9,
    )
    stitch_global_transform: bool = parameter(
        False,
        "Take angle and scale of the stage against the camera from estimate_global_transform, not from each slice.",
    )
    motor_only_stitch: bool = parameter(
        False, "Trust the stage alone (for diagnosis): no image is matched."
    )
    codec: Literal["none", "zstd"] = parameter("none", "Compression of the stitched slice on disk.")


def _shading(context: Context) -> Shading | None:
    import numpy as np

    from soct.mosaic.rendering import Shading

    if not context.has("fix_illumination", "fields"):
        return None
    with np.load(context.run("fix_illumination", "fields")) as saved:
        return Shading(np.asarray(saved["flat"]), np.asarray(saved["dark"]))


def _global_model(context: Context) -> GridModel:
    import numpy as np

    from soct.formats.documents import read_document
    from soct.mosaic.grid_model import GridModel

    if not context.has("estimate_global_transform", "transform"):
        raise ConfigurationError(
            "stitch_global_transform needs estimate_global_transform, which is switched off",
            hint="set estimate_global_transform.enabled: true",
        )
    found = read_document(context.run("estimate_global_transform", "transform"))
    matrix = np.array(found["matrix_yx"], np.float64)
    return GridModel(matrix, float(found["scatter_px"]), int(found["pairs"]))


def _place(
    context: Context,
    params: StitchParams,
    grid: MosaicGrid,
    load: TileLoader,
    nominal: NDArray[np.float64],
    shading: Shading | None,
    thumbnails: list[FloatArray],
    step: int,
) -> tuple[Placement, NDArray[np.bool_]]:
    """Match and place the tiles, and tell which show only noise; keeps a small projection of each."""
    import dataclasses

    import numpy as np

    from soct.mosaic.tile_placement import TileOptions, find_blank_tiles, place_tiles
    from soct.steps.grid_tiles import choose_matched_slabs, project_slabs
    from soct.steps.seam_pictures import divide_flat

    slabs = choose_matched_slabs(load, params.match_slabs)
    n = len(nominal)
    thumbnails.extend(np.zeros((0, 0), np.float32) for _ in range(n))
    profiles = np.full((n, grid.tile_shape[0]), np.nan)
    noise = np.zeros(n)

    def project(i: int) -> FloatArray:
        tile = load(i)
        first, stop = load.whole_planes
        # Columns that return lines left empty are marked as no data.
        whole = np.isfinite(tile[first]).all(axis=0)
        lit = tile[first:stop] if whole.all() else tile[first:stop][:, :, whole]
        profiles[i, first:stop] = lit.mean(axis=(1, 2), dtype=np.float64)
        # The quietest plane tells the noise of the mean of a plane.
        quiet = lit[int(profiles[i, first:stop].argmin())]
        noise[i] = float(quiet.std(dtype=np.float64)) / np.sqrt(quiet.size)
        images = divide_flat(project_slabs(tile, slabs), shading)
        thumbnails[i] = images.mean(axis=0)[::step, ::step].astype(np.float32)
        context.progress(0.4 * (i + 1) / n)
        return images

    search = None
    if params.max_tile_shift_um is not None:
        search = params.max_tile_shift_um / min(grid.voxel_um.y, grid.voxel_um.x)
    pairs = np.zeros((0, 2), np.int64) if params.motor_only_stitch else None
    model = _global_model(context) if params.stitch_global_transform else None
    placement = place_tiles(
        project,
        nominal,
        (grid.tile_shape[1], grid.tile_shape[2]),
        TileOptions(search_px=search),
        pairs=pairs,
        model=model,
        find_blank=lambda: find_blank_tiles(profiles, noise),
        workers=context.threads,
    )
    for i in range(n):
        if thumbnails[i].size == 0:
            project(i)
    if params.motor_only_stitch:
        placement = dataclasses.replace(placement, positions_px=nominal)
    return placement, find_blank_tiles(profiles, noise) & ~placement.measured


def _thumbnail(
    thumbnails: list[FloatArray], positions: NDArray[np.float64], step: int
) -> FloatArray:
    """Small picture of the slice with tiles at `positions`."""
    from soct.mosaic.rendering import BandRenderer, plan_bands

    shape = (thumbnails[0].shape[0], thumbnails[0].shape[1])
    plan = plan_bands(positions / step, shape)
    renderer = BandRenderer(plan, lambda i: thumbnails[i][None], blending="average")
    return renderer.render(0, plan.shape[0])[0]


def _plan_blocks(
    memory_bytes: int,
    shape: tuple[int, int, int],
    tile_shape: tuple[int, int],
    shard: tuple[int, int],
) -> tuple[int, int]:
    """Return how many columns are rendered at a time, and how many of their rows.

    Parameters
    ----------
    memory_bytes : int
    shape : tuple of int
        ``(z, y, x)`` of the slice.
    tile_shape, shard : tuple of int
        Rows and columns of a tile and of a shard, of which blocks are multiples.
    """
    nz, ny, nx = shape
    column = 4 * nz * (3 * tile_shape[0] + 4 * shard[0])
    edges = 4 * nz * 4 * tile_shape[0] * tile_shape[1]
    columns = max(1, (memory_bytes - edges) // (column * shard[1])) * shard[1]
    if columns < nx:
        return columns, shard[0]
    band = 4 * nz * nx * 4 * shard[0]
    return nx, shard[0] * max(1, min(memory_bytes // 4 // band, -(-ny // shard[0])))


def _render(
    context: Context,
    params: StitchParams,
    grid: MosaicGrid,
    plan: BandPlan,
    make_renderer: Callable[[tuple[int, int], Backend], BandRenderer],
    device: Device,
    attributes: dict[str, object],
) -> tuple[int, int, int]:
    """Write the slice band by band, with the valid depth range of every A-line."""
    import numpy as np

    from soct.formats.ome_zarr import create_volume

    shape = (grid.tile_shape[0], plan.shape[0], plan.shape[1])
    writer = create_volume(
        context.output("slice"),
        shape,
        grid.voxel_um,
        codec=params.codec,
        attributes=attributes,
        threads=context.threads,
    )
    valid = np.zeros((2, *plan.shape), np.int16)
    tile = (grid.tile_shape[1], grid.tile_shape[2])
    shard = (writer.shards[1], writer.shards[2])
    columns, rows = _plan_blocks(context.memory_bytes, shape, tile, shard)
    with writer:
        for x0 in range(0, shape[2], columns):
            x1 = min(x0 + columns, shape[2])
            renderer, y1 = make_renderer((x0, x1), device.backend), 0
            while y1 < shape[1]:
                y0, y1 = y1, min(y1 + rows, shape[1])
                try:
                    band = renderer.render(y0, y1)
                except MemoryError:
                    rows, y1 = device.shorten(rows, shard[0]), y0
                    renderer = make_renderer((x0, x1), device.backend)
                    continue
                finite = np.isfinite(band)
                seen = finite.any(axis=0)
                valid[0, y0:y1, x0:x1] = np.where(seen, finite.argmax(axis=0), 0)
                last = shape[0] - finite[::-1].argmax(axis=0)
                valid[1, y0:y1, x0:x1] = np.where(seen, last, 0)
                band[~finite] = 0.0
                writer.write((0, y0, x0), band)
                context.progress(0.4 + 0.6 * (x0 + (x1 - x0) * y1 / shape[1]) / shape[2])
        writer.write_valid(valid)
    return shape


def run(context: Context, params: StitchParams) -> Result:
    """Stitch one slice."""
    import dataclasses

    import numpy as np

    from soct.compute.backend import open_device
    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.formats.tables import TilePositionRow, write_table
    from soct.mosaic.rendering import BandRenderer, plan_bands
    from soct.quality.seams import measure_seams
    from soct.steps.grid_tiles import (
        expected_positions,
        present_tiles,
        tile_loader,
        tile_overlap,
    )
    from soct.steps.seam_pictures import draw_seams

    grid = open_mosaic_grid(context.mine("resample_mosaic_grid", "grid"))
    tiles = present_tiles(grid)
    if not tiles:
        raise InputError("a slice has no tile with data", file=grid.path)
    load = tile_loader(context, grid, tiles, mark_gap=True)
    expected = expected_positions(grid, tiles, tile_overlap(context, params.overlap_fraction))
    nominal = expected.px
    shading = _shading(context)
    tile_shape = (grid.tile_shape[1], grid.tile_shape[2])
    step = max(1, -(-int(nominal.max() + max(tile_shape)) // THUMBNAIL_PX))
    thumbnails: list[FloatArray] = []
    placement, blank = _place(context, params, grid, load, nominal, shading, thumbnails, step)
    # A tile without any light would darken its neighbours' overlaps and look like an edge of the tissue.
    shown = np.flatnonzero(~blank)
    plan = plan_bands(placement.positions_px[shown], tile_shape)

    device = open_device(context.gpu)

    def make_renderer(columns: tuple[int, int], backend: Backend) -> BandRenderer:
        return BandRenderer(
            plan,
            lambda i: load(int(shown[i])),
            blending=params.stitch_blending_method,
            interpolation=params.interpolation,
            shading=shading,
            columns=columns,
            backend=backend,
        )

    pixel = (grid.voxel_um.y, grid.voxel_um.x)
    _render(
        context,
        params,
        grid,
        plan,
        make_renderer,
        device,
        {
            "slice_id": context.unit.slices[0],
            "origin_px": list(plan.origin_px),
            "grid_model": placement.model.matrix.tolist(),
        },
    )
    write_table(
        context.output("positions"),
        TilePositionRow,
        [
            TilePositionRow(
                row=t.row,
                col=t.col,
                y_px=float(placement.positions_px[i, 0]),
                x_px=float(placement.positions_px[i, 1]),
                nominal_y_px=float(nominal[i, 0]),
                nominal_x_px=float(nominal[i, 1]),
                confidence=float(placement.confidence[i]),
            )
            for i, t in enumerate(tiles)
        ],
    )
    lit = [thumbnails[i] for i in shown]
    before, after = (
        measure_seams(lit, nominal[shown] / step),
        measure_seams(lit, placement.positions_px[shown] / step),
    )
    # Small slices are in the figures with every pixel as it is.
    seams: dict[str, Any] = {}
    if step > 1:
        seams = draw_seams(load, shading, placement, nominal, context.unit.slices[0])
    write_npz(
        context.output("figures"),
        before=_thumbnail(lit, nominal[shown], step),
        after=_thumbnail(lit, placement.positions_px[shown], step),
        blank=blank,
        nominal_px=nominal,
        positions_px=placement.positions_px,
        tile_confidence=placement.confidence,
        grid_index=np.array([(t.row, t.col) for t in tiles], np.int64),
        pairs=placement.pairs,
        pair_residual_px=placement.pair_residual_px,
        pair_accepted=placement.pair_accepted,
        pair_confidence=placement.pair_confidence,
        pair_reason=np.array(placement.pair_reason, dtype=np.str_),
        tile_shape=np.array(tile_shape),
        voxel_um=np.array(grid.voxel_um),
        **seams,
    )
    result = _report(
        placement,
        blank,
        expected.from_stage,
        before,
        after,
        pixel,
        [(t.row, t.col) for t in tiles],
    )
    return dataclasses.replace(
        result, fallbacks=tuple(device.fallbacks), backend=device.backend.name
    )


def _report(
    placement: Placement,
    blank: NDArray[np.bool_],
    from_stage: bool,
    before: MosaicSeams,
    after: MosaicSeams,
    pixel_um: tuple[float, float],
    index: list[tuple[int, int]],
) -> Result:
    import numpy as np

    um = float(np.mean(pixel_um))
    accepted = placement.pair_residual_px[placement.pair_accepted]
    residual_p95 = float(np.percentile(accepted, 95)) * um if accepted.size else None
    warnings = []
    if not from_stage:
        warnings.append("no stage positions: tiles are expected by index and overlap")
    if placement.disconnected:
        groups = "; ".join(", ".join(str(index[i]) for i in g) for g in placement.disconnected)
        warnings.append(f"tiles (row, col) tied to the rest by the stage only: {groups}")
    placed_by_model = [index[i] for i in np.flatnonzero(~placement.measured & ~blank)]
    if placed_by_model and len(index) > 1:
        warnings.append(
            f"{len(placed_by_model)} tiles without texture follow the grid model: {_list(placed_by_model)}"
        )
    if blank.any():
        dark = [index[i] for i in np.flatnonzero(blank)]
        warnings.append(
            f"{len(dark)} tiles without texture show only noise and are left out: {_list(dark)}"
        )

    return Result(
        metrics=(
            Metric(
                "tile_residual_rms_um",
                finite(placement.rms_residual_px * um),
                "um",
                "disagreement of tile pairs with the placement, RMS",
            ),
            Metric("tile_residual_p95_um", residual_p95, "um", "the same, 95th percentile"),
            Metric(
                "pairs_accepted",
                int(placement.pair_accepted.sum()),
                "",
                "tile pairs that hold the mosaic",
            ),
            Metric("pairs_total", len(placement.pairs), "", "neighbouring tile pairs"),
            Metric(
                "tiles_measured",
                int(placement.measured.sum()),
                "",
                "tiles held by an accepted pair",
            ),
            *_stage_metrics(placement),
            Metric("tiles_blank", int(blank.sum()), "", "tiles that show only noise, left out"),
            Metric("tiles_weak", len(placement.weak), "", "tiles below the confidence to trust"),
            Metric(
                "seam_l1_before",
                finite(before.l1),
                "",
                "relative difference in overlaps, stage only",
            ),
            Metric(
                "seam_l1", finite(after.l1), "", "relative difference in overlaps, after placement"
            ),
            Metric(
                "seam_pearson_before",
                finite(before.pearson),
                "",
                "correlation in overlaps, stage only",
            ),
            Metric(
                "seam_pearson",
                finite(after.pearson),
                "",
                "correlation in overlaps, after placement",
            ),
            Metric(
                "seam_step_percent",
                finite(after.step_percent),
                "%",
                "step in brightness where tiles overlap, after placement",
            ),
        ),
        warnings=tuple(warnings),
    )


def _list(index: list[tuple[int, int]], most: int = 12) -> str:
    return ", ".join(map(str, index[:most])) + (" ..." if len(index) > most else "")


def _stage_metrics(placement: Placement) -> tuple[Metric, ...]:
    """Rotation and scale of the camera's axes against the stage's, from the grid model."""
    import numpy as np

    if placement.model.n_pairs == 0:
        return ()
    m = placement.model.matrix
    turn = np.degrees(np.arctan2(m[0, 1] - m[1, 0], m[0, 0] + m[1, 1]))
    scale = float(np.sqrt(abs(np.linalg.det(m))))
    return (
        Metric("stage_rotation_deg", float(turn), "deg", "turn of the stage against the camera"),
        Metric("stage_scale", scale, "", "distance in the image over distance of the stage"),
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, SHARD_ROWS, largest, measure_slices

    slabs = params["stitch_3d_with_refinement"].match_slabs
    needs = []
    for size in measure_slices(acquisition, slices, params):
        nz, h, w = size.tile
        # The overlaps of all tiles, flat; then a block of columns with the tiles that touch it.
        strips = 8 * size.tiles * slabs * h * w
        block = (
            FLOAT * nz * min(size.canvas[1], 512) * (3 * h + 4 * SHARD_ROWS) + 4 * size.tile_bytes
        )
        needs.append(
            Need(FLOAT * nz * size.plane, strips + max(block, 6 * size.tile_bytes) + 8 * size.plane)
        )
    return largest(needs)


STEP = Step(
    id="stitch_3d_with_refinement",
    version=7,
    scope=Scope.SLICE,
    params=StitchParams,
    run=run,
    cost=Cost(tile=0.04, mvoxel=0.037, serial=0.5),
    estimate=estimate,
    uses_gpu=True,
    summary="Match, place and render the tiles of each slice.",
    inputs=(
        Input("estimate_xy_shifts"),
        Input("resample_mosaic_grid"),
        Input("fix_focal_curvature", optional=True),
        Input("fix_illumination", optional=True),
        Input("estimate_global_transform", optional=True),
    ),
    outputs=(
        Output("slice", "slice_z{slice:02d}.ome.zarr"),
        Output("positions", "tile_positions_z{slice:02d}.csv"),
        Output("figures", "figures_z{slice:02d}.npz", optional=True),
    ),
    cli_name="stitch",
)
