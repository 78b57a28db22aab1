"""Slices on disk whose optics are known: water, an interface, agarose beside tissue, noise and speckle."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from soct.formats.ome_zarr import create_volume
from soct.space import Voxel

DZ_UM = 4.0
TOP = 20


def write_frame(
    path: Path,
    *,
    mu_per_mm: float = 2.0,
    focus_um: float | None = None,
    rayleigh_um: float = 450.0,
    nz: int = 180,
    side: int = 64,
    agarose: float = 0.5,
    noise: float = 0.002,
    seed: int = 0,
) -> Path:
    """Write a slice; the left part `agarose` of its columns is agarose, which does not attenuate."""
    rng = np.random.default_rng(seed)
    z = np.arange(nz)[:, None, None]
    y = np.arange(side)[None, :, None]
    x = np.arange(side)[None, None, :]
    top = TOP + 0.05 * y
    below = np.clip(z - top, 0, None) * DZ_UM / 1000
    is_agarose = np.broadcast_to(x < agarose * side, (1, side, side))
    light = np.where(is_agarose, 0.08, 0.6 * np.exp(-2 * mu_per_mm * below)) * (z >= top)
    if focus_um is not None:
        light = light / (1 + ((z * DZ_UM - focus_um) / rayleigh_um) ** 2)
    data = light * rng.standard_gamma(8, light.shape) / 8
    data = data + noise * rng.standard_gamma(1.5, light.shape) / 1.5
    with create_volume(path, data.shape, Voxel(DZ_UM, 10.0, 10.0)) as writer:
        writer.write((0, 0, 0), data.astype(np.float32))
    return path
