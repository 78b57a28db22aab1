"""Dask workers give what local ones give, and what goes wrong with them is told and mended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import distributed
import psutil
import pytest

import soct
from soct.errors import ExitCode, ResourceError, UsageError
from soct.pipeline.events import Notice, UnitProgress, UnitRetried, UnitStarted
from soct.pipeline.folder.status import read_status
from soct.pipeline.request import Resources
from soct.pipeline.runner import run
from soct.pipeline.workers import dask_cluster, dask_crew, dask_worker, pools
from soct.pipeline.workers.loop_thread import opened_in_thread
from tests.pipeline.fake_pipeline import (
    N_UNITS,
    data_bytes,
    make_input,
    make_request,
    run_fake,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""For what comes within seconds on a machine that has nothing else to do."""
SECONDS_TO_CONNECT = dask_cluster.CONNECT_S


@contextlib.asynccontextmanager
async def two_workers(**options):
    made = distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=2,
        processes=options.pop("processes", False),
        protocol="tcp",
        asynchronous=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=50,
        memory_limit="2GiB",
        **options,
    )
    async with made as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cluster():
    """Two workers within this process."""
    with opened_in_thread(two_workers) as (_, made):
        yield made


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """Give the scheduler time to answer, on a machine that does other things too."""
    monkeypatch.setattr(dask_cluster, "CONNECT_S", PATIENCE_S)


@pytest.fixture
def source(tmp_path):
    return make_input(tmp_path / "in")


def on_dask(source, folder, dask, changes=None, wait_s=PATIENCE_S, **other):
    request = make_request(source, folder, changes, **other)
    resources = Resources(cpus=2, preload=(), dask=dask, dask_wait_s=wait_s)
    return replace(request, resources=resources)


def test_a_run_on_dask_workers_gives_the_bytes_of_a_local_one(source, tmp_path, cluster):
    run_fake(source, tmp_path / "here")
    events = []
    outcome = run(on_dask(source, tmp_path / "out", cluster.scheduler_address), events.append)
    assert (outcome.state, len(outcome.computed)) == ("complete", N_UNITS)
    assert data_bytes(tmp_path / "out") == data_bytes(tmp_path / "here")
    assert {e.threads for e in events if isinstance(e, UnitStarted)} == {2}
    assert not list((tmp_path / "out").glob(".*.partial"))
    last = read_status(tmp_path / "out").last
    assert last.where == f"Dask {cluster.scheduler_address}"


def test_a_scheduler_file_is_an_address(source, tmp_path, cluster):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": cluster.scheduler_address}))
    events = []
    changes = {"read.pause_s": 0.5}
    outcome = run(on_dask(source, tmp_path / "out", str(file), changes), events.append)
    assert outcome.state == "complete"
    assert {e.unit.step for e in events if isinstance(e, UnitProgress)} == {"read"}


@pytest.mark.parametrize("text", [None, "", "[]", "{}"])
def test_a_file_that_is_none_is_refused(source, tmp_path, text):
    file = tmp_path / "scheduler.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match="scheduler file"):
        run(on_dask(source, tmp_path / "out", str(file)))


def test_an_address_where_nobody_answers_is_one_error_within_seconds(source, tmp_path, monkeypatch):
    assert SECONDS_TO_CONNECT <= 10
    monkeypatch.setattr(dask_cluster, "CONNECT_S", 1.0)
    # Not after the time that workers are waited for.
    with pytest.raises(ResourceError, match="does not answer") as caught:
        run(on_dask(source, tmp_path / "out", "tcp://127.0.0.1:9", wait_s=1e9))
    assert "127.0.0.1:9" in str(caught.value)


def test_without_the_extra_the_error_says_how_to_install_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr(pools, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed") as caught:
        run(on_dask(source, tmp_path / "out", "local"))
    assert "soct[dask]" in str(caught.value.hint)


def test_workers_with_another_soct_are_refused_by_name(source, tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(dask_crew, "soct", SimpleNamespace(__version__="99.0"))
    events = []
    with pytest.raises(ResourceError, match="no worker that can be used") as caught:
        run(on_dask(source, tmp_path / "out", cluster.scheduler_address), events.append)
    assert caught.value.found == f"it has soct {soct.__version__} instead of 99.0"
    refused = [e.text for e in events if isinstance(e, Notice) and "not used" in e.text]
    assert len(refused) == 2


def test_a_unit_that_kills_its_process_is_tried_again_and_the_dask_worker_lives(
    source, tmp_path, cluster
):
    events = []
    changes = {"read.fail_slice": 2, "read.fail_how": "kill_once"}
    outcome = run(
        on_dask(source, tmp_path / "out", cluster.scheduler_address, changes), events.append
    )
    assert outcome.state == "complete"
    (retried,) = [e for e in events if isinstance(e, UnitRetried)]
    assert "was killed by SIGKILL" in retried.reason
    assert len(cluster.scheduler.workers) == 2


@pytest.mark.slow
def test_a_stop_drops_what_runs_and_leaves_nothing_half_written(source, tmp_path, cluster):
    def stop_twice(event):
        if isinstance(event, UnitStarted) and event.unit.step == "read":
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    folder = tmp_path / "out"
    changes = {"read.gate": str(tmp_path / "never")}
    outcome = run(on_dask(source, folder, cluster.scheduler_address, changes), stop_twice)
    assert outcome.exit_code == ExitCode.INTERRUPTED
    wait_until(lambda: not computing_children(), "what was dropped goes on")
    assert not list(folder.rglob("*.partial*"))
    outcome = run(on_dask(source, folder, cluster.scheduler_address))
    assert outcome.state == "complete"


def wait_until(condition, else_tell):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, else_tell
        time.sleep(0.05)


def computing_children():
    """Processes of this one that compute for Dask workers within it."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "child_process" in " ".join(child.cmdline()):
                found.append(child)
    return found


def send_away(cluster):
    return cluster.scale(0)


def close_scheduler(cluster):
    return asyncio.ensure_future(cluster.scheduler.close())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("disaster", "wait_s", "reason"),
    [
        (send_away, 2.0, "no Dask worker could"),
        (close_scheduler, PATIENCE_S, "the Dask scheduler is lost"),
    ],
)
def test_when_all_workers_or_the_scheduler_are_gone_the_run_waits_and_then_stops_cleanly(
    source, tmp_path, monkeypatch, disaster, wait_s, reason
):
    with opened_in_thread(two_workers) as (loop, cluster):
        happened = []

        def strike(event):
            if isinstance(event, UnitStarted) and event.unit.step == "read" and not happened:
                happened.append(True)
                loop.call_soon_threadsafe(disaster, cluster)

        # Also how long a scheduler that is gone is looked for.
        monkeypatch.setattr(dask_cluster, "CONNECT_S", 10.0)
        changes = {"read.gate": str(tmp_path / "never")}
        request = on_dask(source, tmp_path / "out", cluster.scheduler_address, changes, wait_s)
        outcome = run(request, strike)
    assert (outcome.state, outcome.exit_code) == ("stopped", ExitCode.RESOURCES)
    assert reason in outcome.reason
    assert outcome.failures == ()
    assert run_fake(source, tmp_path / "out").state == "complete"


@pytest.mark.slow
def test_when_the_main_process_is_killed_its_units_are_dropped_and_idle_processes_end(
    source, tmp_path, cluster, monkeypatch
):
    monkeypatch.setattr(dask_worker, "IDLE_S", 3.0)
    options = json.dumps({"dask": cluster.scheduler_address})
    command = [sys.executable, "-m", "tests.pipeline.fake_pipeline"]
    changes = json.dumps({"read.gate": str(tmp_path / "never")})
    process = subprocess.Popen([*command, source, tmp_path / "out", changes, options], cwd=ROOT)
    try:
        wait_until(
            lambda: computing_children() and list((tmp_path / "out/read").glob(".partial*")),
            "the run does not begin",
        )
        before = set(computing_children())
    finally:
        process.kill()
        process.wait()
    wait_until(
        lambda: not before & set(computing_children()), "processes of a run that is gone live on"
    )
    outcome = run(on_dask(source, tmp_path / "out", cluster.scheduler_address))
    assert outcome.state == "complete"


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing_but_time(source, tmp_path):
    run_fake(source, tmp_path / "here")
    killed = []
    with opened_in_thread(lambda: two_workers(processes=True)) as (_, cluster):

        def kill_one(event):
            if isinstance(event, UnitStarted) and event.unit.step == "read" and not killed:
                nanny = next(iter(cluster.workers.values()))
                killed.append(nanny.pid)
                os.kill(nanny.pid, signal.SIGKILL)

        changes = {"read.pause_s": 1.0}
        request = on_dask(source, tmp_path / "out", cluster.scheduler_address, changes)
        outcome = run(request, kill_one)
    assert killed
    assert outcome.state == "complete"
    assert len(outcome.computed) == len(set(outcome.computed)) == N_UNITS
    assert data_bytes(tmp_path / "out") == data_bytes(tmp_path / "here")
