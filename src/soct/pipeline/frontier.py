"""Which units can start: the state of every unit of a plan, and the order in which ready ones are taken."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from enum import Enum, auto

from soct.pipeline.planning.plan import Action, Plan
from soct.steps.declaration import Unit


class State(Enum):
    """What became of a unit so far, as the scheduler sees it."""

    WAITING = auto()
    READY = auto()
    RUNNING = auto()
    ELSEWHERE = auto()
    """Another process has it."""
    DONE = auto()
    FAILED = auto()
    BLOCKED = auto()


class Frontier:
    """The states of all units, kept consistent with what depends on what.

    Parameters
    ----------
    plan : Plan
    turn : callable, optional
        ``unit -> number``: among the ready units of a step, the least comes first. None: pipeline order.
    """

    def __init__(self, plan: Plan, turn: Callable[[Unit], int] | None = None) -> None:
        self._graph = plan.graph
        self.downstream = plan.graph.downstream()
        self._place = {unit: i for i, unit in enumerate(plan.units)}
        self._step_place = {name: i for i, name in enumerate(plan.graph.steps)}
        self._turn = turn or self._place.__getitem__
        self._state = {
            unit: State.WAITING if planned.action is Action.COMPUTE else State.DONE
            for unit, planned in plan.units.items()
        }
        self._missing = {
            unit: self._count_missing(unit)
            for unit, state in self._state.items()
            if state is State.WAITING
        }
        self._ready: list[tuple[int, int, Unit]] = []
        self.elsewhere: dict[Unit, None] = {}
        """Units that other processes have."""
        self.n_ready = 0
        for unit, missing in self._missing.items():
            if missing == 0:
                self.make_ready(unit)

    def __getitem__(self, unit: Unit) -> State:
        return self._state[unit]

    @property
    def is_awaiting(self) -> bool:
        """Whether there are units that another process has, or that can start here."""
        return bool(self.elsewhere) or self.n_ready > 0

    @property
    def pending(self) -> int:
        """How many units were neither computed nor failed nor blocked."""
        # By identity: the hash of an enumeration's member is computed in Python, every time.
        return sum(
            state is State.WAITING
            or state is State.READY
            or state is State.RUNNING
            or state is State.ELSEWHERE
            for state in self._state.values()
        )

    def in_order(self, units: Iterable[Unit]) -> list[Unit]:
        """Return units in pipeline order."""
        return sorted(units, key=self._place.__getitem__)

    def make_ready(self, unit: Unit) -> None:
        """Put a unit among those that can start."""
        self.set_state(unit, State.READY)
        self.n_ready += 1
        # Later steps first: what was just written is still in the page cache, and results come early.
        heapq.heappush(self._ready, (-self._step_place[unit.step], self._turn(unit), unit))

    def take(self) -> Unit | None:
        """Return the ready unit that comes first; whoever does not start it puts it back."""
        while self._ready:
            unit = heapq.heappop(self._ready)[2]
            if self._state[unit] is State.READY:
                return unit
        return None

    def put_back(self, unit: Unit) -> None:
        """Return a taken unit that stays ready."""
        heapq.heappush(self._ready, (-self._step_place[unit.step], self._turn(unit), unit))

    def set_aside(self, unit: Unit, state: State) -> None:
        """Give a taken unit, which was ready, another state."""
        self.n_ready -= 1
        self.set_state(unit, state)

    def set_state(self, unit: Unit, state: State) -> None:
        """Give a unit that is not ready another state."""
        self.elsewhere.pop(unit, None)
        if state is State.ELSEWHERE:
            self.elsewhere[unit] = None
        self._state[unit] = state

    def finish(self, unit: Unit) -> None:
        """Make those units ready that waited for nothing but this one."""
        self.set_state(unit, State.DONE)
        for reader in self.downstream[unit]:
            if reader in self._missing:
                self._missing[reader] -= 1
                if self._missing[reader] == 0 and self._state[reader] is State.WAITING:
                    self.make_ready(reader)

    def fail(self, unit: Unit) -> list[Unit]:
        """Return the units that cannot run because this one failed, in pipeline order."""
        self.set_state(unit, State.FAILED)
        blocked = []
        stack = [unit]
        while stack:
            for reader in self.downstream[stack.pop()]:
                if self._state[reader] in (State.WAITING, State.READY):
                    if self._state[reader] is State.READY:
                        self.n_ready -= 1
                    self._state[reader] = State.BLOCKED
                    blocked.append(reader)
                    stack.append(reader)
        return self.in_order(blocked)

    def wait_again(self, unit: Unit) -> None:
        """Have a unit that ran, here or elsewhere, wait for what it reads and does not have (any more)."""
        self.set_state(unit, State.WAITING)
        self._missing[unit] = self._count_missing(unit)
        if self._missing[unit] == 0:
            self.make_ready(unit)

    def invalidate(self, sources: Iterable[Unit]) -> None:
        """Have finished units computed again, and those that read them wait for it."""
        sources = self.in_order(sources)
        for source in sources:
            self._state[source] = State.WAITING
        for source in sources:
            self._missing[source] = self._count_missing(source)
            for reader in self.downstream[source]:
                state = self._state[reader]
                if state is State.READY:
                    self._state[reader] = State.WAITING
                    self.n_ready -= 1
                if state in (State.READY, State.WAITING) and reader not in sources:
                    self._missing[reader] = self._count_missing(reader)
            if self._missing[source] == 0:
                self.make_ready(source)

    def _count_missing(self, unit: Unit) -> int:
        return sum(self._state[s] is not State.DONE for s in self._graph.upstream[unit])
