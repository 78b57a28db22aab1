"""How deep a slice lies in the one cut before it.

Plane m of the moving slice shows what plane ``m + offset`` of the fixed slice showed. Every moving plane is
compared with the fixed planes around the expected offset and the correlations are pooled by offset. Signal
falls with depth, so the deeper of two planes always correlates less, which would pull a flat peak; each
slice's own correlation between nearby planes tells how much of a plane is signal, and is divided out.
Anatomy changes slowly in depth: a flat curve gives a wide error and a low confidence, and the caller's
prior decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soct.registration.coherence import sample_tile
from soct.registration.contrast import (
    BoolArray,
    block_mean,
    gaussian_weights,
    local_contrast,
    log_intensity,
    smooth,
)
from soct.registration.transforms import AffineTransform2D, RigidTransform2D
from soct.space import FloatArray

Floats = NDArray[np.float64]
PlaneLoader = Callable[[int], tuple[Any, Any]]
"""Plane number to ``(plane (h, w), valid (h, w) or None)``."""

_WORKING_PX = 256
_MOST_PLANES = 16
_LEAST_NCC = 0.02
_GROUPS = 4


@dataclass(frozen=True)
class DepthMatchResult:
    """Where the moving slice lies in the fixed one.

    Attributes
    ----------
    offset : float
        Moving plane m shows what fixed plane ``m + offset`` shows; the expected offset on a fallback.
    sigma : float
        Predicted standard deviation of the measured offset, in planes; infinite on a fallback.
    confidence : float
        0 to 1.
    fallback_used : bool
        Whether `offset` is the expected one.
    reason : str
        ``"matched"``, or why the expected offset was kept.
    ncc : float
        Pooled correlation at the peak.
    offsets, curve : (n,) float64
        Whole offsets tried and the pooled correlation at each (NaN where no planes met).
    pairs : int
        Plane pairs pooled.
    """

    offset: float
    sigma: float
    confidence: float
    fallback_used: bool
    reason: str
    ncc: float
    offsets: Floats
    curve: Floats
    pairs: int


def _loader(planes: Any, valid: Any) -> PlaneLoader:
    if callable(planes):
        return planes

    def load(z: int) -> tuple[Any, Any]:
        if valid is None:
            return planes[z], None
        mask = np.asarray(valid)
        return planes[z], mask[z] if mask.ndim == 3 else mask

    return load


def _prepare(load: PlaneLoader, z: int) -> tuple[FloatArray, BoolArray, int]:
    """One plane's smooth local contrast at the working resolution, and the factor of the reduction."""
    plane, valid = load(z)
    image = np.ascontiguousarray(plane, dtype=np.float32)[None]
    mask = np.isfinite(image)
    if valid is not None:
        mask &= np.asarray(valid, dtype=bool)[None]
    image = np.where(mask, image, np.float32(0))
    factor = max(1, math.ceil(max(image.shape[1:]) / (1.5 * _WORKING_PX)))
    if factor > 1:
        image, mask = block_mean(image, mask, factor)
    contrast = local_contrast(log_intensity(image, mask), mask, 12.0)
    return smooth(contrast, mask, gaussian_weights(1.5)), mask, factor


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _ncc(
    a: FloatArray, a_valid: BoolArray, b: FloatArray, b_valid: BoolArray
) -> float:  # pragma: no cover - compiled
    """Correlation over the pixels valid in both, NaN where these are fewer than 64."""
    h, w = a.shape
    n, sums = 0.0, np.zeros(5)
    for y in range(h):
        # A row in single precision vectorises; its values are of the order of 1.
        zero = np.float32(0)
        count, p1, q1, pp, qq, pq = zero, zero, zero, zero, zero, zero
        p_row, q_row, p_ok, q_ok = a[y], b[y], a_valid[y], b_valid[y]
        for x in range(w):
            both = p_ok[x] & q_ok[x]
            p = p_row[x] if both else zero
            q = q_row[x] if both else zero
            count += np.float32(both)
            p1 += p
            q1 += q
            pp += p * p
            qq += q * q
            pq += p * q
        n += float(count)
        sums[0] += p1
        sums[1] += q1
        sums[2] += pp
        sums[3] += qq
        sums[4] += pq
    if n < 64:
        return math.nan
    p_mean, q_mean = sums[0] / n, sums[1] / n
    both_spreads = (sums[2] - n * p_mean**2) * (sums[3] - n * q_mean**2)
    return (sums[4] - n * p_mean * q_mean) / math.sqrt(max(both_spreads, 1e-30))


@dataclass(frozen=True)
class _Planes:
    """Prepared planes by number."""

    image: dict[int, FloatArray]
    valid: dict[int, BoolArray]

    def compare(self, z: int, other: _Planes, z_other: int) -> float:
        return float(_ncc(self.image[z], self.valid[z], other.image[z_other], other.valid[z_other]))


def _signal(planes: _Planes) -> dict[int, float]:
    """Log of each plane's signal share, quadratic in depth, from pairs of planes 2 to 4 apart."""
    numbers = sorted(planes.image)
    rows, right = [], []
    middle = 0.5 * (numbers[0] + numbers[-1])
    half = max(0.5 * (numbers[-1] - numbers[0]), 1.0)
    for lag in (2, 3, 4):
        for z in numbers:
            if z + lag not in planes.image:
                continue
            value = planes.compare(z, planes, z + lag)
            if value > _LEAST_NCC:
                u, v = (z - middle) / half, (z + lag - middle) / half
                rows.append([u + v, u * u + v * v, *(float(lag == one) for one in (2, 3, 4))])
                right.append(math.log(value))
    if len(rows) < 6:
        return dict.fromkeys(numbers, 0.0)
    fit = np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    return {
        z: float(fit[0] * (z - middle) / half + fit[1] * ((z - middle) / half) ** 2)
        for z in numbers
    }


def _peak(offsets: Floats, curve: Floats) -> tuple[float, float]:
    """Place and curvature of the maximum: a parabola over its upper part, at least three points."""
    top = int(np.nanargmax(curve))
    low = float(np.nanmin(curve))
    level = curve[top] - 0.35 * (curve[top] - low)
    left = right = top
    while left > 0 and curve[left - 1] >= level:
        left -= 1
    while right < curve.size - 1 and curve[right + 1] >= level:
        right += 1
    reach = max(1, min(top - left, right - top))
    span = slice(max(0, top - reach), min(curve.size, top + reach + 1))
    x, y = offsets[span] - offsets[top], curve[span]
    if x.size < 3 or not np.isfinite(y).all():
        return float(offsets[top]), 0.0
    bend, slope, _ = np.polyfit(x, y, 2)
    if bend >= 0:
        return float(offsets[top]), 0.0
    return float(offsets[top] + np.clip(-slope / (2 * bend), -reach, reach)), float(-2 * bend)


def _pool(table: Floats) -> Floats:
    """Mean over the moving planes at each offset; a plane's own level is taken out first."""
    usable = np.isfinite(table).all(axis=1)
    if usable.any():
        return np.asarray(table[usable].mean(axis=0))
    count = np.isfinite(table).sum(axis=0)
    total = np.nansum(table, axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def match_depth(
    fixed: Any,
    moving: Any,
    n_fixed: int,
    n_moving: int,
    expected_offset: float,
    allowed_drift: float,
    *,
    transform: RigidTransform2D | AffineTransform2D | None = None,
    fixed_valid: Any = None,
    moving_valid: Any = None,
    moving_range: tuple[int, int] | None = None,
    fixed_range: tuple[int, int] | None = None,
) -> DepthMatchResult:
    """Find the depth of the moving slice in the fixed one.

    Parameters
    ----------
    fixed, moving : (z, h, w) array, or function of a plane number
        A function returns ``(plane (h, w), valid (h, w) or None)``; each plane is loaded once.
    n_fixed, n_moving : int
        Numbers of planes; any.
    expected_offset : float
        From the stage or the cutting interval, in planes.
    allowed_drift : float
        How far from it to look, in planes.
    transform : RigidTransform2D or AffineTransform2D, optional
        Fixed to moving pixels, found beforehand; identity by default.
    fixed_valid, moving_valid : (z, h, w) or (h, w) bool, optional
        For arrays: where there are data.
    moving_range, fixed_range : (first, past last), optional
        Planes worth comparing: below the surface, above the noise.

    Returns
    -------
    DepthMatchResult
    """
    low, high = (
        math.floor(expected_offset - allowed_drift),
        math.ceil(expected_offset + allowed_drift),
    )
    offsets = np.arange(low, high + 1, dtype=np.float64)
    m0, m1 = moving_range or (0, n_moving)
    f0, f1 = fixed_range or (0, n_fixed)
    m0, m1, f0, f1 = max(m0, 0), min(m1, n_moving), max(f0, 0), min(f1, n_fixed)
    # Planes that meet a fixed plane at every offset are best: all offsets then see the same tissue.
    numbers = [z for z in range(m0, m1) if f0 <= z + low and z + high < f1]
    if len(numbers) < 2:
        numbers = [z for z in range(m0, m1) if z + high >= f0 and z + low < f1]
    if not numbers:
        return _expected(expected_offset, offsets, "the slices don't overlap in depth")
    numbers = numbers[:: -(-len(numbers) // _MOST_PLANES)]
    table, pairs = _correlations(
        _loader(fixed, fixed_valid),
        _loader(moving, moving_valid),
        numbers,
        offsets,
        (f0, f1),
        transform,
    )
    if pairs == 0:
        return _expected(expected_offset, offsets, "no data in common")
    curve = _pool(table)
    return _judged(table, curve, offsets, expected_offset, allowed_drift, pairs)


def _correlations(
    load_fixed: PlaneLoader,
    load_moving: PlaneLoader,
    numbers: list[int],
    offsets: Floats,
    fixed_range: tuple[int, int],
    transform: RigidTransform2D | AffineTransform2D | None,
) -> tuple[Floats, int]:
    """Correlation of each moving plane (rows) at each offset (columns), freed of the loss with depth."""
    moving, fixed = _Planes({}, {}), _Planes({}, {})
    wanted = sorted({z + int(d) for z in numbers for d in offsets})
    shape: tuple[int, int] | None = None
    factor = 1
    for z in wanted:
        if fixed_range[0] <= z < fixed_range[1]:
            image, valid, factor = _prepare(load_fixed, z)
            fixed.image[z], fixed.valid[z] = image[0], valid[0]
            shape = image.shape[1:]
    near = sorted({z + d for z in numbers for d in (0, 2)} & set(range(max(numbers) + 1)))
    for z in near:
        image, valid, moving_factor = _prepare(load_moving, z)
        if shape is not None:
            image, valid = _into_fixed(image, valid, transform, shape, (factor, moving_factor))
        moving.image[z], moving.valid[z] = image[0], valid[0]
    table = np.full((len(numbers), offsets.size), np.nan)
    if not fixed.image:
        return table, 0
    signal_f, signal_m = _signal(fixed), _signal(moving)
    for i, z in enumerate(numbers):
        for j, d in enumerate(offsets):
            other = z + int(d)
            if other in fixed.image:
                share = math.exp(signal_f[other] + signal_m[z])
                table[i, j] = moving.compare(z, fixed, other) / max(share, 0.05)
    return table, int(np.isfinite(table).sum())


def _into_fixed(
    image: FloatArray,
    valid: BoolArray,
    transform: RigidTransform2D | AffineTransform2D | None,
    shape: tuple[int, int],
    factors: tuple[int, int],
) -> tuple[FloatArray, BoolArray]:
    """Sample a reduced moving plane at the reduced fixed plane's pixels."""
    matrix = np.eye(3) if transform is None else transform.matrix()
    to_full, from_full = np.eye(3), np.eye(3)
    for place, factor in ((to_full, factors[0]), (from_full, factors[1])):
        place[0, 0] = place[1, 1] = factor
        place[:2, 2] = (factor - 1) / 2
    matrix = np.linalg.inv(from_full) @ matrix @ to_full
    side = max(shape)
    sampled, _ = sample_tile(image, valid, matrix, 0, 0, side)
    inside, _ = sample_tile(valid.astype(np.float32), valid, matrix, 0, 0, side)
    h, w = shape
    return sampled[:, :h, :w], np.ascontiguousarray(inside[:, :h, :w] > 0.99)


def _judged(
    table: Floats,
    curve: Floats,
    offsets: Floats,
    expected: float,
    drift: float,
    pairs: int,
) -> DepthMatchResult:
    """Measure the peak, and its spread over groups of moving planes (jackknife)."""
    offset, bend = _peak(offsets, curve)
    ncc = float(np.nanmax(curve))
    groups = [table[g::_GROUPS] for g in range(min(_GROUPS, table.shape[0]))]
    left_out = []
    for g in range(len(groups)):
        rest = np.concatenate([one for k, one in enumerate(groups) if k != g] or groups)
        left_out.append(_peak(offsets, _pool(rest))[0])
    n = len(groups)
    sigma = (
        math.sqrt((n - 1) / n * float(np.sum((np.array(left_out) - np.mean(left_out)) ** 2)))
        if n > 1
        else drift
    )
    sigma = max(sigma, 0.05)
    prominence = (ncc - float(np.nanmin(curve))) / max(abs(ncc), 1e-6)
    reason = "matched"
    if ncc < _LEAST_NCC:
        reason = f"correlation {ncc:.3f} is no more than chance"
    elif bend <= 0 or not offsets[0] < offset < offsets[-1]:
        reason = "the correlation has no peak inside the allowed drift"
    elif abs(offset - expected) > drift:
        reason = "the peak lies beyond the allowed drift"
    elif sigma > max(drift, 1.0):
        reason = "the peak is too flat to tell the depth"
    if reason != "matched":
        return DepthMatchResult(
            float(expected), math.inf, 0.0, True, reason, ncc, offsets, curve, pairs
        )
    trust = (
        min(1.0, prominence / 0.3)
        * min(1.0, ncc / 0.1)
        / (1.0 + (sigma / max(0.5 * drift, 0.5)) ** 2)
    )
    return DepthMatchResult(offset, sigma, float(trust), False, reason, ncc, offsets, curve, pairs)


def _expected(expected: float, offsets: Floats, reason: str) -> DepthMatchResult:
    nothing = np.full(offsets.size, np.nan)
    return DepthMatchResult(float(expected), math.inf, 0.0, True, reason, 0.0, offsets, nothing, 0)
