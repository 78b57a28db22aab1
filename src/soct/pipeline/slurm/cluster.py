"""What Slurm says, asked through its own commands; on a machine without them nothing is known."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from soct.pipeline.planning.phases import Node

_PATIENCE_S = 20.0
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})")


@dataclass(frozen=True)
class QueuedTask:
    """A task of a job that waits or runs."""

    job: str
    state: str
    """As Slurm has it: ``PENDING``, ``RUNNING``, ..."""
    reason: str
    """Why it waits."""


def ask(command: Sequence[str]) -> str | None:
    """Return what one of Slurm's commands prints; None where there is none, or it fails, or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def ask_node(partition: str | None) -> Node:
    """Return what the largest node of a partition (None: the default one) has, and the longest job."""
    command = ["sinfo", "--noheader", "--Node", "--format=%P|%c|%m|%l"]
    text = ask([*command, f"--partition={partition}"] if partition else command)
    rows = [line.split("|") for line in (text or "").splitlines() if line.count("|") == 3]
    rows = [row for row in rows if partition or row[0].endswith("*")]
    # Memory as Slurm counts it: in MiB.
    return Node(
        cpus=max((int(n) for row in rows if (n := row[1].rstrip("+")).isdigit()), default=None),
        memory_bytes=max(
            (int(n) << 20 for row in rows if (n := row[2].rstrip("+")).isdigit()), default=None
        ),
        time_s=max(filter(None, (read_time(row[3]) for row in rows)), default=None),
    )


def read_time(text: str) -> float | None:
    """Return a time of Slurm's in seconds: ``1-12:00:00``, ``30:00``; None for ``infinite`` and the like."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    parts = [int(part) for part in match["clock"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
        return float(((int(match["days"]) * 24 + hours) * 60 + minutes) * 60 + seconds)
    if len(parts) == 1:
        return float(parts[0] * 60)
    hours, minutes, seconds = (0, *parts)[-3:]
    return float((hours * 60 + minutes) * 60 + seconds)


def ask_tasks(jobs: Sequence[str], user: int) -> tuple[QueuedTask, ...] | None:
    """Return the tasks of a user's jobs that are in the queue; None where Slurm cannot be asked."""
    # A job that has left the queue long ago would make squeue fail, so that all of the user's are asked for.
    text = ask(["squeue", "--noheader", "--array", f"--user={user}", "--format=%F|%T|%r"])
    return None if text is None else tuple(_tasks(text, set(jobs)))


def _tasks(text: str, jobs: set[str]) -> Iterator[QueuedTask]:
    for line in text.splitlines():
        job, _, rest = line.partition("|")
        state, _, reason = rest.partition("|")
        if job in jobs:
            yield QueuedTask(job, state, reason.strip("()"))
