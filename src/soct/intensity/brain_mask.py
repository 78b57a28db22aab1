"""Which voxels of a volume are brain: a threshold between tissue and what surrounds it, then one clean body.

Speckle is multiplicative, so the distribution is that of logarithms of local means. The background is its lowest
mode, where a valley parts it from the next one, tissue; a field that is full of tissue has no such mode, and is
never split. The threshold lies half-way between the two levels, for that is what a smoothed edge passes through
where the edge is.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.space import Array, FloatArray, Voxel

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]

DEEPEST_VALLEY = 0.7
"""Two modes are two groups where the density between them falls below this part of the lower one."""
_BINS = 300
_LEAST_SHARE = 0.003
_BANDWIDTH = 0.08


@dataclass(frozen=True)
class Levels:
    """The intensities of background and tissue.

    Attributes
    ----------
    background, tissue : float
        Their most frequent local means; of tissue, the darkest kind.
    valley : float
        Density between the two, as a part of that of the lower mode: 0 where they are apart, 1 where they are one.
    """

    background: float
    tissue: float
    valley: float

    @property
    def threshold(self) -> float:
        """Half-way between background and tissue."""
        return (self.background + self.tissue) / 2


@dataclass(frozen=True)
class BrainMask:
    """Where the brain is, and how that was told.

    Attributes
    ----------
    mask : ndarray of bool, shape (Z, Y, X)
        True in the brain.
    levels : Levels or None
        None where no background was found: everything with data is then brain.
    """

    mask: Mask
    levels: Levels | None


def _density(logs: Floats) -> tuple[Floats, Floats]:
    low, high = np.percentile(logs, (0.02, 99.98))
    reach = 4 * _BANDWIDTH
    counts, edges = np.histogram(logs, _BINS, (low - reach, max(high, low) + reach))
    width = edges[1] - edges[0]
    # Broader towards the dark: there a mode holds few voxels, and noise must not look like one.
    smooth = ndi.gaussian_filter1d(counts / counts.sum(), max(_BANDWIDTH / width, 1.0))
    return (edges[1:] + edges[:-1]) / 2, np.asarray(smooth)


def find_levels(values: Array, *, deepest_valley: float = DEEPEST_VALLEY) -> Levels | None:
    """Find the levels of background and tissue; None where there is one mode only.

    Parameters
    ----------
    values : ndarray
        Positive local means.
    deepest_valley : float
        See `DEEPEST_VALLEY`.
    """
    x, dense = _density(np.log(np.asarray(values, np.float64)))
    is_peak = (dense[1:-1] > dense[:-2]) & (dense[1:-1] >= dense[2:])
    peaks = [int(i) for i in np.flatnonzero(is_peak) + 1]
    for k, first in enumerate(peaks):
        for second in peaks[k + 1 :]:
            bottom = first + int(np.argmin(dense[first : second + 1]))
            valley = float(dense[bottom] / min(dense[first], dense[second]))
            holds = dense[:bottom].sum() > _LEAST_SHARE and dense[bottom:].sum() > 10 * _LEAST_SHARE
            if valley < deepest_valley and holds:
                return Levels(float(np.exp(x[first])), float(np.exp(x[second])), valley)
    return None


def local_mean(data: Array, valid: Mask, sigma: tuple[float, float, float]) -> FloatArray:
    """Return Gaussian means over the voxels that have data."""
    weight = ndi.gaussian_filter(valid.astype(np.float32), sigma)
    total = ndi.gaussian_filter(np.where(valid, data, 0).astype(np.float32), sigma)
    return np.asarray(total / np.maximum(weight, 1e-6), np.float32)


def _ball(radius_um: float, voxel_um: Voxel) -> Mask:
    reach = [max(1, round(radius_um / v)) if v <= 1.5 * radius_um else 0 for v in voxel_um]
    axes = np.ogrid[tuple(slice(-r, r + 1) for r in reach)]
    parts = [(a * v / radius_um) ** 2 for a, v in zip(axes, voxel_um, strict=True)]
    return np.asarray(parts[0] + parts[1] + parts[2] <= 1.2)


def _largest(mask: Mask) -> Mask:
    labels, n = ndi.label(mask)
    if n < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray(labels == sizes.argmax())


def _close(mask: Mask, ball: Mask) -> Mask:
    reach = [n // 2 for n in ball.shape]
    # Beyond the border the nearest voxel goes on, or closing would eat a brain that reaches the border.
    padded = np.pad(mask, [(r, r) for r in reach], mode="edge")
    closed = ndi.binary_closing(padded, ball)
    inner = tuple(slice(r, n - r) for r, n in zip(reach, padded.shape, strict=True))
    return np.asarray(closed[inner]) | mask


def _fill_planes(mask: Mask) -> Mask:
    return np.stack([ndi.binary_fill_holes(plane) for plane in mask])


def segment_brain(
    data: Array,
    voxel_um: Voxel,
    *,
    smoothing_um: float = 40.0,
    closing_um: float = 150.0,
    threshold: float | None = None,
) -> BrainMask:
    """Find the brain in a volume.

    Parameters
    ----------
    data : ndarray, shape (Z, Y, X)
        Intensities, 0 where there are no data.
    voxel_um : Voxel
        Voxel size; near 50 um is fine enough.
    smoothing_um : float
        Standard deviation of the local mean that is compared with the threshold.
    closing_um : float
        Radius of gaps that are closed: vessels, cracks, dark fibres at the border.
    threshold : float, optional
        Of the local mean; measured where omitted.

    Returns
    -------
    BrainMask
    """
    valid = np.isfinite(data) & (data > 0)
    if np.count_nonzero(valid) < _BINS:
        return BrainMask(valid, None)
    levels = None
    # Little smoothing keeps thin modes apart from their blurred edges; much of it tames strong speckle.
    for share in (0.5, 1.0, 1.5):
        levels = find_levels(_smooth(data, valid, voxel_um, share * smoothing_um)[valid])
        if levels is not None:
            break
    cut = threshold if threshold is not None else levels.threshold if levels is not None else 0.0
    tissue = valid & (_smooth(data, valid, voxel_um, smoothing_um) > cut)
    mask = _close(_largest(tissue), _ball(closing_um, voxel_um))
    mask = ndi.binary_fill_holes(_fill_planes(mask)) & valid
    return BrainMask(_largest(mask), levels)


def _smooth(data: Array, valid: Mask, voxel_um: Voxel, sigma_um: float) -> FloatArray:
    z, y, x = (min(sigma_um / v, n / 4) for v, n in zip(voxel_um, data.shape, strict=True))
    return np.maximum(local_mean(data, valid, (z, y, x)), np.float32(1e-12))


def dice(a: Mask, b: Mask) -> float:
    """Return the overlap of two masks: 1 where they are equal, 0 where they have nothing in common."""
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int((a & b).sum()) / total
