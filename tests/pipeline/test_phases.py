"""How a plan is shared out over batch jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from soct.errors import ResourceError
from soct.pipeline.planning.estimates import StepEstimate
from soct.pipeline.planning.phases import GIB, Node, Phase, Wishes, make_phases
from soct.pipeline.slurm.cluster import read_time
from soct.pipeline.slurm.script import bind_options, quoted, slurm_time
from soct.steps.declaration import Scope

MIB = 1 << 20
SCOPES = {
    "cut": Scope.SLICE,
    "fit": Scope.RUN,
    "stitch": Scope.SLICE,
    "space": Scope.RUN,
    "register": Scope.PAIR,
    "pose": Scope.RUN,
    "stack": Scope.RUN,
}


def estimates(units: int = 60, memory: int = 2 * GIB, **seconds: float) -> list[StepEstimate]:
    return [
        StepEstimate(
            step, scope, 1 if scope is Scope.RUN else units, seconds.get(step, 10), 1, memory, 0, 0
        )
        for step, scope in SCOPES.items()
    ]


def phases(
    found: list[StepEstimate], node: Node | None = None, **wishes: float | int
) -> tuple[Phase, ...]:
    return make_phases(SCOPES, found, Wishes(**wishes), node or Node())  # type: ignore[arg-type]


def test_short_steps_of_the_whole_run_are_done_within_their_neighbours_phase() -> None:
    assert [(p.name, p.last_step) for p in phases(estimates())] == [
        ("slices", "space"),
        ("pairs", "register"),
        ("whole", "stack"),
    ]


def test_a_long_step_of_the_whole_run_is_a_phase_of_one_task() -> None:
    found = phases(estimates(fit=3600))
    assert [p.name for p in found] == ["slices", "whole", "slices-2", "pairs", "whole-2"]
    assert [p.tasks for p in found] == [8, 1, 8, 8, 1]


def test_the_task_of_the_whole_run_is_the_larger_one() -> None:
    assert [p.cpus for p in phases(estimates())] == [8, 8, 16]
    assert [p.cpus for p in phases(estimates(), Node(cpus=12))] == [8, 8, 12]
    assert [p.cpus for p in phases(estimates(), cpus=3)] == [3, 3, 3]


def test_what_is_finished_is_no_phase_and_the_report_always_is_one() -> None:
    left = [e for e in estimates() if e.step in ("pose", "stack")]
    assert [p.name for p in phases(left)] == ["whole"]
    assert [(p.name, p.units, p.tasks) for p in phases([])] == [("whole", 0, 1)]


def test_there_are_as_many_tasks_as_there_is_work_for() -> None:
    assert phases(estimates(units=60), cpus=8, tasks=16)[0].tasks == 8
    assert phases(estimates(units=60), cpus=2, tasks=16)[0].tasks == 16
    assert phases(estimates(units=3), cpus=1, tasks=16)[0].tasks == 3


def test_a_task_has_memory_for_the_units_that_run_at_a_time() -> None:
    (first, *_) = phases(estimates(units=16, memory=2 * GIB), cpus=4, tasks=4)
    # Nine tenths of it are soct's.
    assert first.memory_bytes * 0.9 >= 4 * 2 * GIB
    assert first.memory_bytes % GIB == 0
    (few, *_) = phases(estimates(units=2, memory=2 * GIB), cpus=4, tasks=4)
    assert few.memory_bytes < first.memory_bytes


def test_no_phase_has_less_than_one_before_it_which_it_may_have_to_finish() -> None:
    found = phases(estimates(units=60, stitch=9000.0))
    assert [p.memory_bytes for p in found] == sorted(p.memory_bytes for p in found)
    assert [p.time_s for p in found] == sorted(p.time_s for p in found)
    assert found[0].time_s >= 3 * 9000


def test_no_more_is_asked_for_than_a_node_has() -> None:
    node = Node(cpus=4, memory_bytes=7 * GIB + 5 * MIB, time_s=7200)
    for phase in phases(estimates(stitch=9000.0), node):
        assert phase.cpus == 4
        assert phase.memory_bytes == 7 * GIB + 5 * MIB
        assert phase.time_s == 7200


@pytest.mark.parametrize(
    ("node", "wishes"),
    [(Node(memory_bytes=2 * GIB), {}), (Node(), {"memory_bytes": 2 * GIB})],
)
def test_memory_that_is_too_small_for_a_unit_is_refused(node, wishes) -> None:
    with pytest.raises(ResourceError, match="too small for the phase 'slices'"):
        phases(estimates(memory=2 * GIB), node, **wishes)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("30:00", 1800),
        ("1:30:00", 5400),
        ("2-00:00:00", 172800),
        ("1-12", 129600),
        ("infinite", None),
        ("n/a", None),
        ("", None),
    ],
)
def test_times_are_read_as_slurm_writes_them(text, seconds) -> None:
    assert read_time(text) == seconds


@pytest.mark.parametrize("seconds", [60, 1800, 5400, 86400, 172860])
def test_times_are_written_as_slurm_reads_them(seconds) -> None:
    assert read_time(slurm_time(seconds)) == seconds


def test_what_could_act_on_a_terminal_is_written_as_an_escape() -> None:
    assert quoted("plain/path") == "plain/path"
    assert quoted("a b") == "'a b'"
    assert quoted("a\x1b[2Jb'c\\") == "$'a\\033[2Jb\\'c\\\\'"
    assert quoted("\udcff") == "$'\\377'"


def test_paths_that_mean_something_to_a_bind_are_mounted_instead() -> None:
    assert bind_options(Path("/a b"), read_only=True) == ("--bind", "/a b:/a b:ro")
    assert bind_options(Path("/a b")) == ("--bind", "/a b")
    odd = ("--mount", 'type=bind,"source=/a:b,""c","destination=/a:b,""c",ro')
    assert bind_options(Path('/a:b,"c'), read_only=True) == odd
