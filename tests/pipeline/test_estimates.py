"""What a plan says a run takes: counts that follow from geometry, limits that hold."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from soct.pipeline.planning.estimates import COMPILING_BYTES, RECORD_FILES, estimate_steps
from soct.pipeline.resources import LEAST_UNIT_BYTES, WORKER_BYTES
from soct.pipeline.runner import plan
from soct.steps.declaration import Cost, Need, Work
from tests.pipeline.fake_pipeline import STEPS, make_input, make_request, run_fake


def need_of_cut(acquisition, slices, params):
    return Need(disk_bytes=1000 * len(slices), memory_bytes=LEAST_UNIT_BYTES + slices[0])


def make_steps():
    cut = replace(STEPS["cut"], estimate=need_of_cut, cost=Cost(unit=1.0, slice=2.0, serial=0.5))
    return {**STEPS, "cut": cut}


def test_a_cost_is_a_sum_of_rates():
    cost = Cost(unit=1, slice=2, tile=3, raw_mvoxel=4, mvoxel=5, kept_mvoxel=6, mpixel=7)
    work = Work(1, 10, 100, 1000, 10_000, 100_000)
    assert cost.cpu_seconds(work) == 1 + 2 + 30 + 400 + 5000 + 60_000 + 700_000


def test_a_step_that_looks_at_some_tiles_costs_those_tiles_and_their_voxels():
    cost = Cost(unit=1, tile=3, mvoxel=5, most_tiles="most")
    work = Work(slices=1, tiles=10, mvoxels=100)
    assert cost.cpu_seconds(work, SimpleNamespace(most=4)) == 1 + 12 + 200
    assert cost.cpu_seconds(work, SimpleNamespace(most=40)) == 1 + 30 + 500


def test_threads_share_all_but_the_serial_part():
    need = Need(cpu_seconds=8, serial=0.25)
    assert [need.seconds(n) for n in (1, 2, 6)] == [8, 5, 3]


def test_every_step_with_work_has_an_estimate_of_its_units(tmp_path):
    request = make_request(make_input(tmp_path / "in"), tmp_path / "out", steps=make_steps())
    estimates = {e.step: e for e in estimate_steps(plan(request), threads=2)}
    assert {name: e.units for name, e in estimates.items()} == {
        "read": 4, "shifts": 1, "generate_slice_config": 1, "cut": 4, "register": 5, "stack": 1,
    }  # fmt: skip
    cut = estimates["cut"]
    assert (cut.scope, cut.threads, cut.disk_bytes) == ("slice", 2, 4000)
    assert cut.seconds == pytest.approx(3 * (0.5 + 0.5 / 2))
    assert cut.total_seconds == pytest.approx(4 * cut.seconds)
    assert cut.memory_bytes == WORKER_BYTES + COMPILING_BYTES + LEAST_UNIT_BYTES + 5
    assert cut.files == 4 * (1 + RECORD_FILES)


def test_a_pace_stretches_the_time_of_its_step_alone(tmp_path):
    planned = plan(make_request(make_input(tmp_path / "in"), tmp_path / "out", steps=make_steps()))
    plain = {e.step: e.seconds for e in estimate_steps(planned)}
    slow = {e.step: e.seconds for e in estimate_steps(planned, pace={"cut": 10.0})}
    assert slow == {**plain, "cut": 10 * plain["cut"]}


def test_what_is_finished_is_not_estimated(tmp_path):
    source = make_input(tmp_path / "in")
    run_fake(source, tmp_path / "out")
    assert estimate_steps(plan(make_request(source, tmp_path / "out"))) == ()
    again = make_request(source, tmp_path / "out", {"register.power": 2.0})
    assert [e.step for e in estimate_steps(plan(again))] == ["register", "stack"]
