"""What a whole run takes, on this machine and on several: steps, wall time, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass, replace

from soct.compute import caches
from soct.errors import ResourceError
from soct.pipeline.planning.dry_schedule import Machines, Schedule, dry_schedule
from soct.pipeline.planning.estimates import StepEstimate, estimate_steps
from soct.pipeline.planning.pace import Pace, measure_pace, probe_pace
from soct.pipeline.planning.plan import Plan
from soct.pipeline.profiles.quantities import format_size
from soct.pipeline.request import Resources
from soct.pipeline.resources import Budget, free_memory

MOST_UNITS = 3000
"""More are not scheduled at the start of a run only to tell its time."""
LEAST_TOLD_S = 20.0
START_S = 5.0
"""Workers that import, at the start, and the report, at the end."""

COMPILING_S = 120
"""How much longer a run takes that compiles its kernels: wall time, on one to four processors."""
_KERNELS_OF_RUNS = "surface"
"""A module whose kernels every run compiles early; simulations and most tools have others."""


@dataclass(frozen=True)
class PlaceEstimate:
    """The wall time on some machines."""

    name: str
    nodes: int
    cpus: int
    """Of one machine."""
    memory_bytes: int
    seconds: float | None
    """None where the memory does not suffice."""
    use: float = 0.0
    """Part of the processors' time that units have."""


@dataclass(frozen=True)
class RunEstimate:
    """What a run takes."""

    steps: tuple[StepEstimate, ...]
    places: tuple[PlaceEstimate, ...]
    basis: str
    """What the times are taken from, in words."""
    spread: float
    """How far off they may be, as a factor up and down."""
    compiling_seconds: int = 0
    """What comes on top because nothing has been compiled on this machine."""


def estimate_run(plan: Plan, resources: Resources, nodes: int = 1) -> RunEstimate:
    """Return what a plan takes.

    Parameters
    ----------
    plan : Plan
    resources : Resources
        Of this machine, or of each of several.
    nodes : int
        More than 1: the time on so many machines is told as well.
    """
    memory = resources.memory_bytes or free_memory() * 3 // 4
    pace = measure_pace(plan.taken) or (probe_pace() if plan.needs else Pace({}))
    factors = pace.of(plan.graph.steps)
    counts = (1, nodes) if nodes > 1 else (1,)
    machines = [Machines(resources.cpus, memory, count) for count in counts]
    schedules = [_schedule(plan, each, factors) for each in machines]
    steps = _as_scheduled(estimate_steps(plan, resources.cpus, factors), schedules[0])
    places = tuple(_place(m, s) for m, s in zip(machines, schedules, strict=True))
    return RunEstimate(
        steps,
        places if steps else (),
        _basis(pace),
        pace.spread,
        compiling_seconds() if steps else 0,
    )


def compiling_seconds() -> int:
    """Return about how much longer a run takes to compile its kernels; 0 where it finds them compiled."""
    return 0 if caches.holds_kernels(_KERNELS_OF_RUNS) else COMPILING_S


def expected_seconds(plan: Plan, budget: Budget) -> float | None:
    """Return about how long a run will take; None where it is short, or has too many units to tell it at once."""
    if not 0 < len(plan.needs) <= MOST_UNITS:
        return None
    pace = measure_pace(plan.taken) or Pace({})
    machines = Machines(budget.cpus, budget.memory_bytes)
    schedule = _schedule(plan, machines, pace.of(plan.graph.steps))
    if schedule is None or START_S + schedule.seconds < LEAST_TOLD_S:
        return None
    return START_S + schedule.seconds


def _schedule(plan: Plan, machines: Machines, factors: dict[str, float]) -> Schedule | None:
    try:
        return dry_schedule(plan, machines, factors)
    except ResourceError:
        return None


def _as_scheduled(
    steps: tuple[StepEstimate, ...], schedule: Schedule | None
) -> tuple[StepEstimate, ...]:
    """Give the units of each step the time and the threads that they had on the simulated clock."""
    if schedule is None:
        return steps
    return tuple(
        replace(
            step,
            seconds=schedule.spans[step.step].busy / step.units,
            threads=max(1, round(schedule.spans[step.step].threads)),
        )
        for step in steps
    )


def _place(machines: Machines, schedule: Schedule | None) -> PlaceEstimate:
    each = f"{machines.cpus} cores, {format_size(machines.memory_bytes)}"
    name = f"{machines.nodes} nodes of {each}" if machines.nodes > 1 else f"one machine ({each})"
    where = (name, machines.nodes, machines.cpus, machines.memory_bytes)
    if schedule is None:
        return PlaceEstimate(*where, None)
    return PlaceEstimate(*where, START_S + schedule.seconds, schedule.use)


def _basis(pace: Pace) -> str:
    if pace.units:
        return f"a machine such as computed {pace.units} units of this run"
    return "a machine as fast as this one"
