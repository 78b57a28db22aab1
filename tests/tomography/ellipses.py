"""Ellipses, whose projections are known in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatVector = NDArray[np.float64]

# Brightness, centre (x, y) and half axes as parts of the radius, turn in radians.
OBJECT = (
    (1.0, 0.10, -0.05, 0.75, 0.55, 0.4),
    (0.6, -0.30, 0.20, 0.12, 0.20, 1.1),
    (-0.5, 0.40, 0.10, 0.18, 0.08, 0.3),
    (0.8, 0.15, -0.35, 0.06, 0.06, 0.0),
    (0.4, -0.15, -0.20, 0.10, 0.05, 2.0),
)


def sinogram(cols: int, angles: FloatVector, axis: float, radius: float) -> FloatVector:
    """Return ``(cols, n)`` means over pixels of the line integrals, about an axis in detector pixels."""
    s = np.arange(cols)[:, None] - axis
    total = np.zeros((cols, len(angles)))
    for brightness, x, y, a, b, turn in OBJECT:
        a, b = a * radius, b * radius
        middle = radius * (x * np.cos(angles) + y * np.sin(angles))
        reach2 = (a * np.cos(angles - turn)) ** 2 + (b * np.sin(angles - turn)) ** 2
        edges = [_area((s - middle + half) / np.sqrt(reach2)) for half in (-0.5, 0.5)]
        total += brightness * a * b * (edges[1] - edges[0])
    return total


def _area(u: FloatVector) -> FloatVector:
    """Integral of ``2 sqrt(1 - u^2)``."""
    u = np.clip(u, -1, 1)
    return u * np.sqrt(1 - u * u) + np.arcsin(u)


def noisy(values: FloatVector, share: float, seed: int = 0) -> FloatVector:
    """Add noise of a share of the largest value."""
    rng = np.random.default_rng(seed)
    return values + share * np.abs(values).max() * rng.standard_normal(values.shape)
