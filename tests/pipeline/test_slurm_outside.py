"""What folders of a container are called outside of it, from tables of mounts as systems write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from soct.compute.mounts import Mount, read_mounts, read_mounts_outside
from soct.errors import ConfigurationError
from soct.pipeline.slurm.outside import Bind, Outside, is_read_only, source_of, trace_binds

# What Apptainer mounts by itself where the whole system lies on one disk: number, root, mount point, ...
ONE_DISK = """\
80 42 0:41 / / rw,relatime unbindable - overlay overlay ro,lowerdir=/var/lib/apptainer/session
88 80 254:0 /etc/hosts /etc/hosts rw,relatime master:1 - ext4 /dev/vda rw
92 80 254:0 /home/lab /home/lab rw,relatime master:6 - ext4 /dev/vda rw
93 80 254:0 /tmp /tmp rw,relatime master:3 - ext4 /dev/vda rw
"""
ALONE = ONE_DISK.splitlines()[0] + "\n"


def table(folder: Path, text: str, process: str = "self", parent: str = "0") -> list[Mount]:
    at = folder / "proc" / process
    at.mkdir(parents=True, exist_ok=True)
    (at / "mountinfo").write_text(text)
    (at / "status").write_text(f"Name:\tsh\nPPid:\t{parent}\nUid:\t0\n")
    return read_mounts(folder, process)


def line(shown: str, point: str, rest: str = "ext4 /dev/vda rw", device: str = "254:0") -> str:
    return f"103 80 {device} {shown} {point} rw,relatime master:3 - {rest}\n"


def trace(folder: Path, text: str, variable: str, there: str = "") -> list[Bind]:
    outside = table(folder / "outside", there) if there else []
    return trace_binds(variable, table(folder, text), outside, lambda path: False)


LUSTRE = "lustre 10.0.0.1@tcp:/scratch rw"
NFS = "nfs4 server:/export/lab/a rw,vers=4.2"
BTRFS = "btrfs /dev/sda2 rw,subvolid=256,subvol=/@"


@pytest.mark.parametrize(
    ("mounts", "inside", "outside"),
    [
        (line("/srv/raw", "/B"), "/B", "/srv/raw"),
        (line("/data", "/data"), "/data", "/data"),
        (line("/srv/data", "/data"), "/data", "/srv/data"),
        # The working folder says where the file system is mounted outside.
        (
            line("/me", "/lustre/me", LUSTRE, "0:50") + line("/raw/a", "/B", LUSTRE, "0:50"),
            "/B",
            "/lustre/raw/a",
        ),
        (
            line("/", "/nfs/lab/b", NFS.replace("lab/a", "lab/b"), "0:51")
            + line("/", "/B", NFS, "0:51"),
            "/B",
            "/nfs/lab/a",
        ),
        (line("/@/tmp", "/tmp", BTRFS, "0:30") + line("/@/raw", "/B", BTRFS, "0:30"), "/B", "/raw"),
        # A folder of another file system, under the name that it has there.
        (line("/raw", "/lustre/raw", LUSTRE, "0:50"), "/lustre/raw", "/lustre/raw"),
    ],
    ids=["moved", "same name", "same end", "working folder", "nfs", "btrfs", "part"],
)
def test_the_source_of_a_bind_is_found_beside_folders_that_have_their_own_names(
    tmp_path: Path, mounts: str, inside: str, outside: str
) -> None:
    (bind,) = trace(tmp_path, ONE_DISK + mounts, inside)
    assert bind == Bind(Path(inside), Path(outside))


def test_a_source_of_which_nothing_else_is_seen_is_an_error_and_no_guess(tmp_path: Path) -> None:
    (bind,) = trace(tmp_path, ONE_DISK + line("/raw/a", "/B", LUSTRE, "0:50"), "/B")
    assert bind.outside is None
    with pytest.raises(
        ConfigurationError, match="cannot be seen which folder was bound to /B"
    ) as e:
        source_of(bind)
    assert "/raw/a of the file system 10.0.0.1@tcp:/scratch (lustre)" in str(e.value.found)
    assert "slurm.binds: [SOURCE:/B]" in str(e.value.hint)


def test_a_folder_named_as_on_its_own_disk_is_not_at_the_top_if_another_disk_is(
    tmp_path: Path,
) -> None:
    other = line("/raw", "/raw", LUSTRE, "0:50")
    assert trace(tmp_path, ONE_DISK + other, "/raw")[0].outside is None
    assert trace(tmp_path, ALONE + other, "/raw")[0].outside == Path("/raw")


@pytest.mark.parametrize("mount", [line("/", "/data", LUSTRE, "0:50"), line("/", "/data", NFS)])
def test_a_whole_file_system_is_supposed_to_have_its_own_name(tmp_path: Path, mount: str) -> None:
    (bind,) = trace(tmp_path, ONE_DISK + mount, "/data")
    assert bind == Bind(Path("/data"), Path("/data"), guessed=True)


@pytest.mark.parametrize("point", ["/data", "/lustre"])
def test_where_mounts_outside_can_be_seen_they_decide(tmp_path: Path, point: str) -> None:
    there = line("/", "/") + line("/", point, LUSTRE, "0:50") + line("/", "/hidden", LUSTRE, "0:50")
    there += line("/", "/hidden", "tmpfs none rw", "0:60")
    here = ONE_DISK + line("/", "/data", LUSTRE, "0:50")
    (bind,) = trace(tmp_path, here, "/data", there)
    assert bind == Bind(Path("/data"), Path(point))


def test_folders_given_with_other_names_for_home_and_tmp_prove_nothing(tmp_path: Path) -> None:
    moved = line("/srv/homes/lab", "/home/lab") + line("/scratch/w/tmp", "/tmp")
    (bind,) = trace(tmp_path, ALONE + moved + line("/scratch/w/a", "/B"), "/B")
    assert bind.outside is None


def test_what_the_variable_tells_is_kept_and_what_it_lost_is_found(tmp_path: Path) -> None:
    odd = "/raw: tiles, all"
    text = ONE_DISK + line("/b", "/b") + line(odd.replace(" ", "\\040"), odd.replace(" ", "\\040"))
    binds = trace_binds(f"/from:/to,/c:/c:ro,{odd},/b", table(tmp_path, text), [], "/b".__eq__)
    assert binds == [
        Bind(Path("/to"), Path("/from")),
        Bind(Path("/c"), Path("/c"), read_only=True),
        Bind(Path(odd), Path(odd)),
        Bind(Path("/b"), Path("/b"), read_only=True),
    ]
    assert trace(tmp_path, ONE_DISK, "") == []


def test_paths_below_a_bind_are_named_from_its_source_and_the_site_file_goes_first() -> None:
    binds = [Bind(Path("/B"), Path("/a")), Bind(Path("/B/in"), Path("/c")), Bind(Path("/D"), None)]
    outside = Outside(binds)
    assert outside.path(Path("/B/x/y")) == Path("/a/x/y")
    assert outside.path(Path("/B/in/y")) == Path("/c/y")
    assert outside.path(Path("/home/x")) == Path("/home/x")
    with pytest.raises(ConfigurationError):
        outside.path(Path("/D/x"))
    told = Outside(binds, ["/d:/D:ro", "/e:/E"])
    assert told.path(Path("/D/x")) == Path("/d/x")
    assert told.path(Path("/E/x")) == Path("/E/x")
    assert [bind.inside for bind in told.inherited] == [Path("/B"), Path("/B/in")]
    assert Outside((), ["/d:/D"]).path(Path("/D/x")) == Path("/D/x")


def test_mounts_outside_are_those_of_the_nearest_process_that_sees_others(tmp_path: Path) -> None:
    table(tmp_path, ONE_DISK, parent="30")
    table(tmp_path, ONE_DISK, "30", parent="20")
    (tmp_path / "proc/20").mkdir()
    (tmp_path / "proc/20/status").write_text("PPid:\t10\n")
    seen = table(tmp_path, line("/", "/"), "10", parent="1")
    assert read_mounts_outside(tmp_path) == seen
    (tmp_path / "proc/20/status").unlink()
    assert read_mounts_outside(tmp_path) == []


def test_a_folder_that_can_be_written_to_or_is_not_there_is_not_read_only(tmp_path: Path) -> None:
    assert not is_read_only(str(tmp_path))
    assert not is_read_only(str(tmp_path / "nowhere"))
