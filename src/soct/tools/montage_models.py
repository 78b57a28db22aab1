"""Images that are turned, scaled or sheared: places all along the overlaps matched, and a map for every image.

Starts from the rigid placement. Each overlap is divided into windows, which `soct.spectral.Matcher` matches;
`soct.spectral.Placement` finds the maps that fit them. Overlaps that disagree with shifts take part, too: where images are
turned, the shifts of their sides disagree, and the maps put that right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.mosaic.placement import Placement as RigidPlacement
from soct.space import FloatArray
from soct.spectral import Matcher, Placement
from soct.tools.montage_images import ImageSet

_LEAST_SNR = 6.0
_LEAST_SIDE = 16
_USUAL_SIDE = 48
_MOST_WINDOWS = 8
_FLOOR_PX = 0.02
_UNKNOWN_PX = 0.2
_HELD_IMAGES = 24
_LEAST_PLACES = 2
_MOST_BENT, _MOST_MOVED = 0.05, 0.1
"""By how much a map may turn, scale or shear an image (5 %, 3 degrees), and move it against shifts (part of its size)."""

Places = tuple[int, int, NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Two images, the same places in both, and their weights."""


@dataclass(frozen=True)
class FittedMaps:
    """What became of the images.

    Attributes
    ----------
    matrices : dict of int to ndarray (2, 3)
        What maps points ``(x, y)`` of each image to the mosaic; images without matches keep their rigid places.
    points, accepted : int
        Places that were matched, and those that had a vote.
    rms_px : float
        Root mean square residual of the accepted ones.
    rigid_rms_px : float
        Of the same places with shifts alone.
    weak : tuple of (int, str)
        Images that hang on weak links, and why.
    unfitted : tuple of int
        Images without a match.
    """

    matrices: dict[int, NDArray[np.float64]]
    points: int
    accepted: int
    rms_px: float
    rigid_rms_px: float
    weak: tuple[tuple[int, str], ...]
    unfitted: tuple[int, ...]


def overlap_windows(
    offset: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], tuple[int, int]]:
    """Divide the overlap of two images into windows.

    Parameters
    ----------
    offset : ndarray (2,)
        ``(y, x)`` of the second image less that of the first.
    shape : (int, int)
        Of the images.

    Returns
    -------
    ndarray (m, 2)
        Middles of the windows ``(x, y)`` in the first image, pixel edges.
    (int, int)
        Width and height of a window.
    """
    spans = [(max(0.0, d), min(n, n + d)) for d, n in zip(offset.tolist(), shape, strict=True)]
    lengths = [b - a for a, b in spans]
    side = max(_USUAL_SIDE, min(lengths))
    counts = [int(np.clip(round(n / side), 1, _MOST_WINDOWS)) for n in lengths]
    if sum(counts) == 2 and min(lengths) >= 4 * _LEAST_SIDE:
        # One window says nothing of a turn.
        counts = [2, 2]
    size = [max(_LEAST_SIDE, int(n / c)) for n, c in zip(lengths, counts, strict=True)]
    middles = [
        a + (np.arange(c) + 0.5) * (b - a) / c for (a, b), c in zip(spans, counts, strict=True)
    ]
    y, x = np.meshgrid(*middles, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1), (size[1], size[0])


def fit_maps(
    images: ImageSet,
    rigid: RigidPlacement,
    positions_px: NDArray[np.float64],
    model: Literal["similarity", "affine"],
    progress: Callable[[float], None],
) -> FittedMaps:
    """Find a map for every image.

    Parameters
    ----------
    images : ImageSet
    rigid : Placement
        Whose pairs are matched again.
    positions_px : ndarray (n, 2)
        Where the images lie rigidly in the mosaic.
    model : {"similarity", "affine"}
    progress : callable
    """
    read = lru_cache(_HELD_IMAGES)(images.read)
    used = _worth_matching(rigid)
    matches = []
    for done, k in enumerate(used, 1):
        i, j = (int(v) for v in rigid.pairs[k])
        offset = rigid.positions_px[j] - rigid.positions_px[i]
        first, second, weight = _match(read(i), read(j), offset, images.shape)
        if len(first) >= _LEAST_PLACES:
            matches.append((i, j, first, second, weight))
        progress(done / len(used))
    given = {
        i: np.array([[1.0, 0.0, x], [0.0, 1.0, y]])
        for i, (y, x) in enumerate(positions_px.tolist())
    }
    wild: set[int] = set()
    while True:
        kept = [m for m in matches if not wild & {m[0], m[1]}]
        fitted = _solve(kept, given, images.shape, model)
        more = {i for i, m in fitted.matrices.items() if _is_wild(m, given[i], images.shape)}
        if not more:
            return fitted
        # Hardly anything holds such an image, and what does is chance: it stays where shifts have it.
        wild |= more


def _solve(
    matches: list[Places],
    given: dict[int, NDArray[np.float64]],
    shape: tuple[int, int],
    model: Literal["similarity", "affine"],
) -> FittedMaps:
    matrices = dict(given)
    placement = Placement()
    for match in matches:
        placement.addmatch(*match)
    if not matches:
        return FittedMaps(matrices, 0, 0, np.nan, np.nan, (), tuple(given))
    with warnings.catch_warnings():
        # What these warnings tell is told by name, and in the table of matches.
        warnings.simplefilter("ignore")
        shifts = placement.rigid()
        found = placement.similarity() if model == "similarity" else placement.affine()
    maps = {_number(t): np.asarray(a, np.float64) for t, a in found.items()}
    _put_groups(matrices, maps, placement, shape)
    residuals = placement.residuals
    return FittedMaps(
        matrices,
        len(residuals),
        sum(r.accepted for r in residuals),
        _rms(placement),
        _rms_of_shifts(placement, shifts),
        tuple((_number(t), why) for t, why in placement.weak.items()),
        tuple(i for i in given if i not in maps),
    )


def _is_wild(
    found: NDArray[np.float64], given: NDArray[np.float64], shape: tuple[int, int]
) -> bool:
    """Whether a map does more to an image than a microscope does."""
    bent = np.abs(found[:, :2] - np.eye(2)).max()
    middle = np.array([shape[1] / 2, shape[0] / 2, 1.0])
    moved = np.abs((found - given) @ middle).max()
    return bool(bent > _MOST_BENT or moved > _MOST_MOVED * max(shape))


def _worth_matching(rigid: RigidPlacement) -> NDArray[np.int64]:
    """Pairs that show something, of images that shifts hold in one group."""
    group = rigid.group[rigid.pairs]
    shows = np.array([r in ("", "disagrees", "unsupported") for r in rigid.pair_reason])
    return np.flatnonzero(shows & (group[:, 0] == group[:, 1]) & (group[:, 0] >= 0))


def _match(
    first: FloatArray, second: FloatArray, offset: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Match the windows of an overlap: points in both images, and weights."""
    matcher = Matcher(first, second)
    matcher.setpeakfit("likelihood")
    middles, size = overlap_windows(offset, shape)
    at, there, weights = [], [], []
    for middle in middles:
        with warnings.catch_warnings():
            # A window that shows nothing has an SNR of 0, and is left out below.
            warnings.simplefilter("ignore", UserWarning)
            p1, p2 = matcher.refine(middle, middle - offset[::-1], size, 3, 0.02)
        moved = np.abs(p1 - middle).max()
        if matcher.snr < _LEAST_SNR or moved > min(size) / 4:
            continue
        covariance = matcher.covariance
        variance = _UNKNOWN_PX**2 if covariance is None else 0.5 * float(np.trace(covariance))
        at.append(p1)
        there.append(p2)
        weights.append(1.0 / (variance + _FLOOR_PX**2))
    return np.array(at), np.array(there), np.array(weights)


def _number(tile: Hashable) -> int:
    assert isinstance(tile, int)
    return tile


def _rms(placement: Placement) -> float:
    found = [r.residual_px for r in placement.residuals if r.accepted]
    return float(np.sqrt(np.mean(np.square(found)))) if found else float("nan")


def _rms_of_shifts(placement: Placement, shifts: Mapping[Hashable, tuple[float, float]]) -> float:
    """Return what shifts leave of the places that the maps use: those that shifts set aside count too."""
    left = [
        np.subtract(shifts[r.t1], shifts[r.t2]) + np.subtract(r.p1, r.p2)
        for r in placement.residuals
        if r.accepted
    ]
    return float(np.sqrt(np.mean(np.square(np.hypot(*np.transpose(left)))))) if left else np.nan


def _put_groups(
    matrices: dict[int, NDArray[np.float64]],
    maps: dict[int, NDArray[np.float64]],
    placement: Placement,
    shape: tuple[int, int],
) -> None:
    """Take the maps of every group to where its images lie rigidly."""
    middle = np.array([shape[1] / 2, shape[0] / 2, 1.0])
    for group in placement.groups:
        members = [_number(t) for t in group]
        apart = np.mean([matrices[i] @ middle - maps[i] @ middle for i in members], axis=0)
        for i in members:
            matrices[i] = maps[i] + np.column_stack([np.zeros((2, 2)), apart])
