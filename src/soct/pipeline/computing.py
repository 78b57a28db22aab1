"""From a plan to a scheduler at work: its desk, its pool."""

from __future__ import annotations

from soct.pipeline.desk import Desk, Surroundings
from soct.pipeline.events import Listener
from soct.pipeline.planning.plan import Plan
from soct.pipeline.preparation import Prepared
from soct.pipeline.scheduler import Scheduler
from soct.pipeline.stopping import StopControl
from soct.pipeline.together.cooperation import Others
from soct.pipeline.workers.pools import Pool


def compute(
    prepared: Prepared,
    planned: Plan,
    pool: Pool,
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
    scheduler = Scheduler(
        planned, desk, pool.budget, pool.make_executor, stop, listener, others, process
    )
    scheduler.run()
    return scheduler
