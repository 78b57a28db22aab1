"""N4 on a phantom with a known field: error and time of every backend, SimpleITK on its own, and agreement.

A volume of 128 x 256 x 256 with a bias of 21.4 % (relative standard deviation in tissue) and 8-look speckle, shrunk by
4, at most 50 iterations on each of 4 levels. "strided" is the usual recipe: SimpleITK on every fourth voxel.
Error: relative standard deviation of estimate / truth in tissue. Agreement: with SimpleITK on block means.

With ``--brain FILE`` (a TIFF volume without known field) the backends are compared on it too, with what
each takes from its anatomy: the slope of the log field on the log of the smoothed image.

Run ``python benchmarks/bias_field.py [--json FILE] [--repeats N] [--brain FILE]``.
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
import SimpleITK as sitk
from scipy import ndimage as ndi
from skimage import io

from soct.compute.array_modules import gpu_problem
from soct.intensity.bias_field import n4_correct

SHAPE = (128, 256, 256)
Field = Callable[[], Any]


def make_phantom(seed: int = 0) -> tuple[Any, Any, Any]:
    """Return a speckled volume, its tissue and its true field."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    mask = (z / 1.3) ** 2 + (y / 0.85) ** 2 + (x / 0.9) ** 2 < 1
    texture = ndi.gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), (3, 8, 8))
    texture /= texture.std()
    anatomy = np.select([texture > 1, texture < -0.5], [1.6, 0.6], 1.0)
    log_bias = 0.25 * x - 0.2 * y**2 + 0.2 * x * y + 0.25 * np.cos(2 * z + 1) + 0.2 * np.sin(2 * y)
    log_bias -= log_bias[mask].mean()
    spread = [np.exp(s * log_bias[mask]) for s in np.linspace(0.3, 2, 60)]
    scale = np.interp(0.214, [b.std() / b.mean() for b in spread], np.linspace(0.3, 2, 60))
    bias = np.exp(scale * log_bias)
    volume = np.where(mask, anatomy, 0.02) * bias * rng.standard_gamma(8, SHAPE) / 8
    return volume.astype(np.float32), mask, bias.astype(np.float32)


def itk_strided(volume: Any, mask: Any) -> Any:
    """Fit SimpleITK's N4 to every fourth voxel."""
    image, inside = sitk.GetImageFromArray(volume), sitk.GetImageFromArray(mask.astype(np.uint8))
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.SetMaximumNumberOfIterations([50] * 4)
    n4.Execute(sitk.Shrink(image, [4] * 3), sitk.Shrink(inside, [4] * 3))
    return np.exp(sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)))


def time_best(field: Field, repeats: int) -> tuple[Any, float, float]:
    """Return a field, and the least elapsed and processor time of several runs (all threads together)."""
    seconds, cpu = [], []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        found = field()
        seconds.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return found, min(seconds), min(cpu)


def error_percent(field: Any, truth: Any, mask: Any) -> float:
    ratio = np.asarray(field)[mask] / truth[mask]
    return float(100 * ratio.std() / ratio.mean())


def agreement(field: Any, reference: Any, mask: Any) -> tuple[float, float]:
    """Return r of the log fields and the median relative difference in percent."""
    a, b = (np.log(np.asarray(f, np.float64)[mask]) for f in (field, reference))
    difference = np.exp(a - a.mean() - b + b.mean()) - 1
    return float(np.corrcoef(a, b)[0, 1]), float(100 * np.median(np.abs(difference)))


def compare_on_brain(file: Path, backends: list[str]) -> list[dict[str, Any]]:
    """Compare the backends on a real brain."""
    brain = io.imread(file).astype(np.float32)
    mask = ndi.gaussian_filter(brain, 1) > 60
    anatomy = np.log(np.maximum(ndi.gaussian_filter(brain, 2)[mask], 1)).astype(float)
    rows, reference = [], None
    for name in ["cpu", *backends]:
        start = time.perf_counter()
        field = n4_correct(brain, mask, backend=name, voxel_size_mm=(0.05, 0.04, 0.04)).bias_field
        seconds = time.perf_counter() - start
        reference = field if reference is None else reference
        r, difference = agreement(field, reference, mask)
        slope = np.polyfit(anatomy, np.log(field[mask]).astype(float), 1)[0]
        rows.append({"method": f"brain, {name}", "s": seconds, "r": r, "difference": difference,
                     "absorbed": float(slope)})  # fmt: skip
        print(
            f"{rows[-1]['method']:26} {seconds:7.2f} s            r {r:.6f}  difference {difference:.3f} %"
            f"  follows anatomy by {slope:.3f}",
            flush=True,
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--brain", type=Path)
    arguments = parser.parse_args()
    volume, mask, bias = make_phantom()
    own = ["numba"] if gpu_problem() else ["numba", "gpu"]
    methods: dict[str, tuple[Field, int]] = {
        "SimpleITK, strided": (lambda: itk_strided(volume, mask), 1),
        "soct cpu (SimpleITK)": (lambda: n4_correct(volume, mask, backend="cpu").bias_field, 1),
    }
    for name in own:
        n4_correct(volume[:32], mask[:32], backend=name)
        methods[f"soct {name}"] = (
            lambda name=name: n4_correct(volume, mask, backend=name).bias_field,
            arguments.repeats,
        )
    print(f"before: {error_percent(np.ones(SHAPE), bias, mask):.1f} %")
    fields: dict[str, Any] = {}
    rows = []
    for name, (field, repeats) in methods.items():
        fields[name], seconds, cpu = time_best(field, repeats)
        error = error_percent(fields[name], bias, mask)
        row: dict[str, Any] = {"method": name, "s": seconds, "cpu_s": cpu, "error": error}
        line = f"{name:26} {seconds:7.2f} s  {cpu:7.2f} s of processor  {error:6.2f} %"
        if name.removeprefix("soct ") in own:
            row["r"], row["difference"] = agreement(
                fields[name], fields["soct cpu (SimpleITK)"], mask
            )
            line += f"  r {row['r']:.6f}  difference {row['difference']:.3f} %"
        rows.append(row)
        print(line, flush=True)
    if arguments.brain:
        rows += compare_on_brain(arguments.brain, own)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
