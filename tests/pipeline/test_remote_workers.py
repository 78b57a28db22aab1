"""Workers elsewhere come and go; the scheduler follows, and waits with a limit."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest

from soct.errors import ExitCode
from soct.pipeline.events import UnitFailed, UnitRetried, UnitStarted
from soct.pipeline.request import Resources
from soct.pipeline.runner import run
from soct.pipeline.workers.executors import Place, RemoteExecutor, WorkerDied, WorkerLost
from soct.steps.declaration import Need
from tests.pipeline.fake_pipeline import N_UNITS, STEPS, data_bytes, make_input, make_request


class Elsewhere(RemoteExecutor):
    """Threads that stand for workers of other machines; a plan says which tasks are lost, and when workers are there."""

    def __init__(self, places, breaks=(), absent=0):
        self._places = places
        self._breaks = dict(breaks)
        self._absent = absent
        self._busy = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8)
        self.asked = 0
        self.most = 0

    def slots(self):
        return 0 if self.asked < self._absent else len(self._places)

    def find_place(self, least_bytes):
        with self._lock:
            free = self._places[self._busy :]
        return next((p for p in free if p.memory_bytes >= least_bytes), None)

    def give_up(self):
        self.asked += 1
        return "no worker came" if self.asked > 3 else None

    def submit(self, fn, /, *args, **kwargs):
        error = self._breaks.get(args[0].context.unit.step)
        if error and error[0] > 0:
            self._breaks[args[0].context.unit.step] = (error[0] - 1, error[1])
            future: Future = Future()
            future.set_exception(error[1])
            return future
        with self._lock:
            self._busy += 1
            self.most = max(self.most, self._busy)
        return self._pool.submit(self._run, fn, *args)

    def _run(self, fn, *args):
        try:
            return fn(*args)
        finally:
            with self._lock:
                self._busy -= 1

    def kill(self):
        self._pool.shutdown(wait=False, cancel_futures=True)

    def shutdown(self, wait=True, *, cancel_futures=False):
        self._pool.shutdown(wait=wait, cancel_futures=cancel_futures)


@pytest.fixture
def source(tmp_path):
    return make_input(tmp_path / "in")


def run_elsewhere(source, folder, executor, steps=STEPS):
    events = []
    # Long enough for several to be under way at a time.
    request = make_request(source, folder, {"read.pause_s": 0.05})
    resources = Resources(cpus=1, preload=(), executor=lambda workers: executor)
    outcome = run(replace(request, resources=resources, steps=steps), events.append)
    return outcome, events


def test_as_many_units_run_at_a_time_as_there_are_workers_whatever_the_processors_here(
    source, tmp_path
):
    executor = Elsewhere([Place(7, 1 << 30)] * 3)
    outcome, events = run_elsewhere(source, tmp_path / "out", executor)
    assert (outcome.state, len(outcome.computed)) == ("complete", N_UNITS)
    assert 1 < executor.most <= 3
    assert {e.threads for e in events if isinstance(e, UnitStarted)} == {7}
    run(make_request(source, tmp_path / "here"))
    assert data_bytes(tmp_path / "out") == data_bytes(tmp_path / "here")


def test_a_unit_whose_worker_is_lost_runs_on_another_at_full_concurrency(source, tmp_path):
    lost = {"shifts": (3, WorkerLost("node7 is gone"))}
    executor = Elsewhere([Place(1, 1 << 30)] * 3, lost)
    outcome, events = run_elsewhere(source, tmp_path / "out", executor)
    assert outcome.state == "complete"
    assert [e.reason for e in events if isinstance(e, UnitRetried)] == [
        "node7 is gone; again on another worker"
    ] * 3
    assert executor.most > 1


@pytest.mark.parametrize(
    ("times", "error", "found"),
    [(4, WorkerLost("node7 is gone"), "lost 4 times"), (2, WorkerDied(-9), "died twice")],
)
def test_a_unit_that_is_lost_again_and_again_fails_alone(source, tmp_path, times, error, found):
    executor = Elsewhere([Place(1, 1 << 30)] * 2, {"shifts": (times, error)})
    outcome, events = run_elsewhere(source, tmp_path / "out", executor)
    (failed,) = [e for e in events if isinstance(e, UnitFailed)]
    assert found in failed.failure.found
    assert str(error) in failed.failure.message
    assert {unit.step for unit in outcome.computed} == {"read", "generate_slice_config"}
    assert outcome.exit_code == ExitCode.STEP_FAILED


def test_a_run_waits_for_workers_and_ends_cleanly_when_none_comes(source, tmp_path):
    outcome, _ = run_elsewhere(source, tmp_path / "out", Elsewhere([Place(1, 1 << 30)], absent=2))
    assert outcome.state == "complete"
    outcome, _ = run_elsewhere(source, tmp_path / "none", Elsewhere([]))
    assert (outcome.state, outcome.exit_code) == ("stopped", ExitCode.RESOURCES)
    assert outcome.reason == "no worker came"
    assert outcome.pending == N_UNITS


def test_a_unit_waits_for_a_worker_that_has_the_memory(source, tmp_path):
    need = Need(memory_bytes=500 << 20)
    large = replace(STEPS["shifts"], estimate=lambda *given: need)
    steps = {**STEPS, "shifts": large}
    executor = Elsewhere([Place(1, 400 << 20), Place(1, 600 << 20)])
    outcome, _ = run_elsewhere(source, tmp_path / "out", executor, steps)
    assert outcome.state == "complete"
    executor = Elsewhere([Place(1, 400 << 20)])
    outcome, _ = run_elsewhere(source, tmp_path / "none", executor, steps)
    assert outcome.state == "stopped"
    assert {u.step for u in outcome.computed} == {"read", "generate_slice_config"}
