"""The truth beside a simulated acquisition: the specimen as a volume, and every pose in a JSON file.

``truth.npz`` holds ``volume`` (float16), ``mask`` (bool) and ``voxel_um``; ``truth.json`` the poses. The
volume's frame is the canvas of `soct.simulate.poses` in micrometres, its first voxel at ``origin_um``.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.simulate.brain import Brain, GivenVolume, Specimen
from soct.simulate.poses import Poses
from soct.simulate.spec import AcquisitionSpec, BrainSpec
from soct.space import Volume, Voxel

_BLOCK_VOXELS = 2_000_000
MARGIN_PX = 8


@dataclass(frozen=True)
class TruthGrid:
    """Which voxels the truth volume has."""

    shape: tuple[int, int, int]
    voxel_um: Voxel
    origin_um: tuple[float, float, float]
    coarse: bool = False
    """Whether its voxels are larger than those of the data."""


def imaged_extent(spec: AcquisitionSpec, poses: Poses) -> NDArray[np.float64]:
    """Return the lowest and highest (z, y, x) in um that any A-line shows, shape (2, 3)."""
    first = np.array([t.position_px for t in poses.tiles])
    at = np.concatenate([first, first + np.asarray(spec.tile_px) - 1])
    drift = np.array([s.drift_px for s in poses.slices.values()])
    z = [s.z_um for s in poses.slices.values()]
    depth = (spec.n_z - spec.surface_sample) * spec.axial_um
    low = (at.min(axis=0) + drift.min(axis=0) - MARGIN_PX) * spec.pixel_um
    high = (at.max(axis=0) + drift.max(axis=0) + MARGIN_PX) * spec.pixel_um
    # A tilted cut shows tissue above the nominal plane at one end of the field.
    slope = np.abs(np.tan(np.deg2rad(spec.faults.surface_tilt_deg)))
    above = float(slope @ (high - low)) / 2
    return np.array([[min(z) - above, *low], [max(z) + depth, *high]])


def lay_truth_grid(spec: AcquisitionSpec, poses: Poses) -> TruthGrid:
    """Choose the truth's voxels: those of the data, or whole multiples where that is too many."""
    low, high = imaged_extent(spec, poses)
    size = high - low
    n = np.maximum(size / (spec.axial_um, spec.pixel_um, spec.pixel_um), 1)
    factor = max(1, math.ceil((float(np.prod(n)) / spec.truth_voxels) ** (1 / 3)))
    voxel = Voxel(spec.axial_um * factor, spec.pixel_um * factor, spec.pixel_um * factor)
    shape = [max(2, int(np.floor(s / v)) + 1) for s, v in zip(size, voxel, strict=True)]
    return TruthGrid(
        (shape[0], shape[1], shape[2]),
        voxel,
        (float(low[0]), float(low[1]), float(low[2])),
        factor > 1,
    )


def fit_brain(spec: AcquisitionSpec, poses: Poses) -> BrainSpec:
    """Return a brain that fills the imaged field but for its corners, cut somewhere in its middle."""
    low, high = imaged_extent(spec, poses)
    size, middle = high - low, (low + high) / 2
    lateral = 0.46 * size[1:]
    along = max(1.15 * float(lateral.mean()), 0.56 * float(size[0]))
    return BrainSpec(
        radius_um=(along, float(lateral[0]), float(lateral[1])),
        centre_um=(float(middle[0]), float(middle[1]), float(middle[2])),
        tilt_deg=spec.brain_tilt_deg,
        seed=spec.seed,
    )


def fit_volume(spec: AcquisitionSpec, poses: Poses, volume: Volume) -> GivenVolume:
    """Lay a volume of brightness about the middle of the imaged field."""
    middle = imaged_extent(spec, poses).mean(axis=0)
    return GivenVolume(
        np.ascontiguousarray(volume.data, np.float32),
        volume.voxel_um,
        (float(middle[0]), float(middle[1]), float(middle[2])),
    )


def render_specimen(arrays: dict[str, NDArray[Any]], grid: TruthGrid) -> GivenVolume:
    """Return the truth itself as a specimen, so that imaging it is a matter of interpolation."""
    data = arrays["volume"].astype(np.float32)
    z, y, x = (
        o + (n - 1) / 2 * v
        for o, n, v in zip(grid.origin_um, grid.shape, grid.voxel_um, strict=True)
    )
    return GivenVolume(data, grid.voxel_um, (z, y, x))


def sample_truth(
    specimen: Specimen,
    grid: TruthGrid,
    pool: Executor,
    progress: Callable[[float], None] = lambda fraction: None,
    *,
    average: bool = True,
) -> dict[str, NDArray[Any]]:
    """Return the arrays of ``truth.npz``, sampled in blocks.

    Where the truth is coarser than the data, a voxel is the mean of 2 x 2 x 2 points within it; unless
    `average`, it is always the value at its centre, which suits a specimen with no finer texture.
    """
    nz, ny, nx = grid.shape
    volume, mask = np.empty(grid.shape, np.float16), np.empty(grid.shape, np.bool_)
    x_um = grid.origin_um[2] + np.arange(nx) * grid.voxel_um.x
    step = max(1, _BLOCK_VOXELS // (nx * nz))
    parts = (-0.25, 0.25) if grid.coarse and average else (0.0,)
    within = list(itertools.product(parts, repeat=3))

    def fill(start: int) -> None:
        stop = min(start + step, ny)
        y_um = grid.origin_um[1] + np.arange(start, stop) * grid.voxel_um.y
        y, x = np.meshgrid(y_um, x_um, indexing="ij")
        first = np.zeros(y.shape, np.int32)
        total = np.zeros((*y.shape, nz), np.float32)
        for dz, dy, dx in within:
            z0 = np.full(y.shape, grid.origin_um[0] + dz * grid.voxel_um.z)
            at = (y + dy * grid.voxel_um.y, x + dx * grid.voxel_um.x)
            total += specimen.sample(*at, z0, grid.voxel_um.z, nz, first)
        block = np.moveaxis(total, 2, 0) * np.float32(1 / len(within))
        volume[:, start:stop] = block
        mask[:, start:stop] = specimen.contains(block)

    starts = range(0, ny, step)
    for done, _ in enumerate(pool.map(fill, starts), 1):
        progress(done / len(starts))
    return {"volume": volume, "mask": mask, "voxel_um": np.array(grid.voxel_um, np.float64)}


def describe_truth(
    spec: AcquisitionSpec, poses: Poses, grid: TruthGrid, specimen: Specimen
) -> dict[str, Any]:
    """Return the contents of ``truth.json``."""
    brain = specimen.spec if isinstance(specimen, Brain) else None
    band = spec.faults.galvo_return_px
    return {
        "format": 1,
        "case": spec.name,
        "seed": spec.seed,
        "px_um": spec.pixel_um,
        "dz_um": spec.axial_um,
        "tile_px": spec.tile_px[0] if spec.tile_px[0] == spec.tile_px[1] else list(spec.tile_px),
        "overlap": spec.overlap,
        "thickness_um": spec.thickness_um,
        "n_extra": spec.n_extra,
        "galvo_at": spec.tile_px[1] if band is None else band,
        "mu_per_mm": spec.faults.attenuation_per_mm,
        "origin_um": list(grid.origin_um),
        "centre_yx_px": list(poses.centre_px),
        "convention": (
            "canvas pixel p of a slice shows the tissue at centre + R(rotation) (p - centre) + drift; the "
            "rotation is positive from +x towards +y; voxel (0, 0, 0) of the truth lies at origin_um; "
            "a slice's cut plane lies at depth z_um"
        ),
        "slices": {
            str(s.slice_id): {
                "z_um": s.z_um,
                "drift_yx_px": list(s.drift_px),
                "rotation_deg": s.rotation_deg,
                "roi_yx_px": list(s.roi_px),
                "gain": s.gain,
                "glitch_yx_mm": list(s.glitch_mm),
                "surface_sample": s.surface_sample,
                "grid_rows_cols": list(s.grid),
            }
            for s in poses.slices.values()
        },
        "tiles": {
            t.name: {"pos_yx_px": list(t.position_px), "nominal_yx_px": list(t.nominal_px)}
            for t in poses.imaged
        },
        "missing": [t.name for t in poses.tiles if t.missing],
        "blank": [t.name for t in poses.imaged if t.blank],
        "truncated": [t.name for t in poses.imaged if t.truncated],
        "brain": None if brain is None else brain.model_dump(mode="json"),
        "volume_sha256": (
            hashlib.sha256(specimen.data.tobytes()).hexdigest()
            if isinstance(specimen, GivenVolume)
            else None
        ),
        "spec": spec.model_dump(mode="json"),
    }


def read_truth(acquisition: Path) -> tuple[Volume, NDArray[np.bool_]]:
    """Read the true volume and tissue mask of a simulated acquisition."""
    file = acquisition / "truth.npz"
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            voxel = Voxel(*(float(v) for v in arrays["voxel_um"]))
            return (
                Volume(arrays["volume"].astype(np.float32), voxel),
                arrays["mask"].astype(np.bool_),
            )
    except (OSError, ValueError, KeyError, EOFError, TypeError, IndexError, BadZipFile) as e:
        raise InputError(
            "there is no readable truth",
            file=file,
            expected="truth.npz with volume, mask and voxel_um, as soct simulate writes it",
            found=f"{type(e).__name__}: {e}",
            hint="give the folder that holds raw/ and truth.npz",
        ) from e
