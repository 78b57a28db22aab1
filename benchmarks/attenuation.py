"""Attenuation by four methods on tissue whose attenuation the simulator knows, 0.5 to 3 / mm.

One tile of uniform attenuation is simulated with 8-look speckle and a noise floor, shallow (deep light is cut off
early, the hard case for methods that need all of it) and deep. Printed: median of the map over the upper half of
the tissue, and its error.

Run ``python benchmarks/attenuation.py [--json FILE]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from soct.formats.acquisition import open_acquisition
from soct.formats.raw import read_tile
from soct.geometry.surface import (
    detect_interface,
    fit_surface,
    measure_water_level,
    smooth_a_lines,
)
from soct.intensity.attenuation import METHODS, estimate_attenuation
from soct.simulate.faults import Faults
from soct.simulate.microscope import simulate
from soct.simulate.spec import preset


def simulate_tile(folder: Path, mu_per_mm: float, n_z: int) -> tuple[Any, float]:
    """Return a tile ``(z, y, x)`` and its axial sampling."""
    faults = Faults.none().model_copy(
        update={
            "attenuation_per_mm": mu_per_mm,
            "attenuation_contrast": 0.0,
            "speckle_looks": 8.0,
            "noise_floor": 0.002,
        }
    )
    spec = preset("tiny", slices=1, rows=1, cols=1, n_extra=0, n_z=n_z, faults=faults.model_dump())
    made = simulate(spec, folder, threads=1)
    acquisition = open_acquisition(made.raw)
    (tile,) = next(iter(acquisition.slices.values())).tiles
    return np.asarray(read_tile(tile)), spec.axial_um


def measure(tile: Any, axial_um: float, method: str) -> tuple[float, float]:
    """Return the median attenuation of the upper half of the tissue, and the seconds."""
    smooth = smooth_a_lines(tile)
    water = measure_water_level(smooth)
    found = detect_interface(tile, water=water)
    surface = fit_surface(found.depth_px, found.confidence)
    start = time.perf_counter()
    mu = estimate_attenuation(
        tile,
        surface.depth_px + 2,
        axial_um,
        method=method,  # type: ignore[arg-type]
        floor=water.floor,
        noise=water.noise,
    ).mu_per_mm
    seconds = time.perf_counter() - start
    top = int(np.median(surface.depth_px)) + 4
    bright = smooth[top : top + 10].mean(axis=0)
    tissue = bright > 0.5 * np.percentile(bright, 90)
    part = mu[top : (top + len(mu)) // 2, tissue]
    return float(np.nanmedian(part)), seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for n_z in (80, 200):
        for mu in (0.5, 1.0, 2.0, 3.0):
            with tempfile.TemporaryDirectory() as folder:
                tile, axial_um = simulate_tile(Path(folder) / "made", mu, n_z)
            depth = n_z * axial_um / 1000
            line = f"{depth:4.1f} mm  true {mu:3.1f} / mm "
            for method in METHODS:
                found, seconds = measure(tile, axial_um, method)
                rows.append({"depth_mm": depth, "true": mu, "method": method, "found": found, "s": seconds})  # fmt: skip
                line += f"  {method} {found:5.2f} ({100 * (found / mu - 1):+4.0f} %)"
            print(line, flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
