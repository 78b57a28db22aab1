"""A run folder as the report sees it: every number comes from a record, none is computed anew."""

from __future__ import annotations

import csv
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from soct.pipeline.folder.findings import read_findings
from soct.pipeline.folder.ledger import FILE_NAME as LEDGER
from soct.pipeline.folder.ratings import read_ratings
from soct.pipeline.folder.records import Record
from soct.pipeline.folder.run_folder import Invocation, RunDocument
from soct.pipeline.folder.run_volume import newest_output
from soct.pipeline.folder.status import RunStatus, UnitState, UnitStatus, read_status
from soct.pipeline.folder.unit_metrics import read_statuses
from soct.pipeline.folder.volume_view import view_volume
from soct.pipeline.together.members import live_members
from soct.quality.limits import QualityLimits
from soct.report.model import (
    AcquisitionView,
    DecisionView,
    FailureView,
    InvocationView,
    LedgerRow,
    MetadataView,
    MetricView,
    OutputView,
    ParameterView,
    RunState,
    RunView,
    SliceAcquisition,
    StepView,
    TileProblem,
    UnitView,
)
from soct.steps.declaration import Unit

PACKAGES = (
    "soct",
    "numpy",
    "scipy",
    "numba",
    "scikit-image",
    "SimpleITK",
    "zarr",
    "tensorstore",
    "pydantic",
)
_TRUE = frozenset({"true", "1", "yes", "y", "t"})


def build_view(folder: Path) -> RunView:
    """Return everything a report says about a run folder; never locks, never writes.

    Raises
    ------
    InputError
        The folder is no run folder.
    NewerStateError
        A newer soct wrote it.
    """
    status = read_status(folder)
    document = status.document
    findings = read_findings(folder)
    steps = tuple(_steps(status, findings))
    history = document.history
    volume = newest_output(folder, document)
    ratings, rating_faults = read_ratings(folder)
    return RunView(
        subject=document.subject,
        state=_state(status),
        profile=str(document.profile.get("name") or _values(document).get("name") or "default"),
        soct_version=document.soct_version,
        invocations=tuple(_invocations(history, status)),
        steps=steps,
        ledger=tuple(_ledger(folder, status)),
        acquisition=_acquisition(document, findings),
        parameters=tuple(_parameters(document)),
        limits=_limits(document),
        limit_origins=tuple(_limit_origins(document)),
        packages=tuple(_packages()),
        volume=None if volume is None else view_volume(folder, *volume),
        figures={
            (u.step, u.name): folder / output.path
            for step in steps
            for u in step.units
            for output in u.outputs
            if Path(output.path).name.startswith("figures") and output.path.endswith(".npz")
        },
        cpus=history[-1].cpus if history else None,
        memory_budget_bytes=history[-1].memory_bytes if history else None,
        peak_memory_bytes=max((i.peak_memory_bytes for i in history), default=0) or None,
        wall_seconds=sum(i.seconds for i in history) or None,
        run_folder=folder.resolve().name,
        private=_private(folder, history),
        ratings=ratings,
        rating_faults=rating_faults,
    )


def _private(folder: Path, history: tuple[Invocation, ...]) -> tuple[str, ...]:
    """Return users and folders that no section shows, but that a message or a traceback may hold."""
    here = os.path.expanduser("~")  # noqa: PTH111 - Path.home() raises where there is none
    users = [call.user for call in history if call.user]
    return tuple(dict.fromkeys([*users, str(folder.resolve()), *([here] if len(here) > 1 else [])]))


def _state(status: RunStatus) -> RunState:
    if status.state == "running":
        return "running"
    if status.failures:
        return "failed"
    done = all(unit.state is UnitState.DONE for unit in status.units)
    return "complete" if done and status.state == "complete" else "partial"


def _invocations(history: tuple[Invocation, ...], status: RunStatus) -> Iterator[InvocationView]:
    holders = (*(p.holder for p in status.processes), *live_members(status.folder))
    alive = {(holder.host, holder.pid) for holder in holders}
    for call in history:
        outcome = call.reason or call.state
        if call.state == "running" and (call.host, call.pid) not in alive:
            outcome = "killed"
        yield InvocationView(
            command=call.command,
            started=call.started,
            ended=call.ended,
            outcome=outcome,
            host=call.host,
            cpus=call.cpus,
            memory_bytes=call.memory_bytes,
            computed=call.computed,
            reused=call.reused,
        )


def _steps(status: RunStatus, findings: Mapping[str, Any]) -> Iterator[StepView]:
    document = status.document
    by_step: dict[str, list[UnitStatus]] = {step: [] for step in document.units}
    for unit in status.units:
        by_step[unit.unit.step].append(unit)
    origin = _seconds(document.history[0].started) if document.history else None
    last = document.history[-1].started if document.history else ""
    for step, units in by_step.items():
        yield StepView(
            id=step,
            summary=document.summaries.get(step, ""),
            version=document.steps[step],
            scope=document.scopes[step],  # type: ignore[arg-type]
            units=tuple(_unit(u, status.folder, findings, origin, last) for u in units),
        )


def _unit(
    status: UnitStatus,
    folder: Path,
    findings: Mapping[str, Any],
    origin: float | None,
    last_start: str,
) -> UnitView:
    unit = status.unit
    if status.record is not None:
        return _finished(status.record, folder, findings, origin, last_start)
    failure = status.failure.failure if status.failure else None
    return UnitView(
        step=unit.step,
        slices=unit.slices,
        state=status.state.value,
        reason=status.note,
        seconds=status.failure.seconds if status.failure else None,
        failure=None
        if failure is None
        else FailureView(
            failure.kind,
            failure.message,
            failure.file or "",
            failure.expected or "",
            failure.found or "",
            failure.hint or "",
            failure.traceback,
        ),
    )


def _finished(
    record: Record,
    folder: Path,
    findings: Mapping[str, Any],
    origin: float | None,
    last_start: str,
) -> UnitView:
    unit, result = record.unit, record.result
    started = _seconds(record.started)
    statuses = read_statuses(folder, unit)
    return UnitView(
        step=unit.step,
        slices=unit.slices,
        state="reused" if record.ended < last_start else "done",
        reason="; ".join(record.reasons),
        started_s=None if started is None or origin is None else max(0.0, started - origin),
        seconds=record.seconds,
        peak_memory_bytes=record.peak_memory_bytes,
        bytes_read=_raw_bytes(unit, findings),
        threads=record.threads,
        backend=result.backend,
        worker=f"{record.host}:{record.pid}",
        metrics=tuple(
            MetricView(
                m.name,
                m.value,
                m.unit,
                m.description,
                statuses.get(m.name, "info"),
                m.tile,
                m.places,
            )
            for m in result.metrics
        ),
        warnings=result.warnings,
        decisions=tuple(
            DecisionView(d.slice_id, d.column, d.value, d.reason) for d in result.decisions
        ),
        fallbacks=result.fallbacks,
        outputs=tuple(
            OutputView(o.name, o.path, o.size, o.sha256, o.pixels, o.layout) for o in record.outputs
        ),
    )


def _raw_bytes(unit: Unit, findings: Mapping[str, Any]) -> int | None:
    """Return the size of the raw data that a unit stands for; a pair stands for its moving slice."""
    slices = findings.get("slices", {})
    wanted = [str(unit.slices[-1])] if unit.slices else list(slices)
    return sum(slices.get(name, {}).get("bytes", 0) for name in wanted) or None


def _ledger(folder: Path, status: RunStatus) -> Iterator[LedgerRow]:
    present = sorted(int(s) for s in status.document.slices)
    decided = {
        (d.slice_id, d.column): u.unit.step
        for u in status.units
        if u.record is not None
        for d in u.record.result.decisions
    }
    rows = _ledger_rows(folder / LEDGER)
    listed = sorted({*present, *rows})
    for slice_id in range(listed[0], listed[-1] + 1) if present else ():
        row = rows.get(slice_id, {})
        if slice_id not in present:
            yield LedgerRow(
                slice_id,
                used=False,
                reason=row.get("exclude_reason") or "it was not acquired",
                interpolated=row.get("interpolated", "").lower() in _TRUE,
                missing=True,
                columns=_columns(row),
            )
            continue
        excluded = row.get("auto_excluded", "").lower() in _TRUE and row.get("placement") != "stage"
        column = "auto_excluded" if excluded else "use"
        used = row.get("use", "true").lower() in _TRUE and not excluded
        yield LedgerRow(
            slice_id,
            used=used,
            reason="" if used else row.get("auto_exclude_reason") or row.get("exclude_reason", ""),
            decided_by="" if used else decided.get((slice_id, column), "user"),
            interpolated=row.get("interpolated", "").lower() in _TRUE,
            columns=_columns(row),
        )


def _columns(row: Mapping[str, str]) -> dict[str, str]:
    return {name: value or "" for name, value in row.items() if name != "slice_id"}


def _ledger_rows(path: Path) -> dict[int, dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return {int(float(row["slice_id"])): dict(row) for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError):
        return {}


def _acquisition(document: RunDocument, findings: Mapping[str, Any]) -> AcquisitionView:
    problems: dict[int, list[TileProblem]] = {}
    for problem in document.problems:
        if problem.get("slice_id") is not None:
            first = findings.get("slices", {}).get(str(problem["slice_id"]), {})
            problems.setdefault(problem["slice_id"], []).append(_problem(problem, first))
    unusable = {p["slice_id"] for p in document.problems if p.get("kind") == "no_usable_tile"}
    ids = sorted({int(s) for s in document.slices} | unusable)
    return AcquisitionView(
        kind=findings.get("kind", "raw"),
        path=document.input,
        raw_bytes=document.raw_bytes,
        slices=tuple(
            SliceAcquisition(
                slice_id=s,
                rows=found.get("rows", 0),
                cols=found.get("cols", 0),
                found=tuple((row, col) for row, col in found.get("found", ())),
                problems=tuple(problems.get(s, ())),
                stage_z_mm=found.get("stage_z_mm"),
            )
            for s in ids
            for found in [findings.get("slices", {}).get(str(s), {})]
        ),
        missing_slices=tuple(sorted(set(range(ids[0], ids[-1] + 1)) - set(ids))) if ids else (),
        metadata=(
            *(
                MetadataView(fact["name"], _fact(fact["value"]), fact["unit"], fact["source"])
                for fact in findings.get("tile_metadata", ())
            ),
            *(
                MetadataView(name, str(value), source="session metadata")
                for name, value in findings.get("metadata", {}).items()
            ),
        ),
        ignored=tuple(findings.get("ignored", ())),
        fingerprints=tuple(document.slices.items()),
    )


def _fact(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _problem(problem: Mapping[str, Any], found: Mapping[str, Any]) -> TileProblem:
    row, col = problem.get("row"), problem.get("col")
    return TileProblem(
        slice_id=problem["slice_id"],
        row=None if row is None else row - found.get("first_row", 0),
        col=None if col is None else col - found.get("first_col", 0),
        kind=problem["kind"],
        message=problem["message"],
        file=problem["file"],
        expected=problem["expected"],
        found=problem["found"],
    )


def _parameters(document: RunDocument) -> Iterator[ParameterView]:
    origins = document.profile.get("origins", {})
    fields = _declared_fields(tuple(document.params))
    for step, values in document.params.items():
        for name, value in values.items():
            key = f"{step}.{name}"
            unit, description, default = fields.get(key, ("", "", None))
            yield ParameterView(
                key=key,
                value=_as_yaml(value),
                unit=unit,
                origin=str(origins.get(key, origins.get(step, "default"))),
                description=description,
                default=default,
            )


def _as_yaml(value: Any) -> str:
    """Return a value as a profile would have it; nothing for null."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _declared_fields(steps: tuple[str, ...]) -> dict[str, tuple[str, str, str | None]]:
    """Return ``step.parameter -> (unit, description, default)`` for the steps that this soct has."""
    from soct.steps.registry import STEP_IDS, load_step

    found: dict[str, tuple[str, str, str | None]] = {}
    for step in (name for name in steps if name in STEP_IDS):
        with suppress(ImportError):
            for name, field in load_step(step).params.model_fields.items():
                extra = field.json_schema_extra
                unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
                default = None if field.is_required() else _as_yaml(field.get_default())
                found[f"{step}.{name}"] = (unit, field.description or "", default)
    return found


def _values(document: RunDocument) -> Mapping[str, Any]:
    values = document.profile.get("values", {})
    return values if isinstance(values, dict) else {}


def _limits(document: RunDocument) -> QualityLimits:
    with suppress(ValueError):
        return QualityLimits.model_validate(_values(document).get("quality", {}))
    return QualityLimits()


def _limit_origins(document: RunDocument) -> Iterator[tuple[str, str]]:
    origins = document.profile.get("origins", {})
    for key, origin in sorted(origins.items()) if isinstance(origins, dict) else ():
        if key.startswith("quality."):
            yield key.removeprefix("quality."), str(origin)


def _packages() -> Iterator[tuple[str, str]]:
    yield "Python", platform.python_version()
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            yield name, version(name)


def _seconds(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
