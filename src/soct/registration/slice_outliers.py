"""Slices whose registration stands apart from that of all others.

Each pair of consecutive slices is a point: its correlation, and how far the images moved it from the stage.
Pairs of a sound run lie in one cloud, which DBSCAN finds (Ester et al., KDD 1996); pairs outside of it, on its
bad side, are outliers, and so are runs of pairs that correlate badly. A slice is one when *all* pairs that it
has part in are: a slice that fits one of its neighbours is sound, whatever the other is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_PAIRS = 5
_NCC_UNIT = 0.05
_SHIFT_UNIT_UM = 25.0
_MAD = 1.4826


@dataclass(frozen=True)
class PairPoint:
    """What is known of two consecutive slices.

    Attributes
    ----------
    fixed, moving : int
        Slice ids.
    ncc : float
        Correlation once aligned.
    shift_um : float
        Distance between where the images and where the stage put the moving slice.
    """

    fixed: int
    moving: int
    ncc: float
    shift_um: float


@dataclass(frozen=True)
class SliceOutliers:
    """Slices to leave out of the registration.

    Attributes
    ----------
    reasons : dict of int to str
    refused : str
        Why nothing is excluded although the rules would have; empty as a rule.
    """

    reasons: dict[int, str]
    refused: str = ""


def dbscan(points: Floats, radius: float, least: int) -> NDArray[np.int64]:
    """Cluster points by density.

    Parameters
    ----------
    points : (n, d) float64
    radius : float
        Points within it are neighbours.
    least : int
        A point with at least so many neighbours, itself among them, is in the core of a cluster.

    Returns
    -------
    (n,) int64
        Cluster of every point, from 0 in the order of the points; -1 for noise.
    """
    points = np.asarray(points, np.float64)
    n = len(points)
    near = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2)) <= radius
    core = near.sum(axis=1) >= least
    label = np.full(n, -1, np.int64)
    cluster = 0
    for start in np.flatnonzero(core):
        if label[start] >= 0:
            continue
        label[start] = cluster
        front = [int(start)]
        while front:
            one = front.pop()
            if not core[one]:
                continue
            for other in np.flatnonzero(near[one] & (label < 0)):
                label[other] = cluster
                front.append(int(other))
        cluster += 1
    return label


def find_slice_outliers(
    pairs: Sequence[PairPoint],
    *,
    radius: float = 3.0,
    least: int = 3,
    run_ncc: float = 0.6,
    run_length: int = 3,
    most_share: float = 0.5,
) -> SliceOutliers:
    """Find slices that no neighbour fits.

    Parameters
    ----------
    pairs : sequence of PairPoint
        Consecutive slices, in order.
    radius : float
        Of the clusters, in robust standard deviations of correlation and shift (at least 0.05 and 25 um).
    least : int
        Pairs in the core of a cluster.
    run_ncc : float
        Pairs that correlate less count for the runs; 0 switches the rule off.
    run_length : int
        So many such pairs in a row, or more, are outliers.
    most_share : float
        Where more than this share of the slices would go, the rules do not fit the data and none goes.
    """
    reasons = _cluster_outliers(pairs, radius, least)
    for k, reason in _bad_runs(pairs, run_ncc, run_length).items():
        reasons.setdefault(k, reason)
    sides: dict[int, list[int]] = {}
    for k, pair in enumerate(pairs):
        sides.setdefault(pair.fixed, []).append(k)
        sides.setdefault(pair.moving, []).append(k)
    found = {
        one: reasons[mine[0]]
        for one, mine in sorted(sides.items())
        if all(k in reasons for k in mine)
        and _not_beside_one_that_explains(one, mine, pairs, sides, reasons)
    }
    if len(found) > most_share * len(sides):
        return SliceOutliers(
            {},
            f"{len(found)} of {len(sides)} slices would be left out: the limits do not fit these data",
        )
    return SliceOutliers(found)


def _not_beside_one_that_explains(
    one: int,
    mine: list[int],
    pairs: Sequence[PairPoint],
    sides: dict[int, list[int]],
    reasons: dict[int, str],
) -> bool:
    """Whether a slice at the end of the run is to blame: with one pair only, its neighbour may be."""
    if len(mine) > 1:
        return True
    pair = pairs[mine[0]]
    other = pair.moving if pair.fixed == one else pair.fixed
    return len(sides[other]) > 1 and not all(k in reasons for k in sides[other])


def _cluster_outliers(pairs: Sequence[PairPoint], radius: float, least: int) -> dict[int, str]:
    """Pairs outside of the largest cluster and on the bad side of it, with the reason."""
    if len(pairs) < _LEAST_PAIRS:
        return {}
    values = np.array([(p.ncc, p.shift_um) for p in pairs], np.float64)
    middle = np.median(values, axis=0)
    unit = np.maximum(
        _MAD * np.median(np.abs(values - middle), axis=0), (_NCC_UNIT, _SHIFT_UNIT_UM)
    )
    scaled = (values - middle) / unit
    label = dbscan(scaled, radius, least)
    sizes = np.bincount(label[label >= 0]) if (label >= 0).any() else np.zeros(0, int)
    if not sizes.size or sizes.max() < len(pairs) / 2:
        return {}
    main = int(sizes.argmax())
    low = float(scaled[label == main, 0].min())
    high = float(scaled[label == main, 1].max())
    found = {}
    for k, pair in enumerate(pairs):
        if label[k] == main or not (scaled[k, 0] < low or scaled[k, 1] > high):
            continue
        found[k] = (
            f"slices {pair.fixed} and {pair.moving} (correlation {pair.ncc:.2f}, {pair.shift_um:.0f} um from "
            f"the stage) stand apart from the other pairs (median {middle[0]:.2f}, {middle[1]:.0f} um)"
        )
    return found


def _bad_runs(pairs: Sequence[PairPoint], run_ncc: float, run_length: int) -> dict[int, str]:
    found: dict[int, str] = {}
    k = 0
    while k < len(pairs):
        stop = k
        while stop < len(pairs) and pairs[stop].ncc < run_ncc:
            stop += 1
        if stop - k >= run_length:
            reason = (
                f"{stop - k} pairs in a row, from slice {pairs[k].fixed} to {pairs[stop - 1].moving}, correlate "
                f"less than {run_ncc:g}"
            )
            found.update(dict.fromkeys(range(k, stop), reason))
        k = max(stop, k + 1)
    return found
