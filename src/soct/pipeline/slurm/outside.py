"""What the folders of the Apptainer container that this runs in are called outside of it, where jobs start.

Within a container ``$APPTAINER_BIND`` holds only where folders were bound to. Where from is found in the tables of
mounts: in that of a process outside, which has the answer, but mostly cannot be read; or else in the own one, which
says what is shown of which file system, beside folders that Apptainer binds under their own names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from soct.compute.mounts import Mount, mount_of, read_mounts, read_mounts_outside
from soct.errors import ConfigurationError

_SUBVOLUME = re.compile(r"(?:^|,)subvol=([^,]+)")
_TOP = Path("/")


@dataclass(frozen=True)
class Bind:
    """A folder or file that was bound into this container."""

    inside: Path
    outside: Path | None
    """None: it goes by another name there, which cannot be known from within."""
    read_only: bool = False
    guessed: bool = False
    """Whether nothing more is known than that it may have the same name outside."""
    shows: str = ""
    """What is known of a source that is not."""


class Outside:
    """How this container's paths are called outside of it.

    Parameters
    ----------
    binds : sequence of Bind
        As they are in force here; none: nothing has another name.
    named : iterable of str
        Binds of the site file, ``SOURCE:DESTINATION[:OPTIONS]``, which go first.
    """

    def __init__(self, binds: Sequence[Bind] = (), named: Iterable[str] = ()) -> None:
        given = {bind.inside: bind for bind in map(_parse, named)}
        self.inherited = tuple(bind for bind in binds if bind.inside not in given)
        """Those that the site file says nothing of."""
        self._all = [given.get(bind.inside, bind) for bind in binds]

    def path(self, inside: Path) -> Path:
        """Return the absolute path outside of what has one here.

        Raises
        ------
        ConfigurationError
            It cannot be known.
        """
        around = [b for b in self._all if inside == b.inside or b.inside in inside.parents]
        bind = max(around, key=lambda bind: len(bind.inside.parts), default=None)
        if bind is None:
            return inside
        return source_of(bind) / inside.relative_to(bind.inside)


def source_of(bind: Bind) -> Path:
    """Return where a bind comes from, or raise ConfigurationError where that cannot be known."""
    if bind.outside is not None:
        return bind.outside
    raise ConfigurationError(
        f"From within this container it cannot be seen which folder was bound to {bind.inside}: "
        "the jobs could not be given the same one",
        expected="a folder that is bound under its own name (--bind FOLDER)",
        found=f"{bind.inside}, which is {bind.shows}",
        hint=f"Bind it under its own name, or name its source in the site file: slurm.binds: [SOURCE:{bind.inside}].",
    )


def look_outside(variable: str, read_only: Callable[[str], bool] | None = None) -> list[Bind]:
    """Return the binds of the container that this runs in.

    Parameters
    ----------
    variable : str
        ``$APPTAINER_BIND``, as it is within.
    read_only : callable, optional
        Whether a folder, as it is seen here, is; by default `is_read_only`.
    """
    return trace_binds(variable, read_mounts(), read_mounts_outside(), read_only or is_read_only)


def trace_binds(
    variable: str, here: list[Mount], there: list[Mount], read_only: Callable[[str], bool]
) -> list[Bind]:
    """Return the binds of a container by its own table of mounts, and by that of outside, which may be empty."""
    told = list(_split(variable, {str(mount.point) for mount in here}))
    bound = {bind.inside for bind in told}
    own_names = _own_names(mount for mount in here if mount.point not in bound)
    found = []
    for bind in told:
        mount = mount_of(bind.inside, here)
        if bind.guessed and mount is not None and mount.point == bind.inside:
            bind = _trace(bind, mount, there, own_names)
        sealed = bind.read_only or read_only(str(bind.inside))
        found.append(replace(bind, read_only=sealed))
    return found


def is_read_only(folder: str) -> bool:
    """Return whether a folder lies on a mount that cannot be written to, for whomever."""
    try:
        return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _split(variable: str, points: set[str]) -> Iterator[Bind]:
    """Read a list of destinations, which are not escaped; some versions leave sources and options in it."""
    parts = variable.split(",")
    while parts:
        known = (n for n in range(len(parts), 0, -1) if ",".join(parts[:n]) in points)
        many = next(known, 0)
        text, parts = ",".join(parts[: many or 1]), parts[many or 1 :]
        if many:
            yield Bind(Path(text), Path(text), guessed=True)
        elif text:
            yield _parse(text)


def _parse(text: str) -> Bind:
    source, _, rest = text.partition(":")
    destination, _, options = rest.partition(":")
    inside = Path(destination or source)
    return Bind(inside, Path(source), "ro" in options.split(","), guessed=not destination)


@dataclass(frozen=True)
class _Place:
    """A folder of a file system, whatever it is mounted as."""

    system: tuple[str, ...]
    path: Path
    of_server: bool = False
    """Whether its path is that on a server, the end of which is mounted somewhere."""


def _place(mount: Mount) -> _Place:
    if mount.kind in ("nfs", "nfs4") and ":/" in mount.source:
        # NFS shows "/" of every folder; its path stands beside the server's name.
        server, _, path = mount.source.partition(":/")
        return _Place((server,), _TOP / path, of_server=True)
    subvolume = _SUBVOLUME.search(mount.options)
    if subvolume is not None and mount.shown.is_relative_to(subvolume[1]):
        return _Place((mount.device, subvolume[1]), _TOP / mount.shown.relative_to(subvolume[1]))
    return _Place((mount.device,), mount.shown)


_Named = tuple[Path, _Place]
"""Where a folder of a file system is seen outside."""


def _trace(bind: Bind, mount: Mount, there: list[Mount], own_names: list[_Named]) -> Bind:
    place = _place(mount)
    names = [n for n in _names(place, map(_named, there)) if _place_of(n, there) == place]
    # Outside, every name of a folder is as good; of what is inferred, only one that nothing contradicts.
    if not names and len(inferred := set(_names(place, own_names))) == 1:
        names = list(inferred)
    if names:
        shortest = min(names, key=lambda name: (name != bind.inside, len(name.parts), name))
        return replace(bind, outside=shortest, guessed=False)
    point, top = _without_common_end(bind.inside, place.path)
    elsewhere = any(point == other and whole.system != place.system for other, whole in own_names)
    if place.of_server or (top == _TOP and not elsewhere):
        # The name fits. Of a whole file system that says nothing; of a part, its own name is there again.
        return replace(bind, guessed=place.of_server or place.path == _TOP)
    what = f"{place.path} of the file system {mount.source} ({mount.kind})"
    return replace(bind, outside=None, guessed=False, shows=what)


def _names(place: _Place, table: Iterable[_Named]) -> Iterator[Path]:
    """Yield the paths under which a folder is seen where a table of mounts is in force."""
    for point, whole in table:
        if whole.system == place.system and place.path.is_relative_to(whole.path):
            yield point / place.path.relative_to(whole.path)


def _named(mount: Mount) -> _Named:
    return mount.point, _place(mount)


def _place_of(path: Path, table: list[Mount]) -> _Place | None:
    """Return what is seen at a path, after all that may be mounted over it."""
    mount = mount_of(path, table)
    if mount is None:
        return None
    place = _place(mount)
    return replace(place, path=place.path / path.relative_to(mount.point))


def _own_names(mounts: Iterable[Mount]) -> list[_Named]:
    """Return what is mounted outside, by folders that Apptainer binds by itself: home, working folder, /tmp."""
    found = []
    for mount in mounts:
        place = _place(mount)
        point, top = _without_common_end(mount.point, place.path)
        # With --home A:B and the like the ends of the names are the same by chance.
        fits = top == _TOP or (place.of_server and point not in (_TOP, mount.point))
        if mount.from_outside and fits:
            found.append((point, replace(place, path=top)))
    return found


def _without_common_end(one: Path, other: Path) -> tuple[Path, Path]:
    """Return two absolute paths without the names at their ends that are the same in both."""
    while one != _TOP and other != _TOP and one.name == other.name:
        one, other = one.parent, other.parent
    return one, other
