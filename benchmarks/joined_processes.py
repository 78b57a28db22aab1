"""Several processes on one run folder: units per second, and what a claim costs.

    python benchmarks/joined_processes.py [--units 2000] [--processes 1 2 4 16] [--folder FOLDER] [--json OUT]

The units do next to nothing (they write a file of a few bytes), so that what is measured is the scheduler, the
records and the claims. `plain` is a run without ``--join``. `once` says whether every unit was computed by exactly
one process, `open` how many claims were left. The second table gives the cost of one claim, by its parts, in
milliseconds: least and median of many. Give a folder on another file system to measure that: on a disk most of the
time goes into flushing outputs and records, in memory (``--folder /dev/shm``) what is left is seen.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from soct.formats.tiles import Acquisition, SliceRecord
from soct.pipeline.folder.records import RecordStore
from soct.pipeline.request import Resources, RunRequest
from soct.pipeline.runner import run
from soct.pipeline.together.claims import Claims
from soct.pipeline.together.cooperation import ask_server
from soct.pipeline.together.holder import myself
from soct.pipeline.together.members import Membership
from soct.steps.declaration import Context, Output, Params, Result, Scope, Step, Unit


class Here(Executor):
    """Runs a unit where it is submitted: no process, no thread, no pipe."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run a unit now."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def touch(context: Context, params: Params) -> Result:
    context.output("file").write_text(f"{context.slice_ids}")
    return Result()


STEP: Step[Any] = Step(
    "touch", 1, Scope.SLICE, Params, touch, "Touch.", outputs=(Output("file", "{slice}.txt"),)
)


def request_for(folder: Path, units: int, *, join: bool) -> RunRequest:
    slices = {number: SliceRecord(number, root=folder) for number in range(units)}
    return RunRequest(
        input=folder.parent / "in",
        folder=folder,
        subject="trivial",
        params={"touch": Params()},
        steps={"touch": STEP},
        resources=Resources(cpus=1, executor=lambda workers: Here(), preload=()),
        acquisition=Acquisition(folder.parent / "in", "raw", slices),
        fingerprint=lambda record: {"raw": str(record.slice_id)},
        join=join,
    )


def work(folder: Path, units: int, join: bool, start: Any, results: Any) -> None:
    start.wait()
    outcome = run(request_for(folder, units, join=join))
    results.put((len(outcome.computed), outcome.state))


def measure(parent: Path, units: int, processes: int, *, join: bool) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(dir=parent)) / "run"
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(processes + 1), context.Queue()
    workers = [
        context.Process(target=work, args=(folder, units, join, start, results))
        for _ in range(processes)
    ]
    for worker in workers:
        worker.start()
    start.wait()
    began = time.perf_counter()
    computed = [results.get() for _ in workers]
    seconds = time.perf_counter() - began
    for worker in workers:
        worker.join()
    return {
        "processes": processes,
        "joined": join,
        "seconds": seconds,
        "units_per_second": units / seconds,
        "once": sum(n for n, _ in computed) == units
        and all(state == "complete" for _, state in computed),
        "open": len(list((folder / "state").glob("claims/*/*.json"))),
        "least_and_most": (min(n for n, _ in computed), max(n for n, _ in computed)),
    }


def time_claims(parent: Path, times: int = 500) -> dict[str, tuple[float, float]]:
    """Return ``part -> (least, median)`` in milliseconds."""
    folder = Path(tempfile.mkdtemp(dir=parent))
    store = RecordStore(folder)
    (folder / "state/touch").mkdir(parents=True)
    found: dict[str, list[float]] = {}

    def clock(name: str, action: Callable[[], Any]) -> None:
        began = time.perf_counter()
        action()
        found.setdefault(name, []).append((time.perf_counter() - began) * 1000)

    def look(unit: Unit) -> None:
        ask_server(store.path(unit).parent)
        store.read(unit)
        store.read_failure(unit)

    with Membership(folder, myself("benchmark")) as members:
        claims = Claims(members)
        claims.take(Unit("touch", (0,)))
        for number in range(1, times):
            unit = Unit("touch", (number,))
            began = time.perf_counter()
            clock("take the claim", lambda unit=unit: claims.take(unit))
            clock("look for a record", lambda unit=unit: look(unit))
            clock("check before publishing", lambda unit=unit: claims.holds(unit))
            clock("give back", lambda unit=unit: claims.release(unit))
            found.setdefault("all of a unit", []).append((time.perf_counter() - began) * 1000)
            clock("find a unit taken", lambda: claims.take(Unit("touch", (0,))))
            clock("list a step's claims", lambda: claims.taken("touch"))
            clock("heartbeat", members.beat)
        claims.release_all()
    return {name: (min(values), statistics.median(values)) for name, values in found.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=2000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 16])
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        parent = Path(name)
        (parent / "in").mkdir()
        rows = [measure(parent, asked.units, 1, join=False)]
        rows += [measure(parent, asked.units, n, join=True) for n in asked.processes]
        parts = time_claims(parent)
    print(f"{asked.units} units\nprocesses   seconds   units/s   once   open   units of each")
    for row in rows:
        name = f"{row['processes']} joined" if row["joined"] else "1 plain"
        low, high = row["least_and_most"]
        print(
            f"{name:<10} {row['seconds']:>8.2f} {row['units_per_second']:>9.0f}   "
            f"{'yes' if row['once'] else 'NO':<4} {row['open']:>6}   {low} to {high}"
        )
    print("\nmilliseconds                 least   median")
    for part, (least, median) in parts.items():
        print(f"{part:<25} {least:>8.3f} {median:>8.3f}")
    if asked.json:
        asked.json.write_text(json.dumps({"runs": rows, "claims_ms": parts}, indent=1))
    return 0 if all(row["once"] and not row["open"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
