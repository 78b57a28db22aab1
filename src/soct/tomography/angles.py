"""Angles of projections: degrees or radians to radians, and the share of the turn that each stands for."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

AngleUnit = Literal["auto", "rad", "deg"]

# A full turn in radians, with room for the last steps of a stage that overshoots. No tomography spans so few degrees.
_LONGEST_IN_RADIANS = 2 * np.pi + 0.1
# A step so many times as wide as the mean, and as both steps beside it, is a missing wedge.
_WEDGE = 5.0


def radians(
    theta: ArrayLike, unit: AngleUnit = "auto", count: int | None = None
) -> NDArray[np.float64]:
    """Return angles in radians.

    Parameters
    ----------
    theta : array_like (n,)
        Angles in any order, evenly spaced or not.
    unit : {"auto", "rad", "deg"}
        "auto" takes angles that span at most 2 pi (and a little) for radians. Several turns in radians need "rad".
    count : int, optional
        How many projections there are.

    Returns
    -------
    float64 ndarray (n,)
        A copy; order and whole turns are kept.

    Raises
    ------
    ValueError
        Not finite, not one-dimensional, not as many as projections, or an unknown unit.

    Examples
    --------
    >>> radians([0, 90, 180]).round(3)
    array([0.   , 1.571, 3.142])
    >>> radians([0.0, 1.5, 3.0])
    array([0. , 1.5, 3. ])
    """
    if unit not in ("auto", "rad", "deg"):
        raise ValueError(f'theta_unit must be "auto", "rad" or "deg", not {unit!r}')
    angles = np.array(theta, dtype=np.float64)
    if angles.ndim == 2 and 1 in angles.shape:
        angles = angles.ravel()
    if angles.ndim != 1 or angles.size == 0:
        raise ValueError(
            f"theta must be a list of angles, one per projection; it has the shape {angles.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(angles))
    if bad.size:
        raise ValueError(
            f"theta must be finite; angle {bad[0]} is {angles[bad[0]]} ({bad.size} such angles in all)"
        )
    if count is not None and angles.size != count:
        raise ValueError(
            f"theta must have one angle per projection: {count} projections, {angles.size} angles"
        )
    in_degrees = unit == "deg" or (unit == "auto" and np.ptp(angles) > _LONGEST_IN_RADIANS)
    return np.deg2rad(angles) if in_degrees else angles


def covers_full_turn(angles: NDArray[np.float64]) -> bool:
    """Whether projections lie all around the object, so that opposite ones show it mirrored.

    Parameters
    ----------
    angles : ndarray (n,)
        Radians, any order.

    Notes
    -----
    False for half a turn and a few degrees more, as acquired with both ends for a check; a gap of 10 degrees, or of three
    mean steps, still makes a full turn.
    """
    gaps, _ = _gaps(angles, 2 * np.pi)
    return bool(gaps.max() <= max(np.deg2rad(10), 3 * 2 * np.pi / len(gaps)))


def angular_weights(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of the half turn that each projection stands for.

    Rays from opposite sides measure the same, so angles count modulo pi; a projection stands for what lies nearer to its
    angle than to any other, and equal angles share it. A back-projection weighed so needs neither even spacing
    nor a whole number of half turns.

    Parameters
    ----------
    angles : ndarray (n,)
        Radians, any order; half a turn, a full one, or several.

    Returns
    -------
    float64 ndarray (n,)
        Radians. Their sum is pi, less where a wedge is missing: the projections beside a step of more than five times the mean
        (and five times both of its neighbours) stand for no more of it than for a mean step.
    """
    gaps, where = _gaps(angles, np.pi)
    distinct = len(gaps)
    mean = np.pi / distinct
    if distinct > 2:
        beside = np.maximum(np.roll(gaps, 1), np.roll(gaps, -1))
        missing = gaps > _WEDGE * np.maximum(beside, mean)
        gaps = np.where(missing, mean, gaps)
    cells = 0.5 * (gaps + np.roll(gaps, 1))
    sharing = np.bincount(where, minlength=distinct)
    weights: NDArray[np.float64] = (cells / sharing)[where]
    return weights


def _gaps(
    angles: NDArray[np.float64], period: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Measure the step from each distinct angle to the next one around; also say which of them each angle is."""
    turned = np.mod(angles, period)
    # Rounding must neither part equal angles nor set 0 and one period apart.
    turned[period - turned < 1e-9] = 0.0
    order = np.argsort(turned, kind="stable")
    steps = np.diff(turned[order])
    rank = np.concatenate([[0], np.cumsum(steps > 1e-9)])
    where = np.empty(angles.size, np.int64)
    where[order] = rank
    first = turned[order][np.concatenate([[True], steps > 1e-9])]
    return np.diff(np.append(first, first[0] + period)), where
