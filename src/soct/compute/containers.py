"""In which container this process is, and whether what it writes into a folder outlives it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soct.compute.mounts import IN_MEMORY, Mount, mount_of, read_mounts

_OF_CONTAINER = (
    "overlay",
    "squashfs",
    "fuse.squashfuse",
    "fuse.squashfuse_ll",
    "fuse-overlayfs",
    "fuse.fuse-overlayfs",
)
_UPPER_IN_MEMORY = "/mnt/session/tmpfs/"
"""Where Apptainer's ``--writable-tmpfs`` keeps what is written."""


@dataclass(frozen=True)
class Container:
    """The container that this process is in."""

    kind: str
    image: str

    @property
    def is_apptainer(self) -> bool:
        """Whether it is Apptainer, under any of its names."""
        return self.kind in ("Apptainer", "Singularity")

    @property
    def how_to_bind(self) -> str:
        """The option that lets it see a folder."""
        return "--bind FOLDER" if self.is_apptainer else "-v FOLDER:FOLDER"


@dataclass(frozen=True)
class Unbound:
    """A folder that is the container's own: what is written there goes with it."""

    container: Container
    certain: bool
    """Whether it surely vanishes: an overlay may be kept, an image may be looked into later."""


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


def find_unbound(
    folder: Path, root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> Unbound | None:
    """Return why what is written into a folder goes with the container; None where it stays.

    Parameters
    ----------
    folder : Path
        It need not be there.
    root : Path
        Where ``/proc`` and the marks of containers are looked for.
    environment : mapping, optional
        None is that of this process.
    """
    container = find_container(root, environment)
    if container is None:
        return None
    mounts = read_mounts(root)
    mount = mount_of(folder.resolve(), mounts)
    if mount is None or mount.kind not in (*_OF_CONTAINER, *IN_MEMORY):
        return None
    if not container.is_apptainer:
        return Unbound(container, certain=False)
    if _is_of_session(mount, mounts):
        return Unbound(container, certain=True)
    if mount.kind in IN_MEMORY and mount.from_outside:
        # The host's own /tmp or /dev/shm, which Apptainer binds by itself.
        return None
    return Unbound(container, certain=False)


def _is_of_session(mount: Mount, mounts: list[Mount]) -> bool:
    """Whether a mount is of the file system in memory that Apptainer makes and ends with the container."""
    if mount.kind in IN_MEMORY:
        # With --contain, /dev, the home folder, /tmp and /var/tmp are folders of that one file system.
        device = mount_of(Path("/dev"), mounts)
        return device is not None and device.point != mount.point and device.device == mount.device
    return _UPPER_IN_MEMORY in mount.options


def hint_to_bind(path: Path) -> str:
    """Return what to do where a path is not there; empty outside of a container."""
    container = find_container()
    if container is None:
        return ""
    return (
        f"In a container ({container.kind}) only folders that are bound into it can be seen: "
        f"start it with {container.how_to_bind}."
    )


def hint_to_bind_writable(folder: Path) -> str:
    """Return what to do where a folder cannot be written to; empty where the container has no part in it."""
    container = find_container()
    mount = mount_of(folder.resolve(), read_mounts()) if container else None
    if container is None or mount is None:
        return ""
    if mount.kind in _OF_CONTAINER:
        return (
            f"{mount.point} is the container's own ({container.kind}), which is not for results: "
            f"bind a folder into it with {container.how_to_bind}."
        )
    if mount.read_only:
        return f"{mount.point} is bound read-only: bind it without :ro."
    return ""
