"""Worker processes that are started as programs of their own, where `multiprocessing` must not be used.

A Dask worker is often a daemon process, which may have no children by `multiprocessing`, and may have imported
anything before soct comes. A program of its own starts with the environment that a local worker has, so that
results are the same; if the system kills it for its memory, the Dask worker lives to tell.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from multiprocessing.connection import Connection, Pipe
from typing import Any

from soct.pipeline.workers.executors import LocalExecutor, WorkerDied, serve

_PROGRAM = "from soct.pipeline.workers.child_process import main; main({task_pipe}, {life_pipe})"


class ChildExecutor(LocalExecutor):
    """A `LocalExecutor` whose workers are programs of their own."""

    def _start(self) -> tuple[Any, Connection]:
        if self._killed:
            raise WorkerDied(-signal.SIGKILL)
        ours, theirs = Pipe()
        # Each end of the pipe of life is readable once the process at the other end is gone.
        our_life, their_life = Pipe()
        program = _PROGRAM.format(task_pipe=theirs.fileno(), life_pipe=their_life.fileno())
        path = os.pathsep.join(entry for entry in sys.path if entry)
        process = subprocess.Popen(
            # -P: a module of the current folder must not take the place of an installed one.
            [sys.executable, "-P", "-c", program],
            env={**os.environ, **self._environment, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), their_life.fileno()),
        )
        theirs.close()
        their_life.close()
        child = _Child(process, our_life)
        self._processes.add(child)
        if self._killed:
            child.kill()
        with contextlib.suppress(OSError):
            ours.send_bytes(pickle.dumps((self._environment, self._preload)))
        return child, ours


class _Child:
    """A `subprocess.Popen` with the face of a `multiprocessing.Process`."""

    def __init__(self, process: subprocess.Popen[bytes], sentinel: Connection) -> None:
        self._process = process
        self.sentinel = sentinel
        self.pid = process.pid

    @property
    def exitcode(self) -> int | None:
        return self._process.poll()

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def join(self, timeout: float | None = None) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
            self.sentinel.close()


def main(task_pipe: int, life_pipe: int) -> None:
    """Be a worker of a `ChildExecutor`, from pipes that it left open."""
    from soct.compute import caches

    threading.Thread(target=_die_with_parent, args=(life_pipe,), daemon=True).start()
    caches.prepare()
    connection = Connection(task_pipe)
    try:
        environment, preload = pickle.loads(connection.recv_bytes())
    except (EOFError, OSError):
        return
    serve(connection, environment, preload)


def _die_with_parent(life_pipe: int) -> None:
    """End the process when nobody holds the other end of the pipe, so that no orphan goes on writing."""
    with contextlib.suppress(OSError):
        os.read(life_pipe, 1)
    os._exit(1)
