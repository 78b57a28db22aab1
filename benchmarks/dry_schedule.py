"""How long planning and a dry schedule take for many units: processor time, wall time, memory.

``python benchmarks/dry_schedule.py [--units 100000] [--nodes 16]``; the graph, the plan and the scheduler are those of
a run of the diagnostic profile, on as many slices as that many units take.
"""

from __future__ import annotations

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path

from soct.pipeline.asked_run import request_run
from soct.pipeline.planning.described import Description, acquisition_of, fingerprint_of_described
from soct.pipeline.planning.dry_schedule import Machines, dry_schedule
from soct.pipeline.planning.plan import Plan
from soct.pipeline.profiles.profile import load_profile
from soct.pipeline.profiles.quantities import format_duration
from soct.pipeline.runner import plan

PROFILE = "diagnostic"
_NOWHERE = Path("no-such-folder")


def plan_of(slices: int) -> Plan:
    """Plan a run of so many slices that nobody recorded."""
    description = Description(slices=slices, tiles=(2, 2), tile_size=(200, 200, 256))
    request = request_run(load_profile(PROFILE, None, []), _NOWHERE / "in", _NOWHERE / "out")
    described = replace(
        request,
        acquisition=acquisition_of(description),
        fingerprint=fingerprint_of_described,
    )
    return plan(described)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--nodes", type=int, default=16)
    options = parser.parse_args()
    few, more = len(plan_of(10).units), len(plan_of(20).units)
    slices = 10 + 10 * (options.units - few) // (more - few)
    marks = [(time.perf_counter(), time.process_time())]
    planned = plan_of(slices)
    marks.append((time.perf_counter(), time.process_time()))
    schedule = dry_schedule(planned, Machines(16, 64 << 30, options.nodes))
    marks.append((time.perf_counter(), time.process_time()))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{len(planned.units)} units of {slices} slices on {options.nodes} nodes of 16 cores")
    print(f"{'':<14}{'wall s':>8}{'cpu s':>8}")
    for name, before, after in zip(("plan", "dry schedule"), marks, marks[1:], strict=False):
        print(f"{name:<14}{after[0] - before[0]:8.1f}{after[1] - before[1]:8.1f}")
    print(f"peak memory {peak:.0f} MiB")
    print(f"simulated: {format_duration(schedule.seconds)}, {schedule.use:.0%} of the processors")


if __name__ == "__main__":
    main()
