"""Which mount a folder lies on, and in which container this is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soct.cli.checkup.finding import Finding

IN_MEMORY = ("tmpfs", "ramfs")
OF_CONTAINER = (
    "overlay",
    "squashfs",
    "fuse.squashfuse",
    "fuse.squashfuse_ll",
    "fuse-overlayfs",
    "fuse.fuse-overlayfs",
)


@dataclass(frozen=True)
class Mount:
    """One line of ``/proc/self/mountinfo``."""

    point: Path
    kind: str
    source: str
    read_only: bool


def read_mounts(root: Path = Path("/")) -> list[Mount]:
    """Return all mounts, in the order in which they were made; empty where the system does not tell."""
    try:
        lines = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) >= 6 and len(tail) >= 2:
            read_only = "ro" in (*fields[5].split(","), *"".join(tail[2:3]).split(","))
            found.append(Mount(Path(_plain(fields[4])), tail[0], _plain(tail[1]), read_only))
    return found


def _plain(text: str) -> str:
    """Undo the escapes of blanks and backslashes."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), text)


def mount_of(path: Path, mounts: list[Mount]) -> Mount | None:
    """Return the mount that a path lies on: the deepest, and of several at one place the last."""
    around = [m for m in mounts if path == m.point or m.point in path.parents]
    return max(reversed(around), key=lambda m: len(m.point.parts), default=None)


@dataclass(frozen=True)
class Container:
    """The container that this process is in."""

    kind: str
    image: str


def find_container(
    root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> Container | None:
    """Return the container, None outside of one."""
    variables = os.environ if environment is None else environment
    for name in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER"):
        if name in variables:
            return Container(name.partition("_")[0].capitalize(), variables[name])
    if (root / ".singularity.d").is_dir():
        return Container("Apptainer", "")
    if (root / ".dockerenv").exists():
        return Container("Docker", "")
    if (root / "run/.containerenv").exists():
        return Container("Podman", "")
    return None


def look_at_container(
    folder: Path, root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> Finding:
    """Say in which image this is, and whether the folder is bound into it."""
    container = find_container(root, environment)
    if container is None:
        return Finding("container", "ok", "none", values={"kind": None})
    mounts = read_mounts(root)
    mount, top = mount_of(folder, mounts), mount_of(Path("/"), mounts)
    bound = mount is not None and mount.kind not in (*OF_CONTAINER, *IN_MEMORY)
    values = {
        "kind": container.kind,
        "image": container.image or None,
        "read_only": top.read_only if top else None,
        "folder_bound": bound,
        "bind": str(mount.point) if mount and bound else None,
    }
    image = f" {container.image}" if container.image else ""
    state = ", read-only" if values["read_only"] else ""
    text = f"{container.kind}{image}{state}; {folder} is {'bound' if bound else 'not bound'}"
    if not bound:
        flag = "--bind" if container.kind in ("Apptainer", "Singularity") else "-v"
        hint = f"what is written there vanishes with the container: bind a folder ({flag} FOLDER:FOLDER)"
        return Finding("container", "warning", text, hint, values)
    return Finding("container", "ok", text, values=values)
