"""What a plan takes: units, time, memory, disk and files of every step, before anything is computed.

Sizes come from the steps' own estimates, times from their declared costs (`soct.steps.declaration.Cost`) at the
pace of a machine (`soct.pipeline.planning.pace`). Memory is an upper limit; disk and files are close; time is a guess that
is told with a range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from soct.pipeline.resources import LEAST_UNIT_BYTES, WORKER_BYTES
from soct.steps.declaration import Need, Scope

if TYPE_CHECKING:
    from soct.pipeline.planning.plan import Plan

COMPILING_BYTES = 320 << 20
"""What compiling kernels takes of a process that does so, in a first run, and keeps."""
RECORD_FILES = 2
"""Beside its outputs, a finished unit has a record and a file of metrics."""


@dataclass(frozen=True)
class StepEstimate:
    """What the units of one step take that are still to be computed.

    Attributes
    ----------
    step : str
    scope : Scope
        A string: ``slice``, ``pair`` or ``run``.
    units : int
        How many are to be computed.
    seconds : float
        Of one unit on `threads` threads, the mean of all.
    threads : int
    memory_bytes : int
        Upper limit of the process that computes one unit, for the largest one. The run's main process comes on
        top (`soct.pipeline.resources.MAIN_BYTES`).
    disk_bytes : int
        Outputs of all units.
    files : int
        Of all units, with their records and metrics.
    """

    step: str
    scope: Scope
    units: int
    seconds: float
    threads: int
    memory_bytes: int
    disk_bytes: int
    files: int

    @property
    def total_seconds(self) -> float:
        """Of all units, one after the other."""
        return self.units * self.seconds


def estimate_steps(
    plan: Plan, threads: int = 1, pace: Mapping[str, float] | None = None
) -> tuple[StepEstimate, ...]:
    """Return one estimate per step that has units to compute, in pipeline order.

    Parameters
    ----------
    plan : Plan
    threads : int
        Threads that one unit has.
    pace : mapping, optional
        ``step -> factor`` on its declared time; those that are not there keep it.
    """
    found = []
    for step, units in plan.graph.units.items():
        needs = [plan.needs[unit] for unit in units if unit in plan.needs]
        if needs:
            factor = (pace or {}).get(step, 1.0)
            scope = plan.graph.steps[step].scope
            found.append(_of_step(step, scope, needs, threads, factor))
    return tuple(found)


def _of_step(
    step: str,
    scope: Scope,
    needs: Sequence[Need],
    threads: int,
    factor: float,
) -> StepEstimate:
    return StepEstimate(
        step=step,
        scope=scope,
        units=len(needs),
        seconds=factor * sum(need.seconds(threads) for need in needs) / len(needs),
        threads=threads,
        memory_bytes=max(process_bytes(need) for need in needs),
        disk_bytes=sum(need.disk_bytes for need in needs),
        files=sum(need.files + RECORD_FILES for need in needs),
    )


def process_bytes(need: Need) -> int:
    """Return the memory of a process that computes such a unit, at the least with which it can."""
    return WORKER_BYTES + COMPILING_BYTES + max(LEAST_UNIT_BYTES, need.memory_bytes)
