"""What projections cannot tell about their own shifts.

An object that lies elsewhere in its slice moves every projection by ``a cos(theta) + b sin(theta)``: such shifts are consistent
whatever ``a`` and ``b``. A constant is not of this kind: it moves the rotation axis on the detector, which opposite
projections (or, over half a turn, the first and the last) show. Shifts are compared without all three, since over half a
turn a constant is much like a sine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatVector = NDArray[np.float64]


def gauge_basis(angles: FloatVector, constant: bool = True) -> NDArray[np.float64]:
    """Return cos and sin of the angles, after 1 if `constant`, as columns ``(n, 2 or 3)``."""
    columns = [np.cos(angles), np.sin(angles)]
    if constant:
        columns.insert(0, np.ones_like(angles))
    return np.stack(columns, axis=1)


def gauge_part(
    shifts: FloatVector, angles: FloatVector, *, fitted_constant: bool = True, constant: bool = True
) -> FloatVector:
    """Return the part of shifts that is a motion of the whole object.

    Parameters
    ----------
    shifts : ndarray (n,)
        Pixels.
    angles : ndarray (n,)
        Radians.
    fitted_constant : bool
        Fit a constant beside cos and sin. Over half a turn the three are alike: without it, a wrong axis
        would be taken for a motion of the object.
    constant : bool
        Whether the part returned contains that constant.
    """
    basis = gauge_basis(angles, fitted_constant)
    amounts = np.linalg.lstsq(basis, shifts, rcond=1e-10)[0]
    if fitted_constant and not constant:
        amounts[0] = 0.0
    return np.asarray(basis @ amounts)


def remove_gauge(shifts: FloatVector, angles: FloatVector) -> FloatVector:
    """Return shifts less the best fit of a constant, cos and sin of the angles."""
    return np.asarray(shifts - gauge_part(shifts, angles))


def shift_error(found: FloatVector, truth: FloatVector, angles: FloatVector) -> float:
    """Return the root mean square difference of shifts, pixels, less constant, cos and sin."""
    return float(np.sqrt(np.mean(remove_gauge(found - truth, angles) ** 2)))


def slow_changes(angles: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Orthonormal functions of the angle: a constant and harmonics up to an order."""
    waves = [np.ones_like(angles)]
    for k in range(1, order + 1):
        waves += [np.cos(k * angles), np.sin(k * angles)]
    left, singular, _ = np.linalg.svd(np.stack(waves, axis=1), full_matrices=False)
    return np.asarray(left[:, singular > 1e-6 * singular[0]])
