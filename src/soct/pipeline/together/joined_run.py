"""One process of several that bring a run folder up to date together.

Every process plans by itself, then takes units that nobody else has. What only one may do is done under a
claim of its own: agreeing on a session, ``run.json``, and deciding who writes tables and report when
everything is over. That one is the first to find it so, or the last to stop; the others leave at once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from soct.compute.threads import available_cpus
from soct.pipeline.computing import compute
from soct.pipeline.events import Listener, Notice, RunEnded, RunPlanned
from soct.pipeline.folder.accounts import document_of, ended, outcome_of, write_tables
from soct.pipeline.folder.findings import write_findings
from soct.pipeline.folder.ledger import FILE_NAME
from soct.pipeline.folder.outputs import sweep_partial_folders
from soct.pipeline.folder.run_folder import Invocation, check_same_input, read_run, write_run
from soct.pipeline.folder.unit_metrics import worst
from soct.pipeline.planning.plan import Action, Plan
from soct.pipeline.preparation import Prepared
from soct.pipeline.request import Resources, RunOutcome
from soct.pipeline.resources import Budget, check_disk, share_out
from soct.pipeline.scheduler import Scheduler
from soct.pipeline.stopping import StopControl
from soct.pipeline.together.claims import Claims
from soct.pipeline.together.cooperation import Together
from soct.pipeline.together.holder import Holder, myself
from soct.pipeline.together.members import Membership, sweep_processes
from soct.pipeline.together.session import (
    Session,
    at_work,
    joined_by,
    left_by,
    new_session,
    read_session,
    refuse,
    wanted_by,
    write_session,
)
from soct.pipeline.workers.pools import local_pool

LEAVING_S = 5.0
"""How long a process that was asked to stop waits for its turn to say how it ended."""


@dataclass(frozen=True)
class _Part:
    """What this process brings along, and what it agreed to."""

    prepared: Prepared
    planned: Plan
    budget: Budget
    session: Session
    invocation: Invocation


def run_joined(
    prepared: Prepared, stop: StopControl, listener: Listener, started: float
) -> RunOutcome:
    """Work on a run folder whose lock is held together with others.

    Raises
    ------
    LockedError
        Others are at work, with other settings.
    """
    request = prepared.request
    with Membership(request.folder, myself(request.command)) as members:
        claims = Claims(members)
        try:
            outcome = _work(prepared, claims, stop, listener, started)
        finally:
            claims.release_all()
    listener(
        RunEnded(
            outcome.state, outcome.reason, len(outcome.computed), outcome.reused, outcome.seconds
        )
    )
    return outcome


def _work(
    prepared: Prepared, claims: Claims, stop: StopControl, listener: Listener, started: float
) -> RunOutcome:
    request, members = prepared.request, claims.members
    seen = read_session(request.folder)
    planned = prepared.plan()
    budget = share_out(
        request.resources, planned.cost.largest_unit_bytes, max(1, len(planned.to_compute))
    )
    check_disk(request.folder, planned.cost.disk_bytes)
    with claims.alone(stop.is_asked) as got:
        if not got:
            return _stopped_early(planned, stop, started)
        session = read_session(request.folder)
        if session is not None and session != seen and session.closed_by:
            # All was finished while this process planned.
            planned = prepared.plan()
        part = _join(prepared, planned, budget, claims)
    listener(RunPlanned(planned.counts, planned.cost.raw_bytes, budget.workers))
    for text in (*planned.notices, *_company(members, request.resources)):
        listener(Notice("warning", text))
    others = Together(claims, prepared.store, planned, part.session.id, part.session.joined - 1)
    pool = local_pool(request.resources, budget)
    scheduler = compute(prepared, planned, pool, stop, listener, others, members.me.origin)
    return _leave(part, claims, scheduler, stop, started)


def _stopped_early(planned: Plan, stop: StopControl, started: float) -> RunOutcome:
    """Return how a process ended that was asked to stop before it could join."""
    return RunOutcome(
        state="stopped",
        exit_code=stop.exit_code,
        reason=stop.reason or "",
        computed=(),
        reused=planned.reused,
        failures=(),
        blocked=(),
        pending=len(planned.to_compute),
        seconds=time.monotonic() - started,
        peak_memory_bytes=0,
        worst_status="info",
        reports=False,
    )


def _company(members: Membership, resources: Resources) -> list[str]:
    here = sum(other.is_here for other in members.others())
    if not here or resources.memory_bytes is not None:
        return []
    count = "another process works" if here == 1 else f"{here} other processes work"
    share = "--memory" if resources.cpus < available_cpus() else "--cpus and --memory"
    return [f"{count} on this run on this machine: give each its share with {share}"]


def _join(prepared: Prepared, planned: Plan, budget: Budget, claims: Claims) -> _Part:
    """Agree with those who are at work, or begin a session."""
    request, folder = prepared.request, prepared.request.folder
    claims.bury_dead()
    me, others = claims.members.me, claims.members.others()
    before, session = read_run(folder), read_session(folder)
    if before is not None:
        check_same_input(folder, request.input, before, prepared.slice_digests)
    wanted = wanted_by(prepared, planned)
    working = at_work(session, others)
    if working and session is not None:
        if session.wanted != wanted:
            refuse(request, before, working)
    elif session is not None and _is_finished(session, wanted, prepared, planned, others):
        # Whoever looks on meanwhile sees a run that is complete; that this process came is noted at its end.
        entry = document_of(prepared, planned, budget, before).history[-1]
        return _Part(prepared, planned, budget, session, entry)
    else:
        if session is None or not _is_closing(session, others):
            sweep_processes(folder, keep=frozenset(p.id for p in (me, *others)))
            sweep_partial_folders(folder)
        session = new_session(wanted, limits_changed=_limits_changed(prepared))
        write_findings(folder, prepared.acquisition)
    session = joined_by(session, me)
    write_session(folder, session)
    document = document_of(prepared, planned, budget, before)
    write_run(folder, document)
    return _Part(prepared, planned, budget, session, document.history[-1])


def _is_finished(
    session: Session,
    wanted: str,
    prepared: Prepared,
    planned: Plan,
    others: tuple[Holder, ...],
) -> bool:
    """Whether there is nothing to do: no unit, and the report is there or is being written."""
    from soct.report.rendering import report_name

    if session.wanted != wanted or not session.closed_by or planned.to_compute:
        return False
    folder, request = prepared.request.folder, prepared.request
    written = (folder / FILE_NAME, folder / report_name(request.subject))
    if _is_closing(session, others):
        return True
    return not _limits_changed(prepared) and all(path.exists() for path in written)


def _is_closing(session: Session, others: tuple[Holder, ...]) -> bool:
    """Whether the process that closed the session still writes tables or report."""
    return any(other.id == session.closed_by for other in others)


def _limits_changed(prepared: Prepared) -> bool:
    before = read_run(prepared.request.folder)
    return before is not None and before.assess_digest != prepared.request.assess_digest


def _leave(
    part: _Part, claims: Claims, scheduler: Scheduler, stop: StopControl, started: float
) -> RunOutcome:
    """Say how this process ended; write the tables, too, where nobody else will."""
    prepared, planned = part.prepared, part.planned
    status = worst(scheduler.tally.statuses)
    outcome = outcome_of(planned, scheduler, stop, status, time.monotonic() - started)
    patience = time.monotonic() + LEAVING_S

    def give_up() -> bool:
        return stop.is_asked() and time.monotonic() > patience

    with claims.alone(give_up) as got:
        # Who does only a part of the run cannot know whether it is over for the others, too.
        whole = all(u.action in (Action.COMPUTE, Action.REUSE) for u in planned.units.values())
        closes = got and _closes(part, claims, is_over=whole and not outcome.pending)
        outcome = replace(outcome, reports=closes)
        if got and not closes:
            _note_end(part, outcome)
    if closes:
        status = write_tables(prepared, planned, limits_changed=part.session.limits_changed)
        outcome = replace(outcome, worst_status=status)
        with claims.alone(give_up) as got:
            if got:
                _note_end(part, outcome)
                _declare_over(part)
        _see_off(part, claims, stop)
        if prepared.request.write_report is not None:
            prepared.request.write_report()
    return outcome


def _note_end(part: _Part, outcome: RunOutcome) -> None:
    """Complete this process's entry of the history."""
    folder = part.prepared.request.folder
    document = read_run(folder)
    if document is not None:
        entry = ended(part.invocation, outcome)
        write_run(folder, document.with_ended(part.invocation, entry))


def _see_off(part: _Part, claims: Claims, stop: StopControl) -> None:
    """Let the others say how they ended, so that the report can tell it."""
    until = time.monotonic() + LEAVING_S
    while time.monotonic() < until and not stop.is_asked():
        session = read_session(part.prepared.request.folder)
        claims.bury_dead()
        others = claims.members.others()
        if session is None or not any(other.origin in session.members for other in others):
            return
        time.sleep(0.1)


def _declare_over(part: _Part) -> None:
    folder = part.prepared.request.folder
    session = read_session(folder)
    if session is not None and session.id == part.session.id:
        write_session(folder, replace(session, is_over=True))


def _closes(part: _Part, claims: Claims, *, is_over: bool) -> bool:
    """Whether it falls to this process to close the session."""
    folder = part.prepared.request.folder
    session = read_session(folder)
    if session is None or session.id != part.session.id or session.closed_by:
        return False
    claims.bury_dead()
    session = left_by(session, claims.members.me)
    working = at_work(session, claims.members.others())
    if not working:
        # Again: an orphan of a killed process may have lived on for a moment.
        sweep_partial_folders(folder)
    closes = is_over or not working
    if closes:
        session = replace(session, closed_by=claims.members.me.id)
    write_session(folder, session)
    return closes
