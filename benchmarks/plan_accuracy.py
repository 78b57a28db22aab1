"""How far the estimates of `soct plan` are off: estimated beside measured, step by step.

``python benchmarks/plan_accuracy.py [INPUT] [--profile conservative] [--cpus 1] [--set STEP.KEY=VALUE]`` runs INPUT (the
shared sample) with the least memory that the plan states, in a temporary folder. Times are processor times, which other
work on the machine disturbs little. Run it twice: the first run compiles.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from soct.compute import caches
from soct.compute.threads import worker_environment
from soct.pipeline.asked_run import request_run
from soct.pipeline.folder.records import Record, RecordStore
from soct.pipeline.planning.estimates import RECORD_FILES, StepEstimate, estimate_steps
from soct.pipeline.planning.plan import Plan
from soct.pipeline.profiles.profile import load_profile
from soct.pipeline.request import RunRequest
from soct.pipeline.resources import least_memory
from soct.pipeline.runner import plan, run
from soct.pipeline.workers.executors import LocalExecutor
from soct.pipeline.workers.worker import Done, Failed, Task

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "soct_sample"


class TimedExecutor(LocalExecutor):
    """Workers that tell processor time instead of wall time."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a task in a worker."""
        return super().submit(timed, fn, *args)


def timed(execute: Callable[[Task], Done | Failed], task: Task) -> Done | Failed:
    """Compute a unit and have its seconds be those of processors."""
    started = time.process_time()
    done = execute(task)
    return replace(done, seconds=time.process_time() - started)


@dataclass
class Measured:
    """What the units of a step took."""

    units: int = 0
    seconds: float = 0.0
    memory: int = 0
    disk: int = 0
    files: int = 0


def measure(planned: Plan, folder: Path) -> dict[str, Measured]:
    """Add up the records of a run."""
    store = RecordStore(folder)
    found: dict[str, Measured] = {}
    for unit in planned.units:
        record = store.read(unit)
        if isinstance(record, Record):
            step = found.setdefault(unit.step, Measured())
            step.units += 1
            step.seconds += record.seconds
            step.memory = max(step.memory, record.peak_memory_bytes)
            step.disk += record.output_bytes
            step.files += sum(len(o.files) for o in record.outputs) + RECORD_FILES
    return found


def make_request(options: argparse.Namespace, folder: Path) -> RunRequest:
    """Ask for a run with the least memory that will do."""
    profile = load_profile(options.profile, None, options.set)
    request = request_run(profile, options.input, folder)
    memory = least_memory(plan(request).cost.largest_unit_bytes)
    environment, preload = worker_environment(options.cpus), request.resources.preload
    resources = replace(
        request.resources,
        cpus=options.cpus,
        memory_bytes=memory,
        executor=lambda workers: TimedExecutor(workers, environment, preload),
    )
    return replace(request, resources=resources)


def main() -> None:
    """Run, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("input", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--profile", default="conservative")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    caches.prepare()
    with tempfile.TemporaryDirectory() as place:
        request = make_request(options, Path(place) / "run")
        planned = plan(request)
        estimates = estimate_steps(planned)
        outcome = run(request)
        measured = measure(planned, request.folder)
    print(f"{options.input.name}, {options.profile}: {outcome.state}, {outcome.seconds:.1f} s wall")
    show(estimates, measured)


def show(estimates: tuple[StepEstimate, ...], measured: dict[str, Measured]) -> None:
    """Print a table: estimated and measured of every step, and the sums."""
    print(f"{'':28}{'units':>6}{'cpu s':>17}{'memory MB':>13}{'disk MB':>15}{'files':>10}")
    for e in estimates:
        m = measured.get(e.step, Measured())
        print(
            f"{e.step:28}{e.units:>6}{e.total_seconds:>9.2f}{m.seconds:>8.2f}"
            f"{e.memory_bytes / 1e6:>7.0f}{m.memory / 1e6:>6.0f}"
            f"{e.disk_bytes / 1e6:>8.1f}{m.disk / 1e6:>7.1f}{e.files:>6}{m.files:>4}"
        )
    done = [measured.get(e.step, Measured()) for e in estimates]
    print(
        f"{'all':28}{sum(e.units for e in estimates):>6}"
        f"{sum(e.total_seconds for e in estimates):>9.2f}{sum(m.seconds for m in done):>8.2f}"
        f"{'':13}{sum(e.disk_bytes for e in estimates) / 1e6:>8.1f}"
        f"{sum(m.disk for m in done) / 1e6:>7.1f}"
        f"{sum(e.files for e in estimates):>6}{sum(m.files for m in done):>4}"
    )
    above = [e.step for e, m in zip(estimates, done, strict=True) if m.memory > e.memory_bytes]
    print(f"memory above its limit: {', '.join(above) or 'none'}")


if __name__ == "__main__":
    main()
