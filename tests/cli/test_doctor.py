"""soct doctor tries what a run relies on, and says what to do about what it finds."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soct.cli.checkup import folders, processors, site_suggestion, software
from soct.cli.checkup.containers import look_at_container
from soct.cli.checkup.finding import Finding
from soct.cli.checkup.site_suggestion import suggest_site
from soct.cli.tools import doctor
from soct.compute.containers import find_container
from soct.compute.mounts import mount_of, read_mounts
from soct.errors import ExitCode

Soct = Callable[..., Any]

NAMES = [
    "soct", "folder", "container", "processors", "instruction set", "memory", "limits", "slurm", "writing",
    "disk", "files", "file system", "disk speed", "file locks", "claims", "temporary files",
    "shared memory", "cache", "numba", "gpu", "cupy", "dask", "fonts",
]  # fmt: skip


def test_the_json_has_the_documented_keys_and_every_check(soct: Soct, tmp_path: Path) -> None:
    ended = soct("doctor", str(tmp_path), "--json")
    assert ended.code == ExitCode.OK
    document = json.loads(ended.out)
    assert document["format"] == 1
    assert document["status"] in ("ok", "warning")
    assert [check["name"] for check in document["checks"]] == NAMES
    for check in document["checks"]:
        assert set(check) == {"name", "status", "found", "hint", "values"}
        assert check["status"] != "warning" or check["hint"]
    assert not list(tmp_path.iterdir())


def test_a_check_that_fails_is_a_finding_and_the_others_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail() -> Finding:
        raise OSError("broken")

    monkeypatch.setattr(software, "look_at_gpu", fail)
    assert doctor.tell_health(tmp_path, as_json=False) == ExitCode.RESOURCES
    told = capsys.readouterr().out
    assert "error    gpu              OSError: broken" in told
    assert "1 error," in told
    assert len([line for line in told.splitlines() if "->" not in line]) == len(NAMES) + 1


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert {f.name for f in doctor.examine(tmp_path) if f.status == "error"} == {"writing"}


def test_a_folder_where_nothing_can_be_made_is_an_error_and_nothing_is_tried_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(folders.tempfile, "TemporaryDirectory", refuse)
    found = {f.name: f for f in doctor.examine(tmp_path)}
    assert found["writing"].status == "error"
    assert "Read-only file system" in found["writing"].found
    assert all(found[n].found == "not tried" for n in ("disk speed", "file locks", "claims"))


def test_a_folder_that_is_not_there_is_judged_by_where_it_would_be_made(tmp_path: Path) -> None:
    assert folders.nearest_existing(tmp_path / "a" / "b") == tmp_path.resolve()


@pytest.mark.parametrize("how", ["no locks", "granted twice"])
def test_file_locks_that_mean_nothing_are_an_error(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folders.look_at_locks(tmp_path).status == "ok"

    def flock(stream: object, operation: int) -> None:
        if how == "no locks":
            raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    found = folders.look_at_locks(tmp_path)
    assert (found.status, found.values) == ("error", {"flock": False})
    assert "-o flock" in found.hint


def test_without_hard_links_processes_still_share_units(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folders.look_at_claims(tmp_path).values["hard_links"] is True

    def link(*paths: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    found = folders.look_at_claims(tmp_path)
    assert (found.status, found.values["hard_links"]) == ("warning", False)


MOUNTS = """\
1 0 0:1 / / ro,relatime shared:1 - overlay overlay ro,lowerdir=/image
2 1 8:1 / /data rw,relatime shared:2 - lustre 10.0.0.1@tcp:/fs rw
3 1 8:2 / /data/my\\040runs rw - nfs4 server:/export rw
4 1 0:9 / /tmp rw - tmpfs tmpfs rw
"""


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_folder_lies_on_the_deepest_mount(tmp_path: Path) -> None:
    mounts = read_mounts(lay_out(tmp_path, {"proc/self/mountinfo": MOUNTS}))
    kinds = [
        mount_of(Path(p), mounts).kind for p in ("/usr", "/data/a", "/data/my runs/b", "/database")
    ]
    assert kinds == ["overlay", "lustre", "nfs4", "overlay"]


def test_what_is_written_into_a_container_and_not_bound_is_warned_of(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"proc/self/mountinfo": MOUNTS})
    inside = {"APPTAINER_CONTAINER": "/images/soct.sif"}
    bound = look_at_container(Path("/data/run"), root, inside)
    assert (bound.status, bound.values["read_only"]) == ("ok", True)
    assert "soct.sif" in bound.found
    for place in ("/opt/run", "/tmp/run"):
        found = look_at_container(Path(place), root, inside)
        assert (found.status, found.values["folder_bound"]) == ("warning", False)
        assert "--bind" in found.hint
    assert look_at_container(Path("/data/run"), root, {}).found == "none"


@pytest.mark.parametrize(
    ("mark", "kind"), [(".dockerenv", "Docker"), ("run/.containerenv", "Podman")]
)
def test_containers_are_known_by_their_marks(tmp_path: Path, mark: str, kind: str) -> None:
    found = find_container(lay_out(tmp_path, {mark: ""}), {})
    assert found is not None
    assert found.kind == kind


def test_a_folder_in_memory_is_warned_of(tmp_path: Path) -> None:
    root = lay_out(tmp_path, {"proc/self/mountinfo": MOUNTS})
    assert folders.look_at_file_system(Path("/tmp/run"), root).status == "warning"
    assert folders.look_at_file_system(Path("/data/run"), root).values["kind"] == "lustre"


def test_a_slurm_job_is_told_with_what_it_grants() -> None:
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_PARTITION": "short", "SLURM_CPUS_PER_TASK": "4"}
    found = processors.look_at_slurm(job)
    assert "job 7" in found.found
    assert found.values["cpus_per_task"] == "4"
    assert processors.look_at_slurm({}).values["job_id"] is None


def test_cupy_for_a_newer_cuda_than_the_driver_is_warned_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(software, "cupy_variant", lambda: ("cupy-cuda13x", 13))
    monkeypatch.setattr(software, "driver_cuda", lambda: "12.4")
    monkeypatch.setattr(software.importlib.util, "find_spec", lambda name: object())
    found = software.look_at_cupy()
    assert found.status == "warning"
    assert "soct[cuda12]" in found.hint


def test_a_suggested_site_is_a_site_file(tmp_path: Path) -> None:
    from soct.pipeline.sites.site_file import load_site

    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_PARTITION": "short", "SLURM_TMPDIR": "/scratch"}
    file = tmp_path / "site.yaml"
    for environment in ({}, job):
        file.write_text(suggest_site(environment))
        site = load_site(file, {})
        assert site.cpus is not None
        assert site.cpus >= 1
    assert site.scratch == Path("/scratch")
    assert site.slurm.partition == "short"


def test_a_folder_that_is_not_there_and_a_file_are_told_with_what_is_looked_at(
    tmp_path: Path,
) -> None:
    (tmp_path / "brain.yaml").touch()
    for name, told in (("a/b", "is not there"), ("brain.yaml", "is a file")):
        asked = tmp_path / name
        found = folders.look_at_folder(asked, folders.nearest_existing(asked))
        assert found.status == "warning"
        assert told in found.found
        assert found.values["looked_at"] == str(tmp_path.resolve())
    assert folders.look_at_folder(tmp_path, tmp_path).status == "ok"


def test_a_site_file_is_not_printed_as_json(soct: Soct) -> None:
    ended = soct("doctor", "--site", "--json")
    assert ended.code == ExitCode.USAGE
    assert "--site and --json exclude each other" in ended.err


def test_a_site_suggested_beside_slurm_shows_where_its_settings_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from soct.pipeline.sites.site_file import load_site

    monkeypatch.setattr(site_suggestion.shutil, "which", lambda name: f"/usr/bin/{name}")
    text = suggest_site({})
    assert "# slurm:\n#   partition: NAME\n" in text
    shown = text[text.index("# slurm:") :].replace("# ", "")
    (tmp_path / "site.yaml").write_text(text[: text.index("# slurm:")] + shown.replace("#", ""))
    assert load_site(tmp_path / "site.yaml", {}).slurm.partition == "NAME"
