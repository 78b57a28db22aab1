"""A layout from pairs of neighbours alone: groups of images that fit together, and a place for each group.

Pairs that stand out join images one after the other, the clearest first. Evidence is counted in logarithms of chance: the
lead of a pair's peak, more where its offset is that of other pairs, too, and the other pairs that agree with what a join
implies. A pair that would lay two images on one place is turned down.
Groups that nothing joins are laid out side by side with a gap, so that no image covers another by chance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import poisson

from soct.mosaic.any_neighbours import PairPeaks

_AGREE_PX = 3.0
"""Distance at which a candidate agrees with where other pairs put it (reduced pixels)."""
_CHANCE = 0.01
"""Expected number of pairs that stand out by chance."""
_LEAD_SCALE = 0.3
"""Of the exponential distribution of the lead between images that share nothing (theory: 0.21 for white noise)."""
_DOUBTFUL_LEAD = 1.2
_ALONE = 3.5
"""Times the lead that a pair needs whose offset no other pair has: real images share more than noise does."""
_FEW = 6
"""Images of which there are too few to tell a lattice."""
_LATTICE = 0.05
_LATTICE_PAIRS = 2
"""How near to a pair's offset, in parts of an image, how many others have to be for a lattice."""
_COVERED = 0.7
"""Part of an image that another may cover in a mosaic."""
_SHARED = 0.03
"""Part of an image that has to be shared for a pair to count as evidence."""


@dataclass(frozen=True)
class LooseLayout:
    """Where images lie as far as pairs say.

    Attributes
    ----------
    positions_px : float64 ndarray (n, 2)
        ``(y, x)``, groups side by side.
    group : int64 ndarray (n,)
        0 is the largest; images that nothing joins are groups of their own.
    """

    positions_px: NDArray[np.float64]
    group: NDArray[np.int64]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Number of images of every group."""
        return np.bincount(self.group).astype(np.int64)


class _Groups:
    """Images joined so far, with positions within their group."""

    def __init__(self, n: int, shape: tuple[int, int], found: PairPeaks) -> None:
        self.shape = np.array(shape, np.float64)
        self.label = np.arange(n)
        self.at = np.zeros((n, 2))
        self.found = found
        self._number = np.full((n, n), -1, np.int64)
        self._number[found.pairs[:, 0], found.pairs[:, 1]] = np.arange(len(found.pairs))

    def join(self, i: int, j: int, offset: NDArray[np.float64], missing: float) -> bool:
        """Join the groups of two images if the others give the evidence that is missing and none lies on another."""
        a = np.flatnonzero(self.label == self.label[i])
        b = np.flatnonzero(self.label == self.label[j])
        move = self.at[i] + offset - self.at[j]
        apart = (self.at[b][None] + move) - self.at[a][:, None]
        sides = np.maximum(self.shape - np.abs(apart), 0.0) / self.shape
        shared = sides.prod(axis=2)
        if (shared > _COVERED).any():
            return False
        if missing > 0 and self._support(a, b, apart, shared > _SHARED, (i, j)) < missing:
            return False
        self.at[b] += move
        self.label[b] = self.label[i]
        return True

    def _support(
        self,
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        apart: NDArray[np.float64],
        shared: NDArray[np.bool_],
        but: tuple[int, int],
    ) -> float:
        """Evidence of the other pairs: minus the logarithm of the chance that as many agree."""
        asked = agreeing = 0
        for p, q in zip(*np.nonzero(shared), strict=True):
            first, second = int(a[p]), int(b[q])
            number = self._number[min(first, second), max(first, second)]
            if number < 0 or {first, second} == set(but):
                continue
            candidates = (1.0 if first < second else -1.0) * self.found.offsets_px[number]
            asked += 1
            agreeing += bool((np.abs(candidates - apart[p, q]).max(axis=1) <= _AGREE_PX).any())
        if not agreeing:
            return 0.0
        lags = float(4 * self.shape.prod())
        chance = self.found.scores.shape[1] * (2 * _AGREE_PX + 1) ** 2 / lags
        return -float(np.log(max(poisson.sf(agreeing - 1, chance * asked), 1e-30)))


def needed_lead(pairs: int) -> float:
    """Lead over the second peak that by chance hardly one of so many pairs has."""
    return _LEAD_SCALE * float(np.log(max(pairs, 2) / _CHANCE))


def lay_out(found: PairPeaks, n: int, shape: tuple[int, int]) -> LooseLayout:
    """Find groups of images and where they lie.

    Parameters
    ----------
    found : PairPeaks
        Of all pairs.
    n : int
        Number of images.
    shape : (int, int)
        Of an image, in the pixels of the offsets.
    """
    groups = _Groups(n, shape, found)
    lead = found.lead
    needed = float(np.log(max(len(found.pairs), 2) / _CHANCE))
    alike = _in_lattice(found, lead >= _LEAD_SCALE * needed, shape) | (n < _FEW)
    evidence = lead / np.where(alike, _LEAD_SCALE, _ALONE * _LEAD_SCALE)
    order = [int(k) for k in np.argsort(-evidence, kind="stable") if lead[k] >= _DOUBTFUL_LEAD]
    joined = True
    while joined:
        joined = False
        for k in order:
            i, j = (int(v) for v in found.pairs[k])
            if groups.label[i] != groups.label[j]:
                offset = found.offsets_px[k, 0]
                joined |= groups.join(i, j, offset, needed - float(evidence[k]))
    label = number_groups(groups.label)
    positions = arrange_groups(groups.at, label, shape)
    return LooseLayout(positions, label)


def _in_lattice(
    found: PairPeaks, sure: NDArray[np.bool_], shape: tuple[int, int]
) -> NDArray[np.bool_]:
    """Pairs whose offset, up to its sign, other sure pairs have, too: most mosaics are taken on a grid."""
    best = np.nan_to_num(found.offsets_px[:, 0] / np.array(shape), nan=np.inf)
    known = best[sure & np.isfinite(best).all(axis=1)]
    alike = np.zeros(len(best), np.int64)
    for sign in (1.0, -1.0):
        for offset in known:
            alike += np.abs(best - sign * offset).max(axis=1) <= _LATTICE
    return np.asarray(alike - sure >= _LATTICE_PAIRS)


def number_groups(label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give groups numbers by falling size, those of one size by their first image."""
    names, first, inverse, counts = np.unique(
        label, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(names), np.int64)
    rank[np.lexsort((first, -counts))] = np.arange(len(names))
    numbered: NDArray[np.int64] = rank[inverse]
    return numbered


def arrange_groups(
    positions_px: NDArray[np.float64],
    group: NDArray[np.int64],
    shape: tuple[int, int],
    gap: float = 0.15,
) -> NDArray[np.float64]:
    """Move groups so that they lie side by side in rows, with a gap.

    Parameters
    ----------
    positions_px : ndarray (n, 2)
        Within each group.
    group : int ndarray (n,)
        0 comes first.
    shape : (int, int)
        Of an image.
    gap : float
        Part of an image's longer side.
    """
    out = np.array(positions_px, np.float64)
    space = float(np.ceil(gap * max(shape)))
    members = [np.flatnonzero(group == g) for g in range(int(group.max(initial=-1)) + 1)]
    sizes = [np.ptp(out[m], axis=0) + np.array(shape) for m in members]
    if not members:
        return out
    area = sum(float((s + space).prod()) for s in sizes)
    width = max(float(sizes[0][1]), float(np.sqrt(area)))
    top = left = height = 0.0
    for m, size in zip(members, sizes, strict=True):
        if left > 0 and left + size[1] > width:
            top, left, height = top + height + space, 0.0, 0.0
        out[m] += np.array([top, left]) - out[m].min(axis=0)
        left += float(size[1]) + space
        height = max(height, float(size[0]))
    return out
