"""`soct.tomography.align_vertical` on projections of ellipsoids, which are known in closed form, beside simpler estimates.

    python benchmarks/tomography_vertical.py [--seeds 3] [--repeat 5] [--json OUT]

100 projections of 256 x 256 over half a turn, displaced vertically at random (normal, RMS 1.8 px; or uniform in +-30 px), sampled at points or, with
"2 x 2", as the mean over pixels. "head" is a Shepp-Logan phantom in three dimensions, "grains" an ellipsoid full of smaller ones. Noise has 2 % of the greatest line integral as its
standard deviation, in every pixel; the background is a straight line over the rows, another one in every projection, as high as the object.
"cut" objects leave the field of view above and below. Errors are RMS and greatest, pixels, without the mean. The bound is that of Cramér and Rao for a known mean and a free
polynomial. Simpler estimates: the centre of mass; the shift of the mass per row to its mean over all projections, by scikit-image's phase correlation (upsample 100), once and
repeated 5 times; of the first seed only.
Times are the best of `--repeat`, compiled, with the threads that numba uses.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.tomography.ellipsoids import HEAD, grains, project

from soct.tomography import (
    align_vertical,
    alignprojections_vertical,
    center_of_mass_stack,
    vertical_fluctuations,
)

N, ROWS, COLS = 100, 256, 256
ANGLES = np.arange(N) * np.pi / N
NOISE = 0.02
LIMITS = {"clean": 0.005, "noise": 0.03}
Array = NDArray[Any]


def draw(seed: int, most: float | None = None) -> Array:
    rng = np.random.default_rng(seed)
    shifts = np.zeros((2, N))
    shifts[0] = rng.normal(0, 1.8, N) if most is None else rng.uniform(-most, most, N)
    shifts[0] -= shifts[0].mean()
    return shifts


def miss(found: Array, shifts: Array) -> Array:
    difference = found - shifts[0]
    return difference - difference.mean()


def by_centre_of_mass(stack: Array) -> Array:
    return center_of_mass_stack(stack, None, np.zeros((2, N)))[0]


def by_running_mean(stack: Array, times: int) -> Array:
    from skimage.registration import phase_cross_correlation

    shifts = np.zeros((2, N))
    for _ in range(times):
        signals = vertical_fluctuations(stack, None, shifts)
        mean = signals.mean(axis=0)
        for k, signal in enumerate(signals):
            moved, _, _ = phase_cross_correlation(
                mean[:, None], signal[:, None], upsample_factor=100, normalization=None
            )
            shifts[0, k] -= moved[0]
        shifts[0] -= shifts[0].mean()
    return shifts[0]


def peers(stack: Array) -> list[tuple[str, Array]]:
    return [
        ("centre of mass", by_centre_of_mass(stack)),
        ("running mean", by_running_mean(stack, 1)),
        ("5 x", by_running_mean(stack, 5)),
    ]


def bound(stack: Array, shifts: Array, order: int = 2) -> float:
    """Least standard deviation of one shift, from projections without noise."""
    sigma = NOISE * float(stack.max())
    mean = vertical_fluctuations(stack, None, shifts, polyorder=0).mean(axis=0)
    slope = np.gradient(mean)
    basis = np.linalg.qr(np.polynomial.legendre.legvander(np.linspace(-1, 1, ROWS), order))[0]
    slope = slope - basis @ (basis.T @ slope)
    return float(sigma * np.sqrt(COLS) / np.linalg.norm(slope))


def scenes(seed: int) -> Iterator[tuple[str, Array, Array, str]]:
    """Stacks, their displacements, and the limit that holds for them."""
    rng = np.random.default_rng(1000 + seed)
    shifts, far = draw(seed), draw(seed, 30.0)
    shape, size = (ROWS, COLS), (120, 120)
    rise = np.linspace(0, 1, ROWS)[:, None]
    for name, objects in (("head", HEAD), ("grains", grains(15, seed))):
        clean = project(objects, ANGLES, shape, shifts, size)
        noise = rng.normal(0, NOISE * clean.max(), clean.shape).astype(np.float32)
        line = clean.max() * (rng.normal(size=(N, 1, 1)) + rng.normal(size=(N, 1, 1)) * rise)
        yield name, clean, shifts, "clean"
        yield f"{name}, noise", clean + noise, shifts, "noise"
        yield f"{name}, background", clean + line, shifts, "clean"
        yield f"{name}, background, noise", clean + line + noise, shifts, "noise"
    yield "head, aligned", project(HEAD, ANGLES, shape, size=size), np.zeros((2, N)), "clean"
    yield "head, 2 x 2", project(HEAD, ANGLES, shape, shifts, size, fine=2), shifts, "clean"
    full = grains(15, seed)
    yield "grains, +-30 px", project(full, ANGLES, shape, far, (90, 90)), far, ""
    yield "grains, cut", project(full, ANGLES, shape, shifts, (120, 200)), shifts, ""
    yield "grains, cut, +-30 px", project(full, ANGLES, shape, far, (120, 200)), far, ""
    yield "grains, aside", project(full, ANGLES, shape, shifts, size, (128, 235)), shifts, ""


def measure_errors(seeds: int) -> list[dict[str, Any]]:
    collected: dict[str, list[dict[str, float]]] = {}
    limits: dict[str, str] = {}
    told: dict[str, set[str]] = {}
    least = np.nan
    for seed in range(seeds):
        for name, stack, shifts, limit in scenes(seed):
            result = align_vertical(stack)
            error = miss(result.shifts[0], shifts)
            limits[name] = limit
            told.setdefault(name, set()).update(type(n).__name__ for n in result.notices)
            row = {
                "rms": float(np.sqrt((error**2).mean())),
                "max": float(np.abs(error).max()),
                "told": float(np.median(result.uncertainties)),
                "residual": float(np.median(result.residuals_after)),
                "iterations": float(result.iterations),
            }
            for key, found in () if seed else peers(stack):
                row[key] = float(np.sqrt((miss(found, shifts) ** 2).mean()))
            if name in ("head", "grains"):
                least = bound(stack, shifts)
            if limit == "noise":
                row["bound"] = least
            collected.setdefault(name, []).append(row)
    heads = (
        "rms",
        "max",
        "told",
        "residual",
        "iterations",
        "centre of mass",
        "running mean",
        "5 x",
    )
    print(f"{'scene':28s} " + " ".join(f"{h:>12s}" for h in heads) + "  limit")
    rows = []
    for name, found_rows in collected.items():
        mean = {
            key: float(np.mean([r[key] for r in found_rows if key in r])) for key in found_rows[0]
        }
        worst = max(r["rms"] for r in found_rows)
        text = ""
        if limits[name]:
            most = LIMITS[limits[name]]
            text = f"<= {most}: {'ok' if worst <= most else 'MISSED'} (worst {worst:.4f})"
        if "bound" in mean:
            text += f", bound {mean['bound']:.4f}"
        text += " " + ", ".join(sorted(told[name]))
        print(
            f"{name:28s} " + " ".join(f"{mean[h]:12.4f}" for h in heads) + "  " + text, flush=True
        )
        rows.append({"scene": name, "worst": worst, "notices": sorted(told[name]), **mean})
    return rows


def measure_times(repeat: int) -> dict[str, float]:
    shifts = draw(0)
    stack = project(HEAD, ANGLES, (ROWS, COLS), shifts, (120, 120))
    best: dict[str, float] = {}
    for k in range(repeat + 1):
        for name, call in (
            ("shifts alone", lambda: align_vertical(stack)),
            ("shifts and aligned stack", lambda: alignprojections_vertical(stack, 0 * shifts)),
            ("running mean, 5 x (scikit-image)", lambda: by_running_mean(stack, 5)),
        ):
            start = time.perf_counter()
            call()
            if k:
                best[name] = min(best.get(name, np.inf), time.perf_counter() - start)
    print(f"\nTime (s), {N} x {ROWS} x {COLS}, {numba.get_num_threads()} threads, best of {repeat}")
    for name, seconds in best.items():
        limit = f"  limit 2: {'ok' if seconds <= 2 else 'MISSED'}" if name.endswith("stack") else ""
        print(f"{name:34s} {seconds:7.3f}{limit}")
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    errors = measure_errors(arguments.seeds) if arguments.seeds else []
    times = measure_times(arguments.repeat)
    if arguments.json:
        arguments.json.write_text(json.dumps({"errors": errors, "times": times}, indent=1))


if __name__ == "__main__":
    main()
