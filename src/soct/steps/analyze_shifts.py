"""How the stage drifted over the run, and which steps stand out."""

from __future__ import annotations

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


class AnalyzeShiftsParams(Params):
    """Parameters of `analyze_shifts`."""

    iqr_factor: float = parameter(
        1.5, "A step this many interquartile ranges outside the quartiles stands out.", gt=0, le=100
    )


LEAST_PAIRS = 8


def run(context: Context, params: AnalyzeShiftsParams) -> Result:
    """Write the drift report."""
    import dataclasses

    from soct.formats.documents import without_infinities, write_document
    from soct.registration.stage_drift import analyze_shifts
    from soct.steps.stage_tables import read_shifts

    report = analyze_shifts(
        read_shifts(context.run("estimate_xy_shifts", "shifts")), iqr_factor=params.iqr_factor
    )
    content = without_infinities(dataclasses.asdict(report))
    write_document(context.output("report"), content)
    shifts = read_shifts(context.run("estimate_xy_shifts", "shifts"))
    size = {(s.fixed_id, s.moving_id): max(map(abs, s.shift_mm)) for s in shifts}
    # Quartiles of a handful of steps say nothing about which of them is odd.
    warnings = [
        f"the stage step between slices {f} and {m}, {size[f, m]:.2f} mm, is unusual for this run; it is kept"
        " unless the next step takes it back"
        for f, m in report.outliers
        if report.n_pairs >= LEAST_PAIRS
    ]
    return Result(
        metrics=(
            Metric(
                "stage_drift_y_mm",
                finite(report.y.total_mm),
                "mm",
                "drift of the stage over the run along y",
            ),
            Metric(
                "stage_drift_x_mm",
                finite(report.x.total_mm),
                "mm",
                "drift of the stage over the run along x",
            ),
            Metric(
                "stage_max_step_mm",
                finite(report.max_step_mm),
                "mm",
                "longest step between two slices",
            ),
            Metric("stage_outliers", len(report.outliers), "", "steps that stand out"),
        ),
        warnings=tuple(warnings),
    )


STEP = Step(
    id="analyze_shifts",
    version=1,
    scope=Scope.RUN,
    params=AnalyzeShiftsParams,
    run=run,
    summary="Report the stage's drift and the steps that stand out.",
    inputs=(Input("estimate_xy_shifts"),),
    outputs=(Output("report", "shifts_analysis.json"),),
)
