"""Both sides of the overlaps of a mosaic, brought onto common pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.mosaic.strips import StripStore
from soct.space import FloatArray


def aligned_sides(
    store: StripStore, pair: int, offset: NDArray[np.float64], smooth_px: float
) -> tuple[FloatArray, FloatArray] | None:
    """Both sides of an overlap on the first tile's pixels, mean over channels, smoothed; None where less than 4 pixels meet.

    Parameters
    ----------
    store : StripStore
    pair : int
        Number of the overlap in the store.
    offset : ndarray (2,)
        Position of the second tile minus that of the first.
    smooth_px : float
        Gaussian that averages over speckle.
    """
    (ay, by, ax, bx), (cy, dy, cx, dx) = store.boxes[pair]
    # Pixels of the first tile that the second one's strip covers, with one to spare for interpolation.
    y0, y1 = max(ay, int(np.ceil(cy + offset[0]))), min(by, int(np.floor(dy - 1 + offset[0])) + 1)
    x0, x1 = max(ax, int(np.ceil(cx + offset[1]))), min(bx, int(np.floor(dx - 1 + offset[1])) + 1)
    if y1 - y0 < 4 or x1 - x0 < 4:
        return None
    whole = np.floor(-offset).astype(int)
    fraction = -offset - whole
    first = _read(store, pair, 0, (y0, y1, x0, x1))
    v0, u0 = y0 + whole[0], x0 + whole[1]
    v1, u1 = min(y1 + whole[0] + 1, dy), min(x1 + whole[1] + 1, dx)
    wide = _read(store, pair, 1, (v0, v1, u0, u1))
    second = ndi.shift(wide, -fraction, order=1, mode="nearest", prefilter=False)
    second = second[: y1 - y0, : x1 - x0]
    images = (ndi.gaussian_filter(a, smooth_px) for a in (first, second))
    a, b = images
    return a.astype(np.float32), b.astype(np.float32)


def _read(store: StripStore, pair: int, side: int, box: tuple[int, int, int, int]) -> FloatArray:
    out = np.empty((store.channels, box[1] - box[0], box[3] - box[2]), np.float32)
    store.cut(pair, side, box, out)
    mean: FloatArray = out.mean(axis=0)
    return mean
