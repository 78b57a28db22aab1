"""Sub-pixel alignment of two stacks by Newton's method on their correlation, planes pooled.

The objective is the correlation of the fixed planes with the moving planes sampled (Catmull-Rom) at
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

from soct.registration.contrast import BoolArray
from soct.registration.row_sums import Matrix, row_sums
from soct.space import FloatArray

Model = Literal["euler", "translation", "affine"]

_BAND_ROWS = 16
_LEAST_PIXELS = 64


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


def _expand(first: Matrix, slope: Matrix, dy: Matrix) -> Matrix:
    """Row sums over 1 and dx to sums over (1, dy, dx): ``(..., rows, 3)``."""
    return np.stack([first, first * dy, slope], axis=-1)


def _evaluate(sums: Matrix, dy: Matrix) -> _Evaluation:
    total = sums.sum(axis=1)
    n = np.maximum(total[:, 0], 1.0)
    mean_f, mean_m = total[:, 1] / n, total[:, 2] / n
    var_f = np.maximum(total[:, 3] / n - mean_f**2, 1e-12)
    var_m = np.maximum(total[:, 5] / n - mean_m**2, 1e-12)
    cov = total[:, 4] / n - mean_f * mean_m
    used = total[:, 0] >= _LEAST_PIXELS
    pixels = total[used, 0].sum()
    if not used.any():
        return _Evaluation(-1.0, 0, np.zeros(6), np.zeros((6, 6)), np.zeros((1, 6)))
    rho = cov / np.sqrt(var_f * var_m)
    ncc = float((n * rho)[used].sum() / pixels)
    gain = cov / var_m
    # Weight of a plane: correlation over unexplained variance, never negative.
    r = np.clip(rho, 0.02, 0.98)
    weight = np.where(used, r / (1 - r * r) / np.sqrt(var_f * var_m), 0.0)
    offset = mean_f - gain * mean_m
    g, o = gain[:, None], offset[:, None]
    # Gradients times (1, dx): those along y, then those along x.
    unexplained = [
        sums[..., 6 + i] - g * sums[..., 10 + i] - o * sums[..., 14 + i] for i in range(4)
    ]
    along_y = _expand(unexplained[0], unexplained[1], dy)
    along_x = _expand(unexplained[2], unexplained[3], dy)
    scores = np.concatenate([along_y, along_x], axis=-1)
    scores *= weight[:, None, None]
    pooled = (sums[..., 18:27] * weight[:, None, None]).sum(axis=0)
    blocks = {}
    for name, i in (("yy", 0), ("yx", 3), ("xx", 6)):
        s0, s1, s2 = pooled[:, i], pooled[:, i + 1], pooled[:, i + 2]
        a, b, c = s0.sum(), (s0 * dy).sum(), s1.sum()
        e, f, q = (s0 * dy * dy).sum(), (s1 * dy).sum(), s2.sum()
        blocks[name] = np.array([[a, b, c], [b, e, f], [c, f, q]])
    hessian = np.block([[blocks["yy"], blocks["yx"]], [blocks["yx"], blocks["xx"]]])
    return _Evaluation(ncc, int(pixels), scores.sum(axis=(0, 1)), hessian, scores)


def _covariance(at: _Evaluation, basis: Matrix, scale: float, step: int) -> Matrix:
    """Sandwich covariance of the first three parameters; the angle in radians."""
    out = np.full((3, 3), np.inf)
    d = min(basis.shape[1], 3)
    band = max(1, _BAND_ROWS // step)
    k, rows, _ = at.scores.shape if at.scores.ndim == 3 else (0, 0, 0)
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
    fixed, moving : (k, h, w) float32
        Smooth local contrast, 0 where invalid; the two may differ in h and w.
    fixed_valid, moving_valid : (k, h, w) bool
    start : (3, 3) float64
        Fixed to moving ``(y, x, 1)``, within about a pixel of the truth after smoothing.
    model : {"euler", "translation", "affine"}
    tolerance_px : float
        Ends when a step moves no pixel by more than this, in pixels.
    max_steps : int
        Evaluations at most.
    row_step : int
        Use every n-th row.
    """
    _, h, w = fixed.shape
    centre = np.array([(h - 1) / 2.0, (w - 1) / 2.0])
    scale = 0.5 * math.hypot(h, w)
    rows = np.arange(0, h, row_step)
    dy = ((rows - centre[0]) / scale)[None, :]

    def look(matrix: Matrix) -> _Evaluation:
        sums = row_sums(
            fixed, fixed_valid, moving, moving_valid, matrix, centre[1], scale, row_step
        )
        return _evaluate(sums, dy[0])

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
        size = abs(move[0]) + abs(move[3]) + np.abs(move[[1, 2, 4, 5]]).max()
        if size < tolerance_px:
            converged = True
            break
        candidate = _moved(here, move, centre, scale, model)
        there = look(candidate)
        if there.ncc > at.ncc and there.pixels > least:
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
    """Return the pooled correlation at a transform, and over how many pixels (planes counted apart)."""
    w = fixed.shape[2]
    sums = row_sums(fixed, fixed_valid, moving, moving_valid, matrix, w / 2.0, float(w), row_step)
    at = _evaluate(sums, np.zeros(sums.shape[1]))
    return at.ncc, at.pixels
