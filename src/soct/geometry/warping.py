"""Blocks of a volume seen through any smooth map, interpolated once.

The map is given on a lattice: where its nodes lie in the source. Between nodes it is linear, which is exact
for an affine map and close for one that bends over many voxels.
"""

from __future__ import annotations

import numba as nb
import numpy as np
from numpy.typing import NDArray

from soct.space import FloatArray


@nb.njit(cache=True, nogil=True, parallel=True)
def warp_block(
    source: FloatArray,
    lattice: NDArray[np.float64],
    step: NDArray[np.float64],
    values: FloatArray,
    valid: NDArray[np.bool_],
) -> None:
    """Fill a block of output with what a source block holds there.

    Parameters
    ----------
    source : ndarray of float32, shape (Z, Y, X)
        Voxels without data are 0, all others positive.
    lattice : ndarray, shape (A, B, C, 3)
        Where the nodes lie in the source (indices z, y, x); at least two nodes along each axis.
    step : ndarray, shape (3,)
        Output voxels from node to node.
    values : ndarray of float32, shape (z, y, x)
        Receives means of the up to eight voxels around, by their weights; 0 where there are no data.
    valid : ndarray of bool, shape (z, y, x)
        Receives whether at least half of the weight lies on data.
    """
    n_z, n_y, n_x = source.shape
    for k in nb.prange(values.shape[0]):
        point = np.empty(3)
        ca = min(int(k / step[0]), lattice.shape[0] - 2)
        ta = k / step[0] - ca
        for j in range(values.shape[1]):
            cb = min(int(j / step[1]), lattice.shape[1] - 2)
            tb = j / step[1] - cb
            for i in range(values.shape[2]):
                cc = min(int(i / step[2]), lattice.shape[2] - 2)
                tc = i / step[2] - cc
                for axis in range(3):
                    point[axis] = (
                        (lattice[ca, cb, cc, axis] * (1 - tc) + lattice[ca, cb, cc + 1, axis] * tc)
                        * (1 - tb)
                        + (
                            lattice[ca, cb + 1, cc, axis] * (1 - tc)
                            + lattice[ca, cb + 1, cc + 1, axis] * tc
                        )
                        * tb
                    ) * (1 - ta) + (
                        (
                            lattice[ca + 1, cb, cc, axis] * (1 - tc)
                            + lattice[ca + 1, cb, cc + 1, axis] * tc
                        )
                        * (1 - tb)
                        + (
                            lattice[ca + 1, cb + 1, cc, axis] * (1 - tc)
                            + lattice[ca + 1, cb + 1, cc + 1, axis] * tc
                        )
                        * tb
                    ) * ta
                z0, y0, x0 = (
                    int(np.floor(point[0])),
                    int(np.floor(point[1])),
                    int(np.floor(point[2])),
                )
                total, weight = 0.0, 0.0
                for dz in range(2):
                    z = z0 + dz
                    wz = point[0] - z0 if dz else 1 - (point[0] - z0)
                    if not 0 <= z < n_z or wz == 0:
                        continue
                    for dy in range(2):
                        y = y0 + dy
                        wy = point[1] - y0 if dy else 1 - (point[1] - y0)
                        if not 0 <= y < n_y or wy == 0:
                            continue
                        for dx in range(2):
                            x = x0 + dx
                            wx = point[2] - x0 if dx else 1 - (point[2] - x0)
                            if not 0 <= x < n_x:
                                continue
                            value = source[z, y, x]
                            if value > 0:
                                total += wz * wy * wx * value
                                weight += wz * wy * wx
                is_valid = weight >= 0.5
                valid[k, j, i] = is_valid
                values[k, j, i] = total / weight if is_valid else 0.0


def lattice_nodes(
    shape: tuple[int, ...], step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the output indices of a lattice's nodes, shape (A, B, C, 3), and the voxels between them.

    Parameters
    ----------
    shape : tuple of int
        Of the output block.
    step : int
        Voxels between nodes; an axis has at least two nodes.
    """
    counts = [max(2, -(-(n - 1) // step) + 1) for n in shape]
    axes = [np.arange(c) * float(step) for c in counts]
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), np.full(3, float(step))
