"""Killed at any moment, a run continues, and nobody can tell afterwards."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from soct.pipeline.folder import outputs, records
from soct.pipeline.folder.records import RecordStore
from soct.pipeline.folder.status import read_status
from tests.pipeline.fake_pipeline import N_UNITS, data_bytes, make_input, run_fake

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    source = make_input(folder / "in")
    run_fake(source, folder / "out")
    return source, data_bytes(folder / "out")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_run_killed_at_random_moments_ends_with_the_bytes_of_an_undisturbed_one(
    undisturbed, tmp_path, seed
):
    source, expected = undisturbed
    chance = random.Random(seed)
    folder = tmp_path / "out"
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.pipeline.fake_pipeline", source, folder],
            cwd=ROOT,
            start_new_session=True,
        )
        end = time.monotonic() + 120
        while not (folder / "run.json").exists() and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 1.4))
        process.send_signal(signal.SIGKILL)
        process.wait()
    outcome = run_fake(source, folder)
    assert outcome.state == "complete"
    assert data_bytes(folder) == expected
    assert not [p for p in folder.rglob("*") if ".partial" in p.name]


class Killed(BaseException):
    """Stands for SIGKILL of the main process at one point of its writing."""


@pytest.mark.parametrize("point", range(0, 60, 7))
@pytest.mark.parametrize("where", ["rename", "record", "forget", "fsync"])
def test_a_run_killed_at_a_write_point_ends_with_the_same_bytes(
    undisturbed, tmp_path, monkeypatch, where, point
):
    """Every write of the publishing process goes through one of these four; the worst is between two."""
    source, expected = undisturbed
    counter = {"left": point}

    def dying(function):
        def call(*args, **kwargs):
            counter["left"] -= 1
            if counter["left"] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        if where == "rename":
            patch.setattr(Path, "rename", dying(Path.rename))
        elif where == "record":
            patch.setattr(records, "write_bytes", dying(records.write_bytes))
        elif where == "forget":
            patch.setattr(RecordStore, "forget", dying(RecordStore.forget))
        else:
            patch.setattr(outputs, "fsync_folder", dying(outputs.fsync_folder))
        # A real kill runs no clean-up either.
        patch.setattr("soct.pipeline.desk.Desk.discard", lambda self, task: None)
        try:
            run_fake(source, tmp_path / "out", cpus=1)
        except Killed:
            assert read_status(tmp_path / "out").state == "killed"
    outcome = run_fake(source, tmp_path / "out", cpus=1)
    assert outcome.state == "complete"
    assert data_bytes(tmp_path / "out") == expected


def test_a_resumed_run_computes_only_what_is_missing(undisturbed, tmp_path):
    source, expected = undisturbed
    folder = tmp_path / "out"
    run_fake(source, folder, cpus=1)
    (folder / "state/register/z01_z04.json").unlink()
    (folder / "state/stack/run.json").unlink()
    outcome = run_fake(source, folder, cpus=1)
    assert (len(outcome.computed), outcome.reused) == (2, N_UNITS - 2)
    assert data_bytes(folder) == expected


@pytest.mark.slow
def test_workers_die_with_the_process_that_started_them(undisturbed, tmp_path):
    source, _ = undisturbed
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "tests.pipeline.fake_pipeline", source, folder]
    changes = json.dumps({"read.gate": str(tmp_path / "never")})
    process = subprocess.Popen([*command, changes], cwd=ROOT)
    end = time.monotonic() + 120
    # What a unit says of itself comes from the worker that computes it.
    while not any('"fraction": 0.5' in p.read_text() for p in folder.glob("state/progress/*.json")):
        assert time.monotonic() < end
        time.sleep(0.02)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]
