"""Processes that work together in one run folder: ``state/processes/<id>.json``, one file each.

The file says who the process is, never changes, and is touched regularly: its time of change is the heartbeat.
Claims of units are hard links to it (`soct.pipeline.together.claims`), so that one touch stands for all claims of a
process, however many it has. A process is dead when its number is gone (on this machine), or when its
heartbeat is older than `stale_seconds` by the clock of the file system: compared is the time of this process's
own file, which was touched just now, so that clocks of machines may differ.

Burying a dead process is renaming its file, which exactly one process can do; that one alone then removes its
claims, and the units are free. Whoever was taken for dead and is not (its machine was suspended, its network
cut) finds its file gone and its claims lost, and goes on under a new name.

What is assumed of the file system: a file is created (O_EXCL), linked and renamed in one step, for all machines,
and a file that is opened shows what was last written and closed. NFS from version 3 on, Lustre, BeeGFS and
GPFS do that. That attributes and names are cached for seconds does no harm: what decides is opened, linked or
renamed, never only looked up.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

from soct.pipeline.together.holder import Holder, origin_of

STALE_S = 60.0
"""How old the heartbeat of a process on another machine must be before its units are given to others."""
_BURIED = ".buried-by."


def stale_seconds() -> float:
    """Return `STALE_S`, or what the environment variable ``SOCT_STALE_S`` says."""
    try:
        return max(0.1, float(os.environ["SOCT_STALE_S"]))
    except (KeyError, ValueError):
        return STALE_S


def _folder(run_folder: Path) -> Path:
    return run_folder / "state" / "processes"


def read_member(path: Path) -> Holder | None:
    """Return whom a process's file, or a claim, names; None where that cannot be read (yet)."""
    try:
        return Holder(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def live_members(run_folder: Path) -> tuple[Holder, ...]:
    """Return the processes that work together in a run folder, as far as can be told without touching it."""
    try:
        paths = list(_folder(run_folder).glob("[!.]*.json"))
    except OSError:
        return ()
    found = []
    for path in paths:
        holder = read_member(path)
        with contextlib.suppress(OSError):
            age = time.time() - path.stat().st_mtime
            if holder is not None and (
                holder.is_alive if holder.is_here else age < 2 * stale_seconds()
            ):
                found.append(holder)
    return tuple(sorted(found, key=lambda h: (h.slurm_task.zfill(9), h.host, h.pid, h.id)))


@dataclass
class _Peer:
    """Another process, as far as it is known."""

    holder: Holder | None
    looked_at: float = -1e9
    """When its heartbeat was last read, on this process's clock."""


def sweep_processes(run_folder: Path, keep: frozenset[str] = frozenset()) -> None:
    """Remove what dead processes left below ``state``; only where nobody is at work.

    Parameters
    ----------
    run_folder : Path
    keep : frozenset of str
        Ids of the processes that are about to begin. One of this machine that came since stays, too; one of
        another machine goes on under a new name.
    """
    kept = set(keep)
    processes = _folder(run_folder)
    for path in processes.iterdir() if processes.is_dir() else ():
        holder = read_member(path)
        if path.stem not in keep and holder is not None and holder.is_here and holder.is_alive:
            kept.add(path.stem)
        elif path.stem not in keep:
            path.unlink(missing_ok=True)
    began = {origin_of(process) for process in kept}
    progress = run_folder / "state" / "progress"
    for path in progress.iterdir() if progress.is_dir() else ():
        if path.stem not in began:
            path.unlink(missing_ok=True)
    for path in sorted((run_folder / "state" / "claims").glob("*/*.json")):
        holder = read_member(path)
        if holder is None or holder.id not in kept:
            path.unlink(missing_ok=True)


class Membership:
    """A process among those that work in a run folder, within the block.

    Parameters
    ----------
    run_folder : Path
    me : Holder
        How the others see this process.
    """

    def __init__(self, run_folder: Path, me: Holder) -> None:
        self.run_folder = run_folder
        self.me = me
        self.stale_s = stale_seconds()
        self._folder = _folder(run_folder)
        self._peers: dict[str, _Peer] = {}
        self._descriptor = -1
        self._beat_at = 0.0
        self._judges_from = 0.0
        self._ended = threading.Event()
        self._touching = threading.Lock()
        self._thread = threading.Thread(target=self._keep_beating, daemon=True)

    @property
    def path(self) -> Path:
        """The file that says who this process is."""
        return self._folder / f"{self.me.id}.json"

    def __enter__(self) -> Membership:
        self._register()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _register(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o666)
        os.write(descriptor, json.dumps(asdict(self.me)).encode())
        # Others must be able to read it before they meet a claim that names it: NFS writes when it is flushed.
        os.fsync(descriptor)
        with self._touching:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = descriptor
            self._beat_at = time.monotonic()

    def renew(self) -> None:
        """Go on under a new name where others took this process for dead."""
        if not self.path.exists():
            self.me = self.me.renamed()
            self._register()

    def _keep_beating(self) -> None:
        while not self._ended.wait(self.stale_s / 12):
            with contextlib.suppress(OSError):
                self.beat()

    def beat(self) -> float:
        """Touch this process's file; return the file system's time."""
        with self._touching:
            os.utime(self._descriptor)
            now = time.monotonic()
            if now - self._beat_at > self.stale_s / 3:
                # This process, or the file system, slept. So may have the others: they get time to be heard.
                self._judges_from = now + self.stale_s
            self._beat_at = now
            return os.fstat(self._descriptor).st_mtime

    def others(self) -> tuple[Holder, ...]:
        """Return the other processes that are not known to be dead."""
        self._list()
        return tuple(p.holder for p in self._peers.values() if p.holder is not None)

    def known(self) -> frozenset[str]:
        """Return the ids of the other processes that have a file, be it one that is being buried."""
        return frozenset(n.partition(_BURIED)[0].removeprefix(".") for n in self._list())

    def bury_dead(self, bequeath: Callable[[str], None]) -> int:
        """Take the files of dead processes away.

        Parameters
        ----------
        bequeath : callable
            Called with the id of each dead process, by exactly one of those that are alive: frees its claims.

        Returns
        -------
        int
            How many processes were buried.
        """
        buried = 0
        for name in self._list():
            if _BURIED in name:
                dead, _, by = name[1:].partition(_BURIED)
                # Whoever buries may be killed, too: then the next one finishes.
                if by != self.me.id and by in self._peers:
                    continue
            elif self._is_dead(name, self._peers[name]):
                dead = name
            else:
                continue
            buried += self._bury(name, dead, bequeath)
        return buried

    def _bury(self, name: str, dead: str, bequeath: Callable[[str], None]) -> bool:
        source = self._folder / (name if name.startswith(".") else f"{name}.json")
        grave = self._folder / f".{dead}{_BURIED}{self.me.id}"
        try:
            source.rename(grave)
        except FileNotFoundError:
            return False
        self._peers.pop(dead, None)
        bequeath(dead)
        grave.unlink(missing_ok=True)
        return True

    def _list(self) -> list[str]:
        """Bring the list of the others up to date; return their ids, and the names of files being buried."""
        names = []
        for entry in list(os.scandir(self._folder)):
            if entry.name.startswith(".") and _BURIED in entry.name:
                names.append(entry.name)
            elif entry.name.endswith(".json") and entry.name != self.path.name:
                names.append(entry.name.removesuffix(".json"))
        self._peers = {n: self._peers.get(n) or _Peer(None) for n in names if _BURIED not in n}
        for name, peer in self._peers.items():
            peer.holder = peer.holder or read_member(self._folder / f"{name}.json")
        return names

    def _is_dead(self, name: str, peer: _Peer) -> bool:
        if peer.holder is not None and peer.holder.is_here:
            return not peer.holder.is_alive
        now = time.monotonic()
        if now - peer.looked_at < self.stale_s / 12:
            return False
        peer.looked_at = now
        try:
            own = self.beat()
        except OSError:
            # Of a file that others have removed, a network file system says that it is stale.
            self.renew()
            return False
        if now < self._judges_from:
            return False
        return any(own - theirs > self.stale_s for theirs in self._heartbeats(name))

    def _heartbeats(self, name: str) -> Iterator[float]:
        """Yield a process's heartbeat. Opening a file asks the server; its attributes alone may be old."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._folder / f"{name}.json", os.O_RDONLY | os.O_CLOEXEC)
            try:
                yield os.fstat(descriptor).st_mtime
            finally:
                os.close(descriptor)
