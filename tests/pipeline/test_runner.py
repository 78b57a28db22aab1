"""A run computes what is missing, once, with the same bytes whatever its surroundings."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from soct.errors import InputError, ResourceError, UsageError
from soct.pipeline.events import Notice, RunEnded, RunPlanned, UnitFailed, UnitRetried, UnitStarted
from soct.pipeline.folder.status import UnitState, read_status, why
from soct.pipeline.request import Resources, Selection
from soct.pipeline.runner import plan, run
from soct.pipeline.stopping import StopControl
from soct.pipeline.workers.executors import WorkerDied
from soct.steps.declaration import Need, Unit
from tests.pipeline.fake_pipeline import (
    N_UNITS,
    STEPS,
    data_bytes,
    make_input,
    make_request,
    run_fake,
)

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0
"""For what comes within a second or two on a machine that has nothing else to do."""


@pytest.fixture
def source(tmp_path):
    return make_input(tmp_path / "in")


def steps_of(outcome):
    return {unit.step for unit in outcome.computed}


def written_files(folder):
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def test_the_second_of_two_equal_runs_computes_nothing_and_writes_no_data(source, tmp_path):
    first = run_fake(source, tmp_path / "out")
    assert (first.state, len(first.computed), first.exit_code) == ("complete", N_UNITS, 0)
    before = written_files(tmp_path / "out")
    second = run_fake(source, tmp_path / "out")
    assert (second.computed, second.reused) == ((), N_UNITS)
    after = written_files(tmp_path / "out")
    changed = {p.name for p in after if before.get(p) != after[p]}
    assert changed <= {"run.json", ".soct.lock"}
    assert after.keys() == before.keys()


@pytest.mark.parametrize("there", [False, True])
def test_a_run_that_cannot_begin_leaves_no_folder_that_was_not_there(source, tmp_path, there):
    folder = tmp_path / "out"
    if there:
        folder.mkdir()
    with pytest.raises(UsageError, match="scheduler file"):
        run(replace(make_request(source, folder), resources=Resources(dask="missing.json")))
    assert folder.exists() is there


@pytest.mark.slow
def test_one_two_and_four_workers_give_identical_bytes(source, tmp_path):
    results = []
    for cpus in (1, 2, 4):
        outcome = run_fake(source, tmp_path / f"out{cpus}", cpus=cpus, processes=True)
        assert (outcome.state, outcome.failures, outcome.pending) == ("complete", (), 0)
        results.append(data_bytes(tmp_path / f"out{cpus}"))
    assert results[0] == results[1] == results[2]


def test_surroundings_make_nothing_run_again(source, tmp_path):
    run_fake(source, tmp_path / "out", cpus=1)
    moved = tmp_path / "elsewhere"
    (tmp_path / "out").rename(moved)
    source = source.rename(tmp_path / "in2")
    outcome = run_fake(
        source,
        moved,
        {"read.chatter": 3},
        resources=Resources(cpus=3, memory_bytes=2 << 30, gpu="auto", preload=()),
    )
    assert outcome.computed == ()


def test_a_changed_parameter_reruns_its_step_and_consumers_and_says_why(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    request = make_request(source, folder, {"register.power": 2.0})
    assert plan(request).units[Unit("register", (1, 2))].reasons == ("power: 1.0 -> 2.0",)
    outcome = run(request)
    assert steps_of(outcome) == {"register", "stack"}
    assert len(outcome.computed) == 6
    assert dict(why(folder, "register"))[Unit("register", (1, 2))] == ("power: 1.0 -> 2.0",)
    ((_, reasons),) = why(folder, "stack:run")
    assert reasons[0].startswith("upstream register changed")


def test_a_changed_raw_file_reruns_what_reads_it(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    (source / "raw_04.txt").write_text("again")
    outcome = run_fake(source, folder)
    assert [u for u in outcome.computed if u.step == "read"] == [Unit("read", (4,))]
    assert why(folder, "read:z04")[0][1] == ("raw file raw_04.txt changed",)


def test_a_new_subject_redoes_only_what_it_names(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    outcome = run_fake(source, folder, subject="sub-02")
    assert outcome.computed == (Unit("stack"),)
    assert (folder / "stack/sub-02.zarr").is_dir()
    assert not (folder / "stack/sub-01.zarr").exists()


def test_a_step_that_is_switched_off_leaves_no_gap(source, tmp_path):
    outcome = run_fake(source, tmp_path / "out", {"cut.enabled": False})
    assert outcome.state == "complete"
    assert not (tmp_path / "out/cut").exists()


def test_from_reads_what_lies_before_as_it_is(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    seen = []
    outcome = run_fake(
        source,
        folder,
        {"cut.amount": 2, "stack.power": 3.0},
        seen.append,
        selection=Selection(first="register"),
    )
    assert steps_of(outcome) == {"stack"}
    assert any(isinstance(e, Notice) and "out of date" in e.text for e in seen)
    # What was left out is caught up with, and with it all that reads it.
    outcome = run_fake(source, folder, {"cut.amount": 2, "stack.power": 3.0})
    assert steps_of(outcome) == {"cut", "register", "stack"}


def test_from_without_what_lies_before_is_refused(source, tmp_path):
    with pytest.raises(UsageError, match="has no usable result"):
        run_fake(source, tmp_path / "out", selection=Selection(first="cut"))


def test_until_and_only_run_no_more_than_that(source, tmp_path):
    outcome = run_fake(source, tmp_path / "out", selection=Selection(last="shifts"))
    assert steps_of(outcome) == {"read", "shifts"}
    selection = Selection(only="cut", unit=(2,))
    outcome = run_fake(source, tmp_path / "out", selection=selection)
    assert outcome.computed == (Unit("cut", (2,)),)
    assert len(run_fake(source, tmp_path / "out").computed) == N_UNITS - 6


def test_a_failing_unit_stops_what_depends_on_it_and_nothing_else(source, tmp_path):
    folder = tmp_path / "out"
    seen = []
    outcome = run_fake(source, folder, {"read.fail_slice": 5}, seen.append)
    assert (outcome.state, outcome.exit_code) == ("failed", 5)
    assert outcome.failures[0].unit == Unit("read", (5,))
    assert "ZeroDivisionError: a bug" in outcome.failures[0].traceback
    blocked = {Unit("cut", (5,)), Unit("register", (2, 5)), Unit("register", (4, 5)), Unit("stack")}
    assert set(outcome.blocked) == blocked
    assert len(outcome.computed) == N_UNITS - 1 - len(blocked)
    assert next(e for e in seen if isinstance(e, UnitFailed)).blocked == outcome.blocked
    status = read_status(folder)
    assert status.state == "failed"
    states = {u.unit: u.state for u in status.units}
    assert states[Unit("read", (5,))] is UnitState.FAILED
    assert {u for u, state in states.items() if state is UnitState.BLOCKED} == blocked
    # Mended, the same command computes the rest and forgets the failure.
    outcome = run_fake(source, folder)
    assert len(outcome.computed) == 1 + len(blocked)
    assert read_status(folder).failures == ()


def test_results_of_what_was_computed_anew_in_a_part_are_outdated(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    assert (read_status(folder).state, read_status(folder).left) == ("complete", {})
    run_fake(source, folder, {"cut.amount": 2}, selection=Selection(last="cut"))
    status = read_status(folder)
    assert (status.state, status.left) == ("partial", {"register": 5, "stack": 1})
    assert run_fake(source, folder, {"cut.amount": 2}).state == "complete"
    assert (read_status(folder).state, read_status(folder).left) == ("complete", {})


def test_an_error_that_the_user_can_mend_comes_home_with_all_its_parts(source, tmp_path):
    changes = {"read.fail_slice": 1, "read.fail_how": "user"}
    (failure,) = run_fake(source, tmp_path / "out", changes, processes=True).failures
    assert (failure.kind, failure.mendable, failure.traceback) == ("InputError", True, "")
    assert (failure.expected, failure.found, failure.hint) == ("good", "bad", "mend it")


def test_an_input_file_that_changes_while_it_is_read_is_found(source, tmp_path):
    changes = {"read.fail_slice": 2, "read.fail_how": "late"}
    (failure,) = run_fake(source, tmp_path / "out", changes).failures
    assert failure.message == "An input file changed while it was read"
    assert failure.file == "raw_02.txt"


def test_a_killed_worker_is_reported_and_its_unit_tried_once_more(source, tmp_path):
    seen = []
    changes = {"read.fail_slice": 2, "read.fail_how": "kill_once"}
    outcome = run_fake(source, tmp_path / "out", changes, seen.append, processes=True)
    assert outcome.state == "complete"
    (retried,) = [e for e in seen if isinstance(e, UnitRetried)]
    assert retried.unit == Unit("read", (2,))
    assert "SIGKILL" in retried.reason


def test_a_unit_that_kills_its_worker_twice_fails_alone(source, tmp_path):
    changes = {"read.fail_slice": 2, "read.fail_how": "kill"}
    outcome = run_fake(source, tmp_path / "out", changes, processes=True)
    assert outcome.exit_code == 5
    (failure,) = outcome.failures
    assert (failure.unit, failure.kind) == (Unit("read", (2,)), "StepError")
    assert "SIGKILL" in failure.message
    assert Unit("read", (5,)) in outcome.computed


def test_a_full_disk_stops_the_run_and_the_rest_can_follow(source, tmp_path):
    changes = {"read.fail_slice": 2, "read.fail_how": "full"}
    outcome = run_fake(source, tmp_path / "out", changes, cpus=1)
    assert outcome.exit_code == 8
    assert outcome.pending > 0
    assert run_fake(source, tmp_path / "out", cpus=1).state == "complete"


def test_damage_that_a_step_stumbles_over_is_mended_within_the_run(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    before = data_bytes(folder)
    damage_unseen(folder / "read/grid_z02.zarr/c/1")
    seen = []
    run_fake(source, folder, {"cut.amount": 3}, seen.append)
    outcome = run_fake(source, folder)
    assert outcome.state == "complete"
    assert data_bytes(folder) == before
    assert any(isinstance(e, UnitRetried) and "damaged" in e.reason for e in seen)
    assert "other content" in why(folder, "read:z02")[0][1][0]


def damage_unseen(path):
    times = path.stat()
    path.write_text("X" + path.read_text()[1:])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_damage_in_several_results_is_mended_in_their_order(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    before = data_bytes(folder)
    damage_unseen(folder / "read/grid_z02.zarr/c/1")
    damage_unseen(folder / "cut/slice_z02.txt")
    outcome = run_fake(source, folder, {"register.fail": True})
    assert {Unit("read", (2,)), Unit("cut", (2,))} <= set(outcome.computed)
    assert run_fake(source, folder).state == "complete"
    assert data_bytes(folder) == before


def test_damage_outside_the_selection_is_named_in_the_failure(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    damage_unseen(folder / "read/grid_z02.zarr/c/1")
    selection = Selection(only="cut")
    outcome = run_fake(source, folder, {"cut.amount": 2}, selection=selection)
    (failure,) = outcome.failures
    assert failure.unit == Unit("cut", (2,))
    assert "read:z02: output read/grid_z02.zarr/c/1 has other content" in failure.found


def test_any_executor_with_the_standard_interface_fits(source, tmp_path):
    assert run_fake(source, tmp_path / "out", processes=False).state == "complete"
    assert run_fake(source, tmp_path / "out2", processes=True).state == "complete"
    assert data_bytes(tmp_path / "out") == data_bytes(tmp_path / "out2")


def test_threads_of_running_units_never_exceed_the_processors(source, tmp_path):
    seen = []
    run_fake(source, tmp_path / "out", listener=seen.append, cpus=3)
    running = {}
    for event in seen:
        if isinstance(event, UnitStarted):
            running[event.unit] = event.threads
            assert sum(running.values()) <= 3
        elif hasattr(event, "peak_memory_bytes"):
            del running[event.unit]
    assert [e.threads for e in seen if isinstance(e, UnitStarted)][-1] == 3


def test_the_first_event_says_what_will_run_and_the_last_how_it_ended(source, tmp_path):
    seen = []
    run_fake(source, tmp_path / "out", listener=seen.append)
    assert isinstance(seen[0], RunPlanned)
    assert seen[0].to_run == N_UNITS
    assert isinstance(seen[-1], RunEnded)


def test_the_ledger_names_every_decision_and_its_step(source, tmp_path):
    run_fake(source, tmp_path / "out")
    with (tmp_path / "out/slice_config_final.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["slice_id"] for row in rows] == ["01", "02", "04", "05"]
    assert {row["galvo_fix"] for row in rows} == {"true"}
    assert rows[0]["notes"] == "read: galvo_fix=true (dark band)"


def assess(step, metric):
    return "warning" if metric.name == "ncc" else "info"


def test_metrics_carry_the_status_of_the_limits_and_follow_when_these_change(source, tmp_path):
    folder = tmp_path / "out"
    run_fake(source, folder)
    path = folder / "register/metrics/z01_z02.json"
    assert json.loads(path.read_text())["overall_status"] == "ok"
    outcome = run_fake(source, folder, assess=assess, assess_digest="2")
    assert outcome.computed == ()
    assert outcome.worst_status == "warning"
    document = json.loads(path.read_text())
    assert document["overall_status"] == "warning"
    assert document["metrics"]["ncc"]["status"] == "warning"
    levels = json.loads((folder / "read/metrics/z01.json").read_text())
    assert levels["metrics"]["level"]["value"] is None


@pytest.mark.parametrize("place", ["", "below", "a/b/c"])
def test_a_run_folder_inside_the_input_is_refused(source, place):
    with pytest.raises(InputError, match="inside the input"):
        run_fake(source, source / place)
    assert sorted(p.name for p in source.iterdir()) == [f"raw_{n:02d}.txt" for n in (1, 2, 4, 5)]


def test_a_link_into_the_input_is_no_way_around(source, tmp_path):
    (tmp_path / "link").symlink_to(source)
    with pytest.raises(InputError, match="inside the input"):
        run_fake(source, tmp_path / "link" / "out")


def test_a_run_folder_of_another_input_is_refused(source, tmp_path):
    run_fake(source, tmp_path / "out")
    other = make_input(tmp_path / "other", (7, 8))
    with pytest.raises(InputError, match="belongs to another input"):
        run_fake(other, tmp_path / "out")


def test_somebody_elses_files_are_not_replaced(source, tmp_path):
    (tmp_path / "out/stack").mkdir(parents=True)
    with pytest.raises(InputError, match="not a run folder"):
        run_fake(source, tmp_path / "out")


def huge_disk(acquisition, slices, params):
    return Need(disk_bytes=1 << 60)


def huge_memory(acquisition, slices, params):
    return Need(memory_bytes=1 << 42)


@pytest.mark.parametrize("estimate", [huge_disk, huge_memory])
def test_too_little_disk_or_memory_is_said_before_anything_starts(source, tmp_path, estimate):
    steps = {**STEPS, "stack": replace(STEPS["stack"], estimate=estimate)}
    resources = Resources(cpus=2, memory_bytes=2 << 30, preload=())
    with pytest.raises(ResourceError):
        run_fake(source, tmp_path / "out", steps=steps, resources=resources)
    assert not (tmp_path / "out/state").exists()


def test_a_memory_limit_below_what_a_worker_takes_is_refused(source, tmp_path):
    with pytest.raises(ResourceError, match="too small"):
        run_fake(source, tmp_path / "out", resources=Resources(cpus=2, memory_bytes=100 << 20))


@contextmanager
def at_work(source, folder, gate):
    """Run in a process of its own, at work on its first units, which end when the gate is opened."""
    command = [sys.executable, "-m", "tests.pipeline.fake_pipeline", source, folder]
    with subprocess.Popen(
        [*command, json.dumps({"read.gate": str(gate)})],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            wait_for(folder / "state/progress", "*.json")
            yield process
        finally:
            process.kill()


def wait_for(folder, pattern):
    end = time.monotonic() + PATIENCE_S
    while not list(folder.glob(pattern)):
        assert time.monotonic() < end, f"{pattern} did not come"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "SIGINT")],
)
def test_a_signal_ends_a_run_soon_and_the_same_command_goes_on(
    source, tmp_path, number, code, reason
):
    folder, gate = tmp_path / "out", tmp_path / "gate"
    with at_work(source, folder, gate) as process:
        process.send_signal(number)
        assert process.stderr.readline() == "stopping\n"
        gate.touch()
        assert process.wait(PATIENCE_S) == code, process.stderr.read()
    status = read_status(folder)
    assert (status.state, status.last.reason, status.last.exit_code) == ("stopped", reason, code)
    assert not list(folder.glob("*/.partial*"))
    assert run_fake(source, folder).state == "complete"


@pytest.mark.slow
def test_a_second_interrupt_drops_what_runs(source, tmp_path):
    folder = tmp_path / "out"
    with at_work(source, folder, tmp_path / "never") as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "stopping\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == "dropping\n"
        assert process.wait(PATIENCE_S) == 130
    assert not list(folder.glob("*/.partial*"))


def test_a_second_interrupt_does_not_wait_for_the_grace_of_the_first():
    with StopControl() as stop:
        for drops in (False, True):
            os.kill(os.getpid(), signal.SIGINT)
            assert (stop.is_asked(), stop.must_drop()) == (True, drops)


@pytest.mark.slow
def test_a_run_stops_at_its_time_limit_with_a_code_that_says_run_me_again(source, tmp_path):
    folder = tmp_path / "out"
    resources = Resources(cpus=2, preload=(), max_runtime_s=1.5)
    outcome = run_fake(source, folder, {"read.pause_s": 1}, resources=resources)
    assert (outcome.state, outcome.exit_code, outcome.reason) == ("stopped", 75, "time limit")
    assert outcome.pending == N_UNITS - len(outcome.computed) > 0
    assert run_fake(source, folder).state == "complete"


class EndedWithTheRun(ThreadPoolExecutor):
    """Workers that are ended together with the run, as a batch system may do."""

    def submit(self, *given, **more):
        os.kill(os.getpid(), signal.SIGTERM)
        ended = Future()
        ended.set_exception(WorkerDied(-signal.SIGTERM))
        return ended


def test_a_worker_that_is_ended_with_the_run_is_no_failure_of_its_unit(source, tmp_path):
    resources = Resources(cpus=1, preload=(), executor=EndedWithTheRun)
    outcome = run_fake(source, tmp_path / "run", resources=resources)
    assert outcome.state == "stopped"
    assert not outcome.failures
    assert run_fake(source, tmp_path / "run").state == "complete"


def test_a_run_stops_before_slurm_ends_the_job(source, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + 30)))
    outcome = run_fake(source, tmp_path / "out")
    assert (outcome.exit_code, outcome.computed) == (75, ())


@pytest.mark.slow
def test_status_of_a_run_at_work_is_consistent_and_takes_no_lock(source, tmp_path):
    folder, gate = tmp_path / "out", tmp_path / "gate"
    changes = {"read.gate": str(gate)}
    thread = threading.Thread(target=run_fake, args=(source, folder, changes))
    thread.start()
    try:
        wait_for(folder / "state/progress", "*.json")
        seen = 0
        # The units at work at first may be others, which are over soon.
        while not seen:
            status = read_status(folder)
            seen = [u.state for u in status.units].count(UnitState.RUNNING)
            assert seen <= 2
        assert status.state == "running"
        assert status.holder.command == "soct run"
        json.dumps(status.as_document(), default=str)
    finally:
        gate.touch()
        thread.join()
    assert read_status(folder).state == "complete"
