"""Where the tiles of a mosaic are expected, before any image is looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.float64]


@dataclass(frozen=True)
class NominalPositions:
    """Expected positions of the tiles' first pixels.

    Attributes
    ----------
    px : float64 ndarray (n, 2)
        ``(y, x)`` in pixels; the smallest along each axis is 0.
    from_stage : bool
        False when index and overlap stand in for stage positions that were not recorded.
    direction : tuple of int
        +1 or -1 along ``(y, x)``: how the stage moves as the index grows. The canvas follows the index.
    overlap_px : tuple of float
        Overlap of neighbours along ``(y, x)``.
    """

    px: Positions
    from_stage: bool
    direction: tuple[int, int]
    overlap_px: tuple[float, float]


def _direction(index: NDArray[np.int64], stage: NDArray[np.float64]) -> int:
    """Sign of the stage's motion along an axis as the index grows; +1 where there is one row only."""
    if np.ptp(index) == 0:
        return 1
    centred = index - index.mean()
    return 1 if float(centred @ (stage - stage.mean())) >= 0 else -1


def nominal_positions(
    rows: NDArray[np.int64],
    cols: NDArray[np.int64],
    stage_yx_mm: Positions,
    pixel_um: tuple[float, float],
    tile_shape: tuple[int, int],
    overlap_fraction: float | tuple[float, float],
) -> NominalPositions:
    """Turn stage positions, or where they are absent the tile index, into expected pixel positions.

    Parameters
    ----------
    rows, cols : int ndarray (n,)
        Index of each tile in the mosaic.
    stage_yx_mm : float64 ndarray (n, 2)
        Stage position of each tile; NaN where it was not recorded.
    pixel_um : tuple of float
        Pixel size along ``(y, x)``.
    tile_shape : tuple of int
        Tile height and width in pixels.
    overlap_fraction : float or (float, float)
        Overlap of neighbours (along y and x), used only without stage positions.

    Returns
    -------
    NominalPositions
    """
    index = np.stack([rows, cols], axis=1).astype(np.int64)
    size = np.asarray(tile_shape, np.float64)
    pitch = size * (1.0 - np.asarray(overlap_fraction, np.float64))
    if not np.isfinite(stage_yx_mm).all():
        px = index * pitch
        px -= px.min(axis=0)
        missing = size - pitch
        return NominalPositions(px, False, (1, 1), (float(missing[0]), float(missing[1])))
    direction = (
        _direction(index[:, 0], stage_yx_mm[:, 0]),
        _direction(index[:, 1], stage_yx_mm[:, 1]),
    )
    px = np.asarray(stage_yx_mm * np.asarray(direction) * 1000.0 / np.asarray(pixel_um))
    px -= px.min(axis=0)
    overlap: list[float] = []
    for axis in (0, 1):
        levels = np.unique(index[:, axis])
        if len(levels) < 2:
            overlap.append(float(size[axis] - pitch[axis]))
            continue
        at = np.array([np.median(px[index[:, axis] == n, axis]) for n in levels])
        step = float(np.median(np.diff(at) / np.diff(levels)))
        overlap.append(float(size[axis] - step))
    return NominalPositions(px, True, direction, (overlap[0], overlap[1]))
