"""Who works in a run folder: a process, described so that others can tell whether it still lives."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Holder:
    """Who works in a run folder."""

    host: str
    pid: int
    started: str
    """ISO time, UTC."""
    process_started: float
    """The kernel's start time of the process, so that a number given out again is not taken for it."""
    user: str
    slurm_job: str
    command: str
    slurm_task: str = ""
    """Number within the array, or of the task within the job."""
    machine: str = ""
    """What tells machines and containers apart that have one name: see `this_machine`."""
    id: str = ""
    """Unlike any other's; names its files below ``state``."""

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        task = f", task {self.slurm_task}" if self.slurm_task else ""
        return (
            f"process {self.pid} on {self.host} by {self.user} since {self.started}{job}{task}: "
            f"{self.command}"
        )

    @property
    def origin(self) -> str:
        """The id that it began with (`renamed`)."""
        return origin_of(self.id)

    def renamed(self) -> Holder:
        """Return the same process under a new id."""
        return replace(self, id=f"{self.origin}~{secrets.token_hex(4)}")

    @property
    def is_here(self) -> bool:
        """Whether its process number means something here, so that `is_alive` can know."""
        if self.machine:
            return self.machine == this_machine()
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process is there, as far as this machine can tell."""
        if not self.is_here:
            return True
        try:
            process = psutil.Process(self.pid)
            # One that was killed and that nobody asked about yet still has its number, and does nothing.
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return abs(process.create_time() - self.process_started) < 1.0
        except psutil.Error:
            return False


def origin_of(process: str) -> str:
    """Return the id that a process began with, whatever it is called now."""
    return process.partition("~")[0]


@cache
def this_machine() -> str:
    """Return what tells this machine, or this container, from all others; empty where nothing does.

    Names repeat among machines and containers, and process numbers mean something within one boot and one
    process namespace only.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - it names no file
    except OSError:
        return ""


def myself(command: str) -> Holder:
    """Describe this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    host = socket.gethostname()
    readable = "".join(c if c.isalnum() else "-" for c in host)[:60]
    return Holder(
        host=host,
        pid=os.getpid(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        process_started=psutil.Process().create_time(),
        user=user,
        slurm_job=_of_slurm("ARRAY_JOB_ID") or _of_slurm("JOB_ID"),
        command=command,
        slurm_task=_slurm_task(),
        machine=this_machine(),
        id=f"{readable}.{os.getpid()}.{secrets.token_hex(4)}",
    )


def _slurm_task() -> str:
    """Return the number within the array, or within a job of several tasks."""
    several = _of_slurm("NTASKS") not in ("", "1")
    return _of_slurm("ARRAY_TASK_ID") or (_of_slurm("PROCID") if several else "")


def _of_slurm(name: str) -> str:
    return os.environ.get(f"SLURM_{name}", "")
