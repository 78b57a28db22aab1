"""What most slices say of the shift of each projection: a robust mean, weighed by how sure each slice is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.tomography.gauge import gauge_basis

Array = NDArray[np.float64]
Vector = NDArray[np.float64]

SURE_PX = 1e-3
"""No slice is taken to be surer than this: what is interpolated is not."""
_UNKNOWN_PX = 1e3
_ROUNDS = 10
_TUKEY = 4.685
_LEAST_VOTE = 1e-6


@dataclass(frozen=True)
class Consensus:
    """What `agree` found.

    Attributes
    ----------
    shifts : float64 ndarray (n,)
        Pixels.
    uncertainties : float64 ndarray (n,)
        Standard deviations, pixels: of the scatter between slices, and at least of their noise.
    weights : float64 ndarray (slices, n)
        With which each slice had its say, relative to the largest; 0 where it disagrees with most.
    """

    shifts: Vector
    uncertainties: Vector
    weights: Array


def agree(shifts: Array, uncertainties: Array, angles: Vector) -> Consensus:
    """Average shifts over slices: robustly, weighed by their precision.

    Parameters
    ----------
    shifts : float64 ndarray (slices, n)
        Pixels. Slices may differ by a motion of the whole object: each is moved to where most are.
    uncertainties : float64 ndarray (slices, n)
        Standard deviations, pixels; NaN or infinite where a slice cannot tell.
    angles : float64 ndarray (n,)
        Radians.

    Notes
    -----
    Tukey's biweight about a weighted median, after Beaton and Tukey (1974).
    """
    sure = np.where(np.isfinite(uncertainties), np.maximum(uncertainties, SURE_PX), _UNKNOWN_PX)
    precision = 1.0 / sure**2
    weights, votes = precision, np.ones_like(precision)
    mean = weighted_median(shifts, weights)
    basis = gauge_basis(angles)
    rest = shifts - mean
    for _ in range(_ROUNDS):
        # Slices whose gauge was fitted to spoilt projections are moved to where the others are.
        away = shifts - mean
        amounts = [
            np.linalg.lstsq(basis * w[:, None] ** 0.5, d * w**0.5, rcond=1e-10)[0]
            for w, d in zip(weights, away, strict=True)
        ]
        rest = away - np.stack([basis @ a for a in amounts])
        scale = np.maximum(1.4826 * weighted_median(np.abs(rest), precision), sure)
        votes = np.clip(1 - (rest / (_TUKEY * scale)) ** 2, 0, None) ** 2
        # A slice that disagrees about most projections agrees about the others by chance.
        votes[np.median(votes, axis=1) == 0] = 0.0
        weights = np.maximum(votes, _LEAST_VOTE) * precision
        mean = mean + (weights * rest).sum(axis=0) / weights.sum(axis=0)
    total = weights.sum(axis=0)
    others = max(1, len(shifts) - 1)
    scatter = np.sqrt((weights * rest**2).sum(axis=0) / total / others)
    heard = np.where(votes > _LEAST_VOTE, weights, 0.0)
    return Consensus(
        mean, np.maximum(scatter, np.sqrt(1.0 / total)), heard / max(float(heard.max()), 1e-300)
    )


def weighted_median(values: Array, weights: Array) -> Vector:
    """Return along the first axis the value below and above which lies half of the weight."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, 0)
    summed = np.cumsum(np.take_along_axis(weights, order, 0), axis=0)
    half = 0.5 * summed[-1]
    low = np.argmax(summed >= half * (1 - 1e-12), axis=0)[None]
    high = np.argmax(summed > half * (1 + 1e-12), axis=0)[None]
    both = np.take_along_axis(ordered, low, 0) + np.take_along_axis(ordered, high, 0)
    return np.asarray(0.5 * both[0])
