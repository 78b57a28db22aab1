"""Where every slice lies before any image is compared: stage positions, corrected, on one canvas."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from soct.errors import StepError
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
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition

SURFACE_WINDOW = 0.1
"""Part of the slice's width over which its surface is averaged."""


class BringToCommonSpaceParams(Params):
    """Parameters of `bring_to_common_space`."""

    excluded_slice_mode: Literal["keep", "local_median", "median", "zero"] = parameter(
        "keep", "What stands in for the stage's step from or to an excluded slice."
    )
    excluded_slice_window: int = parameter(
        2, "Steps to either side that local_median looks at.", ge=1, le=100
    )
    slicing_interval_mm: float = parameter(
        0.2, "Cut thickness where the stage does not tell it.", unit="mm", gt=0, le=10
    )
    use_stage_z: bool = parameter(
        True, "Take the cut thickness from the stage where it is recorded."
    )
    refine_unreliable: bool = parameter(
        True, "Where the stage's step to a slice cannot be trusted, let the images find it."
    )
    min_correlation: float = parameter(0.2, "What the images must correlate for that.", ge=0, le=1)
    refine_max_shift_um: float = parameter(
        5000.0, "How wrong such a step may be.", unit="um", gt=0, le=100_000
    )


def _canvas_origin(path: Path) -> tuple[list[float], tuple[int, int, int], list[float], Any]:
    """``(origin (y, x) px, shape, voxel um, grid model)`` of a stitched slice."""
    from soct.formats.ome_zarr import open_volume

    volume = open_volume(path)
    origin = [float(v) for v in volume.attributes.get("origin_px", (0.0, 0.0))]
    model = volume.attributes.get("grid_model", [[1.0, 0.0], [0.0, 1.0]])
    return origin, volume.shape, list(volume.voxel_um), model


@dataclass(frozen=True)
class _Crop:
    """Where a slice's planes begin, and how deep its cut surface lies in the raw frame."""

    first_px: int
    surface_px: NDArray[np.float32] | None
    """Map (y, x); None where no surface was seen or planes follow it already."""

    def surface_at(self, y: float, x: float) -> float:
        """Mean depth of the surface about a point of the slice; NaN where it is not known."""
        import numpy as np

        if self.surface_px is None:
            return float("nan")
        ny, nx = self.surface_px.shape
        reach = max(2.0, SURFACE_WINDOW * max(ny, nx))
        rows, columns = (
            slice(int(max(at - reach, 0)), int(min(at + reach, n)) + 1)
            for at, n in ((np.clip(y, 0, ny - 1), ny), (np.clip(x, 0, nx - 1), nx))
        )
        return float(self.surface_px[rows, columns].mean())


def _read_crop(path: Path) -> _Crop:
    import numpy as np

    with np.load(path) as saved:
        first = int(saved["crop_px"])
        if bool(saved["flatten"]):
            return _Crop(first, np.full((1, 1), first, np.float32))
        depth = np.asarray(saved["depth_px"])
    # A surface that was not seen is written as zeros.
    return _Crop(first, depth if depth.any() else None)


def _depths_below_surface(
    crops: dict[int, _Crop], rows: dict[str, dict[str, Any]]
) -> dict[int, float]:
    """How far below its own cut surface each slice's first plane lies, in planes.

    The stage tells where the block was cut, so a slice's depth counts from its surface, which moves in the
    raw frame from slice to slice. All surfaces are looked up at one point of the canvas: where the cut
    is tilted against the stage, mosaics that lie elsewhere see another depth.
    """
    import numpy as np

    middle = [
        np.array([row["y_px"], row["x_px"]]) + (np.array(row["shape"][1:]) - 1) / 2
        for row in rows.values()
    ]
    common = np.median(middle, axis=0)
    surface = {
        i: crop.surface_at(common[0] - rows[str(i)]["y_px"], common[1] - rows[str(i)]["x_px"])
        for i, crop in crops.items()
    }
    seen = [s for s in surface.values() if np.isfinite(s)]
    usual = float(np.median(seen)) if seen else 0.0
    return {i: crops[i].first_px - (s if np.isfinite(s) else usual) for i, s in surface.items()}


def _refine(
    context: Context,
    params: BringToCommonSpaceParams,
    wanted: list[int],
    unreliable: list[int],
    rows: dict[str, dict[str, Any]],
    pixel_um: float,
) -> list[str]:
    """Move slices from each unreliable step on by what the images say; return what is to be told."""
    from soct.steps.stage_refinement import refine_steps

    steps = [(a, b) for a, b in itertools.pairwise(wanted) if b in unreliable]
    if not steps:
        return []
    if not params.refine_unreliable:
        return [f"stage steps to slices {unreliable} are not reliable: registration decides"]
    told = []
    for one in refine_steps(
        context,
        steps,
        rows,
        min_correlation=params.min_correlation,
        max_shift_um=params.refine_max_shift_um,
        pixel_um=pixel_um,
    ):
        start = f"the stage's step from slice {one.fixed} to {one.moving} is not reliable"
        if not one.accepted:
            told.append(f"{start}, and the images do not tell it: {one.reason}")
            continue
        for i in wanted[wanted.index(one.moving) :]:
            rows[str(i)]["y_px"] += one.shift_px[0]
            rows[str(i)]["x_px"] += one.shift_px[1]
        rows[str(one.moving)]["refined"] = True
        dy, dx = (v * pixel_um for v in one.shift_px)
        told.append(f"{start}: the images move it by ({dy:+.0f}, {dx:+.0f}) um (y, x)")
    return told


def run(context: Context, params: BringToCommonSpaceParams) -> Result:
    """Write the expected position of every slice's first voxel."""
    import numpy as np

    from soct.formats.documents import write_document
    from soct.formats.tables import SliceConfigRow, read_table
    from soct.registration.stage import measure_cut_thickness, measure_stage_axes
    from soct.registration.stage_offsets import common_space_offsets, measure_origins
    from soct.steps.stage_tables import read_clean_shifts, read_stage

    stage = read_stage(context.run("estimate_xy_shifts", "stage_positions"))
    shifts = read_clean_shifts(context.run("detect_rehoming_events", "shifts_clean"))
    ledger = read_table(context.run("generate_slice_config", "slice_config"), SliceConfigRow)
    used = {row.slice_id for row in ledger if row.is_stacked}
    slices = {
        ids[0]: _canvas_origin(path)
        for ids, path in sorted(context.all("stitch_3d_with_refinement", "slice").items())
    }
    present = [i for i in slices if i in stage]
    wanted = [i for i in present if i in used]
    if not wanted:
        raise StepError(
            "no slice is used: there is nothing to stack",
            hint="look at slice_config.csv for the reasons",
        )
    common = common_space_offsets(
        shifts,
        wanted,
        axes=measure_stage_axes(stage),
        origins_mm=measure_origins(stage),
        excluded_slice_mode=params.excluded_slice_mode,
        window=params.excluded_slice_window,
    )
    nominal_um = params.slicing_interval_mm * 1000
    if params.use_stage_z:
        thickness = measure_cut_thickness(stage, nominal_um=nominal_um)
        z_um, source = thickness.depth_um, sorted(set(thickness.source.values()))
    else:
        z_um, source = {i: (i - present[0]) * nominal_um for i in present}, ["nominal"]
    # One matrix for the run: the stage's axes against the image's, so that big steps turn with the camera.
    matrix = np.median([np.array(slices[i][3], float) for i in present], axis=0)
    rows: dict[str, dict[str, Any]] = {}
    crops: dict[int, _Crop] = {}
    for i in wanted:
        origin, shape, voxel, _ = slices[i]
        crops[i] = _read_crop(context.of_slice("crop_interface", "surface", i))
        stage_px = matrix @ (np.array(common.offset_um[i]) / np.array(voxel[1:]))
        rows[str(i)] = {
            "z_px": z_um[i] / voxel[0],
            "y_px": float(stage_px[0] + origin[0]),
            "x_px": float(stage_px[1] + origin[1]),
            "shape": list(shape),
            "reliable": bool(common.reliable[i]),
            "refined": False,
        }
    voxel = slices[wanted[0]][2]
    unreliable = [i for i in wanted if not common.reliable[i]]
    warnings = _refine(context, params, wanted, unreliable, rows, voxel[2])
    for i, below in _depths_below_surface(crops, rows).items():
        rows[str(i)]["z_px"] += below
    write_document(
        context.output("offsets"),
        {
            "voxel_um": voxel,
            "slices": rows,
            "thickness_source": source,
            "grid_model": matrix.tolist(),
        },
    )
    if "nominal" in source:
        warnings.append(
            f"cut thickness {params.slicing_interval_mm} mm is assumed where the stage does not tell it"
        )
    refined = sum(bool(row["refined"]) for row in rows.values())
    y = [common.offset_um[i][0] for i in wanted]
    x = [common.offset_um[i][1] for i in wanted]
    return Result(
        metrics=(
            Metric(
                "stage_range_y_um",
                float(np.ptp(y)),
                "um",
                "range of the slices' stage offsets along y",
            ),
            Metric(
                "stage_range_x_um",
                float(np.ptp(x)),
                "um",
                "range of the slices' stage offsets along x",
            ),
            Metric(
                "stage_unreliable", len(unreliable), "", "slices whose stage step is not reliable"
            ),
            Metric("stage_refined", refined, "", "of these, steps that the images found anew"),
        ),
        warnings=tuple(warnings),
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Memory for two projections, where a step must be found anew."""
    from soct.steps.sizes import FLOAT, measure_slices
    from soct.steps.stage_refinement import ROWS

    sizes = measure_slices(acquisition, slices, params)
    band = max((size.tile[0] * ROWS * size.canvas[1] for size in sizes), default=0)
    return Need(64 << 10, FLOAT * (band + 24 * max((size.plane for size in sizes), default=0)))


STEP = Step(
    id="bring_to_common_space",
    version=6,
    scope=Scope.RUN,
    params=BringToCommonSpaceParams,
    run=run,
    cost=Cost(slice=0.005),
    estimate=estimate,
    summary="Place every slice on one canvas by the corrected stage positions.",
    inputs=(
        Input("estimate_xy_shifts"),
        Input("generate_slice_config"),
        Input("detect_rehoming_events"),
        Input("stitch_3d_with_refinement"),
        Input("crop_interface"),
    ),
    outputs=(Output("offsets", "common_space.json"),),
)
