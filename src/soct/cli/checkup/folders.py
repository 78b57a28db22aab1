"""Whether a run folder may lie here: room, kind of file system, speed, and what processes agree on through it.

Everything is tried for real, with small files that are removed again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from soct.cli.checkup.finding import Finding
from soct.compute.containers import find_container
from soct.compute.mounts import IN_MEMORY, mount_of, read_mounts
from soct.pipeline.profiles.quantities import format_size

LITTLE_DISK = 20e9
FEW_INODES = 100_000
LITTLE_SHARED = 64e6
SLOW_BYTES_S = 30e6
SLOW_FILES_S = 20.0
FAR_CLOCK_S = 60.0
_PROBE_BYTES = 32 << 20
_PROBE_FILES = 20
_MOST_S = 1.5
_PREFIX = ".soct-doctor-"


def nearest_existing(path: Path) -> Path:
    """Return the folder, or the one in which it would be made."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path.resolve()


def look_at_folder(asked: Path, place: Path) -> Finding:
    """Say where is looked: elsewhere than asked, where there is no such folder."""
    values = {"asked": str(asked), "looked_at": str(place)}
    if asked.is_dir():
        return Finding("folder", "ok", str(place), values=values)
    if asked.exists():
        text = f"{asked} is a file; its folder {place} was looked at"
        return Finding("folder", "warning", text, "give the folder where runs will lie", values)
    text = f"{asked} is not there; {place} was looked at, in which it would be made"
    hint = "make it first, where another disk is to be mounted or bound there"
    return Finding("folder", "warning", text, hint, values)


def look_at_disk(folder: Path) -> Finding:
    """Say how much room there is; a quota counts where the file system shows it as such."""
    status = os.statvfs(folder)
    free, total = status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize
    values = {"folder": str(folder), "free": free, "total": total}
    text = f"{format_size(free)} free of {format_size(total)} in {folder}"
    if free < LITTLE_DISK:
        hint = "an acquisition takes about twice its raw size; `soct plan` says how much"
        return Finding("disk", "warning", text, hint, values)
    return Finding("disk", "ok", text, values=values)


def look_at_inodes(folder: Path) -> Finding:
    """Say how many files may still be made."""
    status = os.statvfs(folder)
    if not status.f_files:
        return Finding("files", "ok", "the file system sets no number", values={"free": None})
    values = {"free": status.f_favail}
    text = f"{status.f_favail} more may be made"
    if status.f_favail < FEW_INODES:
        return Finding("files", "warning", text, "`soct plan` says how many a run makes", values)
    return Finding("files", "ok", text, values=values)


def look_at_file_system(folder: Path, root: Path = Path("/")) -> Finding:
    """Say what kind of file system it is."""
    mount = mount_of(folder, read_mounts(root))
    if mount is None:
        return Finding("file system", "ok", "unknown", values={"kind": None})
    values = {"kind": mount.kind, "mounted_at": str(mount.point), "source": mount.source}
    text = f"{mount.kind} at {mount.point} from {mount.source}"
    if mount.kind in IN_MEMORY:
        hint = "it lies in memory: a run there takes the memory that it needs, and is gone after a restart"
        return Finding("file system", "warning", text, hint, values)
    return Finding("file system", "ok", text, values=values)


def look_at_writing(folder: Path) -> Finding:
    """Write a file, and fail where that cannot be done."""
    try:
        with _scratch(folder):
            pass
    except OSError as error:
        bind = " or bind it so (no :ro)" if find_container() else ""
        hint = f"choose a folder that you may write to{bind}"
        text = f"{folder} cannot be written to ({error.strerror})"
        return Finding("writing", "error", text, hint, {"writable": False})
    return Finding("writing", "ok", f"{folder} can be written to", values={"writable": True})


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder, prefix=_PREFIX) as made:
        yield Path(made)


def look_at_locks(folder: Path) -> Finding:
    """Take a file lock twice: the second must be refused."""
    hint = (
        "keep run folders elsewhere: two runs on one folder would not notice each other "
        "(Lustre: mount with -o flock; NFS: version 4, or a lock daemon)"
    )
    with _scratch(folder) as place:
        path = place / "lock"
        try:
            with path.open("w") as first, path.open("rb") as second:
                fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
                try:
                    fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return Finding("file locks", "ok", "work (flock)", values={"flock": True})
                text = "are granted twice: they mean nothing here"
        except OSError as error:
            text = f"cannot be taken ({error.strerror})"
    return Finding("file locks", "error", text, hint, {"flock": False})


def look_at_claims(folder: Path) -> Finding:
    """Try what several processes share units through: exclusive files, hard links, the file system's clock."""
    with _scratch(folder) as place:
        exclusive = _refuses(lambda: _create(place / "one"), lambda: _create(place / "one"))
        links = _refuses(
            lambda: os.link(place / "one", place / "two"),
            lambda: os.link(place / "one", place / "two"),
        )
        off = _clock_difference(place)
    values = {"exclusive_files": exclusive, "hard_links": links, "clock_off_s": round(off, 1)}
    text = f"exclusive files {_works(exclusive)}, hard links {_works(links)}, clock {off:+.1f} s"
    if not exclusive:
        hint = "`soct run --join` and `soct slurm` need a file system that makes exclusive files"
        return Finding("claims", "error", text, hint, values)
    if not links:
        hint = "processes that work together fall back to exclusive files: safe, a little slower"
        return Finding("claims", "warning", text, hint, values)
    if abs(off) > FAR_CLOCK_S:
        hint = "the file server's clock is not this machine's; runs allow for it, times in listings are off"
        return Finding("claims", "warning", text, hint, values)
    return Finding("claims", "ok", text, values=values)


def _create(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _refuses(first: Callable[[], None], again: Callable[[], None]) -> bool:
    """Whether something can be done once and not twice."""
    try:
        first()
        again()
    except FileExistsError:
        return True
    except OSError:
        return False
    return False


def _works(value: bool) -> str:
    return "work" if value else "do not work"


def _clock_difference(place: Path) -> float:
    (place / "now").touch()
    return (place / "now").stat().st_mtime - time.time()


def look_at_speed(folder: Path) -> Finding:
    """Write some data and some small files, for a second or so."""
    with _scratch(folder) as place:
        speed = _write_large(place / "large")
        rate = _write_small(place)
    values = {"write_bytes_per_s": round(speed), "files_per_s": round(rate, 1)}
    text = f"{format_size(speed)}/s written, {rate:.0f} small files/s, each flushed"
    if speed < SLOW_BYTES_S or rate < SLOW_FILES_S:
        hint = "the disk will set the pace; keep run folders on a faster one (--site: scratch is no run folder)"
        return Finding("disk speed", "warning", text, hint, values)
    return Finding("disk speed", "ok", text, values=values)


def _write_large(path: Path) -> float:
    block, written, started = os.urandom(1 << 20), 0, time.perf_counter()
    with path.open("wb", buffering=0) as stream:
        while written < _PROBE_BYTES and time.perf_counter() - started < _MOST_S:
            written += stream.write(block)
        os.fsync(stream.fileno())
    return written / max(time.perf_counter() - started, 1e-6)


def _write_small(place: Path) -> float:
    count, started = 0, time.perf_counter()
    while count < _PROBE_FILES and time.perf_counter() - started < _MOST_S:
        with (place / f"small-{count}").open("wb") as stream:
            stream.write(bytes(4096))
            stream.flush()
            os.fsync(stream.fileno())
        count += 1
    return count / max(time.perf_counter() - started, 1e-6)


def look_at_temporary() -> Finding:
    """Say where temporary files go, and whether they can."""
    folder = Path(tempfile.gettempdir())
    with tempfile.TemporaryFile():
        free = shutil.disk_usage(folder).free
    text = f"{format_size(free)} free in {folder}"
    return Finding("temporary files", "ok", text, values={"folder": str(folder), "free": free})


def look_at_shared_memory(folder: Path = Path("/dev/shm")) -> Finding:
    """Look at the shared memory of processes: soct needs none, what it imports may."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        missing = error.errno == errno.ENOENT
        text = f"{folder} is not there" if missing else f"{folder}: {error.strerror}"
        return Finding(
            "shared memory", "warning", text, "start the container with /dev/shm", {"free": None}
        )
    text = f"{format_size(free)} free in {folder}"
    if free < LITTLE_SHARED:
        hint = "some libraries need more: docker run --shm-size=256m, or clear it"
        return Finding("shared memory", "warning", text, hint, {"free": free})
    return Finding("shared memory", "ok", text, values={"free": free})


def sweep(folder: Path) -> None:
    """Remove what check-ups that were killed left behind."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_PREFIX}*"):
            shutil.rmtree(path, ignore_errors=True)
