"""`soct.tomography.find_rotation_axis` on ellipses whose projections are known in closed form, and on a tooth.

    python benchmarks/rotation_axis.py [--seeds 5] [--cols 256] [--data ../shared/data] [--json OUT]

One row of the detector alone, unless said otherwise; noise as a part of the largest value of the sinogram. RMS and largest error in
pixels over the seeds, the median of the uncertainty that is told, and the shortest time. Where algotom is installed, its search of
Vo et al. (2014) and its search of opposite projections run beside it, with their defaults (of
which one is to search about the middle).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.tomography import find_rotation_axis

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.tomography.ellipses import sinogram

Array = NDArray[Any]


def cases(cols: int) -> list[tuple[str, Array, float, float]]:
    """Name, angles, axis, radius of the object."""
    middle = (cols - 1) / 2
    half, few = (np.arange(n) * np.pi / n for n in (180, 60))
    whole = np.arange(360) * np.pi / 180
    uneven = np.sort(np.random.default_rng(5).uniform(0, np.pi, 180))
    made = [
        (f"half turn, axis at {part:.2f} of the width", half, part * cols, 0.0)
        for part in (0.5, 0.42, 0.3, 0.15, 0.8)
    ]
    made += [
        ("60 projections", few, 0.46 * cols, 0.0),
        ("uneven angles", uneven, 0.46 * cols, 0.0),
        ("full turn", whole, 0.46 * cols, 0.0),
    ]
    made += [
        (f"{d} degrees", np.linspace(0, np.deg2rad(d), 180), 0.47 * cols, 0.0) for d in (150, 120)
    ]
    made = [(n, a, c, min(c, 2 * middle - c) - 3) for n, a, c, _ in made]
    return [
        *made,
        ("full turn, cut, axis at 0.25", whole, 0.25 * cols, 0.9 * cols),
        ("full turn, cut, axis at 0.08", whole, 0.08 * cols, 0.9 * cols),
        ("half turn, cut, axis at 0.42", half, 0.42 * cols, 0.7 * cols),
    ]


def algotom_axis(sino: Array, angles: Array, is_cut: bool = False) -> Callable[[], float] | None:
    """Return algotom's search for a sinogram, if it is installed and has one."""
    try:
        from algotom.prep import calculation
    except ImportError:
        return None
    lines = np.ascontiguousarray(sino.T, np.float32)
    if is_cut and np.ptp(angles) > 6:
        return lambda: float(calculation.find_center_360(lines, sino.shape[0] // 20)[0])
    return lambda: float(calculation.find_center_vo(lines[angles < np.pi]))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def measure(sino: Array, angles: Array, axis: float, noise: float, seeds: int) -> dict[str, Any]:
    """Errors and times over seeds."""
    own, told, peers, times, peer_times = [], [], [], [], []
    for seed in range(seeds if noise else 1):
        rng = np.random.default_rng(seed)
        drawn = sino + noise * sino.max() * rng.standard_normal(sino.shape)
        found, seconds = timed(lambda: find_rotation_axis(drawn, angles, theta_unit="rad"))  # noqa: B023
        own.append(found.axis - axis)
        told.append(found.uncertainty)
        times.append(seconds)
        peer = algotom_axis(drawn, angles, bool(np.abs(sino[[0, -1]]).max() > 0))
        if peer is not None:
            value, seconds = timed(peer)
            peers.append(value - axis)
            peer_times.append(seconds)
    return {
        "rms": float(np.sqrt(np.mean(np.square(own)))),
        "largest": float(np.abs(own).max()),
        "told": float(np.median(told)),
        "seconds": min(times),
        "peer_rms": float(np.sqrt(np.mean(np.square(peers)))) if peers else None,
        "peer_seconds": min(peer_times) if peer_times else None,
    }


def read_tooth(folder: Path) -> tuple[Array, Array] | None:
    path = folder / "tomo_tooth" / "tooth.h5"
    if not path.exists():
        return None
    import h5py

    with h5py.File(path) as file:
        data, white, dark = (file[f"exchange/data{s}"][:] for s in ("", "_white", "_dark"))
        theta = file["exchange/theta"][:]
    return -np.log((data - dark.mean(axis=0)) / (white.mean(axis=0) - dark.mean(axis=0))), theta


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cols", type=int, default=256)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    print(f"{'case':38} {'noise':>6} {'RMS px':>8} {'largest':>8} {'told':>7} {'s':>6}   {'algotom':>8} {'s':>6}")  # fmt: skip
    for name, angles, axis, radius in cases(options.cols):
        sino = sinogram(options.cols, angles, axis, radius)
        for noise in (0.0, 0.02):
            row = measure(sino, angles, axis, noise, options.seeds)
            rows.append({"case": name, "noise": noise, **row})
            peer = "" if row["peer_rms"] is None else f"{row['peer_rms']:8.3f} {row['peer_seconds']:6.2f}"  # fmt: skip
            print(f"{name:38} {noise:6.0%} {row['rms']:8.4f} {row['largest']:8.4f} {row['told']:7.4f} {row['seconds']:6.2f}   {peer}")  # fmt: skip
    if (tooth := read_tooth(options.data)) is not None:
        lines, theta = tooth
        found, seconds = timed(lambda: find_rotation_axis(lines, theta))
        peer = algotom_axis(lines[:, 0].T, np.deg2rad(theta))
        said = "" if peer is None else f"; algotom {peer():.2f}"
        print(f"tooth (296.0 by its authors): {found.axis:.3f} +- {found.uncertainty:.3f} px in {seconds:.2f} s{said}")  # fmt: skip
        rows.append({"case": "tooth", "axis": found.axis, "uncertainty": found.uncertainty})
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
