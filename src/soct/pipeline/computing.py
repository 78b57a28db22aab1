"""From a plan to a scheduler at work: its desk, its executor, its budget."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from soct.compute.threads import worker_environment
from soct.pipeline.cooperation import Others
from soct.pipeline.desk import Desk, Surroundings
from soct.pipeline.events import Listener
from soct.pipeline.executors import LocalExecutor
from soct.pipeline.plan import Plan
from soct.pipeline.preparation import Prepared
from soct.pipeline.resources import Budget
from soct.pipeline.scheduler import Scheduler
from soct.pipeline.stopping import StopControl


def compute(
    prepared: Prepared,
    planned: Plan,
    budget: Budget,
    stop: StopControl,
    listener: Listener,
    others: Others | None = None,
    process: str = "run",
) -> Scheduler:
    """Compute the units of a plan; what came of them is in the scheduler that is returned."""
    request = prepared.request
    desk = Desk(
        request.folder,
        planned,
        prepared.keys,
        prepared.store,
        Surroundings(
            request.subject,
            request.params,
            prepared.acquisition,
            prepared.raw,
            prepared.fingerprint,
            request.resources.gpu,
            request.assess,
        ),
    )

    def make_executor(workers: int, on_message: Callable[[Any], None]) -> Executor:
        if request.resources.executor is not None:
            return request.resources.executor(workers)
        return LocalExecutor(
            workers,
            worker_environment(budget.cpus),
            request.resources.preload,
            on_message,
        )

    scheduler = Scheduler(planned, desk, budget, make_executor, stop, listener, others, process)
    scheduler.run()
    return scheduler
