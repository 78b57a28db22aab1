"""Worker processes on this machine, behind the interface of `concurrent.futures`.

The standard library's process pool breaks as a whole when one worker dies, and cannot tell which task killed
it. Here every worker is looked after by one thread: when the kernel kills a worker, exactly its task fails
with `WorkerDied`, the others go on, and the next task gets a new worker.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from soct.compute.threads import follow_environment, raised_for_any_worker

_ENVIRONMENT_LOCK = threading.Lock()
_FORKS = sys.platform == "linux"


class WorkerDied(BrokenExecutor):
    """A worker process ended in the middle of a task."""

    def __init__(self, exit_code: int | None, where: str = "") -> None:
        super().__init__(exit_code, where)
        self.exit_code = exit_code
        self._who = f"the worker process{where}"

    def __str__(self) -> str:
        if self.exit_code is not None and self.exit_code < 0:
            with contextlib.suppress(ValueError):
                return f"{self._who} was killed by {signal.Signals(-self.exit_code).name}"
        return f"{self._who} ended with code {self.exit_code}"


class WorkerLost(BrokenExecutor):
    """A worker elsewhere is gone in the middle of a task, or what it wrote does not arrive here.

    Other than `WorkerDied` this says nothing about the task: machines leave a cluster for reasons of their own.
    """


@dataclass(frozen=True)
class Place:
    """What a worker that is free has for one task."""

    threads: int
    memory_bytes: int


class RemoteExecutor(Executor):
    """Workers elsewhere: each takes one task at a time, with all that it has, and they come and go."""

    @abstractmethod
    def slots(self) -> int:
        """Return how many workers there are now."""

    @abstractmethod
    def find_place(self, least_bytes: int) -> Place | None:
        """Return what the next task would get, if it needs this much memory; None: no such worker is free."""

    @abstractmethod
    def give_up(self) -> str | None:
        """Say why it is of no use to wait for a worker any longer, or None: asked while nothing runs."""


@dataclass(frozen=True)
class _Job:
    future: Future[Any]
    content: bytes


class LocalExecutor(Executor):
    """A pool of processes.

    Parameters
    ----------
    workers : int
        How many tasks run at a time. Processes start with the first tasks that need them.
    environment : mapping
        Set in every worker before it imports anything (`soct.compute.threads.worker_environment`).
    preload : tuple of str
        Modules that a worker imports before its first task.
    on_message : callable, optional
        Called, from a thread, with everything a running task passes to `send_message`.
    """

    def __init__(
        self,
        workers: int,
        environment: Mapping[str, str] | None = None,
        preload: tuple[str, ...] = (),
        on_message: Callable[[Any], None] | None = None,
    ) -> None:
        self._environment = dict(environment or {})
        self._preload = preload
        self._on_message = on_message or (lambda message: None)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._limit = workers
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._processes: set[Any] = set()
        self._closed = False
        self._killed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a module-level function in a worker; arguments and result are pickled."""
        if self._closed:
            raise RuntimeError("the executor is shut down")
        job = _Job(Future(), pickle.dumps((fn, args, kwargs)))
        self._jobs.put(job)
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._limit:
            thread = threading.Thread(target=self._look_after_worker, daemon=True)
            self._threads.append(thread)
            thread.start()
        return job.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers, after the tasks that were submitted unless they are cancelled."""
        self._closed = True
        if cancel_futures:
            self._cancel_waiting()
        for _ in self._threads:
            self._jobs.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def kill(self) -> None:
        """End the workers now; the tasks that run fail with `WorkerDied`."""
        self._closed = self._killed = True
        self._cancel_waiting()
        for process in list(self._processes):
            process.kill()
        self.shutdown(wait=True)

    def pids(self) -> tuple[int, ...]:
        """Return the process ids of the live workers."""
        return tuple(process.pid for process in list(self._processes) if process.pid)

    def _cancel_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.future.cancel()

    def _look_after_worker(self) -> None:
        process, connection = None, None
        while (job := self._jobs.get()) is not None:
            if not job.future.set_running_or_notify_cancel():
                continue
            try:
                if process is None or connection is None or not process.is_alive():
                    process, connection = self._start()
                connection.send_bytes(job.content)
                succeeded, value = self._receive(process, connection)
            except WorkerDied as died:
                process = None
                succeeded, value = False, died
            except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the future
                succeeded, value = False, error
            self._idle.release()
            if succeeded:
                job.future.set_result(value)
            else:
                job.future.set_exception(value)
        if process is not None and connection is not None:
            connection.close()
            process.join()
            self._processes.discard(process)

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = multiprocessing.Pipe()
        make = multiprocessing.get_context("forkserver" if _FORKS else "spawn").Process  # type: ignore[attr-defined]
        process = make(target=_serve, args=(theirs, self._environment, self._preload), daemon=True)
        prepare_workers(self._environment, self._preload)
        with _ENVIRONMENT_LOCK, _environment(self._environment):
            if self._killed:
                raise WorkerDied(-signal.SIGKILL)
            try:
                process.start()
            except (EOFError, ConnectionError):
                # The process that workers are forked from was killed; the next start makes a new one.
                raise WorkerDied(None, ", while it started,") from None
        theirs.close()
        self._processes.add(process)
        if self._killed:
            process.kill()
        return process, ours

    def _receive(self, process: Any, connection: Connection) -> tuple[bool, Any]:
        while True:
            wait([connection, process.sentinel])
            # What a worker sent before it died still counts: look into the pipe first.
            if connection.poll():
                with contextlib.suppress(EOFError, OSError):
                    kind, value = connection.recv()
                    if kind == "message":
                        self._on_message(value)
                        continue
                    return kind == "result", value
            process.join(5)
            self._processes.discard(process)
            raise WorkerDied(process.exitcode)


def prepare_workers(environment: Mapping[str, str], preload: tuple[str, ...]) -> None:
    """Start the process that workers are forked from, if there is such a one and it does not run yet.

    It imports in the background; a caller that knows early that it will need workers gains that time. The
    first call decides what is imported ahead.

    Parameters
    ----------
    environment : mapping
        As for `LocalExecutor`.
    preload : tuple of str
        As for `LocalExecutor`. The modules must not start threads when they are imported.
    """
    if not _FORKS:
        return
    from multiprocessing import forkserver

    # Signals to the whole group must not end the server, and with it every worker; a mask is inherited.
    blocked = {signal.SIGTERM, signal.SIGINT, signal.SIGUSR1}
    with _ENVIRONMENT_LOCK, _environment(raised_for_any_worker(environment)):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
        try:
            forkserver.set_forkserver_preload(list(preload))
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that start within the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


_send: Callable[[Any], None] | None = None


def send_message(message: Any) -> None:
    """Pass something picklable to whoever submitted the running task; does nothing elsewhere."""
    if _send is not None:
        _send(message)


def _serve(
    connection: Connection, environment: Mapping[str, str], preload: tuple[str, ...]
) -> None:
    """Be a worker of a `LocalExecutor`."""
    _die_with_parent()
    serve(connection, environment, preload)


def serve(connection: Connection, environment: Mapping[str, str], preload: tuple[str, ...]) -> None:
    """Be a worker: run tasks until the pipe is closed."""
    global _send
    # The terminal and Slurm signal whole process groups; what to do about it is the main process's to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Nothing is forked from a worker. Where numba sees that something might be, it takes a lock with a name in the
    # system, which outlives a worker that is killed: Python then warns of a leak at the end of the run.
    multiprocessing.set_start_method("spawn", force=True)
    _adopt(environment)
    for name in preload:
        importlib.import_module(name)
    # What is imported stays: collections between tasks need not look at it again.
    gc.freeze()
    sending = threading.Lock()

    def send(kind: str, value: Any) -> None:
        content = pickle.dumps((kind, value))
        with sending:
            connection.send_bytes(content)

    def send_quietly(message: Any) -> None:
        with contextlib.suppress(OSError):
            send("message", message)

    _send = send_quietly
    while True:
        try:
            function, args, kwargs = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            result = ("result", function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it travels home
            result = ("error", error)
        try:
            _send_home(send, result)
        except OSError:
            return  # nobody is there to hear it any more


def _send_home(send: Callable[[str, Any], None], result: tuple[str, Any]) -> None:
    try:
        send(*result)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        send("error", RuntimeError(f"a task's {result[0]} cannot be pickled: {error}"))


def _adopt(environment: Mapping[str, str]) -> None:
    """Take over the environment where the server was started with another one."""
    os.environ.update(environment)
    follow_environment()


def _die_with_parent() -> None:
    """Have this process killed when the run's process dies, so that no orphan goes on writing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
