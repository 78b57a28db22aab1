"""Whether matching the tiles helped: every overlap with tiles at the stage's positions, and where they were placed.

Correlation, relative difference and brightness step of each overlap before and after, how far each tile was moved, and a verdict per slice with its worst places. Speckle differs between tiles and keeps the correlation below 1; what counts is the change.
"""

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
    finite,
    parameter,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition
    from soct.mosaic.stitch_comparison import StitchComparison
    from soct.mosaic.strips import StripStore
    from soct.space import FloatArray

    Columns = dict[str, NDArray[np.float64]]


class CompareStitchingParams(Params):
    """Parameters of `compare_stitching`."""

    enabled: bool = parameter(
        False, "Compare stitched with motor-only, overlap by overlap (profile diagnostic)."
    )
    smoothing_px: float = parameter(
        1.5, "Gaussian over both sides of an overlap: averages speckle.", unit="px", ge=0, le=20
    )


def run(context: Context, params: CompareStitchingParams) -> Result:
    """Compare one slice."""
    import numpy as np

    from soct.formats.documents import write_document
    from soct.mosaic.stitch_comparison import compare_overlaps

    with np.load(context.mine("stitch_3d_with_refinement", "figures")) as saved:
        nominal, positions = saved["nominal_px"], saved["positions_px"]
        index, voxel = saved["grid_index"], saved["voxel_um"]
    store = _strips(context, nominal, positions)
    before = _measure(store, nominal, params.smoothing_px)
    after = _measure(store, positions, params.smoothing_px)
    found = compare_overlaps(before["ncc"], after["ncc"])
    moved = positions - nominal
    moved = (moved - np.median(moved, axis=0)) * voxel[1:]
    names = [f"{tuple(map(int, index[i]))} - {tuple(map(int, index[j]))}" for i, j in store.pairs]
    slice_id = context.unit.slices[0]
    verdict = describe(found, before["ncc"], after["ncc"], [names[p] for p in found.worst])
    write_document(
        context.output("report"),
        {
            "slice_id": slice_id,
            "verdict": found.verdict,
            "sentence": verdict,
            "worst": [names[p] for p in found.worst],
            "overlaps": [
                {
                    "tiles": names[p],
                    **{f"{k}_before": finite(float(v[p])) for k, v in before.items()},
                    **{f"{k}_after": finite(float(v[p])) for k, v in after.items()},
                }
                for p in range(len(names))
            ],
        },
    )
    columns: dict[str, Any] = {f"{k}_before": v for k, v in before.items()}
    columns |= {f"{k}_after": v for k, v in after.items()}
    write_npz(
        context.output("figures"),
        grid_index=index,
        nominal_px=nominal,
        moved_um=moved,
        pairs=store.pairs,
        voxel_um=voxel,
        worst=np.array(found.worst, np.int64),
        **columns,
    )
    return _report(found, before, after, moved, verdict)


def _report(
    found: StitchComparison,
    before: Columns,
    after: Columns,
    moved: NDArray[np.float64],
    verdict: str,
) -> Result:
    import numpy as np

    def middle(values: NDArray[np.float64]) -> float | None:
        known = values[np.isfinite(values)]
        return float(np.median(known)) if known.size else None

    labels = {
        "ncc": ("overlap_ncc", "", "correlation of overlaps"),
        "l1": ("overlap_l1", "", "relative difference of overlaps"),
        "step_percent": ("overlap_step_percent", "%", "brightness step of overlaps"),
    }
    metrics = []
    for key, (name, unit, text) in labels.items():
        metrics.append(Metric(f"{name}_motor", middle(before[key]), unit, f"{text}, stage only"))
        metrics.append(Metric(name, middle(after[key]), unit, f"{text}, stitched"))
    return Result(
        metrics=(
            *metrics,
            Metric("stitching_helped", found.verdict, "", "stitched against motor-only"),
            Metric("overlaps_compared", found.n, "", "overlaps with data on both sides"),
            Metric(
                "tile_move_max_um",
                float(np.hypot(*moved.T).max()),
                "um",
                "farthest that a tile was moved against the others",
            ),
            Metric("stitching_verdict", verdict, "", "what it means"),
        ),
        warnings=(f"stitching made overlaps agree less: {verdict}",)
        if found.verdict == "worse"
        else (),
    )


def describe(
    found: StitchComparison,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    worst: list[str],
) -> str:
    """Say in one sentence whether it helped, and where to look."""
    import numpy as np

    if found.verdict == "unknown":
        return "No overlap can be compared."
    start = {
        "better": "Registration helped",
        "same": "Registration changed little",
        "worse": "Registration made it worse",
    }[found.verdict]
    text = (
        f"{start}: median correlation of overlaps {np.nanmedian(before):.2f} by the stage, "
        f"{np.nanmedian(after):.2f} stitched; {round(found.improved * found.n)} of {found.n} overlaps rose"
    )
    return f"{text}. Look first at tiles (row, column) {'; '.join(worst[:3])}." if worst else text


def _strips(
    context: Context, nominal: NDArray[np.float64], positions: NDArray[np.float64]
) -> StripStore:
    """Cut the overlaps of all tiles, wide enough for both placements."""
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.mosaic.strips import collect_strips, find_neighbours, overlap_boxes
    from soct.steps.grid_tiles import (
        choose_matched_slabs,
        present_tiles,
        project_slabs,
        tile_loader,
    )
    from soct.steps.motor_mosaic import read_shading

    grid = open_mosaic_grid(context.mine("resample_mosaic_grid", "grid"))
    tiles = present_tiles(grid)
    load = tile_loader(context, grid, tiles, mark_gap=True)
    shape = (grid.tile_shape[1], grid.tile_shape[2])
    pairs = find_neighbours(nominal, shape)
    steps = nominal[pairs[:, 1]] - nominal[pairs[:, 0]]
    change = positions[pairs[:, 1]] - positions[pairs[:, 0]] - steps
    margins = np.ceil(np.abs(change).max(axis=1, initial=0.0)) + 2
    boxes = [overlap_boxes(tuple(d), shape, float(m)) for d, m in zip(steps, margins, strict=True)]
    slabs = choose_matched_slabs(load, 1)
    n = len(tiles)
    shading = read_shading(context)

    def project(i: int) -> FloatArray:
        image = project_slabs(load(i), slabs)[0]
        if shading is not None:
            image = (image - (0.0 if shading.dark is None else shading.dark)) / shading.flat
        context.progress(0.8 * (i + 1) / n)
        return np.asarray(image, np.float32)

    return collect_strips(project, range(n), pairs, boxes, shape)


def _measure(store: StripStore, positions: NDArray[np.float64], smooth_px: float) -> Columns:
    """Correlation, relative difference and step of every overlap at these positions."""
    import numpy as np

    from soct.mosaic.seams import aligned_sides
    from soct.quality.metrics import measure_seam

    columns = {name: np.full(len(store.pairs), np.nan) for name in ("ncc", "l1", "step_percent")}
    for p, (i, j) in enumerate(store.pairs):
        sides = aligned_sides(store, p, positions[j] - positions[i], smooth_px)
        if sides is not None:
            seam = measure_seam(*sides)
            columns["ncc"][p], columns["l1"][p] = seam.pearson, seam.l1
            columns["step_percent"][p] = seam.step_percent
    return columns


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import largest, measure_slices

    return largest(
        [
            Need(0, 4 * size.tiles * size.tile[1] * size.tile[2] + 4 * size.tile_bytes)
            for size in measure_slices(acquisition, slices, params)
        ]
    )


STEP = Step(
    id="compare_stitching",
    version=1,
    scope=Scope.SLICE,
    params=CompareStitchingParams,
    run=run,
    cost=Cost(mvoxel=0.05, serial=0.5),
    estimate=estimate,
    summary="Diagnosis: stitched against motor-only, overlap by overlap: did registration help?",
    inputs=(
        Input("resample_mosaic_grid"),
        Input("fix_focal_curvature", optional=True),
        Input("fix_illumination", optional=True),
        Input("stitch_3d_with_refinement"),
    ),
    outputs=(
        Output("report", "comparison_z{slice:02d}.json"),
        Output("figures", "figures_z{slice:02d}.npz", optional=True),
    ),
)
