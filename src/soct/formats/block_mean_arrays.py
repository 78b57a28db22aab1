"""Means over blocks of voxels over an array module: CuPy on a GPU, numpy as the plain reference."""

from __future__ import annotations

from typing import Any

import numpy as np


def block_means(xp: Any, data: Any, mask: Any, factors: tuple[int, int, int]) -> tuple[Any, Any]:
    """Mean of valid voxels over blocks, as `soct.formats.block_means.reduce_planes` makes it.

    Sums are double precision: means agree to the last bit but one of float32.

    Parameters
    ----------
    xp : module
        The array module of all arrays given.
    data : float32 array (z, y, x)
        0 where `mask` is 0.
    mask : uint8 array (z, y, x)
    factors : (int, int, int)
        Size of a block; those at the far edges may be smaller.

    Returns
    -------
    means : float32 array
    any_valid : uint8 array
    """
    widths = [(0, -n % f) for n, f in zip(data.shape, factors, strict=True)]
    blocks = [v for n, f in zip(data.shape, factors, strict=True) for v in (-(-n // f), f)]
    total, count = (
        xp.pad(a, widths).reshape(blocks).sum(axis=(1, 3, 5), dtype=kind)
        for a, kind in ((data, xp.float64), (mask, xp.int64))
    )
    seen = count > 0
    means = (total / xp.where(seen, count, 1)).astype(xp.float32)
    smallest = xp.float32(np.finfo(np.float32).tiny)
    return xp.where(seen, xp.maximum(means, smallest), xp.float32(0)), seen.astype(xp.uint8)
