"""`soct resolution` on phantoms whose resolution is known in closed form: what two volumes tell, what one tells, and when one flatters.

    python benchmarks/resolution.py [--side 96] [--depth 64] [--volume VOLUME] [--json OUT]

A phantom is white noise blurred by a Gaussian, with white noise of its own: its spectrum is known, and with it the length at which two
such volumes cease to agree by half a bit. Ratios of what is measured to that length, in plane and along z, for: two volumes; one
volume; two halves of one volume (voxels with even and with odd coordinates in the plane, as one-image correlations take them, without
their calibration); one volume that was moved by half a voxel with linear interpolation, which makes noise alike in neighbours, without
and with a region beside it that tells the noise. "told" says whether soct says that the number flatters. Voxels are 10 um; ``--volume``
measures a file, too, and the time that takes.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.tomography import fourier_shell_correlation
from soct.tomography.noise_floor import correlation_of_one, find_noise_floor
from soct.tomography.shell_correlation import Shells
from soct.tools.resolution import measure_resolution

Array = NDArray[Any]
VOXEL_UM = 10.0
PARTS = (("in plane", "across"), ("along z", "along"))
HALF_BIT_SNR = 0.2071


def texture(shape: tuple[int, ...], width_um: float) -> Array:
    """White noise blurred by a Gaussian of a full width at half maximum, of unit variance."""
    rng = np.random.default_rng(1)
    sigma = width_um / VOXEL_UM / 2.3548
    blurred = ndi.gaussian_filter(rng.standard_normal(shape), sigma, mode="wrap")
    return blurred / blurred.std()


def expected_um(shape: tuple[int, ...], width_um: float, noise: float) -> float:
    """Where signal and noise have the ratio of half a bit; two voxels at least."""
    sigma = width_um / 2.3548
    along = [np.fft.fftfreq(n, VOXEL_UM) for n in shape]
    square = sum(g**2 for g in np.meshgrid(*along, indexing="ij"))
    mean = np.exp(-4 * np.pi**2 * sigma**2 * square).mean()
    return max(2 * VOXEL_UM, 2 * np.pi * sigma / np.sqrt(-np.log(HALF_BIT_SNR * noise**2 * mean)))


def spectrum(volume: Array, part: Any) -> tuple[Shells, Array]:
    shells = Shells(volume.shape, VOXEL_UM, part=part)
    power = np.abs(shells.spectrum(volume)) ** 2
    return shells, shells.sums(power) / shells.sums(np.ones(power.shape))


def from_one(volume: Array, part: Any, beside: Array | None = None) -> tuple[float, bool]:
    """Resolution from one volume, and whether its spectrum ends in noise."""
    shells, power = spectrum(volume, part)
    shape = None if beside is None else spectrum(beside, part)[1]
    found = correlation_of_one(shells.frequencies, power, shells.counts, shape)
    return found.resolution(), find_noise_floor(shells.frequencies, power, shells.counts, shape).is_level  # fmt: skip


def from_halves(volume: Array, part: Any) -> float:
    """Resolution from even and odd voxels in the plane, whose distance is turned back in the spectrum."""
    a, b = volume[:, ::2, ::2], volume[:, 1::2, 1::2]
    moved = np.fft.ifftn(ndi.fourier_shift(np.fft.fftn(b), (0, 0.5, 0.5))).real
    voxel = (VOXEL_UM, 2 * VOXEL_UM, 2 * VOXEL_UM)
    return fourier_shell_correlation(a, moved, voxel_size=voxel, part=part).resolution()


def measure(shape: tuple[int, ...], width_um: float, noise: float) -> list[dict[str, Any]]:
    rng = np.random.default_rng(2)
    signal = texture(shape, width_um)
    first, second, beside = (
        s + noise * rng.standard_normal(shape) for s in (signal, signal, 0 * signal)
    )
    smeared, smeared_beside = (ndi.shift(v, 0.5, order=1, mode="wrap") for v in (first, beside))
    truth = expected_um(shape, width_um, noise)
    rows = []
    for name, part in PARTS:
        two = fourier_shell_correlation(first, second, voxel_size=VOXEL_UM, part=part).resolution()  # type: ignore[arg-type]
        one, level = from_one(first, part)
        halves = from_halves(first, part)
        blind, is_level = from_one(smeared, part)
        told, _ = from_one(smeared, part, smeared_beside)
        rows.append(
            {
                "width_um": width_um,
                "noise": noise,
                "direction": name,
                "expected_um": truth,
                "two": two / truth,
                "one": one / truth,
                "one_told": not level,
                "halves": halves / truth,
                "resampled": blind / truth,
                "resampled_told": not is_level,
                "resampled_with_background": told / truth,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--depth", type=int, default=64)
    parser.add_argument("--volume", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    shape = (options.depth, options.side, options.side)
    rows: list[dict[str, Any]] = []
    print(f"{'FWHM':>5} {'noise':>5} {'direction':>9} {'expected':>8}   {'two':>5} {'one':>5} {'told':>4} {'halves':>6}   resampled told  +background")  # fmt: skip
    for width in (20.0, 30.0, 50.0, 80.0):
        for noise in (0.1, 0.5, 2.0):
            for row in measure(shape, width, noise):
                rows.append(row)
                told, again = ("yes" if row[k] else "no" for k in ("one_told", "resampled_told"))
                print(
                    f"{width:5.0f} {noise:5.1f} {row['direction']:>9} {row['expected_um']:8.1f}   {row['two']:5.2f} {row['one']:5.2f} {told:>4} "
                    f"{row['halves']:6.2f}   {row['resampled']:9.2f} {again:>4} {row['resampled_with_background']:12.2f}"
                )
    if options.volume is not None:
        start = time.perf_counter()
        found = measure_resolution(options.volume)
        print(f"{options.volume.name}: {time.perf_counter() - start:.1f} s, {len(found.places)} blocks")  # fmt: skip
        for direction in found.directions:
            middle, low, high = direction.quartiles_um()
            print(f"  {direction.name}: {middle:.1f} um ({low:.1f} to {high:.1f})")
        for notice in found.notices:
            print(f"  {notice}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
