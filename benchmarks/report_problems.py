"""Whether the report names what is wrong, first and at its place: one run per planted fault.

    python benchmarks/report_problems.py [--cases NAME ...] [--seeds 1] [--cpus 2] [--keep DIR] [--json FILE]

Each case plants one fault in a simulated acquisition, or takes away the step that would have mended it, and runs
`soct run`. Printed are the rank of that fault among the "Problems, ranked" of the report (1 is the first), whether it
is named at its place, the verdict, and what stands before it. Clean runs must show no problem at all.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accuracy_cases import EVERYDAY, SIZE

from soct.simulate.faults import Faults, Glitch
from soct.simulate.microscope import simulate
from soct.simulate.spec import AcquisitionSpec


@dataclass(frozen=True)
class Planted:
    """A fault, and how the report must call it and its place (patterns; none for a clean run)."""

    what: str = ""
    where: str = ""
    faults: dict[str, Any] = field(default_factory=dict)
    size: dict[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()


FIVE = {"slices": 5}
CASES: dict[str, Planted] = {
    "clean": Planted(),
    "clean, 2-look speckle": Planted(faults={"speckle_looks": 2.0}),
    "encoder glitch": Planted(
        "glitch",
        r"slice 2\b",
        {"glitches": (Glitch(slice_id=2, y_mm=2.0, x_mm=-1.0),)},
        FIVE,
    ),
    "glitch that is not mended": Planted(
        "displaced|jump",
        r"\b2\b",
        {"glitches": (Glitch(slice_id=2, y_mm=0.45, x_mm=-0.3),)},
        FIVE,
        ("detect_rehoming_events.rehoming_max_shift_mm=50",),
    ),
    "curved brain": Planted(
        "curved",
        r"slice (0|10)\b",
        {"slice_drift_steady_um": (-110.0, 195.0), "slice_drift_um": 20.0},
        {"slices": 11},
    ),
    "banding": Planted(
        "banding",
        r"\b2\b",
        {"gain_drift": 0.5},
        FIVE,
        ("normalize.min_scale=1", "normalize.max_scale=1"),
    ),
    "waffle, no flat field": Planted(
        "seams|flat field|tiles differ",
        "slice",
        {"vignetting": 0.5},
        {},
        ("fix_illumination.enabled=false",),
    ),
    "a slice is missing": Planted(
        "missing slice|interpolated", r"\b2\b", {"missing_slices": (2,)}, FIVE
    ),
    "two slices are missing": Planted(
        "missing slice", r"\b2\b.*\b3\b", {"missing_slices": (2, 3)}, {"slices": 6}
    ),
    "truncated tiles": Planted("truncated", r"tile \(", {"truncated_fraction": 0.06}, {}),
    "slices turned": Planted("rotat", r"\d", {"slice_rotation_range_deg": 4.0}, FIVE),
    "ghost tiles: return lines left in": Planted(
        "galvo|return lines",
        "",
        {"galvo_return_px": 33, "galvo_return_level": 1.6},
        {},
        ("create_mosaic_grid.fix_galvo_shift=false",),
    ),
    "surface tilted": Planted(
        "tilt", "slice", {"surface_tilt_deg": (3.5, 0.0)}, {"n_z": 84, "surface_sample": 24.0}
    ),
    "low contrast": Planted("contrast", "", {"noise_floor": 0.4, "speckle_looks": 3.0}, {}),
}


def run_case(name: str, seed: int, cpus: int, folder: Path) -> dict[str, Any]:
    """Simulate, run, and look up the fault among the problems of the report."""
    case = CASES[name]
    spec = AcquisitionSpec(
        **{**SIZE, **case.size, "seed": seed}, faults=Faults(**{**EVERYDAY, **case.faults})
    )
    simulate(spec, folder / "acquisition", threads=cpus)
    command = [sys.executable, "-c", "from soct.cli.main import main; main()", "run"]
    command += [str(folder / "acquisition/raw"), str(folder / "out"), "--cpus", str(cpus)]
    for one in case.settings:
        command += ["--set", one]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    summary = json.loads((folder / "out/report_data/summary.json").read_text())
    with (folder / "out/report_data/problems.tsv").open() as lines:
        problems = list(csv.DictReader(lines, delimiter="\t"))
    row: dict[str, Any] = {
        "case": name,
        "seed": seed,
        "exit": done.returncode,
        "verdict": summary["verdict"],
        "problems": [f"{p['what']} [{p['where']}]" for p in problems],
    }
    if case.what:
        matching = [
            i
            for i, p in enumerate(problems, 1)
            if re.search(case.what, p["what"], re.IGNORECASE) and re.search(case.where, p["where"])
        ]
        row["rank"] = matching[0] if matching else None
    return row


def print_row(row: dict[str, Any]) -> None:
    """One line per run; below it what stands before the fault, or all that a clean run shows."""
    clean = "rank" not in row
    good = not row["problems"] if clean else (row["rank"] or 99) <= 2
    rank = f"{len(row['problems'])} problems" if clean else f"rank {row['rank'] or '-'}"
    print(
        f"{row['case']:36}{row['seed']:>5}  {rank:12}{'ok' if good else 'MISSED':8}{row['verdict']}",
        flush=True,
    )
    shown = row["problems"] if clean else row["problems"][: (row["rank"] or 6)]
    for text in shown:
        print(f"      {text[:150]}")


def main() -> int:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="keep acquisitions and runs here")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = []
    for name in asked.cases:
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                place = (asked.keep or Path(scratch)) / f"{name.replace(' ', '_')}-{seed}"
                rows.append(run_case(name, seed, asked.cpus, place))
            print_row(rows[-1])
    planted = [r for r in rows if "rank" in r]
    clean = [r for r in rows if "rank" not in r]
    found = sum((r["rank"] or 99) <= 2 for r in planted)
    print(
        f"first or second: {found} of {len(planted)}; clean: {sum(not r['problems'] for r in clean)} of {len(clean)}"
    )
    if asked.json is not None:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
