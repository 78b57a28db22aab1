"""In which container this is, and whether a folder is bound into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from soct.cli.checkup.finding import Finding
from soct.compute.containers import find_container, find_unbound
from soct.compute.mounts import mount_of, read_mounts


def look_at_container(
    folder: Path, root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> Finding:
    """Say in which image this is, and whether the folder is bound into it."""
    container = find_container(root, environment)
    if container is None:
        return Finding("container", "ok", "none", values={"kind": None})
    mounts = read_mounts(root)
    mount, top = mount_of(folder, mounts), mount_of(Path("/"), mounts)
    bound = mount is not None and find_unbound(folder, root, environment) is None
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
        hint = f"what is written there vanishes with the container: bind a folder ({container.how_to_bind})"
        return Finding("container", "warning", text, hint, values)
    return Finding("container", "ok", text, values=values)
