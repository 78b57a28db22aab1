"""What ``soct plan`` does: what would run and why, how long, with how much memory, disk and how many files."""

from __future__ import annotations

import secrets
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soct.cli import job_run
from soct.cli.terminal import data, data_json, words
from soct.errors import ExitCode, UsageError
from soct.pipeline.profiles.quantities import format_duration, format_size
from soct.pipeline.resources import least_memory

if TYPE_CHECKING:
    from soct.pipeline.planning.plan import Plan
    from soct.pipeline.planning.run_estimate import RunEstimate
    from soct.pipeline.request import RunRequest

_NEVER = "it was never computed"


@dataclass(frozen=True, kw_only=True)
class AskedPlan(job_run.Choices):
    """The options of ``plan``, parsed."""

    input: Path | None
    output: Path | None
    nodes: int = 1
    description: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_described(self) -> bool:
        """Whether the acquisition is only described."""
        told = any(value is not None for value in self.description.values())
        if self.input is not None and self.input.is_dir():
            if told:
                raise UsageError(
                    "An acquisition is given and described",
                    expected="INPUT, or --tiles and --tile-size or --raw-size",
                    hint="Leave INPUT out, or give a YAML file that describes the acquisition.",
                )
            return False
        if self.input is None and not told:
            raise UsageError(
                "There is nothing to plan",
                expected="INPUT, or --slices, --tiles and --tile-size or --raw-size",
            )
        return told or (self.input is not None and self.input.suffix in (".yaml", ".yml"))

    def as_run(self) -> job_run.Asked:
        """Return the options that ``run`` has, too."""
        nowhere = Path(tempfile.gettempdir()) / f"soct-plan-{secrets.token_hex(8)}"
        described = self.is_described
        shared = {each.name: getattr(self, each.name) for each in fields(job_run.Choices)}
        if described:
            shared["slices"] = None
        return job_run.Asked(
            input=nowhere / "input" if described or self.input is None else self.input,
            output=nowhere / "run" if self.output is None else self.output,
            **shared,
        )

    def slices_described(self) -> int | None:
        """Return how many slices ``--slices`` describes: one number is a count, a list is counted."""
        if self.slices is None:
            return None
        return self.slices[0] if len(self.slices) == 1 else len(self.slices)


def tell_asked_plan(asked: AskedPlan, *, as_json: bool) -> int:
    """Print what a run would do, of an acquisition or of the description of one."""
    run = asked.as_run()
    request = job_run.prepare(run, job_run.load(run))
    if not asked.is_described:
        return _tell(request, asked.nodes, "", as_json=as_json)
    from soct.pipeline.planning.described import describe, fingerprint_of_described

    told = describe(asked.input, {"slices": asked.slices_described(), **asked.description})
    described = replace(request, acquisition=told.acquisition, fingerprint=fingerprint_of_described)
    return _tell(described, asked.nodes, str(told.description), as_json=as_json)


def tell_plan(asked: job_run.Asked, *, as_json: bool) -> int:
    """Print what a run would do."""
    return _tell(job_run.prepare(asked, job_run.load(asked)), 1, "", as_json=as_json)


def _tell(request: RunRequest, nodes: int, description: str, *, as_json: bool) -> int:
    from soct.pipeline.planning.run_estimate import estimate_run
    from soct.pipeline.runner import plan

    planned = plan(request)
    estimate = estimate_run(planned, request.resources, nodes)
    if as_json:
        data_json(_document(planned, estimate, description))
        return ExitCode.OK
    if description:
        data(f"described: {description}", "")
    _tell_steps(planned, estimate)
    _tell_why(planned)
    _tell_totals(planned, estimate)
    for notice in planned.notices:
        words(f"note: {notice}")
    for problem in planned.problems:
        words(f"input: {problem.message}: {problem.file}")
        if problem.expected:
            words(f"  expected {problem.expected}, found {problem.found}")
    return ExitCode.OK


def _tell_steps(planned: Plan, estimate: RunEstimate) -> None:
    """Print one line per step: 79 columns, however long its name."""
    if not estimate.steps:
        return
    width = max(len(step.step) for step in estimate.steps)
    head = f"{'step':<{width}} {'units':>10} {'each':>7} {'all':>7} {'memory':>7} {'disk':>7}"
    data(f"{head} {'files':>6}")
    for step in estimate.steps:
        of = f"{step.units} {step.scope}{'s' if step.units > 1 else ''}"
        data(
            f"{step.step:<{width}} {of:>10} {format_duration(step.seconds):>7} "
            f"{format_duration(step.total_seconds):>7} {format_size(step.memory_bytes):>7} "
            f"{format_size(step.disk_bytes) if step.disk_bytes else '-':>7} {step.files:>6}"
        )
    data("")


def _tell_why(planned: Plan) -> None:
    """Say why steps run, unless that is because they never did."""
    by_step: dict[str, Counter[str]] = {}
    for unit in planned.to_compute:
        by_step.setdefault(unit.unit.step, Counter()).update(unit.reasons)
    told = {s: r for s, r in by_step.items() if set(r) != {_NEVER}}
    for step, reasons in told.items():
        why = "; ".join(
            f"{reason} ({times})" if times > 1 else reason
            for reason, times in reasons.most_common(3)
        )
        data(f"{step} runs again: {why}")
    if told:
        data("")


def _tell_totals(planned: Plan, estimate: RunEstimate) -> None:
    cost = planned.cost
    input_ = f" of {format_size(cost.raw_bytes)} of input" if cost.raw_bytes else ""
    data(f"{len(planned.to_compute)} units to compute, {planned.reused} reused{input_}")
    if not estimate.steps:
        return
    for place in estimate.places:
        data(f"{'time':<8}{_time_of(place, estimate)}")
    if compiling := estimate.compiling_seconds:
        data(f"{'':<8}first run: compiling kernels takes some {compiling // 60} minutes more")
    memory = least_memory(cost.largest_unit_bytes)
    data(f"{'memory':<8}at least {format_size(memory)}, more makes more units run at a time")
    files = sum(step.files for step in estimate.steps)
    data(f"{'disk':<8}{format_size(cost.disk_bytes)} in {files} files, beside the input")
    data(f"Times are for {estimate.basis}; they may be off by a factor of {estimate.spread:g}.")


def _time_of(place: Any, estimate: RunEstimate) -> str:
    if place.seconds is None:
        return f"on {place.name}: too little memory for the largest unit"
    low, high = place.seconds / estimate.spread, place.seconds * estimate.spread
    return (
        f"{format_duration(place.seconds)} on {place.name} "
        f"({format_duration(low)} to {format_duration(high)})"
    )


def _document(planned: Plan, estimate: RunEstimate, description: str) -> dict[str, Any]:
    cost = planned.cost
    return {
        "description": description or None,
        "units": [
            {"unit": str(u.unit), "action": u.action.value, "reasons": list(u.reasons)}
            for u in planned.units.values()
        ],
        "steps": [{**asdict(step), "total_seconds": step.total_seconds} for step in estimate.steps],
        "times": [asdict(place) for place in estimate.places],
        "times_for": estimate.basis,
        "compiling_seconds": estimate.compiling_seconds,
        "times_off_by": estimate.spread,
        "raw_bytes": cost.raw_bytes,
        "disk_bytes": cost.disk_bytes,
        "files": sum(step.files for step in estimate.steps),
        "largest_unit_bytes": cost.largest_unit_bytes,
        "least_memory_bytes": least_memory(cost.largest_unit_bytes),
        "problems": [
            {
                "kind": p.kind,
                "message": p.message,
                "file": p.file,
                "slice": p.slice_id,
                "row": p.row,
                "col": p.col,
                "expected": p.expected,
                "found": p.found,
            }
            for p in planned.problems
        ],
    }
