"""Slices whose registration stands apart from all others are placed by the stage.

Every pair of consecutive slices has a correlation and a distance from where the stage puts it. Sound pairs form
one cloud, which a density clustering (DBSCAN) finds. A slice none of whose pairs lies in it, or that lies in a
run of pairs that all correlate badly, has no vote in the poses of the others and lies where the stage puts it.

Off by default: the global solve weighs every pair by how sure it is and drops those that contradict the rest,
so that a failed pair does no harm as it is. Switch it on to have such slices named in the ledger.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from soct.steps.declaration import (
    Context,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    from soct.registration.slice_outliers import PairPoint


class AutoExcludeSlicesParams(Params):
    """Parameters of `auto_exclude_slices`."""

    enabled: bool = parameter(False, "Look for slices whose registration failed.")
    cluster_radius: float = parameter(
        3.0, "Pairs within so many robust standard deviations are alike.", gt=0, le=100
    )
    cluster_least: int = parameter(3, "Pairs that make a cluster.", ge=2, le=100)
    run_ncc: float = parameter(
        0.6, "Pairs that correlate less count for a run of bad pairs; 0 looks for none.", ge=0, le=1
    )
    run_length: int = parameter(3, "So many bad pairs in a row exclude slices.", ge=2, le=100)
    treatment: Literal["stage", "leave_out"] = parameter(
        "stage", "Excluded slices are placed by the stage, or left out of the volume."
    )


def _pair_points(context: Context) -> list[PairPoint]:
    """Return the pairs of consecutive used slices that could be compared."""
    import itertools

    import numpy as np

    from soct.formats.documents import read_document
    from soct.registration.slice_outliers import PairPoint

    space = read_document(context.run("bring_to_common_space", "offsets"))
    used = sorted(map(int, space["slices"]))
    paths = context.all("register_pairwise", "pair")
    points = []
    for fixed, moving in itertools.pairwise(used):
        if (fixed, moving) not in paths:
            continue
        found = read_document(paths[fixed, moving] / "pairwise_registration_metrics.json")
        if found.get("ncc") is None:
            continue
        apart = np.subtract(found["transform"]["shift_px"], found["expected_shift_px"])
        distance = float(np.hypot(*(apart * space["voxel_um"][1:])))
        points.append(PairPoint(fixed, moving, found["ncc"], distance))
    return points


def run(context: Context, params: AutoExcludeSlicesParams) -> Result:
    """Write which slices are excluded, and why."""
    from soct.registration.slice_outliers import find_slice_outliers
    from soct.steps.exclusions import Exclusion, ledger_decisions, write_exclusions

    points = _pair_points(context)
    found = find_slice_outliers(
        points,
        radius=params.cluster_radius,
        least=params.cluster_least,
        run_ncc=params.run_ncc,
        run_length=params.run_length,
    )
    exclusions = {
        i: Exclusion(reason, params.treatment, "auto_exclude_slices")
        for i, reason in found.reasons.items()
    }
    write_exclusions(context.output("exclusions"), exclusions)
    warnings = [f"slice {i} is excluded: {e.reason}" for i, e in exclusions.items()]
    if found.refused:
        warnings.append(f"no slice is excluded: {found.refused}")
    return Result(
        metrics=(
            Metric("slices_auto_excluded", len(exclusions), "", "slices that no neighbour fits"),
            Metric("pairs_compared", len(points), "", "pairs of consecutive slices"),
        ),
        warnings=tuple(warnings),
        decisions=tuple(ledger_decisions(exclusions)),
    )


STEP = Step(
    id="auto_exclude_slices",
    version=1,
    scope=Scope.RUN,
    params=AutoExcludeSlicesParams,
    run=run,
    summary="Find slices whose registration failed and keep them out of the others' poses.",
    inputs=(Input("register_pairwise"), Input("bring_to_common_space")),
    outputs=(Output("exclusions", "exclusions.json"),),
)
