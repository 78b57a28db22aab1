"""The same acquisition from raw tiles and from the mosaic grids that linumpy would have made of it.

    python benchmarks/linumpy_grids.py [--cases NAME ...] [--seed 0] [--cpus 2] [--acquisition FOLDER]

Each case is a simulated acquisition (or FOLDER with ``raw/`` and ``truth.npz``), run through `soct run` as raw tiles and
as grids of OME-NGFF 0.4 and 0.5, with the return lines moved out (fixed), cut off in the wrong place (cropped) or
left inside (whole), and scored against the truth as `soct evaluate` does.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from soct.simulate.evaluate import evaluate
from soct.simulate.faults import Faults
from soct.simulate.linumpy_grids import write_linumpy_grids
from soct.simulate.microscope import simulate
from soct.simulate.spec import AcquisitionSpec

EVERYDAY = {"speckle_looks": 10.0, "galvo_return_px": 23}
SPEC: dict[str, Any] = {"slices": 4, "rows": 3, "cols": 3, "tile_px": (80, 80), "n_z": 72}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "overlap 20 %": ({}, {}),
    "overlap 12 %": ({"overlap": 0.12}, {}),
    "overlap 30 %, tiles not square": ({"overlap": 0.3, "tile_px": (64, 80)}, {}),
    "stage turned 1 deg, scaled 1 %": ({}, {"stage_rotation_deg": 1.0, "stage_scale": 1.01}),
}
INPUTS: dict[str, dict[str, Any] | None] = {
    "raw": None,
    "grid 0.4": {"version": "0.4"},
    "grid 0.5": {"version": "0.5"},
    "grid 0.5 sharded": {"version": "0.5", "sharding_factor": 2},
    "grid, no table": {"tables": False},
    "grid, whole frames": {"galvo": "whole"},
    "grid, cut frames": {"galvo": "cropped"},
}


def run_soct(source: Path, out: Path, cpus: int) -> str:
    """Run the default profile; return the error, empty where all went well."""
    command = [sys.executable, "-c", "from soct.cli.main import main; main()", "run"]
    command += [str(source), str(out), "--cpus", str(cpus)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else f"exit {done.returncode}: {done.stderr.strip()[-200:]}"


def print_row(case: str, name: str, source: Path, acquisition: Path, cpus: int, out: Path) -> None:
    """Run one input and print its scores."""
    start = time.perf_counter()
    error = run_soct(source, out, cpus)
    seconds = time.perf_counter() - start
    if error:
        print(f"{case:32s} {name:20s} {error}", flush=True)
        return
    score = evaluate(next((out / "stack").glob("*.ome.zarr")), acquisition)
    overlap = json.loads((out / "estimate_xy_shifts/tile_overlap.json").read_text())
    y, x = overlap["overlap_fraction_yx"]
    told = "" if overlap["source"] == "stage" else f"{y:.3f} {x:.3f} ({overlap['source']})"
    print(
        f"{case:32s} {name:20s} {score.ncc:6.3f} {score.xy_p95_um:7.2f} {score.rot_p95_deg:8.3f} "
        f"{score.z_p95_um:7.1f} {score.coverage:6.3f} {seconds:6.1f}  {told}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--inputs", nargs="*", default=list(INPUTS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--acquisition", type=Path, help="instead of the cases")
    asked = parser.parse_args()
    print(
        f"{'case':32s} {'input':20s} {'ncc':>6s} {'xy um':>7s} {'rot deg':>8s} {'z um':>7s} "
        f"{'cover':>6s} {'s':>6s}  overlap found (y x)"
    )
    for case in [str(asked.acquisition)] if asked.acquisition else asked.cases:
        with tempfile.TemporaryDirectory() as folder:
            acquisition = asked.acquisition or Path(folder) / "acquisition"
            if asked.acquisition is None:
                shape, faults = CASES[case]
                spec = {**SPEC, **shape, "seed": asked.seed}
                simulate(AcquisitionSpec(**spec, faults=Faults(**EVERYDAY, **faults)), acquisition)
            truth = json.loads((acquisition / "truth.json").read_text())
            for k, name in enumerate(asked.inputs):
                how = INPUTS[name]
                source = acquisition / "raw"
                if how is not None:
                    source = Path(folder) / f"grids{k}"
                    write_linumpy_grids(
                        acquisition / "raw", source, galvo_at=truth.get("galvo_at"), **how
                    )
                label = case if asked.acquisition is None else asked.acquisition.name
                print_row(label, name, source, acquisition, asked.cpus, Path(folder) / f"run{k}")


if __name__ == "__main__":
    main()
