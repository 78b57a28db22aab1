"""Specimens with known answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from soct.simulate.optics import Optics
from soct.simulate.poses import TilePose, draw_poses
from soct.simulate.spec import AcquisitionSpec


@dataclass(frozen=True)
class Uniform:
    """Brightness 1 everywhere."""

    level: float = 1.0

    def sample(self, y_um, x_um, z0_um, dz_um, n_z, first):
        return np.full((*y_um.shape, n_z), self.level, np.float32)

    def contains(self, brightness):
        return brightness > 0


@dataclass(frozen=True)
class Ruler:
    """Brightness is the position along one axis, in um, plus 10000."""

    axis: Literal["z", "y", "x"]

    def sample(self, y_um, x_um, z0_um, dz_um, n_z, first):
        z = z0_um[..., None] + dz_um * np.arange(n_z)
        value = {"z": z, "y": y_um[..., None] + 0 * z, "x": x_um[..., None] + 0 * z}[self.axis]
        return (value + 10000).astype(np.float32)

    def contains(self, brightness):
        return brightness > 0


def look(spec: AcquisitionSpec, specimen: object, index: int = 0) -> np.ndarray:
    """Return the light (y, x, z) of one tile, in units of brightness, without noise."""
    poses = draw_poses(spec)
    optics = Optics(spec, poses, specimen)  # type: ignore[arg-type]
    return optics.expose(poses.tiles[index], slice(0, spec.tile_px[0])) / 1000


def record(spec: AcquisitionSpec, specimen: object, tile: TilePose) -> np.ndarray:
    """Return all frames (n, A-line, z) of one tile, in units of brightness."""
    optics = Optics(spec, draw_poses(spec), specimen)  # type: ignore[arg-type]
    return np.concatenate(list(optics.frames(tile))) / 1000
