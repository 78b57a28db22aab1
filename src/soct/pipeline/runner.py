"""One run: plan, compute what is missing, publish, and end in a way that the same command continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from soct import __version__
from soct.compute.threads import worker_environment
from soct.errors import ExitCode, InputError
from soct.pipeline.desk import Desk, Surroundings
from soct.pipeline.events import Listener, Notice, RunEnded, RunPlanned, ignore
from soct.pipeline.executors import LocalExecutor
from soct.pipeline.findings import write_findings
from soct.pipeline.graph import Graph, build_graph, in_reading_order, slices_left_out
from soct.pipeline.keys import KeyMaker, digest_of
from soct.pipeline.ledger import write_ledger
from soct.pipeline.lock import hold, myself
from soct.pipeline.outputs import hash_stream, sweep_partial_folders
from soct.pipeline.plan import Plan, make_plan
from soct.pipeline.records import Record, RecordStore
from soct.pipeline.request import Fingerprint, RunOutcome, RunRequest, Status
from soct.pipeline.resources import Budget, check_disk, share_out
from soct.pipeline.run_folder import (
    Invocation,
    RunDocument,
    check_place,
    check_same_input,
    read_run,
    telling_of_writes,
    write_run,
)
from soct.pipeline.scheduler import Scheduler
from soct.pipeline.stopping import StopControl
from soct.pipeline.unit_metrics import overall_status, worst, write_metrics
from soct.steps.declaration import Decision, Params, Step

if TYPE_CHECKING:
    from pathlib import Path

    from soct.formats.acquisition import Acquisition

LEDGER_STEP = "generate_slice_config"


@dataclass(frozen=True)
class _Prepared:
    """A request with its input opened and its units known."""

    request: RunRequest
    acquisition: Acquisition
    fingerprint: Fingerprint
    raw: Mapping[int, Mapping[str, str]]
    graph: Graph
    keys: KeyMaker
    store: RecordStore

    @property
    def slice_digests(self) -> dict[str, str]:
        return {str(slice_id): digest_of(dict(files)) for slice_id, files in self.raw.items()}


def plan(request: RunRequest) -> Plan:
    """Return what `run` would do, and why; reads only, and works while another run holds the folder.

    Raises
    ------
    InputError, ConfigurationError, NewerStateError, UsageError
        As `run` does.
    """
    check_place(request.folder, request.input, tuple(request.steps))
    prepared = _prepare(request)
    before = read_run(request.folder)
    if before is not None:
        check_same_input(request.folder, request.input, before, prepared.slice_digests)
    return _plan(prepared)


def run(request: RunRequest, listener: Listener = ignore) -> RunOutcome:
    """Bring a run folder up to date.

    Parameters
    ----------
    request : RunRequest
        Input, run folder, parameters, selection and resources.
    listener : callable
        Called with every `soct.pipeline.events` event, in order, from this thread.

    Returns
    -------
    RunOutcome
        Also when units failed or the run was stopped: the exit code is in it.

    Raises
    ------
    InputError
        The input cannot be read, the run folder lies inside it, or belongs to another input.
    ConfigurationError
        A step that is needed is switched off.
    LockedError
        Another process works in the run folder.
    ResourceError
        There is not enough disk or memory; nothing was started.
    NewerStateError
        The folder was written by a newer soct; nothing was touched.
    UsageError
        The selection names a step, slice or unit that is not there.
    """
    started = time.monotonic()
    check_place(request.folder, request.input, tuple(request.steps))
    with StopControl(request.resources.max_runtime_s) as stop, ExitStack() as stack:
        # A folder that is in use is refused before the input is looked through, and a new one is made only
        # when the input turned out to be good.
        if request.folder.exists():
            stack.enter_context(hold(request.folder, request.command))
            prepared = _prepare(request)
        else:
            prepared = _prepare(request)
            with telling_of_writes(request.folder):
                request.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(request.folder, request.command))
        return _run_locked(prepared, stop, listener, started)


def _prepare(request: RunRequest) -> _Prepared:
    steps = in_reading_order(request.steps)
    acquisition, fingerprint = request.acquisition, request.fingerprint
    if acquisition is None or fingerprint is None:
        from soct.formats.acquisition import fingerprint_slice, open_acquisition

        acquisition = acquisition or open_acquisition(request.input)
        fingerprint = fingerprint or fingerprint_slice
    left_out = slices_left_out(steps, request.params, acquisition)
    graph = build_graph(steps, request.params, acquisition.slices, request.selection, left_out)
    if left_out and not graph.slices:
        slice_id, why = next(iter(left_out.items()))
        raise InputError(
            "No slice of the input can be used",
            file=request.input,
            found=f"{len(left_out)} slices; slice {slice_id}: {why}",
        )
    raw = {s: fingerprint(acquisition.slices[s]) for s in graph.slices}
    tables = {name: _content_digest(path) for name, path in acquisition.tables.items()}
    for name, step in graph.steps.items():
        if step.check is not None:
            step.check(request.params[name], request.params)
    keys = KeyMaker(
        graph,
        request.params,
        request.subject,
        raw,
        session=acquisition.session,
        tables=tables,
        files={name: _files(step, request.params[name]) for name, step in graph.steps.items()},
    )
    store = RecordStore(request.folder)
    return _Prepared(request, acquisition, fingerprint, raw, graph, keys, store)


def _files(step: Step[Any], params: Params) -> dict[str, str]:
    """Return the digests of the files outside of the run that a step's parameters name."""
    if step.files is None:
        return {}
    return {path.name: _content_digest(path) for path in step.files(params)}


def _content_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hash_stream(stream)


def _plan(prepared: _Prepared) -> Plan:
    return make_plan(
        prepared.graph,
        prepared.request.params,
        prepared.keys,
        prepared.store,
        prepared.acquisition,
    )


def _run_locked(
    prepared: _Prepared, stop: StopControl, listener: Listener, started: float
) -> RunOutcome:
    request = prepared.request
    before = read_run(request.folder)
    if before is not None:
        check_same_input(request.folder, request.input, before, prepared.slice_digests)
    planned = _plan(prepared)
    budget = share_out(
        request.resources, planned.cost.largest_unit_bytes, max(1, len(planned.to_compute))
    )
    check_disk(request.folder, planned.cost.disk_bytes)
    # From here on the folder is written to.
    sweep_partial_folders(request.folder)
    document = _document(prepared, planned, budget, before)
    write_run(request.folder, document)
    write_findings(request.folder, prepared.acquisition)
    listener(RunPlanned(planned.counts, planned.cost.raw_bytes, budget.workers))
    for text in planned.notices:
        listener(Notice("warning", text))
    scheduler = _compute(prepared, planned, budget, stop, listener)
    # Again: an orphan of a killed run may have lived on for a moment.
    sweep_partial_folders(request.folder)
    status = _finish_tables(prepared, planned, before, scheduler)
    outcome = _outcome(planned, scheduler, stop, status, time.monotonic() - started)
    write_run(request.folder, document.ended_as(_ended(document.history[-1], outcome)))
    listener(
        RunEnded(
            outcome.state, outcome.reason, len(outcome.computed), outcome.reused, outcome.seconds
        )
    )
    return outcome


def _compute(
    prepared: _Prepared, planned: Plan, budget: Budget, stop: StopControl, listener: Listener
) -> Scheduler:
    request = prepared.request
    desk = Desk(
        request.folder,
        planned,
        prepared.keys,
        prepared.store,
        Surroundings(
            request.subject,
            request.params,
            prepared.acquisition,
            prepared.raw,
            prepared.fingerprint,
            request.resources.gpu,
            request.assess,
        ),
    )

    def make_executor(workers: int, on_message: Callable[[Any], None]) -> Executor:
        if request.resources.executor is not None:
            return request.resources.executor(workers)
        return LocalExecutor(
            workers,
            worker_environment(budget.cpus),
            request.resources.preload,
            on_message,
        )

    scheduler = Scheduler(planned, desk, budget, make_executor, stop, listener)
    scheduler.run()
    return scheduler


def _finish_tables(
    prepared: _Prepared, planned: Plan, before: RunDocument | None, scheduler: Scheduler
) -> Status:
    """Bring the ledger and, after a change of limits, all metric files up to date.

    Returns
    -------
    str
        The worst status over all units.
    """
    request = prepared.request
    limits_changed = before is not None and before.assess_digest != request.assess_digest
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


def _records(prepared: _Prepared, planned: Plan) -> Iterator[Record]:
    for unit in planned.units:
        record = prepared.store.read(unit)
        if isinstance(record, Record):
            yield record


def _outcome(
    planned: Plan, scheduler: Scheduler, stop: StopControl, status: Status, seconds: float
) -> RunOutcome:
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
        worst_status=status,
    )


def _document(
    prepared: _Prepared, planned: Plan, budget: Budget, before: RunDocument | None
) -> RunDocument:
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


def _ended(invocation: Invocation, outcome: RunOutcome) -> Invocation:
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
