"""Shifts of the stage, freed of encoder glitches and of mosaic growth."""

from __future__ import annotations

from soct.steps.declaration import (
    Context,
    Decision,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)


class DetectRehomingEventsParams(Params):
    """Parameters of `detect_rehoming_events`."""

    rehoming_max_shift_mm: float = parameter(
        0.5, "Steps up to this length are never touched.", unit="mm", gt=0, le=100
    )
    rehoming_return_fraction: float = parameter(
        0.4, "A step is a glitch if its neighbour takes back all but this share of it.", gt=0, lt=1
    )
    detect_mosaic_growth: bool = parameter(
        True, "Treat steps of whole fields of view as growth of the mosaic."
    )
    tile_fov_tolerance: float = parameter(
        0.05, "How far from a whole field of view still counts as growth.", ge=0, lt=0.5
    )


def run(context: Context, params: DetectRehomingEventsParams) -> Result:
    """Write the clean shifts and what was found."""
    from soct.formats.documents import write_document
    from soct.registration.stage_rehoming import RehomingLimits, detect_rehoming_events
    from soct.steps.stage_tables import read_shifts, read_stage, write_clean_shifts

    stage = read_stage(context.run("estimate_xy_shifts", "stage_positions"))
    first = next(iter(stage.values()))
    fov = (first.tile_um[0] / 1000, first.tile_um[1] / 1000)
    report = detect_rehoming_events(
        read_shifts(context.run("estimate_xy_shifts", "shifts")),
        RehomingLimits(
            max_shift_mm=params.rehoming_max_shift_mm,
            return_fraction=params.rehoming_return_fraction,
            tile_fov_mm=fov if params.detect_mosaic_growth else None,
            tile_fov_tolerance=params.tile_fov_tolerance,
        ),
    )
    write_clean_shifts(context.output("shifts_clean"), report.shifts)
    events = [
        {
            "kind": e.kind,
            "pairs": [list(p) for p in e.pairs],
            "slice_id": e.slice_id,
            "shift_mm": list(e.shift_mm),
            "residual_mm": list(e.residual_mm),
        }
        for e in report.events
    ]
    write_document(context.output("events"), {"events": events})
    glitches = [e for e in report.events if e.kind == "glitch"]
    return Result(
        metrics=(
            Metric(
                "glitches", len(glitches), "", "slices whose stage position jumped there and back"
            ),
            Metric(
                "mosaic_growth",
                sum(e.kind == "growth" for e in report.events),
                "",
                "steps of whole fields of view",
            ),
            Metric(
                "real_moves",
                sum(e.kind == "real" for e in report.events),
                "",
                "other big steps, kept",
            ),
        ),
        warnings=tuple(
            f"slice {e.slice_id}: the stage reported a {e.kind} of ({e.shift_mm[0]:+.3f}, {e.shift_mm[1]:+.3f}) mm (y, x)"
            + ("; corrected" if e.kind == "glitch" else "")
            for e in report.events
        ),
        decisions=tuple(
            Decision(e.slice_id, "rehomed", True, "encoder glitch, taken back by the next step")
            for e in glitches
        ),
    )


STEP = Step(
    id="detect_rehoming_events",
    version=1,
    scope=Scope.RUN,
    params=DetectRehomingEventsParams,
    run=run,
    summary="Tell encoder glitches and mosaic growth from real moves of the stage.",
    inputs=(Input("estimate_xy_shifts"),),
    outputs=(
        Output("shifts_clean", "shifts_xy_clean.csv"),
        Output("events", "rehoming_events.json"),
    ),
)
