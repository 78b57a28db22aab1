"""The axial point-spread function of the microscope from its own slices: what `soct estimate-psf` does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from soct.errors import InputError
from soct.formats.ome_zarr import open_volume
from soct.geometry.surface import (
    detect_interface,
    fit_surface,
    measure_water_level,
    smooth_a_lines,
)
from soct.intensity.axial_profile import AxialProfile, estimate_axial_profile
from soct.intensity.depth_profiles import DepthSums
from soct.steps.blocks import middle_block
from soct.steps.crop_interface import choose_tissue, mean_below

if TYPE_CHECKING:
    from soct.space import Array

SAMPLE_PX = (512, 512)
RAYLEIGH_UM = {"3x": 610.0, "10x": 1060.0}
"""Start values of the apparent Rayleigh length by objective."""


@dataclass(frozen=True)
class AxialPsf:
    """The confocal function that the slices show.

    Attributes
    ----------
    focus_um, rayleigh_um : float
        Depth of the focus below the first sample of the frame, and the Rayleigh length.
    decay_per_mm : float
        Attenuation that was fitted along.
    residual : float
        Robust spread of the log brightness about the fit.
    measured_on : str
        ``agarose`` or ``tissue``.
    depth_um, measured, fitted : ndarray (z,)
        Brightness over the depth of the frame and what the model makes of it.
    slices : int
        Slices that were pooled.
    """

    focus_um: float
    rayleigh_um: float
    decay_per_mm: float
    residual: float
    measured_on: str
    depth_um: Array
    measured: Array
    fitted: Array
    slices: int


def estimate_psf(
    sources: Sequence[Path],
    *,
    rayleigh_um: float = RAYLEIGH_UM["3x"],
    material: Literal["auto", "agarose", "tissue"] = "auto",
    threads: int = 1,
) -> AxialPsf:
    """Fit the confocal function to the brightness over depth of one or more slices.

    Parameters
    ----------
    sources : sequence of Path
        OME-Zarr slices as `stitch_3d_with_refinement` writes them: the whole frame, linear intensity.
    rayleigh_um : float
        Where the fit starts (`RAYLEIGH_UM`).
    material : str
        What is measured; ``auto`` takes agarose where there is enough of it.
    threads : int

    Raises
    ------
    InputError
        The slices have different frames, or hold too little of the material.
    """
    pooled: dict[str, DepthSums] = {}
    dz = 0.0
    for source in sources:
        sums, dz_here = _sum_slice(source, threads)
        if pooled and (sums["tissue"].n_z != pooled["tissue"].n_z or dz_here != dz):
            raise InputError(
                "The slices have different frames",
                file=source,
                expected=f"{pooled['tissue'].n_z} samples of {dz:g} um",
                found=f"{sums['tissue'].n_z} samples of {dz_here:g} um",
            )
        dz = dz_here
        for name, one in sums.items():
            if name in pooled:
                pooled[name].merge(one)
            else:
                pooled[name] = one
    profiles = {name: s.over_frame() for name, s in pooled.items()}
    found = estimate_axial_profile(
        profiles["agarose"] if material != "tissue" else None,
        profiles["tissue"] if material != "agarose" else None,
        method="model",
        rayleigh_px=rayleigh_um / dz,
    )
    if found.method != "model":
        raise InputError(
            "The axial point-spread function cannot be measured",
            file=sources[0],
            found=found.reason,
            hint="give slices with more agarose or tissue, or another --material",
        )
    return _in_um(found, profiles[found.measured_on].mean, dz, len(sources))


def _in_um(found: AxialProfile, measured: Array, dz: float, slices: int) -> AxialPsf:
    z = np.arange(len(measured))
    model = found.sensitivity * np.exp(-found.attenuation_per_px * z)
    known = np.isfinite(measured) & (measured > 0)
    scale = np.exp(np.median(np.log(measured[known] / model[known])))
    return AxialPsf(
        found.focus_px * dz,
        found.rayleigh_px * dz,
        1000 * found.attenuation_per_px / (2 * dz),
        found.residual,
        found.measured_on,
        z * dz,
        measured,
        model * scale,
        slices,
    )


def _sum_slice(source: Path, threads: int) -> tuple[dict[str, DepthSums], float]:
    """Depth sums of agarose and tissue in the middle of a slice."""
    volume = open_volume(source, threads=threads)
    block = middle_block(volume.shape, *SAMPLE_PX)
    here = (block.rows, block.columns)
    data = volume.read(None, block[:2], block[2:])
    valid = volume.read_valid()[:, *here]
    water = measure_water_level(smooth_a_lines(data, valid))
    found = detect_interface(data, valid, water=water)
    confidence = np.where(valid[1] > valid[0], found.confidence, 0)
    surface = fit_surface(found.depth_px, confidence)
    if surface.measured_fraction < 0.02:
        raise InputError("No interface is seen in the slice", file=source, found=surface.reason)
    below = mean_below(data, surface.depth_px)
    tissue, _ = choose_tissue(below, water.floor)
    sums = {}
    for name, mask in (("tissue", tissue), ("agarose", (below > 0) & ~tissue)):
        sums[name] = DepthSums(volume.shape[0], water.floor)
        sums[name].add(data, surface.depth_px, valid=valid, mask=mask)
    return sums, volume.voxel_um.z
