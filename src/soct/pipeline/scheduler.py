"""Hands units to an executor as what they read is finished, and publishes what comes back.

One thread, one loop. Everything that happens (a unit ended, progress, a signal, the clock) is looked at
between two submissions, so no state is shared and the order of events is the order of causes.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from soct import __version__
from soct.pipeline.desk import Desk
from soct.pipeline.events import (
    Failure,
    Listener,
    Notice,
    RunStopping,
    UnitAdopted,
    UnitFailed,
    UnitFinished,
    UnitProgress,
    UnitRetried,
    UnitStarted,
)
from soct.pipeline.folder.progress import Progress, ProgressFile, RunningUnit, resident_bytes
from soct.pipeline.folder.records import FailureRecord, Record
from soct.pipeline.frontier import Frontier, State
from soct.pipeline.planning.plan import Plan
from soct.pipeline.request import Status
from soct.pipeline.resources import Budget, shown
from soct.pipeline.stopping import StopControl
from soct.pipeline.together.cooperation import LOOK_S, Claimed, Nobody, Others
from soct.pipeline.workers.executors import RemoteExecutor, WorkerLost
from soct.pipeline.workers.worker import Done, Failed, Task, describe, execute, worker_died
from soct.steps.declaration import Unit

TICK_S = 0.2
LOOK_AHEAD = 16
"""How many units that have no room are passed over for one that has: with all that are ready, every unit that
ends would cost a look at all of them."""
MOST_LOSSES = 3
"""How often a unit is tried again after its machine left: that is rarely the unit's fault."""


@dataclass
class _Running:
    task: Task
    reasons: tuple[str, ...]
    started: str
    threads: int
    memory_bytes: int
    fraction: float = 0.0


@dataclass
class Tally:
    """What came of the units, filled while the scheduler runs."""

    computed: list[Unit] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    blocked: list[Unit] = field(default_factory=list)
    elsewhere: list[Unit] = field(default_factory=list)
    """Computed by other processes meanwhile."""
    statuses: set[Status] = field(default_factory=set)
    peak_memory_bytes: int = 0
    disk_full: bool = False


class Inbox(Protocol):
    """Where what happens outside of the scheduler's thread is told to it."""

    def put(self, message: Any, /) -> None:
        """Tell something, from any thread."""

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Return the next message; raises `queue.Empty` when none came in time."""

    def get_nowait(self) -> Any:
        """Return the next message if there is one; else raises `queue.Empty`."""


class Scheduler:
    """Computes the units of a plan.

    Parameters
    ----------
    plan : Plan
    desk : Desk
        Prepares and publishes single units.
    budget : Budget
    make_executor : callable
        ``(workers, on_message) -> Executor``; called again with fewer workers after one broke.
    stop : StopControl
    listener : callable
    others : Others, optional
        Other processes that compute units of the same run; None: there are none.
    process : str
        Names this process's progress file.
    inbox : Inbox, optional
        Another one than a queue of its own, for a simulated clock.
    """

    def __init__(
        self,
        plan: Plan,
        desk: Desk,
        budget: Budget,
        make_executor: Callable[[int, Callable[[Any], None]], Executor],
        stop: StopControl,
        listener: Listener,
        others: Others | None = None,
        process: str = "run",
        inbox: Inbox | None = None,
    ) -> None:
        self.tally = Tally()
        self._plan = plan
        self._desk = desk
        self._budget = budget
        self._make_executor = make_executor
        self._stop = stop
        self._listener = listener
        self._slots = budget.workers
        self._inbox: Inbox = inbox or queue.SimpleQueue()
        self._running: dict[Unit, _Running] = {}
        self._taken_threads = 0
        self._taken_memory = 0
        self._retries: dict[Unit, int] = {}
        self._losses: dict[Unit, int] = {}
        self._repaired: set[Unit] = set()
        self._extra_reasons: dict[Unit, tuple[str, ...]] = {}
        self._progress = ProgressFile(desk.run_folder, process)
        self._others = others or Nobody(plan)
        self._frontier = Frontier(plan, self._others.turn)

    def run(self) -> None:
        """Compute until nothing is left to do, or a stop was asked for."""
        self._executor = self._make_executor(self._slots, self._inbox.put)
        announced = False
        try:
            while True:
                stopping = self._stop.is_asked() or self.tally.disk_full
                if not stopping:
                    self._hear_of_others()
                    self._submit_ready()
                elif not announced:
                    announced = True
                    self._listener(RunStopping(self._stop.reason or "disk full", dropping=False))
                if not self._running and (stopping or not self._may_go_on()):
                    break
                if stopping and self._stop.must_drop():
                    self._drop_running()
                    break
                self._look_into_inbox()
                self._look_around()
        except BaseException:
            self._drop_running()
            raise
        finally:
            self._executor.shutdown(wait=True, cancel_futures=True)
            self._progress.remove()

    @property
    def pending(self) -> int:
        """How many units were neither computed nor failed nor blocked."""
        return self._frontier.pending

    def _hear_of_others(self) -> None:
        for unit, found in self._others.look(tuple(self._frontier.elsewhere)):
            self._take_over(unit, found)

    def _take_over(self, unit: Unit, found: Claimed | Record | FailureRecord | None) -> None:
        """Have become of a unit here what became of it elsewhere."""
        if isinstance(found, Record):
            self._desk.adopt(found)
            self.tally.elsewhere.append(unit)
            self._frontier.finish(unit)
            self._listener(UnitAdopted(unit, found.seconds, found.output_bytes, found.host))
        elif isinstance(found, FailureRecord):
            self._tell_failure(unit, found.failure)
        elif found is None:
            self._frontier.wait_again(unit)

    def _submit_ready(self) -> None:
        postponed: list[Unit] = []
        if isinstance(self._executor, RemoteExecutor):
            self._slots = self._executor.slots()
        # Units that others finished are found by claiming them; the inbox must not wait for all of them.
        until = time.monotonic() + LOOK_S
        while (
            time.monotonic() < until
            and self._has_room(len(postponed))
            and (unit := self._frontier.take()) is not None
        ):
            share = self._share(unit)
            if share is None or self._is_read_now(unit):
                postponed.append(unit)
                continue
            claimed = self._others.claim(unit)
            if claimed is Claimed.HERE:
                self._start(unit, *share)
            else:
                self._frontier.set_aside(unit, State.ELSEWHERE)
                self._take_over(unit, claimed)
        for unit in postponed:
            self._frontier.put_back(unit)

    def _has_room(self, passed_over: int) -> bool:
        """Whether another unit should be looked at: any could start, and not too many were passed over."""
        if len(self._running) >= self._slots or passed_over >= LOOK_AHEAD:
            return False
        if not self._running or isinstance(self._executor, RemoteExecutor):
            return True
        return self._taken_threads < self._budget.cpus

    def _share(self, unit: Unit) -> tuple[int, int] | None:
        """Return the threads and the memory for a unit; None while too much is taken by others."""
        if isinstance(self._executor, RemoteExecutor):
            place = self._executor.find_place(self._desk.need(unit).memory_bytes)
            return None if place is None else (place.threads, place.memory_bytes)
        threads = self._budget.cpus - self._taken_threads
        memory = self._budget.units_bytes - self._taken_memory
        least = self._desk.need(unit).memory_bytes
        if self._running and (threads < 1 or memory < max(least, 1)):
            return None
        parts = max(1, min(self._slots - len(self._running), self._frontier.n_ready))
        return max(1, threads // parts), max(memory // parts, least)

    def _awaits_workers(self) -> bool:
        """Whether units could run that no worker is there for; once there is no hope of one, ask for a stop."""
        if not self._frontier.n_ready or not isinstance(self._executor, RemoteExecutor):
            return False
        reason = self._executor.give_up()
        if reason is not None:
            self._stop.ask(reason)
        return True

    def _may_go_on(self) -> bool:
        """Whether something will come though nothing runs: workers, or news of units that others have."""
        return self._awaits_workers() or self._frontier.is_awaiting

    def _is_read_now(self, unit: Unit) -> bool:
        """Whether a running unit reads this one's outputs, which are about to be replaced."""
        return unit in self._repaired and any(
            other in self._running for other in self._frontier.downstream[unit]
        )

    def _start(self, unit: Unit, threads: int, memory_bytes: int) -> None:
        self._frontier.set_aside(unit, State.RUNNING)
        reasons = self._extra_reasons.get(unit) or self._plan.units[unit].reasons
        try:
            task = self._desk.prepare(unit, threads, memory_bytes)
        except OSError as error:
            self._fail(unit, Failed(describe(unit, error), 0.0, disk_full=_is_full(error)))
            return
        self._running[unit] = _Running(task, reasons, _now(), threads, memory_bytes)
        self._taken_threads += threads
        self._taken_memory += memory_bytes
        self._listener(UnitStarted(unit, reasons, threads))
        try:
            future = self._executor.submit(execute, task)
        except BrokenExecutor as error:
            future = Future()
            future.set_exception(error)
        future.add_done_callback(partial(self._put_back, unit))

    def _put_back(self, unit: Unit, future: Future[Done | Failed]) -> None:
        """Say that a future is complete, from whichever thread completed it."""
        self._inbox.put((unit, future))

    def _look_into_inbox(self) -> None:
        with contextlib.suppress(queue.Empty):
            message = self._inbox.get(timeout=TICK_S)
            while True:
                if isinstance(message, UnitProgress):
                    if message.unit in self._running:
                        self._running[message.unit].fraction = message.fraction
                        self._listener(message)
                elif isinstance(message, Notice):
                    self._listener(message)
                else:
                    self._take_back(*message)
                message = self._inbox.get_nowait()

    def _take_back(self, unit: Unit, future: Future[Done | Failed]) -> None:
        running = self._running.pop(unit, None)
        if running is None:
            return
        self._taken_threads -= running.threads
        self._taken_memory -= running.memory_bytes
        error = future.exception()
        if isinstance(error, BrokenExecutor):
            self._on_broken(unit, running, error)
            return
        if not self._others.holds(unit):
            self._give_up(unit, running)
            return
        outcome = Failed(describe(unit, error), 0.0) if error else future.result()
        if isinstance(outcome, Done):
            try:
                self._publish(unit, running, outcome)
                return
            except OSError as failed:
                outcome = Failed(describe(unit, failed), outcome.seconds, (), _is_full(failed))
        self._desk.discard(running.task)
        if not self._repair(unit, outcome):
            self._fail_or_give_up(unit, running, outcome)

    def _give_up(self, unit: Unit, running: _Running) -> None:
        """Leave a unit to those who took this process for dead, and the unit with it."""
        self._desk.discard(running.task)
        self._frontier.set_state(unit, State.ELSEWHERE)
        self._listener(
            Notice(
                "warning", f"{unit} was taken over by another process; its result here is dropped"
            )
        )

    def _publish(self, unit: Unit, running: _Running, done: Done) -> None:
        record = Record(
            unit=unit,
            key=self._desk.key(unit),
            outputs=done.outputs,
            result=done.result,
            reasons=running.reasons,
            started=running.started,
            ended=_now(),
            seconds=round(done.seconds, 3),
            peak_memory_bytes=done.peak_memory_bytes,
            threads=running.threads,
            host=done.host,
            pid=done.pid,
            soct_version=__version__,
        )
        status = self._desk.publish(running.task, record)
        self._others.release(unit)
        self.tally.computed.append(unit)
        self.tally.statuses.add(status)
        self._frontier.finish(unit)
        self._listener(
            UnitFinished(
                unit,
                record.seconds,
                record.peak_memory_bytes,
                record.output_bytes,
                status,
                (*record.result.warnings, *record.result.notices),
                record.result.fallbacks,
            )
        )

    def _on_broken(self, unit: Unit, running: _Running, error: BrokenExecutor) -> None:
        """Try again, with half the concurrency where all workers share one memory; then give the unit up."""
        self._desk.discard(running.task)
        if isinstance(error, WorkerLost):
            self._on_lost(unit, running, error)
            return
        if self._stop.is_asked() and unit not in self._retries:
            # Whatever ends the run, such as a batch system, may end workers too: nothing is wrong with the unit.
            self._others.release(unit)
            self._frontier.make_ready(unit)
            return
        cause = f"{error or 'a worker process died'}"
        again = "again on any worker"
        if not isinstance(self._executor, RemoteExecutor):
            self._slots = max(1, self._slots // 2)
            cause += (
                f"; the run's processes held up to {shown(self.tally.peak_memory_bytes)} "
                f"of {shown(self._budget.memory_bytes)}"
            )
            again = f"again with {self._slots} at a time"
        if not hasattr(self._executor, "kill"):
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = self._make_executor(self._slots, self._inbox.put)
        if self._retries.get(unit, 0) < 1 and not self._stop.is_asked():
            self._retries[unit] = 1
            self._others.release(unit)
            self._listener(UnitRetried(unit, f"{cause}; {again}"))
            self._frontier.make_ready(unit)
            return
        found = "it died twice" if self._retries.get(unit) else "it died"
        hint = (
            "Most likely the memory ran out: give the run less --cpus or the machine more memory."
        )
        self._fail_or_give_up(unit, running, worker_died(unit, cause, found, hint))

    def _on_lost(self, unit: Unit, running: _Running, error: WorkerLost) -> None:
        """Try on another worker; a unit whose workers leave again and again is given up."""
        lost = self._losses[unit] = self._losses.get(unit, 0) + 1
        if lost <= MOST_LOSSES or self._stop.is_asked():
            self._others.release(unit)
            self._listener(UnitRetried(unit, f"{error}; again on another worker"))
            self._frontier.make_ready(unit)
            return
        hint = "See why the workers end: their logs, their memory, their time limit."
        found = f"it was lost {lost} times"
        self._fail_or_give_up(unit, running, worker_died(unit, str(error), found, hint))

    def _fail_or_give_up(self, unit: Unit, running: _Running, failed: Failed) -> None:
        if self._others.holds(unit):
            self._fail(unit, failed)
        else:
            self._give_up(unit, running)

    def _repair(self, unit: Unit, failed: Failed) -> bool:
        """Compute damaged inputs of a failed unit again, and then the unit; once."""
        fresh = [source for source, _ in failed.damaged if source not in self._repaired]
        mendable = all(self._plan.graph.may_run(source) for source in fresh)
        if not failed.damaged or not mendable or self._retries.get(unit, 0) >= 2:
            return False
        self._retries[unit] = self._retries.get(unit, 0) + 1
        for source, damage in failed.damaged:
            if source in fresh:
                self._extra_reasons[source] = (damage,)
        self._repaired.update(fresh)
        self._others.distrust(fresh)
        self._others.release(unit)
        self._frontier.invalidate(fresh)
        self._frontier.wait_again(unit)
        why = "; ".join(f"{source}: {damage}" for source, damage in failed.damaged)
        self._listener(UnitRetried(unit, f"what it read was damaged and is computed again ({why})"))
        return True

    def _fail(self, unit: Unit, failed: Failed) -> None:
        failure = failed.failure
        if failed.damaged:
            damage = "; ".join(f"{source}: {text}" for source, text in failed.damaged)
            hint = "A run without --from and --only computes them again; if that fails, mistrust the disk."
            failure = replace(failure, found=f"damaged results ({damage})", hint=hint)
        self.tally.disk_full |= failed.disk_full
        with contextlib.suppress(OSError):
            kept = FailureRecord(failure, _now(), round(failed.seconds, 3), self._others.session)
            self._desk.keep_failure(kept)
        self._others.release(unit)
        self._tell_failure(unit, failure)

    def _tell_failure(self, unit: Unit, failure: Failure) -> None:
        self.tally.failures.append(failure)
        blocked = self._frontier.fail(unit)
        self.tally.blocked += blocked
        self._listener(UnitFailed(failure, tuple(blocked)))

    def _drop_running(self) -> None:
        if self._running:
            self._listener(RunStopping(self._stop.reason or "an internal error", dropping=True))
        kill = getattr(self._executor, "kill", None)
        if kill is not None:
            kill()
        else:
            self._executor.shutdown(wait=False, cancel_futures=True)
        for unit, running in self._running.items():
            self._desk.discard(running.task)
            self._others.release(unit)

    def _look_around(self) -> None:
        """Once per second, see how much memory is taken and tell those who look on."""
        if not self._progress.is_due():
            return
        workers: tuple[int, ...] = getattr(self._executor, "pids", tuple)()
        resident = resident_bytes(workers)
        self.tally.peak_memory_bytes = max(self.tally.peak_memory_bytes, resident)
        self._progress.write(
            Progress(
                computed=len(self.tally.computed),
                to_compute=len(self.tally.computed) + self.pending,
                running=tuple(
                    RunningUnit(unit.step, unit.name, running.started, running.fraction)
                    for unit, running in sorted(self._running.items())
                ),
                resident_bytes=resident,
                written=time.time(),
            )
        )


def _is_full(error: OSError) -> bool:
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
