"""`soct verify` names every damage; `soct clean` removes what can be made again, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from soct.cli.app import run_app
from soct.cli.main import run_guarded
from soct.errors import ExitCode
from soct.formats.ome_zarr import PyramidWriter
from soct.pipeline.folder.status import read_status, verify
from soct.pipeline.together.lock import hold
from soct.space import Voxel
from tests.pipeline.fake_pipeline import make_input, run_fake


def soct(*arguments: object) -> int:
    words = [str(a) for a in arguments]
    return run_guarded(lambda: run_app(words), words)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    source = make_input(folder / "in")
    assert run_fake(source, folder / "out").state == "complete"
    return folder


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "w")
    document = (tmp_path / "w" / "out" / "run.json").read_text()
    moved = document.replace(str(finished), str(tmp_path / "w"))
    (tmp_path / "w" / "out" / "run.json").write_text(moved)
    return tmp_path / "w" / "out"


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != ".soct.lock"
    }


def test_an_untouched_run_is_as_it_was_written(run, capsys):
    assert soct("verify", run) == ExitCode.OK
    assert "as it was written" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["flip", "truncate", "delete", "record"])
def test_every_damage_is_found_named_and_computed_again(run, capsys, how):
    chunk = next(p for p in run.rglob("c/1") if ".partial" not in str(p))
    if how == "flip":
        data = bytearray(chunk.read_bytes())
        data[7] ^= 1
        status = chunk.stat()
        chunk.write_bytes(data)
        import os

        os.utime(chunk, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif how == "truncate":
        chunk.write_bytes(chunk.read_bytes()[:-1])
    elif how == "delete":
        chunk.unlink()
    else:
        record = next((run / "state" / "read").glob("z01.json"))
        record.write_text(record.read_text()[:100])
    assert soct("verify", run, "--json") == ExitCode.INPUT
    (found,) = json.loads(capsys.readouterr().out)
    assert found["where"].startswith("read:z")
    if how != "record":
        assert str(chunk.relative_to(run)) in found["what"]
    assert soct("verify", run, "--forget") == ExitCode.INPUT
    assert run_fake(run.parent / "in", run).state == "complete"
    assert soct("verify", run) == ExitCode.OK


def test_a_volume_is_read_whole(tmp_path, capsys):
    path = tmp_path / "brain.ome.zarr"
    data = np.random.default_rng(0).uniform(1, 2, (6, 8, 10)).astype(np.float32)
    with PyramidWriter(path, data.shape, Voxel(25, 25, 25), (50,)) as writer:
        writer.append(data, np.ones(data.shape, bool))
    assert soct("verify", path) == ExitCode.OK
    shard = next(p for p in (path / "1" / "c").rglob("*") if p.is_file())
    broken = bytearray(shard.read_bytes())
    broken[9] ^= 8
    shard.write_bytes(broken)
    assert soct("verify", path) == ExitCode.INPUT
    assert str(shard) in capsys.readouterr().out
    assert soct("verify", tmp_path) == ExitCode.INPUT


def test_clean_lists_first_and_removes_only_arrays_of_slices(run, capsys):
    before, raw = files(run), files(run.parent / "in")
    assert soct("clean", run) == ExitCode.OK
    assert files(run) == before
    listed = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert listed
    assert all(Path(path).is_dir() for path in listed)
    assert soct("clean", run, "--yes") == ExitCode.OK
    assert not any(Path(path).exists() for path in listed)
    after = files(run)
    gone = {name for name in before if name not in after}
    assert all(any((run / name).is_relative_to(path) for path in listed) for name in gone)
    assert set(after) - set(before) == {"state/cleaned.json"}
    assert files(run.parent / "in") == raw
    stack = [name for name in before if name.startswith("stack/")]
    assert stack
    assert not set(stack) & gone


def test_what_was_cleaned_is_no_damage_and_can_be_made_again(run, capsys):
    before = files(run)
    assert soct("clean", run, "--yes") == ExitCode.OK
    assert soct("verify", run) == ExitCode.OK
    assert read_status(run).state == "complete"
    assert run_fake(run.parent / "in", run).state == "complete"
    again = files(run)
    kept = [n for n in before if n.endswith(("zarr.json", "c/0", ".txt"))]
    assert {n: again[n] for n in kept} == {n: before[n] for n in kept}
    chunk = next(p for p in run.rglob("c/1"))
    chunk.unlink()
    assert verify(run)


def test_only_leftovers_go_while_a_run_is_not_complete(tmp_path, capsys):
    source = make_input(tmp_path / "in")
    run_fake(source, tmp_path / "out", {"read.fail_slice": 2})
    left = tmp_path / "out" / "read" / ".partial.z09.host.1.abc"
    left.mkdir()
    (left / "data").write_bytes(bytes(1000))
    assert soct("clean", tmp_path / "out", "--yes") == ExitCode.USAGE
    assert left.exists()
    assert soct("clean", tmp_path / "out", "--yes", "--temporaries") == ExitCode.OK
    assert not left.exists()
    assert any((tmp_path / "out" / "read").iterdir())


def test_a_folder_at_work_is_not_cleaned(run):
    with hold(run, "soct run"):
        assert soct("clean", run, "--yes") == ExitCode.LOCKED


def test_links_are_never_followed_out_of_the_run(run, tmp_path):
    outside = tmp_path / "outside"
    grid = next(p for p in (run / "read").iterdir() if p.is_dir() and p.name != "metrics")
    shutil.move(grid, outside)
    grid.symlink_to(outside)
    assert soct("clean", run, "--yes") == ExitCode.OK
    assert (outside / "zarr.json").exists()


def test_a_folder_that_is_no_run_is_left_alone(tmp_path, capsys):
    (tmp_path / "x.partial").mkdir()
    assert soct("clean", tmp_path, "--yes") == ExitCode.INPUT
    assert (tmp_path / "x.partial").exists()
