"""Tomographic consistency: projections against those of the slice that they give together.

A slice is reconstructed from the sinogram with its present shifts and clipped to values that it can have (positivity, mostly),
then projected anew. Each measured projection is shifted by what best explains its difference from the synthetic one: one step of Newton's
method with the derivative taken in Fourier space. Both sinograms are low-passed along the detector alike. The synthetic projections know more than the sum of
measured ones, thanks to the clipping; but they also hold each measured projection itself, so plain repetition creeps. Anderson's
method extrapolates from the last steps to where they lead.

Where the object leaves the detector, the sinogram is continued beyond it by its edge values, falling to zero. The difference is taken without
what varies slowly along the detector, which what lies outside changes. (Continuing it by the synthetic projections runs away.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.tomography.filters import low_pass
from soct.tomography.radon import ONE_AT_A_TIME, project
from soct.tomography.reconstruction import SliceSettings, reconstruct_slice

Array = NDArray[Any]
Vector = NDArray[np.float64]

_LARGEST_STEP_PX = 1.5
_MEMORY = 4
_TAPER = 0.06
_EXTENSION = 0.5
_TREND = 0.05


@dataclass(frozen=True)
class Comparison:
    """Measured against synthetic projections.

    Attributes
    ----------
    change : ndarray (n,)
        By how much each shift should grow, pixels.
    residuals : ndarray (n,)
        Root mean square difference per projection, in units of the sinogram.
    deviations : ndarray (n,)
        Standard deviation of each change as far as the residuals are noise, pixels.
    synthetic : ndarray (detectors, n)
    """

    change: Vector
    residuals: Vector
    deviations: Vector
    synthetic: Array


class Reprojection:
    """Compares a sinogram with its own slice.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
    angles : ndarray (n,)
        Radians.
    axis : float
        Detector coordinate of the rotation axis.
    settings : SliceSettings
    truncated : bool
        Whether the object leaves the detector.
    mask : ndarray of bool, optional
        Where the object may show; it is 0 elsewhere.
    """

    def __init__(
        self,
        sinogram: Array,
        angles: Vector,
        axis: float,
        settings: SliceSettings,
        truncated: bool = False,
        mask: NDArray[np.bool_] | None = None,
    ) -> None:
        self._angles, self._axis, self._settings = angles, axis, settings
        self._mask = mask
        self._truncated = truncated
        self._measured = low_pass(
            sinogram if mask is None else np.where(mask, sinogram, 0.0), settings.freqcutoff
        )
        detectors = len(sinogram)
        self._pad = int(np.ceil(_EXTENSION * detectors)) if truncated else 0
        self._window = _window(detectors) if truncated else np.ones((detectors, 1))
        self._extended = _extend(self._measured, self._pad)

    def compare(self, shifts: Vector) -> Comparison:
        """Reconstruct with these shifts, project, and compare."""
        pad, settings = self._pad, self._settings
        axis = self._axis + pad + shifts
        with ONE_AT_A_TIME:
            whole = self._project(shifts, axis)
        order = 1 if settings.derivatives else 0
        synthetic = _differentiate(whole, order, settings.freqcutoff)
        slopes = _differentiate(whole, order + 1, settings.freqcutoff)
        inside = slice(pad, len(whole) - pad)
        return self._newton(synthetic[inside], slopes[inside])

    def _project(self, shifts: Vector, axis: Vector) -> Array:
        """Reconstruct, and project the slice."""
        settings = self._settings
        slice_ = reconstruct_slice(
            self._extended,
            self._angles,
            theta_unit="rad",
            axis=self._axis + self._pad,
            shifts=shifts,
            algorithm=settings.algorithm,
            filtertype=settings.filtertype,
            derivatives=settings.derivatives,
            circle=settings.circle,
            cliplow=settings.cliplow,
            cliphigh=settings.cliphigh,
            iterations=settings.iterations,
            relaxation=settings.relaxation,
        )
        return project(slice_, self._angles, detectors=len(self._extended), axis=axis)

    def _newton(self, synthetic: Array, slopes: Array) -> Comparison:
        weight = self._window if self._mask is None else self._window * self._mask
        difference = self._measured - synthetic
        if self._truncated:
            difference, slopes = self._without_trend(difference), self._without_trend(slopes)
        difference = weight * difference
        # A larger shift moves the projection up the detector.
        effect = -weight * slopes
        power = (effect**2).sum(axis=0)
        power = np.maximum(power, 1e-3 * max(float(power.mean()), 1e-300))
        change = (effect * difference).sum(axis=0) / power
        count = np.maximum((weight**2 * np.ones_like(difference)).sum(axis=0), 1.0)
        residuals = np.sqrt((difference**2).sum(axis=0) / count)
        # Noise that was low-passed is as large within its band as residuals are over the root of the band's share.
        deviations = residuals / np.sqrt(self._settings.freqcutoff * power)
        return Comparison(
            np.clip(change, -_LARGEST_STEP_PX, _LARGEST_STEP_PX), residuals, deviations, synthetic
        )

    def _without_trend(self, values: Array) -> Array:
        """Take out what varies slowly along the detector: what lies outside the field changes that."""
        width = _TREND * len(values)
        return np.asarray(values - ndi.gaussian_filter1d(values, width, axis=0, mode="nearest"))


@dataclass(frozen=True)
class Settled:
    """Where iterations ended.

    Attributes
    ----------
    shifts : ndarray (n,)
        Pixels.
    iterations : int
    step : float
        Root mean square of the last change, pixels.
    before, after : Comparison
        At the first and last shifts compared.
    """

    shifts: Vector
    iterations: int
    step: float
    before: Comparison
    after: Comparison


def settle(
    reprojection: Reprojection,
    shifts: Vector,
    free: Callable[[Vector], Vector],
    maxit: int,
    pixtol: float,
    rtol: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
) -> Settled:
    """Shift projections until they agree with their slice.

    Parameters
    ----------
    reprojection : Reprojection
    shifts : ndarray (n,)
        Where to begin.
    free : callable
        Takes out of a change what must not change.
    maxit : int
    pixtol : float
        Done once the root mean square change is smaller, pixels.
    rtol : float
        Done once the sum of squared residuals falls by less than this share; 0 never ends for that.
    progress : callable, optional
        Is told how many iterations are done, and of how many.
    """
    tried: list[Vector] = []
    changes: list[Vector] = []
    first = last = reprojection.compare(shifts)
    step, done = np.inf, 0
    while done < maxit:
        change = free(last.change)
        tried, changes = [*tried, shifts][-_MEMORY:], [*changes, change][-_MEMORY:]
        step = float(np.sqrt(np.mean(change**2)))
        done += 1
        if progress is not None:
            progress(done, maxit)
        if step < pixtol:
            break
        shifts = shifts + free(_extrapolate(tried, changes))
        cost = float((last.residuals**2).sum())
        last = reprojection.compare(shifts)
        fallen = cost - float((last.residuals**2).sum())
        if rtol > 0 and 0 <= fallen < rtol * cost:
            break
    return Settled(shifts, done, step, first, last)


def _extrapolate(tried: list[Vector], changes: list[Vector]) -> Vector:
    """Change of shifts by Anderson's method: where a combination of the last steps would be least."""
    now = changes[-1]
    if len(changes) < 2:
        return now
    steps = np.diff(np.stack(tried, axis=1), axis=1)
    turns = np.diff(np.stack(changes, axis=1), axis=1)
    gram = turns.T @ turns
    gram[np.diag_indices_from(gram)] *= 1.0 + 1e-4
    amounts = np.linalg.lstsq(gram, turns.T @ now, rcond=1e-8)[0]
    change = now - (steps + turns) @ amounts
    limit = 4.0 * float(np.sqrt(np.mean(now**2)))
    size = float(np.sqrt(np.mean(change**2)))
    return np.asarray(change * min(1.0, limit / size) if size > 0 else change)


def _differentiate(sinogram: Array, order: int, freqcutoff: float) -> Array:
    """Low-passed derivative along the detector; the first one as pixels see it, the mean over each."""
    detectors = len(sinogram)
    size = scipy.fft.next_fast_len(detectors + 32, real=True)
    spectrum = scipy.fft.rfft(sinogram, size, axis=0)
    w = 2 * np.pi * scipy.fft.rfftfreq(size)[:, None]
    spectrum *= (2j * np.sin(0.5 * w)) ** order
    return low_pass(scipy.fft.irfft(spectrum, size, axis=0)[:detectors], freqcutoff)


def _window(detectors: int) -> Array:
    """Weights that fall to zero at both ends of the detector."""
    edge = max(2, round(_TAPER * detectors))
    ramp = np.sin(0.5 * np.pi * (np.arange(edge) + 0.5) / edge) ** 2
    window = np.ones((detectors, 1))
    window[:edge, 0], window[-edge:, 0] = ramp, ramp[::-1]
    return window


def _extend(sinogram: Array, pad: int) -> Array:
    """Continue projections beyond the detector by their edge values, falling to zero."""
    if pad == 0:
        return sinogram
    fall = 0.5 + 0.5 * np.cos(np.pi * (np.arange(pad) + 1.0) / pad)[:, None]
    return np.concatenate([sinogram[:1] * fall[::-1], sinogram, sinogram[-1:] * fall])
