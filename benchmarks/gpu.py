"""Every kernel that exists for GPUs, on processors and on the GPU: seconds, transfer included and not, and agreement.

    python benchmarks/gpu.py [--size 1] [--repeat 5] [--array-module cupy] [--json OUT]

Without a GPU it says so and ends; ``--array-module numpy`` tries the same code on processors (slow, the plain
reference). Times are the best of `--repeat`, compiled; "resident" leaves out the transfers, as for data that stay on
the device from one kernel to the next. Agreement is the greatest difference over the greatest value.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soct.compute.backend import Backend, find_gpu
from soct.formats.block_mean_arrays import block_means
from soct.formats.block_means import reduce_planes
from soct.geometry import column_arrays
from soct.geometry.focal_curvature import shift_a_lines
from soct.intensity import attenuation_arrays
from soct.intensity.attenuation import METHODS, correct_attenuation, estimate_attenuation
from soct.mosaic import spectra_arrays
from soct.mosaic.rendering import BandRenderer, Shading, plan_bands
from soct.mosaic.spectra import cross_correlate, low_pass, transform
from soct.mosaic.stack_rendering import SlicePlacement, add_slice, lateral_weights
from soct.tomography import back_project, project, radon_arrays, reconstruct_slice
from soct.tomography.radon import PHASES

Call = Callable[[], Any]


@dataclass(frozen=True)
class Kernel:
    """One kernel: on processors, on the device with its transfers, and on data that are there already."""

    name: str
    megabytes: float
    cpu: Call
    device: Call
    resident: Call | None


def _mosaic(backend: Backend, scale: int) -> Kernel:
    r = np.random.default_rng(1)
    shape = (64, 128 * scale, 128 * scale)
    tiles = r.gamma(4.0, 1.0, (4, *shape)).astype(np.float32)
    step = 108 * scale
    at = np.array([[0, 0], [0.3, step + 0.4], [step + 0.6, 0.7], [step + 0.2, step]], float)
    plan = plan_bands(at, shape[1:])
    shading = Shading(np.full(shape[1:], 1.1, np.float32))

    def render(**options: Any) -> Any:
        renderer = BandRenderer(plan, tiles.__getitem__, shading=shading, **options)
        return renderer.render(0, plan.shape[0])

    return Kernel(
        "render tiles (shade, resample, blend)",
        tiles.nbytes / 1e6,
        render,
        lambda: render(backend=backend),
        None,
    )


def _stack(backend: Backend, scale: int) -> Kernel:
    n = 256 * scale
    block = np.random.default_rng(2).gamma(4.0, 1.0, (32, n, n)).astype(np.float32)
    valid = np.zeros((2, n, n), np.int16)
    valid[1] = 32
    lateral = lateral_weights(valid, 10.0)
    c, s = np.cos(0.02), np.sin(0.02)
    placement = SlicePlacement(np.array([[c, s, 1.3], [-s, c, 2.6]]), 0.4, block.shape)
    snr = np.ones(32, np.float32)

    def add(**options: Any) -> Any:
        place = options.get("backend", Backend())
        sums = [place.up(np.zeros(block.shape, np.float32)) for _ in range(2)]
        add_slice(
            sums[0], sums[1], block, valid, lateral, placement, snr,
            block_z0=0, row0=0, z0=0, y0=0, ramp_px=5.0, cubic=False, **options,
        )  # fmt: skip
        return place.down(sums[0])

    return Kernel("stack a slice", block.nbytes / 1e6, add, lambda: add(backend=backend), None)


def _pyramid(backend: Backend, scale: int) -> Kernel:
    n = 256 * scale
    data = np.random.default_rng(3).gamma(4.0, 1.0, (32, n, n)).astype(np.float32)
    mask = np.ones(data.shape, np.uint8)
    up = backend.up(data), backend.up(mask)

    def reduce() -> Any:
        shape = (16, n // 2, n // 2)
        means, seen = np.empty(shape, np.float32), np.empty(shape, np.uint8)
        total, count = np.zeros(shape[1:]), np.zeros(shape[1:], np.int32)
        reduce_planes(data, mask, (2, 2, 2), 0, total, count, means, seen)
        return means

    return Kernel(
        "block means",
        data.nbytes / 1e6,
        reduce,
        lambda: backend.down(
            block_means(backend.xp, backend.up(data), backend.up(mask), (2, 2, 2))[0]
        ),
        lambda: block_means(backend.xp, *up, (2, 2, 2))[0],
    )


def _columns(backend: Backend, scale: int) -> list[Kernel]:
    r = np.random.default_rng(4)
    n = 128 * scale
    data = r.gamma(4.0, 1.0, (128, n, n)).astype(np.float32)
    shift = r.uniform(-4, 4, (n, n)).astype(np.float32)
    surface = r.uniform(2, 9, (n, n))
    limits = np.zeros((2, n, n), np.int64)
    limits[1] = 128
    xp, ups = backend.xp, [backend.up(a) for a in (data, shift, surface, limits)]
    li = METHODS["li"]

    def attenuate() -> Any:
        return estimate_attenuation(
            data, surface, 10.0, valid=limits, floor=0.1, noise=0.1, smoothing_px=(0, 0, 0)
        ).optical_depth

    depth = attenuate()
    depth_up = backend.up(depth)
    integrate = attenuation_arrays.integrate
    correct = attenuation_arrays.correct_attenuation
    return [
        Kernel(
            "mean projection",
            data.nbytes / 1e6,
            lambda: data.mean(axis=0, dtype=np.float32),
            lambda: backend.down(column_arrays.mean_projection(xp, backend.up(data), 0, 128)),
            lambda: column_arrays.mean_projection(xp, ups[0], 0, 128),
        ),
        Kernel(
            "focal curvature shift",
            data.nbytes / 1e6,
            lambda: shift_a_lines(data, shift),
            lambda: backend.down(
                column_arrays.shift_a_lines(xp, backend.up(data), backend.up(shift))
            ),
            lambda: column_arrays.shift_a_lines(xp, ups[0], ups[1]),
        ),
        Kernel(
            "optical depth",
            data.nbytes / 1e6,
            attenuate,
            lambda: backend.down(
                integrate(
                    xp, *(backend.up(a) for a in (data, surface, limits)),
                    li, 0.1, 0.4, 0.01, 30.0,
                )[1]
            ),
            lambda: integrate(xp, ups[0], ups[2], ups[3], li, 0.1, 0.4, 0.01, 30.0)[1],
        ),
        Kernel(
            "attenuation correction",
            data.nbytes / 1e6,
            lambda: correct_attenuation(data, depth, 0.7),
            lambda: backend.down(correct(xp, backend.up(data), backend.up(depth), 0.7, 0.05)),
            lambda: correct(xp, ups[0], depth_up, 0.7, 0.05),
        ),
    ]  # fmt: skip


def _tomography(backend: Backend, scale: int) -> list[Kernel]:
    n, slices = 256 * scale, 16
    images = np.random.default_rng(5).gamma(4.0, 1.0, (slices, n, n)).astype(np.float32)
    theta = np.arange(180) * np.pi / 180
    sinos = project(images, theta)
    axis = np.full(180, n // 2, float)
    up = backend.up(images), backend.up(np.ascontiguousarray(sinos.transpose(0, 2, 1)))
    reach = float(2 * n)
    return [
        Kernel(
            f"project {slices} slices",
            images.nbytes / 1e6,
            lambda: project(images, theta),
            lambda: project(images, theta, backend=backend),
            lambda: radon_arrays.project_slices(backend.xp, up[0], theta, axis, n, True, PHASES),
        ),
        Kernel(
            f"back-project {slices} slices",
            sinos.nbytes / 1e6,
            lambda: back_project(sinos, theta),
            lambda: back_project(sinos, theta, backend=backend),
            lambda: radon_arrays.back_project_slices(
                backend.xp, up[1], theta, axis, (n, n), reach, True, PHASES
            ),
        ),
        Kernel(
            f"reconstruct {slices} slices",
            sinos.nbytes / 1e6,
            lambda: reconstruct_slice(sinos, theta),
            lambda: reconstruct_slice(sinos, theta, backend=backend),
            None,
        ),
    ]


def _spectra(backend: Backend, scale: int) -> Kernel:
    r = np.random.default_rng(5)
    shape = (512, 96)
    windows = r.standard_normal((2, 16 * scale, 3, *shape)).astype(np.float32)
    spectra = [transform(w.copy()) for w in windows]
    gain = low_pass(shape, 1.5)
    ups = [backend.up(a) for a in (*spectra, gain)]
    run = spectra_arrays.cross_correlate
    return Kernel(
        "cross correlation of strips",
        sum(s.nbytes for s in spectra) / 1e6,
        lambda: cross_correlate(spectra[0], spectra[1], shape, gain),
        lambda: backend.down(
            run(backend.xp, *(backend.up(s) for s in spectra), shape, backend.up(gain), 0.5)
        ),
        lambda: run(backend.xp, ups[0], ups[1], shape, ups[2], 0.5),
    )


def best(call: Call, backend: Backend, repeat: int) -> tuple[Any, float]:
    """Return the result and the least seconds, with the device's queue empty at both ends."""
    wait = getattr(getattr(backend.xp, "cuda", None), "Device", None)
    times, result = [], None
    for _ in range(repeat + 1):
        start = time.perf_counter()
        result = call()
        if wait is not None:
            wait().synchronize()
        times.append(time.perf_counter() - start)
    return result, min(times[1:])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1, help="1 for a quick look, 4 for real slices")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--array-module", choices=["cupy", "numpy"], default="cupy")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.array_module == "numpy":
        backend = Backend("numpy", np)
    else:
        found, reason = find_gpu()
        if found is None:
            print(f"skipped: {reason}")
            return 0
        backend = found
    kernels = [
        _mosaic(backend, options.size),
        _stack(backend, options.size),
        _pyramid(backend, options.size),
        *_columns(backend, options.size),
        _spectra(backend, options.size),
        *_tomography(backend, options.size),
    ]
    print(f"device: {backend.name}")
    print(f"{'kernel':38}{'MB':>7}{'cpu s':>9}{'device s':>10}{'resident':>10}{'agreement':>11}")
    rows = []
    for kernel in kernels:
        expected, cpu = best(kernel.cpu, Backend(), options.repeat)
        result, device = best(kernel.device, backend, options.repeat)
        resident = None
        if kernel.resident is not None:
            resident = best(kernel.resident, backend, options.repeat)[1]
        difference = float(np.nanmax(np.abs(result - expected)) / np.nanmax(np.abs(expected)))
        shown = "-" if resident is None else f"{resident:.4f}"
        print(
            f"{kernel.name:38}{kernel.megabytes:7.0f}{cpu:9.4f}{device:10.4f}{shown:>10}"
            f"{difference:11.1e}",
            flush=True,
        )
        rows.append(
            {
                "kernel": kernel.name,
                "megabytes": kernel.megabytes,
                "cpu_s": cpu,
                "device_s": device,
                "resident_s": resident,
                "agreement": difference,
            }
        )
    if options.json:
        options.json.write_text(json.dumps({"device": backend.name, "kernels": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
