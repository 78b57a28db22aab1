"""Whole runs on simulated acquisitions with a truth: one row per fault, median and worst over seeds.

    python benchmarks/accuracy.py [--cases NAME ...] [--seeds 3] [--cpus 2] [--json FILE] [--keep FOLDER]

Each case is a procedural brain imaged by a microscope with that fault beside the everyday ones, run through
`soct run` with the default profile and scored against the truth.

- ``ncc``, ``xy_um``, ``rot_deg``, ``z_um``, ``gain_cv``, ``cover``: as `soct evaluate` (95th percentiles)
- ``tile_px``: RMS error of the tile positions within their slices, and of the stage's (``stage_px``)
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from soct.simulate.evaluate import evaluate
from soct.simulate.faults import Faults, Glitch, Growth
from soct.simulate.microscope import simulate
from soct.simulate.spec import AcquisitionSpec

EVERYDAY = {
    "speckle_looks": 10.0,
    "galvo_return_px": 23,
    "focal_curvature_samples": 3.0,
    "slice_drift_um": 60.0,
    "gain_drift": 0.15,
}
SPEC: dict[str, Any] = {"slices": 4, "rows": 3, "cols": 3, "tile_px": (80, 80), "n_z": 72}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "no return lines": ({"n_extra": 0}, {"galvo_return_px": None}),
    "strong jitter, stage turned": (
        {},
        {"tile_jitter_px": 2.0, "stage_rotation_deg": 1.0, "stage_scale": 1.01},
    ),
    "wide grid 2 x 4": ({"rows": 2, "cols": 4, "tile_px": (64, 64)}, {}),
    "focal curvature 8": ({}, {"focal_curvature_samples": 8.0}),
    "surface tilted 1 deg": ({}, {"surface_tilt_deg": (1.0, 0.6)}),
    "attenuation 3 per mm": ({}, {"attenuation_per_mm": 3.0}),
    "attenuation follows anatomy": ({}, {"attenuation_contrast": 0.6}),
    "encoder glitch": ({"slices": 5}, {"glitches": (Glitch(slice_id=2, y_mm=2.0, x_mm=-1.0),)}),
    "mosaic grows": (
        {"rows": 2, "cols": 2},
        {"growth": (Growth(slice_id=2, axis="x", side="low"),)},
    ),
    "a slice is missing": ({"slices": 5}, {"missing_slices": (2,)}),
    "blank tiles": ({"rows": 4, "cols": 4, "tile_px": (64, 64)}, {"blank_fraction": 0.3}),
    "tiles missing, truncated": ({}, {"missing_fraction": 0.05, "truncated_fraction": 0.05}),
    "no stage positions": ({}, {"stage_xy_absent": True, "roi_move_px": 0.0}),
    "slices turned 1 deg": ({}, {"slice_rotation_deg": 1.0, "slice_drift_um": 100.0}),
    "heavy speckle": ({}, {"speckle_looks": 2.0}),
}


def run_case(name: str, seed: int, cpus: int, folder: Path) -> dict[str, Any]:
    """Simulate, reconstruct and score one acquisition."""
    shape, faults = CASES[name]
    spec = AcquisitionSpec(
        **{**SPEC, **shape, "seed": seed}, faults=Faults(**{**EVERYDAY, **faults})
    )
    simulate(spec, folder / "acquisition")
    command = [sys.executable, "-c", "from soct.cli.main import main; main()", "run"]
    command += [str(folder / "acquisition/raw"), str(folder / "out"), "--cpus", str(cpus)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row: dict[str, Any] = {"seconds": time.perf_counter() - start, "exit": done.returncode}
    volumes = sorted((folder / "out/stack").glob("*.ome.zarr"))
    if not volumes:
        row["error"] = done.stderr.strip()[-300:]
        return row
    score = evaluate(volumes[0], folder / "acquisition")
    row |= {
        "ncc": score.ncc,
        "xy_um": score.xy_p95_um,
        "rot_deg": score.rot_p95_deg,
        "z_um": score.z_p95_um,
        "gain_cv": score.gain_cv,
        "cover": score.coverage,
    }
    row["tile_px"], row["stage_px"] = tile_errors(folder)
    return row


def tile_errors(folder: Path) -> tuple[float, float]:
    """RMS error of solved and of stage positions over all tiles, each slice about its own mean."""
    truth = json.loads((folder / "acquisition/truth.json").read_text())["tiles"]
    solved, stage = [], []
    for table in sorted((folder / "out/stitch_3d_with_refinement").glob("tile_positions_z*.csv")):
        tag = table.stem[-3:]
        with table.open() as lines:
            rows = list(csv.DictReader(lines))
        names = sorted(n for n in truth if n.endswith(tag))
        row0 = min(int(n.split("_y")[1].split("_")[0]) for n in names)
        col0 = min(int(n.split("_x")[1].split("_")[0]) for n in names)
        true = np.array(
            [
                truth[f"tile_x{int(r['col']) + col0:02d}_y{int(r['row']) + row0:02d}_{tag}"][
                    "pos_yx_px"
                ]
                for r in rows
            ]
        )
        for out, prefix in ((solved, ""), (stage, "nominal_")):
            found = np.array([[float(r[f"{prefix}y_px"]), float(r[f"{prefix}x_px"])] for r in rows])
            error = found - true
            out.append(error - error.mean(axis=0))
    return tuple(
        float(np.sqrt((np.concatenate(e) ** 2).sum(axis=1).mean())) for e in (solved, stage)
    )  # type: ignore[return-value]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="keep acquisitions and runs here")
    asked = parser.parse_args()
    columns = (
        "ncc",
        "xy_um",
        "rot_deg",
        "z_um",
        "gain_cv",
        "cover",
        "tile_px",
        "stage_px",
        "seconds",
    )
    print(f"{'median (worst) of ' + str(asked.seeds):30}" + "".join(f"{c:>18}" for c in columns))
    results: dict[str, list[dict[str, Any]]] = {}
    for name in asked.cases:
        rows = []
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            if asked.keep is not None:
                rows.append(
                    run_case(
                        name, seed, asked.cpus, asked.keep / f"{name}-{seed}".replace(" ", "_")
                    )
                )
            else:
                with tempfile.TemporaryDirectory() as folder:
                    rows.append(run_case(name, seed, asked.cpus, Path(folder) / "case"))
        results[name] = rows
        cells = []
        for column in columns:
            values = [r[column] for r in rows if column in r]
            worst = min if column in ("ncc", "cover") else max
            cells.append(f"{np.median(values):.3g} ({worst(values):.3g})" if values else "failed")
        print(f"{name:30}" + "".join(f"{c:>18}" for c in cells), flush=True)
        for row in rows:
            if row["exit"] != 0:
                print(
                    f"  exit {row['exit']}: {row.get('error', 'finished with failures')}",
                    flush=True,
                )
    if asked.json is not None:
        asked.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
