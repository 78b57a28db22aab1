"""What it costs to compute on Dask workers: time per unit that does nothing, beside worker processes of soct's own.

    python benchmarks/dask_overhead.py [--units 400] [--workers 2] [--repeats 3] [--json OUT]

Both executors get the same tasks as the scheduler gives them: one for each worker at a time, pickled, with a result that
comes back. The Dask cluster is one of this machine, with two processes for each worker (Dask's and the one that
computes); the last row is Dask without soct. Starting is measured apart. The fastest of the repeats counts.
"""

from __future__ import annotations

import argparse
import json
import operator
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from distributed import LocalCluster

from soct.compute.threads import worker_environment
from soct.formats.acquisition import fingerprint_slice
from soct.formats.tiles import SliceRecord
from soct.pipeline.events import ignore
from soct.pipeline.request import Resources
from soct.pipeline.stopping import StopControl
from soct.pipeline.workers.dask_cluster import open_dask_pool
from soct.pipeline.workers.executors import LocalExecutor, RemoteExecutor
from soct.pipeline.workers.worker_probe import Probe, code_digest, library_versions, new_token

GB = 1 << 30


# Workers import by name what they are sent, and this script is none that they can.
TASK = SimpleNamespace(partial=Path("/"), context=SimpleNamespace(input_paths={}))
do_nothing = operator.truth


@contextmanager
def local(workers: int) -> Iterator[Executor]:
    executor = LocalExecutor(workers, worker_environment(1))
    try:
        yield executor
    finally:
        executor.shutdown()


@contextmanager
def on_dask(workers: int) -> Iterator[Executor]:
    resources = Resources(cpus=workers, memory_bytes=workers * GB + GB, preload=(), dask="local")
    with tempfile.TemporaryDirectory() as folder:
        probe = Probe(
            folder=Path(folder),
            token=new_token(),
            record=SliceRecord(1, root=Path(folder)),
            files={},
            fingerprint=fingerprint_slice,
            code=code_digest(),
            libraries=library_versions(),
        )
        with open_dask_pool(resources, probe, 0, workers, StopControl(), ignore) as pool:
            executor = pool.make_executor(workers, lambda message: None)
            while executor.slots() < workers:
                time.sleep(0.05)
            yield executor


@contextmanager
def dask_alone(workers: int) -> Iterator[Executor]:
    """Dask's own executor, in the threads of its workers: what soct adds is a process, a place and a look at files."""
    with (
        LocalCluster(workers, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        cluster.get_client() as client,
    ):
        yield client.get_executor(pure=False)


def compute(executor: Executor, units: int, workers: int) -> float:
    """Keep all workers busy until so many units are done; return the seconds."""
    began = time.perf_counter()
    running = set()
    left = units
    while left or running:
        while left and len(running) < workers:
            if isinstance(executor, RemoteExecutor) and executor.find_place(0) is None:
                break
            running.add(executor.submit(do_nothing, TASK))
            left -= 1
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            future.result()
    return time.perf_counter() - began


def measure(
    name: str, start: Callable[[int], object], units: int, workers: int, repeats: int
) -> dict[str, float | str]:
    began = time.perf_counter()
    with start(workers) as executor:  # type: ignore[attr-defined]
        compute(executor, workers, workers)
        started = time.perf_counter() - began
        best = min(compute(executor, units, workers) for _ in range(repeats))
    return {"executor": name, "start_s": started, "ms_per_unit": 1e3 * best / units}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = [
        measure(name, start, asked.units, asked.workers, asked.repeats)
        for name, start in (("processes", local), ("Dask", on_dask), ("Dask alone", dask_alone))
    ]
    print(f"{asked.units} units that do nothing, {asked.workers} workers")
    print(f"{'executor':<10} {'start [s]':>10} {'per unit [ms]':>14}")
    for row in rows:
        print(f"{row['executor']:<10} {row['start_s']:>10.2f} {row['ms_per_unit']:>14.2f}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
