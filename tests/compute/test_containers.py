"""What is written into a container's own folders goes with it, and only those are told of."""

from __future__ import annotations

from pathlib import Path

import pytest

from soct.compute import containers
from soct.compute.containers import (
    Container,
    find_unbound,
    hint_to_bind,
    hint_to_bind_writable,
)
from soct.compute.mounts import Mount

SESSION = "/var/lib/apptainer/mnt/session"
CONTAINED = f"""\
80 42 0:41 / / rw,nodev unbindable - overlay overlay ro,lowerdir={SESSION}/rootfs
89 80 0:40 /dev /dev rw,nosuid master:14 - tmpfs tmpfs rw
90 89 0:45 / /dev/shm rw,nosuid - tmpfs tmpfs rw
101 80 0:40 /home/me /home/me rw,nosuid master:14 - tmpfs tmpfs rw
102 80 0:40 /tmp /tmp rw,nosuid master:14 - tmpfs tmpfs rw
103 80 8:1 /home/me/runs /data rw,nosuid master:3 - ext4 /dev/sda rw
"""
"""As `apptainer exec --contain --bind /home/me/runs:/data` has it."""
PLAIN = f"""\
80 42 0:41 / / rw,nodev unbindable - overlay overlay ro,lowerdir={SESSION}/rootfs
82 80 0:6 / /dev rw,relatime master:9 - devtmpfs devtmpfs rw
83 82 0:23 / /dev/shm rw,relatime master:10 - tmpfs tmpfs rw
84 80 0:30 / /tmp rw,nosuid master:3 - tmpfs tmpfs rw
"""
"""As `apptainer exec` has it where the host's /tmp lies in memory."""
WRITABLE = f"""\
83 42 0:41 / / rw - overlay overlay rw,upperdir={SESSION}/tmpfs/upper,workdir={SESSION}/tmpfs/work
"""
KEPT = "83 42 0:41 / / rw - overlay overlay rw,upperdir=/mnt/session/overlay-images/0/upper\n"
DOCKER = """\
1 0 0:41 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/A
2 1 8:1 /home/me /data rw,relatime - ext4 /dev/sda rw
"""
ON_DISK = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
APPTAINER = {"APPTAINER_CONTAINER": "/images/soct.sif"}


@pytest.mark.parametrize(
    ("mounts", "folder", "certain"),
    [
        (CONTAINED, "/tmp/out/run1", True),
        (CONTAINED, "/home/me/run1", True),
        (CONTAINED, "/dev/shm/run1", False),
        (CONTAINED, "/data/run1", None),
        (PLAIN, "/tmp/run1", None),
        (PLAIN, "/dev/shm/run1", None),
        (WRITABLE, "/run1", True),
        (KEPT, "/run1", False),
    ],
)
def test_apptainers_own_folders_are_known_from_those_of_the_host(
    mounts: str, folder: str, certain: bool | None, tmp_path: Path
) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(mounts)
    found = find_unbound(Path(folder), tmp_path, APPTAINER)
    assert (None if found is None else found.certain) is certain
    assert find_unbound(Path(folder), tmp_path, {}) is None


@pytest.mark.parametrize(
    ("mounts", "folder", "unbound"),
    [
        (DOCKER, "/results/run", True),
        (DOCKER, "/data/run", False),
        (ON_DISK, "/home/lab/run", False),
    ],
)
def test_a_docker_container_is_looked_into_later_so_nothing_is_certain(
    mounts: str, folder: str, unbound: bool, tmp_path: Path
) -> None:
    (tmp_path / ".dockerenv").touch()
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(mounts)
    found = find_unbound(Path(folder), tmp_path, {})
    assert (found is not None) is unbound
    assert found is None or not found.certain


def test_the_option_to_bind_is_that_of_the_container(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, option in (("Apptainer", "--bind FOLDER"), ("Docker", "-v FOLDER:FOLDER")):
        inside = Container(kind, "")
        monkeypatch.setattr(containers, "find_container", lambda inside=inside: inside)
        assert option in hint_to_bind(Path("/raw"))
    monkeypatch.setattr(containers, "find_container", lambda: None)
    assert hint_to_bind(Path("/raw")) == hint_to_bind_writable(Path("/out")) == ""


@pytest.mark.parametrize(
    ("mount", "told"),
    [
        (Mount(Path("/"), "overlay", "overlay", read_only=True), "with --bind FOLDER"),
        (Mount(Path("/"), "ext4", "/dev/sda", read_only=True), "without :ro"),
        (Mount(Path("/"), "ext4", "/dev/sda", read_only=False), ""),
    ],
)
def test_a_folder_that_cannot_be_written_to_is_told_how_it_is_bound(
    mount: Mount, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "find_container", lambda: Container("Apptainer", ""))
    monkeypatch.setattr(containers, "read_mounts", lambda: [mount])
    hint = hint_to_bind_writable(Path("/out"))
    assert told in hint
    assert bool(hint) is bool(told)
