"""Quality measures on arrays: seams, similarity, banding, coverage, sharpness.

Each is a pure function with a value that means something alone (a ratio, a correlation), so that limits for
it can be given in a profile. Masks are True where there is data; NaN counts as no data everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi

Mask = NDArray[np.bool_]

_MIN_SAMPLES = 16
"""Fewer common pixels than this say nothing about a seam or a correlation."""


@dataclass(frozen=True)
class SeamMetrics:
    """How well two tiles agree where they overlap.

    Attributes
    ----------
    l1 : float
        Mean absolute difference over the mean brightness.
    pearson : float
        Correlation coefficient.
    step_percent : float
        Absolute difference of the medians over their mean, in percent: the step that the eye sees, free of
        the speckle that fills `l1`.
    samples : int
        Pixels compared; with too few of them the others are NaN.
    """

    l1: float
    pearson: float
    step_percent: float
    samples: int


def measure_seam(first: ArrayLike, second: ArrayLike, mask: Mask | None = None) -> SeamMetrics:
    """Compare two tiles in their overlap.

    Parameters
    ----------
    first, second : array_like, same shape
        Brightness of the overlap in either tile, already resampled onto one grid.
    mask : ndarray of bool, same shape, optional
        Where there is tissue; default everywhere.

    Returns
    -------
    SeamMetrics
        All NaN where fewer than 16 pixels are left or the brightness is zero.
    """
    a, b = _paired(first, second, mask)
    scale = 0.5 * float(a.mean() + b.mean()) if a.size else 0.0
    if a.size < _MIN_SAMPLES or scale <= 0.0:
        return SeamMetrics(np.nan, np.nan, np.nan, int(a.size))
    middle = 0.5 * float(np.median(a) + np.median(b))
    step = abs(float(np.median(a) - np.median(b))) / middle if middle > 0.0 else np.nan
    return SeamMetrics(
        l1=float(np.abs(a - b).mean()) / scale,
        pearson=_correlation(a, b),
        step_percent=100.0 * step,
        samples=int(a.size),
    )


def masked_ncc(first: ArrayLike, second: ArrayLike, mask: Mask | None = None) -> float:
    """Return the normalised cross-correlation of two images where both have data.

    Parameters
    ----------
    first, second : array_like, same shape
    mask : ndarray of bool, same shape, optional

    Returns
    -------
    float
        In [-1, 1]; NaN where fewer than 16 pixels are common or one image is constant there.
    """
    a, b = _paired(first, second, mask)
    return _correlation(a, b) if a.size >= _MIN_SAMPLES else np.nan


def measure_banding(
    plane_brightness: ArrayLike,
    slice_starts: ArrayLike,
    *,
    valid_fraction: ArrayLike | None = None,
    min_valid_fraction: float = 0.05,
) -> float:
    """Return the banding index: the brightness step where slices meet, beyond what anatomy does elsewhere.

    The step at plane ``k`` is ``|log(mean of w planes from k on) - log(mean of w planes before k)|`` with
    ``w`` a quarter of the slice interval, so blending over a few planes doesn't hide it. The index is the
    median step at the slices' starts minus the step that the median of as many planes in between, clear of the
    starts, hardly exceeds (their quantile ``0.5 + 0.5 / sqrt(n + 1)``), or 0 when the latter is greater. A smooth
    anatomical trend enters both and drops out; a saw-tooth from uncorrected attenuation and a different gain per
    slice don't.

    Parameters
    ----------
    plane_brightness : array_like (nz,)
        Typical brightness of tissue in each plane, any positive unit; NaN where a plane is empty.
    slice_starts : array_like of int (n,)
        Planes at which one slice takes over from the one above (the first may be the volume's first plane).
    valid_fraction : array_like (nz,), optional
        Share of each plane that holds data; planes below `min_valid_fraction` don't vote.
    min_valid_fraction : float

    Returns
    -------
    float
        Relative: 0.03 is a step of about 3 %. NaN with fewer than two slices or too few planes.
    """
    brightness = np.asarray(plane_brightness, dtype=np.float64)
    starts = np.unique(np.asarray(slice_starts, dtype=np.int64))
    usable = np.isfinite(brightness) & (brightness > 0.0)
    if valid_fraction is not None:
        usable &= np.asarray(valid_fraction, dtype=np.float64) >= min_valid_fraction
    if starts.size < 2 or usable.sum() < 4:
        return np.nan
    width = max(1, int(np.median(np.diff(starts))) // 4)
    steps = _log_steps(np.where(usable, brightness, np.nan), width)
    planes = np.arange(steps.size)
    inside = (starts > 0) & (starts < brightness.size)
    distance = np.abs(planes[:, None] - starts[inside][None, :]).min(axis=1, initial=steps.size)
    at_starts = steps[(distance == 0) & np.isfinite(steps)]
    between = steps[(distance > width) & np.isfinite(steps)]
    if at_starts.size == 0:
        return np.nan
    usual = 0.5 + 0.5 / np.sqrt(at_starts.size + 1)
    anatomy = float(np.quantile(between, usual)) if between.size else 0.0
    return max(0.0, float(np.median(at_starts)) - anatomy)


def measure_sharpness(image: ArrayLike, mask: Mask | None = None, *, sigma: float = 1.0) -> float:
    """Return the mean squared gradient over the squared mean: the relative Tenengrad measure.

    It doesn't change with the gain, so it can be compared between slices and between processings of one
    slice; speckle raises it, so compare like with like.

    Parameters
    ----------
    image : array_like (y, x)
    mask : ndarray of bool (y, x), optional
    sigma : float
        Scale of the Gaussian derivative, in pixels.

    Returns
    -------
    float
        NaN where there is no data or no brightness.
    """
    data = np.asarray(image, dtype=np.float64)
    valid = np.isfinite(data) if mask is None else np.isfinite(data) & mask
    if not valid.any():
        return np.nan
    mean = float(data[valid].mean())
    if mean <= 0.0:
        return np.nan
    filled = np.where(valid, data, mean)
    gradient = ndi.gaussian_gradient_magnitude(filled, sigma)
    inner = ndi.binary_erosion(valid, iterations=max(1, round(2 * sigma)))
    chosen = gradient[inner] if inner.any() else gradient[valid]
    return float(np.mean(chosen**2)) / mean**2


def _paired(
    first: ArrayLike, second: ArrayLike, mask: Mask | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if a.shape != b.shape:
        msg = f"both arrays must have one shape, got {a.shape} and {b.shape}"
        raise ValueError(msg)
    both: Any = np.isfinite(a) & np.isfinite(b)
    if mask is not None:
        both &= mask
    return a[both], b[both]


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float(np.clip((a * b).sum() / norm, -1.0, 1.0)) if norm > 0.0 else np.nan


def _log_steps(brightness: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Step at every plane between the means of the `width` planes on either side; NaN at the ends."""
    known = np.isfinite(brightness)
    total = np.concatenate([[0.0], np.cumsum(np.where(known, brightness, 0.0))])
    count = np.concatenate([[0], np.cumsum(known)])
    steps = np.full(brightness.size, np.nan)
    k = np.arange(width, brightness.size - width + 1, dtype=np.int64)
    k = k[k < brightness.size]
    after, before = count[k + width] - count[k], count[k] - count[k - width]
    complete = (after == width) & (before == width)
    k = k[complete]
    steps[k] = np.abs(np.log((total[k + width] - total[k]) / (total[k] - total[k - width])))
    return steps
