"""``state/claims/<step>/<unit>.json``: which of several processes computes a unit.

A claim is a hard link to the file of the process that has it (`soct.pipeline.together.members`): making it fails where
there is one already, it is never seen empty, and it shares the heartbeat of its process. It is removed after the
unit's record was published, so the folders hold the units that are at work now and nothing else.

Where the file system makes no hard links, the claim is created with O_EXCL and says the same.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from soct.pipeline.folder.outputs import remove_orphans
from soct.pipeline.folder.progress import forget_progress
from soct.pipeline.together.holder import origin_of
from soct.pipeline.together.members import Membership, read_member
from soct.steps.declaration import Unit

_NO_LINKS = {
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EXDEV,
    errno.EMLINK,
    errno.EINVAL,
}
_ALONE = "alone"


class Claims:
    """The claims of one process, and what it knows of those of others.

    Parameters
    ----------
    members : Membership
    """

    def __init__(self, members: Membership) -> None:
        self.members = members
        self.root = members.run_folder / "state" / "claims"
        self._links = True
        self._look_for_orphans = 0.0
        self._orphans: dict[Path, tuple[str, float]] = {}

    def _path(self, unit: Unit) -> Path:
        return self.root / unit.step / f"{unit.name}.json"

    def take(self, unit: Unit) -> bool:
        """Claim a unit; False where another process has it."""
        return self._take(self._path(unit))

    def holds(self, unit: Unit) -> bool:
        """Whether the claim is still this process's: it is not after others took this process for dead."""
        return self._is_mine(self._path(unit))

    def release(self, unit: Unit) -> None:
        """Give a unit back that this process has."""
        self._release(self._path(unit))

    def release_all(self) -> None:
        """Give everything back that this process still has; called before it leaves."""
        self._free(self.members.me.id)

    def taken(self, step: str) -> frozenset[str]:
        """Return the names of a step's units that are claimed now, by one listing."""
        try:
            with os.scandir(self.root / step) as entries:
                names = (entry.name for entry in entries)
                return frozenset(n.removesuffix(".json") for n in names if n.endswith(".json"))
        except FileNotFoundError:
            return frozenset()

    def free_orphans(self, units: Iterable[Unit]) -> None:
        """Free units whose claims name nobody who is there, once that has been so for long.

        Nobody buries a process that has no file: somebody removed it, or the process died while its file or its
        claim was being written.
        """
        self._free_orphans(map(self._path, units))

    def _free_orphans(self, paths: Iterable[Path]) -> None:
        if time.monotonic() < self._look_for_orphans:
            return
        self._look_for_orphans = time.monotonic() + self.members.stale_s / 4
        there = {self.members.me.id, *self.members.known()}
        seen: dict[Path, tuple[str, float]] = {}
        for path in paths:
            holder = read_member(path)
            name = holder.id if holder is not None else ""
            if name in there or (holder is None and not path.exists()):
                continue
            before, since = self._orphans.get(path, (name, time.monotonic()))
            seen[path] = (name, since if before == name else time.monotonic())
            if time.monotonic() - seen[path][1] > self.members.stale_s:
                self._take_away(path, name)
        self._orphans = seen

    def _take_away(self, path: Path, name: str) -> None:
        """Remove a claim if it still is what it was; renaming it, one process of several does."""
        away = path.with_name(f".{path.stem}.{self.members.me.id}")
        with contextlib.suppress(OSError):
            path.rename(away)
            holder = read_member(away)
            if (holder.id if holder is not None else "") != name:
                os.link(away, path)
            away.unlink()

    def bury_dead(self) -> int:
        """Free what dead processes had claimed; return how many processes were found dead."""
        return self.members.bury_dead(self._free)

    @contextmanager
    def alone(self, give_up: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """Do what only one of all processes may do at a time, within the block.

        Parameters
        ----------
        give_up : callable
            Asked while another process is at it.

        Yields
        ------
        bool
            False after giving up.
        """
        path = self.root / _ALONE / "run.json"
        pause = 0.01
        while not (got := self._take(path)) and not give_up():
            self.bury_dead()
            self._free_orphans([path])
            time.sleep(pause)
            pause = min(0.2, 2 * pause)
        try:
            yield got
        finally:
            if got:
                self._release(path)

    def _take(self, path: Path) -> bool:
        while True:
            try:
                self._make(path)
                return True
            except FileExistsError:
                # A server's answer may be lost and the request sent again: then the claim is there, and ours.
                return self._is_mine(path)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                self.members.renew()

    def _make(self, path: Path) -> None:
        if self._links:
            try:
                os.link(self.members.path, path)
                return
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                self._links = False
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, json.dumps(asdict(self.members.me)).encode())
        finally:
            os.close(descriptor)

    def _is_mine(self, path: Path) -> bool:
        holder = read_member(path)
        return holder is not None and holder.id == self.members.me.id

    def _release(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            if self._is_mine(path):
                path.unlink()

    def _free(self, dead: str) -> None:
        """Remove all claims of a process that is dead, or is about to leave; nobody else removes them."""
        forget_progress(self.members.run_folder, origin_of(dead))
        for folder in self.root.iterdir() if self.root.is_dir() else ():
            for path in folder.iterdir():
                holder = read_member(path)
                if holder is not None and holder.id == dead:
                    remove_orphans(self.members.run_folder / folder.name, path.stem, holder)
                    path.unlink(missing_ok=True)
