"""What a user of `soct tomo` gets: errors of shifts and axis of simulated scans with known truth, time, and peak memory.

Every case is run as it is typed, in a process of its own: simulated, aligned, reconstructed. Errors are RMS pixels; of horizontal
shifts without constant, cosine and sine of the angle, of vertical ones without a constant. ``python benchmarks/tomography_commands.py``
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from soct.formats.tables import read_table
from soct.tomography.gauge import shift_error
from soct.tools.tomo_tables import ShiftTableRow

_SIZE = ("--projections", "180", "--rows", "96", "--cols", "256")
CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "clean, shifts +-3": (("--shifts", "3"), ()),
    "1 % noise, +-3": (("--shifts", "3", "--noise", "0.01"), ()),
    "2 % noise, +-10, drift 4": (("--shifts", "10", "--drift", "4", "--noise", "0.02"), ()),
    "2 % noise, +-3, axis 12 px aside": (("--shifts", "3", "--noise", "0.02", "--axis", "140"), ()),
    "2 % noise, +-3, 360 degrees": (("--shifts", "3", "--noise", "0.02", "--span", "360"), ()),
    "still, 2 % noise": (("--noise", "0.02"), ()),
    "1 % noise, +-3, one slice": (("--shifts", "3", "--noise", "0.01"), ("--slices", "1")),
}


def soct(folder: Path, *arguments: str) -> float:
    """Run a command and return its seconds."""
    began = time.monotonic()
    code = "from soct.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "tomo", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - began


def errors(folder: Path) -> tuple[float, float, float]:
    found, truth = (
        read_table(folder / name, ShiftTableRow) for name in ("out/shifts.csv", "scan.truth.csv")
    )
    theta = np.radians([row.angle_deg for row in truth])
    vertical = np.array([a.vertical_px - b.vertical_px for a, b in zip(found, truth, strict=True)])
    both = [np.array([row.horizontal_px for row in rows]) for rows in (found, truth)]
    # Shifts with a constant more belong to an axis so much to the other side.
    amounts = np.linalg.lstsq(
        np.stack([np.ones_like(theta), np.cos(theta), np.sin(theta)], axis=1),
        both[0] - both[1],
        rcond=None,
    )[0]
    axis = json.loads((folder / "out" / "align.json").read_text())["axis_px"]
    return float(vertical.std()), shift_error(both[0], both[1], theta), axis + float(amounts[0])


def main() -> None:
    """Print the table."""
    print(
        f"{'case':34} {'vertical':>9} {'horizontal':>11} {'axis':>8} {'align s':>8} {'slices s':>9}"
    )
    for name, (how, more) in CASES.items():
        folder = Path(tempfile.mkdtemp(prefix="soct-tomo-"))
        try:
            soct(folder, "simulate", "scan.h5", *_SIZE, *how)
            if name == next(iter(CASES)):
                # Compiled once, not counted.
                soct(folder, "align", "scan.h5", "-o", "warm", "--no-report")
            aligning = soct(folder, "align", "scan.h5", "-o", "out", *more)
            slices = soct(folder, "reconstruct", "scan.h5", "--shifts", "out", "-o", "s.h5")
            vertical, horizontal, axis = errors(folder)
            wanted = float(how[how.index("--axis") + 1]) if "--axis" in how else 128.0
            print(
                f"{name:34} {vertical:9.4f} {horizontal:11.4f} {axis - wanted:+8.3f} {aligning:8.1f} {slices:9.1f}",
                flush=True,
            )
        finally:
            shutil.rmtree(folder)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"peak memory of a command: {peak:.0f} MB")


if __name__ == "__main__":
    main()
