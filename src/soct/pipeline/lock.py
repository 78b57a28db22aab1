"""One process at a time writes into a run folder.

The lock is a `flock`, which the kernel frees however its holder dies; the file's content only tells the next
one who it is. The file stays when the lock is released, because removing it would race with the next holder.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

from soct.errors import LockedError
from soct.pipeline.run_folder import telling_of_writes

LOCK_NAME = ".soct.lock"


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

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"process {self.pid} on {self.host} by {self.user} since {self.started}{job}: {self.command}"

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, so that `is_alive` can know."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether the process is there, as far as this machine can tell."""
        if not self.is_here:
            return True
        try:
            return abs(psutil.Process(self.pid).create_time() - self.process_started) < 1.0
        except psutil.Error:
            return False


def myself(command: str) -> Holder:
    """Describe this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return Holder(
        host=socket.gethostname(),
        pid=os.getpid(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        process_started=psutil.Process().create_time(),
        user=user,
        slurm_job=os.environ.get("SLURM_JOB_ID", ""),
        command=command,
    )


@contextmanager
def hold(run_folder: Path, command: str) -> Iterator[None]:
    """Hold the run folder's lock within the block.

    Parameters
    ----------
    run_folder : Path
        An existing folder.
    command : str
        What to tell those who find it locked.

    Raises
    ------
    LockedError
        Somebody else holds it; the message names them.
    """
    with telling_of_writes(run_folder):
        descriptor = os.open(run_folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _locked(run_folder) from None
        _write(descriptor, json.dumps(asdict(myself(command))))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                _write(descriptor, "")
    finally:
        os.close(descriptor)


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def read_holder(run_folder: Path) -> Holder | None:
    """Return who works in a run folder, without locking it; None where nobody says so."""
    try:
        return Holder(**json.loads((run_folder / LOCK_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _locked(run_folder: Path) -> LockedError:
    holder = read_holder(run_folder)
    return LockedError(
        "Another soct works in this run folder",
        file=run_folder,
        found=str(holder) if holder else "a holder that did not say who it is",
        hint="Wait for it or stop it, or use another run folder. `soct status` can be used meanwhile.",
    )
