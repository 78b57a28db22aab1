"""What ``--dask`` means before a run begins: which options it takes the place of, and which task of a step this is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from soct.cli.terminal import words
from soct.errors import UsageError

if TYPE_CHECKING:
    from soct.pipeline.request import RunRequest
    from soct.pipeline.sites.site import Site


def choose_dask(of_site: str | None, of_option: str | None, *, join: bool) -> str | None:
    """Return where Dask workers are, None for processes of soct's own.

    Raises
    ------
    UsageError
        The command line asks for them and for working together with other processes.
    """
    if of_site in (None, "off"):
        return None
    if join and of_option is not None:
        raise UsageError(
            "--dask and --join do not go together",
            expected="one of them",
            hint="With --join several processes share the units; with --dask one sends them to workers.",
        )
    return None if join else of_site


@contextmanager
def dask_step(request: RunRequest, site: Site) -> Iterator[RunRequest | None]:
    """Have a cluster of the tasks of a Slurm step, where ``--dask slurm`` asks for one, within the block.

    Yields
    ------
    RunRequest or None
        What is to be run; None in a task that was a worker, whose work is over.

    Raises
    ------
    UsageError
        Dask is not installed, there is no such scheduler file, or srun did not start this.
    ResourceError
        The task that runs the pipeline is not to be found.
    """
    dask = request.resources.dask
    if dask not in (None, "local") and (site.cpus is not None or site.memory is not None):
        words(
            "note: cpus and memory are those of the Dask workers; what was given for them here is not used"
        )
    from soct.pipeline.workers.pools import check_dask
    from soct.pipeline.workers.scheduler_file import is_scheduler_file, read_scheduler_file

    if dask is not None:
        # Before the input is looked through, which may take minutes.
        check_dask()
        if is_scheduler_file(dask):
            read_scheduler_file(dask)
    if dask != "slurm":
        yield request
        return
    from soct.pipeline.workers import dask_slurm

    task = dask_slurm.find_task(os.environ)
    if task.rank > 0:
        dask_slurm.follow(task, request.folder)
        yield None
        return
    with dask_slurm.lead(task, request.folder) as address:
        yield replace(request, resources=replace(request.resources, dask=address))
