"""Sinograms in closed form: ellipses, averaged over detector pixels, each projection displaced by any amount."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from soct.simulate import ellipses
from soct.simulate.ellipses import shepp_logan

Array = NDArray[np.float64]


def sinogram(
    angles: Array,
    shifts: Array | None = None,
    *,
    detectors: int = 256,
    field: float | None = None,
    axis: float | None = None,
    derivatives: bool = False,
) -> Array:
    """Line integrals (or their derivatives) of the head of Shepp and Logan, ``(detectors, n)``; `field` is its width in pixels."""
    middle = detectors // 2 if axis is None else axis
    displaced = np.zeros(len(angles)) if shifts is None else shifts
    head = shepp_logan((detectors if field is None else field) + 1)
    return ellipses.sinogram(
        head, angles, detectors, axis=middle + displaced, derivative=derivatives
    )


def noisy(values: Array, share: float, seed: int) -> Array:
    """Add white noise of a share of the greatest value."""
    return values + share * values.max() * np.random.default_rng(seed).standard_normal(values.shape)
