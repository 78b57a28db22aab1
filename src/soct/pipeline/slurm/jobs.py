"""The batch jobs of a run folder: what its script noted when it submitted them, and what Slurm says now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from soct.pipeline.folder.run_folder import SLURM_FOLDER
from soct.pipeline.slurm.cluster import QueuedTask, ask_tasks

_NOTES = "jobs.tsv"
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
    return SlurmView(jobs[-1].submitted, phases)


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
