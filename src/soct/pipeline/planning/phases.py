"""The phases of a run as a cluster sees it: stretches of the pipeline that want the same kind of batch job.

Work on slices and on pairs is shared out over an array of tasks; what concerns the whole run wants one task with
more processors and memory. A step of the whole run that takes less than a job waits in the queue is no phase
of its own: any task of the array computes it while the others wait.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from soct.errors import ResourceError
from soct.pipeline.planning.estimates import StepEstimate
from soct.pipeline.profiles.quantities import format_size
from soct.pipeline.resources import MAIN_BYTES, WORKER_BYTES
from soct.steps.declaration import Scope

SHORT_S = 600.0
"""A step of the whole run that is over sooner is done within its neighbours' phase."""
DEFAULT_CPUS = 8
WHOLE_CPUS = 16
"""Of the one task that computes what concerns the whole run."""
TIME_MARGIN = 3.0
"""Estimated times are guesses: jobs ask for so much more."""
START_S = 900.0
"""Start of the container, import, compilation, and waiting for the last unit of another task."""
MEMORY_MARGIN = 1.25
PROMISED = 0.9
"""Part of a job's memory that soct is told to stay below; the rest is for the system's own."""
GIB = 1 << 30
_NAMES = {Scope.SLICE: "slices", Scope.PAIR: "pairs", Scope.RUN: "whole"}


@dataclass(frozen=True)
class Node:
    """What a node of the partition has, as far as it is known."""

    cpus: int | None = None
    memory_bytes: int | None = None
    time_s: float | None = None
    """The longest that a job may run."""


@dataclass(frozen=True)
class Wishes:
    """What the user or the site says about every task; None: decided here."""

    cpus: int | None = None
    memory_bytes: int | None = None
    time_s: float | None = None
    tasks: int = 16


@dataclass(frozen=True)
class Phase:
    """One array of tasks."""

    name: str
    scope: Scope
    steps: tuple[str, ...]
    """In pipeline order; the last is given to ``--until``."""
    units: int
    """To be computed in it."""
    tasks: int = 1
    cpus: int = 1
    memory_bytes: int = 0
    """Of a task."""
    time_s: float = 0.0
    """Time limit of a task."""
    expected_s: float = 0.0
    """How long it may take if all tasks run at a time."""
    longest_unit_s: float = 0.0
    """Estimate for its longest unit."""
    gpu: bool = False

    @property
    def last_step(self) -> str:
        """Where ``soct run`` stops."""
        return self.steps[-1]


def make_phases(
    scopes: Mapping[str, Scope],
    estimates: Sequence[StepEstimate],
    wishes: Wishes,
    node: Node,
    on_gpu: Iterable[str] = (),
) -> tuple[Phase, ...]:
    """Share a plan out over batch jobs.

    Parameters
    ----------
    scopes : mapping
        Scope of every selected step, in pipeline order.
    estimates : sequence of StepEstimate
        Of the steps that have units to compute: those of slices and pairs on one thread, for a task computes as
        many at a time as it has processors; those of the whole run on `task_cpus`.
    wishes : Wishes
    node : Node
    on_gpu : iterable of str
        Steps that compute on a GPU.

    Returns
    -------
    tuple of Phase
        In order; at least one, for the report, also where nothing is left to compute.

    Raises
    ------
    ResourceError
        The memory of a task, or of a node, is too small for a unit.
    """
    by_step = {estimate.step: estimate for estimate in estimates}
    stretches = [s for s in _stretches(scopes, by_step) if any(step in by_step for step in s.steps)]
    if not stretches:
        stretches = [Phase("whole", Scope.RUN, tuple(scopes), 0)]
    with_gpu = set(on_gpu)
    sized = []
    for stretch in _named(stretches):
        work = [by_step[step] for step in stretch.steps if step in by_step]
        phase = _sized(stretch, work, wishes, node)
        sized.append(replace(phase, gpu=any(e.step in with_gpu for e in work)))
    return _able_to_finish_earlier_ones(sized)


def task_cpus(scope: Scope, wishes: Wishes, node: Node) -> int:
    """Return the processors of a task."""
    usual = WHOLE_CPUS if scope is Scope.RUN else DEFAULT_CPUS
    return wishes.cpus or min(usual, node.cpus or usual)


def _stretches(scopes: Mapping[str, Scope], by_step: Mapping[str, StepEstimate]) -> list[Phase]:
    """Return the steps in groups of one scope each."""
    shared = [index for index, scope in enumerate(scopes.values()) if scope is not Scope.RUN]
    groups: list[tuple[Scope | None, list[str]]] = []
    for index, (step, own) in enumerate(scopes.items()):
        is_between = own is Scope.RUN and index < max(shared, default=0)
        is_short = step not in by_step or by_step[step].seconds < SHORT_S
        scope = None if is_between and is_short else own
        if not groups or (scope is not None and groups[-1][0] not in (None, scope)):
            groups.append((scope, [step]))
        else:
            groups[-1] = (groups[-1][0] or scope, [*groups[-1][1], step])
    return [Phase("", scope or Scope.RUN, tuple(steps), 0) for scope, steps in groups]


def _named(stretches: Iterable[Phase]) -> list[Phase]:
    """Give every phase the name of its scope, with a number from the second on."""
    seen: dict[Scope, int] = {}
    named = []
    for phase in stretches:
        seen[phase.scope] = number = seen.get(phase.scope, 0) + 1
        name = _NAMES[phase.scope] + (f"-{number}" if number > 1 else "")
        named.append(replace(phase, name=name))
    return named


def _sized(phase: Phase, work: Sequence[StepEstimate], wishes: Wishes, node: Node) -> Phase:
    cpus = task_cpus(phase.scope, wishes, node)
    widest = max((e.units for e in work if e.scope is not Scope.RUN), default=1)
    tasks = 1 if phase.scope is Scope.RUN else max(1, min(wishes.tasks, math.ceil(widest / cpus)))
    expected = sum(_seconds(estimate, tasks, cpus) for estimate in work)
    longest = max((estimate.seconds for estimate in work), default=0.0)
    return replace(
        phase,
        units=sum(estimate.units for estimate in work),
        tasks=tasks,
        cpus=cpus,
        memory_bytes=_memory(phase, work, wishes, node, cpus, tasks),
        time_s=_time(max(expected, longest), wishes, node),
        expected_s=expected,
        longest_unit_s=longest,
    )


def _seconds(estimate: StepEstimate, tasks: int, cpus: int) -> float:
    return math.ceil(estimate.units / (tasks * cpus)) * estimate.seconds


def _memory(
    phase: Phase,
    work: Sequence[StepEstimate],
    wishes: Wishes,
    node: Node,
    cpus: int,
    tasks: int,
) -> int:
    """Return the memory of a task: what its units need at a time, as far as a node has it."""
    least = _job_bytes(MAIN_BYTES + max((e.memory_bytes for e in work), default=WORKER_BYTES))
    wanted = max(
        (
            MAIN_BYTES + min(cpus, math.ceil(e.units / tasks)) * e.memory_bytes * MEMORY_MARGIN
            for e in work
        ),
        default=0.0,
    )
    for there, whose, hint in (
        (wishes.memory_bytes, "a task", "Raise --memory, or slurm.memory in the site file."),
        (node.memory_bytes, "the partition's nodes", "Choose a partition with larger nodes."),
    ):
        if there is not None and there < least:
            raise ResourceError(
                f"The memory of {whose} is too small for the phase {phase.name!r}",
                expected=f"at least {format_size(least)}",
                found=format_size(there),
                hint=hint,
            )
    if wishes.memory_bytes is not None:
        return wishes.memory_bytes
    asked = max(_whole_gib(wanted / PROMISED), _whole_gib(least), 2 * GIB)
    # A node that just fits must not be asked for more than it has by rounding.
    return min(asked, node.memory_bytes or asked)


def _job_bytes(promised: float) -> int:
    return math.ceil(promised / PROMISED)


def _whole_gib(size: float) -> int:
    return math.ceil(size / GIB) * GIB


def _time(seconds: float, wishes: Wishes, node: Node) -> float:
    """Return the time limit of a task: with a margin, in quarters of an hour, no more than is allowed."""
    if wishes.time_s is not None:
        return wishes.time_s
    asked = math.ceil((TIME_MARGIN * seconds + START_S) / 900) * 900.0
    return min(asked, node.time_s or asked)


def _able_to_finish_earlier_ones(phases: Sequence[Phase]) -> tuple[Phase, ...]:
    """Let no phase have less memory or time than one before it: it takes up what that left behind."""
    grown: list[Phase] = []
    for phase in phases:
        before = grown[-1] if grown else phase
        grown.append(
            replace(
                phase,
                memory_bytes=max(phase.memory_bytes, before.memory_bytes),
                time_s=max(phase.time_s, before.time_s),
            )
        )
    return tuple(grown)
