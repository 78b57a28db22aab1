"""How well the tiles of a mosaic agree where they overlap: one measure for placing, shading and the report.

Convention: see `soct.space`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from soct.mosaic.strips import find_neighbours, overlap_boxes
from soct.quality.metrics import measure_seam
from soct.space import Array


@dataclass(frozen=True)
class MosaicSeams:
    """Agreement of overlapping tiles, medians over the pairs that can be compared; NaN without any.

    Attributes
    ----------
    l1 : float
        Mean absolute difference over mean brightness.
    pearson : float
        Correlation coefficient.
    step_percent : float
        Step of the medians, percent of their mean.
    shading : float
        Root mean square of the plane through the log ratio: the step of brightness that is not texture.
    pairs : int
        Pairs compared.
    """

    l1: float
    pearson: float
    step_percent: float
    shading: float
    pairs: int


def measure_seams(
    tiles: Sequence[Array] | Array,
    positions_px: Array,
    *,
    groups: Array | None = None,
    min_level: float | None = None,
    smoothing_px: float = 0.0,
) -> MosaicSeams:
    """Compare tiles where they overlap, to the pixel.

    Parameters
    ----------
    tiles : sequence of ndarray (y, x)
        Projections of one shape; NaN is no data.
    positions_px : ndarray (n, 2)
        Positions (y, x); NaN leaves a tile out.
    groups : ndarray (n,), optional
        Slice of each tile: tiles of different slices don't overlap.
    min_level : float, optional
        Overlaps that are not brighter than this in both tiles are background and don't count.
    smoothing_px : float
        Gaussian sigma that averages over speckle, which differs between tiles.
    """
    shape = (tiles[0].shape[0], tiles[0].shape[1])
    positions = np.asarray(positions_px, float)
    rows = []
    for members in _members(groups, len(tiles)):
        for a, b in find_neighbours(positions[members], shape):
            i, j = members[a], members[b]
            rows.append(
                _compare(tiles[i], tiles[j], positions[j] - positions[i], min_level, smoothing_px)
            )
    found = np.array([row for row in rows if row is not None]).reshape(-1, 4)
    l1, pearson, step, shading = (_median(column) for column in found.T)
    return MosaicSeams(l1, pearson, step, shading, int(np.isfinite(found[:, 0]).sum()))


def _members(groups: Array | None, n: int) -> list[Array]:
    if groups is None:
        return [np.arange(n)]
    return [np.flatnonzero(np.asarray(groups) == g) for g in np.unique(groups)]


def _compare(
    first: Array, second: Array, offset: Array, min_level: float | None, smoothing_px: float
) -> tuple[float, float, float, float] | None:
    shape = (first.shape[0], first.shape[1])
    one, two = overlap_boxes(offset, shape)
    h, w = min(one[1] - one[0], two[1] - two[0]), min(one[3] - one[2], two[3] - two[2])
    a = np.asarray(first[one[0] : one[0] + h, one[2] : one[2] + w], np.float64)
    b = np.asarray(second[two[0] : two[0] + h, two[2] : two[2] + w], np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    if known.mean() < 0.5:
        return None
    if min_level is not None and min(np.median(a[known]), np.median(b[known])) <= min_level:
        return None
    if smoothing_px > 0:
        a, b = (ndi.gaussian_filter(np.where(known, v, 0), smoothing_px) for v in (a, b))
    seam = measure_seam(a, b, known)
    return seam.l1, seam.pearson, seam.step_percent, _log_plane(a, b, known)


def _log_plane(first: Array, second: Array, known: Array) -> float:
    """Root mean square of the plane through the log ratio of an overlap."""
    y, x = np.nonzero(known)
    floor = 1e-3 * float(np.abs(first[known]).max() + np.abs(second[known]).max()) + 1e-12
    ratio = np.log(np.maximum(first[known], floor) / np.maximum(second[known], floor))
    design = np.stack([np.ones(len(y)), y - y.mean(), x - x.mean()], axis=1)
    plane = design @ np.linalg.lstsq(design, ratio, rcond=None)[0]
    return float(np.sqrt((plane**2).mean()))


def _median(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
