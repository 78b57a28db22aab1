"""Where a run's units are computed: processes on this machine, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from soct.compute.threads import worker_environment
from soct.errors import UsageError
from soct.pipeline.planning.plan import Plan
from soct.pipeline.preparation import Prepared
from soct.pipeline.resources import Budget, share_out
from soct.pipeline.workers.executors import LocalExecutor
from soct.pipeline.workers.worker_probe import Probe, code_digest, library_versions, new_token

if TYPE_CHECKING:
    from soct.pipeline.events import Listener
    from soct.pipeline.request import Resources
    from soct.pipeline.stopping import StopControl


@dataclass(frozen=True)
class Pool:
    """What computes the units of one run."""

    budget: Budget
    make_executor: Callable[[int, Callable[[Any], None]], Executor]
    """As `soct.pipeline.scheduler.Scheduler` takes it."""
    where: str = ""
    """What is told of workers elsewhere."""


@contextmanager
def open_pool(
    prepared: Prepared, planned: Plan, stop: StopControl, listener: Listener
) -> Iterator[Pool]:
    """Have workers for as long as the block runs.

    Parameters
    ----------
    prepared : Prepared
    planned : Plan
        With nothing to compute, no cluster is asked for.
    stop : StopControl
    listener : callable

    Raises
    ------
    ResourceError
        Not even one worker fits, or a cluster has none that can be used.
    UsageError
        Dask is not installed, or there is no such scheduler file.
    """
    resources = prepared.request.resources
    units, largest = len(planned.to_compute), planned.cost.largest_unit_bytes
    if resources.dask is None or not units:
        yield local_pool(resources, share_out(resources, largest, max(1, units)))
        return
    check_dask()
    from soct.pipeline.workers.dask_cluster import open_dask_pool

    with open_dask_pool(resources, _probe(prepared), largest, units, stop, listener) as pool:
        yield Pool(pool.budget, pool.make_executor, pool.where)


def check_dask() -> None:
    """Raise UsageError where Dask is not installed."""
    if find_spec("distributed") is None:
        raise UsageError(
            "--dask needs Dask, which is not installed",
            expected="the extra `dask`",
            hint="pip install 'soct[dask]', here and where the workers run.",
        )


def _probe(prepared: Prepared) -> Probe:
    """Return what workers elsewhere are held against: the run folder, and the first slice of the input."""
    request = prepared.request
    first = prepared.graph.slices[0]
    return Probe(
        folder=request.folder,
        token=new_token(),
        record=prepared.acquisition.slices[first],
        files=prepared.raw[first],
        fingerprint=prepared.fingerprint,
        gpu=request.resources.gpu,
        code=code_digest(),
        libraries=library_versions(),
    )


def local_pool(resources: Resources, budget: Budget) -> Pool:
    """Return processes on this machine."""

    def make_executor(workers: int, on_message: Callable[[Any], None]) -> Executor:
        if resources.executor is not None:
            return resources.executor(workers)
        return LocalExecutor(
            workers, worker_environment(budget.cpus), resources.preload, on_message
        )

    return Pool(budget, make_executor)
