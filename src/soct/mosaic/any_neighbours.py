"""Which images of a heap are neighbours, and how they lie to each other, when nothing is known of their layout.

Every pair is correlated over all offsets at which anything is shared, on reduced images. The images are whitened by
the power that all have in common, not by each pair's own: that keeps the correlation linear, so that at any offset only
the pixels that are shared have a part in it, and a narrow overlap is not drowned by the rest of two large images. Then
values are compressed, so that a few bright spots in either image do not find each other; and what all images share
at the same place (shading, dust) is subtracted and the offset zero left out.

Between images that share nothing the surface is noise, and the lead of its highest peak over the second is
exponentially distributed; so the lead at which a pair stands out follows from the number of pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.mosaic.matching import find_peaks
from soct.mosaic.spectra import (
    ComplexArray,
    cross_correlate,
    fast_shape,
    low_pass,
    prepare_windows,
    transform,
    window_autocorrelation,
)
from soct.space import FloatArray

_FIXED_PATTERN_IMAGES = 10
"""From so many images on, their mean is what they share, and little of any one of them."""

_SAME_PLACE_PX = 2.5
"""A pattern that belongs to the camera is at the same place in all images; neighbours in a mosaic are farther apart."""

_SPARE = 4
"""Peaks looked at beyond those that are kept, for those that are left out."""


@dataclass(frozen=True)
class NeighbourOptions:
    """How images are compared.

    Attributes
    ----------
    sigma_px : float
        Gaussian low-pass, reduced pixels.
    least_overlap : float
        Part of an image along an axis that neighbours share at least.
    least_area : float
        Part of an image that neighbours share at least: corners of images say too little.
    candidates : int
        Peaks kept per pair.
    separation_px : float
        Least distance between two peaks.
    taper : float
        Part of each side under the raised cosine.
    """

    sigma_px: float = 0.5
    least_overlap: float = 0.015
    least_area: float = 0.012
    candidates: int = 4
    separation_px: float = 5.0
    taper: float = 0.02


@dataclass(frozen=True)
class PairPeaks:
    """What the correlation of pairs says.

    Attributes
    ----------
    pairs : int64 ndarray (m, 2)
    offsets_px : float64 ndarray (m, c, 2)
        Position of the second image minus that of the first, best first; NaN where there are fewer peaks.
    scores : float64 ndarray (m, c)
        Height above the surface's mean in units of its spread.
    lead : float64 ndarray (m,)
        How far each pair's best peak stands above every other, also those that no neighbours can have.
    """

    pairs: NDArray[np.int64]
    offsets_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    lead: NDArray[np.float64]


@dataclass(frozen=True)
class CommonSpectra:
    """Spectra of all images, ready to be correlated with each other."""

    spectra: ComplexArray
    """``(n, 1, rows, columns)``, of whitened images."""
    shape: tuple[int, int]
    """Of the images."""
    fft_shape: tuple[int, int]
    texture: NDArray[np.float64]
    """Standard deviation of each image's log-brightness about its trend."""
    options: NeighbourOptions


def common_spectra(
    images: FloatArray, options: NeighbourOptions | None = None, *, workers: int = 1
) -> CommonSpectra:
    """Transform images, with the filter that whitens them.

    Parameters
    ----------
    images : float32 ndarray (n, h, w)
        Reduced images.
    options : NeighbourOptions, optional
    workers : int
        FFT threads.
    """
    options = options or NeighbourOptions()
    n, h, w = images.shape
    least = [max(3, round(options.least_overlap * s)) for s in (h, w)]
    fft_shape = fast_shape((2 * h - least[0] + 1, 2 * w - least[1] + 1))
    shapes = np.tile(np.array([h, w], np.int64), (n, 1))
    level = 0.5 * float(np.nanmean(images))
    windows, stats = prepare_windows(
        images[:, None], shapes, np.array([max(level, 1e-9)]), fft_shape, options.taper
    )
    if n >= _FIXED_PATTERN_IMAGES:
        windows -= windows.mean(axis=0)
    spectra = transform(windows, workers)
    power = np.mean(np.abs(spectra[:, 0]) ** 2, axis=0, dtype=np.float64)
    smooth = ndi.uniform_filter(power, 7, mode=("wrap", "nearest"))
    smooth = np.sqrt(np.maximum(smooth, max(1e-6 * float(smooth.max()), 1e-30)))
    spectra *= (low_pass(fft_shape, options.sigma_px) / smooth).astype(np.float32)
    white = scipy.fft.irfft2(spectra, s=fft_shape, workers=workers, overwrite_x=True)[..., :h, :w]
    scale = np.sqrt(np.mean(white**2, axis=(2, 3), keepdims=True))
    white = np.tanh(white / np.maximum(scale, np.float32(1e-30)))
    if n >= _FIXED_PATTERN_IMAGES:
        white -= white.mean(axis=0)
    windows[...] = 0.0
    # The border rings, in all images alike.
    windows[..., :h, :w] = white * _ramp(h)[:, None] * _ramp(w)
    texture = np.sqrt(stats[:, 0, 1])
    return CommonSpectra(transform(windows, workers), (h, w), fft_shape, texture, options)


def _ramp(n: int) -> FloatArray:
    at = np.arange(n)
    ramp: FloatArray = np.clip((np.minimum(at, at[::-1]) + 0.5) / 4, 0, 1).astype(np.float32)
    return ramp


def correlate_pairs(
    common: CommonSpectra,
    pairs: NDArray[np.int64],
    *,
    progress: Callable[[float], None] | None = None,
    workers: int = 1,
) -> PairPeaks:
    """Correlate pairs of images over all offsets.

    Parameters
    ----------
    common : CommonSpectra
    pairs : int ndarray (m, 2)
    progress : callable, optional
        Called with the fraction done.
    workers : int
        FFT threads. The result does not depend on it.
    """
    options = common.options
    h, w = common.shape
    least = [max(3, round(options.least_overlap * s)) for s in (h, w)]
    reach = np.array([h - least[0], w - least[1]], np.int64)
    overlap = tuple(
        window_autocorrelation(size, length, options.taper)
        for size, length in zip((h, w), common.fft_shape, strict=True)
    )
    even = np.ones(common.spectra.shape[2:], np.float32)
    m, c = len(pairs), options.candidates
    found = PairPeaks(pairs, np.full((m, c, 2), np.nan), np.zeros((m, c)), np.zeros(m))
    size = max(1, 2_000_000 // (common.fft_shape[0] * common.fft_shape[1]))
    for start in range(0, m, size):
        part = pairs[start : start + size]
        surface = cross_correlate(
            common.spectra[part[:, 0]],
            common.spectra[part[:, 1]],
            common.fft_shape,
            even,
            0.0,
            workers,
        )
        low = np.tile(-reach, (len(part), 1))
        peaks = find_peaks(
            surface,
            low,
            -low,
            c + _SPARE,
            options.separation_px,
            (overlap[0], overlap[1]),
            least_overlap=0.05,
        )
        here = slice(start, start + size)
        found.offsets_px[here], found.scores[here], found.lead[here] = _choose(
            peaks.positions, peaks.scores, common.shape, options
        )
        if progress is not None:
            progress(min(1.0, (start + size) / m))
    return found


def _choose(
    offsets: NDArray[np.float64],
    scores: NDArray[np.float64],
    shape: tuple[int, int],
    options: NeighbourOptions,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Keep the best candidates that neighbours can have: not at one place, not by a mere corner; and the lead."""
    away = np.abs(np.nan_to_num(offsets, nan=0.0))
    size = np.array(shape, np.float64)
    shared = (np.maximum(size - away, 0.0) / size).prod(axis=2)
    same_place = away.max(axis=2) < _SAME_PLACE_PX
    corner = shared < options.least_area
    order = np.argsort(same_place | corner, axis=1, kind="stable")[:, : options.candidates]
    kept = np.take_along_axis(np.where(same_place | corner, 0.0, scores), order, 1)
    bad = (same_place | corner)[..., None]
    places = np.take_along_axis(np.where(bad, np.nan, offsets), order[..., None], 1)
    rival = np.where(corner & ~same_place, scores, 0.0).max(axis=1)
    return places, kept, kept[:, 0] - np.maximum(rival, kept[:, 1])


def all_pairs(n: int) -> NDArray[np.int64]:
    """Every pair of `n` images, ``(n (n - 1) / 2, 2)``, the smaller number first."""
    first, second = np.triu_indices(n, 1)
    return np.stack([first, second], axis=1).astype(np.int64)
