"""The slice ledger: which slices are used, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from soct.steps.declaration import (
    Context,
    Decision,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    from soct.formats.acquisition import SliceRecord


class GenerateSliceConfigParams(Params):
    """Parameters of `generate_slice_config`."""

    exclude_first_slices: int | Literal["auto"] = parameter(
        "auto",
        "Leading slices to leave out; auto: only calibration slices, much deeper than the others.",
    )
    exclude: tuple[int, ...] = parameter((), "Ids of further slices to leave out.")
    calibration_depth_ratio: float = parameter(
        1.5,
        "A leading slice this many times deeper than the median is a calibration slice.",
        gt=1,
        le=10,
    )


def _depth_um(record: SliceRecord) -> float:
    if record.grid is not None:
        from soct.formats.mosaic_grid import open_mosaic_grid

        grid = open_mosaic_grid(record.grid)
        return grid.tile_shape[0] * grid.voxel_um.z
    if not record.tiles:
        return 0.0
    info = record.tiles[0].info
    return info.n_z * (info.axial_resolution_um or 1.0)


def run(context: Context, params: GenerateSliceConfigParams) -> Result:
    """Write the first state of the ledger."""
    from soct.formats.tables import SliceConfigRow, read_table, write_table
    from soct.registration.stage import detect_calibration_slices
    from soct.steps.create_mosaic_grid import describe_unusable

    assert context.acquisition is not None
    records = context.acquisition.slices
    reasons: dict[int, str] = {}
    ids = list(records)
    if params.exclude_first_slices == "auto":
        depths = {i: _depth_um(r) for i, r in records.items() if r.tiles or r.grid is not None}
        for i in detect_calibration_slices(depths, ratio=params.calibration_depth_ratio):
            reasons[i] = f"calibration slice: {depths[i]:.0f} um deep"
    else:
        for i in ids[: params.exclude_first_slices]:
            reasons[i] = "among the first slices (exclude_first_slices)"
    for i in params.exclude:
        reasons[i] = "named in generate_slice_config.exclude"
    # Slices without a usable tile have no units; here they stay in the ledger.
    unusable = {p.slice_id for p in context.acquisition.problems if p.kind == "no_usable_tile"} | {
        i for i, record in records.items() if record.grid is None and not record.tiles
    }
    for i in sorted(i for i in unusable if i is not None):
        reasons[i] = describe_unusable([p for p in context.acquisition.problems if p.slice_id == i])
        ids = sorted({*ids, i})
    given = context.acquisition.tables.get("slice_config.csv")
    rows = {i: SliceConfigRow(i) for i in ids}
    warnings = []
    if given is not None:
        rows.update(
            {r.slice_id: r for r in read_table(given, SliceConfigRow) if r.slice_id in rows}
        )
        warnings.append("the input's slice_config.csv is followed")
    final = []
    for i in ids:
        row = rows[i]
        if i in reasons and row.use:
            row = SliceConfigRow(i, use=False, exclude_reason=reasons[i], extra=row.extra)
        final.append(row)
    write_table(context.output("slice_config"), SliceConfigRow, final)
    excluded = [r for r in final if not r.use]
    missing = [p for p in context.acquisition.problems if p.kind == "missing_slice"]
    left_out = (f"slice {r.slice_id} is not used: {r.exclude_reason}" for r in excluded)
    return Result(
        metrics=(
            Metric("slices_acquired", len(ids), "", "slices in the input"),
            Metric("slices_missing", len(missing), "", "gaps in the numbering of the slices"),
            Metric("slices_excluded", len(excluded), "", "slices left out from the start"),
        ),
        warnings=tuple(warnings),
        notices=(*left_out, *(p.message for p in missing)),
        decisions=tuple(Decision(r.slice_id, "use", False, r.exclude_reason) for r in excluded),
    )


STEP = Step(
    id="generate_slice_config",
    version=2,
    scope=Scope.RUN,
    params=GenerateSliceConfigParams,
    run=run,
    summary="Begin the slice ledger: which slices are used, and why not.",
    outputs=(Output("slice_config", "slice_config.csv"),),
    reads_raw=True,
)
