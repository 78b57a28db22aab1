"""Sinograms in closed form: ellipses, averaged over detector pixels, each projection displaced by any amount."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Value, half axes, centre (in units of half the field), and angle in degrees: the modified Shepp-Logan phantom.
SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.874, 0.0, -0.0184, 0.0),
    (-0.2, 0.11, 0.31, 0.22, 0.0, -18.0),
    (-0.2, 0.16, 0.41, -0.22, 0.0, 18.0),
    (0.1, 0.21, 0.25, 0.0, 0.35, 0.0),
    (0.1, 0.046, 0.046, 0.0, 0.1, 0.0),
    (0.1, 0.046, 0.046, 0.0, -0.1, 0.0),
    (0.1, 0.046, 0.023, -0.08, -0.605, 0.0),
    (0.1, 0.023, 0.023, 0.0, -0.606, 0.0),
    (0.1, 0.023, 0.046, 0.06, -0.605, 0.0),
)


def sinogram(
    angles: Array,
    shifts: Array | None = None,
    *,
    detectors: int = 256,
    field: float | None = None,
    axis: float | None = None,
    derivatives: bool = False,
    ellipses: tuple[tuple[float, ...], ...] = SHEPP_LOGAN,
) -> Array:
    """Line integrals (or their derivatives) of ellipses, ``(detectors, n)``; `field` is the phantom's width in pixels."""
    scale = 0.5 * (detectors if field is None else field)
    middle = detectors // 2 if axis is None else axis
    displaced = np.zeros(len(angles)) if shifts is None else shifts
    x = np.arange(detectors)[:, None] - middle - displaced
    out = np.zeros((detectors, len(angles)))
    for value, a, b, x0, y0, turn in ellipses:
        phi = np.deg2rad(turn)
        half = scale * np.hypot(a * np.cos(angles - phi), b * np.sin(angles - phi))
        at = (x - scale * (x0 * np.cos(angles) + y0 * np.sin(angles))) / half
        height = 2 * value * a * b * scale**2 / half
        edges = (np.clip(at + d / half, -1, 1) for d in (0.5, -0.5))
        if derivatives:
            high, low = (height * np.sqrt(1 - t**2) for t in edges)
            out += high - low
        else:
            high, low = (0.5 * (t * np.sqrt(1 - t**2) + np.arcsin(t)) for t in edges)
            out += height * half * (high - low)
    return out


def noisy(values: Array, share: float, seed: int) -> Array:
    """Add white noise of a share of the greatest value."""
    return values + share * values.max() * np.random.default_rng(seed).standard_normal(values.shape)
