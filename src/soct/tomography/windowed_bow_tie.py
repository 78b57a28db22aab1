"""The bow-tie of a truncated object: derivatives of its projections, seen through a window.

The derivative along the detector is known wherever the projection is. What a window shows of it still changes with the angle no faster than
the object's radius allows, if it ends softly. The radius can only be guessed, moments say nothing, and slow changes are held by
little: the shifts are a start, and what they change slowly is left to the shifts given.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.tomography.bow_tie import BowTie, FirstMoments

Array = NDArray[Any]
Vector = NDArray[np.float64]

_RADIUS = 1.2
"""Of the object, as a multiple of the longer part of the detector beside the axis."""
_TAPER = 0.3
_MARGIN_ORDERS = 4.0


def shifts_through_window(
    sinogram: Array,
    angles: Vector,
    axis: float,
    shifts: Vector,
    *,
    derivatives: bool,
    expected_px: float,
    freqcutoff: float,
    maxit: int,
) -> Vector:
    """Return shifts of greatest likelihood.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
    angles : ndarray (n,)
        Radians.
    axis : float
        Detector coordinate of the rotation axis.
    shifts : ndarray (n,)
        Where to start, pixels.
    derivatives : bool
        Whether the sinogram is the derivative already.
    expected_px : float
        Standard deviation of what shifts may change by.
    freqcutoff : float
        Highest frequency, as a share of Nyquist's.
    maxit : int
    """
    detectors, n = sinogram.shape
    slopes = sinogram if derivatives else np.gradient(sinogram, axis=0)
    place = np.arange(detectors) + 0.5
    edge = np.clip(np.minimum(place, detectors - place) / (_TAPER * detectors), 0.0, 1.0)
    window = np.sin(0.5 * np.pi * edge) ** 2
    model = BowTie(
        slopes * window[:, None],
        angles,
        np.full(n, _RADIUS * max(axis, detectors - 1 - axis)),
        angles,
        axis + shifts,
        FirstMoments(axis + shifts, 0.0, expected_px**2),
        freqcutoff=freqcutoff,
        margin=_MARGIN_ORDERS,
    )
    return model.fit(axis + shifts, maxit).centres - axis
