"""Who may write into a run folder: one process alone, or several that cooperate.

The lock is a `flock`, which the kernel frees however its holder dies. A plain run holds it exclusively, and
the file's content only tells the next one who it is; processes that cooperate (`soct.pipeline.together.claims`) hold it
shared, and each has a file of its own that says who it is (`soct.pipeline.together.members`). The lock file stays when
the lock is released, because removing it would race with the next holder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from soct.errors import InputError, LockedError
from soct.pipeline.folder.run_folder import LOCK_NAME, telling_of_writes
from soct.pipeline.together.holder import Holder, myself
from soct.pipeline.together.members import live_members

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP}


@contextmanager
def hold(run_folder: Path, command: str) -> Iterator[Holder]:
    """Hold the run folder's lock alone within the block; yields how others see this process.

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
    InputError
        The file system has no locks.
    """
    with _open(run_folder) as descriptor:
        if not _lock(descriptor, fcntl.LOCK_EX, run_folder):
            raise InputError(
                "The file system of the run folder has no file locks",
                file=run_folder,
                expected="one whose mount options allow flock",
                hint="Choose a run folder elsewhere, have it mounted with locks (Lustre: -o flock), or add "
                "--join, which works without.",
            )
        me = myself(command)
        _write(descriptor, json.dumps(asdict(me)))
        try:
            yield me
        finally:
            with contextlib.suppress(OSError):
                _write(descriptor, "")


@contextmanager
def hold_together(run_folder: Path) -> Iterator[bool]:
    """Hold the run folder's lock together with others that do so.

    Yields
    ------
    bool
        False where the file system has no locks: then nothing keeps a plain run on another machine away, but
        neither can a plain run start on a file system without locks.

    Raises
    ------
    LockedError
        Somebody holds it alone; the message names them.
    """
    with _open(run_folder) as descriptor:
        locked = _lock(descriptor, fcntl.LOCK_SH, run_folder)
        if locked:
            # What the file says is of one that held it alone and was killed.
            with contextlib.suppress(OSError):
                _write(descriptor, "")
        yield locked


@contextmanager
def _open(run_folder: Path) -> Iterator[int]:
    with telling_of_writes(run_folder):
        descriptor = os.open(run_folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int, run_folder: Path) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise _locked(run_folder) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, text.encode(), 0)


def read_holder(run_folder: Path) -> Holder | None:
    """Return who works alone in a run folder, without locking it; None where nobody says so."""
    try:
        return Holder(**json.loads((run_folder / LOCK_NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def _locked(run_folder: Path) -> LockedError:
    members = live_members(run_folder)
    holder = None if members else read_holder(run_folder)
    if members:
        found = f"{len(members)} that cooperate: " + "; ".join(str(m) for m in members[:4])
        found += f"; and {len(members) - 4} more" if len(members) > 4 else ""
        hint = (
            "Add --join to work with them, wait for them or stop them, or use another run folder. "
        )
    else:
        found = str(holder) if holder else "a holder that did not say who it is"
        hint = "Wait for it or stop it, or use another run folder. "
    return LockedError(
        "Another soct works in this run folder",
        file=run_folder,
        found=found,
        hint=f"{hint}`soct status` can be used meanwhile.",
    )
