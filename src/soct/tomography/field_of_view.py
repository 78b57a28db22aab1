"""Where projections were taken, and what they are taken to be beyond the detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.tomography.angles import AngleUnit, covers_full_turn, radians
from soct.tomography.radon import axis_positions

Array = NDArray[Any]

_EDGE_PIXELS = 4


@dataclass(frozen=True)
class Geometry:
    """Where projections were taken.

    Attributes
    ----------
    angles : float64 array (n,)
        Radians.
    axis : float64 array (n,)
        Detector coordinate of the rotation axis in each projection.
    """

    angles: Array
    axis: Array

    @classmethod
    def of(
        cls,
        theta: ArrayLike,
        theta_unit: AngleUnit,
        axis: float | None,
        shifts: ArrayLike | None,
        detectors: int,
        n: int,
    ) -> Geometry:
        """Check what a caller gave."""
        centre = axis_positions(axis, detectors, n)
        if shifts is not None:
            moves = np.asarray(shifts, np.float64)
            if moves.shape != (n,) or not np.isfinite(moves).all():
                raise ValueError(
                    f"shifts must be {n} finite numbers, one per projection, not of shape {moves.shape}"
                )
            centre = centre + moves
        return cls(radians(theta, theta_unit, n), centre)


def extended_size(geometry: Geometry, detectors: int) -> int:
    """Return rows and columns of a slice that holds all that opposite projections see together."""
    axis = geometry.axis
    return 2 * int(np.floor(max(axis.max(), detectors - 1 - axis.min()))) + 1


def complete_opposite(projections: Array, geometry: Geometry) -> Array:
    """Weigh projections of a full turn so that opposite ones complete each other beyond the shorter side of the axis.

    Rays within the shorter side are seen twice; their shares add up to one, and fall to nothing where the detector ends.

    Raises
    ------
    ValueError
        The angles don't cover a full turn, or the axis lies beyond the detector.
    """
    if not covers_full_turn(geometry.angles):
        raise ValueError(
            "extended needs a full turn, so that opposite projections complete each other"
        )
    detectors = projections.shape[-1]
    before, after = float(geometry.axis.min()), detectors - 1 - float(geometry.axis.max())
    half = min(before, after) + 1.0
    if half <= 0:
        raise ValueError("extended needs the rotation axis on the detector in every projection")
    side = 1.0 if after >= before else -1.0
    u = side * (np.arange(detectors) - geometry.axis[:, None]) / half
    share = 2.0 * np.sin(0.25 * np.pi * (1.0 + np.clip(u, -1.0, 1.0))) ** 2
    return projections * share.astype(projections.dtype)


def continue_edges(padded: Array, before: int, after: int, reach: int) -> None:
    """Let projections fall from their outermost values to nothing beyond both ends, in place."""
    fall = (0.5 + 0.5 * np.cos(np.pi * (np.arange(reach) + 0.5) / reach)).astype(padded.dtype)
    stop = padded.shape[-1] - after
    few = min(_EDGE_PIXELS, stop - before)
    left = padded[..., before : before + few].mean(axis=-1, keepdims=True)
    right = padded[..., stop - few : stop].mean(axis=-1, keepdims=True)
    padded[..., before - reach : before] = left * fall[::-1]
    padded[..., stop : stop + reach] = right * fall
