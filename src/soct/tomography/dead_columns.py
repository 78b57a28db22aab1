"""Detector columns that say nothing, or the wrong thing, in all projections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

Array = NDArray[Any]

_OUTLYING = 8.0
_REACH = 2
_MOST = 0.1


def find_dead_columns(sinogram: Array) -> NDArray[np.int64]:
    """Return columns that stand out from their neighbours in the same way in most projections.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)

    Notes
    -----
    An object turns: what it shows at one column lies elsewhere in the next projections. What stays is the detector's. Where
    it were more than a tenth of all columns, none is returned: then it is not a matter of single ones.
    """
    if len(sinogram) < 16:
        return np.zeros(0, np.int64)
    neighbours = ndi.median_filter(sinogram, (2 * _REACH + 1, 1), mode="nearest")
    apart = sinogram - neighbours
    offset = np.median(apart, axis=1)
    steady = np.abs(offset) > 2.0 * np.median(np.abs(apart - offset[:, None]), axis=1)
    scale = 1.4826 * np.median(np.abs(offset - np.median(offset)))
    floor = 1e-3 * float(np.abs(sinogram).max())
    dead = steady & (np.abs(offset) > _OUTLYING * max(scale, floor / _OUTLYING))
    # Objects that stand still around the axis, and the ends, are not told from dead columns by their neighbours.
    signal = np.median(np.abs(sinogram), axis=1)
    dead |= (np.ptp(sinogram, axis=1) == 0) & (ndi.maximum_filter1d(signal, 5) > floor)
    found = np.flatnonzero(dead)
    return found if found.size <= _MOST * len(sinogram) else np.zeros(0, np.int64)


def fill_columns(sinogram: Array, columns: NDArray[np.int64]) -> Array:
    """Return a copy with columns interpolated linearly between their neighbours."""
    good = np.setdiff1d(np.arange(len(sinogram)), columns)
    out = sinogram.copy()
    for k in range(sinogram.shape[1]):
        out[columns, k] = np.interp(columns, good, sinogram[good, k])
    return out
