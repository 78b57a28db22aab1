"""Positions of all tiles from all pairs at once.

One weighted least squares over all tiles: what the pairs measured, and, weakly, where the grid model expects each tile.
Pairs that disagree with the rest lose their weight (iteratively reweighted, with a scale that shrinks), and each
pair chooses anew among its candidate offsets after every solve, so that a wrong first choice can be taken back. A tile
without measured pairs lies where the model says; so does a group of tiles that no measured pair joins to the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.mosaic.grid_model import GridModel, fit_grid_model, nominal_model
from soct.mosaic.links import find_bridges, find_groups
from soct.mosaic.tile_equations import (
    PairBlocks,
    TileEquations,
    redescending_weight,
    typical_residual,
)


@dataclass(frozen=True)
class PlacementOptions:
    """How tiles are placed.

    Attributes
    ----------
    min_confidence : float
        A pair below it does not vote by itself.
    bridge_confidence : float
        Least confidence of a pair that alone ties a part of the mosaic to the rest: nothing checks it.
    support_px : float
        A doubtful pair that lies this close to where the other pairs put it is accepted.
    outlier_px : float
        Least residual at which a pair loses; with noisy pairs it is four standard deviations.
    coarse_sigma_px : float
        Standard deviation of an offset that comes without covariance.
    floor_sigma_px : float
        Least standard deviation of an offset.
    weak_confidence : float
        Tiles below it are named as weak.
    iterations : int
    """

    min_confidence: float = 0.15
    bridge_confidence: float = 0.3
    support_px: float = 1.5
    outlier_px: float = 1.0
    coarse_sigma_px: float = 0.25
    floor_sigma_px: float = 0.01
    weak_confidence: float = 0.5
    iterations: int = 12


@dataclass(frozen=True)
class Placement:
    """Where the tiles of a mosaic are, and how far to trust it.

    Attributes
    ----------
    positions_px : float64 ndarray (n, 2)
        ``(y, x)`` of each tile's first pixel, in the frame of the nominal positions.
    sigma_px : float64 ndarray (n,)
        Standard deviation per axis expected from noise, relative to the tile's group; of the model's scatter where nothing
        was measured.
    confidence : float64 ndarray (n,)
        In [0, 1]; 0 where the model places the tile.
    measured : bool ndarray (n,)
        Whether an accepted pair holds the tile.
    group : int64 ndarray (n,)
        Tiles joined by accepted pairs share a number; 0 is the largest group, -1 stands for tiles without accepted pairs.
    pairs : int64 ndarray (m, 2)
    pair_offset_px : float64 ndarray (m, 2)
        Chosen offset; NaN where there was none.
    pair_residual_px : float64 ndarray (m,)
        Distance between the chosen offset and the solved positions.
    pair_confidence : float64 ndarray (m,)
    pair_accepted : bool ndarray (m,)
    pair_reason : tuple of str
        Empty for accepted pairs, else ``no data``, ``no tissue``, ``ambiguous``, ``unsupported`` or ``disagrees``.
    model : GridModel
    weak : tuple of int
        Tiles to look at: not measured, or below `PlacementOptions.weak_confidence`.
    pair_snr : float64 ndarray (m,)
        Height of the chosen offset's peak above the mean of the first correlation, in units of its spread.
    """

    positions_px: NDArray[np.float64]
    sigma_px: NDArray[np.float64]
    confidence: NDArray[np.float64]
    measured: NDArray[np.bool_]
    group: NDArray[np.int64]
    pairs: NDArray[np.int64]
    pair_offset_px: NDArray[np.float64]
    pair_residual_px: NDArray[np.float64]
    pair_confidence: NDArray[np.float64]
    pair_accepted: NDArray[np.bool_]
    pair_reason: tuple[str, ...]
    model: GridModel
    weak: tuple[int, ...]
    pair_snr: NDArray[np.float64]

    @property
    def rms_residual_px(self) -> float:
        """Root mean square residual of the accepted pairs; NaN without any."""
        if not self.pair_accepted.any():
            return float("nan")
        return float(np.sqrt(np.mean(self.pair_residual_px[self.pair_accepted] ** 2)))

    @property
    def disconnected(self) -> tuple[tuple[int, ...], ...]:
        """Groups of measured tiles that no accepted pair joins to the largest group."""
        labels = range(1, int(self.group.max(initial=-1)) + 1)
        return tuple(tuple(np.flatnonzero(self.group == g).tolist()) for g in labels)


@dataclass(frozen=True)
class Offsets:
    """What is known about each pair before the solve.

    Attributes
    ----------
    pairs : int64 ndarray (m, 2)
    candidates_px : float64 ndarray (m, c, 2)
        Possible offsets, best first; NaN where there are fewer.
    scores : float64 ndarray (m, c)
        Height of each candidate's peak in units of the spread.
    confidence : float64 ndarray (m,)
        In the first candidate.
    covariance_px2 : float64 ndarray (m, 2, 2) or None
        Of the offsets.
    blank_reason : tuple of str, optional
        Why a pair has no vote whatever its peaks say (``no tissue``, ``no data``); empty where it has one.
    search_px : float
        Half width of the window in which the candidates were looked for: agreement within a small window is weak evidence.
    """

    pairs: NDArray[np.int64]
    candidates_px: NDArray[np.float64]
    scores: NDArray[np.float64]
    confidence: NDArray[np.float64]
    covariance_px2: NDArray[np.float64] | None = None
    blank_reason: tuple[str, ...] | None = None
    search_px: float = np.inf

    def support_radius(self, wished_px: float, chance: float = 0.03) -> float:
        """Distance within which a random candidate falls with at most this chance, at most `wished_px`."""
        area = (2.0 * self.search_px + 1.0) ** 2
        count = max(self.candidates_px.shape[1], 1)
        return float(min(wished_px, np.sqrt(chance * area / (np.pi * count))))


_LOOSENESS = 0.015
"""How far the stage's axes may differ from the camera's (1.5 %, 0.9 degrees).

Far from the few tiles that are measured a free fit swings; where many are, this changes little.
"""


_USUAL_SCATTER_PX = 1.0
_USUAL_PAIRS = 3.0
"""How far tiles stray from the grid where hardly anything is measured, and for how many pairs that counts."""


def _solve(
    equations: TileEquations,
    pairs: NDArray[np.int64],
    offsets: NDArray[np.float64],
    information: NDArray[np.float64],
    prior: NDArray[np.float64],
    prior_weight: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Positions (n, 2); `information` (m, 2, 2) is each pair's inverse covariance, which couples y and x."""
    blocks = PairBlocks(information, information, information, information)
    factors = equations.factor(blocks, np.repeat(prior_weight[:, None], 2, axis=1))
    pull = np.einsum("mab,mb->ma", information, offsets)
    rhs = prior_weight[:, None] * prior
    np.add.at(rhs, pairs[:, 1], pull)
    np.subtract.at(rhs, pairs[:, 0], pull)
    solution: NDArray[np.float64] = factors.solve(rhs.ravel()).reshape(-1, 2)
    return solution


def _information(
    offsets: Offsets, options: PlacementOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Inverse covariance of each pair, (m, 2, 2), and its standard deviation per axis, (m,)."""
    m = len(offsets.pairs)
    covariance: NDArray[np.float64]
    if offsets.covariance_px2 is None:
        covariance = np.broadcast_to(options.coarse_sigma_px**2 * np.eye(2), (m, 2, 2)).copy()
    else:
        covariance = np.array(offsets.covariance_px2, np.float64)
        lost = ~np.isfinite(covariance).all(axis=(1, 2))
        covariance[lost] = 100.0 * np.eye(2)
    covariance += options.floor_sigma_px**2 * np.eye(2)
    sigma: NDArray[np.float64] = np.sqrt(0.5 * (covariance[:, 0, 0] + covariance[:, 1, 1]))
    return np.asarray(np.linalg.inv(covariance), np.float64), sigma


def _choose(
    offsets: Offsets, expected: NDArray[np.float64], scale: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Candidate of each pair that the score and the distance to `expected` favour, and that distance."""
    distance = np.linalg.norm(offsets.candidates_px - expected[:, None], axis=2)
    # A peak's score is in standard deviations of the surface, so half its square is a log-likelihood; the
    # surface's noise is not white, which the factor stands for.
    cost = 0.5 * (distance / scale[:, None]) ** 2 - 0.25 * offsets.scores**2
    cost = np.where(np.isfinite(cost), cost, np.inf)
    chosen = np.argmin(cost, axis=1).astype(np.int64)
    return chosen, distance[np.arange(len(chosen)), chosen]


def place_offsets(
    nominal_px: NDArray[np.float64],
    offsets: Offsets,
    options: PlacementOptions | None = None,
    *,
    model: GridModel | None = None,
) -> Placement:
    """Place tiles from the measured offsets of pairs.

    Parameters
    ----------
    nominal_px : ndarray (n, 2)
        Nominal ``(y, x)`` of each tile's first pixel.
    offsets : Offsets
    options : PlacementOptions, optional
    model : GridModel, optional
        A model fitted elsewhere (for example on the other slices); fitted here where absent.

    Returns
    -------
    Placement

    Raises
    ------
    ValueError
        If a nominal position is not finite, or a pair names a tile that is not there.
    """
    options = options or PlacementOptions()
    nominal = np.asarray(nominal_px, np.float64).reshape(-1, 2)
    lost = np.flatnonzero(~np.isfinite(nominal).all(axis=1))
    if lost.size:
        raise ValueError(f"tiles without a finite nominal position: {lost[:20].tolist()}")
    n, pairs = len(nominal), offsets.pairs
    if pairs.size and (pairs.min() < 0 or pairs.max() >= n):
        raise ValueError(f"pairs name tiles outside 0..{n - 1}")
    if not len(pairs):
        return _unmeasured(nominal, offsets, model or nominal_model())
    m = len(pairs)
    i, j = pairs[:, 0], pairs[:, 1]
    steps = nominal[j] - nominal[i]
    blank = np.array([bool(r) for r in offsets.blank_reason or ("",) * m])
    usable = np.isfinite(offsets.candidates_px[:, 0]).all(axis=1) & ~blank
    vote = np.where(
        usable & (offsets.confidence >= options.min_confidence), offsets.confidence, 0.0
    )
    first = offsets.candidates_px[:, 0]
    given = model is not None
    current = model if model is not None else fit_grid_model(steps, first, vote)
    information, sigma = _information(offsets, options)
    equations = TileEquations(n, pairs, 2)
    chosen = np.zeros(m, np.int64)
    picked = np.where(usable[:, None], first, 0.0)
    robust = np.ones(m)
    accepted = usable & (vote > 0)
    residual = np.full(m, np.inf)
    positions = current.positions(nominal)
    scale = max(8.0, 4.0 * current.scatter_px)
    for iteration in range(options.iterations):
        prior_sigma = max(current.scatter_px, 0.3)
        weight = np.where(accepted, robust * np.maximum(vote, 1e-3), 0.0)
        positions = _solve(
            equations,
            pairs,
            picked,
            information * weight[:, None, None],
            current.positions(nominal),
            np.full(n, 1.0 / prior_sigma**2),
        )
        expected = positions[j] - positions[i]
        if not given:
            current = _refit(
                nominal, positions, pairs, accepted & (robust > 0.25), steps, picked, current
            )
        chosen, residual = _choose(offsets, expected, np.hypot(sigma, np.full(m, scale)))
        residual = np.where(usable, residual, np.inf)
        picked = np.where(usable[:, None], offsets.candidates_px[np.arange(m), chosen], 0.0)
        typical = typical_residual(residual[accepted & (robust > 0.25)])
        final = max(options.outlier_px, 4.0 * typical)
        scale = max(final, 0.5 * scale)
        robust = redescending_weight(residual, np.hypot(scale, 2.0 * sigma))
        vote, accepted = _elect(
            n, offsets, usable, chosen, residual, final, sigma, options, last=iteration > 3
        )
    accepted &= residual <= np.hypot(final, 3.0 * sigma)
    return _finish(
        nominal, offsets, options, current, positions, picked, usable, vote, accepted, residual,
        robust, sigma, blank, offsets.scores[np.arange(m), chosen],
    )  # fmt: skip


def _elect(
    n: int,
    offsets: Offsets,
    usable: NDArray[np.bool_],
    chosen: NDArray[np.int64],
    residual: NDArray[np.float64],
    final: float,
    sigma: NDArray[np.float64],
    options: PlacementOptions,
    *,
    last: bool,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Votes and accepted pairs: confident ones, and doubtful ones that the others support."""
    confident = usable & (chosen == 0) & (offsets.confidence >= options.min_confidence)
    if not last:
        vote = np.where(confident, offsets.confidence, 0.0)
        return vote, confident
    radius = offsets.support_radius(options.support_px)
    close = usable & (residual <= np.hypot(radius, 2.0 * sigma))
    agreeing = close | (confident & (residual <= np.hypot(final, 3.0 * sigma)))
    bridge = find_bridges(n, offsets.pairs, agreeing)
    own = (chosen == 0) & (offsets.confidence >= options.bridge_confidence)
    accepted = agreeing & (~bridge | own)
    vote = np.where(chosen == 0, offsets.confidence, 0.5 * offsets.confidence)
    # Agreement with independent pairs is evidence: a random peak seldom falls so close.
    vote = np.where(accepted & ~bridge, np.maximum(vote, 0.3), vote)
    return np.where(accepted, vote, 0.0), accepted


def _refit(
    nominal: NDArray[np.float64],
    positions: NDArray[np.float64],
    pairs: NDArray[np.int64],
    used: NDArray[np.bool_],
    steps: NDArray[np.float64],
    picked: NDArray[np.float64],
    before: GridModel,
) -> GridModel:
    """Fit the model to the solved positions within the groups that pairs join (long baselines)."""
    label = find_groups(len(nominal), pairs, used)
    size = np.bincount(label)
    groups = [np.flatnonzero(label == g) for g in np.flatnonzero(size > 1)]
    members = np.concatenate(groups) if groups else np.zeros(0, np.int64)
    if size.max() < 3 or not used.any():
        return before
    # Nothing measures how groups lie to each other: each counts about its own mean.
    centred = np.concatenate([nominal[g] - nominal[g].mean(axis=0) for g in groups])
    moved = [np.median(positions[g] - nominal[g], axis=0) for g in groups]
    solved = np.concatenate(
        [positions[g] - m - nominal[g].mean(axis=0) for g, m in zip(groups, moved, strict=True)]
    )
    fitted = fit_grid_model(centred, solved, looseness=_LOOSENESS)
    # Each tile gives two numbers; the matrix took four and every group's mean two.
    freedom = max(1.0 - (2.0 + len(groups)) / members.size, 0.2)
    scatter = fitted.scatter_px * np.sqrt(2.0 / freedom)
    # Solved positions lean on the model the more the less it lets them stray; the pairs themselves do not.
    apart = _pair_spread(picked - fitted.steps(steps), used) / np.sqrt(2.0)
    # A few pairs fit their own model too well: a stage's usual scatter counts like some more of them.
    count = int(used.sum())
    squared = count * max(float(scatter), apart) ** 2 + _USUAL_PAIRS * _USUAL_SCATTER_PX**2
    return GridModel(
        fitted.matrix, max(float(np.sqrt(squared / (count + _USUAL_PAIRS))), 0.3), count
    )


def _pair_spread(deviation: NDArray[np.float64], used: NDArray[np.bool_]) -> float:
    """Robust standard deviation per axis of what the model leaves of the pairs; 0 without any."""
    length = np.linalg.norm(deviation[used], axis=1)
    return float(np.median(length)) / 1.1774 if length.size else 0.0


def _finish(
    nominal: NDArray[np.float64],
    offsets: Offsets,
    options: PlacementOptions,
    model: GridModel,
    positions: NDArray[np.float64],
    picked: NDArray[np.float64],
    usable: NDArray[np.bool_],
    vote: NDArray[np.float64],
    accepted: NDArray[np.bool_],
    residual: NDArray[np.float64],
    robust: NDArray[np.float64],
    sigma: NDArray[np.float64],
    blank: NDArray[np.bool_],
    score: NDArray[np.float64],
) -> Placement:
    n, pairs = len(nominal), offsets.pairs
    measured = np.zeros(n, bool)
    doubt = np.ones(n)
    precision = np.full(n, 1.0 / model.scatter_px**2)
    for side in (0, 1):
        measured[pairs[accepted, side]] = True
        np.multiply.at(
            doubt, pairs[accepted, side], 1.0 - np.clip(vote * robust, 0, 0.99)[accepted]
        )
        np.add.at(precision, pairs[accepted, side], (robust / sigma**2)[accepted])
    confidence = np.where(measured, 1.0 - doubt, 0.0)
    group = np.full(n, -1, np.int64)
    label = find_groups(n, pairs, accepted)
    sizes = np.bincount(label[measured], minlength=label.max() + 1)
    for rank, g in enumerate(np.argsort(-sizes, kind="stable")[: int((sizes > 0).sum())]):
        group[(label == g) & measured] = rank
    final = np.where(measured[:, None], positions, model.positions(nominal))
    reasons = []
    for p in range(len(pairs)):
        if accepted[p]:
            reasons.append("")
        elif blank[p]:
            reasons.append((offsets.blank_reason or ())[p])
        elif not usable[p]:
            reasons.append("no data")
        elif offsets.confidence[p] < options.min_confidence:
            reasons.append("ambiguous")
        elif residual[p] <= options.support_px:
            reasons.append("unsupported")
        else:
            reasons.append("disagrees")
    return Placement(
        positions_px=final,
        sigma_px=1.0 / np.sqrt(precision),
        confidence=confidence,
        measured=measured,
        group=group,
        pairs=pairs,
        pair_offset_px=np.where(usable[:, None], picked, np.nan),
        pair_residual_px=np.where(usable, residual, np.nan),
        pair_confidence=offsets.confidence,
        pair_accepted=accepted,
        pair_reason=tuple(reasons),
        model=model,
        weak=tuple(np.flatnonzero(confidence < options.weak_confidence).tolist()),
        pair_snr=np.where(usable, score, 0.0),
    )


def _unmeasured(nominal: NDArray[np.float64], offsets: Offsets, model: GridModel) -> Placement:
    n = len(nominal)
    return Placement(
        positions_px=model.positions(nominal) if n else nominal.copy(),
        sigma_px=np.full(n, model.scatter_px),
        confidence=np.zeros(n),
        measured=np.zeros(n, bool),
        group=np.full(n, -1, np.int64),
        pairs=offsets.pairs,
        pair_offset_px=np.empty((0, 2)),
        pair_residual_px=np.empty(0),
        pair_confidence=np.empty(0),
        pair_accepted=np.empty(0, bool),
        pair_reason=(),
        model=model,
        weak=tuple(range(n)),
        pair_snr=np.empty(0),
    )
