"""Gains of slices from tissue that two of them see, and from the agarose around it.

The upper of two slices sees common tissue through what will be cut off before the lower one is imaged. The depth
correction takes out what tissue usually costs on that way. Where it is brighter than usual it also attenuates
more, so the upper slice looks darker than its gain; over a long stack such errors of some percent add up. How much
the attenuation follows the brightness, the pairs show themselves: where the cut tissue is brighter than beside it,
the ratio of the two is lower. The same tie makes long stacks well-posed: a gain taken too high makes its slice look
too dark, so that it would have to attenuate less, and errors fade from slice to slice instead of adding up.

Agarose is the same in all slices: where a slice shows enough of it, it tells the gain without any neighbour.

Convention: see `soct.space`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi
from threadpoolctl import threadpool_limits

from soct.intensity.depth_profiles import DepthProfile
from soct.space import Array, FloatArray

LEAST_PIXELS = 300
_DARK = 0.35
_SMOOTHING_PX = 2.0
_RATIO_FLOOR = 0.01
"""Standard error of a ratio beyond what its own scatter tells: neighbouring pixels share what the depth correction leaves."""
_CAUCHY = 2.5
_ROUNDS = 12
_AGAROSE_SIGMA = 0.02
_PER_A_LINE = 0.3
_FLOOR_ERROR = 0.05
_LEAST_A_LINES = 50.0
_LEAST_ANCHORS = 2


@dataclass(frozen=True)
class CutTissue:
    """What lies between the surfaces of two slices, as the upper one sees it.

    Attributes
    ----------
    level : float
        Mean brightness, corrected for depth but not for the slice's gain.
    samples : float
        Thickness.
    decay : float or None
        Fall of the log ratio (upper over lower) per sample of tissue that is brighter than the mean by that mean:
        how much the attenuation follows the brightness. None where it could not be measured.
    """

    level: float
    samples: float
    decay: float | None


@dataclass(frozen=True)
class OverlapRatio:
    """Brightness of one slice over another in the same tissue, both corrected for depth.

    Attributes
    ----------
    first, second : int
        Slices, counted from 0; the first is the upper one where `cut` is given.
    log_ratio : float
        ``ln(first / second)``.
    sigma : float
        Its standard error.
    cut : CutTissue or None
        What the first sees the common tissue through.
    """

    first: int
    second: int
    log_ratio: float
    sigma: float = 0.02
    cut: CutTissue | None = None


def _smooth(image: Array, known: Array) -> FloatArray:
    weight = ndi.gaussian_filter(known.astype(np.float32), _SMOOTHING_PX)
    filled = np.where(known, image, 0).astype(np.float32)
    return np.asarray(
        ndi.gaussian_filter(filled, _SMOOTHING_PX) / np.maximum(weight, 1e-6), np.float32
    )


def find_cut_tissue(cut: Array) -> Array:
    """Pixels whose cut part is tissue: bright beside the bright ones.

    Parameters
    ----------
    cut : ndarray (y, x)
        Mean brightness between the two surfaces; NaN where there are no data.
    """
    known = np.isfinite(cut)
    if not known.any():
        return known
    smooth = _smooth(cut, known)
    return np.asarray(known & (smooth > _DARK * np.percentile(smooth[known], 80)))


def measure_cut_decay(first: Array, second: Array, cut: Array, samples: float) -> float | None:
    """Measure how much faster light fades in brighter tissue, from one slab that two slices see.

    Parameters
    ----------
    first, second : ndarray (y, x)
        The same tissue in the upper and the lower slice, corrected for depth; NaN where there is no data.
    cut : ndarray (y, x)
        Mean brightness of what lies between the two surfaces, in the upper slice.
    samples : float
        Its thickness.

    Returns
    -------
    float or None
        As `CutTissue.decay`; None with too little tissue, or tissue of one brightness.
    """
    tissue = find_cut_tissue(cut) & np.isfinite(first) & np.isfinite(second)
    if samples < 1 or tissue.sum() < LEAST_PIXELS:
        return None
    a, b, over = (_smooth(image, tissue) for image in (first, second, cut))
    tissue &= (a > 0) & (b > 0)
    level = np.full(a.shape, -np.inf, np.float32)
    level[tissue] = (np.log(a[tissue]) + np.log(b[tissue])) / 2
    # Where the tissue itself is dark, an error of the noise floor would pass for a ratio.
    bright = np.percentile(level[tissue], 80) + np.log(_DARK) if tissue.any() else 0.0
    tissue &= level > bright
    if tissue.sum() < LEAST_PIXELS:
        return None
    ratio = np.log(a[tissue] / b[tissue]).astype(np.float64)
    excess = over[tissue].astype(np.float64)
    excess = excess / excess.mean() - 1
    if excess.std() < 0.02:
        return None
    # Brightness of the common tissue goes with what lies above it: let it take its own share.
    own = level[tissue] - level[tissue].mean()
    columns = np.stack([np.ones_like(excess), excess, own], axis=1)
    weight = np.ones_like(ratio)
    solved = np.zeros(3)
    for _ in range(5):
        root = np.sqrt(weight)
        normal = (columns * weight[:, None]).T @ columns + 1e-9 * np.eye(3)
        solved = np.linalg.solve(normal, (columns * root[:, None]).T @ (ratio * root))
        left = np.abs(ratio - columns @ solved)
        spread = 1.4826 * float(np.median(left)) + 1e-9
        weight = 1 / np.maximum(left / (2 * spread), 1)
    return float(-solved[1] / samples)


def common_decay(ratios: Sequence[OverlapRatio], log_gain: Array) -> float:
    """How much the attenuation follows the brightness, per sample of typical tissue; at least 0."""
    cuts = [(r.first, r.cut) for r in ratios if r.cut is not None and r.cut.level > 0]
    if not cuts:
        return 0.0
    brightness = _relative_brightness([c.level for _, c in cuts], log_gain[[i for i, _ in cuts]])
    each = [
        c.decay / relative
        for (_, c), relative in zip(cuts, brightness, strict=True)
        if c.decay is not None and np.isfinite(c.decay)
    ]
    return max(float(np.median(each)), 0.0) if each else 0.0


def measure_level_steps(ratios: Sequence[OverlapRatio], log_factor: Array) -> Array:
    """Brightness steps that are left between slices once each is multiplied by its factor.

    Both sides of a step are the same tissue, so anatomy has no part in it.

    Parameters
    ----------
    ratios : sequence of OverlapRatio
    log_factor : ndarray (n,)
        Natural logarithm of the factor of every slice.

    Returns
    -------
    ndarray (len(ratios),)
        ``ln(first / second)``: 0.05 is a first slice that is 5 % brighter.
    """
    factor = np.asarray(log_factor, np.float64)
    return np.array([r.log_ratio + factor[r.first] - factor[r.second] for r in ratios])


def _relative_brightness(level: Sequence[float], log_gain: Array) -> Array:
    """Brightness of cut tissue, freed of its slices' gains, relative to the typical one."""
    log_level = np.log(np.asarray(level, np.float64)) - log_gain
    return np.asarray(np.exp(log_level - log_level.mean()))


def measure_agarose_level(
    agarose: DepthProfile, log_instrument: Array, depths: tuple[int, int], floor: float
) -> tuple[float, float]:
    """Log brightness of a slice's agarose and its standard error.

    Parameters
    ----------
    agarose : DepthProfile
        Of A-lines without any tissue, below the surface, above the floor.
    log_instrument : ndarray (d,)
        Sensitivity over depth without attenuation (`AgaroseCover.log_instrument`).
    depths : (int, int)
        Depths that are averaged.
    floor : float
        The noise floor that was taken off: agarose hardly brighter than it is no reference.

    Returns
    -------
    level, sigma : float
        NaN and infinity without enough agarose.
    """
    n = min(len(agarose.mean), len(log_instrument))
    depth = np.arange(n)
    mean, weight = np.nan_to_num(agarose.mean[:n]), np.nan_to_num(agarose.weight[:n])
    seen = (depth >= depths[0]) & (depth < depths[1]) & (mean > 0)
    seen &= weight > 0.3 * weight.max(initial=0.0)
    if seen.sum() < 4 or weight.max(initial=0.0) < _LEAST_A_LINES:
        return float("nan"), float("inf")
    level = float(np.mean(np.log(mean[seen]) - log_instrument[:n][seen]))
    uncertain = _FLOOR_ERROR * max(floor, 0.0) / float(mean[seen].mean())
    sampled = _PER_A_LINE / np.sqrt(float(weight.max()))
    return level, float(np.sqrt(_AGAROSE_SIGMA**2 + uncertain**2 + sampled**2))


@dataclass(frozen=True)
class _Equations:
    """What is known of the gains, in the order of the unknowns: gains, common slope, agarose."""

    base: Array
    first: Array
    second: Array
    ratio: Array
    ratio_sigma: Array
    distance: Array
    samples: Array
    level: Array
    """NaN for pairs without a cut."""
    agarose: Array
    agarose_sigma: Array
    prior_sigma: float
    decay: float

    def linearised(self, gain: Array) -> tuple[Array, Array]:
        """Whitened matrix and right side for a change of the gains."""
        n, m = len(gain), len(self.ratio)
        anchors = np.flatnonzero(np.isfinite(self.agarose))
        rows = np.zeros((m + len(anchors) + n, n + 2))
        right = np.zeros(len(rows))
        sigma = np.concatenate(
            [self.ratio_sigma, self.agarose_sigma[anchors], np.full(n, self.prior_sigma)]
        )
        costs, excess = np.zeros(m), np.zeros(m)
        cut = np.isfinite(self.level)
        if cut.any():
            here = self.first[cut]
            usual = float(np.mean(np.log(self.level[cut]) - self.base[here]))
            brightness = np.exp(np.log(self.level[cut]) - gain[here] - usual)
            costs[cut] = self.decay * self.samples[cut] * brightness
            excess[cut] = self.decay * self.samples[cut] * (brightness - 1)
        pair = np.arange(m)
        rows[pair, self.first] = 1.0 + costs
        rows[pair, self.second] = -1.0
        rows[pair, n] = self.distance
        right[:m] = self.ratio + excess - (gain[self.first] - gain[self.second])
        at = m + np.arange(len(anchors))
        rows[at, anchors] = rows[at, n + 1] = 1.0
        if len(anchors):
            right[at] = self.agarose[anchors] - np.median(self.agarose[anchors]) - gain[anchors]
        rows[m + len(anchors) :, :n] = np.eye(n)
        right[m + len(anchors) :] = self.base - gain
        return rows / sigma[:, None], right / sigma

    def robust(self, residual: Array) -> Array:
        """Weight of every equation: pairs stand in a chain that must not break, agarose may be tissue by mistake."""
        m, n = len(self.ratio), len(self.base)
        weight = np.ones(len(residual))
        weight[:m] = 1 / np.maximum(np.abs(residual[:m]) / 3, 1)
        weight[m:-n] = 1 / (1 + (residual[m:-n] / _CAUCHY) ** 2)
        return weight


def refine_log_gains(
    log_gain: Array,
    position: Array,
    ratios: Sequence[OverlapRatio],
    *,
    agarose: tuple[Array, Array] | None = None,
    correction_sigma: float = 0.2,
) -> Array:
    """Correct the gains of slices by how bright the same registered tissue is in two of them, and by agarose.

    The gains of `soct.intensity.depth_sensitivity` come from mean profiles, whose fields of view differ
    from slice to slice. Registered overlaps see the same tissue; but an error of the sensitivity's slope biases all
    of them alike, and would add up along the stack. That common part is solved beside the corrections
    and left out, so that without agarose the course of brightness over the whole stack stays as it was.

    Parameters
    ----------
    log_gain : ndarray (n,)
        Log gain of every slice.
    position : ndarray (n,)
        Depth of every slice, in any unit.
    ratios : sequence of OverlapRatio
        Registered overlaps, both sides corrected for depth but not for gain.
    agarose : (ndarray (n,), ndarray (n,)), optional
        `measure_agarose_level` of every slice; NaN where there is none.
    correction_sigma : float
        Expected scatter of the corrections.

    Returns
    -------
    ndarray (n,)
        Corrected log gains; as given where no overlap says anything.
    """
    gain = np.asarray(log_gain, np.float64).copy()
    good = [r for r in ratios if np.isfinite(r.log_ratio) and np.isfinite(r.sigma) and r.sigma > 0]
    n = len(gain)
    if n < 2 or not good:
        return gain
    level, sigma = agarose if agarose is not None else (np.full(n, np.nan), np.full(n, np.inf))
    known = np.isfinite(level) & np.isfinite(sigma)
    if known.sum() < _LEAST_ANCHORS:
        known[:] = False
    at = np.asarray(position, np.float64)
    scale = max(float(np.ptp(at)) / (n - 1), 1e-9)
    first, second = np.array([r.first for r in good]), np.array([r.second for r in good])
    equations = _Equations(
        base=gain.copy(),
        first=first,
        second=second,
        ratio=np.array([r.log_ratio for r in good]),
        ratio_sigma=np.hypot([r.sigma for r in good], _RATIO_FLOOR),
        distance=(at[second] - at[first]) / scale,
        samples=np.array([r.cut.samples if r.cut else 0.0 for r in good]),
        level=np.array([r.cut.level if r.cut and r.cut.level > 0 else np.nan for r in good]),
        agarose=np.where(known, level, np.nan),
        agarose_sigma=np.asarray(sigma, np.float64),
        prior_sigma=correction_sigma,
        decay=common_decay(good, gain),
    )
    robust: Array | None = None
    for _ in range(_ROUNDS):
        rows, right = equations.linearised(gain)
        weighted = rows if robust is None else rows * robust[:, None]
        with threadpool_limits(1, "blas"):
            # Without agarose its column is empty.
            normal = rows.T @ weighted + 1e-9 * np.eye(n + 2)
            solved = np.linalg.solve(normal, weighted.T @ right)
        robust = equations.robust(rows @ solved - right)
        # The scale of all gains is free: what is corrected is how they differ.
        gain += solved[:n] - solved[:n].mean()
    return gain
