"""How far to trust where each tile was put, and which tiles hang on little.

A pair of tiles counts by the share of its matches that agree, and by what checks it: other tiles (the pair lies in a loop), only
its own matches, or nothing; less where its residuals are pixels. A pair that alone joins two parts of the mosaic is a bridge. It is a weak link when its matches are
no more than the map takes, or when other matches between the two parts were set aside.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.mosaic.links import find_bridges, find_groups
from soct.spectral.adjustment import Adjustment
from soct.spectral.tile_maps import SIZES, Matches, Model

CHECKED_BY_TILES, CHECKED_BY_ITSELF, UNCHECKED = 0.8, 0.6, 0.3
WEAK_CONFIDENCE = 0.5
_SURE_PX = 2.0
"""Residual at which a link counts half."""
_ON_A_LINE = 0.02


@dataclass(frozen=True)
class Reliability:
    """What holds the tiles.

    Attributes
    ----------
    confidence : float64 ndarray (n,)
        In [0, 1].
    weak_links : tuple of (int, int, str)
        Two tiles and what is wrong with the link between them.
    hanging : dict of int to tuple of int
        Tiles that are joined to the largest part of their group only by weak links, and which of `weak_links` hold the part they
        belong to.
    doubtful : dict of int to str
        Further tiles below `WEAK_CONFIDENCE`, and why.
    """

    confidence: NDArray[np.float64]
    weak_links: tuple[tuple[int, int, str], ...]
    hanging: dict[int, tuple[int, ...]]
    doubtful: dict[int, str]


def judge(matches: Matches, adjustment: Adjustment, model: Model) -> Reliability:
    """Say what holds each tile."""
    n = matches.n
    ends = np.sort(matches.tiles, axis=1)
    keys, pair = np.unique(ends[:, 0] * n + ends[:, 1], return_inverse=True)
    pairs = np.stack(np.divmod(keys, n), axis=1)
    accepted = (adjustment.vote > 0) & (matches.weight > 0)
    count = np.bincount(pair, accepted, len(pairs))
    weight = np.bincount(pair, matches.weight, len(pairs))
    share = np.bincount(pair, matches.weight * accepted, len(pairs)) / np.maximum(weight, 1e-300)
    joined = count > 0
    bridge = find_bridges(n, pairs, joined)
    contested = _contested(n, pairs, joined, bridge, (weight > 0) & ~joined)
    forced = np.bincount(pair, adjustment.forced, len(pairs)) > 0
    weak = joined & (contested | forced | (bridge & (count <= SIZES[model])))
    trust = np.where(weak, UNCHECKED, np.where(bridge, CHECKED_BY_ITSELF, CHECKED_BY_TILES))
    square = np.where(accepted, adjustment.residual_px**2, 0.0)
    square = np.bincount(pair, matches.weight * square, len(pairs)) / np.maximum(weight, 1e-300)
    square /= np.maximum(share, 1e-300)
    vote = np.where(joined, share * trust / (1.0 + square / _SURE_PX**2), 0.0)
    doubt = np.ones(n)
    for side in (0, 1):
        np.multiply.at(doubt, pairs[:, side], 1.0 - vote)
    confidence = 1.0 - doubt
    numbers = np.flatnonzero(weak)
    hanging = _hanging(adjustment.group, pairs, joined & ~weak, numbers)
    for tile, through in hanging.items():
        held = float(max(vote[numbers[list(through)]], default=0.0))
        confidence[tile] = min(confidence[tile], held)
    links = tuple(
        (
            int(pairs[k, 0]),
            int(pairs[k, 1]),
            "others that contradict it were set aside"
            if contested[k] or forced[k]
            else f"{int(count[k])} {'match' if count[k] == 1 else 'matches'} that nothing checks",
        )
        for k in numbers
    )
    ends = pairs[joined].T.ravel()
    counted = np.bincount(matches.tiles[accepted].ravel(), minlength=n)
    apart = np.bincount(ends, np.tile(square[joined], 2), n) / np.bincount(ends, minlength=n).clip(
        1
    )
    doubtful = {
        t: _doubt(int(counted[t]), float(np.sqrt(apart[t])))
        for t in np.flatnonzero(confidence < WEAK_CONFIDENCE).tolist()
        if t not in hanging
    }
    return Reliability(confidence, links, hanging, doubtful)


def _doubt(matches: int, apart_px: float) -> str:
    if not matches:
        return "no match has a vote"
    if apart_px > 0.5 * _SURE_PX:
        return f"its matches disagree by {apart_px:.3g} px"
    return "most of its matches were set aside"


def _contested(
    n: int,
    pairs: NDArray[np.int64],
    joined: NDArray[np.bool_],
    bridge: NDArray[np.bool_],
    lost: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Bridges between whose two sides other matches were set aside."""
    out = np.zeros(len(pairs), bool)
    if not (bridge & joined).any() or not lost.any():
        return out
    block = find_groups(n, pairs, joined & ~bridge)
    ends = block[pairs]
    steps: dict[int, list[tuple[int, int]]] = {}
    for k in np.flatnonzero(bridge & joined).tolist():
        a, b = int(ends[k, 0]), int(ends[k, 1])
        steps.setdefault(a, []).append((b, k))
        steps.setdefault(b, []).append((a, k))
    parent: dict[int, tuple[int, int, int]] = {}
    for root in steps:
        if root in parent:
            continue
        parent[root] = (root, -1, 0)
        queue = [root]
        for node in queue:
            for other, k in steps[node]:
                if other not in parent:
                    parent[other] = (node, k, parent[node][2] + 1)
                    queue.append(other)
    for a, b in ends[lost].tolist():
        while a != b and a in parent and b in parent:
            # The deeper end climbs; where both are roots, nothing joins them.
            if parent[a][2] < parent[b][2]:
                a, b = b, a
            up, k, depth = parent[a]
            if depth == 0:
                break
            out[k] = True
            a = up
    return out


def _hanging(
    group: NDArray[np.int64],
    pairs: NDArray[np.int64],
    firm: NDArray[np.bool_],
    weak: NDArray[np.int64],
) -> dict[int, tuple[int, ...]]:
    part = find_groups(len(group), pairs, firm)
    size = Counter(part.tolist())
    largest: dict[int, list[int]] = {}
    for p, g in dict(zip(part.tolist(), group.tolist(), strict=True)).items():
        best = largest.setdefault(g, [])
        if not best or size[p] > size[best[0]]:
            largest[g] = [p]
        elif size[p] == size[best[0]]:
            best.append(p)
    # Of two parts of the same size neither is the one that the other hangs on.
    main = {best[0] for best in largest.values() if len(best) == 1}
    links: dict[int, list[int]] = {}
    for number, k in enumerate(weak.tolist()):
        for p in set(part[pairs[k]].tolist()):
            links.setdefault(p, []).append(number)
    return {t: tuple(links.get(p, ())) for t, p in enumerate(part.tolist()) if p not in main}


def find_underdetermined(matches: Matches, adjustment: Adjustment, model: Model) -> dict[int, str]:
    """Find the tiles whose accepted matches alone don't fix their map, and say why."""
    if model == "rigid":
        return {}
    accepted = (adjustment.vote > 0) & (matches.weight > 0)
    tile = matches.tiles[accepted].ravel()
    points = matches.points[accepted].reshape(-1, 2)
    n = matches.n
    count = np.bincount(tile, minlength=n)
    sums = np.stack([np.bincount(tile, points[:, a], n) for a in (0, 1)], axis=1)
    away = points - (sums / np.maximum(count, 1)[:, None])[tile]
    spread = np.zeros((n, 2, 2))
    np.add.at(spread, tile, away[:, :, None] * away[:, None, :])
    wide = np.sqrt(np.linalg.eigvalsh(spread / np.maximum(count, 1)[:, None, None]).clip(0.0))
    # Typical distance of a point from the middle of its tile's: far less than that across is a line.
    length = float(np.sqrt(0.5 * np.square(wide[tile]).sum(axis=1).mean())) if len(tile) else 0.0
    least = max(_ON_A_LINE * length, 1e-9)
    out = {}
    for t in range(n):
        number = f"{count[t]} {'match' if count[t] == 1 else 'matches'}"
        if not count[t]:
            out[t] = "no match: its shape is the group's"
        elif wide[t, 1] < least:
            out[t] = f"{number} in one place: its shape is the group's"
        elif model == "affine" and wide[t, 0] < least:
            out[t] = f"{number} on one line: its shape across the line is the group's"
    return out
