"""How much one volume tells of another, for many poses at once: joint histograms without derivatives.

A search that must not miss the right pose looks at thousands of them on a few thousand points. Points that
fall where the moving volume has no data are left out, and the score is information times points, so that a
pose cannot gain by letting the volumes overlap less, and half a brain is no obstacle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from soct.space import Array, FloatArray

INVALID = 255
"""Bin of voxels without data."""


@dataclass(frozen=True)
class Bins:
    """A volume whose voxels are numbers of intensity classes; `INVALID` where there are no data."""

    data: NDArray[np.uint8]
    count: int


def classify(data: Array, mask: NDArray[np.bool_], valid: NDArray[np.bool_], count: int) -> Bins:
    """Sort intensities into classes: 0 outside of the tissue, then equally filled ones inside.

    Parameters
    ----------
    data : ndarray, shape (Z, Y, X)
        Intensities.
    mask : ndarray of bool, shape (Z, Y, X)
        Where there is tissue.
    valid : ndarray of bool, shape (Z, Y, X)
        Where there are data.
    count : int
        Number of classes, background included.
    """
    inside = mask & valid
    values = np.asarray(data, np.float32)
    classes = np.zeros(data.shape, np.uint8)
    if inside.any():
        edges = np.quantile(values[inside], np.linspace(0, 1, count)[1:-1])
        classes[inside] = 1 + np.searchsorted(edges, values[inside], side="right")
    classes[~valid] = INVALID
    return Bins(classes, count)


@nb.njit(cache=True, nogil=True)
def _information(joint: FloatArray, total: float) -> float:
    """Mutual information of a joint histogram, in nats, times its points, less what chance gives."""
    n_f, n_m = joint.shape
    found = 0.0
    filled_f, filled_m = 0, 0
    columns = np.zeros(n_m)
    for m in range(n_m):
        for f in range(n_f):
            columns[m] += joint[f, m]
        filled_m += columns[m] > 0
    for f in range(n_f):
        row = 0.0
        for m in range(n_m):
            row += joint[f, m]
        filled_f += row > 0
        for m in range(n_m):
            n = joint[f, m]
            if n > 0:
                found += n * np.log(n * total / (row * columns[m]))
    return found - 0.5 * max(filled_f - 1, 0) * max(filled_m - 1, 0)


@nb.njit(cache=True, nogil=True, parallel=True)
def search_poses(
    points: NDArray[np.float64],
    classes: NDArray[np.uint8],
    matrices: NDArray[np.float64],
    shifts: NDArray[np.int64],
    moving: NDArray[np.uint8],
    n_fixed: int,
    n_moving: int,
) -> NDArray[np.float64]:
    """Score every pairing of a linear map with a shift by whole voxels.

    Parameters
    ----------
    points : ndarray, shape (P, 3)
        World coordinates of points of the fixed volume.
    classes : ndarray of uint8, shape (P,)
        Their classes.
    matrices : ndarray, shape (N, 3, 4)
        From world coordinates to indices (z, y, x) of the moving volume.
    shifts : ndarray of int, shape (M, 3)
        Added to the indices.
    moving : ndarray of uint8, shape (Z, Y, X)
        Classes of the moving volume.
    n_fixed, n_moving : int
        Numbers of classes.

    Returns
    -------
    ndarray, shape (N, M)
        Information in nats per point, points without data counting as nothing.
    """
    n_points = len(points)
    scores = np.zeros((len(matrices), len(shifts)))
    nz, ny, nx = moving.shape
    for i in nb.prange(len(matrices)):
        a = matrices[i]
        index = np.empty((n_points, 3), np.int64)
        for p in range(n_points):
            for axis in range(3):
                value = a[axis, 3]
                for c in range(3):
                    value += a[axis, c] * points[p, c]
                index[p, axis] = int(np.floor(value + 0.5))
        joint = np.zeros((n_fixed, n_moving))
        for j in range(len(shifts)):
            joint[:] = 0
            total = 0
            for p in range(n_points):
                z = index[p, 0] + shifts[j, 0]
                y = index[p, 1] + shifts[j, 1]
                x = index[p, 2] + shifts[j, 2]
                if 0 <= z < nz and 0 <= y < ny and 0 <= x < nx:
                    m = moving[z, y, x]
                    if m != 255:
                        joint[classes[p], m] += 1
                        total += 1
            if total > 0:
                scores[i, j] = _information(joint, total) / n_points
    return scores


@nb.njit(cache=True, nogil=True, parallel=True)
def score_poses(
    points: NDArray[np.float64],
    classes: NDArray[np.uint8],
    matrices: NDArray[np.float64],
    moving: FloatArray,
    valid: NDArray[np.uint8],
    n_fixed: int,
    n_moving: int,
) -> NDArray[np.float64]:
    """Score poses with the moving intensity interpolated, and shared between the two nearest classes.

    Parameters
    ----------
    points, classes, matrices, n_fixed, n_moving
        As for `search_poses`.
    moving : ndarray of float32, shape (Z, Y, X)
        Intensities scaled to ``0 .. n_moving - 1``.
    valid : ndarray of uint8, shape (Z, Y, X)
        Where there are data.

    Returns
    -------
    ndarray, shape (N, 2)
        Information in nats per point, and the share of points that fell on data.
    """
    n_points = len(points)
    scores = np.zeros((len(matrices), 2))
    nz, ny, nx = moving.shape
    for i in nb.prange(len(matrices)):
        a = matrices[i]
        joint = np.zeros((n_fixed, n_moving))
        total = 0
        for p in range(n_points):
            z = a[0, 0] * points[p, 0] + a[0, 1] * points[p, 1] + a[0, 2] * points[p, 2] + a[0, 3]
            y = a[1, 0] * points[p, 0] + a[1, 1] * points[p, 1] + a[1, 2] * points[p, 2] + a[1, 3]
            x = a[2, 0] * points[p, 0] + a[2, 1] * points[p, 1] + a[2, 2] * points[p, 2] + a[2, 3]
            if not (0 <= z <= nz - 1 and 0 <= y <= ny - 1 and 0 <= x <= nx - 1):
                continue
            k, j, h = int(z), int(y), int(x)
            if valid[int(z + 0.5), int(y + 0.5), int(x + 0.5)] == 0:
                continue
            k1, j1, h1 = min(k + 1, nz - 1), min(j + 1, ny - 1), min(h + 1, nx - 1)
            fz, fy, fx = z - k, y - j, x - h
            low = (moving[k, j, h] * (1 - fx) + moving[k, j, h1] * fx) * (1 - fy) + (
                moving[k, j1, h] * (1 - fx) + moving[k, j1, h1] * fx
            ) * fy
            high = (moving[k1, j, h] * (1 - fx) + moving[k1, j, h1] * fx) * (1 - fy) + (
                moving[k1, j1, h] * (1 - fx) + moving[k1, j1, h1] * fx
            ) * fy
            value = low * (1 - fz) + high * fz
            m = min(int(value), n_moving - 2)
            share = value - m
            joint[classes[p], m] += 1 - share
            joint[classes[p], m + 1] += share
            total += 1
        if total > 0:
            scores[i, 0] = _information(joint, total) / n_points
            scores[i, 1] = total / n_points
    return scores
