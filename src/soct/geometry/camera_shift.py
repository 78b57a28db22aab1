"""Frames that the camera began to read at a wrong A-line.

The first A-line after the trigger is exposed longer than the others, so it is brighter, at the same place in every
frame of a slice. Where it is not the first column, the frame was read from the wrong line on: it is rolled back. The very
first A-line of a tile, which waited for the trigger, holds no image at all and is replaced by its neighbour.

Convention: see `soct.space`; ``x`` is the A-line axis and the last one. Columns are counted cyclically.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.space import Array

_SIDE = 3
_LEAST_EXCESS = 0.03


@dataclass(frozen=True)
class CameraShift:
    """Where the first A-line of a slice's frames is.

    Attributes
    ----------
    position : int or None
        Its column; None where no column stands out.
    gain : float
        How much brighter it is than its neighbours.
    confidence : float
        0 to 1: the share of the tiles that agree.
    reason : str
        The decision in words.
    """

    position: int | None
    gain: float
    confidence: float
    reason: str


def detect_camera_shift(
    projections: Sequence[Array], *, confidence_threshold: float = 0.6
) -> CameraShift:
    """Find the A-line that is brighter than its neighbours in all tiles of a slice.

    Parameters
    ----------
    projections : sequence of ndarray (y, x)
        Mean projections over depth of some raw tiles, return lines inside.
    confidence_threshold : float
        Least share of the tiles in which the same column stands out most.

    Notes
    -----
    A column's excess is the log of its brightness over that of the brighter side, each side the median of three
    columns: a step of brightness, such as the edge of the galvo's return, has none.
    """
    excess = [e for e in map(_excess, projections) if e is not None]
    if not excess:
        return CameraShift(None, 1.0, 0.0, "no tile has any signal: frames are left as they are")
    pooled = np.median(excess, axis=0)
    position = int(np.argmax(pooled))
    agree = float(np.mean([int(np.argmax(e)) == position for e in excess]))
    scatter = 1.4826 * float(np.median(np.abs(pooled - np.median(pooled))))
    height = float(pooled[position])
    if agree < confidence_threshold or height < max(_LEAST_EXCESS, 6 * scatter):
        return CameraShift(
            None, 1.0, agree, "no A-line is brighter than its neighbours in all tiles: frames are left as they are"
        )  # fmt: skip
    return CameraShift(
        position,
        float(np.exp(height)),
        agree,
        f"the brightest A-line is column {position} ({100 * np.expm1(height):.0f} % above its neighbours, in "
        f"{agree:.0%} of the tiles): it is made the first",
    )


def apply_camera_shift(frames: Array, shift: CameraShift) -> Array:
    """Roll frames until the brightest A-line is the first, and even it out.

    Parameters
    ----------
    frames : ndarray (..., y, x)
        A raw tile or a projection of it.
    shift : CameraShift

    Returns
    -------
    ndarray of the same shape
        The first A-line of every frame has its neighbours' brightness; that of the first frame is a copy of the second
        frame's.
    """
    if shift.position is None:
        return frames
    out = np.roll(frames, -shift.position, axis=-1)
    out[..., 0] /= shift.gain
    out[..., 0, 0] = out[..., 1, 0] if out.shape[-2] > 1 else out[..., 0, min(1, out.shape[-1] - 1)]
    return out


def _excess(projection: Array) -> NDArray[np.float64] | None:
    """Log of each column's brightness over the brighter of its two sides; None without signal."""
    tile = np.nan_to_num(np.asarray(projection, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    # The first frame began with the trigger: it says nothing of the others.
    profile = tile[1:].mean(axis=0) if tile.shape[0] > 1 else tile.mean(axis=0)
    if not profile.max() > 0 or profile.size <= 2 * _SIDE:
        return None
    log = np.log(np.maximum(profile, 1e-3 * profile.max()))
    left = np.median([np.roll(log, k) for k in range(1, _SIDE + 1)], axis=0)
    right = np.median([np.roll(log, -k) for k in range(1, _SIDE + 1)], axis=0)
    excess: NDArray[np.float64] = log - np.maximum(left, right)
    return excess
