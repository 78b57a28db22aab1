"""What Slurm says, asked through its own commands; on a machine without them nothing is known."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class ClusterNode:
    """A node as a member of one partition; None: not known, or without a limit."""

    partition: str
    is_default: bool
    """Whether jobs go to this partition that name none."""
    cpus: int | None
    memory_bytes: int | None
    time_s: float | None
    """The longest that a job may run."""


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


def ask_nodes() -> tuple[ClusterNode, ...]:
    """Return the nodes of all partitions, one in several once for each; none where Slurm cannot be asked."""
    # Hidden partitions can be submitted to, too.
    text = ask(["sinfo", "--all", "--noheader", "--Node", "--format=%P|%c|%m|%l"])
    rows = [line.split("|") for line in (text or "").splitlines() if line.count("|") == 3]
    return tuple(_node(*row) for row in rows)


def _node(partition: str, cpus: str, memory: str, time: str) -> ClusterNode:
    mib = _count(memory)
    return ClusterNode(
        partition=partition.strip().removesuffix("*"),
        is_default=partition.strip().endswith("*"),
        cpus=_count(cpus),
        memory_bytes=None if mib is None else mib << 20,
        time_s=read_time(time),
    )


def _count(text: str) -> int | None:
    digits = text.strip().rstrip("+")
    return int(digits) if digits.isdigit() else None


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
