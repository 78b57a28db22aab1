"""Brightness of the sections of a stacked volume brought together, by one percentile or by the whole histogram.

Each section keeps one histogram of its tissue, so memory does not grow with the volume. The target of a section is
what its neighbours show too: levels (or quantiles) averaged over several sections, so a change of the tissue
over the whole brain stays and a section that stands out moves. Everything happens in logarithms: a gain is a shift.

Convention: see `soct.space`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from soct.errors import InputError
from soct.intensity.normalization import IntensityHistogram, bin_centres, split_tissue
from soct.space import Array, FloatArray

LevelMethod = Literal["percentile", "histogram"]
QUANTILES = np.concatenate([[0.5], np.arange(2, 99), [99.5]])
LEAST_TISSUE = 500.0
"""With fewer voxels of tissue than this a section has no level of its own."""


@dataclass(frozen=True)
class LevelMap:
    """How one section's brightness is changed: a monotone curve of the logarithm, straight beyond its ends.

    Attributes
    ----------
    log_in, log_out : ndarray (k,)
        Both ascending. One point is a gain.
    """

    log_in: Array
    log_out: Array

    def apply(self, values: Array) -> FloatArray:
        """Map values; those that are not positive stay as they are."""
        data = np.asarray(values, np.float32)
        shift = self.log_out - self.log_in
        if len(self.log_in) == 1:
            return data * np.float32(np.exp(shift[0]))
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(data)
        gain = np.exp(np.interp(logs, self.log_in, shift)).astype(np.float32)
        return np.where(data > 0, data * gain, data)

    @property
    def gain(self) -> float:
        """Gain in the middle of the curve."""
        return float(np.exp(np.median(self.log_out - self.log_in)))


@dataclass(frozen=True)
class ZLevels:
    """What brings the sections together.

    Attributes
    ----------
    maps : tuple of LevelMap
        One per section; a gain of 1 where there is too little tissue.
    before, after : ndarray (n,)
        Tissue level of each section, NaN where there is too little tissue.
    measured : ndarray (n,) bool
    """

    maps: tuple[LevelMap, ...]
    before: Array
    after: Array
    measured: Array


def solve_z_levels(
    histograms: Sequence[IntensityHistogram],
    *,
    method: LevelMethod = "percentile",
    strength: float = 0.5,
    percentile: float = 75.0,
    kept_sections: float = 3.0,
) -> ZLevels:
    """Find the change of each section from the histograms of all.

    Parameters
    ----------
    histograms : sequence of IntensityHistogram
        Of the sections, in order; background may be in them, it is cut off (`tissue_floor`).
    method : str
        ``percentile`` (one gain) or ``histogram`` (every quantile goes to its target).
    strength : float
        Share of the way to the target, in logarithms.
    percentile : float
        Of tissue, that counts as a section's level.
    kept_sections : float
        Sigma of the Gaussian average over sections that makes the targets.

    Returns
    -------
    ZLevels

    Raises
    ------
    InputError
        No section, or an unknown method.
    """
    if not histograms or method not in ("percentile", "histogram"):
        raise InputError(
            "Levels need sections and a method",
            expected="one histogram or more; percentile or histogram",
            found=f"{len(histograms)} histograms; {method}",
        )
    floors = [tissue_floor(h) for h in histograms]
    measured = np.array(
        [_tissue_count(h, f) >= LEAST_TISSUE for h, f in zip(histograms, floors, strict=True)]
    )
    ranks = np.array([percentile]) if method == "percentile" else QUANTILES
    curves = np.full((len(histograms), len(ranks)), np.nan)
    levels = np.full(len(histograms), np.nan)
    for k in np.flatnonzero(measured).tolist():
        curves[k] = np.log([histograms[k].percentile(r, above=floors[k]) for r in ranks])
        levels[k] = histograms[k].percentile(percentile, above=floors[k])
    targets = _average(curves, measured, kept_sections)
    maps, after = [], np.full(len(histograms), np.nan)
    for k, ok in enumerate(measured):
        if not ok:
            maps.append(LevelMap(np.zeros(1), np.zeros(1)))
            continue
        log_in = np.maximum.accumulate(curves[k] + 1e-9 * np.arange(len(ranks)))
        log_out = log_in + strength * (targets[k] - curves[k])
        maps.append(LevelMap(log_in, np.maximum.accumulate(log_out)))
        after[k] = float(maps[k].apply(np.array([levels[k]]))[0])
    return ZLevels(tuple(maps), levels, after, measured)


def level_scatter(levels: Array, kept_sections: float) -> float:
    """Scatter of log levels about their average over sections; NaN with fewer than two."""
    logs = np.log(np.asarray(levels, float))
    known = np.isfinite(logs)
    if known.sum() < 2:
        return float("nan")
    smooth = _average(logs[:, None], known, kept_sections)[:, 0]
    return float(np.std((logs - smooth)[known]))


def tissue_floor(histogram: IntensityHistogram) -> float:
    """Return the brightness above which a section is tissue: Otsu's threshold, 0 where it would cut tissue apart.

    Background is darker than tissue by a factor of three and more; two kinds of tissue are not.
    """
    floor = split_tissue(histogram)
    logs, above = np.log(bin_centres()), bin_centres() > floor
    sides = [histogram.counts * side for side in (~above, above)]
    if floor <= 0 or any(side.sum() == 0 for side in sides):
        return 0.0
    dark, bright = ((side * logs).sum() / side.sum() for side in sides)
    return floor if bright - dark > np.log(3) else 0.0


def _tissue_count(histogram: IntensityHistogram, floor: float) -> float:
    return float(histogram.counts[bin_centres() > floor].sum())


def _average(curves: Array, measured: Array, sigma: float) -> Array:
    """Gaussian average over sections that are measured, along a straight line so that trends stay."""
    n = len(curves)
    out = np.full(curves.shape, np.nan)
    at = np.flatnonzero(measured)
    if at.size == 0:
        return out
    known = curves[at]
    for k in range(n):
        d = (at - k).astype(float)
        w = np.exp(-0.5 * (d / sigma) ** 2)
        s0, s1, s2 = w.sum(), (w * d).sum(), (w * d * d).sum()
        determinant = s0 * s2 - s1 * s1
        # With few sections a line would follow each of them.
        if at.size >= 5 and determinant > 1e-6 * s0 * s2:
            out[k] = ((s2 - s1 * d) * w) @ known / determinant
        else:
            out[k] = w @ known / s0
    return out
