"""The mass of projections: where its centre lies, and how it is spread over the rows.

What a projection of line integrals sums to in a row is the mass of that slice of the object, from whatever angle it is seen, as
long as nothing of it leaves the field of view sideways. So all projections of a stack have the same sums per row but for
their vertical displacement, and the same is used to align them.

Everything needed is read in one pass over the stack: sums over columns ``(n, rows)`` and over rows ``(n, cols)``. Shifting a
projection and summing it along the other axis is the same as summing and then shifting, so no image is shifted here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.tomography.aligned import shift_signals
from soct.tomography.projections import Stack, as_shiftstack, as_stack, plane_of
from soct.tomography.shifts import ShiftMethod, check_method

Profiles = NDArray[np.float64]


class Region(NamedTuple):
    """Part of an aligned projection: rows from `top` to before `bottom`, columns from `left` to before `right`."""

    top: int
    bottom: int
    left: int
    right: int


def as_region(lims: Any, rows: int, cols: int, name: str = "lims") -> Region:
    """Return the region that limits name.

    Parameters
    ----------
    lims : None, (top, bottom) or ((top, bottom), (left, right))
        Whole projections, rows of the whole width, or rows and columns; the last row and column are left out, as in slices.
    rows, cols : int
        Size of a projection.

    Raises
    ------
    ValueError
        Limits that are no whole numbers, or beyond the projection.
    """
    if lims is None:
        return Region(0, rows, 0, cols)
    try:
        values = np.asarray(lims, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape not in ((2,), (2, 2)) or not np.isfinite(values).all() or (values % 1).any():
        raise ValueError(
            f"{name} must be None, (top, bottom) or ((top, bottom), (left, right)) in whole pixels, not {lims!r}"
        )
    pairs = [(0, rows), (0, cols)]
    for k, (first, last) in enumerate(np.atleast_2d(values).astype(int).tolist()):
        if not 0 <= first < last <= pairs[k][1]:
            what = ("rows", "columns")[k]
            raise ValueError(
                f"{name}: limits of {what} must rise within 0 to {pairs[k][1]}, not {first} to {last}"
            )
        pairs[k] = (first, last)
    return Region(*pairs[0], *pairs[1])


def window_weights(size: int, first: float, last: float, shift: float) -> NDArray[np.float64]:
    """How much of each sample lies in the window from `first` to before `last` of the shifted signal.

    The window of the shifted signal lies `shift` samples further on in the measured one; samples at its ends count in part.
    """
    if first <= 0 and last >= size:
        return np.ones(size)
    at = np.arange(size)
    inside: NDArray[np.float64] = np.minimum(at + 1, last + shift) - np.maximum(at, first + shift)
    return np.clip(inside, 0.0, 1.0)


def mass_profiles(
    stack: Stack,
    region: Region,
    shifts: NDArray[np.float64],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Profiles, Profiles]:
    """Sum every projection over the columns, and over the rows, of a region.

    Parameters
    ----------
    stack : (n, rows, cols)
    region : Region
        In aligned projections; in each measured one it lies displaced by that one's shift.
    shifts : ndarray (2, n)
    progress : callable, optional

    Returns
    -------
    over_columns : float64 ndarray (n, rows)
        For every row of the measured projection.
    over_rows : float64 ndarray (n, cols)
        For every column of the measured projection.
    """
    n, rows, cols = stack.shape
    over_columns, over_rows = np.empty((n, rows)), np.empty((n, cols))
    for k in range(n):
        plane = plane_of(stack, k)
        if np.iscomplexobj(plane):
            raise ValueError(
                "A mass is a sum of real numbers: give the phase of complex projections"
            )
        across = window_weights(cols, region.left, region.right, shifts[1, k])
        down = window_weights(rows, region.top, region.bottom, shifts[0, k])
        over_columns[k] = _weighted_sum(plane, across)
        over_rows[k] = _weighted_sum(plane.T, down)
        if progress is not None:
            progress(k + 1, n)
    return over_columns, over_rows


def _weighted_sum(plane: NDArray[Any], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis, in double precision."""
    used = np.flatnonzero(weights)
    if used.size == 0:
        return np.zeros(len(plane))
    first, last = int(used[0]), int(used[-1]) + 1
    part = plane[:, first:last]
    total: NDArray[np.float64] = part.sum(axis=1, dtype=np.float64)
    # At most one sample at each end counts in part.
    for k in {first, last - 1}:
        if weights[k] != 1.0:
            total = total - (1.0 - weights[k]) * plane[:, k]
    return total


def remove_polynomials(signals: Profiles, order: int) -> Profiles:
    """Take off every signal ``(n, samples)`` the polynomial of degree `order` that fits it best."""
    basis = polynomials(signals.shape[1], order)
    without: Profiles = signals - (signals @ basis) @ basis.T
    return without


@lru_cache(maxsize=2048)
def polynomials(size: int, order: int) -> NDArray[np.float64]:
    """Orthonormal polynomials of degrees 0 to `order` over `size` samples: ``(size, order + 1)``, not to be written to."""
    at = np.linspace(-1.0, 1.0, size) if size > 1 else np.zeros(1)
    basis = np.polynomial.legendre.legvander(at, min(order, size - 1))
    orthonormal: NDArray[np.float64] = np.linalg.qr(basis)[0]
    orthonormal.flags.writeable = False
    return orthonormal


def check_order(polyorder: Any) -> int:
    """Return a degree of polynomials, a whole number of at least 0."""
    if polyorder != int(polyorder) or polyorder < 0:
        raise ValueError(f"polyorder must be a whole number of at least 0, not {polyorder!r}")
    return int(polyorder)


def center_of_mass_stack(
    stack: Stack,
    lims: Any,
    shiftstack: ArrayLike,
    shift_method: ShiftMethod = "fourier",
) -> NDArray[np.float64]:
    """Find the centre of mass of every projection, as it lies once the projection is shifted.

    Parameters
    ----------
    stack : (n, rows, cols)
        Line integrals; what adds to all pixels alike (a background) draws the centre to that of the region.
    lims : None, (top, bottom) or ((top, bottom), (left, right))
        Region of the shifted projection that is looked at; None is all of it.
    shiftstack : array_like (2, n)
        Vertical and horizontal, pixels.
    shift_method : {"fourier", "linear", "spline"}
        See `soct.tomography.ShiftFunc`.

    Returns
    -------
    float64 ndarray (2, n)
        Vertical and horizontal, pixels; 0 is the centre of the first pixel of the projection, whatever the region.

    Raises
    ------
    ValueError
        A projection without mass, shapes that do not fit, NaN.
    """
    stack = as_stack(stack)
    n, rows, cols = stack.shape
    shifts = as_shiftstack(shiftstack, n)
    region = as_region(lims, rows, cols)
    method = check_method(shift_method, "shift_method")
    profiles = mass_profiles(stack, region, shifts)
    limits = (region.top, region.bottom), (region.left, region.right)
    return np.stack(
        [
            first_moments(shift_signals(profile, shift, method), *limit)
            for profile, shift, limit in zip(profiles, shifts, limits, strict=True)
        ]
    )


def first_moments(signals: Profiles, first: int, last: int) -> NDArray[np.float64]:
    """Centre of mass of every signal, of its samples from `first` to before `last`."""
    part = signals[:, first:last]
    mass = part.sum(axis=1)
    empty = np.flatnonzero(np.abs(mass) <= 1e-9 * np.abs(part).sum(axis=1))
    if empty.size:
        raise ValueError(
            f"Projection {empty[0]} has no centre of mass: its values add up to nothing within the limits "
            f"({empty.size} such projections in all)"
        )
    moments: NDArray[np.float64] = (part @ np.arange(first, last)) / mass
    return moments


def vertical_fluctuations(
    stack: Stack,
    lims: Any,
    shiftstack: ArrayLike,
    shift_method: ShiftMethod = "fourier",
    polyorder: int = 2,
) -> Profiles:
    """Sum every shifted projection over its columns, and take off what changes slowly over the rows.

    Parameters
    ----------
    stack : (n, rows, cols)
    lims : None, (top, bottom) or ((top, bottom), (left, right))
        Region of the shifted projection; None is all of it.
    shiftstack : array_like (2, n)
        Vertical and horizontal, pixels.
    shift_method : {"fourier", "linear", "spline"}
        How signals are shifted along the rows, see `soct.tomography.ShiftFunc`; limits of columns move along.
    polyorder : int
        Polynomials of degrees 0 to this one are removed, per projection.

    Returns
    -------
    float64 ndarray (n, bottom - top)
        The same for all projections where they are aligned.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, an unknown method.
    """
    stack = as_stack(stack)
    n, rows, cols = stack.shape
    shifts = as_shiftstack(shiftstack, n)
    region = as_region(lims, rows, cols)
    method, order = check_method(shift_method, "shift_method"), check_order(polyorder)
    profiles, _ = mass_profiles(stack, region, shifts)
    moved = shift_signals(profiles, shifts[0], method)
    return remove_polynomials(moved[:, region.top : region.bottom], order)
