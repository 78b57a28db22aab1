"""How well a slice's image fits the slices that face it: the score by which a spoiled slice is told.

Two slabs of tissue that face each other show nearly the same anatomy with other speckle. Their agreement is

    ``0.5 SSIM + 0.3 edge preservation + 0.2 variance ratio``

each from 0 to 1, on images of mean 1 with speckle smoothed away. SSIM is that of Wang et al. (IEEE TIP 13,
2004), negative values counting as 0; edge preservation is the correlation of the two gradient magnitudes;
the variance ratio is the smaller variance over the greater.

A slice is scored by the better of its two sides: a good slice beside a spoiled one keeps the score that its
other neighbour gives it, and a spoiled slice agrees with neither.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.space import FloatArray

BoolArray = NDArray[np.bool_]

SSIM_SHARE, EDGE_SHARE, VARIANCE_SHARE = 0.5, 0.3, 0.2
_LEAST_PIXELS = 256
_SSIM_SIGMA = 3.0
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class SliceAgreement:
    """How well two facing slabs agree, each number from 0 to 1."""

    ssim: float
    edges: float
    variance_ratio: float

    @property
    def score(self) -> float:
        """The weighted sum."""
        return float(
            SSIM_SHARE * self.ssim + EDGE_SHARE * self.edges + VARIANCE_SHARE * self.variance_ratio
        )


def central_roi(shape: tuple[int, int], roi_px: int) -> tuple[slice, slice]:
    """Return the central window of at most `roi_px` rows and columns."""
    first = [max(0, (n - roi_px) // 2) for n in shape]
    y, x = (slice(a, min(n, a + roi_px)) for a, n in zip(first, shape, strict=True))
    return y, x


def measure_agreement(
    first: Any, second: Any, valid: Any, *, smoothing_px: float = 1.5
) -> SliceAgreement | None:
    """Compare two facing slabs that are aligned.

    Parameters
    ----------
    first, second : (h, w) float
        Linear intensities.
    valid : (h, w) bool
        Where both hold data.
    smoothing_px : float
        Gaussian over both before they are compared, in pixels: speckle has nothing in common.

    Returns
    -------
    SliceAgreement or None
        None where fewer than 256 pixels can be compared.
    """
    mask = np.asarray(valid, bool) & np.isfinite(first) & np.isfinite(second)
    if np.count_nonzero(mask) < _LEAST_PIXELS:
        return None
    a, b = (
        _unit_mean(np.asarray(image, np.float32), mask, smoothing_px) for image in (first, second)
    )
    variances = float(a[mask].var()), float(b[mask].var())
    return SliceAgreement(
        ssim=_ssim(a, b, mask),
        edges=_edge_preservation(a, b, mask),
        variance_ratio=min(variances) / max(variances) if max(variances) > 0 else 0.0,
    )


def _smooth(image: FloatArray, mask: BoolArray, sigma: float) -> FloatArray:
    """Gaussian over the valid pixels alone."""
    weight = ndi.gaussian_filter(mask.astype(np.float32), sigma)
    total = ndi.gaussian_filter(np.where(mask, image, 0).astype(np.float32), sigma)
    return np.asarray(np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-3))


def _unit_mean(image: FloatArray, mask: BoolArray, sigma: float) -> FloatArray:
    smooth = _smooth(image, mask, sigma) if sigma > 0 else image
    mean = float(smooth[mask].mean())
    return np.asarray(smooth / mean if mean > 0 else np.zeros_like(smooth), np.float32)


def _ssim(a: FloatArray, b: FloatArray, mask: BoolArray) -> float:
    reach = float(np.percentile(np.concatenate([a[mask], b[mask]]), 99.5))
    if reach <= 0:
        return 0.0
    mean_a, mean_b = _smooth(a, mask, _SSIM_SIGMA), _smooth(b, mask, _SSIM_SIGMA)
    # About the common mean 1, where the squares lose no digits.
    p, q = a - 1.0, b - 1.0
    mp, mq = mean_a - 1.0, mean_b - 1.0
    var_a = np.maximum(_smooth(p * p, mask, _SSIM_SIGMA) - mp * mp, 0)
    var_b = np.maximum(_smooth(q * q, mask, _SSIM_SIGMA) - mq * mq, 0)
    cov = _smooth(p * q, mask, _SSIM_SIGMA) - mp * mq
    c1, c2 = (_K1 * reach) ** 2, (_K2 * reach) ** 2
    index = ((2 * mean_a * mean_b + c1) * (2 * cov + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    )
    return float(np.clip(index[mask].mean(), 0.0, 1.0))


def _edge_preservation(a: FloatArray, b: FloatArray, mask: BoolArray) -> float:
    # The border of the data is an edge in both: it says nothing.
    inner = ndi.binary_erosion(mask, iterations=3)
    if np.count_nonzero(inner) < _LEAST_PIXELS:
        return 0.0
    p, q = (np.hypot(ndi.sobel(i, 0), ndi.sobel(i, 1))[inner].astype(np.float64) for i in (a, b))
    p, q = p - p.mean(), q - q.mean()
    scale = float(np.sqrt((p @ p) * (q @ q)))
    return float(np.clip(p @ q / scale, 0.0, 1.0)) if scale > 0 else 0.0


@dataclass(frozen=True)
class SliceScore:
    """The score of one slice.

    Attributes
    ----------
    score : float or None
        Of its better side; None where neither could be compared.
    neighbour : int or None
        The slice that gave it.
    agreement : SliceAgreement or None
        With that neighbour.
    """

    score: float | None
    neighbour: int | None = None
    agreement: SliceAgreement | None = None


def score_slices(
    slice_ids: Collection[int], pairs: Mapping[tuple[int, int], SliceAgreement | None]
) -> dict[int, SliceScore]:
    """Score every slice by the better of its sides.

    Parameters
    ----------
    slice_ids : collection of int
    pairs : mapping
        ``(fixed, moving) -> agreement`` of neighbours.
    """
    scores = {}
    for one in sorted(slice_ids):
        sides = [
            (agreement.score, b if a == one else a, agreement)
            for (a, b), agreement in sorted(pairs.items())
            if one in (a, b) and agreement is not None
        ]
        if sides:
            scores[one] = SliceScore(*max(sides, key=lambda side: (side[0], -side[1])))
        else:
            scores[one] = SliceScore(None)
    return scores
