"""How much neighbouring tiles overlap, from the images alone: for mosaics that come without stage positions.

All pairs of neighbours are matched over every overlap from nearly none to a half. Each pair proposes its best few
offsets; the pitch on which most pairs agree wins, so that blank tiles and chance likenesses do not decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.mosaic.matching import MatchOptions, match_strips
from soct.mosaic.strips import collect_strips, overlap_boxes
from soct.space import FloatArray

LEAST, MOST = 0.02, 0.55
"""Overlaps that are looked for, as fractions of a tile."""
_LEAST_SHARE = 0.3


@dataclass(frozen=True)
class AxisOverlap:
    """The overlap of neighbours along one axis.

    Attributes
    ----------
    fraction : float or None
        Of the tile's size along that axis; None where the images do not tell.
    pairs, agree : int
        Pairs that were matched, and those that agree with the result.
    spread_px : float
        Robust standard deviation of the pairs that agree.
    """

    fraction: float | None
    pairs: int
    agree: int
    spread_px: float = float("nan")


def grid_neighbours(index: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Pairs of tiles that follow each other along an axis.

    Parameters
    ----------
    index : int ndarray (n, 3)
        Slice, row and column of each tile.
    axis : int
        0 for rows, 1 for columns.
    """
    place = {tuple(int(v) for v in at): i for i, at in enumerate(index)}
    step = (0, 1, 0) if axis == 0 else (0, 0, 1)
    pairs = [
        (i, place[following])
        for at, i in place.items()
        if (following := (at[0] + step[0], at[1] + step[1], at[2] + step[2])) in place
    ]
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


def measure_overlap(
    load: Callable[[int], FloatArray | None],
    index: NDArray[np.int64],
    tile_shape: tuple[int, int],
    *,
    workers: int = 1,
) -> tuple[AxisOverlap, AxisOverlap]:
    """Measure the overlap along ``(y, x)``.

    Parameters
    ----------
    load : callable
        ``load(i)`` returns tile i as float32 ``(k, h, w)`` or ``(h, w)``; called once per tile and axis.
    index : int ndarray (n, 3)
        Slice, row and column of each tile; tiles of one slice only are compared.
    tile_shape : (int, int)
        Height and width.
    workers : int
        FFT threads. The result does not depend on it.

    Returns
    -------
    (AxisOverlap, AxisOverlap)
    """
    return (
        _measure_axis(load, index, tile_shape, 0, workers),
        _measure_axis(load, index, tile_shape, 1, workers),
    )


def _measure_axis(
    load: Callable[[int], FloatArray | None],
    index: NDArray[np.int64],
    tile_shape: tuple[int, int],
    axis: int,
    workers: int,
) -> AxisOverlap:
    pairs = grid_neighbours(index, axis)
    if len(pairs) == 0:
        return AxisOverlap(None, 0, 0)
    size = tile_shape[axis]
    expected = np.zeros((len(pairs), 2))
    expected[:, axis] = size * (1 - (LEAST + MOST) / 2)
    margin = size * (MOST - LEAST) / 2
    boxes = [overlap_boxes((float(d[0]), float(d[1])), tile_shape, margin) for d in expected]
    store = collect_strips(load, np.unique(pairs), pairs, boxes, tile_shape)
    matches = match_strips(store, expected, margin, MatchOptions(candidates=8), workers=workers)
    return _agree(
        matches.offsets_px,
        matches.scores,
        matches.confidence,
        axis,
        size,
        lateral=0.06 * tile_shape[1 - axis] + 3.0,
    )


def _agree(
    offsets: NDArray[np.float64],
    scores: NDArray[np.float64],
    confidence: NDArray[np.float64],
    axis: int,
    size: int,
    *,
    lateral: float,
) -> AxisOverlap:
    """Find the pitch that most pairs have among their candidates.

    Parameters
    ----------
    offsets, scores : ndarray (m, c, 2), (m, c)
        Candidates of every pair.
    confidence : ndarray (m,)
        Of each pair's best candidate.
    axis, size : int
        The axis of the pitch and the tile's size along it.
    lateral : float
        Greatest offset across.
    """
    along, across = offsets[..., axis], offsets[..., 1 - axis]
    usable = np.isfinite(along) & (np.abs(across) <= lateral) & (scores > 0)
    if not usable.any():
        return AxisOverlap(None, len(offsets), 0)
    width = max(1.5, 0.01 * size)
    # A candidate counts by how far it stands out among its pair's; each pair has one vote at most.
    vote = np.where(usable, scores, 0.0) ** 2
    vote /= np.maximum(vote.sum(axis=1, keepdims=True), 1e-12)
    centres = np.arange(size * (1 - MOST) - width, size * (1 - LEAST) + width, 0.5)
    near = np.exp(-0.5 * ((np.where(usable, along, np.inf)[..., None] - centres) / width) ** 2)
    support = (vote[..., None] * near).max(axis=1).sum(axis=0)
    best = float(centres[int(np.argmax(support))])
    hit = usable & (np.abs(along - best) <= 3 * width)
    agree = hit.any(axis=1)
    chosen = np.where(hit, scores, -np.inf).argmax(axis=1)
    values = along[np.arange(len(along)), chosen][agree]
    pitch = float(np.median(values))
    spread = 1.4826 * float(np.median(np.abs(values - pitch)))
    # Of the pairs that have something to say: the others show no tissue, or noise.
    telling = int((confidence > 0.5).sum())
    sure = int((agree & (confidence > 0.5) & (np.abs(along[:, 0] - best) <= 3 * width)).sum())
    if sure == 0 or sure < _LEAST_SHARE * telling:
        return AxisOverlap(None, len(offsets), sure, spread)
    return AxisOverlap(float(np.clip(1 - pitch / size, 0, 0.95)), len(offsets), sure, spread)
