"""By how much signals that show the same are displaced: damped Newton steps to their common mean, all at once.

A model for every signal ``a_i(y)`` of mass per row: ``a_i(y + s_i) = M(y) + p_i(y) + noise``, with the same `M` for all and a polynomial `p_i`
of its own (background, drift). Shifts, polynomials and `M` are found together by least squares. Each iteration evaluates signals and
their derivatives by splines, solves for every shift *together with* its polynomial (removed beforehand, a
polynomial would take part of a displacement with it), and forms `M` anew. The slope is that of `M`,
without its noise: the noise in a signal's own slope would lengthen the slope and shorten every step.

Only what was measured counts. Beyond its ends a signal goes on by reflection, so that it can be evaluated anywhere, but rows there
weigh nothing, and those close to them little: an object that is cut off above or below draws no shift to zero.

The mean of all shifts cannot be known from the signals; it stays what it was at the start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import comb, factorial
from typing import Any

import numpy as np
import scipy.fft
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.tomography.mass import Profiles, polynomials, remove_polynomials

# Splines of the fifth degree are as good as exact for signals this smooth, and unlike a Fourier series they do not carry what lies
# beyond the limits (a holder, the beam's edge) to the rows that are compared.
_DEGREE = 5
# Rows at both ends of a signal over which its weight rises from 0 to 1.
_TAPER = 8
# No step is longer, pixels: slopes say little about what is further away.
_LONGEST_STEP = 1.5
_HALVINGS = 4
# A step is too long where it makes the squared residual so many times as large; by less than that, noise does.
_WORSE = 1.1
# Rows that fewer projections show than this part of them are left out: what one alone shows agrees with itself.
_LEAST_COVERAGE = 0.5
# Neighbouring frequencies whose power is taken together to tell signal from noise. The mean of so many powers of noise next to
# never exceeds three times what is expected.
_SMOOTHED = 9
_NOISE_MOST = 3.0
# A projection whose residual is so many times the median has less say in the mean.
_ROBUST = 2.5
# What it counts in the mean when its steps are waited for.
_FITTING = 0.1


@dataclass(frozen=True)
class ProfileFit:
    """Shifts of signals.

    Attributes
    ----------
    shifts : ndarray (n,)
    uncertainties : ndarray (n,)
        Standard deviation of each, pixels, if residuals are noise; infinite where a signal has no slope.
    residuals : ndarray (n, rows)
        Of each signal to mean and polynomial; NaN at rows without weight.
    mean : ndarray (rows,)
        Without its polynomial.
    iterations : int
    last_step : float
        Longest step of the last iteration, pixels; of signals that fit the others.
    """

    shifts: NDArray[np.float64]
    uncertainties: NDArray[np.float64]
    residuals: Profiles
    mean: NDArray[np.float64]
    iterations: int
    last_step: float


@dataclass(frozen=True)
class _State:
    """Signals at given shifts: values and slopes in the common frame, and the weight of every row of each."""

    shifts: NDArray[np.float64]
    values: Profiles
    slopes: Profiles
    weights: Profiles


@dataclass
class ProfileAligner:
    """Aligns signals ``(n, rows)``; rows from `top` to before `bottom` of the common frame count.

    Parameters
    ----------
    profiles : float64 ndarray (n, rows)
    top, bottom : int
    order : int
        Degree of each signal's own polynomial.
    """

    profiles: Profiles
    top: int
    bottom: int
    order: int
    _coefficients: Profiles = field(init=False)
    _basis: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        # A polynomial that is shifted is a polynomial: without it, the mirrored ends of a signal have no edge.
        signals = remove_polynomials(self.profiles, self.order)
        self._coefficients = ndi.spline_filter1d(signals, _DEGREE, axis=1, mode="mirror")
        self._basis = polynomials(self.bottom - self.top, self.order)

    def align(
        self,
        start: NDArray[np.float64],
        *,
        most: int,
        tolerance: float,
        progress: Callable[[int, int], None] | None = None,
    ) -> ProfileFit:
        """Iterate from `start` until no shift moves by more than `tolerance`, at most `most` times."""
        shifts = start.copy()
        state = self._evaluate(shifts)
        mean = self._first_mean(state)
        step, done = np.inf, 0
        while done < most and step > tolerance:
            say = self._say(state, mean)
            moves, _ = self._solve(state, mean, self._slope(state, mean, say))
            moves = np.clip(moves, -_LONGEST_STEP, _LONGEST_STEP)
            state, moves = self._damped(state, mean, moves)
            state = self._evaluate(state.shifts - (state.shifts.mean() - start.mean()))
            mean = self._mean(state, say, mean)
            step, done = _longest(moves, say), done + 1
            if progress is not None:
                progress(done, most)
        return self._fit(state, mean, done, step)

    def residuals(self, shifts: NDArray[np.float64]) -> Profiles:
        """Return the difference of every signal to mean and polynomial at given shifts; NaN at rows without weight."""
        state = self._evaluate(shifts)
        mean = self._first_mean(state)
        for _ in range(3):
            mean = self._mean(state, self._say(state, mean), mean)
        return self._fit(state, mean, 0, 0.0).residuals

    def _evaluate(self, shifts: NDArray[np.float64]) -> _State:
        size = self.profiles.shape[1]
        part = shifts - np.floor(shifts)
        taps = part[:, None] - np.arange(-(_DEGREE // 2), _DEGREE // 2 + 2)
        shape = len(shifts), self.bottom - self.top
        values, slopes, weights = (np.empty(shape) for _ in range(3))
        taper = min(_TAPER, max(1, size // 16))
        _sample(
            self._coefficients,
            shifts,
            _spline(taps),
            _spline(taps, 1),
            self.top,
            taper,
            values,
            slopes,
            weights,
        )
        seen = (weights > 0).mean(axis=0)
        weights[:, seen < _LEAST_COVERAGE * seen.max()] = 0.0
        return _State(shifts, values, slopes, weights)

    def _polynomials(self, state: _State, target: Profiles) -> Profiles:
        """Fit each signal's polynomial to ``(n, rows)``, weighed."""
        basis = self._basis
        gram = _grams(state.weights, basis)
        rhs = (state.weights * target) @ basis
        return _solve_each(gram, rhs) @ basis.T

    def _first_mean(self, state: _State) -> NDArray[np.float64]:
        """Median of the signals without their polynomials: no signal that is spoilt has a say in it."""
        rest = state.values - self._polynomials(state, state.values)
        seen = (state.weights > 0).any(axis=0)
        mean = np.zeros(rest.shape[1])
        known = np.where(state.weights > 0, rest, np.nan)[:, seen]
        mean[seen] = np.nanmedian(known, axis=0)
        return mean

    def _mean(
        self, state: _State, say: NDArray[np.float64], before: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Weighted mean of the signals without their polynomials."""
        polys = self._polynomials(state, state.values - before)
        weights = state.weights * say[:, None]
        total = weights.sum(axis=0)
        mean = (weights * (state.values - polys)).sum(axis=0)
        return np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)

    def _slope(
        self, state: _State, mean: NDArray[np.float64], say: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Mean of all slopes, without what noise alone explains of it."""
        weights = state.weights * say[:, None]
        total = weights.sum(axis=0)
        slope = (weights * state.slopes).sum(axis=0)
        slope = np.divide(slope, total, out=np.zeros_like(slope), where=total > 0)
        seen = np.flatnonzero(total > 0)
        if len(state.values) > 1 and seen.size > _SMOOTHED:
            rows = slice(int(seen[0]), int(seen[-1]) + 1)
            noise = _white_noise((state.values - mean)[:, rows]) / total[rows].mean()
            slope[rows] = _without_noise(slope[rows], noise)
        return slope

    def _say(self, state: _State, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Say what each signal counts in the mean: less where it fits much worse than most."""
        cost = self._cost(state, mean)
        return np.minimum(1.0, _ROBUST**2 * np.median(cost) / np.maximum(cost, 1e-300))

    def _cost(self, state: _State, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean squared residual of each signal."""
        target = state.values - mean
        rest = target - self._polynomials(state, target)
        total = np.maximum(state.weights.sum(axis=1), 1e-300)
        cost: NDArray[np.float64] = (state.weights * rest**2).sum(axis=1) / total
        return cost

    def _solve(
        self, state: _State, mean: NDArray[np.float64], slope: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Step of every shift together with its polynomial, and the variance of the shift per variance of the noise."""
        design = np.column_stack([slope, self._basis])
        gram = _grams(state.weights, design)
        rhs = (state.weights * (mean - state.values)) @ design
        scale = np.sqrt(np.einsum("nii->ni", gram))
        # What of the slope is no polynomial: the Schur complement.
        own = gram[:, 0, 0] - np.einsum(
            "ni,ni->n", gram[:, 0, 1:], _solve_each(gram[:, 1:, 1:], gram[:, 0, 1:])
        )
        flat = own <= 1e-10 * np.maximum(scale[:, 0] ** 2, 1e-300)
        moves = rhs[:, 0] - np.einsum(
            "ni,ni->n", gram[:, 0, 1:], _solve_each(gram[:, 1:, 1:], rhs[:, 1:])
        )
        own = np.where(flat, np.inf, own)
        return moves / own, np.where(flat, np.inf, 1.0 / own)

    def _damped(
        self, state: _State, mean: NDArray[np.float64], moves: NDArray[np.float64]
    ) -> tuple[_State, NDArray[np.float64]]:
        """Take the steps, halving those that make a signal fit worse."""
        before = self._cost(state, mean)
        after = self._evaluate(state.shifts + moves)
        for _ in range(_HALVINGS):
            worse = self._cost(after, mean) > _WORSE * before
            if not worse.any():
                break
            moves = np.where(worse, 0.5 * moves, moves)
            after = self._evaluate(state.shifts + moves)
        return after, moves

    def _fit(self, state: _State, mean: NDArray[np.float64], done: int, step: float) -> ProfileFit:
        target = state.values - mean
        rest = target - self._polynomials(state, target)
        n = len(rest)
        weight = state.weights.sum(axis=1)
        freedom = np.maximum(weight - self.order - 2, 1.0) * max(1 - 1 / n, 0.5)
        variance = (state.weights * rest**2).sum(axis=1) / freedom / _noise_passed(state.shifts)
        _, factors = self._solve(state, mean, self._slope(state, mean, self._say(state, mean)))
        uncertainties = np.sqrt(np.where(np.isfinite(factors), variance, 1.0) * factors)
        seen = state.weights > 0
        covered = state.weights.sum(axis=0)
        fluctuation = mean - self._polynomials_of(covered, mean)
        return ProfileFit(
            state.shifts,
            uncertainties,
            np.where(seen, rest, np.nan),
            np.where(covered > 0, fluctuation, np.nan),
            done,
            step,
        )

    def _polynomials_of(
        self, weights: NDArray[np.float64], signal: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Weighted polynomial of one signal."""
        gram = _grams(weights[None], self._basis)
        rhs = (weights * signal)[None] @ self._basis
        fitted: NDArray[np.float64] = (_solve_each(gram, rhs) @ self._basis.T)[0]
        return fitted


@njit(cache=True, nogil=True, parallel=True)
def _sample(
    coefficients: Any,
    shifts: Any,
    taps: Any,
    slope_taps: Any,
    top: int,
    taper: float,
    values: Any,
    slopes: Any,
    weights: Any,
) -> None:  # pragma: no cover - compiled
    """Evaluate splines of mirrored signals, and weigh rows by how far within the measured signal they lie."""
    n, rows = values.shape
    last = coefficients.shape[1] - 1
    count = taps.shape[1]
    for i in prange(n):
        whole = int(np.floor(shifts[i]))
        for y in range(rows):
            first = top + y + whole - count // 2 + 1
            value: Any = 0.0
            slope: Any = 0.0
            for j in range(count):
                k = abs(first + j)
                k = max(0, last - abs(last - k))
                value += taps[i, j] * coefficients[i, k]
                slope += slope_taps[i, j] * coefficients[i, k]
            values[i, y] = value
            slopes[i, y] = slope
            at = top + y + shifts[i]
            inside = min(at, last - at) / taper
            if inside >= 1.0:
                weights[i, y] = 1.0
            elif inside <= 0.0:
                weights[i, y] = 0.0
            else:
                weights[i, y] = 0.5 - 0.5 * np.cos(np.pi * inside)


def _spline(at: NDArray[np.float64], derivative: int = 0) -> NDArray[np.float64]:
    """Central B-spline, or its derivative."""
    degree = _DEGREE - derivative
    total = np.zeros_like(at)
    for k in range(_DEGREE + 2):
        reach = np.maximum(at + (_DEGREE + 1) / 2 - k, 0.0)
        total += (-1) ** k * comb(_DEGREE + 1, k) * reach**degree
    return total / factorial(degree)


def _longest(moves: NDArray[np.float64], say: NDArray[np.float64]) -> float:
    """Longest step against the mean of all; what fits nowhere never comes to rest, and does not count."""
    fitting = say >= _FITTING
    part = moves[fitting] if fitting.any() else moves
    return float(np.abs(part - part.mean()).max())


def _white_noise(rest: Profiles) -> float:
    """Variance of the noise in most signals, from how much neighbouring rows differ: what a wrong shift leaves is smoother."""
    return float(np.median((np.diff(rest, 2, axis=1) ** 2).mean(axis=1)) / 6)


def _without_noise(slope: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Wiener's filter for a slope whose signal has white noise of a variance: that of the slope rises with the frequency.

    The noise in the slope of the mean would else look like texture that tells shifts: steps come out too short, and uncertainties too small.
    """
    spectrum = scipy.fft.dct(slope, norm="ortho")
    frequencies = np.pi * np.arange(slope.size) / slope.size
    power = ndi.uniform_filter1d(spectrum**2, _SMOOTHED, mode="nearest")
    gain = np.clip(1.0 - _NOISE_MOST * noise * frequencies**2 / np.maximum(power, 1e-300), 0.0, 1.0)
    smooth: NDArray[np.float64] = scipy.fft.idct(gain * spectrum, norm="ortho")
    return smooth


def _noise_passed(shifts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part of the power of white noise that is left between samples: the highest frequencies, which tell no shift, are lost there."""
    taps = np.arange(-(_DEGREE // 2), _DEGREE // 2 + 2)
    waves = np.exp(1j * np.pi * np.outer(taps, (np.arange(64) + 0.5) / 64))
    between = _spline((shifts - np.floor(shifts))[:, None] - taps) @ waves
    at_samples = _spline(-taps.astype(np.float64)) @ waves
    passed: NDArray[np.float64] = np.mean(np.abs(between / at_samples) ** 2, axis=1)
    return passed


def _grams(weights: Profiles, design: NDArray[np.float64]) -> NDArray[np.float64]:
    """``X^T W_i X`` for the weights of every signal: ``(n, k, k)``."""
    k = design.shape[1]
    products = (design[:, :, None] * design[:, None, :]).reshape(len(design), k * k)
    grams: NDArray[np.float64] = (weights @ products).reshape(-1, k, k)
    return grams


def _solve_each(grams: NDArray[np.float64], rhs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve small symmetric systems; a ridge of rounding size keeps those without any weight solvable."""
    trace = np.einsum("nii->n", grams)
    ridge = 1e-13 * trace + 1e-300
    matrix = grams + ridge[:, None, None] * np.eye(grams.shape[1])
    solved: NDArray[np.float64] = np.linalg.solve(matrix, rhs[..., None])[..., 0]
    return solved
