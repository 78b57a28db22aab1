"""What a run would compute, why, and what that costs. Planning reads; it never writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from soct.errors import UsageError
from soct.pipeline.events import StepCount
from soct.pipeline.folder.outputs import find_damage
from soct.pipeline.folder.records import Record, RecordStore, Unusable
from soct.pipeline.graph import Graph
from soct.pipeline.keys import KeyMaker, differences
from soct.pipeline.planning.pace import Taken
from soct.pipeline.resources import raw_bytes
from soct.steps.declaration import Need, Params, Step, Unit
from soct.steps.sizes import measure_work

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition, Problem


STORE_FILES = 6
"""Metadata of a store, its valid range and its least number of shards, beyond the one that its name stands for."""
FOLDER_FILES = 3
"""Of an output that is a plain folder."""
SHARD_FILE_BYTES = 16 << 20
"""Of a typical shard: they are of at most 32 MiB, and smaller at the rims."""


MOST_SAMPLES = 50
"""Units of a step whose time is compared with the estimate."""


class Action(StrEnum):
    """What a run does about a unit."""

    COMPUTE = "compute"
    REUSE = "reuse"
    """Its record fits: nothing to do."""
    KEEP = "keep"
    """Outside the selection: read as it is."""
    ABSENT = "absent"
    """Outside the selection, and there is nothing to read."""


@dataclass(frozen=True, slots=True)
class UnitPlan:
    """One unit of a plan."""

    unit: Unit
    digest: str
    """The key by which its outputs are known downstream."""
    action: Action
    reasons: tuple[str, ...] = ()
    """Why it is computed; for a kept unit, in what it is out of date."""
    outputs: tuple[tuple[str, str], ...] = ()
    """``(name, path below the run folder)`` of what is published already."""
    suspicious: bool = False
    """The reason is that something on disk is not as soct left it."""
    took: tuple[float, int] | None = None
    """Seconds and threads of its last computation, where there was one."""


@dataclass(frozen=True)
class Cost:
    """What the units to compute will take, as far as their steps can tell."""

    raw_bytes: int
    disk_bytes: int
    largest_unit_bytes: int
    """The least working memory of the unit that needs most."""


@dataclass(frozen=True)
class Plan:
    """What a run will do."""

    graph: Graph
    units: Mapping[Unit, UnitPlan]
    """In an order in which they could run one by one."""
    cost: Cost
    problems: tuple[Problem, ...]
    """What is wrong with the input; whether that is fatal is the policy of the step that reads it."""
    needs: Mapping[Unit, Need] = field(default_factory=dict)
    """What each unit to compute will take."""
    taken: tuple[Taken, ...] = ()
    """What some units of each step took when they ran."""

    @property
    def to_compute(self) -> tuple[UnitPlan, ...]:
        """The units that will run."""
        return tuple(u for u in self.units.values() if u.action is Action.COMPUTE)

    @property
    def reused(self) -> int:
        """How many units are up to date or kept as they are."""
        return sum(u.action in (Action.REUSE, Action.KEEP) for u in self.units.values())

    @property
    def counts(self) -> tuple[StepCount, ...]:
        """Units per step, in pipeline order."""
        return tuple(
            StepCount(
                step,
                len(units),
                sum(self.units[unit].action is Action.COMPUTE for unit in units),
            )
            for step, units in self.graph.units.items()
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """What the user should know before: damage that was found, and results that are out of date."""
        found = [
            f"{u.unit} is computed again: {'; '.join(u.reasons)}"
            for u in self.units.values()
            if u.suspicious
        ]
        stale = [u for u in self.units.values() if u.action is Action.KEEP and u.reasons]
        if stale:
            found.append(
                f"{len(stale)} units outside the selection are out of date and used as they are, "
                f"for one {stale[0].unit}: {'; '.join(stale[0].reasons)}"
            )
        return tuple(found)


def make_plan(
    graph: Graph,
    params: Mapping[str, Params],
    keys: KeyMaker,
    store: RecordStore,
    acquisition: Acquisition,
) -> Plan:
    """Compare what is on disk with what would be computed now.

    Parameters
    ----------
    graph : Graph
    params : mapping
        Parameters by step id.
    keys : KeyMaker
    store : RecordStore
    acquisition : Acquisition
        For its problems and the estimates of cost.

    Raises
    ------
    UsageError
        The selection leaves out a unit that was never computed and is needed.
    NewerStateError
        A record was written by a newer soct.
    """
    digests: dict[Unit, str] = {}
    units: dict[Unit, UnitPlan] = {}
    for unit in graph.upstream:
        planned = _plan_unit(unit, graph, keys, store, digests)
        units[unit] = planned
        digests[unit] = planned.digest
    _check_sources(graph, units)
    needs = {
        unit: unit_need(graph, params, acquisition, unit)
        for unit, planned in units.items()
        if planned.action is Action.COMPUTE
    }
    taken = tuple(
        Taken(u.unit.step, *u.took, unit_need(graph, params, acquisition, u.unit))
        for u in _samples(units)
        if u.took is not None
    )
    return Plan(graph, units, _cost(needs, acquisition), acquisition.problems, needs, taken)


def _samples(units: Mapping[Unit, UnitPlan]) -> Iterator[UnitPlan]:
    """Yield units that ran before, a few of each step: enough to know how fast the machine is."""
    count: Counter[str] = Counter()
    for planned in units.values():
        if planned.took is not None and count[planned.unit.step] < MOST_SAMPLES:
            count[planned.unit.step] += 1
            yield planned


def _plan_unit(
    unit: Unit, graph: Graph, keys: KeyMaker, store: RecordStore, digests: Mapping[Unit, str]
) -> UnitPlan:
    key = keys.key(unit, digests)
    record = store.read(unit)
    reasons, suspicious = _reasons(record, key.components, key.digest, store)
    outputs = (
        tuple((output.name, output.path) for output in record.outputs)
        if isinstance(record, Record)
        else ()
    )
    took = (record.seconds, record.threads) if isinstance(record, Record) else None
    if graph.may_run(unit):
        action = Action.COMPUTE if reasons else Action.REUSE
        return UnitPlan(unit, key.digest, action, reasons, outputs, suspicious, took)
    if isinstance(record, Record) and not suspicious:
        return UnitPlan(unit, record.key.digest, Action.KEEP, reasons, outputs, took=took)
    return UnitPlan(unit, key.digest, Action.ABSENT, reasons)


def _reasons(
    record: Record | Unusable | None, components: Mapping[str, Any], digest: str, store: RecordStore
) -> tuple[tuple[str, ...], bool]:
    """Say why a unit must be computed, and whether that is because of damage."""
    if record is None:
        return (("it was never computed",), False)
    if isinstance(record, Unusable):
        return ((record.reason,), True)
    if record.key.digest != digest:
        return (differences(record.key.components, components) or ("its key changed",), False)
    damage = find_damage(store.run_folder, record.outputs, deep=False)
    return ((damage,), True) if damage else ((), False)


def _check_sources(graph: Graph, units: Mapping[Unit, UnitPlan]) -> None:
    for planned in units.values():
        if planned.action is not Action.COMPUTE:
            continue
        absent = [s for s in graph.upstream[planned.unit] if units[s].action is Action.ABSENT]
        if absent:
            raise UsageError(
                f"{planned.unit} needs {absent[0]}, which is not selected and has no usable result",
                found="; ".join(units[absent[0]].reasons),
                hint=f"Run {absent[0].step} first: drop --from or --only, or name an earlier step.",
            )


def _cost(needs: Mapping[Unit, Need], acquisition: Acquisition) -> Cost:
    return Cost(
        raw_bytes=raw_bytes(acquisition),
        disk_bytes=sum(need.disk_bytes for need in needs.values()),
        largest_unit_bytes=max((need.memory_bytes for need in needs.values()), default=0),
    )


def unit_need(
    graph: Graph, params: Mapping[str, Params], acquisition: Acquisition, unit: Unit
) -> Need:
    """Return what a unit will take, by what its step declares."""
    step, slices = graph.steps[unit.step], unit.slices or graph.slices
    need = Need() if step.estimate is None else step.estimate(acquisition, slices, params)
    work = measure_work(acquisition, slices, params)
    return replace(
        need,
        files=need.files or count_files(step, need.disk_bytes),
        cpu_seconds=step.cost.cpu_seconds(work, params[step.id]),
        serial=step.cost.serial,
    )


def count_files(step: Step[Any], disk_bytes: int) -> int:
    """Return about how many files a unit's outputs have: one each, and those of the stores by their size."""
    names = [output.template for output in step.outputs]
    stores = sum(name.endswith(".zarr") for name in names)
    folders = sum("." not in name for name in names)
    shards = math.ceil(disk_bytes / SHARD_FILE_BYTES) if stores else 0
    return len(names) + stores * STORE_FILES + folders * (FOLDER_FILES - 1) + shards
