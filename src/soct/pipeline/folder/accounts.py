"""What a run says about itself: ``run.json``, the ledger, and how it ended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime

from soct import __version__
from soct.errors import ExitCode
from soct.pipeline.folder.ledger import write_ledger
from soct.pipeline.folder.records import Record
from soct.pipeline.folder.run_folder import Invocation, RunDocument
from soct.pipeline.folder.unit_metrics import overall_status, worst, write_metrics
from soct.pipeline.planning.plan import Plan
from soct.pipeline.preparation import Prepared
from soct.pipeline.request import RunOutcome, Status
from soct.pipeline.resources import Budget
from soct.pipeline.scheduler import Scheduler
from soct.pipeline.stopping import StopControl
from soct.pipeline.together.holder import myself
from soct.steps.declaration import Decision

LEDGER_STEP = "generate_slice_config"


def write_tables(prepared: Prepared, planned: Plan, *, limits_changed: bool) -> Status:
    """Bring the ledger and, after a change of limits, all metric files up to date.

    Returns
    -------
    str
        The worst status over all units.
    """
    request = prepared.request
    decisions: list[tuple[str, Decision]] = []
    statuses: set[Status] = set()
    start = None
    for record in _records(prepared, planned):
        decisions += [(record.unit.step, decision) for decision in record.result.decisions]
        statuses.add(overall_status(record.unit.step, record.result.metrics, request.assess))
        if record.unit.step == LEDGER_STEP:
            start = next((o.path for o in record.outputs if o.path.endswith(".csv")), None)
        if limits_changed:
            write_metrics(request.folder, record, request.assess)
    write_ledger(
        request.folder,
        request.folder / start if start else None,
        prepared.graph.slices,
        decisions,
    )
    return worst(statuses)


def _records(prepared: Prepared, planned: Plan) -> Iterator[Record]:
    for unit in planned.units:
        record = prepared.store.read(unit)
        if isinstance(record, Record):
            yield record


def outcome_of(
    planned: Plan, scheduler: Scheduler, stop: StopControl, status: Status, seconds: float
) -> RunOutcome:
    """Say how a run ended."""
    tally = scheduler.tally
    pending = scheduler.pending
    failed = len(tally.failures)
    if tally.disk_full:
        state, code, reason = "failed", ExitCode.RESOURCES, "the disk is full"
    elif pending and stop.reason is not None:
        state, code, reason = "stopped", stop.exit_code, stop.reason
    elif failed:
        state, code = "failed", ExitCode.STEP_FAILED
        reason = f"{failed} unit{'s' if failed > 1 else ''} failed"
    else:
        state, code, reason = "complete", ExitCode.OK, "complete"
    return RunOutcome(
        state=state,  # type: ignore[arg-type]
        exit_code=code,
        reason=reason,
        computed=tuple(tally.computed),
        reused=planned.reused,
        failures=tuple(tally.failures),
        blocked=tuple(tally.blocked),
        pending=pending,
        seconds=seconds,
        peak_memory_bytes=tally.peak_memory_bytes,
        elsewhere=len(tally.elsewhere),
        worst_status=status,
    )


def document_of(
    prepared: Prepared,
    planned: Plan,
    budget: Budget,
    before: RunDocument | None,
    where: str = "",
) -> RunDocument:
    """Return what ``run.json`` will say while this run works."""
    request, graph = prepared.request, prepared.graph
    me = myself(request.command)
    now = Invocation(
        started=me.started,
        command=request.command,
        host=me.host,
        user=me.user,
        pid=me.pid,
        slurm_job=me.slurm_job,
        soct_version=__version__,
        cpus=budget.cpus,
        workers=budget.workers,
        memory_bytes=budget.memory_bytes,
        where=where,
    )
    return RunDocument(
        input=str(request.input.resolve()),
        subject=request.subject,
        profile=dict(request.profile),
        params={name: request.params[name].model_dump(mode="json") for name in request.steps},
        steps={name: step.version for name, step in graph.steps.items()},
        summaries={name: step.summary for name, step in graph.steps.items()},
        scopes={name: step.scope.value for name, step in graph.steps.items()},
        inputs={name: list(sources) for name, sources in graph.inputs.items()},
        units={name: [unit.name for unit in units] for name, units in graph.units.items()},
        slices=prepared.slice_digests,
        assess_digest=request.assess_digest,
        problems=tuple(asdict(problem) for problem in planned.problems),
        raw_bytes=planned.cost.raw_bytes,
        history=(*(before.history if before else ()), now),
    )


def ended(invocation: Invocation, outcome: RunOutcome) -> Invocation:
    """Return a run's entry of the history with its end."""
    return replace(
        invocation,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        state=outcome.state,
        reason=outcome.reason,
        exit_code=int(outcome.exit_code),
        computed=len(outcome.computed),
        reused=outcome.reused,
        failed=len(outcome.failures),
        seconds=round(outcome.seconds, 3),
        peak_memory_bytes=outcome.peak_memory_bytes,
    )
