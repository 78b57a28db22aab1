"""Shifts of projections of a truncated object, with a slice that reaches beyond the field.

A reconstruction from truncated projections is wrong where they end, and its projections disagree with the measured ones whatever the shifts. So a slice larger
than the field is fitted to all projections at once by least squares (weighted as in SIRT, accelerated after Nesterov, positive), which explains
what lies outside in some way, if not in the true one. Fit and shifts take turns: a few iterations of the slice, then one step of Newton's method for
every shift. Both sinograms are low-passed along the detector alike, coarsely first, so that noise is not fitted and large shifts are found.

The slice is fitted well before shifts first move: otherwise they would follow what it does not show yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.tomography.consistency import Comparison, Settled
from soct.tomography.filters import low_pass
from soct.tomography.radon import ONE_AT_A_TIME, back_project, project

Array = NDArray[Any]
Vector = NDArray[np.float64]

CUTOFFS = (0.1, 0.3)
"""Detector frequencies up to which projections are compared, as shares of Nyquist's: higher ones hold more noise than edges."""

_REACH = 1.5
"""Half width of the slice over the farthest detector pixel from the axis."""
_WIDEST = 512
"""Detector pixels; more are averaged in groups."""
_NARROWEST = 64
_FIRST_FIT = 40
_FIT = 3
_COMPARED = 80
_OVERSTEP = 1.5
_LARGEST_STEP_PX = 1.5
_LEAST_SEEN = 0.02


@dataclass
class _Fit:
    """A slice on its way: the last two iterates, and the point that the next one starts from."""

    image: Array
    ahead: Array
    momentum: float = 1.0


class WideSlice:
    """A sinogram, and slices larger than its field.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
        Line integrals.
    angles : ndarray (n,)
        Radians.
    axis : float
        Detector coordinate of the rotation axis.
    freqcutoff : float
        As a share of Nyquist's frequency.
    positive : bool
        Whether the object has no negative values.
    """

    def __init__(
        self, sinogram: Array, angles: Vector, axis: float, freqcutoff: float, positive: bool
    ) -> None:
        self._angles, self._axis, self._positive = angles, axis, positive
        self._cutoff = freqcutoff
        self._detectors = len(sinogram)
        self._measured = low_pass(sinogram, freqcutoff).astype(np.float32)
        farthest = max(axis, self._detectors - 1 - axis)
        self._size = 2 * int(np.ceil(_REACH * farthest)) + 1
        level = np.zeros(len(angles))
        seen = self._back(np.ones_like(self._measured), level)
        self._per_pixel = 1.0 / np.maximum(seen, _LEAST_SEEN * seen.max())
        chords = project(
            np.ones((self._size, self._size), np.float32),
            angles,
            detectors=self._detectors,
            axis=axis,
        )
        self._per_ray = 1.0 / np.maximum(chords, 1.0)

    def begin(self) -> _Fit:
        """Return the empty slice."""
        image = np.zeros((self._size, self._size), np.float32)
        return _Fit(image, image)

    def improve(self, fit: _Fit, shifts: Vector, iterations: int) -> None:
        """Fit the slice to the sinogram with these shifts."""
        for _ in range(iterations):
            rest = self._measured - self._project(fit.ahead, shifts)
            image = fit.ahead + self._per_pixel * self._back(self._per_ray * rest, shifts)
            if self._positive:
                np.maximum(image, 0, out=image)
            momentum = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * fit.momentum**2))
            fit.ahead = image + np.float32((fit.momentum - 1.0) / momentum) * (image - fit.image)
            fit.image, fit.momentum = image, momentum

    def compare(self, fit: _Fit, shifts: Vector) -> Comparison:
        """Say how each shift should change for the slice as it is."""
        synthetic = self._project(fit.image, shifts)
        difference = self._measured - synthetic
        # A larger shift moves the projection up the detector.
        effect = -np.gradient(synthetic, axis=0)
        power = (effect**2).sum(axis=0, dtype=np.float64)
        power = np.maximum(power, 1e-3 * max(float(power.mean()), 1e-300))
        change = (effect * difference).sum(axis=0, dtype=np.float64) / power
        residuals = np.sqrt((difference**2).mean(axis=0, dtype=np.float64))
        deviations = residuals / np.sqrt(self._cutoff * power)
        limited = np.clip(change, -_LARGEST_STEP_PX, _LARGEST_STEP_PX)
        return Comparison(limited, residuals, deviations, synthetic)

    def compare_afresh(self, shifts: Vector) -> Comparison:
        """Fit a slice from nothing, so that residuals of different shifts are comparable."""
        fit = self.begin()
        self.improve(fit, shifts, _COMPARED)
        return self.compare(fit, shifts)

    def _project(self, image: Array, shifts: Vector) -> Array:
        with ONE_AT_A_TIME:
            whole = project(
                image, self._angles, detectors=self._detectors, axis=self._axis + shifts
            )
        return np.asarray(low_pass(whole, self._cutoff))

    def _back(self, sinogram: Array, shifts: Vector) -> Array:
        with ONE_AT_A_TIME:
            return back_project(sinogram, self._angles, size=self._size, axis=self._axis + shifts)


def settle_truncated(
    sinogram: Array,
    angles: Vector,
    axis: float,
    start: Vector,
    free: Callable[[Vector], Vector],
    *,
    freqcutoff: float,
    positive: bool,
    maxit: int,
    pixtol: float,
    progress: Callable[[int, int], None] | None = None,
) -> Settled:
    """Shift projections of a truncated object until they agree with a slice.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
    angles : ndarray (n,)
        Radians.
    axis : float
        Detector coordinate of the rotation axis.
    start : ndarray (n,)
        Where to begin, pixels.
    free : callable
        Takes out of a change what must not change.
    freqcutoff : float
        Highest frequency to use, as a share of Nyquist's; none above those of `CUTOFFS` is.
    positive : bool
    maxit : int
        Twice as many steps are made at each cut-off.
    pixtol : float
        A cut-off is done with once the root mean square change is smaller, pixels.
    progress : callable, optional
        Is told how many iterations are done, and of how many.

    Returns
    -------
    Settled
        `before` and `after` are of slices fitted equally long.
    """
    finest = -(-len(sinogram) // _WIDEST)
    cutoffs = sorted({min(freqcutoff, cutoff) for cutoff in CUTOFFS})
    shifts, step, done = start, np.inf, 0
    most = maxit * len(cutoffs)
    for cutoff in cutoffs:
        # Low frequencies are there in half as many pixels.
        halved = 2.0 * cutoff <= CUTOFFS[-1] and len(sinogram) >= 2 * finest * _NARROWEST
        group = 2 * finest if halved else finest
        wide = WideSlice(
            _averaged(sinogram, group),
            angles,
            _in_groups(axis, group),
            2.0 * cutoff if halved else cutoff,
            positive,
        )
        fit = wide.begin()
        wide.improve(fit, shifts / group, _FIRST_FIT)
        for k in range(2 * maxit):
            change = group * _OVERSTEP * free(wide.compare(fit, shifts / group).change)
            shifts = shifts + change
            wide.improve(fit, shifts / group, _FIT)
            step = float(np.sqrt(np.mean(change**2)))
            if k % 2:
                done += 1
                if progress is not None:
                    progress(done, most)
            if step < pixtol:
                break
    before, after = (wide.compare_afresh(where / group) for where in (start, shifts))
    return Settled(shifts, done, step, _of_pixels(before, group), _of_pixels(after, group))


def _in_groups(coordinate: float, group: int) -> float:
    """Where a detector coordinate lies among groups: the centre of the first one lies at pixel ``(group - 1) / 2``."""
    return (coordinate - 0.5 * (group - 1)) / group


def _averaged(sinogram: Array, group: int) -> Array:
    """Mean of groups of detector pixels, in units that make line integrals per pixel of the group."""
    if group == 1:
        return sinogram
    rows = len(sinogram) // group
    return np.asarray(sinogram[: rows * group].reshape(rows, group, -1).mean(axis=1))


def _of_pixels(found: Comparison, group: int) -> Comparison:
    return Comparison(
        group * found.change, found.residuals, group * found.deviations, found.synthetic
    )
