"""Aligned rows and projections of a stack, block by block: only what is asked for is ever in memory."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.space import FloatArray
from soct.tomography import compute_aligned_stack
from soct.tools.tomo_input import Projections

ShiftMethod = Literal["linear", "fourier", "spline"]
MARGIN = 16
"""Rows beside a block that its interpolation may want; farther ones change nothing that a float would hold."""


def aligned_rows(
    opened: Projections,
    shifts: NDArray[np.float64],
    rows: slice,
    method: ShiftMethod = "spline",
    *,
    horizontally: bool = True,
) -> FloatArray:
    """Return rows of all projections, aligned: ``(n, r, cols)``.

    Parameters
    ----------
    opened : Projections
    shifts : float64 ndarray (2, n)
        ``aligned[k] = measured[k + s]``.
    rows : slice
        Counted from the first row in use.
    method : {"linear", "fourier", "spline"}
    horizontally : bool
        False: only vertically.
    """
    first, last, _ = rows.indices(opened.rows)
    moved = shifts.copy()
    if not horizontally:
        moved[1] = 0.0
    everything = slice(0, opened.count)
    if not moved.any():
        return opened.read(everything, slice(first, last))
    reach = MARGIN + int(np.ceil(np.abs(moved[0]).max())) if moved[0].any() else 0
    low, high = max(0, first - reach), min(opened.rows, last + reach)
    slab = opened.read(everything, slice(low, high))
    aligned = compute_aligned_stack(slab, moved, method, out=slab)
    return np.asarray(aligned[:, first - low : last - low])


def aligned_projections(
    opened: Projections,
    shifts: NDArray[np.float64],
    projections: slice,
    method: ShiftMethod = "spline",
) -> FloatArray:
    """Return some projections, aligned: ``(m, rows, cols)``."""
    block = opened.read(projections, slice(0, opened.rows))
    moved = shifts[:, projections]
    return (
        np.asarray(compute_aligned_stack(block, moved, method, out=block)) if moved.any() else block
    )
