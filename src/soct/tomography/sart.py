"""The simultaneous algebraic reconstruction technique (Andersen and Kak, 1984) for few or uneven projections.

An image is corrected by one projection after the other: what each ray lacks, divided by its length, goes back along the ray by the
exact transpose of the projector. Directions follow each other far apart. Limits hold after every correction, so that positivity
helps where projections are few.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.compute.backend import CPU, Backend
from soct.tomography import radon_arrays, radon_kernels
from soct.tomography.radon import PHASES, project_slices

Array = NDArray[Any]

ITERATIONS = 10
RELAXATION = 0.5

_GOLDEN = 0.5 * (np.sqrt(5.0) - 1.0)


def visiting_order(angles: Array) -> NDArray[np.int64]:
    """Return projections in an order in which directions that follow each other lie far apart."""
    by_direction = np.argsort(np.mod(angles, np.pi), kind="stable")
    return by_direction[np.argsort(np.arange(angles.size) * _GOLDEN % 1.0, kind="stable")]


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
    backend: Backend = CPU,
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
    backend : Backend
        Where it is computed.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, not {iterations}")
    if not 0.0 < relaxation < 2.0:
        raise ValueError(f"relaxation must be over 0 and below 2, not {relaxation}")
    dtype = projections.dtype
    inside = radon_arrays.disc(np, shape, radius).astype(dtype)[None]
    lengths = project_slices(inside, angles, axis, projections.shape[-1])[0]
    limits = (-np.inf if low is None else low, np.inf if high is None else high)
    order = visiting_order(angles)
    images = backend.up(np.zeros((len(projections), *shape), dtype))
    values, lengths = backend.up(projections), backend.up(lengths)
    sweep = (
        radon_kernels.sart_sweep
        if backend.compiled
        else partial(radon_arrays.sart_sweep, backend.xp)
    )
    for _ in range(iterations):
        sweep(images, values, lengths, angles, axis, order, radius, relaxation, *limits, PHASES)
    return backend.down(images)
