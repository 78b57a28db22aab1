"""The search for the rotation axis by the double wedge: all axes at once, then the best with a field cut to suit it.

An object that the detector shows whole is searched by one polynomial over all axes. One that reaches beyond the detector is seen
through a window, which must lie symmetrically about the axis sought: there every candidate has a window of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from soct.tomography.angular_spectrum import Terms, Wedge

FloatVector = NDArray[np.float64]

_GRID_PX = 0.25
_ROUNDS = 12
APART_PX = 3.0
"""Axes farther apart are two answers."""
# With so much of the best one's evidence, or so little less (a difference of logarithms), another is a rival.
_RIVAL = 0.7
_CLEAR = 15.0


@dataclass(frozen=True)
class Field:
    """What a candidate axis makes of the projections before their spectrum is taken.

    Attributes
    ----------
    bands : ndarray (bands, n, cols)
    derivatives : bool
    support : (float, float)
        First and last column that the object reaches.
    is_cut : bool
        It reaches beyond the detector.
    """

    bands: NDArray[np.float32]
    derivatives: bool
    support: tuple[float, float]
    is_cut: bool

    @property
    def cols(self) -> int:
        """Columns of the detector."""
        return self.bands.shape[2]

    @property
    def length(self) -> int:
        """Of the transform: frequencies lie closer than the object's spectrum changes."""
        return int(scipy.fft.next_fast_len(2 * self.cols, real=True))

    def radius(self, axis: float) -> float:
        """Return how far from an axis the object reaches."""
        if self.is_cut:
            # What lies beyond the detector passes it on steeper curves; it is taken to reach as far again.
            return float(self.cols)
        low, high = self.support
        return max(high - axis, axis - low, 4.0) + 1.0

    def window(self, axis: float) -> FloatVector:
        """Return weights of columns, symmetric about the axis."""
        away = np.abs(np.arange(self.cols) - axis)
        if not self.is_cut:
            return np.clip(self.radius(axis) + 3.0 - away, 0.0, 1.0)
        half = min(axis, self.cols - 1 - axis)
        return 0.5 - 0.5 * np.cos(np.pi * np.clip((half + 0.5 - away) / (0.4 * half), 0, 1))

    def blur(self, axis: float) -> float:
        """Return by how much the window blurs frequencies, radians per pixel."""
        return 2 * np.pi / min(axis, self.cols - 1 - axis) if self.is_cut else 0.0

    def spectra(self, window: FloatVector, highest: float) -> tuple[FloatVector, NDArray[Any]]:
        """Return frequencies, and the spectra ``(bands, w, n)`` about the middle of the detector."""
        size = self.length
        omega = 2 * np.pi * np.arange(size // 2 + 1) / size
        omega = omega[1 : max(8, int(np.searchsorted(omega, min(highest, 0.8 * np.pi))))]
        turn = np.exp(1j * omega * (self.cols - 1) / 2) * (-1j if self.derivatives else 1.0)
        out = np.empty((len(self.bands), len(omega), self.bands.shape[1]), np.complex128)
        for band, values in zip(out, self.bands, strict=True):
            spectrum = np.fft.rfft(values * window, size, axis=1)[:, 1 : len(omega) + 1]
            band[...] = (spectrum * turn).T
        return omega, out


@dataclass(frozen=True)
class Search:
    """Axes tried, how badly they explain the projections (0 to 1), which to refine, and how far apart likely ones lie."""

    candidates: FloatVector
    score: FloatVector
    starts: list[float]
    width: float = 0.0


@dataclass(frozen=True)
class Fit:
    """A minimum of the cost: the axis, how sure it is, how much speaks for it, and what each band of rows says."""

    axis: float
    uncertainty: float
    evidence: float
    row_axes: FloatVector
    row_uncertainties: FloatVector


@dataclass(frozen=True)
class WedgeAxis:
    """What the double wedge says of the axis.

    Attributes
    ----------
    best : Fit
    rivals : tuple of Fit
        Other minima with nearly as much evidence.
    search : Search
        All axes tried.
    """

    best: Fit
    rivals: tuple[Fit, ...]
    search: Search


def search_axis(
    bands: NDArray[np.float32], angles: FloatVector, *, is_cut: bool, derivatives: bool
) -> WedgeAxis:
    """Find the rotation axis by the double wedge.

    Parameters
    ----------
    bands : ndarray (bands, n, cols)
        Line integrals, or their derivatives along the detector.
    angles : ndarray (n,)
        Radians.
    is_cut : bool
        The object reaches beyond the detector.
    derivatives : bool
    """
    if not (is_cut or derivatives):
        bands = _without_background(bands)
    field = Field(bands, derivatives, _support(bands), is_cut)
    wedge = Wedge(angles)
    search = (_scan if is_cut else _survey)(field, wedge)
    fits = [_refine(field, wedge, start) for start in search.starts]
    best = max(fits, key=lambda fit: fit.evidence)
    rivals = tuple(
        fit
        for fit in fits
        if abs(fit.axis - best.axis) > APART_PX
        and fit.evidence > min(_RIVAL * best.evidence, best.evidence - _CLEAR)
    )
    return WedgeAxis(best, rivals, search)


def _without_background(bands: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take out of every band the straight line between what its outermost columns read on average."""
    cols = bands.shape[2]
    edge = max(2, cols // 50)
    mean = bands.mean(axis=1, dtype=np.float64)
    left, right = mean[:, :edge].mean(axis=1), mean[:, -edge:].mean(axis=1)
    slope = (right - left) / (cols - edge)
    line = left[:, None] + slope[:, None] * (np.arange(cols) - 0.5 * (edge - 1))
    return bands - line[:, None].astype(np.float32)


def _support(bands: NDArray[np.float32]) -> tuple[float, float]:
    """Return the first and last column in which the object is more than noise."""
    values = np.asarray(bands, np.float64)
    some = values[:, :: max(1, values.shape[1] // 60)]
    curvature = np.diff(some, 2, axis=2)
    noise = np.median(np.abs(curvature), axis=(1, 2)) ** 2 / (0.6745**2 * 6)
    energy = (values**2).mean(axis=1) - noise[:, None]
    level = 2e-3 * energy.max(axis=1) + 4 * noise * np.sqrt(2 / bands.shape[1])
    reached = np.flatnonzero((energy > level[:, None]).any(axis=0))
    if not reached.size:
        return 0.0, bands.shape[2] - 1.0
    return float(reached[0]), float(reached[-1])


def _survey(field: Field, wedge: Wedge) -> Search:
    """Score all axes at once, for an object that the detector shows whole."""
    low, high = field.support
    # About whichever axis, an object seen over half a turn reaches no farther than its trace is wide.
    radius = high - low + 1.0
    omega, spectra = field.spectra(np.ones(field.cols), wedge.usable(radius))
    candidates = np.arange(0, field.cols - 1 + 1e-9, _GRID_PX)
    middle = (field.cols - 1) / 2
    bands = [_Band(wedge.terms(spectrum, omega, radius), is_whole=True) for spectrum in spectra]
    cost = sum_costs(bands, candidates - middle)
    for band in bands:
        band.settle(float(candidates[np.argmin(cost)]) - middle)
    cost = sum_costs(bands, candidates - middle)
    worst = 2 * sum(float((b.weight * b.mean).sum()) for b in bands)
    score = np.clip(cost / max(worst, 1e-300), 0.0, 1.0)
    best = float(candidates[np.argmin(cost)])
    width = _width(candidates - best, cost / (2 * max(1.0, field.length / min(2 * radius, field.cols))))  # fmt: skip
    return Search(candidates, score, [best], width if width > 0.5 else 0.0)


def _width(away: FloatVector, cost: FloatVector) -> float:
    """Return the RMS distance of axes, each as likely as its cost says."""
    likely = np.exp(cost.min() - cost)
    return float(np.sqrt((likely * away**2).sum() / likely.sum()))


def _octaves(omega: FloatVector) -> NDArray[np.int64]:
    """Return a number of every frequency: two to an octave."""
    return np.floor(2 * np.log2(omega / omega[0]) + 1e-9).astype(np.int64)


class _Band:
    """The cost of one band of rows as a function of the axis, in units of its noise."""

    def __init__(self, terms: Terms, is_whole: bool) -> None:
        self.terms = terms
        self.octave = _octaves(terms.omega)
        self.known = terms.freedom > 0
        # Of an object cut by a window the constant only says where the window lies.
        self.is_whole = is_whole
        self.count = self._sum(terms.freedom + is_whole * self.known)
        self.vote = 1.0
        self.share: FloatVector | float = float(is_whole)
        mean, turning = terms.with_constant(self.share)
        rest = np.maximum(mean - np.abs(turning), 0)
        self._set(np.full(len(terms.omega), self._floor(self._sum(rest))))

    def _sum(self, values: NDArray[Any]) -> FloatVector:
        """Sum over each half octave."""
        return np.bincount(self.octave, values * self.known).astype(np.float64)

    def _floor(self, energy: FloatVector) -> float:
        """Return the noise: the level of the highest frequencies, where little else is."""
        levels = (energy / np.maximum(self.count, 1))[self.count > 0]
        return float(np.median(levels[-3:])) if levels.size else 0.0

    def _set(self, noise: FloatVector) -> None:
        """Weigh frequencies by their noise, and by how far they stand out of it."""
        terms = self.terms
        angles = 0.5 * float(terms.freedom.max(initial=1.0))
        noise = np.maximum(noise, 1e-9 * terms.power.max() / angles + 1e-300)
        excess = np.maximum(terms.power / (2 * angles * noise) - 1, 0.0)
        self.weight = np.where(self.known, excess / (1 + excess) / noise, 0.0)
        self.mean, self.turning = terms.with_constant(self.share)

    def settle(self, offset: float) -> None:
        """Learn noise and rings from what an axis leaves unexplained.

        What is left at low frequencies beyond the noise (a beam that drifts) counts as noise there; a constant beyond it is rings.
        """
        terms = self.terms
        turn = np.exp(1j * terms.omega * offset)
        rest = np.maximum(terms.mean + (terms.turning * turn**2).real, 0.0)
        level = self._sum(rest) / np.maximum(self.count, 1)
        floor = self._floor(self._sum(rest))
        noise = np.where(level > 2 * floor, level, floor)
        if self.is_whole:
            constant = self._sum((terms.constant * turn).imag ** 2)
            rings = constant / np.maximum(self._sum(np.ones(len(turn))), 1)
            share = np.where(rings > 4 * noise, noise / np.maximum(rings, 1e-300), 1.0)
            self.share = share[self.octave]
        self._set(noise[self.octave])

    def slopes(self, offset: float) -> tuple[float, float]:
        """Return first and second derivative of the cost."""
        omega = self.terms.omega
        value = self.weight * self.turning * np.exp(2j * omega * offset)
        return float((2j * omega * value).real.sum()), float((-4 * omega**2 * value).real.sum())

    def evidence(self, offset: float) -> float:
        """Return how much likelier the axis is than none, as a difference of logarithms.

        What it leaves unexplained at low frequencies beyond the level of the highest speaks against it.
        """
        mean, turning = self.terms.with_constant(float(self.is_whole))
        rest = mean + (turning * np.exp(2j * self.terms.omega * offset)).real
        known, tiny = self.count > 0, 1e-9 * self.terms.power.max() + 1e-300
        if not known.any():
            return 0.0
        before, after = (
            np.maximum(self._sum(v), tiny)[known] / self.count[known]
            for v in (mean, np.maximum(rest, 0))
        )
        against = np.log(np.maximum(after / np.median(after[-3:]), 1.0))
        return float((0.5 * self.count[known] * (np.log(before / after) - against)).sum())


def sum_costs(bands: list[_Band], offsets: FloatVector) -> FloatVector:
    """Return the cost of several axes, all bands together."""
    turning = sum(band.vote * band.weight * band.turning for band in bands)
    mean = sum(float((band.vote * band.weight * band.mean).sum()) for band in bands)
    turn = np.exp(2j * np.outer(offsets, bands[0].terms.omega))
    return mean + np.asarray((turn @ turning).real, np.float64)


def _refine(field: Field, wedge: Wedge, start: float) -> Fit:
    """Move an axis to the minimum of the cost, with the field cut symmetrically about it."""
    middle = (field.cols - 1) / 2
    axis, bands, reach = start, [], 4.0
    for round_ in range(6):
        before = axis
        bands = _locals(field, wedge, axis)
        for _ in range(1 + bool(round_)):
            axis = middle + _minimum(bands, axis - middle, reach)
            axis = float(np.clip(axis, 2.0, field.cols - 3.0))
            for band in bands:
                band.settle(axis - middle)
        axis = middle + _agreed(bands, axis - middle)
        axis = float(np.clip(axis, 2.0, field.cols - 3.0))
        if round_ and abs(axis - before) < 1e-3:
            break
    return _judge(field, bands, axis)


def _locals(field: Field, wedge: Wedge, axis: float) -> list[_Band]:
    radius, blur = field.radius(axis), field.blur(axis)
    omega, spectra = field.spectra(field.window(axis), wedge.usable(radius))
    return [
        _Band(wedge.terms(spectrum, omega, radius, blur), not field.is_cut) for spectrum in spectra
    ]


def _minimum(bands: list[_Band], offset: float, reach: float) -> float:
    """Return the offset of lowest cost within reach."""
    trial = offset + np.arange(-reach, reach + 1e-9, 0.1)
    return float(trial[np.argmin(sum_costs(bands, trial))])


def _agreed(bands: list[_Band], offset: float) -> float:
    """Go down to the minimum; bands far from the others lose their vote."""
    for _ in range(_ROUNDS):
        slopes = np.array([band.slopes(offset) for band in bands])
        curvature = np.maximum(slopes[:, 1], 0.0)
        if not curvature.any():
            break
        step = np.where(curvature > 0, -slopes[:, 0] / np.maximum(curvature, 1e-300), 0.0)
        if len(bands) > 2:
            spread = np.abs(step - _weighted_median(step, curvature)) * np.sqrt(0.5 * curvature)
            scale = max(1.0, 1.4826 * _weighted_median(spread, curvature))
            for band, away in zip(bands, spread, strict=True):
                band.vote = min(1.0, 3 * scale / max(float(away), 1e-12))
        votes = np.array([band.vote for band in bands])
        move = float((votes * curvature * step).sum() / (votes * curvature).sum())
        offset += float(np.clip(move, -0.2, 0.2))
        if abs(move) < 1e-6:
            break
    return offset


def _own_minimum(band: _Band, offset: float) -> tuple[float, float]:
    """Return where one band has its minimum, and the curvature there; NaN where it has none."""
    for _ in range(_ROUNDS):
        slope, curvature = band.slopes(offset)
        if not curvature > 0:
            return np.nan, np.nan
        offset -= float(np.clip(slope / curvature, -0.5, 0.5))
    return offset, curvature


def _judge(field: Field, bands: list[_Band], axis: float) -> Fit:
    """Measure how sure an axis is: by the width of the minimum, by other minima nearly as deep, by the scatter of bands."""
    offset = axis - (field.cols - 1) / 2
    half = field.radius(axis) if not field.is_cut else 0.8 * min(axis, field.cols - 1 - axis)
    # Frequencies lie closer than independent ones.
    crowded = max(1.0, field.length / min(2 * half, field.cols))
    row_axes, curvature = np.array([_own_minimum(band, offset) for band in bands]).T
    row_axes = row_axes + (field.cols - 1) / 2
    row_sigma = np.sqrt(2 * crowded / curvature)
    around = np.arange(-0.1 * field.cols, 0.1 * field.cols, 0.1)
    cost = sum_costs(bands, offset + around) / (2 * crowded)
    width = _width(around, cost)
    uncertainty = max(_combined(row_axes, row_sigma), width if width > 0.2 else 0.0)
    evidence = sum(band.evidence(offset) for band in bands) / crowded
    return Fit(axis, uncertainty, evidence, row_axes, row_sigma)


def _weighted_median(values: FloatVector, weights: FloatVector) -> float:
    order = np.argsort(values)
    running = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(running, 0.5 * running[-1])])


def _combined(axes: FloatVector, sigma: FloatVector) -> float:
    """Return the standard deviation of a weighted mean, by what was expected or by the scatter, whichever is larger."""
    said = np.isfinite(sigma) & (sigma > 0)
    if not said.any():
        return float("inf")
    weight = sigma[said] ** -2.0
    expected = float(1 / np.sqrt(weight.sum()))
    if said.sum() < 3:
        return expected
    mean = float((weight * axes[said]).sum() / weight.sum())
    spread = float((weight * (axes[said] - mean) ** 2).sum()) / (said.sum() - 1)
    return expected * float(np.sqrt(max(1.0, spread)))


def _scan(field: Field, wedge: Wedge) -> Search:
    """Score axes one by one, each with a window about it, for an object that reaches beyond the detector."""
    small, factor = _reduced(field)
    step = 2.0
    margin = max(8.0, small.cols / 10)
    candidates = np.arange(margin, small.cols - 1 - margin, step)
    gain, found = np.empty(len(candidates)), np.empty(len(candidates))
    middle = (small.cols - 1) / 2
    trial = np.linspace(-step / 2, step / 2, 9)
    for i, axis in enumerate(candidates):
        bands = _locals(small, wedge, float(axis))
        gains = [sum(band.evidence(axis + d - middle) for band in bands) for d in trial]
        best = int(np.argmax(gains))
        gain[i], found[i] = gains[best], axis + trial[best]
    score = 1 - np.clip(gain / max(float(gain.max()), 1e-300), 0, 1)
    # The best, and the best that lie elsewhere.
    chosen: list[int] = []
    for i in np.argsort(-gain):
        if all(abs(found[i] - found[j]) > 2 * APART_PX for j in chosen):
            chosen.append(int(i))
        if len(chosen) == 3:
            break

    def full(axis: Any) -> Any:
        return axis * factor + (factor - 1) / 2

    return Search(full(found), score, [float(full(found[i])) for i in chosen])


def _reduced(field: Field) -> tuple[Field, int]:
    """Return a field of at most 256 columns and four bands."""
    factor = max(1, field.cols // 256)
    cols = field.cols // factor * factor
    groups = np.array_split(np.arange(len(field.bands)), min(4, len(field.bands)))
    bands = np.stack([field.bands[g].mean(axis=0) for g in groups])
    bands = bands[:, :, :cols].reshape(*bands.shape[:2], -1, factor).mean(axis=3)
    low, high = (v / factor for v in field.support)
    return Field(bands, field.derivatives, (low, high), field.is_cut), factor
