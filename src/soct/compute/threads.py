"""One thread budget, told to every library that starts threads of its own.

A worker process gets its upper limit from the environment before the first heavy import
(`worker_environment`); a unit lowers it while it runs (`limited`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from soct.compute.limits import read_cpu_quota, slurm_cpus


def available_cpus() -> int:
    """Return the number of processors that this process may use: by affinity, control group and Slurm job."""
    quota = read_cpu_quota()
    limits = [affine_cpus(), slurm_cpus(), None if quota is None else max(1, int(quota))]
    return min(limit for limit in limits if limit is not None)


def affine_cpus() -> int:
    """Return the number of processors that the system lets this process run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_environment(threads: int) -> dict[str, str]:
    """Environment variables that cap every thread pool of a worker process.

    BLAS and ITK stay at one thread: their sums depend on the number of threads, and results must not.
    """
    return {
        "NUMBA_NUM_THREADS": str(threads),
        "OMP_NUM_THREADS": "1",
        # Threads that wait for others sleep: spinning takes the processor from those that they wait for.
        "OMP_WAIT_POLICY": "PASSIVE",
        "OPENBLAS_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "VECLIB_MAXIMUM_THREADS": "1",
        "BLIS_NUM_THREADS": "1",
        "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    }


def raised_for_any_worker(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment for the process that workers are forked from.

    numba remembers the highest number of threads when it is imported; later it can only be lowered. The
    process outlives a run, so it must leave room for one with more threads.
    """
    raised = dict(environment)
    if "NUMBA_NUM_THREADS" in raised:
        highest = max(int(raised["NUMBA_NUM_THREADS"]), available_cpus())
        raised["NUMBA_NUM_THREADS"] = str(highest)
    return raised


def follow_environment() -> None:
    """Have a numba that was imported before the environment was set keep to it, as far as it can."""
    if not numba_is_loaded():
        return
    from numba import config

    highest = config.NUMBA_NUM_THREADS
    wanted = int(os.environ.get("NUMBA_NUM_THREADS", highest))
    os.environ["NUMBA_NUM_THREADS"] = str(min(wanted, highest))
    config.reload_config()


@contextmanager
def limited(threads: int) -> Iterator[None]:
    """Let numba kernels use at most `threads` threads within the block."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def numba_is_loaded() -> bool:
    """Whether numba has been imported already (its thread limit can no longer be raised)."""
    return "numba" in sys.modules
