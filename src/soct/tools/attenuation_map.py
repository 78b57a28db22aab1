"""Attenuation maps of one slice, block by block: what `soct compute-attenuation` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from soct.errors import InputError
from soct.formats.ome_zarr import (
    band_shards,
    create_volume,
    open_volume,
    plane_chunks,
)
from soct.geometry.surface import (
    WaterLevel,
    detect_interface,
    fit_surface,
    measure_water_level,
    smooth_a_lines,
)
from soct.intensity.attenuation import AttenuationMethod, estimate_attenuation
from soct.steps.blocks import Block, cut_blocks, middle_block

if TYPE_CHECKING:
    from soct.formats.ome_zarr import VolumeReader
    from soct.space import Array, FloatArray

HALO_PX = 16
SAMPLE_PX = (256, 256)
LEAST_MEASURED = 0.02


@dataclass(frozen=True)
class MapOptions:
    """How a map is made.

    Attributes
    ----------
    method : str
        ``vermeer``, ``smith``, ``liu`` or ``li``.
    surface : str
        ``auto`` finds the interface; ``top`` takes the first valid sample of each A-line.
    noise_floor : float, optional
        Brightness without light; measured in the water above the sample when absent.
    smoothing_um : (float, float)
        Gaussian sigma along depth and across.
    margin_um : float
        Depth below the interface that holds its reflection and is left out.
    threads : int
    """

    method: AttenuationMethod = "li"
    surface: Literal["auto", "top"] = "auto"
    noise_floor: float | None = None
    smoothing_um: tuple[float, float] = (5.0, 40.0)
    margin_um: float = 7.0
    threads: int = 1


@dataclass(frozen=True)
class AttenuationMap:
    """What was found.

    Attributes
    ----------
    mean : ndarray (y, x) float32
        Mean attenuation over depth, 1/mm, NaN where there is none.
    median, low, high : float
        Median, 5th and 95th percentile of `mean`.
    noise_floor, noise : float
    surface : str
        How the interface was found, in words.
    """

    mean: FloatArray
    median: float
    low: float
    high: float
    noise_floor: float
    noise: float
    surface: str


def write_attenuation(
    source: Path, target: Path, options: MapOptions | None = None
) -> AttenuationMap:
    """Estimate attenuation at every voxel of a slice and write it as OME-Zarr, in 1/mm.

    Parameters
    ----------
    source : Path
        OME-Zarr slice or volume whose A-lines run along z: linear intensity.
    target : Path
        OME-Zarr to write. 0 is no data.
    options : MapOptions, optional

    Returns
    -------
    AttenuationMap

    Raises
    ------
    InputError
        The source is no volume, the target exists, or no A-line holds data.
    """
    chosen = options or MapOptions()
    if target.exists():
        raise InputError("The target exists already", file=target, expected="a new folder")
    volume = open_volume(source, threads=chosen.threads)
    valid = volume.read_valid()
    if not (valid[1] > valid[0]).any():
        raise InputError("No A-line holds data", file=source)
    water = _water(volume, valid)
    depth, words = _interface(volume, valid, water, chosen)
    found = "interface" in words
    floor = chosen.noise_floor
    if floor is None:
        # Without water above the sample the darkest depth is deep tissue, not the noise.
        floor = water.floor if found else 0.0
    noise = water.noise if found else 0.0
    mean = np.full(volume.shape[1:], np.nan, np.float32)
    chunks = plane_chunks(volume.shape)
    with create_volume(
        target,
        volume.shape,
        volume.voxel_um,
        chunks=chunks,
        shards=band_shards(volume.shape, chunks),
        codec="zstd",
        attributes={"kind": "attenuation", "unit": "1/mm", "method": chosen.method},
        threads=chosen.threads,
    ) as writer:
        for block in cut_blocks(volume.shape, writer.shards):
            mu = _block_map(volume, block, depth, valid, (floor, noise), chosen)
            seen = np.isfinite(mu)
            count = seen.sum(axis=0)
            total = np.where(seen, mu, 0).sum(axis=0, dtype=np.float64)
            mean[block.rows, block.columns] = np.where(
                count > 0, total / np.maximum(count, 1), np.nan
            )
            writer.write((0, block.y0, block.x0), np.where(seen, mu, 0).astype(np.float32))
        writer.write_valid(valid)
    known = mean[np.isfinite(mean)]
    if known.size == 0:
        raise InputError("No A-line holds tissue below its interface", file=source)
    low, median, high = (float(v) for v in np.percentile(known, [5, 50, 95]))
    return AttenuationMap(mean, median, low, high, floor, noise, words)


def _water(volume: VolumeReader, valid: Array) -> WaterLevel:
    middle = middle_block(volume.shape, *SAMPLE_PX)
    data = volume.read(None, middle[:2], middle[2:])
    return measure_water_level(smooth_a_lines(data, valid[:, middle.rows, middle.columns]))


def _interface(
    volume: VolumeReader, valid: Array, water: WaterLevel, options: MapOptions
) -> tuple[FloatArray, str]:
    """Depth of the interface of every A-line, and how it was found."""
    top = valid[0].astype(np.float32)
    if options.surface == "top":
        return top, "first valid sample of each A-line"
    depth = np.full(volume.shape[1:], np.nan, np.float32)
    confidence = np.zeros(volume.shape[1:], np.float32)
    for block in cut_blocks(volume.shape, volume.shards):
        wider = block.grown(HALO_PX, volume.shape)
        data = volume.read(None, wider[:2], wider[2:])
        found = detect_interface(data, valid[:, wider.rows, wider.columns], water=water)
        inner = block.within(wider)
        depth[block.rows, block.columns] = found.depth_px[inner]
        confidence[block.rows, block.columns] = found.confidence[inner]
    confidence[valid[1] <= valid[0]] = 0
    surface = fit_surface(depth, confidence)
    if surface.measured_fraction < LEAST_MEASURED:
        return top, "first valid sample of each A-line: no surface was seen"
    return surface.depth_px, f"interface in {100 * surface.measured_fraction:.0f} % of the A-lines"


def _block_map(
    volume: VolumeReader,
    block: Block,
    depth: FloatArray,
    valid: Array,
    noise: tuple[float, float],
    options: MapOptions,
) -> FloatArray:
    wider = block.grown(HALO_PX, volume.shape)
    here = (wider.rows, wider.columns)
    dz = volume.voxel_um.z
    along, across = options.smoothing_um
    margin = max(0.0, options.margin_um / dz) if options.surface == "auto" else 0.0
    found = estimate_attenuation(
        volume.read(None, wider[:2], wider[2:]),
        depth[here] + np.float32(margin),
        dz,
        method=options.method,
        valid=valid[:, *here],
        floor=noise[0],
        noise=noise[1],
        smoothing_px=(along / dz, across / volume.voxel_um.y, across / volume.voxel_um.x),
    )
    return found.mu_per_mm[:, *block.within(wider)]
