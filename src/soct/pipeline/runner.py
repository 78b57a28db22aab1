"""One run: plan, compute what is missing, publish, and end in a way that the same command continues."""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

from soct.pipeline.computing import compute
from soct.pipeline.events import Listener, Notice, RunEnded, RunPlanned, ignore
from soct.pipeline.folder.accounts import document_of, ended, outcome_of, write_tables
from soct.pipeline.folder.findings import write_findings
from soct.pipeline.folder.outputs import sweep_partial_folders
from soct.pipeline.folder.run_folder import (
    LOCK_NAME,
    check_place,
    check_same_input,
    read_run,
    telling_of_writes,
    write_run,
)
from soct.pipeline.planning.plan import Plan
from soct.pipeline.planning.run_estimate import expected_seconds
from soct.pipeline.preparation import Prepared, prepare
from soct.pipeline.request import RunOutcome, RunRequest
from soct.pipeline.resources import check_disk
from soct.pipeline.stopping import StopControl
from soct.pipeline.together.joined_run import run_joined
from soct.pipeline.together.lock import hold, hold_together
from soct.pipeline.together.members import sweep_processes
from soct.pipeline.workers.pools import open_pool


def plan(request: RunRequest) -> Plan:
    """Return what `run` would do, and why; reads only, and works while another run holds the folder.

    Raises
    ------
    InputError, ConfigurationError, NewerStateError, UsageError
        As `run` does.
    """
    check_place(request.folder, request.input, tuple(request.steps))
    prepared = prepare(request)
    before = read_run(request.folder)
    if before is not None:
        check_same_input(request.folder, request.input, before, prepared.slice_digests)
    return prepared.plan()


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
    with (
        StopControl(request.resources.max_runtime_s, again=request.join) as stop,
        ExitStack() as stack,
    ):
        # A folder that is in use is refused before the input is looked through, and a new one is made only
        # when the input turned out to be good.
        if request.folder.exists():
            me = _hold(request, stack)
            prepared = prepare(request)
        else:
            prepared = prepare(request)
            with telling_of_writes(request.folder):
                request.folder.mkdir(parents=True, exist_ok=True)
            me = _hold(request, stack)
            if not request.join:
                stack.push(partial(_unmake, request.folder))
        if request.join:
            return run_joined(prepared, stop, listener, started)
        return _run_alone(prepared, me, stop, listener, started)


def _hold(request: RunRequest, stack: ExitStack) -> str:
    """Hold the folder as the request wants it; return the name of this process's progress."""
    if not request.join:
        return stack.enter_context(hold(request.folder, request.command)).id
    stack.enter_context(hold_together(request.folder))
    return ""


def _unmake(folder: Path, kind: type[BaseException] | None, *rest: object) -> None:
    """Remove a new folder, while it is still held, where the run did not begin: only the lock is in it."""
    if kind is not None and [path.name for path in folder.iterdir()] == [LOCK_NAME]:
        with suppress(OSError):
            (folder / LOCK_NAME).unlink()
            folder.rmdir()


def _run_alone(
    prepared: Prepared, me: str, stop: StopControl, listener: Listener, started: float
) -> RunOutcome:
    request = prepared.request
    before = read_run(request.folder)
    if before is not None:
        check_same_input(request.folder, request.input, before, prepared.slice_digests)
    planned = prepared.plan()
    check_disk(request.folder, planned.cost.disk_bytes)
    # From here on the folder is written to.
    sweep_processes(request.folder)
    sweep_partial_folders(request.folder)
    with open_pool(prepared, planned, stop, listener) as pool:
        document = document_of(prepared, planned, pool.budget, before, pool.where)
        write_run(request.folder, document)
        write_findings(request.folder, prepared.acquisition)
        listener(
            RunPlanned(
                planned.counts,
                planned.cost.raw_bytes,
                pool.budget.workers,
                expected_seconds(planned, pool.budget) if not pool.where else None,
            )
        )
        for text in planned.notices:
            listener(Notice("warning", text))
        scheduler = compute(prepared, planned, pool, stop, listener, process=me)
    # Again: an orphan of a killed run may have lived on for a moment.
    sweep_partial_folders(request.folder)
    limits_changed = before is not None and before.assess_digest != request.assess_digest
    status = write_tables(prepared, planned, limits_changed=limits_changed)
    outcome = outcome_of(planned, scheduler, stop, status, time.monotonic() - started)
    write_run(request.folder, document.ended_as(ended(document.history[-1], outcome)))
    listener(
        RunEnded(
            outcome.state, outcome.reason, len(outcome.computed), outcome.reused, outcome.seconds
        )
    )
    return outcome
