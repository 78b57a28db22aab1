"""Sub-pixel alignment of two stacks by Newton's method on their correlation, planes pooled.

The objective is the correlation of the fixed planes with the moving planes sampled (cubic B-spline) at
``q = A p + t``; gain and offset between the two are free in every plane. The Hessian is built from products
of fixed and moving gradients: speckle is independent in the two, so their product holds the shared texture
alone, and steps keep their length in noise, where the usual ``J^T J`` shortens them (Evangelidis and
Psarakis, IEEE PAMI 30, 2008, for the objective; Benhimane and Malis, IROS 2004, for mixing gradients).

Sums are kept per image row, for they also give the covariance: the sandwich ``H^-1 V H^-1`` with V from sums
over bands of rows, which sees correlated noise and tissue that changed, unlike a residual variance per pixel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from soct.registration.contrast import BoolArray
from soct.registration.row_sums import Matrix, first_rows, row_sums
from soct.space import FloatArray

Model = Literal["euler", "translation", "affine"]

_BAND_ROWS = 16
_LEAST_PIXELS = 64
# Pixels that enter or leave at the edges change the correlation more than a short step does: such a step is
# judged by the gradient that it leaves.
_SURE_STEP_PX = 0.2


@dataclass(frozen=True)
class _Evaluation:
    """The objective at one transform, with what a Newton step needs; six affine parameters."""

    ncc: float
    pixels: int
    gradient: Matrix
    hessian: Matrix
    scores: Matrix


@dataclass(frozen=True)
class NewtonResult:
    """Where the alignment of two stacks ended.

    Attributes
    ----------
    matrix : (3, 3) float64
        Fixed point ``(y, x, 1)`` to moving point, pixels.
    ncc : float
        Pooled correlation there.
    pixels : int
        Pixels compared, over all planes.
    converged : bool
        Whether the last step was below the tolerance.
    covariance : (3, 3) float64
        Of ``(y, x)`` in pixels at the centre and the rotation in radians; infinite where undetermined.
    """

    matrix: Matrix
    ncc: float
    pixels: int
    converged: bool
    covariance: Matrix


def _basis(model: Model, linear: Matrix) -> Matrix:
    """Columns: how each parameter moves the six affine ones (u_y, A_yy, A_yx, u_x, A_xy, A_xx)."""
    if model == "affine":
        return np.eye(6)
    out = np.zeros((6, 3 if model == "euler" else 2))
    out[0, 0] = 1.0
    out[3, 1] = 1.0
    if model == "euler":
        # d/dtheta of R(theta) R0 is [[0, 1], [-1, 0]] R0 over (y, x).
        out[1:3, 2] = linear[1]
        out[4:6, 2] = -linear[0]
    return out


@njit(cache=True, nogil=True)
def _planes(sums: Matrix, least: float) -> Matrix:  # pragma: no cover - compiled
    """Pixels, correlation, gain, offset and weight of each plane, ``(k, 5)``; weight 0 where too few pixels.

    The weight is the correlation over the unexplained variance, never negative.
    """
    out = np.zeros((sums.shape[0], 5))
    for p in range(sums.shape[0]):
        total = np.zeros(6)
        for r in range(sums.shape[1]):
            for i in range(6):
                total[i] += sums[p, r, i]
        n = total[0]
        if n < least:
            continue
        mean_f, mean_m = total[1] / n, total[2] / n
        var_f = max(total[3] / n - mean_f**2, 1e-12)
        var_m = max(total[5] / n - mean_m**2, 1e-12)
        cov = total[4] / n - mean_f * mean_m
        rho = cov / math.sqrt(var_f * var_m)
        known = min(max(rho, 0.02), 0.98)
        gain = cov / var_m
        out[p, 0], out[p, 1], out[p, 2], out[p, 3] = n, rho, gain, mean_f - gain * mean_m
        out[p, 4] = known / (1.0 - known * known) / math.sqrt(var_f * var_m)
    return out


@njit(cache=True, nogil=True)
def _pooled(
    sums: Matrix, planes: Matrix, dy: Matrix, scores: Matrix, hessian: Matrix
) -> None:  # pragma: no cover - compiled
    """Fill each row's gradient and the Hessian of the six affine parameters, planes weighted."""
    for p in range(sums.shape[0]):
        gain, offset, weight = planes[p, 2], planes[p, 3], planes[p, 4]
        if weight == 0.0:
            continue
        for r in range(sums.shape[1]):
            s, d = sums[p, r], dy[p, r]
            # Gradients times (1, dx): those along y, then those along x.
            for axis in range(2):
                i, to = 2 * axis, 3 * axis
                level = weight * (s[6 + i] - gain * s[10 + i] - offset * s[14 + i])
                scores[p, r, to] = level
                scores[p, r, to + 1] = level * d
                scores[p, r, to + 2] = weight * (s[7 + i] - gain * s[11 + i] - offset * s[15 + i])
            for block in range(3):
                i = 18 + 3 * block
                # Blocks yy, yx, xx.
                y0, x0 = 3 * (block // 2), 3 * ((block + 1) // 2)
                a, b, c = weight * s[i], weight * s[i + 1], weight * s[i + 2]
                hessian[y0, x0] += a
                hessian[y0, x0 + 1] += a * d
                hessian[y0, x0 + 2] += b
                hessian[y0 + 1, x0 + 1] += a * d * d
                hessian[y0 + 1, x0 + 2] += b * d
                hessian[y0 + 2, x0 + 2] += c
    for y0, x0 in ((0, 0), (0, 3), (3, 3)):
        for i in range(3):
            for j in range(i):
                hessian[y0 + i, x0 + j] = hessian[y0 + j, x0 + i]
    hessian[3:, :3] = hessian[:3, 3:]


def _evaluate(sums: Matrix, dy: Matrix) -> _Evaluation:
    planes = _planes(sums, float(_LEAST_PIXELS))
    pixels = planes[:, 0].sum()
    if pixels == 0:
        return _Evaluation(-1.0, 0, np.zeros(6), np.zeros((6, 6)), np.zeros((0, 0, 6)))
    scores, hessian = np.zeros((*sums.shape[:2], 6)), np.zeros((6, 6))
    _pooled(sums, planes, dy, scores, hessian)
    ncc = float((planes[:, 0] * planes[:, 1]).sum() / pixels)
    return _Evaluation(ncc, int(pixels), scores.sum(axis=(0, 1)), hessian, scores)


def _covariance(at: _Evaluation, basis: Matrix, scale: float, step: int) -> Matrix:
    """Sandwich covariance of the first three parameters; the angle in radians."""
    out = np.full((3, 3), np.inf)
    d = min(basis.shape[1], 3)
    band = max(1, _BAND_ROWS // step)
    k, rows, _ = at.scores.shape
    if k == 0:
        return out
    bands = -(-rows // band)
    padded = np.zeros((k, bands * band, 6))
    padded[:, :rows] = at.scores
    score = padded.reshape(k * bands, band, 6).sum(axis=1) @ basis
    used = int(np.count_nonzero(np.abs(score).sum(axis=1)))
    if used <= d + 1:
        return out
    score = score - np.where(
        np.abs(score).sum(axis=1, keepdims=True) > 0, score.sum(axis=0) / used, 0
    )
    hessian = basis.T @ at.hessian @ basis
    try:
        inverse = np.linalg.inv(hessian)
    except np.linalg.LinAlgError:
        return out
    full = inverse @ (score.T @ score) @ inverse.T * (used / (used - d))
    if basis.shape[1] == 6:
        # Displacement at the centre, and the antisymmetric part of the linear one.
        turn = np.zeros((3, 6))
        turn[0, 0] = turn[1, 3] = 1.0
        turn[2, 2], turn[2, 4] = 0.5, -0.5
        full = turn @ full @ turn.T
    units = np.array([1.0, 1.0, 1.0 / scale])[: full.shape[0]]
    full = full * units[:, None] * units[None, :]
    if full.shape[0] == 2:
        out[:] = 0.0
        out[:2, :2] = full
        return out
    return full


def align(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    start: Matrix,
    model: Model = "euler",
    *,
    tolerance_px: float = 0.01,
    max_steps: int = 12,
    row_step: int = 1,
) -> NewtonResult:
    """Refine a transform to the nearest correlation peak; never worse than its start.

    Parameters
    ----------
    fixed : (k, h, w) float32
        Smooth local contrast, 0 where invalid.
    moving : (k, h, w) float32
        `spline_coefficients` of the other stack; the two may differ in h and w.
    fixed_valid, moving_valid : (k, h, w) bool
    start : (3, 3) float64
        Fixed to moving ``(y, x, 1)``, within about a pixel of the truth after smoothing.
    model : {"euler", "translation", "affine"}
    tolerance_px : float
        Ends with the first step that moves no pixel by more than this, in pixels.
    max_steps : int
        Evaluations at most.
    row_step : int
        Use every n-th row, other ones in every plane.
    """
    _, h, w = fixed.shape
    centre = np.array([(h - 1) / 2.0, (w - 1) / 2.0])
    scale = 0.5 * math.hypot(h, w)
    first = first_rows(fixed.shape[0], row_step)
    dy = (np.arange(0, h, row_step)[None, :] + first[:, None] - centre[0]) / scale

    def look(matrix: Matrix) -> _Evaluation:
        sums = row_sums(
            fixed, fixed_valid, moving, moving_valid, matrix, centre[1], scale, row_step
        )
        return _evaluate(sums, dy)

    here = start.copy()
    at = look(here)
    least = at.pixels * 0.5
    converged = False
    damping = 1.0
    delta = np.zeros(6)
    fresh = True
    for _ in range(max_steps):
        if at.pixels < _LEAST_PIXELS:
            break
        if fresh:
            delta = _newton_step(at, _basis(model, here[:2, :2]), scale)
        move = damping * delta
        size = _length(move)
        if size < tolerance_px:
            # Taken unseen: what a Newton step this short leaves is far shorter still.
            here, converged = _moved(here, move, centre, scale, model), True
            break
        candidate = _moved(here, move, centre, scale, model)
        there = look(candidate)
        better = there.ncc > at.ncc or (
            size < _SURE_STEP_PX
            and _length(_newton_step(there, _basis(model, candidate[:2, :2]), scale))
            < 0.5 * _length(delta)
        )
        if better and there.pixels > least:
            here, at, fresh = candidate, there, True
            damping = min(1.0, 2 * damping)
        else:
            damping *= 0.3
            fresh = False
            if damping < 0.02:
                converged = True
                break
    covariance = _covariance(at, _basis(model, here[:2, :2]), scale, row_step)
    return NewtonResult(here, at.ncc, at.pixels, converged, covariance)


def _length(step: Matrix) -> float:
    """How far a step moves a pixel at most, in pixels."""
    return float(abs(step[0]) + abs(step[3]) + np.abs(step[[1, 2, 4, 5]]).max())


def _newton_step(at: _Evaluation, basis: Matrix, scale: float) -> Matrix:
    """Solve for the step in the affine parameters: pixels one `scale` from the centre, at most 1.5."""
    hessian = basis.T @ at.hessian @ basis
    gradient = basis.T @ at.gradient
    values, vectors = np.linalg.eigh(hessian)
    # A direction that the shared texture does not curve is not moved along.
    keep = values > 1e-3 * max(float(values[-1]), 1e-12)
    coefficients = np.where(keep, (vectors.T @ gradient) / np.where(keep, values, 1.0), 0.0)
    step = basis @ (vectors @ coefficients)
    longest = float(np.hypot(step[0], step[3]) + np.abs(step[[1, 2, 4, 5]]).max())
    return np.asarray(step * min(1.0, 1.5 / max(longest, 1e-12)))


def _moved(here: Matrix, step: Matrix, centre: Matrix, scale: float, model: Model) -> Matrix:
    """Apply a step: ``q += u + B (p - centre) / scale``; a rigid transform stays rigid."""
    out = here.copy()
    at_centre = here[:2, :2] @ centre + here[:2, 2]
    if model == "euler":
        before = math.atan2(here[0, 1], here[0, 0])
        # The angle step from its two largest elements (the basis column is 90 degrees ahead of R).
        slope = np.array([[step[1], step[2]], [step[4], step[5]]]) / scale
        ahead = np.array([[0.0, 1.0], [-1.0, 0.0]]) @ here[:2, :2]
        turn = float((slope * ahead).sum() / 2.0)
        c, s = math.cos(before + turn), math.sin(before + turn)
        out[:2, :2] = [[c, s], [-s, c]]
    elif model == "affine":
        out[:2, :2] += np.array([[step[1], step[2]], [step[4], step[5]]]) / scale
    at_centre = at_centre + step[[0, 3]]
    out[:2, 2] = at_centre - out[:2, :2] @ centre
    return out


def correlation(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: Matrix,
    row_step: int = 1,
) -> tuple[float, int]:
    """Return the pooled correlation at a transform, and over how many pixels (planes counted apart).

    As in `align`, `moving` holds spline coefficients.
    """
    w = fixed.shape[2]
    sums = row_sums(fixed, fixed_valid, moving, moving_valid, matrix, w / 2.0, float(w), row_step)
    at = _evaluate(sums, np.zeros(sums.shape[:2]))
    return at.ncc, at.pixels
