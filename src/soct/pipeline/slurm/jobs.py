"""The batch jobs of a run folder: what its script noted when it submitted them, and what Slurm says now."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from soct.pipeline.folder.run_folder import SLURM_FOLDER
from soct.pipeline.slurm.cluster import QueuedTask, ask_tasks

_NOTES = "jobs.tsv"
_SHOWN_LINES, _SHOWN_LENGTH, _READ_BYTES = 3, 300, 4096
_RUNNING = frozenset(("RUNNING", "COMPLETING"))


@dataclass(frozen=True)
class SubmittedJob:
    """One phase, as it was submitted."""

    submitted: str
    """ISO time, UTC."""
    phase: str
    job: str
    array: str
    """``1-16`` or ``1-16%4``."""

    @property
    def tasks(self) -> int:
        """How many tasks it has."""
        first, _, last = self.array.partition("%")[0].partition("-")
        return int(last) - int(first) + 1 if first.isdigit() and last.isdigit() else 1


@dataclass(frozen=True)
class LogEnd:
    """How the newest log of a run's tasks ends."""

    path: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class PhaseTasks:
    """The tasks of one job that are in the queue."""

    phase: str
    job: str
    running: int
    waiting: int
    reasons: tuple[str, ...]
    """Why tasks wait, as Slurm puts it, the most frequent first."""


@dataclass(frozen=True)
class SlurmView:
    """What is known of a run's batch jobs."""

    last_submitted: str
    phases: tuple[PhaseTasks, ...] | None
    """Jobs with tasks in the queue, in order; None where Slurm cannot be asked on this machine."""
    tasks: int
    """Of all phases that were submitted the last time."""
    log: LogEnd | None = None
    """Where no job is in the queue any more."""

    @property
    def is_over(self) -> bool:
        """Whether none of the jobs is in the queue any more."""
        return self.phases == ()

    @property
    def is_running(self) -> bool:
        """Whether a task runs now."""
        return any(phase.running for phase in self.phases or ())

    def as_document(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return asdict(self)


def read_jobs(folder: Path) -> tuple[SubmittedJob, ...]:
    """Return the jobs that were submitted for a run folder, the oldest first; lines that are no job are passed over."""
    try:
        text = (folder / SLURM_FOLDER / _NOTES).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ()
    rows = [line.split("\t") for line in text.splitlines()]
    return tuple(SubmittedJob(*row) for row in rows if len(row) == 4 and row[2].isdigit())


def look_at_jobs(folder: Path) -> SlurmView | None:
    """Return the state of a run folder's batch jobs, None where none was ever submitted."""
    jobs = read_jobs(folder)
    if not jobs:
        return None
    owner = (folder / SLURM_FOLDER / _NOTES).stat().st_uid
    tasks = ask_tasks([job.job for job in jobs], owner)
    phases = None if tasks is None else tuple(_phases(jobs, tasks))
    log = _newest_log(folder / SLURM_FOLDER) if phases == () else None
    return SlurmView(
        jobs[-1].submitted, phases, sum(job.tasks for job in _last_submitted(jobs)), log
    )


def _last_submitted(jobs: Sequence[SubmittedJob]) -> list[SubmittedJob]:
    """Return the jobs of the last submission, which has each phase once."""
    found: list[SubmittedJob] = []
    for job in reversed(jobs):
        if any(job.phase == other.phase for other in found):
            break
        found.insert(0, job)
    return found


def _newest_log(folder: Path) -> LogEnd | None:
    """Return the last lines of the log that was written to last, None where there is none to read."""
    try:
        logs = [(path.stat().st_mtime_ns, path) for path in folder.glob("*.log") if path.is_file()]
        _, path = max(logs)
        with path.open("rb") as stream:
            stream.seek(max(stream.seek(0, os.SEEK_END) - _READ_BYTES, 0))
            text = stream.read(_READ_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return None
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return LogEnd(str(path), tuple(line[:_SHOWN_LENGTH] for line in lines[-_SHOWN_LINES:]))


def _phases(jobs: Sequence[SubmittedJob], tasks: Sequence[QueuedTask]) -> list[PhaseTasks]:
    found = []
    for job in jobs:
        own = [task for task in tasks if task.job == job.job]
        waiting = [task for task in own if task.state not in _RUNNING]
        if own:
            reasons = Counter(task.reason for task in waiting if task.reason not in ("", "None"))
            names = tuple(name for name, _ in reasons.most_common())
            found.append(
                PhaseTasks(job.phase, job.job, len(own) - len(waiting), len(waiting), names)
            )
    return found
