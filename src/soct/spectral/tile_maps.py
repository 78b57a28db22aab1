"""Least squares for the maps of tiles: a shift, a similarity or an affine map each, from matched points.

A match says that a point of one tile and a point of another are the same place. With ``u(p)`` for what a tile's map adds to
its own coordinates, that is one equation, ``u_i(p_i) - u_j(p_j) = p_j - p_i``, linear in the coefficients of the maps. The two
axes of rigid and affine maps share their matrix and are two right-hand sides; a similarity is one complex unknown more
per tile, since ``z -> s z + t`` turns and scales the plane of complex numbers.

Two things these equations don't tell. A shift of everything: the mean position is put at the origin. A common linear map of
everything: they would even like everything to shrink to a point, where all residuals vanish. So the mean linear part of a
group is held at the identity, exactly, and the tiles' own deviations from it are pulled towards zero by `pull`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soct.mosaic.links import find_groups
from soct.mosaic.tile_equations import PairBlocks, TileEquations

Model = Literal["rigid", "similarity", "affine"]

SIZES: dict[Model, int] = {"rigid": 1, "similarity": 2, "affine": 3}
"""Coefficients per tile and axis; also how many points fix a map."""

LEAST_PULL, MOST_PULL = 1e-8, 1e8


@dataclass(frozen=True)
class Matches:
    """Matched points of numbered tiles.

    Attributes
    ----------
    tiles : int64 ndarray (m, 2)
    points : float64 ndarray (m, 2, 2)
        ``(x, y)`` in the first and in the second tile.
    weight : float64 ndarray (m,)
        Relative to the mean of those that are not zero.
    n : int
        Number of tiles.
    """

    tiles: NDArray[np.int64]
    points: NDArray[np.float64]
    weight: NDArray[np.float64]
    n: int


@dataclass(frozen=True)
class Maps:
    """Solved coefficients.

    Attributes
    ----------
    coefficients : ndarray (n, k, r)
        Linear part in pixels at the typical distance of a point from the middle of its tile, then the shift.
    residual_px : float64 ndarray (m,)
        Distance between the two mapped points of each match.
    log_determinant : float
        Of the normal equations.
    penalty : float
        Weighted squares of the residuals and of the pull.
    """

    coefficients: NDArray[Any]
    residual_px: NDArray[np.float64]
    log_determinant: float
    penalty: float


class MapEquations:
    """The equations of one set of matches under one model.

    Parameters
    ----------
    matches : Matches
    model : {'rigid', 'similarity', 'affine'}

    Attributes
    ----------
    group : int64 ndarray (n,)
        Tiles that matches with a vote join.
    pairs : int64 ndarray (q, 2)
        Pairs of tiles with matches, lower number first.
    pair : int64 ndarray (m,)
        The pair of each match.
    centre : float64 ndarray (n, 2)
        Mean of a tile's points.
    length : float
        Typical distance of a point from the middle of its tile.
    gap_px : float64 ndarray (m, 2)
        Shift from the lower tile to the higher that each match tells.
    """

    def __init__(self, matches: Matches, model: Model) -> None:
        self.model, self.size, self.n = model, SIZES[model], matches.n
        self.matches = matches
        ends = np.sort(matches.tiles, axis=1)
        keys, self.pair = np.unique(ends[:, 0] * self.n + ends[:, 1], return_inverse=True)
        self.pairs = np.stack(np.divmod(keys, self.n), axis=1)
        # The end of the lower tile first, so that all matches of a pair add to the same blocks.
        swap = matches.tiles[:, 0] > matches.tiles[:, 1]
        points = np.where(swap[:, None, None], matches.points[:, ::-1], matches.points)
        self._order = np.argsort(self.pair, kind="stable")
        self._starts = np.searchsorted(self.pair[self._order], np.arange(len(keys)))
        self._low, self._high = ends[:, 0], ends[:, 1]
        self.group = find_groups(self.n, matches.tiles, matches.weight > 0)
        self.members = np.bincount(self.group)
        self.centre, self.length = _middles(ends, points, self.n)
        self._complex = points @ (1.0, 1j)
        self._basis = [self._functions(points[:, k], ends[:, k]) for k in (0, 1)]
        self.gap_px = gap = points[:, 1] - points[:, 0]
        self._gap = (gap @ (1.0, 1j))[:, None] if model == "similarity" else gap
        self._equations = TileEquations(self.n, self.pairs, self.size)
        # One tile of each group is held while solving; where it lies is undone afterwards.
        self._held = np.unique(self.group, return_index=True)[1]

    def _functions(self, points: NDArray[np.float64], tile: NDArray[np.int64]) -> NDArray[Any]:
        """Values of the coefficients' functions at points, (m, k)."""
        ones = np.ones((len(points), 1))
        if self.model == "rigid":
            return ones
        away = (points - self.centre[tile]) / self.length
        if self.model == "similarity":
            return np.hstack([(away @ (1.0, 1j))[:, None], ones])
        return np.hstack([away, ones])

    def _per_pair(self, values: NDArray[Any]) -> NDArray[Any]:
        return np.add.reduceat(values[self._order], self._starts, axis=0)

    def _blocks(self, vote: NDArray[np.float64]) -> PairBlocks:
        low, high = self._basis
        left, right = vote[:, None] * low.conj(), vote[:, None] * high.conj()
        forward = self._per_pair(left[:, :, None] * high[:, None, :])
        return PairBlocks(
            self._per_pair(left[:, :, None] * low[:, None, :]),
            self._per_pair(right[:, :, None] * high[:, None, :]),
            forward,
            forward.conj().transpose(0, 2, 1),
        )

    def solve(self, vote: NDArray[np.float64], pull: float) -> Maps:
        """Solve for the maps.

        Parameters
        ----------
        vote : ndarray (m,)
            Weight of each match.
        pull : float
            Weight of a tile's undistorted shape, in matches of mean weight at the typical distance.
        """
        k = self.size
        prior = np.zeros((self.n, k))
        prior[:, :-1] = np.clip(pull, LEAST_PULL, MOST_PULL)
        prior[self._held, -1] = 1.0
        factors = self._equations.factor(self._blocks(vote), prior, symmetric=True)
        low, high = self._basis
        force = (vote[:, None] * self._gap)[:, None, :]
        rhs = np.zeros((self.n, k, self._gap.shape[1]), self._gap.dtype)
        for tile, basis, sign in ((self._low, low, 1.0), (self._high, high, -1.0)):
            values = sign * basis.conj()[:, :, None] * force
            for a, b in np.ndindex(values.shape[1:]):
                rhs[:, a, b] += _sum_at(tile, values[:, a, b], self.n)
        solution = factors.solve(rhs.reshape(self.n * k, -1)).reshape(rhs.shape)
        if k > 1:
            solution = self._hold_mean(factors, solution)
        solution[:, -1] -= self._group_mean(solution[:, -1])[self.group]
        return self._maps(solution, vote, prior[0, :-1].sum() / max(k - 1, 1), factors)

    def _group_mean(self, values: NDArray[Any]) -> NDArray[Any]:
        total = np.zeros((len(self.members), *values.shape[1:]), values.dtype)
        np.add.at(total, self.group, values)
        return total / self.members.reshape(-1, *(1,) * (values.ndim - 1))

    def _hold_mean(self, factors: Any, solution: NDArray[Any]) -> NDArray[Any]:
        """Hold the mean linear part of each group, by Lagrange's multipliers."""
        k = self.size
        columns = np.zeros((self.n, k, k - 1), solution.dtype)
        columns[:, np.arange(k - 1), np.arange(k - 1)] = 1.0
        spread = factors.solve(columns.reshape(self.n * k, -1)).reshape(columns.shape)
        gain = self._group_mean(spread[:, :-1])
        multiplier = np.linalg.solve(gain, self._group_mean(solution[:, :-1]))
        return np.asarray(solution - np.einsum("nab,nbr->nar", spread, multiplier[self.group]))

    def _maps(
        self, solution: NDArray[Any], vote: NDArray[np.float64], pull: float, factors: Any
    ) -> Maps:
        low, high = self._basis
        left = np.einsum("mk,mkr->mr", low, solution[self._low])
        right = np.einsum("mk,mkr->mr", high, solution[self._high])
        square = (np.abs(left - right - self._gap) ** 2).sum(axis=1)
        bent = (np.abs(solution[:, :-1]) ** 2).sum()
        return Maps(
            solution,
            np.sqrt(square),
            float(np.log(np.abs(factors.U.diagonal())).sum()) if self.size > 1 else 0.0,
            float(vote @ square + pull * bent),
        )

    def agreement_px(self, soft_px: float, rounds: int) -> NDArray[np.float64]:
        """How far each match lies from what the others between the same two tiles tell, (m,).

        One similarity is fitted to the matches of each pair, to the least sum of roots of residuals; pairs with fewer than four
        matches cannot tell, and give 0.
        """
        where = self._complex
        count = np.bincount(self.pair, self.matches.weight > 0, len(self.pairs))
        vote = np.maximum(self.matches.weight, 1e-12)
        residual = np.zeros(len(vote))
        for k in range(rounds):
            total = self._per_pair(vote)
            mean = self._per_pair(vote[:, None] * where) / total[:, None]
            low, high = (where - mean[self.pair]).T
            turn = self._per_pair(vote * low.conj() * high)
            turn /= np.maximum(self._per_pair(vote * np.abs(low) ** 2), 1e-12)
            residual = np.abs(high - turn[self.pair] * low)
            usual = np.maximum(soft_px, 0.5 ** (k + 1) * self._per_pair(residual) / count.clip(1))
            vote = self.matches.weight * (1.0 + (residual / usual[self.pair]) ** 2) ** -0.75
            vote = np.maximum(vote, 1e-12)
        return np.where(count[self.pair] >= 4, residual, 0.0)

    def matrices(self, maps: Maps) -> NDArray[np.float64]:
        """Write maps from tile coordinates as matrices, (n, 2, 3); positions are their last column."""
        out = np.tile(np.eye(2, 3), (self.n, 1, 1))
        solution = maps.coefficients
        if self.model == "similarity":
            turn, shift = solution[:, 0, 0] / self.length, solution[:, 1, 0]
            out[:, :, 0] += np.stack([turn.real, turn.imag], axis=1)
            out[:, :, 1] += np.stack([-turn.imag, turn.real], axis=1)
            out[:, :, 2] = np.stack([shift.real, shift.imag], axis=1)
        else:
            if self.model == "affine":
                out[:, :, :2] += solution[:, :2].transpose(0, 2, 1) / self.length
            out[:, :, 2] = solution[:, -1]
        if self.model != "rigid":
            # From the middle of the tile's points to its corner.
            out[:, :, 2] -= np.einsum("nab,nb->na", out[:, :, :2] - np.eye(2), self.centre)
            out[:, :, 2] -= self._group_mean(out[:, :, 2])[self.group]
        return out


def _sum_at(index: NDArray[np.int64], values: NDArray[Any], n: int) -> NDArray[Any]:
    if np.iscomplexobj(values):
        real = np.bincount(index, values.real, n)
        return np.asarray(real + 1j * np.bincount(index, values.imag, n))
    return np.asarray(np.bincount(index, values, n))


def _middles(
    ends: NDArray[np.int64], points: NDArray[np.float64], n: int
) -> tuple[NDArray[np.float64], float]:
    tile, where = ends.T.ravel(), points.transpose(1, 0, 2).reshape(-1, 2)
    count = np.bincount(tile, minlength=n)
    total = np.stack([np.bincount(tile, where[:, a], n) for a in (0, 1)], axis=1)
    centre = total / np.maximum(count, 1)[:, None]
    square = ((where - centre[tile]) ** 2).sum(axis=1)
    length = float(np.sqrt(square.mean() / 2.0)) if len(square) else 0.0
    return centre, length if length > 0 else 1.0


def choose_pull(
    equations: MapEquations, vote: NDArray[np.float64], near: float | None = None
) -> float:
    """Find the pull under which the matches are most probable.

    The noise of the matches and the scatter of the tiles' linear parts are both unknown; their ratio is the pull. It is
    where the marginal likelihood peaks (the coefficients integrated out, the noise maximised out), with a broad prior about
    one match: few matches can't tell. With `near` only pulls up to ten times as large or small are tried.
    """
    spare = float((vote > 0).sum() - equations.n + len(equations.members))
    unknowns = (equations.size - 1) * equations.n

    def cost(power: float) -> float:
        maps = equations.solve(vote, 10.0**power)
        fit = spare * np.log(max(maps.penalty, 1e-18))
        evidence = fit + maps.log_determinant - unknowns * power * np.log(10.0)
        return float(evidence + (power / 2.0) ** 2)

    if spare <= 0:
        return 1.0
    if near is None:
        powers = np.arange(-8.0, 8.1, 2.0)
        best = int(np.argmin([cost(p) for p in powers]))
        low, high = powers[max(best - 1, 0)], powers[min(best + 1, len(powers) - 1)]
    else:
        low, high = np.log10(near) - 1.0, np.log10(near) + 1.0
    # Golden section: what is left is a fifth of a decade, which the maps hardly feel.
    golden = 0.6180339887498949
    inner = [high - golden * (high - low), low + golden * (high - low)]
    values = [cost(p) for p in inner]
    while high - low > 0.2:
        if values[0] < values[1]:
            high = inner[1]
            inner = [high - golden * (high - low), inner[0]]
            values = [cost(inner[0]), values[0]]
        else:
            low = inner[0]
            inner = [inner[1], low + golden * (high - low)]
            values = [values[1], cost(inner[1])]
    return float(10.0 ** (0.5 * (low + high)))
