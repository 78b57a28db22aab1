"""A plan on a simulated clock takes what its units take, in the order and with the sharing of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from soct.errors import ResourceError, UsageError
from soct.pipeline.planning.described import (
    Description,
    acquisition_of,
    describe,
    fingerprint_of_described,
    parse_tiles,
)
from soct.pipeline.planning.dry_schedule import Machines, dry_schedule
from soct.pipeline.planning.estimates import estimate_steps
from soct.pipeline.planning.plan import Plan
from soct.pipeline.request import Resources, RunRequest
from soct.pipeline.runner import plan
from soct.steps.declaration import Cost, Need
from tests.pipeline.fake_pipeline import STEPS, make_params

GB = 1 << 30


def make_plan(slices: int, read: Cost, need: Need | None = None, cost: Cost | None = None) -> Plan:
    acquisition = acquisition_of(Description(slices=slices, tiles=(1, 1), tile_size=(4, 4, 4)))
    steps = {name: replace(step, cost=cost or Cost(unit=0.0)) for name, step in STEPS.items()}
    steps["read"] = replace(steps["read"], cost=read, estimate=(lambda *_: need) if need else None)
    request = RunRequest(
        input=Path("no-such-input"),
        folder=Path("no-such-run"),
        subject="s",
        params=make_params(),
        steps=steps,
        resources=Resources(cpus=1),
        acquisition=acquisition,
        fingerprint=fingerprint_of_described,
    )
    return plan(request)


def test_units_that_need_one_thread_each_fill_the_processors():
    planned = make_plan(16, Cost(unit=10.0, serial=1.0))
    assert dry_schedule(planned, Machines(4, 8 * GB)).seconds == pytest.approx(40)
    assert dry_schedule(planned, Machines(4, 8 * GB, nodes=2)).seconds == pytest.approx(20)
    assert dry_schedule(planned, Machines(1, 8 * GB)).seconds == pytest.approx(160)


def test_a_unit_has_the_threads_of_one_machine_at_most():
    planned = make_plan(1, Cost(unit=64.0, serial=0.0))
    assert dry_schedule(planned, Machines(4, 8 * GB, nodes=16)).seconds == pytest.approx(16)


def test_units_that_need_half_the_memory_run_two_at_a_time():
    planned = make_plan(8, Cost(unit=10.0, serial=1.0), Need(memory_bytes=3 * GB))
    assert dry_schedule(planned, Machines(8, 9 * GB)).seconds == pytest.approx(40)


def test_a_unit_that_no_machine_holds_is_refused():
    with pytest.raises(ResourceError):
        dry_schedule(make_plan(1, Cost(), Need(memory_bytes=9 * GB)), Machines(8, 8 * GB, nodes=16))


def test_a_pace_makes_a_step_slower():
    planned = make_plan(4, Cost(unit=10.0, serial=1.0))
    schedule = dry_schedule(planned, Machines(2, 8 * GB), {"read": 3.0})
    assert schedule.seconds == pytest.approx(60)
    assert schedule.spans["read"].busy == pytest.approx(120)
    assert schedule.use == pytest.approx(1.0)


def test_thousands_of_units_are_scheduled_in_seconds():
    planned = make_plan(600, Cost(unit=10.0), Need(memory_bytes=GB), Cost(unit=1.0, serial=0.5))
    schedule = dry_schedule(planned, Machines(8, 8 * GB, nodes=16))
    assert schedule.units == len(planned.units) == 2400
    assert 0.5 < schedule.use <= 1.0


def test_a_description_counts_what_was_never_recorded():
    described = describe(None, {"slices": 60, "tiles": "400", "raw_size": "1TB"})
    assert described.description.tiles == (20, 20)
    acquisition = described.acquisition
    assert len(acquisition.slices) == 60
    assert sum(record.n_bytes for record in acquisition.slices.values()) == pytest.approx(
        1e12, rel=0.01
    )


@pytest.mark.parametrize(
    ("text", "grid"),
    [("400", (20, 20)), ("6", (2, 3)), ("12x9", (12, 9)), ("7", (2, 4)), (1, (1, 1))],
)
def test_tiles_are_laid_as_square_as_they_can_be(text, grid):
    assert parse_tiles(text) == grid


def test_sizes_that_contradict_each_other_are_refused():
    told = {"slices": 60, "tiles": "400", "tile_size": "512x512x700", "raw_size": "1TB"}
    with pytest.raises(UsageError, match="contradict"):
        describe(None, told)
    with pytest.raises(UsageError, match="--tile-size or --raw-size is missing"):
        describe(None, {"slices": 60, "tiles": "400"})


def test_a_description_is_a_file_that_options_replace(tmp_path):
    file = tmp_path / "brain.yaml"
    file.write_text("slices: 10\ntiles: 4x5\ntile_size: 100x100x50\npixel_um: 5\n")
    described = describe(file, {"slices": 3})
    assert (described.description.slices, described.description.tiles) == (3, (4, 5))
    assert described.acquisition.slices[2].tiles[0].info.pixel_um == (5.0, 5.0)


def test_estimates_of_a_described_acquisition_follow_its_geometry():
    one = {e.step: e for e in estimate_steps(make_plan(4, Cost(mvoxel=1.0, unit=0.0)))}
    assert one["read"].units == 4
    assert one["register"].units == 5
    assert one["read"].seconds == pytest.approx(64e-6)
