"""Which columns of projections show the object, so that noise beside it need not be summed.

In a column that shows nothing, what is left along the rows without a polynomial is noise: neighbouring rows differ by as much as the whole
column scatters. Wherever there is structure, or noise that is not white, the column scatters by more, and is kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.tomography.mass import Region, remove_polynomials
from soct.tomography.projections import Stack, plane_of

_SAMPLE = 24
# Columns that are judged together, and how many standard deviations of the judgement count as structure.
_TOGETHER = 15
_CLEARLY = 6.0
_LEAST_PIXELS = 30_000


def without_empty_columns(
    stack: Stack, region: Region, shifts: NDArray[np.float64], order: int
) -> Region:
    """Return the region without the columns at its left and right that show nothing but noise and polynomials.

    Parameters
    ----------
    stack : (n, rows, cols)
        Some of the projections are read.
    region : Region
    shifts : ndarray (2, n)
        The horizontal ones tell where a projection's columns lie in the region.
    order : int
        Degree of the polynomials over the rows.
    """
    n, _, cols = stack.shape
    chosen = np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).astype(int))
    pixels = len(chosen) * (region.bottom - region.top) * _TOGETHER
    if pixels < _LEAST_PIXELS or cols <= 2 * _TOGETHER:
        return region
    scatter, white = np.zeros(cols), np.zeros(cols)
    for k in chosen:
        plane = plane_of(stack, int(k))[region.top : region.bottom].astype(np.float64)
        rest = remove_polynomials(np.ascontiguousarray(plane.T), order)
        move = -round(float(shifts[1, k]))
        scatter += np.roll((rest**2).sum(axis=1) / max(rest.shape[1] - order - 1, 1), move)
        white += np.roll((np.diff(rest, 2, axis=1) ** 2).mean(axis=1) / 6, move)
    scatter, white = (ndi.uniform_filter1d(v, _TOGETHER, mode="nearest") for v in (scatter, white))
    # The scatter of the difference of two estimates of one variance, one of them from second differences.
    most = 1.0 + _CLEARLY * np.sqrt(5.0 / pixels)
    shown = np.flatnonzero(scatter > most * white + 1e-12 * scatter.max())
    if shown.size == 0:
        return region
    margin = max(_TOGETHER // 2, cols // 50)
    left = max(region.left, int(shown[0]) - margin)
    right = min(region.right, int(shown[-1]) + 1 + margin)
    return region._replace(left=left, right=right) if left < right else region
