"""``state/progress/<process>.json``: what a process is doing right now, for those who look on without locking."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

INTERVAL_S = 1.0


@dataclass(frozen=True)
class RunningUnit:
    """A unit that a worker has in hand."""

    step: str
    unit: str
    started: str
    """ISO time, UTC."""
    fraction: float


@dataclass(frozen=True)
class Progress:
    """A snapshot of a run at work."""

    computed: int
    to_compute: int
    running: tuple[RunningUnit, ...]
    resident_bytes: int
    written: float
    """Seconds since the epoch."""


class ProgressFile:
    """Writes snapshots, at most one per second.

    Parameters
    ----------
    run_folder : Path
    process : str
        The id that the process began with (`soct.pipeline.together.holder.Holder.origin`).
    """

    def __init__(self, run_folder: Path, process: str) -> None:
        self._path = _path(run_folder, process)
        self._next = 0.0

    def is_due(self) -> bool:
        """Whether a second has passed."""
        return time.monotonic() >= self._next

    def write(self, progress: Progress) -> None:
        """Replace the snapshot; one that cannot be written is of no consequence."""
        self._next = time.monotonic() + INTERVAL_S
        temporary = self._path.with_name(f".{self._path.stem}.partial")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(asdict(progress)))
            temporary.replace(self._path)

    def remove(self) -> None:
        """Say that nothing runs any more."""
        self._path.unlink(missing_ok=True)


def read_progress(run_folder: Path, process: str) -> Progress | None:
    """Return the last snapshot of a process at work; None where there is none."""
    try:
        document = json.loads(_path(run_folder, process).read_text())
        running = tuple(RunningUnit(**unit) for unit in document.pop("running"))
        return Progress(**document, running=running)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def forget_progress(run_folder: Path, process: str) -> None:
    """Remove the snapshot of a process that is dead."""
    _path(run_folder, process).unlink(missing_ok=True)


def resident_bytes(workers: tuple[int, ...]) -> int:
    """Resident memory of this process, the workers, and whatever process they are forked from."""
    parents = set()
    for pid in workers:
        with suppress(psutil.Error):
            parents.add(psutil.Process(pid).ppid())
    total = 0
    for pid in {os.getpid(), *workers, *parents}:
        with suppress(psutil.Error):
            total += psutil.Process(pid).memory_info().rss
    return total


def _path(run_folder: Path, process: str) -> Path:
    return run_folder / "state" / "progress" / f"{process}.json"
