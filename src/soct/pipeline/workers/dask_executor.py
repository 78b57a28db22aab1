"""Dask workers behind the interface of `concurrent.futures`: one task for each worker, never a graph.

The task names its worker, so Dask neither moves it nor tries it again elsewhere: that is the scheduler's to
decide, which knows what a unit left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

from distributed import KilledWorker
from distributed.comm import CommClosedError

from soct.pipeline.events import Notice
from soct.pipeline.profiles.quantities import format_duration
from soct.pipeline.workers.dask_crew import Crew, Member
from soct.pipeline.workers.dask_worker import compute, key_of, pack
from soct.pipeline.workers.executors import Place, RemoteExecutor, WorkerDied, WorkerLost

PATIENCE_S = 5.0
"""After which it is told that a run waits."""
_LOSSES = (KilledWorker, CancelledError, asyncio.CancelledError, CommClosedError, OSError)


class DaskExecutor(RemoteExecutor):
    """Sends tasks to the workers of a crew.

    Parameters
    ----------
    loop : asyncio.AbstractEventLoop
        Runs in a thread of its own; the crew is its.
    crew : Crew
    wait_s : float
        How long there may be no worker that can take a task.
    before, after : callable
        ``before(*args)`` is called in the worker ahead of a task, ``after(args[0], result)`` here behind it;
        what they raise is the task's error.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        crew: Crew,
        wait_s: float,
        before: Callable[..., None],
        after: Callable[[Any, Any], None],
    ) -> None:
        self._loop = loop
        self._crew = crew
        self._wait_s = wait_s
        self._before = before
        self._after = after
        self._chosen: Member | None = None
        self._waiting_since: float | None = None
        self._told = False
        self._numbers = itertools.count()
        self._tasks: set[Future[Any]] = set()
        self._closed = False

    def slots(self) -> int:
        """Return how many workers can be used."""
        return len(self._crew.members())

    def find_place(self, least_bytes: int) -> Place | None:
        """Choose a free worker with this much memory: the least of those that have it."""
        free = [
            m for m in self._crew.members() if not m.busy and m.place.memory_bytes >= least_bytes
        ]
        self._chosen = min(free, key=lambda m: m.place.memory_bytes, default=None)
        if self._chosen is None:
            return None
        self._waiting_since = None
        return self._chosen.place

    def give_up(self) -> str | None:
        """Say why waiting is of no use: the time is over, or the cluster is."""
        if self._crew.is_closed:
            return "the connection to the Dask scheduler is lost"
        now = time.monotonic()
        if self._waiting_since is None or self._crew.pending:
            self._waiting_since, self._told = now, False
        if now - self._waiting_since > self._wait_s:
            return f"no Dask worker could take a unit for {format_duration(self._wait_s)}"
        if not self._told and now - self._waiting_since > PATIENCE_S:
            self._told = True
            limit = format_duration(self._wait_s)
            text = f"no Dask worker can take a unit now; waiting up to {limit} for one"
            self._crew.tell(Notice("info", text))
        return None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a module-level function in the worker that was found last; arguments are pickled."""
        if self._closed:
            raise RuntimeError("the executor is shut down")
        member, self._chosen = self._chosen, None
        if member is None or member.busy or member.gone.is_set():
            failed: Future[Any] = Future()
            failed.set_exception(WorkerLost("the Dask worker left before it began"))
            return failed
        member.busy = True
        content = pack((run_after, (self._before, fn, args)))
        future = asyncio.run_coroutine_threadsafe(
            self._compute(member, content, args[0] if args else None), self._loop
        )
        self._tasks.add(future)
        future.add_done_callback(self._tasks.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; those that run are left alone."""
        self._closed = True

    def kill(self) -> None:
        """Drop all tasks that run: their workers end the processes that compute them."""
        self._closed = True
        for future in list(self._tasks):
            future.cancel()

    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the workers' processes on this machine."""
        here = socket.gethostname()
        return tuple(m.pid for m in self._crew.members() if m.sight.host == here)

    async def _compute(self, member: Member, content: bytes, subject: Any) -> Any:
        try:
            value = await self._ask(member, content)
            await asyncio.to_thread(self._after, subject, value)
        except WorkerLost as lost:
            self._crew.dismiss(member, str(lost))
            raise
        finally:
            member.busy = False
        member.pid = getattr(value, "pid", member.pid)
        return value

    async def _ask(self, member: Member, content: bytes) -> Any:
        """Have a worker make a call, and wait for the answer as long as the worker is there."""
        if self._crew.is_closed:
            raise WorkerLost("the connection to the Dask scheduler is lost")
        session = self._crew.session.name
        key = key_of(session, next(self._numbers))
        future = self._crew.client.submit(
            compute, session, key, content, key=key, workers=[member.address], retries=0
        )
        result = asyncio.ensure_future(future.result())
        gone = asyncio.ensure_future(member.gone.wait())
        try:
            await asyncio.wait({result, gone}, return_when=asyncio.FIRST_COMPLETED)
            return _value(result, member)
        finally:
            result.cancel()
            gone.cancel()
            with contextlib.suppress(Exception):
                future.release()  # where the task still runs, this drops it


def run_after(before: Callable[..., None], fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Call two functions, one after the other, with the same arguments; return what the second does."""
    before(*args)
    return fn(*args)


def _value(result: asyncio.Future[Any], member: Member) -> Any:
    """Return a task's result; the many ways in which Dask says that a worker is gone become one."""
    if not result.done() or result.cancelled():
        raise WorkerLost(f"the Dask worker {member} is gone")
    error = result.exception()
    if isinstance(error, WorkerDied):
        raise WorkerDied(error.exit_code, f" of the Dask worker {member}") from error
    if isinstance(error, _LOSSES):
        raise WorkerLost(f"the Dask worker {member} is gone ({error})") from error
    return result.result()
