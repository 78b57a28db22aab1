"""Where a whole-brain volume holds brain: one threshold, the largest piece, no holes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from soct.space import Array

BoolArray = NDArray[np.bool_]

_SMOOTH_UM = 100.0
_CLOSE_UM = 250.0


def find_brain(
    data: Array, voxel_um: tuple[float, ...], valid: BoolArray | None = None
) -> BoolArray:
    """Find the brain in a volume of coarse voxels (50 um and more).

    Parameters
    ----------
    data : ndarray, shape (Z, Y, X)
        Intensities, brighter in tissue than around it.
    voxel_um : tuple of float
        Voxel size.
    valid : ndarray of bool, optional
        Where there are data; elsewhere there is no brain.

    Returns
    -------
    ndarray of bool, shape (Z, Y, X)
        All of the valid voxels where nothing stands out from a background.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    data = np.asarray(data, np.float32)
    valid = np.ones(data.shape, bool) if valid is None else valid
    values = np.where(valid & np.isfinite(data), data, 0)
    sigma = [_SMOOTH_UM / v for v in voxel_um]
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma, truncate=2)
    smooth = ndimage.gaussian_filter(values, sigma, truncate=2) / np.maximum(weight, 1e-3)
    inside = smooth[valid]
    if inside.size == 0:
        return np.zeros(data.shape, bool)
    floor, cap = np.percentile(inside, (1, 99))
    if not cap > floor:
        return valid.copy()
    # The logarithm keeps dim tissue above a threshold that bright tissue would pull up.
    level = np.log(np.maximum(smooth - floor, 0) + 0.02 * (cap - floor))
    mask = (level > threshold_otsu(level[valid])) & valid
    structure = _ball([_CLOSE_UM / v for v in voxel_um])
    margin = max(structure.shape)
    closed = ndimage.binary_closing(np.pad(mask, margin, mode="edge"), structure)
    mask = closed[tuple(slice(margin, -margin) for _ in range(3))] & valid
    pieces, count = ndimage.label(mask)
    if count == 0:
        return valid.copy()
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    mask = pieces == int(sizes.argmax())
    for axis in range(3):
        planes = np.moveaxis(mask, axis, 0)
        for plane in planes:
            plane[:] = ndimage.binary_fill_holes(plane)
    return mask & valid


def _ball(radii: list[float]) -> BoolArray:
    grids = np.ogrid[tuple(slice(-int(r + 0.5), int(r + 0.5) + 1) for r in radii)]
    z, y, x = ((g / max(r, 0.5)) ** 2 for g, r in zip(grids, radii, strict=True))
    inside: BoolArray = np.asarray(z + y + x <= 1)
    return inside


def dice(a: BoolArray, b: BoolArray) -> float:
    """Return twice the common voxels over the sum of both: 1 where two masks are equal."""
    total = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / total if total else 0.0


def edge_distance(
    a: BoolArray, b: BoolArray, voxel_um: tuple[float, ...], valid: BoolArray
) -> tuple[float, float]:
    """Return the median and the 95th percentile of the distance from one mask's surface to the other's, both ways.

    Parameters
    ----------
    a, b : ndarray of bool, shape (Z, Y, X)
        Two masks.
    voxel_um : tuple of float
        Voxel size.
    valid : ndarray of bool, shape (Z, Y, X)
        Where both could be; surfaces elsewhere don't count.

    Returns
    -------
    tuple of float
        In micrometres; NaN where one of them has no surface.
    """
    from scipy import ndimage

    core = ndimage.binary_erosion(valid, iterations=2, border_value=1)
    edges = [m & ~ndimage.binary_erosion(m, border_value=1) for m in (a, b)]
    found = []
    for own, other in (edges, edges[::-1]):
        if not other.any():
            return float("nan"), float("nan")
        away = ndimage.distance_transform_edt(~other, sampling=voxel_um)
        found.append(away[own & core])
    both = np.concatenate(found)
    if both.size == 0:
        return float("nan"), float("nan")
    return float(np.median(both)), float(np.percentile(both, 95))
