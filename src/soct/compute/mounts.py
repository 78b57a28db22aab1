"""Which mount a folder lies on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    point: Path
    kind: str
    source: str
    read_only: bool
    device: str = ""
    """Two mounts of one file system have the same."""
    from_outside: bool = False
    """Whether it follows a mount of another mount namespace, as binds of the host's folders do."""
    options: str = ""
    """Of the file system, such as ``upperdir=...`` of an overlay."""
    shown: Path = Path("/")
    """Which folder of the file system it is that can be seen there."""


def read_mounts(root: Path = Path("/"), process: str = "self") -> list[Mount]:
    """Return all mounts, in the order in which they were made; empty where the system does not tell."""
    try:
        lines = (root / "proc" / process / "mountinfo").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) >= 6 and len(tail) >= 2:
            options = "".join(tail[2:3])
            found.append(
                Mount(
                    point=Path(_plain(fields[4])),
                    kind=tail[0],
                    source=_plain(tail[1]),
                    read_only="ro" in (*fields[5].split(","), *options.split(",")),
                    device=fields[2],
                    from_outside=any(field.startswith("master:") for field in fields[6:]),
                    options=options,
                    shown=Path(_plain(fields[3])),
                )
            )
    return found


def read_mounts_outside(root: Path = Path("/")) -> list[Mount]:
    """Return the mounts of what started this container, as far as the system lets its processes be looked at.

    Parameters
    ----------
    root : Path
        Where ``/proc`` is.

    Returns
    -------
    list of Mount
        Those of the nearest process above that sees others than this one; empty where there is none.
    """
    own, process = read_mounts(root), "self"
    while (process := _parent(root, process)) not in ("", "0"):
        found = read_mounts(root, process)
        if found and found != own:
            return found
    return []


def _parent(root: Path, process: str) -> str:
    try:
        status = (root / "proc" / process / "status").read_text()
    except OSError:
        return ""
    return "".join(re.findall(r"^PPid:\s*(\d+)$", status, re.MULTILINE))


def _plain(text: str) -> str:
    """Undo the escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def mount_of(path: Path, mounts: list[Mount]) -> Mount | None:
    """Return the mount that a path lies on: the deepest, and of several at one place the last."""
    around = [m for m in mounts if path == m.point or m.point in path.parents]
    return max(reversed(around), key=lambda m: len(m.point.parts), default=None)
