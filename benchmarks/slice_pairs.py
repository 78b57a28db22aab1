"""Slice pairs with a known rotation and shift: error, calibration of the confidence, and time.

    python benchmarks/slice_pairs.py [--pairs 200] [--oblique 20] [--size 256] [--seed 0] [--json F] [--repeats 3] [--no-timing]

Each pair shares a part of its log texture (1.0 to 0.3), has speckle of its own (gamma, 1 to 8 looks), a
smooth brightness of its own, and, every other time, an ellipse of tissue in dark agarose; the moving field
of view is displaced by up to 20 px and turned by up to 5 degrees, in oblique pairs by up to 30. Errors are RMS distances over the fixed
image, in pixels.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.registration.coherence import matched_filter
from soct.registration.contrast import local_contrast, log_intensity
from soct.registration.slice_pair import SlicePairResult, register_slice_pair
from soct.registration.transforms import RigidTransform2D, rigid_from_euler

Image = NDArray[np.float32]
PASS_PX = 1.0


@dataclass(frozen=True)
class Pair:
    """Two stacks of planes and the transform between them."""

    fixed: Image
    moving: Image
    truth: RigidTransform2D
    shared: float
    looks: float
    tissue: str


def texture(rng: np.random.Generator, n: int, scales: tuple[float, ...]) -> Image:
    """Gaussian noise at several scales, unit variance."""
    out = np.zeros((n, n), dtype=np.float32)
    for s in scales:
        noise = ndi.gaussian_filter(rng.standard_normal((n, n)).astype(np.float32), s, mode="wrap")
        out += noise / noise.std()
    return out / out.std()


def make_pair(
    seed: int,
    size: int = 256,
    planes: int = 2,
    *,
    rotation_deg: float | None = None,
    shift: tuple[float, float] | None = None,
    shared: float | None = None,
    looks: float | None = None,
) -> Pair:
    """Draw a pair; what is None is drawn too."""
    rng = np.random.default_rng(seed)
    rotation = float(rng.uniform(-5, 5)) if rotation_deg is None else rotation_deg
    radius, angle = 20 * np.sqrt(rng.random()), 2 * np.pi * rng.random()
    move = (
        (float(radius * np.sin(angle)), float(radius * np.cos(angle))) if shift is None else shift
    )
    common = float(rng.uniform(0.3, 1.0)) if shared is None else shared
    noise_looks = float(rng.choice([1, 2, 4, 8])) if looks is None else looks
    centre = ((size - 1) / 2, (size - 1) / 2)
    truth = RigidTransform2D(rotation, move, centre)
    pad = 48
    n = size + 2 * pad
    fine = float(rng.uniform(1.2, 2.5))
    scales = (fine, 3 * fine, 9 * fine)
    ellipse = seed % 2 == 1
    axes = rng.uniform(0.32, 0.45, 2) * size
    turn = float(rng.uniform(0, np.pi))
    grid = np.mgrid[:n, :n].astype(np.float32) - np.float32((n - 1) / 2)
    u = (np.cos(turn) * grid[0] + np.sin(turn) * grid[1]) / axes[0]
    v = (-np.sin(turn) * grid[0] + np.cos(turn) * grid[1]) / axes[1]
    inside = (1 / (1 + np.exp((np.hypot(u, v) - 1) * 20)) if ellipse else np.ones((n, n))).astype(
        np.float32
    )
    # Fixed pixel p shows canvas p + pad; moving pixel q shows the canvas point that lands at its p.
    q = np.moveaxis(np.mgrid[:size, :size].astype(np.float64), 0, -1)
    p = truth.inverse().apply(q)
    fixed, moving = [], []
    base = texture(rng, n, scales)
    for _ in range(planes):
        both = 0.8 * base + 0.6 * texture(rng, n, scales)
        logs = [
            np.sqrt(common) * both + np.sqrt(1 - common) * texture(rng, n, scales) for _ in range(2)
        ]
        level = [0.1 + inside * np.exp(0.45 * one) for one in logs]
        a = level[0][pad : pad + size, pad : pad + size]
        b = ndi.map_coordinates(level[1], np.moveaxis(p + pad, -1, 0), order=3, mode="nearest")
        for image, out in ((a, fixed), (np.maximum(b, 0.05), moving)):
            gain = np.exp(0.3 * texture(rng, size, (size / 4,))) * rng.uniform(0.4, 1.5)
            speckle = rng.gamma(noise_looks, 1 / noise_looks, (size, size))
            out.append((image * gain * speckle).astype(np.float32))
    return Pair(
        np.stack(fixed),
        np.stack(moving),
        truth,
        common,
        noise_looks,
        "ellipse" if ellipse else "full",
    )


def error_px(result: RigidTransform2D, truth: RigidTransform2D, size: int) -> float:
    """RMS distance over the fixed image."""
    points = np.stack(np.meshgrid(*[np.linspace(0, size - 1, 9)] * 2, indexing="ij"), axis=-1)
    delta = result.apply(points) - truth.apply(points)
    return float(np.sqrt((delta**2).sum(-1).mean()))


def make_hard_pair(seed: int, size: int = 256) -> Pair:
    """Draw a pair that often can't be registered: one plane, 1 or 2 looks, little shared or nothing."""
    rng = np.random.default_rng([seed, 1])
    shared = max(0.0, float(rng.uniform(-0.08, 0.4)))
    return make_pair(seed, size, 1, shared=shared, looks=float(rng.choice([1, 2])))


def measure_pairs(count: int, size: int, seed: int, *, hard: bool) -> list[dict[str, object]]:
    draw = make_hard_pair if hard else make_pair
    rows: list[dict[str, object]] = []
    for i in range(count):
        pair = draw(seed * 100_000 + (50_000 if hard else 0) + i, size)
        t = time.perf_counter()
        r: SlicePairResult = register_slice_pair(pair.fixed, pair.moving)
        seconds = time.perf_counter() - t
        rows.append(
            {
                "shared": pair.shared,
                "looks": pair.looks,
                "tissue": pair.tissue,
                "error_px": error_px(r.transform, pair.truth, size),
                "candidate_error_px": error_px(r.candidate, pair.truth, size),
                "start_px": error_px(RigidTransform2D(), pair.truth, size),
                "confidence": r.confidence,
                "sigma_px": r.sigma_px,
                "sharpness": r.sharpness,
                "inverse_error_px": r.inverse_error_px,
                "ncc_before": r.ncc_before,
                "ncc_after": r.ncc_after,
                "overlap": r.overlap,
                "accepted": r.accepted,
                "reason": r.reason,
                "seconds": seconds,
            }
        )
    return rows


def measure_oblique(count: int, size: int, seed: int) -> dict[str, float]:
    """Cuts turned by up to 30 degrees, looked for within 35."""
    rng = np.random.default_rng([seed, 2])
    errors = []
    for i in range(count):
        rotation = float(rng.uniform(-30, 30))
        pair = make_pair(seed * 100_000 + 80_000 + i, size, rotation_deg=rotation)
        found = register_slice_pair(pair.fixed, pair.moving, max_rotation_deg=35)
        errors.append(error_px(found.transform, pair.truth, size))
    return {
        "oblique_within_1px": float(np.mean(np.array(errors) <= PASS_PX)),
        "oblique_median_px": float(np.median(errors)),
        "oblique_worst_px": max(errors),
    }


def register_with_simpleitk(fixed: Image, moving: Image) -> RigidTransform2D:
    """Register by the usual recipe: correlation, regular-step gradient descent, three levels."""
    f, m = sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving)
    r = sitk.ImageRegistrationMethod()
    r.SetMetricAsCorrelation()
    r.SetInterpolator(sitk.sitkLinear)
    r.SetShrinkFactorsPerLevel([4, 2, 1])
    r.SetSmoothingSigmasPerLevel([4, 2, 1])
    r.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-4, 200)
    r.SetOptimizerScalesFromPhysicalShift()
    e = sitk.Euler2DTransform()
    e.SetCenter([(n - 1) / 2 for n in f.GetSize()])
    r.SetInitialTransform(e, inPlace=True)
    r.Execute(f, m)
    (tx, ty), (cx, cy) = e.GetTranslation(), e.GetCenter()
    return rigid_from_euler(e.GetAngle(), (ty, tx), (cy, cx))


def measure_time(repeats: int) -> dict[str, float]:
    """One 1024 x 1024 pair (2.3 degrees, 20 px, 30 % changed texture, speckle), both methods, best run."""
    pair = make_pair(1, 1024, 1, rotation_deg=2.3, shift=(14.1, -14.2), shared=0.7, looks=4)
    out = {"least_px": least_error_px(pair)}
    for name, call in (
        ("soct", lambda: register_slice_pair(pair.fixed, pair.moving).candidate),
        ("sitk", lambda: register_with_simpleitk(pair.fixed[0], pair.moving[0])),
    ):
        times = []
        for _ in range(repeats):
            t = time.perf_counter()
            found = call()
            times.append(time.perf_counter() - t)
        out[f"{name}_s"] = min(times)
        out[f"{name}_px"] = error_px(found, pair.truth, 1024)
    return out


def least_error_px(pair: Pair) -> float:
    """Root of the Cramer-Rao bound for the RMS distance over the image, from the coherence of the aligned pair.

    For stationary textures: the information on a shift along one axis is the sum over frequencies of
    ``(2 pi f_y)^2 g^2 / (1 - g^2)``; two shifts and a rotation then add up to three such variances.
    """
    valid = np.ones(pair.fixed.shape, dtype=bool)
    fixed, moving = (
        local_contrast(log_intensity(image, valid), valid, 12.0)
        for image in (pair.fixed, pair.moving)
    )
    matched = matched_filter(fixed, valid, moving, valid, pair.truth.matrix())
    if matched is None:
        return float("nan")
    f, g2 = matched.frequency, np.clip(matched.coherence, 0, 0.97) ** 2
    slope = 0.5 * (2 * np.pi * f) ** 2 * g2 / (1 - g2)
    information = fixed.size * float(np.sum(2 * np.pi * f * slope) * (f[1] - f[0]))
    return float(np.sqrt(3 / information))


def report(rows: list[dict[str, object]]) -> dict[str, float]:
    error = np.array([r["error_px"] for r in rows], dtype=float)
    confidence = np.array([r["confidence"] for r in rows], dtype=float)
    good = error <= PASS_PX
    print(
        f"{len(rows)} pairs: within {PASS_PX:g} px {100 * good.mean():.1f} %, median error "
        f"{np.median(error):.3f} px, worst {error.max():.2f} px, "
        f"{np.median([r['seconds'] for r in rows]) * 1e3:.0f} ms a pair"
    )
    print("shared      pairs  within 1 px  median px")
    shared = np.array([r["shared"] for r in rows], dtype=float)
    for low in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9):
        wide = 0.1 if low < 0.3 else 0.2
        which = (shared >= low) & (shared < low + wide)
        if which.any():
            print(
                f"{low:.1f} - {min(low + wide, 1):.1f}  {which.sum():6d}  {100 * good[which].mean():9.1f} %"
                f"  {np.median(error[which]):9.3f}"
            )
    print("confidence  pairs  within 1 px")
    for low, high in ((0, 0.2), (0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.95), (0.95, 1.01)):
        which = (confidence >= low) & (confidence < high)
        if which.any():
            print(
                f"{low:.2f} - {min(high, 1):.2f} {which.sum():6d}  {100 * good[which].mean():9.1f} %"
            )
    sure = confidence > 0.6
    out = {
        "pairs": float(len(rows)),
        "within_1px": float(good.mean()),
        "median_px": float(np.median(error)),
        "confident_share": float(sure.mean()),
        "confident_within_1px": float(good[sure].mean()) if sure.any() else float("nan"),
    }
    print(
        f"confidence > 0.6: {100 * out['confident_share']:.1f} % of pairs, of which within 1 px "
        f"{100 * out['confident_within_1px']:.1f} %"
    )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--oblique", type=int, default=20)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=3, help="of the timing; the best counts")
    parser.add_argument("--no-timing", action="store_true")
    options = parser.parse_args()
    rows = measure_pairs(options.pairs, options.size, options.seed, hard=False)
    summary = report(rows)
    print("\nhard pairs (one plane, 1 or 2 looks, 0 to 40 % shared): what the confidence is for")
    hard = measure_pairs(options.pairs, options.size, options.seed, hard=True)
    summary |= {f"hard_{key}": value for key, value in report(hard).items()}
    if options.oblique:
        oblique = measure_oblique(options.oblique, options.size, options.seed)
        summary |= oblique
        print(
            f"\n{options.oblique} oblique pairs (up to 30 degrees): within {PASS_PX:g} px "
            f"{100 * oblique['oblique_within_1px']:.0f} %, median {oblique['oblique_median_px']:.3f} px, "
            f"worst {oblique['oblique_worst_px']:.2f} px"
        )
    print()
    if not options.no_timing:
        timing = measure_time(options.repeats)
        print("1024 x 1024   s      px")
        for name in ("soct", "sitk"):
            print(f"{name:10s} {timing[f'{name}_s']:6.3f}  {timing[f'{name}_px']:6.4f}")
        print(f"bound            {timing['least_px']:6.4f}")
        print(f"ratio {timing['sitk_s'] / timing['soct_s']:.1f}")
        summary |= timing
    if options.json:
        options.json.write_text(
            json.dumps({"summary": summary, "pairs": rows, "hard": hard}, indent=1)
        )


if __name__ == "__main__":
    main()
