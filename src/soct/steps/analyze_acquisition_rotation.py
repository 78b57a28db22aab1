"""The angle between the stage's axes and the camera's, from where the tiles of each slice were found.

Rotation, shear and scale of a 2 x 2 model per slice, their stability over the slices, and what they cost at the corners of the mosaic when tiles are placed by the stage alone. A stable angle is a mounting that can be corrected once; one that wanders
is a stage, or a sample holder, that is loose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    finite,
    parameter,
)

if TYPE_CHECKING:
    from soct.mosaic.stage_geometry import PooledGeometry, StageGeometry
    from soct.steps.tile_layouts import TileLayout

NEGLIGIBLE_UM = 5.0
"""Less than this at the corners cannot be seen at the usual 10 um."""


class AnalyzeAcquisitionRotationParams(Params):
    """Parameters of `analyze_acquisition_rotation`."""

    enabled: bool = parameter(
        False, "Measure the angle between stage and camera (profile diagnostic)."
    )


def run(context: Context, params: AnalyzeAcquisitionRotationParams) -> Result:
    """Fit the model to every slice and pool the slices."""
    import numpy as np

    from soct.formats.documents import write_document
    from soct.mosaic.stage_geometry import measure_stage_geometry, pool_slices
    from soct.steps.tile_layouts import read_layouts

    layouts = read_layouts(context)
    found = [measure_stage_geometry(la.nominal_px, la.positions_px, la.used) for la in layouts]
    angle = np.array([g.rotation_deg for g in found])
    error = np.array([g.rotation_error_deg for g in found])
    pooled = pool_slices(angle, error)
    corner = np.array([_corner_um(la, g) for la, g in zip(layouts, found, strict=True)])
    turned = np.array([_turn_um(la, g) for la, g in zip(layouts, found, strict=True)])
    write_npz(
        context.output("figures"),
        slice_ids=np.array([la.slice_id for la in layouts], np.int64),
        rotation_deg=angle,
        rotation_error_deg=error,
        shear_deg=np.array([g.shear_deg for g in found]),
        scale=np.array([g.scale for g in found]).reshape(-1, 2),
        scale_error=np.array([g.scale_error for g in found]).reshape(-1, 2),
        corner_um=corner,
        rotation_corner_um=turned,
    )
    verdict = describe(pooled, float(np.nanmax(turned)) if np.isfinite(turned).any() else 0.0)
    write_document(
        context.output("report"),
        {
            "verdict": verdict,
            "rotation_deg": finite(pooled.mean),
            "rotation_error_deg": finite(pooled.error),
            "spread_deg": finite(pooled.spread),
            "slices": {str(la.slice_id): _row(la, g) for la, g in zip(layouts, found, strict=True)},
        },
    )
    shear = pool_slices(np.array([g.shear_deg for g in found]), error * 2.0)
    return Result(
        metrics=(
            Metric(
                "acquisition_rotation_deg",
                finite(pooled.mean),
                "deg",
                "rotation of the stage's axes against the camera's",
            ),
            Metric(
                "acquisition_rotation_error_deg",
                finite(pooled.error),
                "deg",
                "standard error of that rotation",
            ),
            Metric(
                "acquisition_rotation_spread_deg",
                finite(pooled.spread),
                "deg",
                "standard deviation of that rotation over the slices",
            ),
            Metric(
                "acquisition_shear_deg",
                finite(shear.mean),
                "deg",
                "by how much the stage's axes are not at a right angle",
            ),
            Metric(
                "acquisition_corner_um",
                finite(float(np.nanmax(corner))) if np.isfinite(corner).any() else None,
                "um",
                "error at the mosaic's corners when tiles are placed by the stage alone",
            ),
            Metric("acquisition_rotation_verdict", verdict, "", "what it means"),
        )
    )


def _corner_um(layout: TileLayout, geometry: StageGeometry) -> float:
    import numpy as np

    pixels = geometry.corner_error_px(layout.extent_px)
    return pixels * float(np.mean(layout.pixel_um)) if geometry.n_tiles > 1 else float("nan")


def _turn_um(layout: TileLayout, geometry: StageGeometry) -> float:
    """Measure what the rotation alone costs at the corners."""
    import numpy as np

    half = 0.5 * float(np.hypot(*(np.array(layout.extent_px) * layout.to_um)))
    return float(abs(np.radians(geometry.rotation_deg))) * half


def _row(layout: TileLayout, geometry: StageGeometry) -> dict[str, object]:
    return {
        "rotation_deg": finite(geometry.rotation_deg),
        "rotation_error_deg": finite(geometry.rotation_error_deg),
        "shear_deg": finite(geometry.shear_deg),
        "scale_y": finite(geometry.scale[0]),
        "scale_x": finite(geometry.scale[1]),
        "scatter_um": finite(geometry.scatter_px * layout.pixel_um[0]),
        "corner_um": finite(_corner_um(layout, geometry)),
        "tiles": geometry.n_tiles,
    }


def describe(pooled: PooledGeometry, corner_um: float) -> str:
    """Say in one sentence what the angle means."""
    if pooled.n == 0:
        return "No slice has enough measured tiles to tell the angle."
    angle = f"{pooled.mean:+.3f} ± {pooled.error:.3f}°"
    if not pooled.is_significant or corner_um < NEGLIGIBLE_UM:
        start = f"Stage and camera are parallel within {abs(pooled.mean) + 2 * pooled.error:.3f}°"
        cost = f"{corner_um:.0f} µm at the corners at most"
    else:
        start = f"The stage is turned by {angle} against the camera"
        cost = f"{corner_um:.0f} µm at the corners when tiles are placed by the stage alone"
    if pooled.n < 2:
        return f"{start}: {cost}."
    steady = (
        "the same in all slices"
        if pooled.is_stable
        else f"different from slice to slice (spread {pooled.spread:.3f}°, "
        f"{pooled.expected_spread:.3f}° expected): something is loose"
    )
    return f"{start}: {cost}; {steady}."


STEP = Step(
    id="analyze_acquisition_rotation",
    version=1,
    scope=Scope.RUN,
    params=AnalyzeAcquisitionRotationParams,
    run=run,
    summary="Diagnosis: the angle between the stage's axes and the camera's.",
    inputs=(Input("stitch_3d_with_refinement"), Input("estimate_xy_shifts")),
    outputs=(
        Output("report", "acquisition_rotation.json"),
        Output("figures", "figures.npz", optional=True),
    ),
)
