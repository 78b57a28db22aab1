"""The pace of a machine comes from what units took, or from a probe."""

from __future__ import annotations

import json

import pytest

from soct.pipeline.planning.estimates import estimate_steps
from soct.pipeline.planning.pace import Pace, Taken, measure_pace, probe_pace
from soct.pipeline.planning.run_estimate import estimate_run
from soct.pipeline.request import Resources
from soct.pipeline.runner import plan
from soct.steps.declaration import Need, Unit
from tests.pipeline.fake_pipeline import make_input, make_request, run_fake


def taken(step: str, seconds: float, declared: float, threads: int = 1) -> Taken:
    return Taken(step, seconds, threads, Need(cpu_seconds=declared, serial=0.0))


def test_without_units_that_took_time_there_is_no_pace():
    assert measure_pace([]) is None
    assert measure_pace([taken("read", 0.001, 1.0)]) is None


def test_each_step_has_its_own_pace_and_others_that_of_all():
    pace = measure_pace([taken("read", 4, 1), taken("read", 2, 1), taken("cut", 1, 1)])
    assert pace is not None
    assert pace.of(("read", "cut", "stack")) == {
        "read": 3.0, "cut": 1.0, "stack": pytest.approx(7 / 3),
    }  # fmt: skip
    assert pace.units == 3


def test_a_unit_on_several_threads_is_compared_with_the_time_for_as_many():
    pace = measure_pace([taken("read", 2, 8, threads=4)])
    assert pace is not None
    assert pace.by_step["read"] == 1.0


def test_measured_units_make_an_estimate_surer_than_a_probe():
    assert Pace({}, 1.0, units=5).spread < Pace({}).spread


def test_a_probe_tells_a_plausible_factor():
    assert 0.05 < probe_pace().others < 50


def test_a_run_that_goes_on_is_estimated_by_what_its_units_took(tmp_path):
    source = make_input(tmp_path / "in")
    run_fake(source, tmp_path / "out")
    store = tmp_path / "out" / "state" / "cut"
    from soct.pipeline.folder.records import RecordStore, encode_record

    records = RecordStore(tmp_path / "out")
    for path in store.glob("z*.json"):
        record = records.read(Unit("cut", (int(path.stem[1:]),)))
        from dataclasses import replace

        path.write_bytes(encode_record(replace(record, seconds=10.0, threads=1)))
        assert json.loads(path.read_bytes())
    again = plan(make_request(source, tmp_path / "out", {"cut.amount": 5}))
    estimate = estimate_run(again, Resources(cpus=1, memory_bytes=8 << 30))
    assert {e.step: round(e.seconds, 1) for e in estimate.steps}["cut"] == 10.0
    assert {e.step for e in estimate_steps(again)} == {"cut", "register", "stack"}
    assert "units of this run" in estimate.basis
