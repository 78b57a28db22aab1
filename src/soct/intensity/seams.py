"""How visible the seams between tiles are: the same tissue in two tiles, compared.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from soct.space import Array

SMOOTHING_PX = 2.0


@dataclass(frozen=True)
class SeamMetrics:
    """Agreement of overlapping tiles, averaged over pairs.

    Attributes
    ----------
    l1 : float
        Mean absolute difference over mean brightness.
    pearson : float
        Mean correlation.
    shading : float
        Mean over pairs of the root mean square of the log ratio's plane: the step of brightness that is not texture.
    pairs : int
        Pairs compared.
    """

    l1: float
    pearson: float
    shading: float
    pairs: int


def measure_seams(
    tiles: Array, positions_px: Array, *, groups: Array | None = None, min_level: float = 0.0
) -> SeamMetrics:
    """Compare tiles where they overlap.

    Parameters
    ----------
    tiles : ndarray (n, y, x)
        Projections.
    positions_px : ndarray (n, 2)
        Positions (y, x), to the pixel.
    groups : ndarray (n,), optional
        Slice of each tile.
    min_level : float
        Overlaps darker than this in either tile are background and don't count.

    Returns
    -------
    SeamMetrics
        NaN where nothing overlaps.
    """
    stack = np.asarray(tiles, np.float32)
    shape = np.array(stack.shape[1:])
    group = np.zeros(len(stack), int) if groups is None else np.asarray(groups)
    position = np.asarray(positions_px, float)
    differences, correlations, shading = [], [], []
    for i in range(len(stack)):
        for j in range(i + 1, len(stack)):
            if group[i] != group[j] or not np.isfinite(position[[i, j]]).all():
                continue
            step = np.round(position[j] - position[i]).astype(int)
            low, high = np.maximum(step, 0), np.minimum(shape, shape + step)
            if (high - low < 6).any() or ((high - low) < shape / 2).all():
                continue
            a = stack[i][low[0] : high[0], low[1] : high[1]]
            low, high = low - step, high - step
            b = stack[j][low[0] : high[0], low[1] : high[1]]
            known = np.isfinite(a) & np.isfinite(b)
            if known.mean() < 0.5 or min(np.nanmedian(a), np.nanmedian(b)) <= min_level:
                continue
            a, b = (ndi.gaussian_filter(np.where(known, v, 0), SMOOTHING_PX) for v in (a, b))
            level = float((a[known] + b[known]).mean()) / 2
            if level <= 0:
                continue
            differences.append(float(np.abs(a - b)[known].mean()) / level)
            shading.append(_log_plane(a, b, known))
            if a[known].std() > 0 and b[known].std() > 0:
                correlations.append(float(np.corrcoef(a[known], b[known])[0, 1]))
    if not differences:
        return SeamMetrics(float("nan"), float("nan"), float("nan"), 0)
    pearson = float(np.mean(correlations)) if correlations else float("nan")
    return SeamMetrics(
        float(np.mean(differences)), pearson, float(np.mean(shading)), len(differences)
    )


def _log_plane(first: Array, second: Array, known: Array) -> float:
    """Root mean square of the plane through the log ratio of an overlap."""
    floor = 1e-3 * float(np.abs(first).max() + np.abs(second).max()) + 1e-12
    ratio = np.log(np.maximum(first, floor) / np.maximum(second, floor))[known]
    y, x = np.nonzero(known)
    design = np.stack([np.ones(len(y)), y - y.mean(), x - x.mean()], axis=1)
    plane = design @ np.linalg.lstsq(design, ratio, rcond=None)[0]
    return float(np.sqrt((plane**2).mean()))
