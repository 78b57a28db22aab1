"""Poses of all slices at once, from all measured pairs and the stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from soct.errors import StepError
from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Cost,
    Decision,
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
from soct.steps.manual_transforms import CONTENT
from soct.steps.pose_options import (
    PoseHistory,
    apply_depth_source,
    apply_limits,
    apply_manual,
    rotation_only,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soct.formats.acquisition import Acquisition
    from soct.registration.slice_poses import PairMeasurement, SlicePoses, StagePosition
    from soct.space import Voxel


class EstimateSlicePosesParams(Params):
    """Parameters of `estimate_slice_poses`."""

    min_confidence: float = parameter(0.3, "Pairs below this confidence are not used.", ge=0, le=1)
    apply_rotation_only: bool = parameter(
        False, "Take rotations from the images and positions from the stage."
    )
    accumulate_translations: bool = parameter(
        True, "Let shifts between slices add up; off keeps every slice near its stage position."
    )
    confidence_weight_translations: bool = parameter(True, "Weigh every pair by its confidence.")
    reference: Literal["mean", "middle", "first"] = parameter(
        "mean",
        "What agrees with the stage: all slices on average, the middle one, or the first one.",
    )
    motor_only: bool = parameter(False, "Trust the stage alone (for diagnosis).")
    stage_step_um: float = parameter(
        50.0, "Expected error of the stage between neighbouring slices.", unit="um", gt=0, le=10_000
    )
    stage_position_um: float = parameter(
        1000.0,
        "Expected error of a stage position; bounds the drift of the whole stack.",
        unit="um",
        gt=0,
        le=100_000,
    )
    stage_depth_position_um: float | None = parameter(
        None,
        "Expected error of a slice's recorded depth; empty: 5 um where the stage records depth, else 1000.",
        unit="um",
        gt=0,
        le=100_000,
    )
    stage_depth_um: float | None = parameter(
        None,
        "Expected error of the cut thickness; empty: 5 um where the stage records depth, else 10.",
        unit="um",
        gt=0,
        le=1000,
    )
    transform_confidence_high: float = parameter(
        0.0,
        "Pairs below this confidence (and above min_confidence) give their rotation alone; 0: all give both.",
        ge=0,
        le=1,
    )
    overlap_source: Literal["solve", "measured", "expected"] = parameter(
        "solve",
        "Depth of a slice in the one before: all depths solved together, as its own pair measured it, or the stage's.",
    )
    enforce_z_consistency: bool = parameter(
        True, "With measured overlaps: replace those that stand out from the others."
    )
    stack_smooth_window: int = parameter(
        0, "Slices over which corrections and rotations are averaged; 0 or 1: none.", ge=0, le=999
    )
    stack_translation_smooth_sigma: float = parameter(
        0.0, "Gaussian over the corrections, in slices; 0: none.", ge=0, le=999
    )
    stack_max_cumulative_drift_um: float = parameter(
        0.0,
        "Longest way that a slice may move from its stage position; 0: any.",
        unit="um",
        ge=0,
        le=100_000,
    )
    manual_transforms_dir: str = parameter(
        "",
        "Folder of transforms made by hand, slice_z{NN}/transform.tfm; they hold exactly.",
        content=CONTENT,
    )
    refine_manual_transforms: bool = parameter(
        False, "Let the images refine the transforms made by hand."
    )
    refine_max_translation_um: float = parameter(
        100.0, "Farthest that they move one.", unit="um", gt=0, le=20_000
    )
    refine_max_rotation_deg: float = parameter(
        2.0, "Farthest that they turn one.", unit="deg", ge=0, le=90
    )


def _measurement(fixed: int, moving: int, content: dict[str, Any]) -> PairMeasurement:
    import numpy as np

    from soct.registration.slice_poses import PairMeasurement
    from soct.registration.transforms import RigidTransform2D

    transform = content["transform"]
    depth = content["depth"]
    return PairMeasurement(
        fixed,
        moving,
        RigidTransform2D(
            transform["rotation_deg"], tuple(transform["shift_px"]), tuple(transform["centre_px"])
        )
        if content["accepted"]
        else None,
        confidence=content["confidence"],
        covariance=None if content.get("covariance") is None else np.array(content["covariance"]),
        z_step=depth["offset_px"] if depth["measured"] else None,
        z_sigma=depth["sigma_px"] or 1.0,
    )


def _solve(
    params: EstimateSlicePosesParams,
    stages: list[StagePosition],
    pairs: list[PairMeasurement],
    voxel: Voxel,
    *,
    depth_recorded: bool,
) -> SlicePoses:
    from soct.registration.slice_poses import PosePriors, solve_slice_poses

    return solve_slice_poses(
        stages,
        [] if params.motor_only else pairs,
        voxel,
        priors=PosePriors(
            step_um=params.stage_step_um,
            position_um=params.stage_position_um
            if params.accumulate_translations
            else min(params.stage_position_um, params.stage_step_um),
            z_step_um=params.stage_depth_um or (5.0 if depth_recorded else 10.0),
            z_position_um=params.stage_depth_position_um or (5.0 if depth_recorded else 1000.0),
            # Strong attenuation moves all matches by some micrometres the same way; a recorded depth is better.
            pair_floor_z_um=6.0 if depth_recorded else 3.0,
        ),
        min_confidence=params.min_confidence,
        confidence_weight_translations=params.confidence_weight_translations,
        apply_rotation_only=params.apply_rotation_only,
        gauge=params.reference,
    )


def run(context: Context, params: EstimateSlicePosesParams) -> Result:
    """Solve and write the poses."""
    from soct.formats.documents import read_document, write_document
    from soct.registration.slice_poses import StagePosition
    from soct.space import Voxel
    from soct.steps.exclusions import read_exclusions

    space = read_document(context.run("bring_to_common_space", "offsets"))
    voxel = Voxel(*space["voxel_um"])
    shapes = {int(i): row["shape"] for i, row in space["slices"].items()}
    stages = [
        StagePosition(
            int(i),
            (row["z_px"], row["y_px"], row["x_px"]),
            ((row["shape"][1] - 1) / 2, (row["shape"][2] - 1) / 2),
        )
        for i, row in sorted(space["slices"].items(), key=lambda item: int(item[0]))
    ]
    if not stages:
        raise StepError(
            "no slice is used: there is nothing to stack",
            hint="look at slice_config.csv for the reasons",
        )
    excluded = {i: e for i, e in read_exclusions(context).items() if i in shapes}
    measured, content = [], {}
    for (f, m), path in sorted(context.all("register_pairwise", "pair").items()):
        if f not in shapes or m not in shapes or f in excluded or m in excluded:
            continue
        content[f, m] = read_document(path / "pairwise_registration_metrics.json")
        pair = _measurement(f, m, content[f, m])
        tentative = pair.confidence < params.transform_confidence_high
        measured.append(rotation_only(pair) if tentative else pair)
    solved = _solve(
        params, stages, measured, voxel, depth_recorded=space["thickness_source"] == ["stage"]
    )
    history = PoseHistory()
    solved = apply_depth_source(
        params,
        solved,
        {s.slice_id: s.position[0] for s in stages},
        {i: shape[0] for i, shape in shapes.items()},
        {(p.fixed, p.moving): p for p in measured},
        history,
    )
    solved = apply_limits(params, solved, voxel)
    solved = apply_manual(context, params, solved, voxel, history)
    write_document(
        context.output("poses"),
        {
            "voxel_um": list(voxel),
            "slices": {
                str(i): {
                    "z_px": float(p.z),
                    "rotation_deg": float(p.rotation_deg),
                    "shift_px": [float(v) for v in p.transform.shift],
                    "centre_px": [float(v) for v in p.transform.centre],
                    "shape": shapes[i],
                    "confidence": float(p.confidence),
                    "stage_px": [float(v) for v in stages[k].position],
                    "stacked": i not in excluded or excluded[i].treatment == "stage",
                    "excluded": excluded[i].reason if i in excluded else "",
                    "manual": history.manual.get(i, ""),
                }
                for k, (i, p) in enumerate(solved.poses.items())
            },
            "overlap_source": params.overlap_source,
            "depths": [
                {
                    "fixed_id": p.fixed,
                    "moving_id": p.moving,
                    "z_step_px": p.z_step,
                    "ncc": content[p.fixed, p.moving]["depth"].get("ncc"),
                }
                for p in measured
            ],
            "corrected_overlaps": history.corrected_overlaps,
        },
    )
    _write_figures(context, stages, solved, measured, content, voxel)
    return _report(params, solved, voxel, frozenset(excluded), history)


def _write_figures(
    context: Context,
    stages: list[StagePosition],
    solved: SlicePoses,
    measured: list[PairMeasurement],
    content: dict[tuple[int, int], dict[str, Any]],
    voxel: Voxel,
) -> None:
    import numpy as np

    scale = np.array(voxel)

    def column(name: str) -> Any:
        return np.array([content[p.fixed, p.moving].get(name) or 0.0 for p in measured], float)

    shift = [
        np.subtract(
            c["transform"]["shift_px"], c.get("expected_shift_px", c["transform"]["shift_px"])
        )
        for c in (content[p.fixed, p.moving] for p in measured)
    ]
    residual = {(r.fixed, r.moving): r for r in solved.pairs}

    def of_pair(name: str) -> Any:
        return np.array(
            [
                getattr(residual[p.fixed, p.moving], name)
                if (p.fixed, p.moving) in residual
                else np.nan
                for p in measured
            ],
            float,
        )

    write_npz(
        context.output("figures"),
        slice_ids=np.array(list(solved.poses), np.int64),
        pose_um=np.array([p.position for p in solved.poses.values()]) * scale,
        rotation_deg=np.array([p.rotation_deg for p in solved.poses.values()]),
        stage_um=np.array([s.position for s in stages]) * scale,
        pairs=np.array([(p.fixed, p.moving) for p in measured], np.int64).reshape(-1, 2),
        pair_shift_um=np.array(shift, float).reshape(-1, 2) * scale[1:],
        pair_rotation_deg=np.array(
            [content[p.fixed, p.moving]["transform"]["rotation_deg"] for p in measured], float
        ),
        pair_ncc=column("ncc"),
        pair_confidence=column("confidence"),
        pair_residual_um=of_pair("residual_px") * voxel.x,
        pair_weight=of_pair("weight"),
    )


def _report(
    params: EstimateSlicePosesParams,
    solved: SlicePoses,
    voxel: Voxel,
    excluded: frozenset[int],
    history: PoseHistory,
) -> Result:
    import numpy as np

    used = [r for r in solved.pairs if r.weight > 0 and np.isfinite(r.residual_px)]
    residual = np.array([r.residual_px for r in used]) * voxel.x
    ids = list(solved.poses)
    correction = np.array([p.correction for p in solved.poses.values()]) * np.array(voxel)
    steps = np.hypot(*np.diff(correction[:, 1:], axis=0).T) if len(correction) > 1 else np.zeros(0)
    drift = np.hypot(correction[:, 1], correction[:, 2])
    rotations = np.array([p.rotation_deg for p in solved.poses.values()])
    depth = correction[:, 0]
    warnings = []
    # Excluded slices are told by the step that excludes them.
    alone = [i for i in solved.stage_only if i not in excluded] if len(solved.poses) > 1 else []
    groups = [list(g) for g in solved.groups if not excluded.issuperset(g)]
    if alone:
        warnings.append(f"slices {alone} are placed by the stage alone: no pair holds them")
    if len(groups) > 1:
        warnings.append(f"no accepted pair joins the groups of slices {groups}: the stage does")

    if params.apply_rotation_only and len(residual) and np.percentile(residual, 95) > 25:
        warnings.append(
            f"the images place slices up to {residual.max():.0f} um from the stage; apply_rotation_only keeps "
            "the stage's positions (the default profile follows the images)"
        )

    order = np.argsort(-steps, kind="stable")[:3]
    strayed = tuple((ids[k], ids[k + 1]) for k in order if steps[k] > steps.max() / 2)
    farthest = ((ids[int(drift.argmax())],),) if len(drift) else ()

    def p95(values: Any) -> float | None:
        return float(np.percentile(values, 95)) if len(values) else None

    return Result(
        metrics=(
            Metric(
                "slice_shift_p95_um",
                p95(steps),
                "um",
                "shift between slices that the stage did not report, 95th percentile",
                places=strayed,
            ),
            Metric(
                "slice_residual_p95_um",
                p95(residual),
                "um",
                "disagreement of pairs with the solved poses, 95th percentile",
            ),
            Metric(
                "cumulative_drift_um",
                float(drift.max()) if len(drift) else None,
                "um",
                "farthest that a slice moves from its stage position",
                places=farthest,
            ),
            Metric(
                "cumulative_rotation_deg",
                float(np.abs(rotations - np.median(rotations)).max()),
                "deg",
                "largest rotation against the typical slice",
            ),
            Metric("z_offset_std_um", float(depth.std()), "um", "spread of depth corrections"),
            Metric("z_offset_range_um", float(np.ptp(depth)), "um", "range of depth corrections"),
            Metric("pairs_used", len(used), "", "pairs that hold the stack"),
            Metric("slices_stage_only", len(solved.stage_only), "", "slices that no pair holds"),
            Metric("slices_by_hand", len(history.manual), "", "slices aligned by hand"),
        ),
        warnings=(*warnings, *history.warnings),
        decisions=(
            *(
                Decision(
                    i, "notes", "placed by the stage alone", "no accepted pair holds the slice"
                )
                for i in alone
            ),
            *(Decision(i, "manual_override", True, said) for i, said in history.manual.items()),
        ),
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Memory for the slabs of one pair, where the images refine what was aligned by hand."""
    from soct.steps.sizes import FLOAT, measure_slices

    own = params["estimate_slice_poses"]
    sizes = measure_slices(acquisition, slices, params)
    if not sizes or not (own.manual_transforms_dir and own.refine_manual_transforms):
        return Need()
    return Need(0, 48 * FLOAT * max(size.plane for size in sizes))


STEP = Step(
    id="estimate_slice_poses",
    version=7,
    scope=Scope.RUN,
    params=EstimateSlicePosesParams,
    run=run,
    cost=Cost(slice=0.04),
    estimate=estimate,
    summary="Solve the poses of all slices from all pairs and the stage.",
    inputs=(
        Input("register_pairwise"),
        Input("bring_to_common_space"),
        Input("compensate_attenuation"),
        Input("auto_assess_quality", optional=True),
        Input("auto_exclude_slices", optional=True),
    ),
    outputs=(Output("poses", "slice_poses.json"), Output("figures", "figures.npz", optional=True)),
)
