"""An object of ellipses, whose projections are known in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from soct.simulate import ellipses
from soct.simulate.ellipses import Ellipse

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
    # Here y points up in the slice.
    made = [
        Ellipse(value, radius * x, -radius * y, radius * a, radius * b, -turn)
        for value, x, y, a, b, turn in OBJECT
    ]
    return ellipses.sinogram(made, angles, cols, axis=axis)


def noisy(values: FloatVector, share: float, seed: int = 0) -> FloatVector:
    """Add noise of a share of the largest value."""
    rng = np.random.default_rng(seed)
    return values + share * np.abs(values).max() * rng.standard_normal(values.shape)
