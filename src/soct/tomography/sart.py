"""The simultaneous algebraic reconstruction technique (Andersen and Kak, 1984) for few or uneven projections.

An image is corrected by one projection after the other: what each ray lacks, divided by its length, goes back along the ray by the
exact transpose of the projector. Directions follow each other far apart. Limits hold after every correction, so that positivity
helps where projections are few.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.tomography import radon_kernels
from soct.tomography.radon import PHASES

Array = NDArray[Any]

ITERATIONS = 5
RELAXATION = 0.5

_GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)


def visiting_order(angles: Array) -> NDArray[np.int64]:
    """Return projections in an order in which directions that follow each other lie far apart."""
    by_direction = np.argsort(np.mod(angles, np.pi), kind="stable")
    return by_direction[np.argsort(np.arange(angles.size) * _GOLDEN % 1.0, kind="stable")]


def disc(shape: tuple[int, int], radius: float, dtype: Any) -> Array:
    """Return 1 within `radius` of pixel ``(rows // 2, columns // 2)``, else 0."""
    y, x = (np.arange(n) - n // 2 for n in shape)
    return (y[:, None] ** 2 + x[None] ** 2 <= radius**2).astype(dtype)


def reconstruct_sart(
    projections: Array,
    angles: Array,
    axis: Array,
    shape: tuple[int, int],
    *,
    radius: float,
    iterations: int = ITERATIONS,
    relaxation: float = RELAXATION,
    low: float | None = None,
    high: float | None = None,
) -> Array:
    """Return slices ``(slices, rows, columns)``.

    Parameters
    ----------
    projections : array (slices, n, detectors)
        Line integrals.
    angles, axis : float64 array (n,)
        Radians; detector coordinate of the rotation axis in each projection.
    shape : (int, int)
    radius : float
        The slice is 0 beyond this distance from its centre.
    iterations : int
        How often all projections are gone through.
    relaxation : float
        Share of each correction that is made, over 0 and below 2; less is slower and takes up less noise.
    low, high : float, optional
        Limits of the values.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    if not 0.0 < relaxation < 2.0:
        raise ValueError(f"relaxation must be over 0 and below 2, not {relaxation}")
    inside = disc(shape, radius, projections.dtype)[None]
    lengths = np.zeros((1, angles.size, projections.shape[-1]), projections.dtype)
    turned = np.ascontiguousarray(inside.transpose(0, 2, 1))
    radon_kernels.project_slices(inside, turned, angles, axis, True, PHASES, lengths)
    images = np.zeros((len(projections), *shape), projections.dtype)
    order = visiting_order(angles)
    for _ in range(iterations):
        radon_kernels.sart_sweep(
            images,
            projections,
            lengths[0],
            angles,
            axis,
            order,
            radius,
            relaxation,
            -np.inf if low is None else low,
            np.inf if high is None else high,
            PHASES,
        )
    return images
