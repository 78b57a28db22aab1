"""From what `--dask` says to workers: a cluster is found or started, and its workers are looked at."""

from __future__ import annotations

import logging
import os
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from distributed import Client, LocalCluster

from soct.errors import ResourceError
from soct.pipeline.events import Listener
from soct.pipeline.request import Resources
from soct.pipeline.resources import (
    LEAST_UNIT_BYTES,
    MAIN_BYTES,
    WORKER_BYTES,
    Budget,
    free_memory,
    shown,
)
from soct.pipeline.stopping import StopControl
from soct.pipeline.workers.dask_crew import DASK_BYTES, Crew
from soct.pipeline.workers.dask_executor import DaskExecutor
from soct.pipeline.workers.dask_worker import DaskSession
from soct.pipeline.workers.file_lag import await_inputs, await_outputs
from soct.pipeline.workers.loop_thread import opened_in_thread
from soct.pipeline.workers.scheduler_file import read_scheduler_file
from soct.pipeline.workers.worker_probe import Probe, posed

CONNECT_S = 5.0
"""How long a scheduler may take to answer."""
SETTLE_S = 3.0
"""How long a run waits, once there is a worker, for others that are being looked at."""
_CLUSTER_VARIABLES = ("SOCT_CACHE_DIR",)
"""What workers elsewhere take over from the environment of the main process."""


@dataclass(frozen=True)
class DaskPool:
    """A cluster whose workers can take units."""

    budget: Budget
    where: str
    """What is told of it: its address or scheduler file."""
    make_executor: Callable[[int, Callable[[Any], None]], DaskExecutor]


@contextmanager
def open_dask_pool(
    resources: Resources,
    probe: Probe,
    largest_unit_bytes: int,
    units: int,
    stop: StopControl,
    listener: Listener,
) -> Iterator[DaskPool]:
    """Connect to a cluster, or start one on this machine, for as long as the block runs.

    Parameters
    ----------
    resources : Resources
        `dask` is ``local``, an address or the path of a scheduler file.
    probe : Probe
        What workers are held against.
    largest_unit_bytes : int
        The least working memory of the unit that needs most.
    units : int
        How many are to be computed.
    stop : StopControl
        Ends the wait for workers.
    listener : callable
        Is told of workers.

    Raises
    ------
    ResourceError
        The cluster does not answer, or none of its workers can be used.
    UsageError
        There is no such scheduler file.
    """
    assert resources.dask is not None
    target = _Target.of(resources, largest_unit_bytes, units)
    kept = {name: os.environ[name] for name in _CLUSTER_VARIABLES if name in os.environ}
    session = DaskSession(f"soct-{probe.token}", kept, resources.preload, probe)
    with (
        _quiet_logs(),
        posed(probe),
        opened_in_thread(partial(_open_crew, target, session)) as (loop, crew),
    ):
        executor = DaskExecutor(loop, crew, resources.dask_wait_s, await_inputs, await_outputs)
        _await_crew(crew, executor, target, stop, listener)
        budget = _budget(crew, largest_unit_bytes, stop)
        where = f"Dask {target.shown}"

        def make_executor(workers: int, on_message: Callable[[Any], None]) -> DaskExecutor:
            crew.tell = on_message
            return executor

        yield DaskPool(budget, where, make_executor)


@dataclass(frozen=True)
class _Target:
    """Where the scheduler is; without an address, the shape of a cluster to start here."""

    shown: str
    address: str = ""
    workers: int = 0
    threads: int = 0
    memory_bytes: int = 0

    @classmethod
    def of(cls, resources: Resources, largest_unit_bytes: int, units: int) -> _Target:
        text = str(resources.dask)
        if text == "local":
            return _local_target(resources, largest_unit_bytes, units)
        if "://" in text:
            return cls(text, text)
        return cls(text, read_scheduler_file(text))


def _local_target(resources: Resources, largest_unit_bytes: int, units: int) -> _Target:
    """Shape a cluster so that each worker can hold the largest unit, and the promises hold."""
    each = DASK_BYTES + WORKER_BYTES + max(LEAST_UNIT_BYTES, largest_unit_bytes)
    promised = resources.memory_bytes or free_memory() * 3 // 4
    if resources.memory_bytes is not None and promised < MAIN_BYTES + each:
        raise ResourceError(
            "The memory limit is too small for this run with Dask",
            expected=f"at least {shown(MAIN_BYTES + each)}",
            found=shown(promised),
            hint="Raise --memory, or leave out --dask.",
        )
    fitting = max(1, (promised - MAIN_BYTES) // each)
    workers = max(1, min(resources.cpus, fitting, units))
    memory = max(each, (promised - MAIN_BYTES) // workers)
    return _Target("local", "", workers, max(1, resources.cpus // workers), memory)


@asynccontextmanager
async def _open_crew(target: _Target, session: DaskSession) -> AsyncIterator[Crew]:
    async with AsyncExitStack() as stack:
        address = target.address
        if not address:
            cluster = await stack.enter_async_context(_local_cluster(target))
            address = cluster.scheduler_address
        client = await _connect(address, target.shown)
        stack.push_async_callback(client.close)
        crew = Crew(client, session)
        stack.push_async_callback(crew.end)
        await crew.begin()
        yield crew


def _local_cluster(target: _Target) -> Any:
    return LocalCluster(
        n_workers=target.workers,
        threads_per_worker=target.threads,
        memory_limit=target.memory_bytes,
        processes=True,
        asynchronous=True,
        dashboard_address="127.0.0.1:0",
        silence_logs=logging.CRITICAL,
    )


async def _connect(address: str, shown_as: str) -> Client:
    try:
        return await Client(
            address, asynchronous=True, set_as_default=False, timeout=CONNECT_S, name="soct"
        )
    except (OSError, ValueError, TimeoutError) as error:
        raise ResourceError(
            "The Dask scheduler does not answer",
            file=None if shown_as == address else shown_as,
            expected="a scheduler at " + address,
            found=str(error).partition("\n")[0] or type(error).__name__,
            hint="See that it runs and that this machine may reach it; a scheduler file may be left over.",
        ) from None


def _await_crew(
    crew: Crew, executor: DaskExecutor, target: _Target, stop: StopControl, listener: Listener
) -> None:
    """Wait until there are workers, or it is clear that there will be none."""
    notices: queue.SimpleQueue[Any] = queue.SimpleQueue()
    crew.tell = notices.put
    settled = None
    reason = None
    while not stop.is_asked() and reason is None:
        if settled is None and (crew.members() or crew.refused):
            settled = time.monotonic() + SETTLE_S
        is_settled = settled is not None and time.monotonic() > settled
        if crew.members() and (not crew.pending or is_settled):
            break
        if not crew.members():
            reason = executor.give_up()
            if crew.refused and not crew.pending and is_settled:
                reason = "; ".join(sorted({f"{why}" for why in crew.refused.values()})[:3])
        _hand_on(notices, listener)
        time.sleep(0.05)
    _hand_on(notices, listener)
    if reason is not None:
        raise ResourceError(
            "The Dask cluster has no worker that can be used",
            expected="at least one, with the same soct, that sees the input and the run folder",
            found=reason,
            hint=f"Look at the cluster ({target.shown}); docs/dask.md says what its workers need.",
        )


def _hand_on(notices: queue.SimpleQueue[Any], listener: Listener) -> None:
    while not notices.empty():
        listener(notices.get())


def _budget(crew: Crew, largest_unit_bytes: int, stop: StopControl) -> Budget:
    places = [member.place for member in crew.members()]
    largest = max((place.memory_bytes for place in places), default=0)
    if places and largest < largest_unit_bytes and not stop.is_asked():
        overhead = DASK_BYTES + WORKER_BYTES
        raise ResourceError(
            "No Dask worker has the memory that the largest unit needs",
            expected=f"a worker with {shown(largest_unit_bytes + overhead)}",
            found=f"{len(places)} workers, the largest with {shown(largest + overhead)}",
            hint="Start workers with a higher --memory-limit, fewer of them on each machine.",
        )
    memory = sum(place.memory_bytes for place in places)
    threads = sum(place.threads for place in places)
    return Budget(max(1, threads), max(1, len(places)), memory, memory)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Keep Dask's own log off the terminal: what matters of it is told by soct."""
    names = ("distributed", "asyncio", "tornado")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
