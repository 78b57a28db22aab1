"""Blocks of voxels taken as one: means of intensities, the middle voxel of labels."""

from __future__ import annotations

import numpy as np

from soct.geometry.orientation import Shape
from soct.space import Array


def reduce_blocks(data: Array, factors: Shape, *, labels: bool = False) -> Array:
    """Return a copy with blocks of voxels taken as one; voxels at the end that fill no block are left out.

    Parameters
    ----------
    data : ndarray, shape (Z, Y, X)
        Intensities or labels.
    factors : tuple of int
        Edges of a block. An axis shorter than its factor is taken as one block.
    labels : bool
        Take the middle voxel instead of the mean, which becomes float32.
    """
    if factors == (1, 1, 1):
        return data.copy()
    factors = clip_factors(data.shape, factors)
    if labels:
        middle = tuple(
            slice(f // 2, n // f * f, f) for n, f in zip(data.shape, factors, strict=True)
        )
        return np.ascontiguousarray(data[middle])
    z, y, x = (n // f for n, f in zip(data.shape, factors, strict=True))
    fz, fy, fx = factors
    means = np.empty((z, y, x), np.float32)
    for k in range(z):
        block = data[k * fz : (k + 1) * fz, : y * fy, : x * fx]
        means[k] = block.reshape(fz, y, fy, x, fx).mean(axis=(0, 2, 4), dtype=np.float64)
    return means


def clip_factors(shape: tuple[int, ...], factors: Shape) -> Shape:
    """Return factors of which none is longer than its axis."""
    z, y, x = (max(1, min(int(f), n)) for n, f in zip(shape, factors, strict=True))
    return z, y, x
