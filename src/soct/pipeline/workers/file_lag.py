"""Files that another machine wrote may take a while to show on a network file system."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from soct.pipeline.workers.executors import WorkerLost
from soct.pipeline.workers.worker import Done, Failed, Task

LAG_S = 60.0
"""The longest time for which NFS keeps what it knows of a folder, by default."""


def await_inputs(task: Task) -> None:
    """Wait, in a worker, until all that a task reads and the folder that it writes to are there.

    Raises
    ------
    WorkerLost
        They do not show up.
    """
    paths = [task.partial]
    paths += [path for found in task.context.input_paths.values() for path in found.values()]
    _wait(lambda: next((f"{path} is missing" for path in paths if not _seen(path)), ""), "there")


def await_outputs(task: Task, outcome: Done | Failed) -> None:
    """Wait, in the main process, until all that a worker says it wrote is there, with the sizes that it says.

    Raises
    ------
    WorkerLost
        They do not show up.
    """
    if isinstance(outcome, Done):
        _wait(lambda: _unseen_output(task, outcome), "here")


def _unseen_output(task: Task, done: Done) -> str:
    for output in done.outputs:
        root = task.partial / task.names[output.name]
        for relative, file in output.files.items():
            path = root / relative if relative else root
            try:
                size = path.stat(follow_symlinks=False).st_size
            except OSError:
                _ask_again(path)
                return f"{path} is missing"
            if size != file.size:
                return f"{path} has {size} bytes instead of {file.size}"
    return ""


def _wait(look: Callable[[], str], where: str) -> None:
    pause, end = 0.02, time.monotonic() + LAG_S
    while missing := look():
        if time.monotonic() > end:
            raise WorkerLost(
                f"files of the run do not arrive {where} within {LAG_S:.0f} s: {missing}"
            )
        time.sleep(pause)
        pause = min(2 * pause, 1.0)


def _seen(path: Path) -> bool:
    if path.exists():
        return True
    _ask_again(path)
    return path.exists()


def _ask_again(path: Path) -> None:
    """List the folders above a path: that makes the system ask the server what is in them now."""
    for folder in reversed(path.parents[:4]):
        with contextlib.suppress(OSError):
            list(folder.iterdir())
