"""How large a report is and what it costs to make: megabytes, seconds and memory against what is promised.

    python benchmarks/report_size.py [--repeats 3] [--keep DIR] [--json FILE]

Runs are made up, nothing is computed. Of "noise" every picture is noise, which no PNG makes smaller: the largest page
that a run of that size can have. Each page is made by a process of its own, as `soct report` does it, without the time
that Python takes to start and to import; of several repeats the least time is printed. Promised for 100 slices of
100 tiles: at most 15 MB, within 20 s, below 1 GB. With a Chromium on the PATH the time until the page has loaded is
measured too (promised: 2 s).
"""

from __future__ import annotations

import argparse
import json
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.browser import find_browser, start_browser  # noqa: E402
from tests.report.fabricated import complete_run  # noqa: E402
from tests.report.fabricated_options import run_of_noise, run_with_everything  # noqa: E402

from soct.report.model import RunView  # noqa: E402
from soct.report.rendering import render_report  # noqa: E402
from soct.report.reportlet import load_reportlets  # noqa: E402

CASES = {
    "100 x 100, noise": lambda folder: run_of_noise(folder, 100, 10),
    "100 x 100": lambda folder: complete_run(folder, 100, 10, image=700),
    "100 x 100, every step": lambda folder: run_with_everything(folder, 100, 10, image=700),
    "12 x 16": lambda folder: complete_run(folder, 12, 4),
    "500 x 1, no figures": lambda folder: complete_run(folder, 500, 1, figures=False),
}
PROMISED = {"MB": 15.0, "wall s": 20.0, "peak MB": 1000.0, "load s": 2.0}


def peak_bytes() -> int:
    """Return the largest memory of this process; the kernel's figure, for that of `resource` outlives a fork."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def render(saved: Path) -> None:
    """Make the page of a saved run and print what it took."""
    view: RunView = pickle.loads(saved.read_bytes())
    load_reportlets()
    wall, cpu = time.perf_counter(), time.process_time()
    page = render_report(view, saved.parent / "out")
    took = {"wall s": time.perf_counter() - wall, "CPU s": time.process_time() - cpu}
    print(json.dumps({"MB": page.stat().st_size / 1e6, **took, "peak MB": peak_bytes() / 1e6}))


def measure(saved: Path, repeats: int) -> dict[str, Any]:
    """Return the least of what several processes took, and the largest memory."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, __file__, "--render", str(saved)],
            capture_output=True,
            text=True,
            check=True,
        )
        runs.append(json.loads(done.stdout))
    found = {key: min(run[key] for run in runs) for key in ("MB", "wall s", "CPU s")}
    found["peak MB"] = max(run["peak MB"] for run in runs)
    page = next((saved.parent / "out").glob("*.html"))
    program = find_browser()
    if program is not None:
        found["load s"] = min(load(program, page) for _ in range(repeats))
    return found


def load(program: str, page: Path) -> float:
    """Return the seconds until a browser has loaded a page."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        start_browser(program, Path(profile)) as browser,
        browser.open(page) as tab,
    ):
        return tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1e3


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="folder in which the pages stay")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--render", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.render:
        render(chosen.render)
        return
    columns = ("MB", "wall s", "CPU s", "peak MB", "load s")
    print(f"{'slices x tiles':<24}" + "".join(f"{c:>10}" for c in columns))
    table = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, make in CASES.items():
            folder = (chosen.keep or Path(scratch)) / "".join(
                c if c.isalnum() else "_" for c in name
            )
            folder.mkdir(parents=True, exist_ok=True)
            saved = folder / "view.pickle"
            saved.write_bytes(pickle.dumps(make(folder)))
            table[name] = found = measure(saved, chosen.repeats)
            cells = (f"{found[c]:>10.2f}" if c in found else f"{'-':>10}" for c in columns)
            print(f"{name:<24}" + "".join(cells), flush=True)
    print(f"{'promised':<24}" + "".join(f"{PROMISED[c]:>10.0f}" if c in PROMISED else " " * 10 for c in columns))  # fmt: skip
    if chosen.json:
        chosen.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
