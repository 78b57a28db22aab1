"""What may follow the global solve of `estimate_slice_poses`: depths in a chain, limits, transforms by hand.

All are off by default: the solve takes their place. They are there for data and habits that need them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soct.registration.slice_poses import PairMeasurement, SlicePoses
    from soct.space import Voxel
    from soct.steps.declaration import Context
    from soct.steps.estimate_slice_poses import EstimateSlicePosesParams


@dataclass
class PoseHistory:
    """What was done to the solved poses, for the stack's tables and the report."""

    manual: dict[int, str] = field(default_factory=dict)
    """``moving slice -> what became of its manual transform``."""
    corrected_overlaps: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def rotation_only(pair: PairMeasurement) -> PairMeasurement:
    """Return a pair whose shift says nothing, for confidences that are trusted with the rotation alone."""
    from dataclasses import replace

    import numpy as np

    covariance = np.diag([1.0, 1.0, 0.01]) if pair.covariance is None else pair.covariance.copy()
    covariance[:2, :] = covariance[:, :2] = 0.0
    covariance[0, 0] = covariance[1, 1] = 1e10
    return replace(pair, covariance=covariance)


def apply_depth_source(
    params: EstimateSlicePosesParams,
    poses: SlicePoses,
    stage_z: Mapping[int, float],
    planes: Mapping[int, int],
    measured: Mapping[tuple[int, int], PairMeasurement],
    history: PoseHistory,
) -> SlicePoses:
    """Return the poses with depths from the solve, from measured overlaps, or from the stage."""
    from soct.registration.depth_chain import chain_depths

    if params.overlap_source == "solve" or len(poses.poses) < 2:
        return poses
    steps = {b: stage_z[b] - stage_z[a] for a, b in itertools.pairwise(poses.poses)}
    if params.overlap_source == "measured":
        matches: list[Any] = []
        confidence = {}
        for a, b in itertools.pairwise(poses.poses):
            pair = measured.get((a, b))
            step = pair.z_step if pair is not None and pair.z_step is not None else steps[b]
            overlap = planes[a] - step
            matches.append(
                {
                    "fixed_id": a,
                    "moving_id": b,
                    "overlap_voxels": overlap,
                    "blend_overlap_voxels": overlap,
                }
            )
            confidence[b] = pair.confidence if pair is not None else 0.0
        if params.enforce_z_consistency:
            # Brings SimpleITK and scikit-image, which no other part of the step needs.
            from soct.mosaic.stacking import enforce_z_consistency

            _, corrections = enforce_z_consistency(matches, confidence)
            history.corrected_overlaps = [c for c in corrections if c["field"] == "overlap_voxels"]
            history.warnings += [
                f"slice {c['moving_id']}: an overlap of {c['old_value']:.0f} planes stands out from the others; "
                f"{c['new_value']:.0f} is used"
                for c in history.corrected_overlaps
            ]
        steps = {m["moving_id"]: planes[m["fixed_id"]] - m["overlap_voxels"] for m in matches}
    return chain_depths(poses, steps)


def apply_limits(params: EstimateSlicePosesParams, poses: SlicePoses, voxel: Voxel) -> SlicePoses:
    """Return the poses after smoothing and the cap on drift, where these are switched on."""
    from soct.registration.slice_poses import limit_corrections

    return limit_corrections(
        poses,
        voxel,
        stack_max_cumulative_drift_um=params.stack_max_cumulative_drift_um,
        stack_smooth_window=params.stack_smooth_window,
        stack_translation_smooth_sigma=params.stack_translation_smooth_sigma,
    )


def apply_manual(
    context: Context,
    params: EstimateSlicePosesParams,
    poses: SlicePoses,
    voxel: Voxel,
    history: PoseHistory,
) -> SlicePoses:
    """Return the poses after the transforms of `manual_transforms_dir`, refined by the images if asked to."""
    from soct.registration.manual_alignment import apply_manual_joints
    from soct.steps.manual_transforms import RefineBounds, read_manual_joints, refine_manual_joint

    if not params.manual_transforms_dir:
        return poses
    joints = read_manual_joints(Path(params.manual_transforms_dir), list(poses.poses))
    if params.refine_manual_transforms:
        bounds = RefineBounds(params.refine_max_translation_um, params.refine_max_rotation_deg)
        refined = []
        for joint in joints:
            z_step = poses.poses[joint.moving].z - poses.poses[joint.fixed].z
            better, reason = refine_manual_joint(context, joint, z_step, bounds)
            refined.append(better)
            history.manual[joint.moving] = f"by hand, {reason}"
            if reason != "refined":
                history.warnings.append(
                    f"the manual transform of slice {joint.moving} stays as it is: {reason}"
                )
        joints = refined
    poses, changes = apply_manual_joints(poses, joints)
    for one in changes:
        moved = (
            f"{one.shift_px * voxel.x:.1f} um, {one.rotation_deg:+.3f} degrees, {one.z_px:+.0f} planes "
            "from what the images said"
        )
        history.manual[one.moving] = f"{history.manual.get(one.moving, 'by hand')}: {moved}"
    return poses
