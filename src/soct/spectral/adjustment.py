"""Maps of tiles from matches of which some are wrong.

Matches that disagree with the rest lose their vote: the equations are solved again and again with weights that fall off with
the residual, on a scale that shrinks from the largest residual to a few standard deviations of the noise. Affine and similar
maps start from where the shifts alone put the tiles, so that wrong matches cannot bend them. All matches between two tiles may
lose; but nothing loses its last link: where every match that ties a part to the rest has lost, those that agree best among
themselves stay, and the part is told as hanging on a contradicted link.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.mosaic.links import find_groups
from soct.mosaic.tile_equations import redescending_weight, typical_residual
from soct.spectral.tile_maps import MapEquations, Maps, Matches, Model, choose_pull

LEAST_OUTLIER_PX = 0.5
"""A match whose residual is smaller is never called wrong, however well the others agree."""

_DEVIATIONS = 4.5
_SHRINK = 0.5
_MOST_ROUNDS = 40
_START_ROUNDS = 6
_SETTLED = 0.02
_LEAST_VOTE = 1e-6
_LOOSE_PULL = 0.01
"""Pull while wrong matches are looked for: a stiff tile that is turned would disagree with all its neighbours."""


@dataclass(frozen=True)
class Adjustment:
    """Maps of all tiles and what became of each match.

    Attributes
    ----------
    matrices : float64 ndarray (n, 2, 3)
        Maps from tile coordinates; a group's mean linear part is the identity and its mean position the origin.
    residual_px : float64 ndarray (m,)
    vote : float64 ndarray (m,)
        In [0, 1], beside the match's weight; 0 where it was set aside.
    forced : bool ndarray (m,)
        Matches that stayed only because nothing else ties a part to the rest.
    group : int64 ndarray (n,)
        Tiles that matches join.
    sigma_px : float
        Standard deviation per axis of the matches.
    limit_px : float
        Residual beyond which a match was set aside; infinite where all were to vote.
    pull : float
        Weight of a tile's undistorted shape, in matches.
    """

    matrices: NDArray[np.float64]
    residual_px: NDArray[np.float64]
    vote: NDArray[np.float64]
    forced: NDArray[np.bool_]
    group: NDArray[np.int64]
    sigma_px: float
    limit_px: float
    pull: float


@dataclass(frozen=True)
class _State:
    maps: Maps
    vote: NDArray[np.float64]
    scale: float
    sigma: float


def adjust(
    matches: Matches, model: Model, *, robust: bool = True, pull: float | None = None
) -> Adjustment:
    """Solve for the maps of all tiles.

    Parameters
    ----------
    matches : Matches
    model : {'rigid', 'similarity', 'affine'}
    robust : bool
        Whether matches can lose their vote.
    pull : float or None
        Weight of a tile's undistorted shape, in matches; chosen from the matches where None.
    """
    equations = MapEquations(matches, model)
    free = model != "rigid" and pull is None
    strength = _LOOSE_PULL if pull is None else pull
    forced = np.zeros(len(matches.weight), bool)
    if not robust:
        vote = np.ones(len(matches.weight))
        if free:
            strength = choose_pull(equations, matches.weight)
        maps = equations.solve(matches.weight, strength)
        sigma = _noise(maps.residual_px, matches.weight > 0, equations)
        return _finish(equations, _State(maps, vote, np.inf, sigma), forced, strength)
    start, scale = np.ones(len(matches.weight)), np.inf
    if model != "rigid":
        start = _votes(equations.agreement_px(LEAST_OUTLIER_PX, 12), 4.0 * LEAST_OUTLIER_PX)
        shifted = _shrink(MapEquations(matches, "rigid"), 1.0, start, scale)
        scale = 2.0 * shifted.scale
        start = start * _votes(shifted.maps.residual_px, scale)
    state = _shrink(equations, min(strength, _LOOSE_PULL), start, scale)
    if free:
        strength = choose_pull(equations, matches.weight * state.vote)
        state = _shrink(equations, strength, state.vote, 2.0 * state.scale)
        strength = choose_pull(equations, matches.weight * state.vote, strength)
        state = _shrink(equations, strength, state.vote, 2.0 * state.scale)
    elif strength > _LOOSE_PULL:
        state = _shrink(equations, strength, state.vote, np.inf)
    state, forced = _decide(equations, state, strength)
    return _finish(equations, state, forced, strength)


def _votes(residual: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    return np.maximum(redescending_weight(residual, np.asarray(scale)), _LEAST_VOTE)


def _noise(
    residual: NDArray[np.float64], used: NDArray[np.bool_], equations: MapEquations
) -> float:
    """Estimate the standard deviation per axis of the matches; part of it went into the maps."""
    count = float(used.sum())
    spare = max(count - equations.size * equations.n, 0.25 * count, 1.0)
    return typical_residual(residual[used]) * float(np.sqrt(max(count, 1.0) / spare))


def _shrink(
    equations: MapEquations, pull: float, vote: NDArray[np.float64], scale: float
) -> _State:
    """Solve until the votes settle, on a scale that shrinks to a few standard deviations.

    Parameters
    ----------
    equations : MapEquations
    pull : float
    vote : ndarray (m,)
        Votes to begin with.
    scale : float
        Scale to begin with; infinite where nothing is known yet.
    """
    weight = equations.matches.weight
    maps = equations.solve(weight * vote, pull)
    if not np.isfinite(scale):
        maps, scale = _begin(equations, pull, maps, vote)
    else:
        scale = min(scale, _usual(maps.residual_px[weight > 0]))
    state = _State(maps, vote, scale, 0.0)
    for _ in range(_MOST_ROUNDS):
        state, change = _round(equations, pull, state)
        if change < _SETTLED * state.scale:
            break
    return state


def _round(equations: MapEquations, pull: float, state: _State) -> tuple[_State, float]:
    """Weigh and solve once; how far residuals moved, infinite while the scale still shrinks."""
    weight, residual = equations.matches.weight, state.maps.residual_px
    sigma = _noise(residual, (state.vote > 0.25) & (weight > 0), equations)
    final = max(LEAST_OUTLIER_PX, _DEVIATIONS * sigma)
    scale = max(final, _SHRINK * state.scale)
    vote = _votes(residual, scale)
    maps = equations.solve(weight * vote, pull)
    moved = np.abs(maps.residual_px - residual)[vote > 0.05].max(initial=0.0)
    return _State(maps, vote, scale, sigma), float(moved) if state.scale <= final else np.inf


def _begin(
    equations: MapEquations, pull: float, maps: Maps, start: NDArray[np.float64]
) -> tuple[Maps, float]:
    """Where to begin: at once where everything agrees, else near the least sum of roots of residuals.

    Roots are past the reach of squares, which a few large errors rule: with a fifth of the matches of a grid wrong either
    will do, with three tenths squares fail.
    """
    weight = equations.matches.weight
    voted = weight > 0
    largest = float(maps.residual_px[voted].max(initial=0.0))
    usual = max(LEAST_OUTLIER_PX, _DEVIATIONS * _noise(maps.residual_px, voted, equations))
    if largest <= usual:
        return maps, largest
    soft = float(np.median(maps.residual_px[voted]))
    for _ in range(_START_ROUNDS):
        soft = max(0.5 * soft, LEAST_OUTLIER_PX)
        vote = start * (1.0 + (maps.residual_px / soft) ** 2) ** -0.75
        maps = equations.solve(weight * vote, pull)
    return maps, min(largest, _usual(maps.residual_px[voted]))


def _usual(residual: NDArray[np.float64]) -> float:
    """Scale to begin with, well above the residuals of matches that are right."""
    return 6.0 * typical_residual(residual) + 2.0 * LEAST_OUTLIER_PX


def _decide(
    equations: MapEquations, state: _State, pull: float
) -> tuple[_State, NDArray[np.bool_]]:
    """Set aside what disagrees, keep everything joined, and solve with the rest."""
    weight = equations.matches.weight
    voted = weight > 0
    used = voted & (state.maps.residual_px <= state.scale)
    forced = keep_joined(equations, used)
    vote = np.where(used, redescending_weight(state.maps.residual_px, np.asarray(state.scale)), 0.0)
    vote[forced] = 1.0
    maps = equations.solve(weight * vote, pull)
    return _State(maps, vote, state.scale, state.sigma), forced


def keep_joined(equations: MapEquations, used: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find the matches without which a part would lose its last link.

    Between parts, the pair of tiles with the greatest weight of matches that agree with each other wins; with equal weights, the
    pair whose match came first.
    """
    matches = equations.matches
    forced = np.zeros(len(used), bool)
    part = find_groups(equations.n, matches.tiles, used)
    if len(np.unique(part)) == len(equations.members):
        return forced
    ends = part[equations.pairs]
    links = []
    apart = (ends[:, 0] != ends[:, 1])[equations.pair] & (matches.weight > 0)
    for pair in np.unique(equations.pair[apart]):
        members = np.flatnonzero((equations.pair == pair) & apart)
        agreeing = _agreeing(equations, members)
        links.append((-matches.weight[agreeing].sum(), members[0], agreeing, ends[pair]))
    parent = np.arange(equations.n)

    def find(k: int) -> int:
        while parent[k] != k:
            parent[k] = parent[parent[k]]
            k = int(parent[k])
        return k

    for _, _, agreeing, (a, b) in sorted(links, key=lambda link: link[:2]):
        a, b = find(int(a)), find(int(b))
        if a != b:
            parent[a] = b
            forced[agreeing] = True
    return forced


def _agreeing(equations: MapEquations, members: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the heaviest set of matches of one pair that tell the same shift as one of them."""
    tell = equations.gap_px[members]
    close = np.linalg.norm(tell[:, None] - tell[None], axis=2) <= 2.0 * LEAST_OUTLIER_PX
    best = int(np.argmax(close @ equations.matches.weight[members]))
    return members[close[best]]


def _finish(
    equations: MapEquations, state: _State, forced: NDArray[np.bool_], pull: float
) -> Adjustment:
    return Adjustment(
        equations.matrices(state.maps),
        state.maps.residual_px,
        state.vote,
        forced,
        equations.group,
        state.sigma,
        state.scale,
        pull,
    )
