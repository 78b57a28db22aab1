"""The steps in pipeline order. A new step is one module in this folder and one name in `STEP_IDS`."""

from __future__ import annotations

import importlib
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # `soct --help` reads STEP_IDS; pydantic would take half of its time.
    from soct.steps.declaration import Step

STEP_IDS: tuple[str, ...] = (
    "create_mosaic_grid",
    "estimate_xy_shifts",
    "generate_slice_config",
    "generate_aip",
    "mosaic_preview",
    "analyze_shifts",
    "resample_mosaic_grid",
    "fix_focal_curvature",
    "fix_illumination",
    "estimate_global_transform",
    "stitch_3d_with_refinement",
    "motor_only_stitch",
    "compare_stitching",
    "analyze_acquisition_rotation",
    "analyze_tile_dilation",
    "crop_interface",
    "beam_profile_correction",
    "compensate_attenuation",
    "detect_rehoming_events",
    "bring_to_common_space",
    "motor_only_stack",
    "register_pairwise",
    "auto_assess_quality",
    "auto_exclude_slices",
    "estimate_slice_poses",
    "analyze_rotation_drift",
    "normalize",
    "interpolate_missing_slice",
    "stack",
    "correct_bias_field",
    "normalize_z_intensity",
    "align_to_ras",
)

SCIENCE: tuple[str, ...] = (
    "soct.compute.numba_ready",
    "soct.formats.images",
    "soct.formats.mosaic_grid",
    "soct.formats.ome_zarr",
    "soct.formats.raw",
    "soct.formats.tables",
    "soct.formats.transforms",
    "soct.geometry.focal_curvature",
    "soct.geometry.galvo",
    "soct.geometry.galvo_band",
    "soct.geometry.resampling",
    "soct.intensity.attenuation",
    "soct.intensity.axial_profile",
    "soct.intensity.depth_sensitivity",
    "soct.intensity.illumination",
    "soct.intensity.normalization",
    "soct.mosaic.overlap",
    "soct.mosaic.rendering",
    "soct.mosaic.stack_rendering",
    "soct.mosaic.tile_placement",
    "soct.quality.metrics",
    "soct.quality.slice_agreement",
    "soct.registration.depth_match",
    "soct.registration.slice_outliers",
    "soct.registration.slice_pair",
    "soct.registration.slice_poses",
    "soct.registration.stage",
)
"""What the steps of nearly every run import while they run: worker processes import it once, before their first unit.

What only a step that is off by default needs (SimpleITK, scikit-image) costs every run a quarter of a second
here, and that step as much where it is on."""


def load_step(step_id: str) -> Step[Any]:
    """Return one step's declaration, importing no other."""
    step: Step[Any] = importlib.import_module(f"soct.steps.{step_id}").STEP
    return step


@cache
def load_steps() -> dict[str, Step[Any]]:
    """Return every step's declaration by id, in pipeline order."""
    return {name: load_step(name) for name in STEP_IDS}
