"""How long a plan would take on some machines: the scheduler itself, on a simulated clock.

The graph, the plan and the `soct.pipeline.scheduler.Scheduler` are those of a run. Only the ends are other ones:
a desk that publishes nothing, and an executor whose units end when the clock says so. So the order of units, the
sharing of threads and memory, and what waits for what are what a run would do.
"""

from __future__ import annotations

import heapq
import queue
import tempfile
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from soct.pipeline.desk import Desk
from soct.pipeline.events import ignore
from soct.pipeline.folder.records import FailureRecord, Record
from soct.pipeline.keys import Key
from soct.pipeline.planning.plan import Plan
from soct.pipeline.request import Resources, Status
from soct.pipeline.resources import Budget, share_out
from soct.pipeline.scheduler import Scheduler
from soct.pipeline.stopping import StopControl
from soct.pipeline.workers.worker import Done, Task
from soct.steps.declaration import Context, Need, Params, Result, Unit

_NOWHERE = Path()


@dataclass(frozen=True)
class Machines:
    """Equal machines that work on one run together."""

    cpus: int
    memory_bytes: int
    nodes: int = 1


@dataclass(frozen=True)
class StepSpan:
    """When the units of a step ran, in seconds after the start."""

    first: float
    last: float
    busy: float
    """Seconds of all units, one after the other."""
    threads: float
    """Of a unit, the mean over time."""


@dataclass(frozen=True)
class Schedule:
    """How a run went that did not take place."""

    seconds: float
    """From the first unit to the last."""
    thread_seconds: float
    """Over all threads that units had."""
    units: int
    spans: Mapping[str, StepSpan]
    cpus: int
    """Of all machines."""

    @property
    def use(self) -> float:
        """Part of the processors' time that units had."""
        return self.thread_seconds / (self.seconds * self.cpus) if self.seconds else 0.0


def dry_schedule(
    plan: Plan, machines: Machines, pace: Mapping[str, float] | None = None
) -> Schedule:
    """Run a plan on a simulated clock.

    Parameters
    ----------
    plan : Plan
    machines : Machines
    pace : mapping, optional
        ``step -> factor`` on its declared time.

    Raises
    ------
    ResourceError
        A unit needs more memory than a machine has.
    """
    here = share_out(
        Resources(cpus=machines.cpus, memory_bytes=machines.memory_bytes),
        plan.cost.largest_unit_bytes,
        max(1, len(plan.needs)),
    )
    nodes = _Nodes(machines.nodes, here, plan.needs, pace or {})
    inbox = _Inbox(nodes)
    budget = replace(
        here,
        cpus=here.cpus * machines.nodes,
        workers=here.workers * machines.nodes,
        memory_bytes=here.memory_bytes * machines.nodes,
        units_bytes=here.units_bytes * machines.nodes,
    )
    with tempfile.TemporaryDirectory(prefix="soct-dry-") as folder:
        desk = _DryDesk(plan, Path(folder))
        scheduler = Scheduler(
            plan, desk, budget, nodes.take_over, _Unstopped(), ignore, inbox=inbox
        )
        scheduler.run()
    return Schedule(nodes.clock, nodes.thread_seconds, nodes.ended, nodes.spans(), budget.cpus)


class _DryDesk(Desk):
    """Lays out and publishes nothing."""

    def __init__(self, plan: Plan, run_folder: Path) -> None:
        self.run_folder = run_folder
        self._plan = plan

    def key(self, unit: Unit) -> Key:
        return Key(self._plan.units[unit].digest, {})

    def need(self, unit: Unit) -> Need:
        return self._plan.needs[unit]

    def prepare(self, unit: Unit, threads: int, memory_bytes: int) -> Task:
        context = Context(unit, "", (), {}, {}, threads=threads, memory_bytes=memory_bytes)
        step = self._plan.graph.steps[unit.step]
        return Task(step, Params(), context, _NOWHERE, _NOWHERE, {}, (), {}, None)

    def publish(self, task: Task, record: Record) -> Status:
        return "ok"

    def keep_failure(self, failed: FailureRecord) -> None:
        return None

    def discard(self, task: Task) -> None:
        return None


class _Unstopped(StopControl):
    """Leaves signals to whoever has them: a dry run is not stopped cleanly, only ended."""

    def is_asked(self) -> bool:
        return False


@dataclass
class _Node:
    threads: int
    memory: int


@dataclass(frozen=True, order=True)
class _Running:
    end: float
    place: int
    node: int = field(compare=False)
    threads: int = field(compare=False)
    memory: int = field(compare=False)
    start: float = field(compare=False)
    unit: Unit = field(compare=False)
    future: Future[Any] = field(compare=False)


class _Nodes(Executor):
    """Simulated machines: a unit takes the threads and memory of one, and ends when the clock gets there."""

    def __init__(
        self, count: int, budget: Budget, needs: Mapping[Unit, Need], pace: Mapping[str, float]
    ) -> None:
        self.clock = 0.0
        self.thread_seconds = 0.0
        self.ended = 0
        self._budget = budget
        self._needs = needs
        self._pace = pace
        self._nodes = [_Node(budget.cpus, budget.units_bytes) for _ in range(count)]
        self._waiting: deque[tuple[Task, Future[Any]]] = deque()
        self._running: list[_Running] = []
        self._begun: dict[str, list[float]] = {}
        self._started = 0

    def take_over(self, workers: int, on_message: Callable[[Any], None]) -> Executor:
        """Be what a scheduler makes its executor with."""
        return self

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        if not self._place(args[0], future):
            self._waiting.append((args[0], future))
        return future

    def advance(self) -> None:
        """Turn the clock to the next end of a unit."""
        ended = heapq.heappop(self._running)
        self.clock = ended.end
        self.ended += 1
        seconds = ended.end - ended.start
        self.thread_seconds += seconds * ended.threads
        span = self._begun.setdefault(ended.unit.step, [ended.start, ended.end, 0.0, 0.0])
        span[0], span[1] = min(span[0], ended.start), max(span[1], ended.end)
        span[2] += seconds
        span[3] += seconds * ended.threads
        node = self._nodes[ended.node]
        node.threads += ended.threads
        node.memory += ended.memory
        while self._waiting and self._place(*self._waiting[0]):
            self._waiting.popleft()
        ended.future.set_result(Done(Result(), (), seconds, ended.memory, f"node{ended.node}", 0))

    def spans(self) -> dict[str, StepSpan]:
        """Return when each step ran."""
        return {
            step: StepSpan(first, last, busy, taken / busy if busy else 1.0)
            for step, (first, last, busy, taken) in self._begun.items()
        }

    def _place(self, task: Task, future: Future[Any]) -> bool:
        """Start a unit on the machine with most threads to spare, if there is one with room."""
        unit, context = task.context.unit, task.context
        need = self._needs[unit]
        fitting = [
            i for i, n in enumerate(self._nodes) if n.threads and n.memory >= need.memory_bytes
        ]
        if not fitting:
            return False
        place = max(fitting, key=lambda i: self._nodes[i].threads)
        node = self._nodes[place]
        threads = min(context.threads, node.threads)
        memory = max(need.memory_bytes, min(context.memory_bytes, node.memory // node.threads))
        node.threads -= threads
        node.memory -= memory
        self._started += 1
        end = self.clock + self._pace.get(unit.step, 1.0) * need.seconds(threads)
        started = _Running(end, self._started, place, threads, memory, self.clock, unit, future)
        heapq.heappush(self._running, started)
        return True


class _Inbox:
    """The scheduler's inbox: where it would wait, the clock is turned on."""

    def __init__(self, nodes: _Nodes) -> None:
        self._nodes = nodes
        self._messages: deque[Any] = deque()

    def put(self, message: Any) -> None:
        self._messages.append(message)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not self._messages:
            self._nodes.advance()
        return self.get_nowait()

    def get_nowait(self) -> Any:
        if not self._messages:
            raise queue.Empty
        return self._messages.popleft()
