"""Whole runs on simulated acquisitions with a truth: one row per fault, median and worst over seeds.

    python benchmarks/accuracy.py [--cases NAME ...] [--seeds 3] [--jobs 2] [--cpus 1] [--profile P] [--json FILE]

Each case (`accuracy_cases.py`) is a procedural brain imaged by a microscope with that fault beside the everyday
ones, run through `soct run` and scored against the truth. With ``--json`` finished runs are kept in that file as
they come, and the same command goes on where it was stopped; runs of another version of soct are done anew.

- ``ncc``, ``xy_um``, ``rot_deg``, ``z_um``, ``gain_cv``, ``cover``: as `soct evaluate` (95th percentiles)
- ``tile_px``: RMS error of the positions of tiles with texture within the groups that they form; ``blank_px``: of
  those without, against their places in the grid
- ``pose_px``, ``pose_deg``, ``pose_z``: 95th percentile over slices of the error of the solved poses (px, degrees,
  um) after one global rigid motion; ``stage_px``: the same of the stage's positions
- ``told``: planted faults that ledger and report name at their place, of those planted

A value beyond its target carries an exclamation mark.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from accuracy_cases import CASES, EVERYDAY, SIZE
from accuracy_poses import pose_errors, tile_errors
from accuracy_told import check_told

from soct.simulate.evaluate import Score, read_volume, score_volume, turn_truth
from soct.simulate.faults import Faults
from soct.simulate.microscope import simulate
from soct.simulate.spec import AcquisitionSpec
from soct.simulate.truth import read_truth
from soct.space import Volume

SOURCE = Path(__file__).resolve().parents[1] / "src"
TARGETS: dict[str, float] = {
    "ncc": 0.87,
    "xy_um": 3.0,
    "rot_deg": 0.03,
    "z_um": 10.0,
    "gain_cv": 0.05,
    "cover": 0.50,
    "tile_px": 0.1,
    "blank_px": 1.0,
    "pose_px": 0.25,
    "pose_deg": 0.03,
}
HIGH = ("ncc", "cover")
COLUMNS = (*TARGETS, "pose_z", "stage_px")


def run_case(
    name: str, seed: int, cpus: int, profile: str, folder: Path, settings: tuple[str, ...]
) -> dict[str, Any]:
    """Simulate, reconstruct and score one acquisition."""
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cpus)
    case = CASES[name]
    spec = AcquisitionSpec(
        **{**SIZE, **case.size, "seed": seed}, faults=Faults(**{**EVERYDAY, **case.faults})
    )
    simulate(spec, folder / "acquisition", threads=cpus)
    command = [sys.executable, "-c", "from soct.cli.main import main; main()", "run"]
    command += [str(folder / "acquisition/raw"), str(folder / "out"), "--cpus", str(cpus)]
    command += ["--profile", profile]
    for one in (*case.settings, *settings):
        command += ["--set", one]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    row: dict[str, Any] = {"seconds": time.perf_counter() - start, "exit": done.returncode}
    volumes = sorted((folder / "out/stack").glob("*.ome.zarr"))
    if not volumes:
        row["error"] = done.stderr.strip()[-300:]
        return row
    return row | score(folder, volumes[0], case.told)


def score(folder: Path, volume: Path, told: tuple[str, ...]) -> dict[str, Any]:
    """Everything that is measured on a finished run."""
    errors, tiles = tile_errors(folder)
    solved = pose_errors(folder, tiles)
    stage = pose_errors(folder, tiles, stage=True)
    # Beyond a fraction of a degree the overlay by shifts alone fails: a turn of the whole volume is no error.
    turn = solved.turn_deg if abs(solved.turn_deg) > 0.2 else 0.0
    found = _evaluate(volume, folder / "acquisition", turn, solved.first_um)
    named = check_told(folder, told)
    return {
        "ncc": found.ncc,
        "xy_um": found.xy_p95_um,
        "rot_deg": found.rot_p95_deg,
        "z_um": found.z_p95_um,
        "gain_cv": found.gain_cv,
        "cover": found.coverage,
        **{k: v for k, v in errors.items() if k != "stage_px"},
        "tile_stage_px": errors["stage_px"],
        "pose_px": float(np.percentile(solved.px, 95)),
        "pose_deg": float(np.percentile(solved.deg, 95)),
        "pose_z": float(np.percentile(solved.z_um, 95)),
        "stage_px": float(np.percentile(stage.px, 95)),
        "turn_deg": solved.turn_deg,
        "told": int(sum(bool(ok) for _, ok in named)),
        "planted": len(named),
        "untold": [what for what, ok in named if not ok],
    }


def _evaluate(path: Path, acquisition: Path, turn_deg: float, first_um: float) -> Score:
    """Score as `soct evaluate`, with the planes of the truth laid on those of the volume.

    A global offset in depth is no error, but the score searches it in whole planes of its common grid (20 um), and
    brings both to that grid by their numbers of planes: up to 10 um, and some hundredths of the NCC, are chance.
    """
    truth, mask = read_truth(acquisition)
    if turn_deg:
        truth, mask = turn_truth(truth, mask, turn_deg)
    volume = read_volume(path)
    origin = json.loads((acquisition / "truth.json").read_text())["origin_um"][0]
    steps = (first_um - origin) / truth.voxel_um.z
    part = np.float32(steps - np.floor(steps))
    skip = int(np.floor(steps)) % 2
    between = (1 - part) * truth.data[:-1] + part * truth.data[1:]
    truth = Volume(between[skip:], truth.voxel_um)
    mask = (mask[:-1] & mask[1:])[skip:]
    planes = max(len(volume.data), len(truth.data))
    planes += planes % 2

    def padded(data: np.ndarray) -> np.ndarray:
        return np.pad(data, ((0, planes - len(data)), (0, 0), (0, 0)))

    return score_volume(
        Volume(padded(volume.data), volume.voxel_um),
        Volume(padded(truth.data), truth.voxel_um),
        padded(mask),
    )


def _job(key: str, cpus: int, keep: Path | None, settings: tuple[str, ...]) -> dict[str, Any]:
    name, profile, seed = key.split("|")
    if keep is not None:
        folder = keep / key.replace(" ", "_").replace("|", "-").replace("%", "pc")
        return run_case(name, int(seed), cpus, profile, folder, settings)
    with tempfile.TemporaryDirectory() as scratch:
        return run_case(name, int(seed), cpus, profile, Path(scratch) / "case", settings)


def _version() -> str:
    """Digest of the source: results of another version are not mixed in."""
    digest = hashlib.sha256()
    for path in sorted([*SOURCE.rglob("*.py"), *SOURCE.rglob("*.yaml")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _save(path: Path | None, version: str, rows: dict[str, dict[str, Any]]) -> None:
    if path is None:
        return
    text = json.dumps({"version": version, "rows": rows}, indent=1)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text + "\n")
    scratch.replace(path)


def _finished(path: Path | None, version: str) -> dict[str, dict[str, Any]]:
    if path is None or not path.exists():
        return {}
    saved = json.loads(path.read_text())
    if saved["version"] != version:
        print(f"{path} is of another version of soct: every run is done anew", file=sys.stderr)
        return {}
    return dict(saved["rows"])


def _cell(column: str, rows: list[dict[str, Any]]) -> str:
    values = [r[column] for r in rows if r.get(column) is not None and np.isfinite(r[column])]
    if not values:
        return "-"
    worst = min(values) if column in HIGH else max(values)
    target = TARGETS.get(column)
    missed = target is not None and (worst < target if column in HIGH else worst > target)
    return f"{np.median(values):.3g} ({worst:.3g}{'!' if missed else ''})"


def print_table(rows: dict[str, dict[str, Any]], cases: list[str], profile: str) -> None:
    """Print one line per case: median and worst over its seeds."""
    print(
        f"{'profile ' + profile + ': median (worst)':36}" + "".join(f"{c:>16}" for c in COLUMNS),
        end="",
    )
    print(f"{'told':>9}{'seconds':>14}{'runs':>5}")
    for name in cases:
        found = [row for key, row in rows.items() if key.startswith(f"{name}|{profile}|")]
        if not found:
            continue
        told = sum(r.get("told", 0) for r in found), sum(r.get("planted", 0) for r in found)
        cells = "".join(f"{_cell(c, found):>16}" for c in COLUMNS)
        print(
            f"{name:36}{cells}{f'{told[0]}/{told[1]}':>9}{_cell('seconds', found):>14}{len(found):>5}"
        )
        for row in found:
            if row["exit"] != 0:
                print(f"  exit {row['exit']}: {row.get('error', 'finished with failures')}")
        untold = sorted({u for r in found for u in r.get("untold", ())})
        if untold:
            print(f"  not told: {'; '.join(untold[:6])}{' ...' if len(untold) > 6 else ''}")


def main() -> None:
    """Do the runs that are not done yet and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="NAME")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time")
    parser.add_argument("--cpus", type=int, default=2, help="processors of each")
    parser.add_argument("--profile", default="default")
    parser.add_argument("--set", action="append", default=[], help="as of `soct run`")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", type=Path, help="keep acquisitions and runs here")
    asked = parser.parse_args()
    version = _version()
    rows = _finished(asked.json, version)
    seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
    wanted = [f"{name}|{asked.profile}|{seed}" for name in asked.cases for seed in seeds]
    with ProcessPoolExecutor(asked.jobs) as pool:
        waiting = {
            pool.submit(_job, key, asked.cpus, asked.keep, tuple(asked.set)): key
            for key in wanted
            if key not in rows
        }
        for done in as_completed(waiting):
            rows[waiting[done]] = done.result()
            _save(asked.json, version, rows)
            print(f"{len(rows)}/{len(wanted)} {waiting[done]}", file=sys.stderr, flush=True)
    print_table(rows, asked.cases, asked.profile)


if __name__ == "__main__":
    main()
