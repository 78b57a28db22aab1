"""The galvo return: the A-lines recorded while the scanning mirror flies back.

A frame holds ``nx`` kept A-lines and ``n_extra`` return lines, one contiguous band whose place in the frame
depends on when the camera was triggered; it may wrap around the frame's end. The return is recorded with
another speed and often another brightness, so the band shows as two steps of opposite sign, ``n_extra``
columns apart, *at the same place in every tile of a slice*. Tissue edges look alike but sit elsewhere in
every tile: evidence is therefore pooled over tiles before a place is chosen.

Convention: see `soct.space`; ``x`` is the A-line axis and the last one. Columns are counted cyclically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from soct.errors import InputError
from soct.space import Array, FloatArray

MAX_SAMPLED_TILES = 5
MAX_BANDS_OF_ROWS = 20
DIFFERENCE_LIMIT = 0.10
DEPTH_FOR_FULL_SCORE = 0.3
BREAK_FOR_FULL_SCORE = 8.0


@dataclass(frozen=True)
class GalvoDecision:
    """Where the return lines of a slice are, and how far that can be trusted.

    Attributes
    ----------
    n_extra : int
        Return lines per frame; 0 means that there is nothing to remove.
    position : int or None
        First return column of the frame, None when no band was found with enough confidence: the return
        lines are then taken to be the last `n_extra` columns.
    shift : int
        Columns by which a frame is rolled (towards higher x) before its last `n_extra` are cropped.
    confidence : float
        0 to 1.
    sampled, consistent : int
        Tiles looked at, and those that show the band at the chosen place.
    profile : ndarray (nx + n_extra,) float32
        Mean brightness of the sampled tiles along the A-line axis (empty without return lines).
    reason : str
        The decision in words.
    """

    n_extra: int
    position: int | None
    shift: int
    confidence: float
    sampled: int
    consistent: int
    profile: FloatArray
    reason: str

    @property
    def applied(self) -> bool:
        """Whether frames are rolled at all."""
        return self.shift != 0


def choose_central_tiles(
    grid_index: Sequence[tuple[int, int]], count: int = MAX_SAMPLED_TILES
) -> list[int]:
    """Choose the tiles nearest the middle of the mosaic, where tissue is.

    Parameters
    ----------
    grid_index : sequence of (row, col)
        Places of the tiles in the mosaic.
    count : int
        How many to choose at most.

    Returns
    -------
    list of int
        Indices into `grid_index`, nearest first; ties in reading order.
    """
    if not grid_index:
        return []
    index = np.asarray(grid_index, dtype=float)
    distance = np.hypot(*(index - (index.min(0) + index.max(0)) / 2).T)
    return [int(i) for i in np.argsort(distance, kind="stable")[:count]]


def detect_galvo_return(
    projections: Sequence[Array], n_extra: int, *, confidence_threshold: float = 0.6
) -> GalvoDecision:
    """Find the band of return lines that the tiles of a slice share.

    Parameters
    ----------
    projections : sequence of ndarray (y, nx + n_extra)
        Mean projections over depth (AIP) of up to five raw tiles of one slice, return lines inside.
    n_extra : int
        Return lines per frame, as the acquisition states it.
    confidence_threshold : float
        Below it the band is taken to be at the frame's end, and the decision says so.

    Returns
    -------
    GalvoDecision

    Raises
    ------
    InputError
        When the projections differ in width or are not wider than `n_extra`.

    Notes
    -----
    Each tile gives two curves over the columns, in units of their own noise, averaged over the tiles: the median
    over B-scans of the step of log brightness into a column, ``Z``, which a slanted tissue edge hardly
    moves, and of its absolute value, ``A``, large where the columns show different places even if they are
    equally bright. The band starts where ``max(-Z(p) Z(p + n_extra), 0) + A(p) A(p + n_extra)`` is largest.
    The confidence is that of linumpy's documentation, ``0.40 C + 0.35 D + 0.25 min(depth / 0.3, 1)`` over
    up to 20 groups of B-scans (C: share in which the band differs from its surroundings in the common direction,
    D: share that differs by more than 10 %; C < 0.5 caps it at 0.3 C), or that of the breaks ``A`` at both
    ends where it is higher, scaled by how far the chosen place stands out from the best other one; then
    times ``sqrt(consistent / sampled)``.
    """
    if n_extra < 0:
        raise InputError("A tile cannot have a negative number of return lines", found=str(n_extra))
    if n_extra == 0:
        return _keep_frames(0, "the acquisition has no return lines", np.zeros(0, np.float32))
    tiles = [np.asarray(p, dtype=np.float32) for p in projections]
    if any(t.ndim != 2 or t.shape[1] <= n_extra for t in tiles):
        raise InputError(
            "A projection is not wider than its return lines",
            expected=f"2-D, more than {n_extra} columns",
            found=", ".join(str(t.shape) for t in tiles),
        )
    if len({t.shape[1] for t in tiles}) > 1:
        raise InputError(
            "The tiles of a slice differ in width", found=str([t.shape[1] for t in tiles])
        )
    logs = [_log_brightness(t) for t in tiles]
    usable = [i for i, log in enumerate(logs) if log is not None]
    if not usable:
        return _keep_frames(n_extra, "no tile has any signal", np.zeros(0, np.float32), len(tiles))
    profile = np.mean([np.nan_to_num(tiles[i]).mean(0) for i in usable], axis=0).astype(np.float32)
    seen = [log for log in logs if log is not None]
    steps = np.stack([_column_steps(log) for log in seen])
    breaks = np.stack([_column_breaks(log) for log in seen])
    root = np.sqrt(len(seen))
    pooled_breaks = breaks.sum(0) / root
    score = _band_score(steps.sum(0) / root, n_extra) + _break_score(pooled_breaks, n_extra)
    position = int(np.argmax(score))
    if score[position] <= 0:
        return _keep_frames(n_extra, "no band of steps was found", profile, len(tiles))
    contrasts, consistent = [], 0
    for i, own_steps, own_breaks in zip(usable, steps, breaks, strict=True):
        contrasts.append(band_confidence(tiles[i], position, n_extra))
        own_score = _band_score(own_steps, n_extra) + _break_score(own_breaks, n_extra)
        near = own_score.take(np.arange(position - 1, position + 2), mode="wrap").max()
        consistent += bool(near > 0 and near >= 0.5 * own_score.max())
    weaker = min(pooled_breaks[position], pooled_breaks[(position + n_extra) % score.size])
    broken = float(np.clip((weaker - 4) / BREAK_FOR_FULL_SCORE, 0, 1))
    # A blank tile neither shows nor denies the band, so only tiles with signal count as sampled.
    confidence = float(
        max(*contrasts, broken) * _distinctness(score, position) * np.sqrt(consistent / len(usable))
    )
    if confidence < confidence_threshold:
        return GalvoDecision(
            n_extra,
            None,
            0,
            confidence,
            len(usable),
            consistent,
            profile,
            f"no band with confidence {confidence_threshold:.2f} (best {confidence:.2f} at column "
            f"{position}); the last {n_extra} columns are taken as return lines",
        )
    width = tiles[0].shape[1]
    shift = (width - position - n_extra) % width
    return GalvoDecision(
        n_extra,
        position,
        shift,
        confidence,
        len(usable),
        consistent,
        profile,
        f"return lines start at column {position}, seen in {consistent} of {len(usable)} tiles",
    )


def apply_galvo_shift(frames: Array, decision: GalvoDecision) -> Array:
    """Roll the return lines to the end of the frame and crop them.

    Parameters
    ----------
    frames : ndarray (..., nx + n_extra)
        A raw tile or a projection of it.
    decision : GalvoDecision
        From `detect_galvo_return`; without a band it only crops.

    Returns
    -------
    ndarray (..., nx), C-contiguous
    """
    width = frames.shape[-1]
    kept = width - decision.n_extra
    if kept <= 0:
        raise InputError(
            "A tile is not wider than its return lines",
            expected=f"more than {decision.n_extra} columns",
            found=str(width),
        )
    start = -decision.shift % width
    if start + kept <= width:
        return np.ascontiguousarray(frames[..., start : start + kept])
    first = frames[..., start:]
    return np.concatenate([first, frames[..., : kept - first.shape[-1]]], axis=-1)


def roll_columns(tile: Array, shift: int, *, undo: bool = False) -> Array:
    """Roll a tile of an assembled mosaic along its A-line axis, or take that back.

    Parameters
    ----------
    tile : ndarray (..., x)
    shift : int
        Columns towards higher x.
    undo : bool
        Apply the inverse roll.
    """
    return np.roll(tile, -shift if undo else shift, axis=-1)


@dataclass(frozen=True)
class DarkRun:
    """A band of dark (or bright) columns inside the tiles of an assembled mosaic.

    Attributes
    ----------
    start, width : int
        First column and number of columns, within one tile.
    deficit : float
        Sum over the band of the missing (or surplus) brightness relative to the baseline, in columns.
    shift : int
        Roll (towards higher x) that brings the band to the tile's end.
    bright : bool
        Whether the band is brighter than the tissue beside it.
    """

    start: int
    width: int
    deficit: float
    shift: int
    bright: bool = False


def detect_dark_run(
    profile: Array,
    *,
    dark_fraction: float = 0.6,
    max_gap: int = 2,
    max_width_fraction: float = 0.2,
    bright: bool = False,
) -> DarkRun | None:
    """Find return lines that an earlier tool left inside the tiles of an assembled mosaic.

    Parameters
    ----------
    profile : ndarray (x,)
        Brightness along the A-line axis of a tile, averaged over all tiles of the mosaic that hold tissue.
    dark_fraction : float
        A column is dark below this share of the baseline, the profile's 75th percentile.
    max_gap : int
        Runs separated by at most this many columns are one.
    max_width_fraction : float
        A wider run is tissue or background, not the return.
    bright : bool
        Look for columns brighter than the baseline over `dark_fraction` instead.

    Returns
    -------
    DarkRun or None
        The run with the largest deficit, None where there is none.
    """
    values = np.asarray(profile, dtype=float)
    finite = values[np.isfinite(values)]
    baseline = float(np.percentile(finite, 75)) if finite.size else 0.0
    if baseline <= 0:
        return None
    relative = np.where(np.isfinite(values), values / baseline, 1.0)
    odd = relative > 1 / dark_fraction if bright else relative < dark_fraction
    dark = ndi.binary_closing(np.pad(odd, max_gap + 1), structure=np.ones(max_gap + 1))[
        max_gap + 1 : -max_gap - 1
    ]
    labels, count = ndi.label(dark)
    best: DarkRun | None = None
    for label in range(1, count + 1):
        columns = np.flatnonzero(labels == label)
        deficit = float(np.abs(1 - relative[columns]).sum())
        if columns.size > max_width_fraction * values.size:
            continue
        if best is None or deficit > best.deficit:
            start, width = int(columns[0]), int(columns.size)
            shift = (values.size - start - width) % values.size
            best = DarkRun(start, width, deficit, shift, bright)
    return best


def _keep_frames(n_extra: int, reason: str, profile: FloatArray, sampled: int = 0) -> GalvoDecision:
    confidence = 1.0 if n_extra == 0 else 0.0
    if n_extra:
        reason += f"; the last {n_extra} columns are taken as return lines"
    return GalvoDecision(n_extra, None, 0, confidence, sampled, 0, profile, reason)


def _log_brightness(tile: FloatArray) -> FloatArray | None:
    """Log of the projection over a floor that keeps noise small; None for a tile without signal."""
    finite = np.isfinite(tile)
    if finite.mean() < 0.5:
        return None
    values = np.where(finite, tile, 0)
    level = float(np.median(values[finite]))
    if not level > 0 or float(values.std()) <= 1e-6 * level:
        return None
    return np.log(np.maximum(values, 0) + 0.1 * level).astype(np.float32)


def _column_steps(log: FloatArray) -> FloatArray:
    """Step of log brightness into each column, in units of the tile's own noise, clipped."""
    steps = np.median(log - np.roll(log, 1, axis=1), axis=0)
    noise = 1.4826 * float(np.median(np.abs(steps - np.median(steps))))
    return np.clip(steps / max(noise, 0.01), -12, 12).astype(np.float32)


def _column_breaks(log: FloatArray) -> FloatArray:
    """How unlike each column is to the one before it, in units of the tile's own scatter, clipped."""
    change = log - np.roll(log, 1, axis=1)
    unlike = np.median(np.abs(change), axis=0)
    centre = np.median(unlike)
    scatter = 1.4826 * float(np.median(np.abs(unlike - centre)))
    return np.clip((unlike - centre) / max(scatter, 0.01), -2, 12).astype(np.float32)


def _break_score(breaks: FloatArray, n_extra: int) -> FloatArray:
    """Score of a band that starts at each column by the breaks at both its ends."""
    lit = np.maximum(breaks, 0)
    return (lit * np.roll(lit, -n_extra)).astype(np.float32)


def _band_score(steps: FloatArray, n_extra: int) -> FloatArray:
    """Score of a band that starts at each column: both its steps count, and only of opposite sign."""
    return np.maximum(-steps * np.roll(steps, -n_extra), 0).astype(np.float32)


def _distinctness(score: FloatArray, position: int) -> float:
    """1 where the best place scores twice the best other one, falling to 0 where they are equal."""
    others = score.copy()
    others[np.arange(position - 1, position + 2) % score.size] = 0
    return float(np.clip(2 * (1 - others.max() / score[position]), 0, 1))


def band_confidence(tile: FloatArray, position: int, n_extra: int) -> float:
    """Confidence of one tile that its band differs from the columns on either side."""
    width = tile.shape[1]
    band = np.arange(position, position + n_extra) % width
    side = max(2, min(n_extra, (width - n_extra) // 4))
    left = np.arange(position - side, position) % width
    right = np.arange(position + n_extra, position + n_extra + side) % width
    groups = np.array_split(np.nan_to_num(tile), min(MAX_BANDS_OF_ROWS, tile.shape[0]), axis=0)
    inside = np.array([g[:, band].mean() for g in groups])
    sides = np.array([[g[:, left].mean(), g[:, right].mean()] for g in groups])
    around = sides.mean(1)
    lit = around > 0.05 * max(float(np.median(around)), 1e-12)
    if not lit.any():
        return 0.0
    inside, sides, around = inside[lit], sides[lit], around[lit]
    relative = (inside - around) / around
    direction = np.sign(np.median(relative))
    # The band must leave the range of both sides, or a tissue edge inside it would pass for a band.
    beyond = np.where(direction > 0, inside - sides.max(1), sides.min(1) - inside) / around
    differs = float(np.mean(beyond > 0))
    clearly = float(np.mean(direction * relative > DIFFERENCE_LIMIT))
    depth = float(abs(np.median(relative)))
    confidence = 0.40 * differs + 0.35 * clearly + 0.25 * min(depth / DEPTH_FOR_FULL_SCORE, 1.0)
    return min(confidence, 0.3 * differs) if differs < 0.5 else confidence
