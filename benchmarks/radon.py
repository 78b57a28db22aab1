"""Projections and slices of `soct.tomography` beside scikit-image's: agreement, errors against the closed form, times.

    python benchmarks/radon.py [--repeat 9] [--skip-times] [--json OUT]

The phantom is the head of Shepp and Logan (contrast of Toft), drawn as means over pixels; its projections are known in closed form, for
detector pixels that average over their width. Relative RMS is over the sinogram, or over the circle of the slice; errors of slices are in
units of the skull's value (1). Discs lie off centre; their drawn images have a known centre of mass. Times are the best of `--repeat`, in
turns, compiled, single precision, on all processors of the process (scikit-image uses one).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from skimage.transform import iradon, iradon_sart, radon

from soct.simulate.ellipses import Ellipse, draw, shepp_logan, sinogram
from soct.tomography import back_project, project, reconstruct_slice

Array = NDArray[Any]
SIZES = ((256, 180), (512, 720))
TIMED = ((256, 180), (512, 360))


def half_turn(n: int) -> Array:
    return np.arange(n) * np.pi / n


def relative(found: Array, expected: Array) -> float:
    return float(np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2)))


def circle(size: int) -> Array:
    y, x = np.mgrid[:size, :size] - size // 2
    return x**2 + y**2 <= (size // 2) ** 2


def compare_projections(rows: list[dict[str, Any]]) -> None:
    print("\nProjections: relative RMS")
    print(f"{'size':>5s} {'n':>4s}  {'soct - truth':>12s} {'scikit - truth':>14s} {'between':>8s}")
    for size, n in SIZES:
        head, theta = shepp_logan(size), half_turn(n)
        image, truth = draw(head, size), sinogram(head, theta, size)
        ours, theirs = project(image, theta), radon(image, np.rad2deg(theta))
        found = relative(ours, truth), relative(theirs, truth), relative(ours, theirs)
        rows.append({"what": "projections", "size": size, "n": n, "relative": found})
        print(f"{size:5d} {n:4d}  {found[0]:12.5f} {found[1]:14.5f} {found[2]:8.5f}")
    print("\nBack-projections without filter: relative RMS between both")
    for size, n in SIZES:
        head, theta = shepp_logan(size), half_turn(n)
        sino = sinogram(head, theta, size)
        theirs = iradon(sino, np.rad2deg(theta), filter_name=None) * (2 * n / np.pi)
        for kind in ("linear", "cubic"):
            ours = back_project(sino, theta, radius=size // 2, interpolation=kind)
            found = relative(ours, theirs)
            rows.append({"what": f"back-projection {kind}", "size": size, "n": n, "rms": found})
            print(f"{size:5d} {n:4d}  {kind:7s} {found:10.2e}")


def measure_centres(rows: list[dict[str, Any]]) -> None:
    print("\nA disc off centre, 128 x 128, 361 angles: greatest error of centre (px) and mass")
    print(f"{'radius':>6s}  {'soct':>9s} {'mass':>9s}  {'scikit':>9s} {'mass':>9s}")
    theta = np.linspace(0, 2 * np.pi, 361)
    t = np.arange(128) - 64
    for x, y, radius in ((20.3, -13.7, 12.0), (30.1, 5.2, 4.0), (-11.5, 22.25, 2.0)):
        image = draw([Ellipse(1.0, x, y, radius, radius)], 128, parts=64)
        gx, gy = ((image.sum(axis=k) * t).sum() / image.sum() for k in (0, 1))
        want = gx * np.cos(theta) - gy * np.sin(theta)
        found = []
        for p in (project(image, theta), radon(image, np.rad2deg(theta))):
            mass = p.sum(axis=0)
            found += [
                np.abs(t @ p / mass - want).max(),
                np.abs(mass / image.sum() - 1).max(),
            ]
        rows.append({"what": "disc", "radius": radius, "errors": [float(v) for v in found]})
        print(f"{radius:6.0f}  {found[0]:9.1e} {found[1]:9.1e}  {found[2]:9.1e} {found[3]:9.1e}")


def slice_cases(size: int, n: int) -> dict[str, Callable[[], Array]]:
    head, theta = shepp_logan(size), half_turn(n)
    degrees = np.rad2deg(theta)
    rng = np.random.default_rng(0)
    sino = sinogram(head, theta, size)
    full = np.arange(2 * n) * np.pi / n
    uneven = np.pi * (np.arange(n) / n) ** 1.3
    moved = rng.uniform(-10, 10, n)
    slopes = sinogram(head, theta, size, derivative=True)
    offset = sino + rng.normal(0, 10, n)
    shifted = sinogram(head, theta, size + 80, axis=0.6 * size + moved)
    noisy = sino + rng.normal(0, 0.02 * sino.max(), sino.shape)
    turned, bent = sinogram(head, full, size), sinogram(head, uneven, size)
    return {
        "soct": lambda: reconstruct_slice(sino, theta),
        "soct, linear": lambda: reconstruct_slice(sino, theta, interpolation="linear"),
        "scikit-image": lambda: iradon(sino, degrees),
        "scikit-image, cubic": lambda: iradon(sino, degrees, interpolation="cubic"),
        "soct, full turn": lambda: reconstruct_slice(turned, full),
        "soct, uneven angles": lambda: reconstruct_slice(bent, uneven),
        "scikit-image, uneven": lambda: iradon(bent, np.rad2deg(uneven)),
        "soct, axis and shifts": lambda: reconstruct_slice(
            shifted, theta, axis=0.6 * size, shifts=moved, size=size
        ),
        "soct, derivatives": lambda: reconstruct_slice(slopes, theta, derivatives=True),
        "soct, from offsets": lambda: reconstruct_slice(offset, theta, calc_derivatives=True),
        "soct, 2 % noise": lambda: reconstruct_slice(noisy, theta),
        "soct, linear, noise": lambda: reconstruct_slice(noisy, theta, interpolation="linear"),
        "scikit-image, noise": lambda: iradon(noisy, degrees),
        "soct, hann, noise": lambda: reconstruct_slice(noisy, theta, filtertype="hann"),
        "scikit, hann, noise": lambda: iradon(noisy, degrees, filter_name="hann"),
    }


def compare_slices(rows: list[dict[str, Any]]) -> None:
    print("\nSlices by filtered back-projection: RMS error in the circle, mean minus true mean")
    for size, n in SIZES:
        image, inside = draw(shepp_logan(size), size), circle(size)
        for name, call in slice_cases(size, n).items():
            difference = (call() - image)[inside]
            rms = float(np.sqrt(np.mean(difference**2)))
            rows.append({"what": name, "size": size, "n": n, "rms": rms})
            print(f"{size:5d} {n:4d}  {name:22s} {rms:8.5f} {difference.mean():+9.6f}", flush=True)
    print("\nFew projections, 256 x 256: RMS error, from 0 upwards (scikit-image: clip)")
    size = 256
    image, inside = draw(shepp_logan(size), size), circle(size)
    for n in (20, 40, 90):
        theta = half_turn(n)
        sino = sinogram(shepp_logan(size), theta, size)
        theirs = None
        for _ in range(10):
            theirs = iradon_sart(sino, np.rad2deg(theta), image=theirs, clip=(0.0, np.inf))
        slices = {
            "FBP": reconstruct_slice(sino, theta, cliplow=0.0),
            "SART": reconstruct_slice(sino, theta, algorithm="SART", cliplow=0.0),
            "scikit-image's SART, 10 passes": theirs,
        }
        for name, found in slices.items():
            rms = float(np.sqrt(np.mean((found - image)[inside] ** 2)))
            rows.append({"what": name, "size": size, "n": n, "rms": rms})
            print(f"{size:5d} {n:4d}  {name:30s} {rms:8.5f}", flush=True)


def measure_times(repeat: int, rows: list[dict[str, Any]]) -> None:
    print(f"\nTimes (ms), best of {repeat}, {numba.get_num_threads()} threads")
    for size, n in TIMED:
        theta = half_turn(n)
        degrees = np.rad2deg(theta)
        image = draw(shepp_logan(size), size).astype(np.float32)
        sino = project(image, theta)
        many, sinos = np.stack([image] * 8), np.stack([sino] * 8)
        calls: dict[str, tuple[Callable[[], Any], int]] = {
            "project": (lambda i=image, a=theta: project(i, a), 1),
            "project, 8 slices, each": (lambda i=many, a=theta: project(i, a), 8),
            "radon": (lambda i=image, d=degrees: radon(i, d), 1),
            "reconstruct_slice": (lambda s=sino, a=theta: reconstruct_slice(s, a), 1),
            "reconstruct, 8 slices, each": (lambda s=sinos, a=theta: reconstruct_slice(s, a), 8),
            "iradon": (lambda s=sino, d=degrees: iradon(s, d), 1),
            "SART, 1 pass": (
                lambda s=sino, a=theta: reconstruct_slice(s, a, algorithm="SART", iterations=1),
                1,
            ),
            "iradon_sart": (lambda s=sino, d=degrees: iradon_sart(s, d), 1),
        }
        best: dict[str, float] = {}
        for k in range(repeat + 1):
            for name, (call, count) in calls.items():
                start = time.perf_counter()
                call()
                if k:
                    spent = (time.perf_counter() - start) / count
                    best[name] = min(best.get(name, np.inf), spent)
        peers = {"project": "radon", "reconstruct": "iradon", "SART": "iradon_sart"}
        for name, seconds in best.items():
            peer = next((p for prefix, p in peers.items() if name.startswith(prefix)), None)
            ratio = best[peer] / seconds if peer else 1.0
            limit = "" if peer in (None, "iradon_sart") else "  limit 10: "
            limit += ("ok" if ratio >= 10 else "MISSED") if limit else ""
            told = f"{ratio:6.1f} times as fast as {peer}{limit}" if peer else ""
            rows.append({"what": name, "size": size, "n": n, "seconds": seconds, "ratio": ratio})
            print(f"{size:5d} {n:4d}  {name:28s} {1e3 * seconds:9.2f}  {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--skip-times", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    if not arguments.skip_times:
        measure_times(arguments.repeat, rows)
    compare_projections(rows)
    measure_centres(rows)
    compare_slices(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
