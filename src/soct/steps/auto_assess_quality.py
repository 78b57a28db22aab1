"""A score for every slice: how well its image fits the slices that face it, and what is too bad is left out.

Neighbouring slices show the same tissue where they face each other. Each is aligned with the next by the
registered pair (by the stage where the pair was not accepted), and slabs that face each other are compared:
0.5 structural similarity + 0.3 edge preservation + 0.2 variance ratio. A slice has the score of its better
side, so that a good slice beside a bad one keeps its score.

A slice below `min_quality` has no vote in the poses of the others. Its image is not stacked either (or is,
where the stage puts it, with ``treatment: stage``), which leaves a gap like that of a slice that is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

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
from soct.steps.slice_planes import SliceSide, facing_slabs, open_side

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soct.formats.acquisition import Acquisition
    from soct.quality.slice_agreement import SliceAgreement, SliceScore


class AutoAssessQualityParams(Params):
    """Parameters of `auto_assess_quality`."""

    enabled: bool = parameter(False, "Score every slice, and leave out those that are too bad.")
    min_quality: float = parameter(
        0.3, "Slices that score less are excluded; 0 excludes none.", ge=0, le=1
    )
    roi_px: int = parameter(
        1024, "Edge of the central window that is compared.", unit="px", ge=32, le=16384
    )
    slab_um: float = parameter(
        30.0, "Thickness over which planes are averaged.", unit="um", gt=0, le=500
    )
    max_slabs: int = parameter(4, "Facing slabs of a pair that are compared.", ge=1, le=64)
    treatment: Literal["stage", "leave_out"] = parameter(
        "leave_out", "Excluded slices are left out of the volume, or placed by the stage."
    )


def _compare(
    params: AutoAssessQualityParams,
    sides: tuple[SliceSide, SliceSide],
    content: dict[str, Any],
) -> SliceAgreement | None:
    """Return the mean agreement of the slabs of a pair."""
    import numpy as np
    from scipy import ndimage as ndi

    from soct.quality.slice_agreement import SliceAgreement, central_roi, measure_agreement
    from soct.registration.transforms import RigidTransform2D

    fixed, moving = sides
    t = content["transform"]
    matrix = RigidTransform2D(
        t["rotation_deg"], tuple(t["shift_px"]), tuple(t["centre_px"])
    ).matrix()
    thickness = max(1, round(params.slab_um / fixed.volume.voxel_um.z))
    rows, columns = central_roi(fixed.valid.shape[1:], params.roi_px)
    origin = matrix[:2] @ (rows.start, columns.start, 1.0)
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    found = []
    for at_fixed, at_moving in facing_slabs(
        fixed, moving, content["depth"]["offset_px"], thickness, thickness, params.max_slabs
    ):
        f, f_valid = fixed.slab(at_fixed, thickness)
        m, m_valid = moving.slab(at_moving, thickness)
        near, weight = (
            ndi.affine_transform(
                image, matrix[:2, :2], origin, output_shape=shape, order=1, output=np.float32
            )
            for image in (np.where(m_valid, m, 0), m_valid.astype(np.float32))
        )
        seen = f_valid[rows, columns] & (weight > 0.99)
        agreement = measure_agreement(f[rows, columns], near, seen)
        if agreement is not None:
            found.append((agreement.ssim, agreement.edges, agreement.variance_ratio))
    return SliceAgreement(*np.mean(found, axis=0).tolist()) if found else None


def _describe(score: SliceScore, aligned: bool) -> str:
    assert score.agreement is not None
    a = score.agreement
    text = (
        f"SSIM {a.ssim:.2f}, edges {a.edges:.2f}, variance ratio {a.variance_ratio:.2f} against slice "
        f"{score.neighbour}"
    )
    return text if aligned else f"{text} (aligned by the stage alone)"


def run(context: Context, params: AutoAssessQualityParams) -> Result:
    """Score the slices, and write which are excluded."""
    import itertools

    import numpy as np

    from soct.formats.documents import read_document, write_document
    from soct.quality.slice_agreement import score_slices
    from soct.steps.exclusions import Exclusion, ledger_decisions, write_exclusions

    used = sorted(
        map(int, read_document(context.run("bring_to_common_space", "offsets"))["slices"])
    )
    paths = context.all("register_pairwise", "pair")
    pairs: dict[tuple[int, int], SliceAgreement | None] = {}
    accepted = {}
    for done, pair in enumerate(itertools.pairwise(used)):
        if pair in paths:
            content = read_document(paths[pair] / "pairwise_registration_metrics.json")
            sides = (open_side(context, pair[0]), open_side(context, pair[1]))
            pairs[pair] = _compare(params, sides, content)
            accepted[pair] = bool(content["accepted"])
        context.progress((done + 1) / max(len(used) - 1, 1))
    scores = score_slices(used, pairs)
    exclusions, decisions = {}, []
    rows: dict[str, dict[str, Any] | None] = {}
    for i, one in scores.items():
        rows[str(i)] = None
        if one.score is None or one.neighbour is None or one.agreement is None:
            continue
        a = one.agreement
        aligned = accepted[min(i, one.neighbour), max(i, one.neighbour)]
        rows[str(i)] = {
            "score": one.score,
            "neighbour": one.neighbour,
            "aligned": aligned,
            "ssim": a.ssim,
            "edges": a.edges,
            "variance_ratio": a.variance_ratio,
        }
        said = _describe(one, aligned)
        decisions.append(Decision(i, "quality_score", round(one.score, 4), said))
        if one.score < params.min_quality:
            reason = f"quality {one.score:.2f} is below {params.min_quality:g}: {said}"
            exclusions[i] = Exclusion(reason, params.treatment, "auto_assess_quality")
    write_exclusions(context.output("exclusions"), exclusions)
    write_document(context.output("scores"), {"slices": rows})
    values = [one.score for one in scores.values() if one.score is not None]
    warnings = [f"slice {i} is excluded: {e.reason}" for i, e in exclusions.items()]
    unknown = [i for i, one in scores.items() if one.score is None]
    if unknown and len(used) > 1:
        warnings.append(f"slices {unknown} have no score: no neighbour could be compared")
    return Result(
        metrics=(
            Metric(
                "quality_score_lowest",
                float(min(values)) if values else None,
                "",
                "agreement of the worst slice with its better neighbour, 0 to 1",
            ),
            Metric(
                "quality_score_median",
                float(np.median(values)) if values else None,
                "",
                "agreement of a typical slice with its better neighbour, 0 to 1",
            ),
            Metric("slices_low_quality", len(exclusions), "", "slices below min_quality"),
        ),
        warnings=tuple(warnings),
        decisions=(*decisions, *ledger_decisions(exclusions)),
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Memory for the slabs of one pair."""
    from soct.steps.sizes import FLOAT, measure_slices

    sizes = measure_slices(acquisition, slices, params)
    if not sizes:
        return Need()
    plane = max(size.plane for size in sizes)
    planes = 1 + params["auto_assess_quality"].slab_um / min(size.voxel_z_um for size in sizes)
    return Need(64 << 10, int((3 * planes + 24) * FLOAT * plane))


STEP = Step(
    id="auto_assess_quality",
    version=1,
    scope=Scope.RUN,
    params=AutoAssessQualityParams,
    run=run,
    cost=Cost(mpixel=2.0),
    estimate=estimate,
    summary="Score every slice against its neighbours and leave out those that are too bad.",
    inputs=(
        Input("register_pairwise"),
        Input("bring_to_common_space"),
        Input("compensate_attenuation"),
    ),
    outputs=(Output("exclusions", "exclusions.json"), Output("scores", "slice_quality.json")),
)
