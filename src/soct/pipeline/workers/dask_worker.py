"""What runs in a Dask worker: it has one worker process of soct's own, and gives it one unit at a time.

The functions here are called by name from the main process, so a worker needs soct installed, and nothing is
set up in it beforehand.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from distributed import WorkerPlugin, get_worker
from distributed.utils import sync

import soct
from soct.compute.threads import worker_environment
from soct.pipeline.workers.child_process import ChildExecutor
from soct.pipeline.workers.executors import WorkerDied, WorkerLost
from soct.pipeline.workers.worker_probe import Probe, Sight, look

Call: TypeAlias = "tuple[Callable[..., Any], tuple[Any, ...]]"

PLUGIN = "soct"
IDLE_S = 60.0
"""After which a worker process that has nothing to do ends: its run may have been killed and said no goodbye."""


@dataclass(frozen=True)
class DaskSession:
    """One run, as its workers know it."""

    name: str
    """Also the topic under which messages travel home."""
    environment: Mapping[str, str]
    preload: tuple[str, ...]
    probe: Probe


def pack(value: object) -> bytes:
    """Write a value as bytes that a worker process of the same soct can read."""
    return zlib.compress(pickle.dumps(value), 1)


def unpack(content: bytes) -> Any:
    """Return what was packed."""
    return pickle.loads(zlib.decompress(content))


def greet(version: str, name: str, content: bytes) -> Sight | str:
    """Begin a session in this Dask worker.

    Parameters
    ----------
    version : str
        Of the main process's soct. It is looked at before anything that another version could not read.
    name : str
        Of the file that answers the probe.
    content : bytes
        The packed session.

    Returns
    -------
    Sight or str
        What the worker sees, or why it cannot be used.
    """
    if version != soct.__version__:
        return f"it has soct {soct.__version__} instead of {version}"
    session: DaskSession = unpack(content)
    worker = get_worker()
    host = worker.plugins.get(PLUGIN)
    if host is None:
        host = UnitHost()
        sync(worker.loop, worker.plugin_add, plugin=host, name=PLUGIN)
    host.begin(session, worker.state.nthreads)
    sight: Sight = host.call(session.name, "", pack((look, (session.probe, name))))
    return sight


def key_of(name: str, number: int) -> str:
    """Return the key of a session's task."""
    return f"{name}-{number}"


def compute(name: str, key: str, content: bytes) -> Any:
    """Make a packed call in the worker process of a session."""
    host = get_worker().plugins.get(PLUGIN)
    if host is None:
        raise WorkerLost("the Dask worker was started anew")
    return host.run(name, key, content)


def leave(name: str, dask_worker: Any) -> None:
    """End a session in this Dask worker."""
    host = dask_worker.plugins.get(PLUGIN)
    if host is not None:
        host.end(name)


def call(content: bytes) -> Any:
    """Make a packed call, in the worker process."""
    function, args = unpack(content)
    return function(*args)


class UnitHost(WorkerPlugin):  # type: ignore[misc]
    """The worker processes within one Dask worker: one for each run that uses it, and one of them at work.

    Tasks that are cancelled, or whose client is gone, are told by `transition`; the process that computes
    them is killed, as `LocalExecutor.kill` does.
    """

    def setup(self, worker: Any) -> None:
        """Take note of the Dask worker."""
        self._worker = worker
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._sessions: dict[str, tuple[DaskSession, int]] = {}
        self._children: dict[str, ChildExecutor] = {}
        self._busy: Counter[str] = Counter()
        """How many calls are being made for a session."""
        self._used: dict[str, float] = {}
        """When the last call of a session ended."""
        self._dropped: set[str] = set()

    def teardown(self, worker: Any) -> None:
        """Kill all processes: the Dask worker ends."""
        for name in list(self._sessions):
            self.end(name)

    def transition(self, key: str, start: str, finish: str, **others: Any) -> None:
        """Drop a unit that nobody waits for any more, also where its thread has not begun yet."""
        name = key.rpartition("-")[0]
        if name in self._sessions and start == "executing" and finish == "released":
            self._dropped.add(key)
            self._kill(name)

    def begin(self, session: DaskSession, threads: int) -> None:
        """Make room for a run, and end what is left of runs that did not say goodbye."""
        for other in [name for name in self._children if not self._busy[name]]:
            self._kill(other)
        self._sessions[session.name] = (session, threads)

    def end(self, name: str) -> None:
        """Forget a run."""
        self._sessions.pop(name, None)
        self._used.pop(name, None)
        self._kill(name)

    def run(self, name: str, key: str, content: bytes) -> Any:
        """Make a packed call in a run's process, when no other unit is being computed."""
        try:
            with self._turn:
                return self.call(name, key, content)
        finally:
            self._dropped.discard(key)

    def call(self, name: str, key: str, content: bytes) -> Any:
        """Make a packed call in a run's process, which is started when it first gets one."""
        # Under the lock: whoever drops the call from here on finds the process that must be killed.
        with self._lock:
            if key in self._dropped:
                raise WorkerDied(None)
            future = self._child(name).submit(call, content)
            self._busy[name] += 1
        try:
            return future.result()
        finally:
            with self._lock:
                self._busy[name] -= 1
                self._used[name] = ended = time.monotonic()
            loop = self._worker.loop
            with contextlib.suppress(RuntimeError):  # the Dask worker itself ends
                loop.add_callback(loop.call_later, IDLE_S, self._retire, name, ended)

    def _child(self, name: str) -> ChildExecutor:
        if name not in self._sessions:
            raise WorkerLost("the Dask worker does not know the run any more")
        session, threads = self._sessions[name]
        if name not in self._children:
            environment = {**session.environment, **worker_environment(threads)}
            self._children[name] = ChildExecutor(
                1, environment, session.preload, lambda message: self._send(name, message)
            )
        return self._children[name]

    def _retire(self, name: str, ended: float) -> None:
        """End a process that nobody has used since."""
        if self._used.get(name) == ended and not self._busy[name]:
            self._kill(name)

    def _send(self, name: str, message: Any) -> None:
        with contextlib.suppress(Exception):  # progress is of no consequence
            self._worker.log_event(name, pickle.dumps(message))

    def _kill(self, name: str) -> None:
        with self._lock:
            child = self._children.pop(name, None)
        if child is not None:
            # In a thread: it waits for the process, and the Dask worker must go on talking.
            threading.Thread(target=child.kill, daemon=True).start()
