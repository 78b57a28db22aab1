"""A Dask cluster made of the tasks of one Slurm job step: `srun soct run ... --dask slurm`.

Every task starts the same command. Task 0 runs the pipeline, with the scheduler and one worker in its process
(both are light: units are computed in processes of their own, so no task is lost to coordination); the other
tasks are workers. They find each other by a scheduler file beside the run folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from distributed import Scheduler, Worker

from soct.compute.threads import available_cpus
from soct.errors import ResourceError, UsageError
from soct.formats.atomic import write_bytes
from soct.pipeline.folder.run_folder import telling_of_writes
from soct.pipeline.resources import MAIN_BYTES, free_memory
from soct.pipeline.workers.loop_thread import opened_in_thread

JOIN_S = 180.0
"""How long a worker waits for task 0; how far apart the tasks of one step may start."""


@dataclass(frozen=True)
class StepTask:
    """Which task of a Slurm job step this process is, and what it may use."""

    rank: int
    job: str
    step: str
    threads: int
    memory_bytes: int

    def scheduler_file(self, run_folder: Path) -> Path:
        """Return where task 0 tells its address."""
        folder = run_folder.absolute()
        return folder.parent / f".{folder.name}.dask-{self.job}.{self.step}.json"


def find_task(environment: Mapping[str, str]) -> StepTask:
    """Return which task this process is, by the variables that srun sets.

    Raises
    ------
    UsageError
        srun did not start it.
    """
    try:
        rank = int(environment["SLURM_PROCID"])
        job, step = environment["SLURM_JOB_ID"], environment["SLURM_STEP_ID"]
        # A job that was requeued keeps its number.
        step += "." + environment.get("SLURM_RESTART_COUNT", "0")
    except (KeyError, ValueError):
        raise UsageError(
            "--dask slurm works within a Slurm job, started by srun",
            expected="srun soct run ... --dask slurm, in a batch script or after salloc",
            found="no SLURM_PROCID, SLURM_JOB_ID and SLURM_STEP_ID",
            hint="docs/dask.md has a script.",
        ) from None
    threads = available_cpus()
    with contextlib.suppress(KeyError, ValueError):
        threads = min(threads, int(environment["SLURM_CPUS_PER_TASK"]))
    return StepTask(rank, job, step, threads, _memory(environment, threads))


def _memory(environment: Mapping[str, str], threads: int) -> int:
    """Return a task's part of what the job was given, or of what is free where it was given everything."""
    with contextlib.suppress(KeyError, ValueError):
        return int(environment["SLURM_MEM_PER_CPU"]) * threads << 20
    here = _tasks_here(environment)
    with contextlib.suppress(KeyError, ValueError):
        if given := int(environment["SLURM_MEM_PER_NODE"]):
            return (given << 20) // here
    return free_memory() * 3 // 4 // here


def _tasks_here(environment: Mapping[str, str]) -> int:
    """Return how many tasks of the step are on this node; Slurm writes ``2(x3),1`` for 2, 2, 2, 1."""
    text = environment.get("SLURM_STEP_TASKS_PER_NODE", "1")
    counts: list[int] = []
    for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text):
        counts += [int(count)] * int(times or 1)
    with contextlib.suppress(KeyError, ValueError, IndexError):
        return max(1, counts[int(environment["SLURM_NODEID"])])
    return max(1, *counts) if counts else 1


@contextmanager
def lead(task: StepTask, run_folder: Path) -> Iterator[str]:
    """Be task 0: have a scheduler and a worker for as long as the block runs, and tell the others where.

    Yields
    ------
    str
        The scheduler's address.
    """
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    file = task.scheduler_file(run_folder)
    with opened_in_thread(partial(_leading, task)) as (_, address):
        with telling_of_writes(file.parent):
            file.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(file, json.dumps({"address": address}).encode())
        try:
            yield address
        finally:
            file.unlink(missing_ok=True)


@asynccontextmanager
async def _leading(task: StepTask) -> AsyncIterator[str]:
    async with Scheduler(port=0, dashboard_address="127.0.0.1:0") as scheduler:
        # The main process is in this task, too.
        memory = max(task.memory_bytes - MAIN_BYTES, 0)
        async with _worker(scheduler.address, task, memory):
            yield scheduler.address


def follow(task: StepTask, run_folder: Path) -> None:
    """Be a worker until task 0 is done; returns then.

    Signals are task 0's to act on: Slurm sends them to all tasks, and a worker that left first would take a
    unit with it that may still be finished.

    Raises
    ------
    ResourceError
        Task 0 is not to be found.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    address = _await_address(task.scheduler_file(run_folder))
    asyncio.run(_work(address, task))


def _await_address(file: Path) -> str:
    end = time.monotonic() + JOIN_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError, ValueError, KeyError):
            return str(json.loads(file.read_bytes())["address"])
        with contextlib.suppress(OSError):
            list(file.parent.iterdir())  # has a network file system look again
        time.sleep(0.2)
    raise ResourceError(
        f"Task 0 of the job step did not tell its address within {JOIN_S:.0f} s",
        file=file,
        expected="a scheduler file, written by task 0",
        hint="See what task 0 says; the run folder must lie on a file system that all nodes share.",
    )


async def _work(address: str, task: StepTask) -> None:
    with contextlib.suppress(OSError, TimeoutError):  # the run was over before we came
        async with _worker(address, task, task.memory_bytes) as worker:
            await worker.finished()


def _worker(address: str, task: StepTask, memory_bytes: int) -> Worker:
    return Worker(
        address,
        nthreads=task.threads,
        memory_limit=memory_bytes,
        name=f"task-{task.rank}",
        dashboard_address="127.0.0.1:0",
        death_timeout=60,
        local_directory=os.environ.get("TMPDIR"),
    )
