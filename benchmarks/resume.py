"""Runs that are killed with SIGKILL at random moments and started again, against an undisturbed one.

    python benchmarks/resume.py [--raw RAW] [--kills 10] [--seed 0] [--cpus 2] [--workers 1 2 4] [--json OUT]

Without `--raw` a small acquisition is simulated. A moment is a number of finished units, drawn evenly, and a fraction of
the time that one more takes, so that a busy machine shifts no kill beyond the end; every second kill takes the workers
too. What counts as equal: every file of every step's folder, byte by byte (results, tables, figures), and the ledger;
records, metrics, report and lock hold times and are left out.
The second table compares runs with other numbers of workers. Ends with 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soct.simulate.microscope import simulate
from soct.simulate.spec import preset

SOCT = [sys.executable, "-c", "from soct.cli.main import main; main()"]
LEFT_OUT = {"state", "report_data", "run.json", ".soct.lock"}


def checksum_outputs(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that a run computed."""
    sums = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        timed = name.parts[0] in LEFT_OUT or "metrics" in name.parts or path.suffix == ".html"
        if path.is_file() and not timed:
            sums[name.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return sums


def digest(sums: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sums).encode()).hexdigest()[:16]


def command(raw: Path, folder: Path, cpus: int) -> list[str]:
    return [*SOCT, "run", str(raw), str(folder), "--cpus", str(cpus), "--subject", "sample"]


def run(raw: Path, folder: Path, cpus: int) -> float:
    """Run to the end; return the seconds that it took."""
    began = time.perf_counter()
    subprocess.run(command(raw, folder, cpus), check=True, capture_output=True)
    return time.perf_counter() - began


def history(folder: Path) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return list(document["history"])


def count_done(folder: Path) -> int:
    """Return the number of units whose record is there."""
    return len([p for p in (folder / "state").glob("*/*.json") if p.parent.name != "progress"])


def run_and_kill(
    raw: Path, folder: Path, cpus: int, after: int, delay_s: float, *, with_workers: bool
) -> bool:
    """Start a run and kill it `delay_s` after it finished `after` units; return whether it still ran."""
    process = subprocess.Popen(
        command(raw, folder, cpus),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while process.poll() is None and (count_done(folder) < after or not folder.exists()):
        time.sleep(0.002)
    time.sleep(delay_s)
    alive = process.poll() is None
    if alive and with_workers:
        os.killpg(process.pid, signal.SIGKILL)
    elif alive:
        process.kill()
    process.wait()
    return alive


def measure_kill(
    raw: Path,
    folder: Path,
    cpus: int,
    moment: tuple[int, float],
    expected: dict[str, str],
    number: int,
) -> dict[str, Any]:
    with_workers = number % 2 == 1
    alive = run_and_kill(raw, folder, cpus, *moment, with_workers=with_workers)
    done = count_done(folder)
    torn = len([p for p in folder.rglob("*") if ".partial" in p.name])
    seconds = run(raw, folder, cpus)
    last = history(folder)[-1]
    sums = checksum_outputs(folder)
    return {
        "kill": number + 1,
        "after_units": moment[0],
        "delay_s": round(moment[1], 2),
        "killed": ("run and workers" if with_workers else "run") if alive else "had ended",
        "units_done": done,
        "half_written": torn,
        "computed": last["computed"],
        "reused": last["reused"],
        "resume_s": round(seconds, 1),
        "differing_files": [n for n in expected | sums if expected.get(n) != sums.get(n)],
        "left_behind": len([p for p in folder.rglob("*") if ".partial" in p.name]),
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    names = list(rows[0])
    shown = [[len(r[n]) if isinstance(r[n], list) else r[n] for n in names] for r in rows]
    widths = [
        max(len(str(v)) for v in (n, *column))
        for n, column in zip(names, zip(*shown, strict=True), strict=True)
    ]
    for row in [names, *shown]:
        print("  ".join(f"{v!s:>{w}}" for v, w in zip(row, widths, strict=True)))


def compare_workers(
    raw: Path, root: Path, counts: Sequence[int], expected: dict[str, str]
) -> list[dict[str, Any]]:
    rows = []
    for cpus in counts:
        folder = root / f"workers{cpus}"
        seconds = run(raw, folder, cpus)
        sums = checksum_outputs(folder)
        rows.append(
            {
                "cpus": cpus,
                "workers": history(folder)[-1]["workers"],
                "files": len(sums),
                "sha256": digest(sums),
                "seconds": round(seconds, 1),
                "differing_files": [n for n in expected | sums if expected.get(n) != sums.get(n)],
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--raw", type=Path, help="a folder of raw tiles")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        raw = options.raw
        if raw is None:
            raw = simulate(preset("tiny", seed=options.seed, slices=4), root / "acquisition").raw
        run(raw, root / "compile", options.cpus)
        seconds = run(raw, root / "undisturbed", options.cpus)
        expected = checksum_outputs(root / "undisturbed")
        again = run(raw, root / "undisturbed", options.cpus)
        second = history(root / "undisturbed")[-1]
        print(
            f"undisturbed: {seconds:.1f} s, {len(expected)} files, sha256 {digest(expected)}; "
            f"the second run: {again:.1f} s, {second['computed']} units computed, {second['reused']} reused"
        )
        chance = random.Random(options.seed)
        units = count_done(root / "undisturbed")
        kills = []
        for number in range(options.kills):
            moment = (chance.randrange(units), chance.uniform(0.0, 1.5 * seconds / units))
            folder = root / f"kill{number}"
            kills.append(measure_kill(raw, folder, options.cpus, moment, expected, number))
        print_table(kills)
        workers = compare_workers(raw, root, options.workers, expected)
        print_table(workers)
    if options.json is not None:
        document = {"seconds": seconds, "second": second, "kills": kills, "workers": workers}
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return int(
        second["computed"] > 0
        or any(r["differing_files"] or r.get("left_behind") for r in [*kills, *workers])
    )


if __name__ == "__main__":
    sys.exit(main())
