"""Shifts of greatest likelihood for an object that lies within the field: sinograms whose spectra fill only a bow-tie.

At detector frequency ``w`` the spectrum of a projection, followed around the object, is a sum of angular harmonics. An object within a
disc of radius ``R`` fills only those of order ``|m| <= w R`` (and a little more): the "bow-tie" of Rattey and Lindgren
(1981), in the limit ``w -> 0`` the moment conditions of Helgason and Ludwig. Wrong shifts turn the phases and spill power beyond, so the
shifts are those that leave least of it there. All is linear in the spectra: nothing is reconstructed, re-projected or interpolated.

The likelihood is that of an object which is white noise within an ellipse. A linear map makes the ellipse a disc: frequency ``w`` of
a projection whose half width is ``h`` becomes ``W = w h``, and its angle that of the mapped direction. Order ``m`` then has the variance
``S(W) (J_m^2 - J_(m-1) J_(m+1))(W)``, ``S`` being the measured power; to that comes the noise ``N(W)``, measured
on the orders that are left empty. While shifts are wrong, ``N`` is large where they spoil most: high frequencies count only once low
ones agree. Real and imaginary parts of the spectra have even and odd orders only, because ``p(theta + pi, x) = p(theta, -x)``.

The minimum is found by Gauss and Newton's method on all shifts together, the derivative going through the variances (one
projection's shift pulls at all others), each step solved by conjugate gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from soct.tomography.gauge import gauge_basis

Array = NDArray[Any]
Vector = NDArray[np.float64]

STEP = 1.0
"""Step of W. Projections of half width 1 have independent spectra pi apart; a third of that also uses that they end."""

_MOST_FREQUENCIES = 384
_LEAST_EMPTY = 4
"""Frequencies with fewer empty orders tell too little about their noise."""
_SMALLEST_NOISE = 1e-10
_DEPENDENT = 1e-9
_LARGEST_STEP_PX = 3.0


@dataclass(frozen=True)
class Orders:
    """Orthonormal angular functions of one parity, in order of their harmonic.

    Attributes
    ----------
    functions : ndarray (n, n)
        One a column.
    degrees : ndarray (n,)
        Harmonic that each adds to those before it.
    gains : ndarray (n,)
        Share of that harmonic's power which those before it do not already have; 0 for what no harmonic fills.
    """

    functions: Array
    degrees: Array
    gains: Vector

    @classmethod
    def of(cls, angles: Vector, parity: int) -> Orders:
        """Orthonormalise the harmonics of even (0) or odd (1) order on any set of angles."""
        n = len(angles)
        degrees = np.repeat(np.arange(parity, n + 2 + parity, 2), 2)
        sines = np.arange(len(degrees)) % 2 == 1
        degrees, sines = degrees[(degrees > 0) | ~sines][:n], sines[(degrees > 0) | ~sines][:n]
        waves = np.where(
            sines, np.sin(angles[:, None] * degrees), np.cos(angles[:, None] * degrees)
        )
        power = (waves**2).sum(axis=0)
        gains = np.diag(np.linalg.qr(waves, mode="r")) ** 2 / np.maximum(power, 1e-12)
        # Harmonics that the angles do not tell from lower ones would take a direction by chance.
        new = (gains > _DEPENDENT) & (power > 1e-9)
        functions, r = np.linalg.qr(waves[:, new], mode="complete")
        filled = np.zeros(n)
        filled[: new.sum()] = np.diag(r) ** 2 / power[new]
        order = np.full(n, degrees[-1] if n else 0)
        order[: new.sum()] = degrees[new]
        return cls(functions, order, filled)

    def variances(self, w: Vector) -> Array:
        """Variance of each function's coefficient at each frequency, for a disc of radius 1 with unit power per projection."""
        j = bessel(int(self.degrees.max()) + 1, w)
        above, below = (
            j[self.degrees + 1],
            np.where(self.degrees[:, None] > 0, j[self.degrees - 1], -j[1]),
        )
        shares = np.maximum(j[self.degrees] ** 2 - below * above, 0.0)
        return np.asarray(shares * (len(self.gains) * self.gains)[:, None])


@dataclass(frozen=True)
class FirstMoments:
    """Centres of mass and what they weigh.

    Attributes
    ----------
    centres : ndarray (n,)
        Detector coordinates.
    per_noise : float
        Their variance per variance of the noise of one pixel.
    least : float
        Their variance without noise, square pixels.
    """

    centres: Vector
    per_noise: float
    least: float = 0.0


@dataclass(frozen=True)
class BowTieFit:
    """What `fit_centres` found.

    Attributes
    ----------
    centres : ndarray (n,)
        Detector coordinates of the ellipse's centre.
    noise : float
        Standard deviation of what no object could show, per pixel, in units of the sinogram.
    deviations : ndarray (n,)
        Standard deviation that the likelihood gives to the shift of each projection were the others known, pixels.
    iterations : int
    step : float
        Root mean square of the last one, pixels.
    """

    centres: Vector
    noise: float
    deviations: Vector
    iterations: int
    step: float


class BowTie:
    """The likelihood of centres for one sinogram.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
        Zero where the object does not show.
    angles : ndarray (n,)
        Radians, as they are.
    half_widths : ndarray (n,)
        Of the ellipse, as each projection sees it, pixels.
    warped : ndarray (n,)
        Angles of the directions mapped so that the ellipse is a disc, radians.
    centres : ndarray (n,)
        Where the ellipse's centre is thought to lie on the detector.
    moments : FirstMoments
    derivatives : bool
        Whether the sinogram is the derivative along the detector.
    freqcutoff : float
        Highest frequency, as a share of Nyquist's.
    margin : float
        Orders that the object's spectra may spill beyond its size: those of a window that varies with the angle.
    """

    def __init__(
        self,
        sinogram: Array,
        angles: Vector,
        half_widths: Vector,
        warped: Vector,
        centres: Vector,
        moments: FirstMoments,
        derivatives: bool = False,
        freqcutoff: float = 1.0,
        margin: float = 0.0,
    ) -> None:
        n = len(angles)
        self._start, self._moments = centres, moments
        top = min(float(n), freqcutoff * np.pi * float(half_widths.min()))
        scaled = _frequencies(max(top, 4.0))
        self._w = scaled / half_widths[:, None]
        self._spectra = _spectra(sinogram, centres, half_widths, scaled)
        # Variance of the real part of a spectrum per variance of a pixel.
        self._per_pixel = np.full(len(scaled), half_widths.mean())
        if derivatives:
            self._spectra = self._spectra / (1j * self._w)
            self._per_pixel /= (self._w**2).mean(axis=0)
        self._even, self._odd = Orders.of(warped, 0), Orders.of(warped, 1)
        power = (np.abs(self._spectra) ** 2).mean(axis=0)
        self._power = np.maximum(power, 1e-12 * power.max())
        self._prior = (
            self._even.variances(scaled + margin) * self._power,
            self._odd.variances(scaled + margin) * self._power,
        )
        self._density = np.gradient(scaled) / np.pi
        self._gauge = np.linalg.qr(gauge_basis(angles, constant=False))[0]

    def coefficients(self, centres: Vector) -> tuple[Array, Array, Array]:
        """Spectra about the centres, and what they have of each even and odd order."""
        spectra = self._spectra * np.exp(1j * self._w * (centres - self._start)[:, None])
        return (
            spectra,
            self._even.functions.T @ spectra.real,
            self._odd.functions.T @ spectra.imag,
        )

    def noise(self, even: Array, odd: Array) -> Vector:
        """Variance of the coefficients that no object fills, per frequency; infinite where there are too few."""
        squares = np.concatenate([even, odd]) ** 2
        prior = np.concatenate(self._prior)
        noise = self._power.copy()
        for _ in range(12):
            empty = prior < noise
            count = empty.sum(axis=0)
            noise = np.maximum(
                (squares * empty).sum(axis=0) / np.maximum(count, 1), _SMALLEST_NOISE * self._power
            )
        return np.where(count >= _LEAST_EMPTY, noise, np.inf)

    def spill(self, centres: Vector) -> float:
        """Mean logarithm of the share of power that no object could show: which of two starts is the better."""
        _, even, odd = self.coefficients(centres)
        noise = self.noise(even, odd)
        told = np.isfinite(noise)
        if not told.any():
            return 0.0
        return float(np.log(noise[told] / self._power[told]).mean())

    def fit(self, centres: Vector, maxit: int = 20, pixtol: float = 1e-3) -> BowTieFit:
        """Iterate until all shifts settle to `pixtol` pixels."""
        centres = self._fixed(centres)
        step, done = np.inf, 0
        while done < maxit and step > pixtol:
            newton = _NewtonStep(self, centres)
            change = np.clip(newton.solve(), -_LARGEST_STEP_PX, _LARGEST_STEP_PX)
            centres = centres + change
            step = float(np.sqrt(np.mean(change**2)))
            done += 1
        newton = _NewtonStep(self, centres)
        return BowTieFit(centres, newton.pixel_noise**0.5, newton.deviations(), done, step)

    def _fixed(self, centres: Vector) -> Vector:
        """Centres whose cos and sin parts are those of the ellipse's centre."""
        return self._start + self.free(centres - self._start)

    def free(self, change: Vector) -> Vector:
        """Take what moves the whole object out of a change of centres."""
        return np.asarray(change - self._gauge @ (self._gauge.T @ change))


class _NewtonStep:
    """Gradient and curvature of the likelihood at given centres."""

    def __init__(self, model: BowTie, centres: Vector) -> None:
        self._model = model
        spectra, even, odd = model.coefficients(centres)
        noise = model.noise(even, odd)
        self._weights = tuple(model._density / (prior + noise) for prior in model._prior)
        self._slopes = (-model._w * spectra.imag, model._w * spectra.real)
        self._bases = (model._even.functions, model._odd.functions)
        low = np.flatnonzero(np.isfinite(noise))[:8]
        per_pixel = noise[low] / model._per_pixel[low]
        self.pixel_noise = float(np.median(per_pixel)) if low.size else 0.0
        moments = model._moments
        variance = self.pixel_noise * moments.per_noise + moments.least
        self._moment_weight = 1.0 / variance if variance > 0 else 0.0
        gradient = self._moment_weight * (centres - moments.centres)
        for slope, basis, weight, part in zip(
            self._slopes, self._bases, self._weights, (even, odd), strict=True
        ):
            gradient += (slope * (basis @ (weight * part))).sum(axis=1)
        self._gradient = model.free(gradient)
        self._diagonal = self._moment_weight + sum(
            (slope**2 * ((basis**2) @ weight)).sum(axis=1)
            for slope, basis, weight in zip(self._slopes, self._bases, self._weights, strict=True)
        )

    def curvature(self, change: Vector) -> Vector:
        change = self._model.free(change)
        result = self._moment_weight * change
        for slope, basis, weight in zip(self._slopes, self._bases, self._weights, strict=True):
            result = result + (
                slope * (basis @ (weight * (basis.T @ (slope * change[:, None]))))
            ).sum(axis=1)
        return self._model.free(result)

    def solve(self, tolerance: float = 1e-3, most: int = 200) -> Vector:
        """Conjugate gradients, preconditioned by the diagonal."""
        change = np.zeros_like(self._gradient)
        residual = -self._gradient
        smallest = tolerance**2 * float(residual @ (residual / self._diagonal))
        ready = self._model.free(residual / self._diagonal)
        direction, product = ready, float(residual @ ready)
        for _ in range(most):
            if product <= smallest or product <= 0:
                break
            turned = self.curvature(direction)
            length = product / float(direction @ turned)
            change = change + length * direction
            residual = residual - length * turned
            ready = self._model.free(residual / self._diagonal)
            direction, product = (
                ready + float(residual @ ready) / product * direction,
                float(residual @ ready),
            )
        return change

    def deviations(self) -> Vector:
        return np.asarray(1.0 / np.sqrt(np.maximum(self._diagonal, 1e-300)))


def bessel(top: int, x: Vector) -> Array:
    """Return the Bessel functions of orders 0 to `top`, ``(top + 1, len(x))``, for positive `x`, by Miller's downward recurrence."""
    first = int(1.1 * max(top, int(x.max()))) + 60
    out = np.zeros((top + 1, len(x)))
    above, now = np.zeros_like(x), np.full_like(x, 1e-30)
    total = np.zeros_like(x)
    for m in range(first, 0, -1):
        above, now = now, 2.0 * m / x * now - above
        large = np.abs(now) > 1e150
        if large.any():
            above[large] *= 1e-200
            now[large] *= 1e-200
            total[large] *= 1e-200
            out[:, large] *= 1e-200
        if m - 1 <= top:
            out[m - 1] = now
        if (m - 1) % 2 == 0:
            total += now if m == 1 else 2.0 * now
    return out / total


def _frequencies(top: float) -> Vector:
    """Return steps of `STEP` from one on; where that were too many, wider ones above."""
    if top / STEP <= _MOST_FREQUENCIES:
        return np.asarray(STEP * np.arange(1, int(top / STEP) + 1))
    dense = _MOST_FREQUENCIES // 2
    rest = np.linspace(dense + 1, top / STEP, _MOST_FREQUENCIES - dense)
    return np.asarray(STEP * np.unique(np.concatenate([np.arange(1, dense + 1), np.rint(rest)])))


def _spectra(sinogram: Array, centres: Vector, half_widths: Vector, scaled: Vector) -> Array:
    """Spectra ``(n, frequencies)`` about each projection's centre, at multiples of ``STEP / half_width``, by Bluestein's method."""
    detectors, n = sinogram.shape
    top = round(float(scaled[-1]) / STEP)
    size = scipy.fft.next_fast_len(detectors + top)
    j = np.arange(max(detectors, top + 1), dtype=float)
    picked = np.rint(scaled / STEP).astype(int)
    out = np.empty((n, len(scaled)), complex)
    for k in range(n):
        step = STEP / half_widths[k]
        # j m = (j^2 + m^2 - (j - m)^2) / 2 makes the sum over pixels a convolution.
        chirp = np.exp(-0.5j * step * j**2)
        kernel = np.zeros(size, complex)
        kernel[: top + 1] = chirp[: top + 1].conj()
        kernel[size - detectors + 1 :] = chirp[1:detectors][::-1].conj()
        signal = scipy.fft.fft(sinogram[:, k] * chirp[:detectors], size)
        values = scipy.fft.ifft(signal * scipy.fft.fft(kernel))[picked] * chirp[picked]
        out[k] = values * np.exp(1j * step * picked * centres[k])
    return out
