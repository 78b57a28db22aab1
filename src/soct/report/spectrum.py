"""How much of a curve along depth repeats at the slice interval: the signature of banding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MIN_PERIODS = 3
_MIN_PLANES = 12
_LOWEST, _HIGHEST = 0.4, 4.0
"""Repeats per slice that are kept: the fundamental and three overtones of a saw-tooth. Anatomy lies below."""


@dataclass(frozen=True)
class DepthSpectrum:
    """Amplitude of the brightness along depth, by how often it repeats per slice."""

    repeats_per_slice: NDArray[np.float64]
    amplitude_percent: NDArray[np.float64]
    """Of the brightness: 1 is a wave of one percent up and down."""
    planes_per_slice: float

    @property
    def at_slice_percent(self) -> float:
        """Largest amplitude within a tenth of one repeat per slice."""
        near = np.abs(self.repeats_per_slice - 1.0) <= max(0.1, 0.5 * self._step)
        return float(self.amplitude_percent[near].max()) if near.any() else float("nan")

    @property
    def _step(self) -> float:
        return float(np.diff(self.repeats_per_slice[:2])[0])


def depth_spectrum(
    plane_brightness: ArrayLike, slice_starts: ArrayLike, valid_fraction: ArrayLike | None = None
) -> DepthSpectrum | None:
    """Return the spectrum of log brightness over the planes, its trend removed.

    Parameters
    ----------
    plane_brightness : array_like (nz,)
        As the step saved it; planes without data are bridged by a straight line.
    slice_starts : array_like (n,)
        First plane of every slice.
    valid_fraction : array_like (nz,), optional
        Planes that hold less than a quarter of the usual share of data take no part: their median is of other
        tissue.

    Returns
    -------
    DepthSpectrum or None
        None with fewer than three slices or a dozen planes, of which no period can be told.
    """
    brightness = np.asarray(plane_brightness, dtype=np.float64).ravel()
    interval = np.diff(np.unique(np.asarray(slice_starts, dtype=np.float64)))
    usable = np.isfinite(brightness) & (brightness > 0)
    if valid_fraction is not None:
        share = np.asarray(valid_fraction, dtype=np.float64).ravel()
        typical = np.median(share[share > 0]) if (share > 0).any() else 0.0
        usable &= share >= 0.25 * typical
    planes = np.flatnonzero(usable)
    if planes.size < _MIN_PLANES or interval.size == 0:
        return None
    period = float(np.median(interval))
    span = np.arange(planes[0], planes[-1] + 1)
    if period < 2 or span.size < _MIN_PERIODS * period:
        return None
    logs = np.interp(span, planes, np.log(brightness[planes]))
    logs -= np.polyval(np.polyfit(span, logs, 2), span)
    window = np.hanning(span.size)
    # Four times as many frequencies as planes, so that a peak between two of them keeps its height.
    padded = 4 * span.size
    amplitude = 2 * np.abs(np.fft.rfft(logs * window, padded)) / window.sum()
    repeats = np.fft.rfftfreq(padded) * period
    shown = (repeats >= _LOWEST) & (repeats <= _HIGHEST)
    return DepthSpectrum(
        repeats[shown].astype(np.float64), 100 * amplitude[shown].astype(np.float64), period
    )
