"""How fast `soct run` is, and how much memory it takes: per step and as a whole.

    python benchmarks/throughput.py [INPUT] [--cpus 2] [--memory 2GB] [--repeats 1] [--folder DIR] [--json FILE]
    python benchmarks/throughput.py --scale 4 [--cpus 2] ...

Without INPUT an acquisition is simulated. A first run fills the cache of compiled kernels, the ones that
follow are measured, each in a fresh folder; the quietest counts. With ``--scale N`` an acquisition with N
times as many tiles is measured too (more rows, columns and slices), and peak memory must not grow with them.

Memory of a step is the largest of its units, by the kernel's high-water mark. Memory of the run is sampled
every 50 ms over all its processes: ``rss`` counts shared pages once for every process, ``pss`` once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import psutil

from soct.simulate.microscope import simulate
from soct.simulate.spec import preset

SAMPLE_S = 0.05


@dataclass
class StepFigures:
    """One step of one run."""

    step: str
    units: int = 0
    seconds: float = 0.0
    """Sum over units."""
    span_s: float = 0.0
    """From the first unit's start to the last one's end."""
    peak_mb: float = 0.0
    written_mb: float = 0.0


@dataclass
class RunFigures:
    """One run."""

    raw_mb: float
    wall_s: float
    cpu_s: float
    load_before: float
    peak_rss_mb: float
    peak_pss_mb: float
    steps: list[StepFigures] = field(default_factory=list)

    @property
    def mb_per_s(self) -> float:
        """Raw megabytes per second of the whole command, its report included."""
        return self.raw_mb / self.wall_s


def proportional_bytes(pid: int) -> int:
    """Return the memory of a process in which a page shared by n processes counts as 1/n."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def watch(command: list[str], environment: dict[str, str]) -> tuple[float, float, int, int]:
    """Run a command; return wall seconds, CPU seconds, and peak RSS and PSS over its process tree."""
    started = time.perf_counter()
    process = psutil.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    seconds: dict[int, float] = {}
    rss = pss = 0
    while process.poll() is None:
        resident = shared = 0
        with contextlib.suppress(psutil.Error):
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error, OSError):
                    times = one.cpu_times()
                    seconds[one.pid] = times.user + times.system
                    resident += one.memory_info().rss
                    shared += proportional_bytes(one.pid)
        rss, pss = max(rss, resident), max(pss, shared)
        time.sleep(SAMPLE_S)
    wall = time.perf_counter() - started
    if process.returncode:
        raise SystemExit(
            f"{' '.join(command)} ended with {process.returncode}:\n{process.stdout.read()}"
        )
    return wall, sum(seconds.values()), rss, pss


def raw_megabytes(acquisition: Path) -> float:
    return sum(p.stat().st_size for p in acquisition.rglob("*.bin")) / 1e6


def read_steps(run_folder: Path) -> list[StepFigures]:
    """Sum up the records of a run folder, steps in the order in which they first started."""
    steps: dict[str, StepFigures] = {}
    spans: dict[str, tuple[datetime, datetime]] = {}
    for path in (run_folder / "state").glob("*/*.json"):
        record = json.loads(path.read_text())["record"]
        name = record["step"]
        one = steps.setdefault(name, StepFigures(name))
        one.units += 1
        one.seconds += record["seconds"]
        one.peak_mb = max(one.peak_mb, record["peak_memory_bytes"] / 1e6)
        one.written_mb += sum(output["bytes"] for output in record["outputs"]) / 1e6
        start, end = (datetime.fromisoformat(record[key]) for key in ("started", "ended"))
        low, high = spans.get(name, (start, end))
        spans[name] = min(low, start), max(high, end)
    for name, (low, high) in spans.items():
        steps[name].span_s = (high - low).total_seconds()
    return sorted(steps.values(), key=lambda s: spans[s.step][0])


def measure(
    acquisition: Path, folder: Path, cpus: int, memory: str | None, repeats: int
) -> RunFigures:
    """Run once to fill the caches, then measure; the run that took least CPU time is returned."""
    environment = os.environ | {"NO_COLOR": "1"}
    found: list[RunFigures] = []
    for number in range(repeats + 1):
        target = folder / f"run{number}"
        command = [
            *(str(Path(sys.executable).with_name("soct")), "run", str(acquisition), str(target)),
            *("--cpus", str(cpus), *(("--memory", memory) if memory else ())),
        ]
        load = os.getloadavg()[0]
        wall, cpu, rss, pss = watch(command, environment)
        if number:
            figures = RunFigures(raw_megabytes(acquisition), wall, cpu, load, rss / 1e6, pss / 1e6)
            figures.steps = read_steps(target)
            found.append(figures)
    return min(found, key=lambda f: f.cpu_s)


def tell(title: str, figures: RunFigures) -> None:
    print(f"\n{title}: {figures.raw_mb:.1f} MB of raw tiles")
    print(
        f"{'step':28s}{'units':>6s}{'sum s':>8s}{'span s':>8s}{'MB/s':>8s}{'peak MB':>9s}{'written MB':>12s}"
    )
    for s in figures.steps:
        rate = figures.raw_mb / s.span_s if s.span_s else float("nan")
        print(
            f"{s.step:28s}{s.units:6d}{s.seconds:8.2f}{s.span_s:8.2f}{rate:8.1f}{s.peak_mb:9.0f}{s.written_mb:12.1f}"
        )
    print(
        f"whole command: {figures.wall_s:.2f} s wall, {figures.cpu_s:.2f} s CPU, {figures.mb_per_s:.1f} MB/s "
        f"(load before: {figures.load_before:.1f}); all processes at most {figures.peak_rss_mb:.0f} MB rss, "
        f"{figures.peak_pss_mb:.0f} MB pss"
    )


def tell_growth(small: RunFigures, large: RunFigures) -> None:
    print(f"\ngrowth with {large.raw_mb / small.raw_mb:.1f} times the data")
    before = {s.step: s for s in small.steps}
    for s in large.steps:
        one = before[s.step]
        print(
            f"{s.step:28s}{one.peak_mb:9.0f} -> {s.peak_mb:6.0f} MB  x {s.peak_mb / one.peak_mb:.2f}"
        )
    print(
        f"{'all processes (pss)':28s}{small.peak_pss_mb:9.0f} -> {large.peak_pss_mb:6.0f} MB  "
        f"x {large.peak_pss_mb / small.peak_pss_mb:.2f}"
    )


def simulated(folder: Path, slices: int, rows: int, cols: int, tile_px: int) -> Path:
    spec = preset(
        "large", slices=slices, rows=rows, cols=cols, tile_px=(tile_px, tile_px), n_extra=24
    )
    simulate(spec, folder)
    return folder / "raw"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, nargs="?", help="raw tiles; simulated without")
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--memory", help="the promise that is given to soct run, such as 2GB")
    parser.add_argument(
        "--scale", type=int, default=1, help="measure this many times the tiles too"
    )
    parser.add_argument("--slices", type=int, default=3, help="of the simulated acquisition")
    parser.add_argument("--side", type=int, default=3, help="rows and columns of tiles, simulated")
    parser.add_argument("--tile-px", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        base = options.input or simulated(
            folder / "small", options.slices, options.side, options.side, options.tile_px
        )
        results = {
            "base": measure(base, folder / "base", options.cpus, options.memory, options.repeats)
        }
        tell(options.input.name if options.input else "simulated", results["base"])
        if options.scale > 1:
            more = max(1, round(options.scale**0.5))
            large = simulated(
                folder / "large",
                options.slices * more,
                options.side,
                options.side * options.scale // more,
                options.tile_px,
            )
            results["scaled"] = measure(
                large, folder / "scaled", options.cpus, options.memory, options.repeats
            )
            tell(f"{options.scale} times as large", results["scaled"])
            tell_growth(results["base"], results["scaled"])
    if options.json:
        document = {k: asdict(v) | {"mb_per_s": v.mb_per_s} for k, v in results.items()}
        options.json.write_text(json.dumps(document, indent=2, default=str))


if __name__ == "__main__":
    main()
