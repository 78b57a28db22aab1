"""How well tiles agree where they overlap: a number for the report and for quality gates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.mosaic.placement import Placement
from soct.mosaic.strips import StripStore
from soct.space import FloatArray


@dataclass(frozen=True)
class SeamMetrics:
    """Agreement of two images of the same tissue.

    Attributes
    ----------
    l1 : float
        Mean absolute difference over mean brightness; 0 is perfect. NaN without data.
    pearson : float
        Correlation coefficient; NaN without data or contrast.
    pixels : int
        Pixels that both images have.
    """

    l1: float
    pearson: float
    pixels: int


def seam_metrics(first: FloatArray, second: FloatArray) -> SeamMetrics:
    """Compare two aligned images of one overlap.

    Parameters
    ----------
    first, second : ndarray, same shape
        NaN is no data.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape:
        raise ValueError(f"the two sides of a seam differ in shape: {a.shape} and {b.shape}")
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    level = 0.5 * (a.mean() + b.mean()) if a.size else 0.0
    if level <= 0:
        return SeamMetrics(float("nan"), float("nan"), int(a.size))
    spread = float(a.std() * b.std())
    pearson = float(((a - a.mean()) * (b - b.mean())).mean() / spread) if spread > 0 else np.nan
    return SeamMetrics(float(np.abs(a - b).mean() / level), pearson, int(a.size))


@dataclass(frozen=True)
class MosaicSeams:
    """Agreement over all overlaps of a mosaic.

    Attributes
    ----------
    pairs : int64 ndarray (m, 2)
    l1, pearson : float64 ndarray (m,)
        NaN where a pair has no overlap.
    """

    pairs: NDArray[np.int64]
    l1: NDArray[np.float64]
    pearson: NDArray[np.float64]

    @property
    def median_l1(self) -> float:
        """Median over the pairs with an overlap; NaN without any."""
        return float(np.nanmedian(self.l1)) if np.isfinite(self.l1).any() else float("nan")

    @property
    def median_pearson(self) -> float:
        """Median over the pairs with an overlap; NaN without any."""
        finite = np.isfinite(self.pearson).any()
        return float(np.nanmedian(self.pearson)) if finite else float("nan")


def measure_seams(
    store: StripStore,
    positions_px: NDArray[np.float64],
    *,
    which: NDArray[np.bool_] | None = None,
    smooth_px: float = 1.5,
) -> MosaicSeams:
    """Compare both sides of every overlap, placed at sub-pixel positions.

    Parameters
    ----------
    store : StripStore
        Strips of the tiles.
    positions_px : ndarray (n, 2)
        Solved or nominal positions.
    which : bool ndarray (m,), optional
        Only these pairs; for example `Placement.pair_accepted`, since seams without tissue say nothing.
    smooth_px : float
        Gaussian that averages over speckle, which differs between tiles.
    """
    m = len(store.pairs)
    l1, pearson = np.full(m, np.nan), np.full(m, np.nan)
    for p in range(m):
        if not store.has(p) or (which is not None and not which[p]):
            continue
        i, j = store.pairs[p]
        sides = aligned_sides(store, p, positions_px[j] - positions_px[i], smooth_px)
        if sides is not None:
            metrics = seam_metrics(*sides)
            l1[p], pearson[p] = metrics.l1, metrics.pearson
    return MosaicSeams(store.pairs, l1, pearson)


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


def compare_with_nominal(
    store: StripStore, placement: Placement, nominal_px: NDArray[np.float64]
) -> tuple[MosaicSeams, MosaicSeams]:
    """Seams before (nominal positions) and after placement, over the accepted pairs."""
    which = placement.pair_accepted
    return (
        measure_seams(store, nominal_px, which=which),
        measure_seams(store, placement.positions_px, which=which),
    )
