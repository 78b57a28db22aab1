"""Bias correction of a stack with bands: what is left of the steps between planes, and what stays of the anatomy.

Sections with gains of their own (15 %), a fall of 25 % along depth within each, a tilt of 10 % within the plane, and
one field over all of 15 %; 8-look speckle. Steps: root mean square of the true remaining bias from plane to
plane, over all planes and where sections meet. Correlation: of the log volume with the log anatomy, in tissue.

Run ``python benchmarks/banded_stack.py [--json FILE] [--size N]``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage as ndi

from soct.intensity.volume_bias import (
    BiasOptions,
    ShrunkVolume,
    cut_sections,
    estimate_volume_bias,
)
from soct.space import Voxel

SECTIONS, PLANES = 10, 16


def make_stack(size: int, seed: int) -> tuple[Any, Any, Any, Any]:
    """Return a banded volume, its tissue, its anatomy and the log of its bias."""
    rng = np.random.default_rng(seed)
    shape = (SECTIONS * PLANES, size, size)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    mask = (z / 1.4) ** 2 + (y / 0.9) ** 2 + (x / 0.9) ** 2 < 1
    grain = size / 20
    texture = ndi.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (8, grain, grain))
    texture = (texture - texture[mask].mean()) / texture[mask].std()
    anatomy = np.select([texture > 0.9, texture < -0.5], [1.6, 0.6], 1.0).astype(np.float32)
    log_bias = np.repeat(rng.normal(0, 0.15, SECTIONS), PLANES)
    log_bias += np.tile(0.25 * (0.5 - np.arange(PLANES) / PLANES), SECTIONS)
    field = log_bias[:, None, None] + 0.15 * (0.7 * x + np.cos(2 * y))
    for k in range(SECTIONS):
        here = slice(k * PLANES, (k + 1) * PLANES)
        a, b = rng.normal(0, 0.1, 2)
        field[here] += a * x[here] + b * y[here]
    clean = np.where(mask, anatomy, np.float32(0.02))
    speckle = rng.standard_gamma(8, shape, dtype=np.float32) / 8
    return (clean * np.exp(field) * speckle).astype(np.float32), mask, clean, field


def plane_steps(field: Any, mask: Any) -> Any:
    """Step of a log field from plane to plane, over the tissue that both share."""
    steps = []
    for z in range(1, len(field)):
        both = mask[z] & mask[z - 1]
        steps.append((field[z] - field[z - 1])[both].mean() if both.sum() > 50 else np.nan)
    return np.array(steps)


def measure(stack: tuple[Any, Any, Any, Any], mode: str) -> dict[str, Any]:
    """Correct a stack and compare with its truth."""
    volume, mask, clean, field = stack
    start = time.perf_counter()
    sections = cut_sections(len(volume), [k * PLANES for k in range(SECTIONS)])
    small = ShrunkVolume(volume.shape, sections, 4)
    for z in range(0, len(volume), 64):
        small.add(z, volume[z : z + 64])
    bias = estimate_volume_bias(small, Voxel(10, 20, 20), BiasOptions(mode=mode))
    found = bias.log_field(*((0, n) for n in volume.shape))
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {"mode": mode, "s": seconds}
    for name, log_bias, data in (
        ("before", field, volume),
        ("after", field - found, volume / np.exp(found)),
    ):
        steps = plane_steps(log_bias, mask)
        row[f"steps_{name}"] = float(np.sqrt(np.nanmean(steps**2)))
        row[f"meeting_{name}"] = float(np.sqrt(np.nanmean(steps[PLANES - 1 :: PLANES] ** 2)))
        smooth = np.maximum(ndi.uniform_filter(data, 3), 1e-6)
        row[f"r_{name}"] = float(np.corrcoef(np.log(smooth[mask]), np.log(clean[mask]))[0, 1])
        row[f"error_{name}"] = float(100 * log_bias[mask].std())
    row["contrast_kept"] = bias.contrast_kept
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    stack = make_stack(arguments.size, arguments.seed)
    rows = []
    for mode in ("per_section", "global", "two_pass"):
        row = measure(stack, mode)
        rows.append(row)
        removed = 100 * (1 - row["steps_after"] / row["steps_before"])
        meeting = 100 * (1 - row["meeting_after"] / row["meeting_before"])
        print(
            f"{mode:12} {row['s']:6.1f} s  steps {removed:5.1f} % removed ({meeting:5.1f} % where sections meet)"
            f"  r {row['r_before']:.3f} -> {row['r_after']:.3f}"
            f"  bias {row['error_before']:4.1f} -> {row['error_after']:4.1f} %",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
