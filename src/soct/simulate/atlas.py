"""A made-up atlas, small enough to be made in a second: to try alignment with, and to test it.

A body that is narrow in front and broad behind, flat below, the same left and right, with seven regions of
their own brightness. It is written as BrainGlobe lays atlases out, so everything that reads those reads it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from soct.formats.atlases import write_checksums
from soct.formats.atomic import write_text
from soct.geometry.orientation import OrientedVolume, make_affine, opposite_orientation

_Field = NDArray[np.float64]
_EXTENT_MM = (11.0, 7.0, 9.0)
"""Posterior, inferior and right to left: the box."""
_REGIONS: tuple[tuple[int, str, str, tuple[int, ...], float], ...] = (
    (1, "root", "root", (1,), 0.45),
    (2, "FB", "Forebrain", (1, 2), 0.60),
    (3, "CTX", "Cortex", (1, 2, 3), 0.80),
    (4, "CC", "Corpus callosum", (1, 2, 4), 1.30),
    (5, "OLF", "Olfactory bulb", (1, 2, 5), 0.95),
    (6, "V", "Ventricle", (1, 2, 6), 0.15),
    (7, "CB", "Cerebellum", (1, 7), 1.05),
)


def make_phantom(voxel_um: float = 100.0) -> tuple[OrientedVolume, NDArray[np.uint32]]:
    """Return a made-up template (uint16) with axes to the posterior, inferior and left, and its regions.

    Parameters
    ----------
    voxel_um : float
        Edge of the voxels.
    """
    axes = [
        (np.arange(round(e * 1000 / voxel_um)) + 0.5) * voxel_um / 1000 - e / 2 for e in _EXTENT_MM
    ]
    p, i, side = np.meshgrid(*axes, indexing="ij")
    regions = np.zeros(p.shape, np.uint32)
    across = np.abs(side)

    def inside(
        centre: tuple[float, float, float], radii: tuple[float, float, float]
    ) -> NDArray[np.bool_]:
        far = ((p - centre[0]) / radii[0]) ** 2 + ((i - centre[1]) / radii[1]) ** 2
        near: NDArray[np.bool_] = far + ((across - centre[2]) / radii[2]) ** 2 < 1
        return near

    taper = 1 + 0.10 * p
    body = (p / 4.3) ** 2 + (i / (2.6 * taper)) ** 2 + (side / (3.6 * taper)) ** 2
    floor = i < 1.7
    regions[(body < 1) & floor] = 2
    regions[(body < 1) & (body > 0.72) & (i < 0.9) & (p < 2.4)] = 3
    regions[(body < 0.42) & (body > 0.28) & (i < 0.2)] = 4
    regions[inside((0.3, -0.2, 0.9), (1.6, 0.45, 0.35))] = 6
    regions[inside((2.9, -0.6, 1.0), (1.2, 1.3, 1.6)) & floor] = 7
    regions[inside((-4.3, 0.4, 0.6), (1.0, 0.8, 0.6))] = 5
    brightness = np.full(8, 0.03)
    for number, *_, value in _REGIONS:
        brightness[number] = value
    data = brightness[regions] * _texture(p, i, across)
    template = np.rint(np.clip(1000 * data, 0, 65535)).astype(np.uint16)
    affine = make_affine(opposite_orientation("asr"), (voxel_um,) * 3)
    return OrientedVolume(template, affine), regions


def _texture(p: _Field, i: _Field, across: _Field) -> _Field:
    """Return waves of a few lengths, the same left and right."""
    waves = np.zeros(p.shape)
    for n, (a, b, c) in enumerate(
        ((1.9, 0.7, 1.1), (0.8, 2.3, 1.7), (2.7, 1.9, 3.1), (4.1, 3.3, 2.2))
    ):
        waves += np.sin(a * p + b * i + c * across + n) / 4
    return 1 + 0.35 * waves


def write_phantom_atlas(folder: Path, voxel_um: float = 100.0) -> None:
    """Write the made-up atlas as a folder in BrainGlobe's layout, with checksums.

    Parameters
    ----------
    folder : Path
        Must not exist.
    voxel_um : float
        Edge of the voxels.
    """
    template, regions = make_phantom(voxel_um)
    folder.mkdir(parents=True)
    metadata = {
        "name": "soct_phantom",
        "citation": "made up by soct",
        "species": "none",
        "symmetric": True,
        "resolution": [voxel_um] * 3,
        "orientation": "asr",
        "version": "1.0",
        "shape": list(regions.shape),
        "additional_references": [],
    }
    structures = [
        {"id": n, "acronym": acronym, "name": name, "structure_id_path": list(path), "rgb_triplet": [60 + 25 * n, 180, 255 - 25 * n]}
        for n, acronym, name, path, _ in _REGIONS
    ]  # fmt: skip
    for name, content in (("metadata", metadata), ("structures", structures)):
        write_text(folder / f"{name}.json", json.dumps(content, indent=1) + "\n")
    for name, data in (("reference", template.data), ("annotation", regions)):
        tifffile.imwrite(
            folder / f"{name}.tiff", data, compression="zlib", photometric="minisblack"
        )
    write_checksums(folder)
