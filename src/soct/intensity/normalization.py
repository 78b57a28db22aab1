"""Slices on one scale of brightness.

A slice is described by a histogram that is filled block after block: its background floor, its tissue level,
its cap. Gains then bring the slices together. Where slices overlap in depth the same tissue is seen twice, and the
ratio is one of gains; without overlaps the tissue levels are followed, but only their fast changes: what changes
slowly from slice to slice is anatomy.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from soct.space import Array

BINS_PER_OCTAVE = 16
OCTAVES = 44
LOWEST = 2.0**-22
N_BINS = OCTAVES * BINS_PER_OCTAVE


class IntensityHistogram:
    """Histogram of positive intensity in logarithmic bins 4.4 % wide: any unit, constant memory."""

    def __init__(self) -> None:
        self.counts = np.zeros(N_BINS)
        self.dark = 0.0

    def add(self, values: Array, mask: Array | None = None) -> None:
        """Count values; those that are not finite are no data, those not above 2^-22 are dark.

        Parameters
        ----------
        values : ndarray
        mask : ndarray of bool, optional
            Which of them count.
        """
        v = np.asarray(values, dtype=np.float32)
        v = v[np.isfinite(v) if mask is None else (np.isfinite(v) & mask)]
        lit = v[v > LOWEST]
        self.dark += v.size - lit.size
        index = ((np.log2(lit) - np.log2(LOWEST)) * BINS_PER_OCTAVE).astype(np.int64)
        self.counts += np.bincount(np.minimum(index, N_BINS - 1), minlength=N_BINS)

    def merge(self, other: IntensityHistogram) -> None:
        """Add the counts of another histogram."""
        self.counts += other.counts
        self.dark += other.dark

    def to_array(self) -> Array:
        """All counts as one array, for storage."""
        return np.concatenate([[self.dark], self.counts])

    @classmethod
    def from_array(cls, counts: Array) -> IntensityHistogram:
        """Rebuild a histogram from `to_array`."""
        made = cls()
        made.dark = float(counts[0])
        made.counts[:] = counts[1:]
        return made

    @property
    def total(self) -> float:
        """Values counted."""
        return float(self.counts.sum() + self.dark)

    def percentile(self, percent: float, *, above: float = 0.0) -> float:
        """Intensity below which a share of the values lies, interpolated within a bin.

        Parameters
        ----------
        percent : float
            0 to 100.
        above : float
            Only values above it count.

        Returns
        -------
        float
            0 for an empty histogram.
        """
        counts = np.where(bin_centres() > above, self.counts, 0)
        dark = self.dark if above <= 0 else 0.0
        total = counts.sum() + dark
        if total <= 0:
            return 0.0
        wanted = percent / 100 * total - dark
        if wanted <= 0:
            return 0.0 if dark > 0 else float(bin_centres()[np.flatnonzero(counts)[0]])
        cumulative = np.cumsum(counts)
        i = min(int(np.searchsorted(cumulative, wanted)), N_BINS - 1)
        before = cumulative[i - 1] if i else 0.0
        part = (wanted - before) / counts[i] if counts[i] > 0 else 0.5
        return float(LOWEST * 2 ** ((i + min(part, 1.0)) / BINS_PER_OCTAVE))


def bin_centres() -> Array:
    """Geometric centres of the bins of `IntensityHistogram`."""
    return np.asarray(LOWEST * 2 ** ((np.arange(N_BINS) + 0.5) / BINS_PER_OCTAVE))


def split_tissue(histogram: IntensityHistogram) -> float:
    """Find the brightness that separates tissue from background (Otsu on log intensity).

    Returns
    -------
    float
        0 for a histogram that is empty or holds one value: then everything counts as tissue.
    """
    counts = histogram.counts
    if np.count_nonzero(counts) < 2:
        return 0.0
    logs = np.log(bin_centres())
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * logs)
    good = (below > 0) & (above > 0)
    between = np.zeros(N_BINS)
    low, high = mass[good] / below[good], (mass[-1] - mass[good]) / above[good]
    between[good] = below[good] * above[good] * (low - high) ** 2
    # Empty bins between two classes tie: the middle of the tie is the threshold.
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    return float(LOWEST * 2 ** ((best.mean() + 1) / BINS_PER_OCTAVE))


@dataclass(frozen=True)
class SliceLevels:
    """Brightness of one slice.

    Attributes
    ----------
    floor : float
        Background.
    tissue : float
        Tissue level above the floor.
    cap : float
        99.9th percentile of all values, above the floor.
    contrast : float
        Tissue level relative to the cap; a slice below the wanted contrast is empty.
    empty : bool
        Whether the slice holds too little to be normalised.
    """

    floor: float
    tissue: float
    cap: float
    contrast: float
    empty: bool


def measure_levels(
    histogram: IntensityHistogram,
    *,
    background: IntensityHistogram | None = None,
    tissue_percentile: float = 50.0,
    cap_percentile: float = 99.9,
    min_contrast: float = 0.1,
) -> SliceLevels:
    """Measure floor, tissue level and cap of a slice.

    Parameters
    ----------
    histogram : IntensityHistogram
        Of all valid samples below the surface.
    background : IntensityHistogram, optional
        Of the water above the surface; its median is the floor. Without it the floor is 0, since samples
        below the surface may all be tissue.
    tissue_percentile : float
        Percentile of what lies above the tissue threshold; the median resists bright fibres.
    cap_percentile : float
        Percentile above which values are clipped.
    min_contrast : float
        Below it the slice counts as empty.
    """
    floor = background.percentile(50) if background is not None and background.total else 0.0
    cap = histogram.percentile(cap_percentile) - floor
    tissue = histogram.percentile(tissue_percentile, above=split_tissue(histogram)) - floor
    contrast = tissue / cap if cap > 0 else 0.0
    return SliceLevels(
        floor, max(tissue, 0.0), max(cap, 0.0), contrast, not (cap > 0 and contrast > min_contrast)
    )


def measure_overlap_ratio(
    first: Array, second: Array, *, mask: Array | None = None, smoothing_px: float = 2.0
) -> tuple[float, float]:
    """Measure the log brightness ratio of two images of the same tissue.

    Parameters
    ----------
    first, second : ndarray (..., y, x)
        Depth-corrected, floor taken off; NaN where there is no data.
    mask : ndarray, optional
        Tissue.
    smoothing_px : float
        Gaussian sigma that lowers speckle before the ratio.

    Returns
    -------
    log_ratio, sigma : float
        ``ln(first / second)`` and its standard error; NaN and infinity without common tissue.
    """
    known = np.isfinite(first) & np.isfinite(second)
    if mask is not None:
        known &= mask
    if not known.any():
        return float("nan"), float("inf")
    sigma = (0.0,) * (np.ndim(first) - 2) + (smoothing_px,) * 2
    weight = ndi.gaussian_filter(known.astype(np.float32), sigma)
    images = [
        ndi.gaussian_filter(np.where(known, v, 0).astype(np.float32), sigma)
        / np.maximum(weight, 1e-6)
        for v in (first, second)
    ]
    use = known & (images[0] > 0) & (images[1] > 0)
    if not use.any():
        return float("nan"), float("inf")
    ratio = np.log(images[0][use] / images[1][use])
    centre = float(np.median(ratio))
    spread = 1.4826 * float(np.median(np.abs(ratio - centre)))
    independent = max(use.sum() / max(4 * np.pi * smoothing_px**2, 1.0), 1.0)
    return centre, max(spread / float(np.sqrt(independent)), 0.005)
