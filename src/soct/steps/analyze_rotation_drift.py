"""How the slices turn over the run: rotations of the pairs added up, against what all pairs together say.

A slow turn is a knife or a block that settles; a single slice that stands out is a wrong pair or a slice that was lifted. What adding up says beyond the solution of all pairs is error that accumulates.

An angle is positive from +x towards +y, and says how the tissue lies turned in a slice's image. The field of the microscope (or the truth of `soct simulate`) turned the other way over the tissue.
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
    from soct.registration.rotation_drift import RotationDrift


class AnalyzeRotationDriftParams(Params):
    """Parameters of `analyze_rotation_drift`."""

    enabled: bool = parameter(
        False, "Follow the slices' rotation through the run (profile diagnostic)."
    )


def run(context: Context, params: AnalyzeRotationDriftParams) -> Result:
    """Read pairs and poses, follow the rotation, write table and figures."""
    import numpy as np

    from soct.formats.documents import read_document, write_document
    from soct.registration.rotation_drift import PairRotation, analyze_rotation_drift

    poses = read_document(context.run("estimate_slice_poses", "poses"))
    solved = {int(i): float(row["rotation_deg"]) for i, row in poses["slices"].items()}
    pairs = []
    for (fixed, moving), path in sorted(context.all("register_pairwise", "pair").items()):
        content = read_document(path / "pairwise_registration_metrics.json")
        pairs.append(
            PairRotation(
                fixed,
                moving,
                float(content["transform"]["rotation_deg"]),
                bool(content["accepted"]),
                float(content["confidence"]),
            )
        )
    drift = analyze_rotation_drift(pairs, solved)
    half_um = max((_half_diagonal_um(row, poses) for row in poses["slices"].values()), default=0.0)
    verdict = describe(drift, half_um)
    write_npz(
        context.output("figures"),
        slice_ids=np.array(drift.slice_ids, np.int64),
        step_deg=drift.step_deg,
        cumulative_deg=drift.cumulative_deg,
        solved_deg=drift.solved_deg,
        outliers=np.array(drift.outliers, np.int64),
        trend_deg=np.float64(drift.trend_deg),
    )
    write_document(
        context.output("report"),
        {
            "verdict": verdict,
            "trend_deg_per_slice": finite(drift.trend_deg),
            "trend_range_deg": [finite(v) for v in drift.trend_range_deg],
            "closure_deg": finite(drift.closure_deg),
            "outliers": list(drift.outliers),
            "bridged": list(drift.bridged),
            "slices": {
                str(i): {
                    "step_deg": finite(float(drift.step_deg[k])),
                    "cumulative_deg": float(drift.cumulative_deg[k]),
                    "solved_deg": float(drift.solved_deg[k]),
                }
                for k, i in enumerate(drift.slice_ids)
            },
        },
    )
    return Result(
        metrics=(
            Metric(
                "rotation_trend_deg",
                finite(drift.trend_deg),
                "deg",
                "steady turn of the tissue in the slices' images, per slice, from +x towards +y (median slope)",
            ),
            Metric(
                "rotation_range_deg",
                drift.range_deg,
                "deg",
                "largest rotation of a slice against another",
            ),
            Metric(
                "rotation_disagreement_deg",
                drift.disagreement_deg,
                "deg",
                "difference between adding up pairs and solving all of them",
            ),
            Metric(
                "rotation_closure_deg",
                finite(drift.closure_deg),
                "deg",
                "median disagreement around three slices",
            ),
            Metric("rotation_outliers", len(drift.outliers), "", "slices whose turn stands out"),
            Metric("rotation_drift_verdict", verdict, "", "what it means"),
        )
    )


def _half_diagonal_um(row: dict[str, list[int]], poses: dict[str, list[float]]) -> float:
    _, height, width = row["shape"]
    _, dy, dx = poses["voxel_um"]
    return 0.5 * float(((height * dy) ** 2 + (width * dx) ** 2) ** 0.5)


def describe(drift: RotationDrift, half_diagonal_um: float) -> str:
    """Say in one or two sentences how the slices turn."""
    import math

    if len(drift.slice_ids) < 2:
        return "One slice alone does not turn."
    cost = math.radians(drift.range_deg) * half_diagonal_um
    total = f"{drift.range_deg:.2f}° over the run, {cost:.0f} µm at a slice's corner"
    if drift.has_trend:
        low, high = drift.trend_range_deg
        text = f"Slices turn steadily by {drift.trend_deg:+.3f}° each (95 %: {low:+.3f} to {high:+.3f}): {total}"
    else:
        text = f"Slices do not turn steadily: {total}"
    if drift.outliers:
        named = ", ".join(map(str, drift.outliers[:8])) + (
            " and more" if len(drift.outliers) > 8 else ""
        )
        text += f"; the turn of slice {named} stands out"
    if drift.bridged:
        text += (
            f"; no measured pair tells the turn of slice {', '.join(map(str, drift.bridged[:8]))}"
        )
    return f"{text}. Adding up pairs differs from the solution by {drift.disagreement_deg:.2f}°."


STEP = Step(
    id="analyze_rotation_drift",
    version=1,
    scope=Scope.RUN,
    params=AnalyzeRotationDriftParams,
    run=run,
    summary="Diagnosis: how the slices turn over the run, and which stand out.",
    inputs=(Input("register_pairwise"), Input("estimate_slice_poses")),
    outputs=(
        Output("report", "rotation_drift.json"),
        Output("figures", "figures.npz", optional=True),
    ),
)
