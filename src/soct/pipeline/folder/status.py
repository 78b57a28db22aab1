"""Look at a run folder, at any moment and without locking it: what is done, what runs, what failed and why."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from soct.errors import InputError, UsageError
from soct.pipeline.events import Failure
from soct.pipeline.folder.continuing import command_for_rest
from soct.pipeline.folder.outputs import find_damage
from soct.pipeline.folder.progress import Progress, read_progress
from soct.pipeline.folder.records import FailureRecord, Record, RecordStore, Unusable
from soct.pipeline.folder.run_folder import Invocation, RunDocument, read_run
from soct.pipeline.graph import sources_of, step_named, unit_named
from soct.pipeline.together.holder import Holder
from soct.pipeline.together.lock import hold, read_holder
from soct.pipeline.together.members import live_members
from soct.pipeline.together.session import read_session
from soct.steps.declaration import Scope, Unit

STALE_S = 60.0
"""A run on another machine that has not written its progress for so long is taken for dead."""


class UnitState(StrEnum):
    """What became of a unit so far."""

    DONE = "done"
    RUNNING = "running"
    FAILED = "failed"
    BLOCKED = "blocked"
    PENDING = "pending"


@dataclass(frozen=True)
class UnitStatus:
    """One unit of a run folder."""

    unit: Unit
    state: UnitState
    record: Record | None = None
    failure: FailureRecord | None = None
    fraction: float | None = None
    """How far a running unit is."""
    note: str = ""
    """Why it waits, or why its record is not trusted."""
    is_outdated: bool = False
    """Done, and a unit that it reads was computed anew since, by a run of a part that it was not in."""


@dataclass(frozen=True)
class StepStatus:
    """How many units of a step are in which state."""

    step: str
    units: int
    done: int
    running: int
    failed: int
    blocked: int
    seconds: float
    """Sum over its finished units."""
    peak_memory_bytes: int
    outdated: int = 0
    """How many of those that are done must be computed again."""

    @property
    def left(self) -> int:
        """How many units a run would compute."""
        return self.units - self.done + self.outdated


@dataclass(frozen=True)
class ProcessStatus:
    """One of the processes that work in a run folder, and what it does now."""

    holder: Holder
    progress: Progress | None
    """None before it has started a unit."""

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        progress = self.progress
        return {
            **vars(self.holder),
            "computed": progress.computed if progress else 0,
            "resident_bytes": progress.resident_bytes if progress else 0,
            "running": [vars(unit) for unit in progress.running] if progress else [],
        }


@dataclass(frozen=True)
class RunStatus:
    """A consistent picture of a run folder.

    Attributes
    ----------
    state : str
        ``running``, ``complete``, ``partial`` where the part that was asked for is complete and units of the run are
        left, ``failed``, ``stopped``, or ``killed`` where a run ended without saying so.
    """

    folder: Path
    state: str
    document: RunDocument
    steps: tuple[StepStatus, ...]
    units: tuple[UnitStatus, ...]
    """In pipeline order."""
    processes: tuple[ProcessStatus, ...] = ()
    """Who works in the folder now."""

    @property
    def holder(self) -> Holder | None:
        """The first of those who work in the folder now."""
        return self.processes[0].holder if self.processes else None

    @property
    def resident_bytes(self) -> int:
        """Memory that the run holds now, over all machines."""
        return sum(p.progress.resident_bytes for p in self.processes if p.progress is not None)

    @property
    def last(self) -> Invocation | None:
        """The last invocation."""
        return self.document.history[-1] if self.document.history else None

    @property
    def left(self) -> dict[str, int]:
        """How many units of which step have no result yet, or an outdated one, in pipeline order."""
        return {step.step: step.left for step in self.steps if step.left}

    @property
    def command_for_rest(self) -> str | None:
        """What computes the rest, where only a part was asked for."""
        return command_for_rest(self.document, self.folder) if self.state == "partial" else None

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Why units failed, in pipeline order."""
        return tuple(u.failure.failure for u in self.units if u.failure is not None)

    def as_document(self) -> dict[str, Any]:
        """Return the picture as JSON-able values, for ``soct status --json``."""
        return {
            "folder": str(self.folder),
            "state": self.state,
            "subject": self.document.subject,
            "input": self.document.input,
            "holder": None if self.holder is None else vars(self.holder),
            "resident_bytes": self.resident_bytes,
            "processes": [process.as_document() for process in self.processes],
            "last": None if self.last is None else vars(self.last),
            "steps": [vars(step) for step in self.steps],
            "left": self.left,
            "continue": self.command_for_rest,
            "running": [
                {"unit": str(u.unit), "fraction": u.fraction}
                for u in self.units
                if u.state is UnitState.RUNNING
            ],
            "failures": [{**vars(failure), "unit": str(failure.unit)} for failure in self.failures],
        }


def read_status(folder: Path) -> RunStatus:
    """Return a picture of a run folder; never locks, never writes.

    Raises
    ------
    InputError
        The folder is no run folder.
    NewerStateError
        A newer soct wrote it.
    """
    document = _require_run(folder)
    processes = _processes(folder)
    units = tuple(_unit_statuses(folder, document, processes))
    return RunStatus(
        folder=folder,
        state=_run_state(document, processes, units),
        document=document,
        steps=tuple(_step_status(step, units) for step in document.units),
        units=units,
        processes=processes,
    )


def why(folder: Path, text: str) -> tuple[tuple[Unit, tuple[str, ...]], ...]:
    """Return why units ran the last time, or why they did not.

    Parameters
    ----------
    folder : Path
        The run folder.
    text : str
        ``STEP`` or ``STEP:UNIT``.

    Raises
    ------
    UsageError
        There is no such step or unit in this run.
    """
    document = _require_run(folder)
    step, _, name = text.partition(":")
    step = step_named(step, document.units)
    wanted = unit_named(step, name).name if name else None
    if wanted is not None and wanted not in document.units[step]:
        raise UsageError(f"{step} has no unit {name!r} in this run")
    statuses = _unit_statuses(folder, document, _processes(folder), only=step)
    return tuple((s.unit, _reasons(s)) for s in statuses if wanted in (None, s.unit.name))


@dataclass(frozen=True)
class Damage:
    """A unit whose outputs are not as they were published."""

    unit: Unit
    reason: str


def verify(folder: Path, *, forget: bool = False) -> tuple[Damage, ...]:
    """Read every published output and compare it with its recorded checksum.

    Parameters
    ----------
    folder : Path
        The run folder.
    forget : bool
        True: remove the records of damaged units, so that the next run computes them again.

    Raises
    ------
    LockedError
        With `forget`, when another process works in the folder.
    """
    document = _require_run(folder)
    store = RecordStore(folder)
    found = tuple(
        Damage(unit, reason)
        for unit in _units(document)
        if (reason := _damage(store, unit)) is not None
    )
    if forget and found:
        with hold(folder, "soct verify"):
            for damage in found:
                store.forget(damage.unit)
    return found


def _damage(store: RecordStore, unit: Unit) -> str | None:
    record = store.read(unit)
    if isinstance(record, Unusable):
        return record.reason
    if record is None:
        return None
    from soct.pipeline.folder.cleaning import read_cleaned

    cleaned = read_cleaned(store.run_folder)
    there = tuple(
        output
        for output in record.outputs
        if output.path not in cleaned or os.path.lexists(store.run_folder / output.path)
    )
    return find_damage(store.run_folder, there, deep=True)


def _require_run(folder: Path) -> RunDocument:
    document = read_run(folder)
    if document is None:
        raise InputError(
            "This is not a run folder",
            file=folder,
            expected="a folder with run.json, as `soct run` makes it",
        )
    return document


def _processes(folder: Path) -> tuple[ProcessStatus, ...]:
    """Return who works in the folder now: one alone, or several together."""
    holder = _live_holder(folder)
    holders = _at_work(folder) if holder is None else (holder,)
    return tuple(ProcessStatus(h, read_progress(folder, h.origin)) for h in holders)


def _at_work(folder: Path) -> tuple[Holder, ...]:
    """Return who works together; when all is over, only the one that writes the tables still works."""
    members, session = live_members(folder), read_session(folder)
    if session is None or not session.closed_by:
        return members
    if session.is_over:
        return ()
    return tuple(member for member in members if member.id == session.closed_by)


def _live_holder(folder: Path) -> Holder | None:
    holder = read_holder(folder)
    if holder is None or not holder.is_alive:
        return None
    if not holder.is_here:
        progress = read_progress(folder, holder.origin)
        if progress is not None and time.time() - progress.written > STALE_S:
            return None
    return holder


def _run_state(
    document: RunDocument, processes: tuple[ProcessStatus, ...], units: tuple[UnitStatus, ...]
) -> str:
    if processes:
        return "running"
    last = document.history[-1].state if document.history else "stopped"
    if last == "complete" and any(
        unit.state is not UnitState.DONE or unit.is_outdated for unit in units
    ):
        return "partial"
    return "killed" if last == "running" else last


def _units(document: RunDocument) -> Iterator[Unit]:
    for step, names in document.units.items():
        for name in names:
            yield unit_named(step, name)


def _unit_statuses(
    folder: Path,
    document: RunDocument,
    processes: tuple[ProcessStatus, ...],
    only: str | None = None,
) -> Iterator[UnitStatus]:
    store = RecordStore(folder)
    running = {
        (unit.step, unit.unit): unit.fraction
        for process in processes
        for unit in (process.progress.running if process.progress else ())
    }
    units = {step: [unit_named(step, n) for n in names] for step, names in document.units.items()}
    stopped: set[Unit] = set()
    current: dict[str, str | None] = {}
    for step, own in units.items():
        for unit in own:
            status = _unit_status(store, unit, running.get((step, unit.name)))
            if status.record is not None:
                outdated = _is_outdated(status.record, current)
                current[str(unit)] = None if outdated else status.record.key.digest
                status = replace(status, is_outdated=outdated)
            cause = _first_stopped(unit, document, units, stopped)
            if status.state is UnitState.PENDING and cause is not None:
                status = UnitStatus(unit, UnitState.BLOCKED, note=f"{cause} failed or is blocked")
            if status.state in (UnitState.FAILED, UnitState.BLOCKED):
                stopped.add(unit)
            if only in (None, step):
                yield status


def _is_outdated(record: Record, current: Mapping[str, str | None]) -> bool:
    """Whether a unit was made from other results than those that are there now, or from outdated ones (None)."""
    upstream = record.key.components.get("upstream", {})
    return any(current.get(name, digest) != digest for name, digest in upstream.items())


def _unit_status(store: RecordStore, unit: Unit, fraction: float | None) -> UnitStatus:
    found = store.read(unit)
    if isinstance(found, Record):
        return UnitStatus(unit, UnitState.DONE, found)
    if fraction is not None:
        return UnitStatus(unit, UnitState.RUNNING, fraction=fraction)
    failure = store.read_failure(unit)
    if failure is not None:
        return UnitStatus(unit, UnitState.FAILED, failure=failure)
    return UnitStatus(
        unit, UnitState.PENDING, note=found.reason if isinstance(found, Unusable) else ""
    )


def _first_stopped(
    unit: Unit, document: RunDocument, units: Mapping[str, list[Unit]], stopped: set[Unit]
) -> Unit | None:
    """Return a unit that this one waits for in vain."""
    if not stopped:
        return None
    reader = Scope(document.scopes[unit.step])
    for step in document.inputs[unit.step]:
        for source in sources_of(unit, reader, Scope(document.scopes[step]), units[step]):
            if source in stopped:
                return source
    return None


def _step_status(step: str, units: tuple[UnitStatus, ...]) -> StepStatus:
    own = [u for u in units if u.unit.step == step]
    states = Counter(u.state for u in own)
    records = [u.record for u in own if u.record is not None]
    return StepStatus(
        step=step,
        units=len(own),
        done=states[UnitState.DONE],
        running=states[UnitState.RUNNING],
        failed=states[UnitState.FAILED],
        blocked=states[UnitState.BLOCKED],
        seconds=round(sum(r.seconds for r in records), 3),
        peak_memory_bytes=max((r.peak_memory_bytes for r in records), default=0),
        outdated=sum(u.is_outdated for u in own),
    )


def _reasons(status: UnitStatus) -> tuple[str, ...]:
    if status.record is not None:
        return status.record.reasons
    if status.failure is not None:
        failure = status.failure.failure
        return (f"it failed: {failure.kind}: {failure.message}",)
    return (status.note or f"it is {status.state}",)
