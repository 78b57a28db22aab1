"""Opposite projections are mirror images: the axis is where one lies on the other turned over.

Half a turn apart, rays run through the same points in opposite directions, so ``p(s, theta + pi) = p(2 c - s, theta)`` for the axis `c`.
Nothing else is asked of the object: it may reach beyond the detector, on one side by nearly half of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage as ndi

FloatVector = NDArray[np.float64]

# Columns that two opposite projections share at least.
_FEWEST = 16
_MOST_STEPS = 30
_SMOOTH_PX = 1.5
# Pairs that agree to this are never outliers.
_FINEST_PX = 0.002


@dataclass(frozen=True)
class OppositePairs:
    """Projections and, for each, the one from behind, interpolated between its two nearest.

    Attributes
    ----------
    first : ndarray (k,)
        Indices of projections.
    before, after : ndarray (k,)
        Indices of the two nearest to the opposite angle.
    share : ndarray (k,)
        Weight of `after`; that of `before` is 1 minus this.
    """

    first: NDArray[np.int64]
    before: NDArray[np.int64]
    after: NDArray[np.int64]
    share: FloatVector

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.first)

    def behind(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return the projections from behind, of images ``(n, ...)``."""
        share = self.share.reshape(-1, *[1] * (images.ndim - 1)).astype(images.dtype)
        return (1 - share) * images[self.before] + share * images[self.after]


def find_opposite(angles: FloatVector) -> OppositePairs:
    """Pair every projection of the first half of a scan with what was seen from behind.

    Parameters
    ----------
    angles : ndarray (n,)
        Radians, any order.

    Returns
    -------
    OppositePairs
        Only where projections lie on both sides of the opposite angle, within one step and a half (the median step), or at it.
    """
    turned = np.mod(angles, 2 * np.pi)
    order = np.argsort(turned, kind="stable")
    ring = turned[order]
    steps = np.diff(np.unique(np.round(ring, 9)))
    step = float(np.median(steps)) if steps.size else 0.0
    wanted = np.mod(turned + np.pi, 2 * np.pi)
    right = np.searchsorted(ring, wanted - 1e-6)
    above = np.mod(ring[right % len(ring)] - wanted + 1e-6, 2 * np.pi) - 1e-6
    below = np.mod(wanted - ring[right - 1] - 1e-6, 2 * np.pi) + 1e-6
    exact = np.abs(above) < 2e-6
    good = exact | ((above + below) <= 1.5 * step + 2e-6)
    # Each pair once: of two that are each other's opposite the one in the first half.
    chosen = np.flatnonzero(good & (turned < np.pi - 1e-6))
    share = np.where(exact, 1.0, below / np.maximum(above + below, 1e-12))
    return OppositePairs(
        chosen, order[right - 1][chosen], order[right % len(ring)][chosen], share[chosen]
    )


def likeness_of_axes(
    front: NDArray[Any], behind: NDArray[Any]
) -> tuple[FloatVector, FloatVector, FloatVector]:
    """Correlate projections with the mirrored ones from behind, for all axes half a pixel apart.

    Parameters
    ----------
    front, behind : ndarray (k, bands, cols)

    Returns
    -------
    axes, correlation, evidence : ndarray (m,)
        Detector coordinates; the correlation of slopes over the columns that both show; and the same as a number of standard
        deviations, so that a few columns that agree by chance do not win.
    """
    first, second = (_slopes(images) for images in (front, behind))
    cols = first.shape[-1]
    size = scipy.fft.next_fast_len(2 * cols, real=True)
    product = np.zeros(size // 2 + 1, np.complex128)
    for a, b in zip(first, second, strict=True):
        product += (np.fft.rfft(a, size) * np.fft.rfft(b, size)).sum(axis=0)
    # Mirrored slopes have the other sign.
    cross = -np.fft.irfft(product, size)[: 2 * cols - 1]
    sums = np.arange(2 * cols - 1)
    low, high = np.maximum(sums - cols + 1, 0), np.minimum(sums, cols - 1)
    energy = []
    for images in (first, second):
        squares = (images**2).sum(axis=(0, 1))
        running = np.concatenate([[0.0], np.cumsum(squares)])
        energy.append(running[high + 1] - running[low])
    correlation = cross / np.sqrt(np.maximum(energy[0] * energy[1], 1e-30 * cross.max() ** 2 + 1e-300))  # fmt: skip
    shared = high - low + 1
    correlation = np.where(shared >= min(_FEWEST, cols), np.clip(correlation, -1, 1), 0.0)
    evidence = np.arctanh(np.clip(correlation, -0.9999, 0.9999)) * np.sqrt(shared)
    # A slope lies half a pixel to the right of the pixel that it is counted for.
    return sums / 2 + 0.5, correlation, evidence


def _slopes(images: NDArray[Any]) -> FloatVector:
    smooth = ndi.gaussian_filter1d(np.asarray(images, np.float64), 1.0, axis=-1, mode="nearest")
    return np.diff(smooth, axis=-1)


@dataclass(frozen=True)
class PairFit:
    """The axis that opposite projections agree on.

    Attributes
    ----------
    axis, uncertainty : float
        Detector coordinate and its standard deviation.
    row_axes, row_uncertainties : ndarray (bands,)
        The same of each band of rows; infinite uncertainty where a band says nothing.
    left_out : int
        Pairs that disagree with the others so far that they lost more than half of their vote.
    """

    axis: float
    uncertainty: float
    row_axes: FloatVector
    row_uncertainties: FloatVector
    left_out: int


def register_opposite(front: NDArray[Any], behind: NDArray[Any], start: float) -> PairFit:
    """Find the axis about which projections and those from behind are mirror images.

    Parameters
    ----------
    front, behind : ndarray (k, bands, cols)
    start : float
        Detector coordinate, within some pixels.

    Returns
    -------
    PairFit

    Notes
    -----
    Least squares over the columns that both show, a straight line left out of each row: steps of Gauss and Newton for all pairs
    together, in which pairs that would go elsewhere lose their vote.
    """
    front, behind = (np.asarray(v, np.float64) for v in (front, behind))
    cols = front.shape[-1]
    coefficients = ndi.spline_filter1d(behind[..., ::-1], 3, axis=-1, mode="mirror")
    slope = _smooth_slope(front)
    window = _window(cols, start, min(start, cols - 1 - start) - 2.0)
    axis, votes = float(start), np.ones(len(front))
    pull, hold = np.zeros((2, *front.shape[:2]))
    for _ in range(_MOST_STEPS):
        pull, hold = _normal_equations(front, slope, coefficients, axis, window)
        votes = _votes(pull.sum(axis=1), hold.sum(axis=1))
        total = float((votes @ hold).sum())
        step = float((votes @ pull).sum()) / total if total > 0 else 0.0
        axis = float(np.clip(axis + np.clip(step, -1.0, 1.0), 1.0, cols - 2.0))
        if abs(step) < 1e-6:
            break
    uncertainty = float(_spread(votes, pull.sum(axis=1)[:, None], hold.sum(axis=1)[:, None])[0])
    held = votes @ hold
    rows = axis + (votes @ pull) / np.maximum(held, 1e-300)
    sigma = _spread(votes, pull, hold)
    return PairFit(axis, uncertainty, rows, sigma, int((votes < 0.5).sum()))


def _window(cols: int, centre: float, half: float) -> FloatVector:
    """Return weights of columns: a raised cosine over the outer fifth of the shared part, 0 outside of it."""
    inside = (half - np.abs(np.arange(cols) - centre)) / max(0.2 * half, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * np.clip(inside, 0, 1))


def _normal_equations(
    front: FloatVector,
    slope: FloatVector,
    coefficients: FloatVector,
    axis: float,
    window: FloatVector,
) -> tuple[FloatVector, FloatVector]:
    """Return what pulls the axis of every pair and band, and how firmly it is held, ``(k, bands)``."""
    cols = front.shape[-1]
    mirrored = _moved(coefficients, 2 * axis - (cols - 1))
    rest = _without_line(front - mirrored, window)
    first, second = (_without_line(v, window) for v in (slope, _smooth_slope(mirrored)))
    # The mirror image moves by twice what the axis moves. Noise of front and behind is not the same, so that their product
    # holds the axis no firmer than the object does.
    pull = -(window * rest * (first + second)).sum(axis=-1)
    return pull, 4.0 * (window * first * second).sum(axis=-1)


def _smooth_slope(images: FloatVector) -> FloatVector:
    return ndi.gaussian_filter1d(images, _SMOOTH_PX, axis=-1, order=1, mode="nearest")


def _moved(coefficients: FloatVector, shift: float) -> FloatVector:
    """Return a cubic spline moved to the right along the last axis, its edge values repeated."""
    whole = int(np.floor(-shift))
    f = -shift - whole
    weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, 3 * (1 - f) ** 3 - 6 * (1 - f) ** 2 + 4, f**3)
    cols = coefficients.shape[-1]
    moved = np.zeros_like(coefficients)
    for k, weight in enumerate(weights):
        moved += weight / 6 * coefficients[..., np.clip(np.arange(cols) + whole + k - 1, 0, cols - 1)]  # fmt: skip
    return moved


def _votes(pull: FloatVector, hold: FloatVector) -> FloatVector:
    """Return the vote of every pair: none where it would go far beyond most others (Tukey's biweight)."""
    held = np.maximum(hold, 0.0)
    if not held.any():
        return np.ones(len(pull))
    away = np.where(held > 0, pull / np.maximum(held, 1e-300), 0.0)
    order = np.argsort(away)
    middle = away[order][np.searchsorted(np.cumsum(held[order]), 0.5 * held.sum())]
    # In units of what pairs are held by: one that says little may go far.
    usual = float(np.median(held[held > 0]))
    spread = np.abs(pull - middle * hold) / np.sqrt(np.maximum(np.abs(hold), usual))
    scale = max(1.4826 * float(np.median(spread)), _FINEST_PX * float(np.sqrt(usual)))
    return (1 - np.minimum(spread / (6 * scale), 1.0) ** 2) ** 2


def _spread(votes: FloatVector, pull: FloatVector, hold: FloatVector) -> FloatVector:
    """Return standard deviations of axes, from how the pulls of the pairs scatter (sandwich estimate)."""
    total = votes @ hold
    step = (votes @ pull) / np.maximum(total, 1e-300)
    scatter = np.sqrt((votes**2) @ (pull - step * hold) ** 2)
    few = np.sqrt(len(pull) / max(len(pull) - 1, 1))
    return np.where(total > 0, few * scatter / np.maximum(total, 1e-300), np.inf)


def _without_line(values: FloatVector, window: FloatVector) -> FloatVector:
    """Take a weighted straight line out of every row."""
    x = np.arange(values.shape[-1]) - (window * np.arange(values.shape[-1])).sum() / window.sum()
    mean = (values @ window)[..., None] / window.sum()
    tilt = (values @ (window * x))[..., None] / (window * x * x).sum()
    return np.asarray(values - mean - tilt * x)
