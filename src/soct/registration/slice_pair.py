"""Rigid registration in the plane of two slices that overlap in depth.

Every rotation and shift in range is tried at low resolution (`search`); the best few are refined from level
to level (`newton`), and at the working resolution through the filter that the data ask for (`coherence`).
The result is compared with its start by the same measure and with the registration in which the two swap
roles. A pair that reaches a bound or gains nothing keeps its start, with the reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.registration.confidence import PairEvidence, pair_confidence
from soct.registration.contrast import (
    BoolArray,
)
from soct.registration.levels import (
    LEAST_SIDE_PX,
    Level,
    build_levels,
    filtered,
    gathered,
    pixel_matrix,
)
from soct.registration.newton import Model, align, correlation
from soct.registration.row_sums import Matrix
from soct.registration.search import search
from soct.registration.spline import spline_coefficients
from soct.registration.transforms import (
    AffineTransform2D,
    RigidTransform2D,
    affine_from_matrix,
    rigid_from_matrix,
)
from soct.space import FloatArray

_FINE_ROWS = 512
_SEARCH_PLANES = 4
_BLURRING_PX = 0.25
_MOST_INVERSE_PX = 4.0
_REFINED = 8
_KEPT = 3
_CLEAR_SPREADS = 2.5
"""A candidate this far behind at low resolution is not looked at again at a higher one."""


@dataclass(frozen=True)
class SlicePairResult:
    """The transform between two slices and how far it can be trusted.

    Attributes
    ----------
    transform : RigidTransform2D or AffineTransform2D
        Fixed points to moving points, full-resolution pixels, about the fixed image's centre. The start
        (`initial_shift`, no rotation) where the pair was not accepted.
    accepted : bool
        Whether the images moved the pair away from its start.
    reason : str
        ``"registered"``, or why the pair keeps its start.
    ncc_before, ncc_after : float
        Pooled correlation of the filtered images at the start and at the result.
    sharpness : float
        Lead of the best candidate over the best different one, in spreads of the search.
    inverse_error_px : float
        RMS distance over the overlap between the result and the registration with roles swapped.
    confidence : float
        0 to 1; above 0.6 at least 95 % of simulated pairs are within 1 px (``benchmarks/slice_pairs.py``).
    covariance : (3, 3) float64
        Of shift ``(y, x)`` in pixels and rotation in degrees.
    bounded_translation, bounded_rotation : bool
        Whether the bound was hit.
    overlap : float
        Share of the smaller image's valid pixels that were compared.
    candidate : RigidTransform2D or AffineTransform2D
        What the images said, accepted or not.
    """

    transform: RigidTransform2D | AffineTransform2D
    accepted: bool
    reason: str
    ncc_before: float
    ncc_after: float
    sharpness: float
    inverse_error_px: float
    confidence: float
    covariance: NDArray[np.float64]
    bounded_translation: bool
    bounded_rotation: bool
    overlap: float
    candidate: RigidTransform2D | AffineTransform2D

    @property
    def rotation_deg(self) -> float:
        """Rotation of the transform in degrees, from +x towards +y."""
        return self.transform.rotation_deg

    @property
    def shift(self) -> tuple[float, float]:
        """``(dy, dx)`` of the transform in pixels."""
        return self.transform.shift

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of rotation ``(y, x)`` in pixels."""
        return self.transform.centre

    @property
    def sigma_px(self) -> float:
        """Predicted RMS error over the fixed image, in pixels."""
        return _sigma(self.covariance, self.transform.centre)


def _stack(images: Any, valid: Any, name: str) -> tuple[FloatArray, BoolArray]:
    stack = np.ascontiguousarray(images, dtype=np.float32)
    if stack.ndim == 2:
        stack = stack[None]
    if stack.ndim != 3:
        raise ValueError(f"`{name}` must be (k, h, w) or (h, w), not {stack.ndim}-dimensional")
    mask = np.isfinite(stack)
    if valid is not None:
        mask &= np.broadcast_to(np.asarray(valid, dtype=bool), stack.shape)
    if not mask.all():
        stack = np.where(mask, stack, np.float32(0))
    return stack, np.ascontiguousarray(mask)


@dataclass(frozen=True)
class _Found:
    """A candidate after refinement, as a full-resolution matrix."""

    matrix: Matrix
    score: float


def _displacement(a: Matrix, b: Matrix, shape: tuple[int, int]) -> float:
    """RMS distance in pixels between where two transforms send a regular grid over the image."""
    ys, xs = (np.arange(7) * ((n - 1) / 6) for n in shape)
    dy, dx = (a - b)[:2]
    # Means of products over the grid, written out: this is asked for every pair of candidates.
    my, mx, myy, mxx = ys.mean(), xs.mean(), (ys * ys).mean(), (xs * xs).mean()
    total = sum(
        p * p * myy + q * q * mxx + r * r + 2 * (p * q * my * mx + p * r * my + q * r * mx)
        for p, q, r in (dy, dx)
    )
    return math.sqrt(max(float(total), 0.0))


def _distinct(found: list[_Found], radius_px: float, shape: tuple[int, int]) -> list[_Found]:
    out: list[_Found] = []
    for one in sorted(found, key=lambda c: -c.score):
        if all(_displacement(one.matrix, other.matrix, shape) > radius_px for other in out):
            out.append(one)
    return out


def _start(
    level: Level,
    initial: RigidTransform2D,
    max_translation_px: float,
    max_rotation_deg: float,
    model: Model,
    shape: tuple[int, int],
) -> tuple[list[_Found], float]:
    """Candidates from the exhaustive search, refined at its level, and the spread of its scores."""
    centre = tuple((n - 1) / 2.0 for n in level.moving.valid.shape[1:])
    # How far the moving stack's centre lies from the place where it starts, in level pixels.
    start = rigid_from_matrix(level.from_full(initial.matrix()), (centre[0], centre[1])).shift
    candidates = search(
        *gathered(level.fixed, _SEARCH_PLANES),
        *gathered(level.moving, _SEARCH_PLANES),
        start,
        max_translation_px / level.factor + 1.0,
        0.0 if model == "translation" else max_rotation_deg,
    )
    spread = float(np.median([c.spread for c in candidates])) if candidates else 0.0
    first = [_Found(level.to_full(c.transform.matrix()), c.score) for c in candidates]
    first = _distinct(first[:60], 1.5 * level.factor, shape)[:_REFINED]
    return [_refined(level, one, model, 8) for one in first], spread


def _refined(level: Level, one: _Found, model: Model, steps: int) -> _Found:
    rigid: Model = "euler" if model == "affine" else model
    result = level.refine(one.matrix, rigid, steps, 0.05)
    compared = result.pixels * level.row_step
    share = min(1.0, compared / max(min(level.fixed.inner_pixels, level.moving.inner_pixels), 1))
    return _Found(level.to_full(result.matrix), result.ncc * math.sqrt(share))


def register_slice_pair(
    fixed: Any,
    moving: Any,
    *,
    fixed_valid: Any = None,
    moving_valid: Any = None,
    initial_shift: tuple[float, float] = (0.0, 0.0),
    max_translation_px: float = 30.0,
    max_rotation_deg: float = 5.0,
    transform: Model = "euler",
    working_px: int = 1024,
) -> SlicePairResult:
    """Register two slices in the plane, on planes that face each other.

    Parameters
    ----------
    fixed, moving : (k, h, w) or (h, w) float
        Intensities (not logarithms), linear, at least 0; plane i of one faces plane i of the other. NaN is
        no data. The two may differ in h and w.
    fixed_valid, moving_valid : (k, h, w) or (h, w) bool, optional
        Where there are data; everywhere by default.
    initial_shift : (dy, dx)
        Where the moving image's origin is expected in the fixed image, in pixels (stage positions).
    max_translation_px : float
        How far the images may move the overlap's centre from the start, in pixels.
    max_rotation_deg : float
        Largest rotation in either direction, 0 to 90.
    transform : {"euler", "translation", "affine"}
        Model; an affine result is found from the rigid one at the working resolution.
    working_px : int
        Images wider than 1.5 times this are first averaged over whole blocks down to it.

    Returns
    -------
    SlicePairResult

    Raises
    ------
    ValueError
        For stacks of different numbers of planes, or bounds that are negative.
    """
    if transform not in ("euler", "translation", "affine"):
        raise ValueError(f"`transform` must be euler, translation or affine, not {transform!r}")
    if max_translation_px < 0 or not 0 <= max_rotation_deg <= 90:
        raise ValueError("bounds must not be negative, and a rotation at most 90 degrees")
    f, f_valid = _stack(fixed, fixed_valid, "fixed")
    m, m_valid = _stack(moving, moving_valid, "moving")
    if f.shape[0] != m.shape[0]:
        raise ValueError(f"{f.shape[0]} fixed planes face {m.shape[0]} moving planes")
    shape = (f.shape[1], f.shape[2])
    initial = RigidTransform2D(0.0, initial_shift, ((shape[0] - 1) / 2, (shape[1] - 1) / 2))
    if min(*shape, *m.shape[1:]) < LEAST_SIDE_PX:
        return _unmoved(initial, f"fewer than {LEAST_SIDE_PX} px across")
    levels = build_levels(f, f_valid, m, m_valid, working_px)
    found, spread = _start(
        levels[-1], initial, max_translation_px, max_rotation_deg, transform, shape
    )
    if not found:
        return _unmoved(initial, "no overlap with data in both")
    sharpness, forward, backward = _descend(levels, found, spread, transform, shape)
    inverse_error = _displacement(forward, np.asarray(np.linalg.inv(backward)), shape)
    return _finish(
        levels[0],
        forward,
        initial,
        inverse_error,
        sharpness,
        transform,
        _Bounds(max_translation_px, max_rotation_deg),
    )


@dataclass(frozen=True)
class _Bounds:
    translation_px: float
    rotation_deg: float


def _descend(
    levels: list[Level], found: list[_Found], spread: float, model: Model, shape: tuple[int, int]
) -> tuple[float, Matrix, Matrix]:
    """From the candidates to a start for the working level, which is also found with roles swapped."""
    coarse = levels[-1]
    ranked = _distinct(found, 4.0 * coarse.factor, shape)
    lead = ranked[0].score - (ranked[1].score if len(ranked) > 1 else 0.0)
    sharpness = lead / max(spread, 1e-6)
    if len(levels) > 1:
        clear = ranked[0].score - _CLEAR_SPREADS * spread
        close = [_refined(levels[-2], c, model, 8) for c in ranked[:_KEPT] if c.score >= clear]
        ranked = sorted(close, key=lambda c: -c.score)
    best = ranked[0].matrix
    rigid: Model = "euler" if model == "affine" else model
    for level in levels[-3:0:-1]:
        best = level.to_full(level.refine(best, rigid, 8, 0.02).matrix)
    check = levels[min(1, len(levels) - 1)]
    forward = check.to_full(check.refine(best, rigid, 8, 0.005).matrix)
    # The swapped registration starts off the answer, so that agreeing with it is evidence.
    nudge = np.array([[1.0, 0.0, 0.7], [0.0, 1.0, -0.7], [0.0, 0.0, 1.0]])
    away = check.to_full(nudge @ check.from_full(np.asarray(np.linalg.inv(best))))
    back = check.swapped().refine(away, rigid, 12, 0.005)
    return float(sharpness), forward, check.to_full(back.matrix)


def _finish(
    level: Level,
    best: Matrix,
    initial: RigidTransform2D,
    inverse_error: float,
    sharpness: float,
    model: Model,
    bounds: _Bounds,
) -> SlicePairResult:
    """Refine at the working level, judge, and put the result together."""
    planes, h, _ = level.fixed.valid.shape
    # Neighbouring rows of a filtered image say much the same; planes look between each other's rows.
    step = max(1, h // _FINE_ROWS, planes * h // (2 * _FINE_ROWS))
    for _ in range(2):
        f, m = filtered(level, best)
        sides = (f, level.fixed.inner, spline_coefficients(m), level.moving.inner)
        result = align(
            *sides, level.from_full(best), model, tolerance_px=0.01, max_steps=8, row_step=step
        )
        start, best = best, level.to_full(result.matrix)
        # A start that was off has blurred the coherence that the filter was made from.
        if _displacement(start, best, (h, level.fixed.valid.shape[2])) < _BLURRING_PX:
            break
    before, _ = correlation(*sides, level.from_full(initial.matrix()), step)
    matrix = best
    centre = initial.centre
    candidate: RigidTransform2D | AffineTransform2D
    if model == "affine":
        candidate = affine_from_matrix(matrix, centre)
    else:
        candidate = rigid_from_matrix(matrix, centre)
    middle = _overlap_centre(level, result.matrix)
    moved = candidate.apply(middle) - initial.apply(middle)
    far = float(np.hypot(*moved)) > bounds.translation_px + 1e-6
    turned = model != "translation" and abs(candidate.rotation_deg) > bounds.rotation_deg + 1e-6
    overlap = (
        step * result.pixels / max(min(level.fixed.inner_pixels, level.moving.inner_pixels), 1)
    )
    units = np.array([level.factor, level.factor, math.degrees(1.0)])
    covariance = result.covariance * units[:, None] * units[None, :]
    evidence = PairEvidence(
        ncc_before=before,
        ncc_after=result.ncc,
        sharpness=sharpness,
        inverse_error_px=inverse_error,
        sigma_px=_sigma(covariance, centre),
        overlap=float(min(1.0, overlap)),
    )
    reason = "registered"
    if far:
        reason = f"translation beyond the bound of {bounds.translation_px:g} px"
    elif turned:
        reason = f"rotation beyond the bound of {bounds.rotation_deg:g} degrees"
    elif not math.isfinite(evidence.sigma_px):
        reason = "too little in common to tell how precise it is"
    elif inverse_error > _MOST_INVERSE_PX:
        reason = "the registration with roles swapped disagrees"
    elif result.ncc <= before and not np.allclose(matrix, initial.matrix(), atol=1e-3):
        reason = "no improvement over the start"
    accepted = reason == "registered"
    return SlicePairResult(
        transform=candidate if accepted else initial,
        accepted=accepted,
        reason=reason,
        ncc_before=before,
        ncc_after=result.ncc,
        sharpness=sharpness,
        inverse_error_px=inverse_error,
        confidence=pair_confidence(evidence) if accepted else 0.0,
        covariance=covariance,
        bounded_translation=far,
        bounded_rotation=turned,
        overlap=float(min(1.0, overlap)),
        candidate=candidate,
    )


def _overlap_centre(level: Level, matrix: Matrix) -> NDArray[np.float64]:
    """Middle of the fixed pixels whose moving ones exist, in full-resolution pixels."""
    h, w = level.fixed.valid.shape[1:]
    hm, wm = level.moving.valid.shape[1:]
    ys, xs = np.meshgrid(np.arange(0, h, 4.0), np.arange(0, w, 4.0), indexing="ij")
    q = np.stack([ys, xs, np.ones_like(ys)], axis=-1) @ matrix[:2].T
    inside = (q >= 0).all(axis=-1) & (q[..., 0] <= hm - 1) & (q[..., 1] <= wm - 1)
    if not inside.any():
        inside[:] = True
    point = np.array([ys[inside].mean(), xs[inside].mean(), 1.0])
    return np.asarray((pixel_matrix(float(level.factor)) @ point)[:2])


def _sigma(covariance: NDArray[np.float64], centre: tuple[float, float]) -> float:
    """Predicted RMS error over the image in pixels."""
    lever = math.radians(1.0) ** 2 * (centre[0] ** 2 + centre[1] ** 2) / 3.0
    variance = covariance[0, 0] + covariance[1, 1] + covariance[2, 2] * lever
    return math.sqrt(variance) if math.isfinite(variance) and variance >= 0 else math.inf


def _unmoved(initial: RigidTransform2D, reason: str) -> SlicePairResult:
    return SlicePairResult(
        transform=initial,
        accepted=False,
        reason=reason,
        ncc_before=0.0,
        ncc_after=0.0,
        sharpness=0.0,
        inverse_error_px=math.inf,
        confidence=0.0,
        covariance=np.full((3, 3), np.inf),
        bounded_translation=False,
        bounded_rotation=False,
        overlap=0.0,
        candidate=initial,
    )
