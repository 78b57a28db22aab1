"""The robust least squares behind `slice_poses`: banded normal equations, Gauss-Newton, Cauchy weights.

Slices couple only with others a few apart, so the normal equations are banded and a run of any length is
solved in time proportional to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded

from soct.registration.transforms import RigidTransform2D, rotation_matrix

Floats = NDArray[np.float64]

_TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])
_ROUNDS = 40
_CAUCHY = 2.5


@dataclass(frozen=True)
class Term:
    """One residual block: ``error`` and its Jacobian at slices i and j, whitened by `root`."""

    i: int
    j: int
    error: Floats
    at_i: Floats
    at_j: Floats
    root: Floats


class _Normal:
    """Banded normal equations of blocks that couple slices a few apart."""

    def __init__(self, slices: int, size: int, reach: int) -> None:
        self.size = size
        # A band wider than the matrix is nothing that LAPACK takes: one slice has no neighbour.
        self.band = np.zeros(((min(reach, slices - 1) + 1) * size, slices * size))
        self.right = np.zeros(slices * size)

    def add(self, term: Term, weight: float) -> None:
        parts = [(term.j, term.root @ term.at_j)]
        if term.i >= 0:
            parts.insert(0, (term.i, term.root @ term.at_i))
        error = term.root @ term.error
        d = self.size
        for a, left in parts:
            self.right[a * d : (a + 1) * d] -= weight * (left.T @ error)
            for b, right in parts:
                block = weight * (left.T @ right)
                for r in range(d):
                    for c in range(d):
                        row, col = a * d + r, b * d + c
                        if row >= col:
                            self.band[row - col, col] += block[r, c]

    def solve(self) -> Floats:
        return np.asarray(solveh_banded(self.band, self.right, lower=True))

    def covariance(self) -> Floats:
        return np.asarray(solveh_banded(self.band, np.eye(self.right.size), lower=True))


def inverse_root(covariance: Floats) -> Floats:
    """Return the matrix L with ``L^T L = covariance^-1``."""
    return np.asarray(np.linalg.cholesky(np.linalg.inv(covariance)).T)


def _norm2(term: Term) -> float:
    white = term.root @ term.error
    return float(white @ white) / white.size


def _weights(norms: Floats, width: float) -> Floats:
    return 1.0 / (1.0 + norms / (width * width))


def _robust_width(norms: Floats, round_number: int) -> float:
    """Cauchy width: from the largest residual down to `_CAUCHY` times the typical one, at least 1."""
    if norms.size == 0:
        return _CAUCHY
    typical = max(1.0, math.sqrt(float(np.median(norms)) / 0.6))
    goal = _CAUCHY * typical
    wide = math.sqrt(float(norms.max()))
    return max(goal, wide * 0.6**round_number)


def _pair_term(
    index: tuple[int, int],
    pair: RigidTransform2D,
    root: Floats,
    state: Floats,
    centres: Floats,
) -> Term:
    """Solved minus measured ``(shift, rotation in rad)`` of a pair, and its derivatives."""
    i, j = index
    centre = np.array(pair.centre)
    turn_i = rotation_matrix(math.degrees(state[i, 2]))
    turn_j = rotation_matrix(math.degrees(state[j, 2]))
    arm_j = turn_j.T @ (centre - centres[j])
    canvas = centres[j] + state[j, :2] + arm_j
    arm_i = turn_i @ (canvas - centres[i] - state[i, :2])
    solved = centres[i] + arm_i - centre
    error = np.empty(3)
    error[:2] = solved - np.array(pair.shift)
    error[2] = state[j, 2] - state[i, 2] - math.radians(pair.rotation_deg)
    at_i, at_j = np.zeros((3, 3)), np.zeros((3, 3))
    at_i[:2, :2] = -turn_i
    at_i[:2, 2] = _TURN @ arm_i
    at_j[:2, :2] = turn_i
    at_j[:2, 2] = -turn_i @ (_TURN @ arm_j)
    at_i[2, 2], at_j[2, 2] = -1.0, 1.0
    return Term(i, j, error, at_i, at_j, root)


def _step_term(i: int, j: int, state: Floats, stage: Floats, root: Floats) -> Term:
    d = state.shape[1]
    error = (state[j] - state[i]) - (stage[j] - stage[i])
    return Term(i, j, error, -np.eye(d), np.eye(d), root)


def _position_term(j: int, state: Floats, stage: Floats, root: Floats) -> Term:
    d = state.shape[1]
    return Term(-1, j, state[j] - stage[j], np.zeros((d, d)), np.eye(d), root)


@dataclass(frozen=True)
class Solution:
    """Unknowns of each slice, the weight left to each pair, and the covariance of all unknowns.

    Attributes
    ----------
    state : (n, d) float64
    weights : (pairs,) float64
        0 to 1.
    covariance : (n d, n d) float64
    """

    state: Floats
    weights: Floats
    covariance: Floats


def solve_plane(
    stage: Floats,
    centres: Floats,
    measured: Sequence[tuple[int, int, RigidTransform2D, Floats]],
    step_root: Floats,
    position_root: Floats,
) -> Solution:
    """Solve ``(y, x, rotation in rad)`` of each slice by Gauss-Newton with annealed Cauchy weights.

    Parameters
    ----------
    stage : (n, 3) float64
        Expected unknowns, in pixels and radians.
    centres : (n, 2) float64
        Centres of rotation, in each slice's pixels.
    measured : sequence of (i, j, transform, root)
        Pairs by index, with the root of the inverse covariance of ``(y, x, rotation in rad)``.
    step_root, position_root : (3, 3) float64
        The same roots for the stage's steps and positions.

    Returns
    -------
    Solution
    """
    n = stage.shape[0]
    reach = max([1, *(abs(j - i) for i, j, _, _ in measured)])
    state = stage.copy()
    weights = np.ones(len(measured))
    normal = _Normal(n, 3, reach)
    for number in range(_ROUNDS):
        pairs = [_pair_term((i, j), t, root, state, centres) for i, j, t, root in measured]
        steps = [_step_term(k, k + 1, state, stage, step_root) for k in range(n - 1)]
        norms = np.array([_norm2(t) for t in pairs])
        step_norms = np.array([_norm2(t) for t in steps])
        weights = np.ones(len(pairs))
        step_weights = np.ones(len(steps))
        if number > 0:
            weights = _weights(norms, _robust_width(norms, number))
            step_weights = _weights(step_norms, max(2.0, 20.0 * 0.6**number))
        normal = _Normal(n, 3, reach)
        for term, weight in zip(
            [*pairs, *steps], np.concatenate([weights, step_weights]), strict=True
        ):
            normal.add(term, float(weight))
        for k in range(n):
            normal.add(_position_term(k, state, stage, position_root), 1.0)
        move = normal.solve().reshape(n, 3)
        state = state + move
        if number > 12 and np.abs(move).max() < 1e-7:
            break
    return Solution(state, weights, normal.covariance())


def solve_depth(
    stage: Floats,
    measured: Sequence[tuple[int, int, float, float]],
    step_sigma: float,
    position_sigma: float,
) -> Solution:
    """Solve the depth of each slice from measured steps and the stage's, robustly.

    Parameters
    ----------
    stage : (n, 1) float64
        Expected depths, in voxels.
    measured : sequence of (i, j, step, sigma)
        Pairs by index, in voxels.
    step_sigma : float
        Standard deviation of a stage step, in voxels.
    position_sigma : float
        Of a stage depth itself, in voxels: keeps a small error that all pairs share from adding up.

    Returns
    -------
    Solution
    """
    n = stage.shape[0]
    reach = max([1, *(abs(j - i) for i, j, _, _ in measured)])
    state = stage.copy()
    weights = np.ones(len(measured))
    one = np.eye(1)
    normal = _Normal(n, 1, reach)
    for number in range(_ROUNDS):
        pairs = [
            Term(i, j, state[j] - state[i] - step, -one, one, one / sigma)
            for i, j, step, sigma in measured
        ]
        steps = [_step_term(k, k + 1, state, stage, one / step_sigma) for k in range(n - 1)]
        norms = np.array([_norm2(t) for t in pairs])
        weights = np.ones(len(pairs))
        if number > 0:
            weights = _weights(norms, _robust_width(norms, number))
        normal = _Normal(n, 1, reach)
        for term, weight in zip(pairs, weights, strict=True):
            normal.add(term, float(weight))
        for term in steps:
            normal.add(term, 1.0)
        for k in range(n):
            normal.add(_position_term(k, state, stage, one / position_sigma), 1.0)
        move = normal.solve().reshape(n, 1)
        state = state + move
        if number > 12 and np.abs(move).max() < 1e-7:
            break
    return Solution(state, weights, normal.covariance())
