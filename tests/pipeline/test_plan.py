"""Planning is quick, exact, and writes nothing."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from soct.errors import ConfigurationError, ResourceError
from soct.formats.tiles import Acquisition, Problem, SliceRecord
from soct.pipeline.folder.outputs import FileRecord, OutputRecord
from soct.pipeline.folder.records import Record, RecordStore
from soct.pipeline.graph import build_graph
from soct.pipeline.keys import KeyMaker
from soct.pipeline.planning.plan import Action, make_plan
from soct.pipeline.request import Resources
from soct.pipeline.resources import LEAST_UNIT_BYTES, MAIN_BYTES, WORKER_BYTES, share_out
from soct.pipeline.runner import plan
from soct.steps.declaration import Need, Result, Unit
from tests.pipeline.fake_pipeline import (
    N_UNITS,
    STEPS,
    make_input,
    make_params,
    make_request,
    open_fake,
    run_fake,
)


def need_of_cut(acquisition, slices, params):
    return Need(disk_bytes=1000 * len(slices), memory_bytes=50)


def test_a_plan_of_a_new_run_is_everything_and_makes_no_folder(tmp_path):
    source = make_input(tmp_path / "in")
    steps = {**STEPS, "cut": replace(STEPS["cut"], estimate=need_of_cut)}
    planned = plan(make_request(source, tmp_path / "out", steps=steps))
    assert len(planned.to_compute) == N_UNITS
    assert (planned.cost.disk_bytes, planned.cost.largest_unit_bytes) == (4000, 50)
    assert next((c.step, c.to_run) for c in planned.counts) == ("read", 4)
    assert not (tmp_path / "out").exists()


def test_a_plan_of_a_finished_run_is_nothing(tmp_path):
    source = make_input(tmp_path / "in")
    run_fake(source, tmp_path / "out")
    planned = plan(make_request(source, tmp_path / "out"))
    assert planned.to_compute == ()
    assert planned.reused == N_UNITS


def test_problems_of_the_input_are_part_of_the_plan(tmp_path):
    source = make_input(tmp_path / "in")
    problem = Problem("truncated", "A file is too short", "image_0.bin", 4, 0, 1, "8 B", "7 B")
    acquisition = replace(open_fake(source), problems=(problem,))
    planned = plan(make_request(source, tmp_path / "out", acquisition=acquisition))
    assert planned.problems == (problem,)


@pytest.mark.slow
def test_twenty_thousand_finished_units_are_planned_in_seconds(tmp_path):
    raw = {s: {f"raw_{s}": "abc"} for s in range(5000)}
    graph = build_graph(STEPS, make_params(), raw)
    keys = KeyMaker(graph, make_params(), "sub", raw)
    digests = {}
    file = FileRecord(0, 0, "0" * 64)
    for unit in graph.upstream:
        key = keys.key(unit, digests)
        digests[unit] = key.digest
        write_quickly(
            tmp_path,
            Record(
                unit,
                key,
                (OutputRecord("o", "state", {}, True), OutputRecord("f", "x", {"": file}, False)),
                Result(),
                ("new",),
                "",
                "",
                0.0,
                0,
                1,
                "h",
                1,
                "0",
            ),
        )
    (tmp_path / "x").touch()
    import os

    os.utime(tmp_path / "x", ns=(0, 0))
    acquisition = Acquisition(tmp_path, "raw", {s: SliceRecord(s) for s in raw})
    started = time.process_time()
    planned = make_plan(graph, make_params(), keys, RecordStore(tmp_path), acquisition)
    seconds = time.process_time() - started
    assert {u.action for u in planned.units.values()} == {Action.REUSE}
    assert planned.units[Unit("stack")].reasons == ()
    assert seconds < 30


def write_quickly(folder, record):
    from soct.pipeline.folder.records import encode_record

    path = RecordStore(folder).path(record.unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_record(record))


@pytest.mark.parametrize("gigabytes", [0.7, 1, 2, 4, 16])
@pytest.mark.parametrize("cpus", [1, 4, 64])
def test_workers_and_their_data_fit_into_the_promised_memory(gigabytes, cpus):
    promised = int(gigabytes * (1 << 30))
    budget = share_out(Resources(cpus=cpus, memory_bytes=promised), 0, 1000)
    assert 1 <= budget.workers <= cpus
    assert MAIN_BYTES + budget.workers * WORKER_BYTES + budget.units_bytes <= promised
    assert budget.units_bytes >= budget.workers * LEAST_UNIT_BYTES


def test_there_are_no_more_workers_than_units():
    assert share_out(Resources(cpus=8, memory_bytes=64 << 30), 0, 3).workers == 3


def test_a_unit_that_cannot_fit_is_refused_before_anything_starts():
    with pytest.raises(ResourceError, match="too small"):
        share_out(Resources(cpus=1, memory_bytes=2 << 30), 4 << 30, 3)


def test_what_a_step_checks_ends_the_plan_before_anything_is_made(tmp_path):
    source = make_input(tmp_path / "in")

    def check(params, others):
        assert "read" in others
        raise ConfigurationError("no template")

    steps = {**STEPS, "stack": replace(STEPS["stack"], check=check)}
    with pytest.raises(ConfigurationError, match="no template"):
        plan(make_request(source, tmp_path / "out", steps=steps))
    assert not (tmp_path / "out").exists()


def test_a_file_that_a_parameter_names_runs_its_step_again_when_its_content_changes(tmp_path):
    source = make_input(tmp_path / "in")
    named = tmp_path / "template.bin"
    named.write_bytes(b"one")
    steps = {**STEPS, "stack": replace(STEPS["stack"], files=lambda params: (named,))}
    request = make_request(source, tmp_path / "out", steps=steps)
    run_fake(source, tmp_path / "out", steps=steps)
    assert plan(request).to_compute == ()
    named.write_bytes(b"two")
    again = plan(request).to_compute
    assert [u.unit.step for u in again] == ["stack"]
    assert again[0].reasons == ("file template.bin changed",)
