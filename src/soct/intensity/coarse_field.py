"""A smooth field fitted on a shrunk copy of a volume: the copy, and the field back at every voxel.

The copy holds means over blocks of valid voxels, never single voxels: picking every fourth voxel keeps all of
its speckle, and a field fitted to that is off by 18 times as much. Blocks at the far edges may be smaller, so
every axis of the copy carries the centres of its blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numba import njit, prange
from scipy.interpolate import BSpline, make_interp_spline
from threadpoolctl import threadpool_limits

from soct.space import Array, FloatArray


class Shrunk(NamedTuple):
    """A volume reduced by block means.

    Attributes
    ----------
    image : ndarray (mz, my, mx) float32
        Means over the valid voxels of each block, 0 where there are none.
    share : ndarray (mz, my, mx) float32
        Share of each block that is valid.
    centres : tuple of ndarray
        Centres of the blocks along z, y, x, in voxels of the volume.
    """

    image: FloatArray
    share: FloatArray
    centres: tuple[Array, Array, Array]


def block_edges(length: int, factor: int) -> Array:
    """Cut an axis into blocks of `factor`, the last one smaller where that is left.

    Returns
    -------
    ndarray (n + 1,) int64
        First sample of each block, and the end.
    """
    return np.append(np.arange(0, length, factor), length)


def block_centres(edges: Array) -> Array:
    """Return the centre of each block, in samples."""
    return np.asarray((edges[:-1] + edges[1:] - 1) / 2)


def shrink(volume: Array, mask: Array | None, edges: tuple[Array, Array, Array]) -> Shrunk:
    """Reduce a volume to means over blocks of its valid voxels.

    Parameters
    ----------
    volume : ndarray (z, y, x)
        Values that are not finite or not positive are no data.
    mask : ndarray (z, y, x) bool, optional
        Voxels that count.
    edges : tuple of ndarray
        From `block_edges`, for every axis.
    """
    data = np.ascontiguousarray(volume, np.float32)
    shape = tuple(len(e) - 1 for e in edges)
    image = np.empty(shape, np.float32)
    share = np.empty(shape, np.float32)
    counted = np.ones((1, 1, 1), np.bool_) if mask is None else np.ascontiguousarray(mask, np.bool_)
    _block_means(data, counted, mask is not None, *edges, image, share)
    z, y, x = (block_centres(e) for e in edges)
    return Shrunk(image, share, (z, y, x))


@dataclass(frozen=True)
class CoarseField:
    """A smooth field known at block centres; cubic splines carry it to every voxel.

    Attributes
    ----------
    log_field : ndarray (mz, my, mx) float32
        Its logarithm.
    centres : tuple of ndarray
        Of the blocks, in voxels.
    """

    log_field: FloatArray
    centres: tuple[Array, Array, Array]

    @cached_property
    def _coefficients(self) -> FloatArray:
        """Coefficients of the spline through the values."""
        z, y, x = (_prefilter(centres) for centres in self.centres)
        with threadpool_limits(1, "blas"):
            lines = np.matmul(y, np.matmul(self.log_field, x.T))
            flat = np.matmul(z, lines.reshape(len(z), -1))
        return np.ascontiguousarray(flat.reshape(lines.shape), np.float32)

    def evaluate(
        self,
        z: tuple[int, int],
        y: tuple[int, int],
        x: tuple[int, int],
        out: FloatArray | None = None,
    ) -> FloatArray:
        """Return the logarithm of the field in a block of voxels.

        Parameters
        ----------
        z, y, x : tuple of int
            First voxel and end along each axis.
        out : ndarray float32, optional
            Written and returned.
        """
        return self.evaluate_at(np.arange(*z), np.arange(*y), np.arange(*x), out)

    def evaluate_at(
        self, z: Array, y: Array, x: Array, out: FloatArray | None = None
    ) -> FloatArray:
        """Return the logarithm of the field on a grid of positions, in voxels."""
        positions = zip(self.centres, (z, y, x), strict=True)
        taps = [_taps(centres, at) for centres, at in positions]
        if out is None:
            out = np.empty((len(z), len(y), len(x)), np.float32)
        (iz, wz), (iy, wy), (ix, wx) = taps
        _expand(self._coefficients, iz, wz, iy, wy, ix, wx, out)
        return out


def _degree(n: int) -> int:
    return min(3, n - 1)


def _prefilter(centres: Array) -> Array:
    """Matrix from values at the centres to the coefficients of the spline through them."""
    n = len(centres)
    if n == 1:
        return np.ones((1, 1))
    return np.asarray(make_interp_spline(centres, np.eye(n), k=_degree(n)).c)


def _taps(centres: Array, at: Array) -> tuple[Array, Array]:
    """First coefficient and weights of the four that make up the spline at each position."""
    n, k = len(centres), _degree(len(centres))
    weights = np.zeros((len(at), 4), np.float32)
    if n == 1:
        weights[:, 0] = 1
        return np.zeros(len(at), np.int64), weights
    at = np.asarray(at, np.float64)
    knots = make_interp_spline(centres, np.zeros(n), k=k).t
    held = np.clip(at, centres[0], centres[-1])
    span = np.clip(np.searchsorted(knots, held, side="right") - 1, k, n - 1)
    first = span - k
    rows = BSpline.design_matrix(held, knots, k).toarray()
    # Half a block beyond the outer centres the field goes on straight.
    for end, inner, beyond in (
        (centres[0], centres[1], np.maximum(centres[0] - at, 0)),
        (centres[-1], centres[-2], np.maximum(at - centres[-1], 0)),
    ):
        edge, before = BSpline.design_matrix(np.array([end, inner]), knots, k).toarray()
        rows += (beyond / abs(end - inner))[:, None] * (edge - before)
    for tap in range(k + 1):
        weights[:, tap] = np.take_along_axis(rows, (first + tap)[:, None], axis=1)[:, 0]
    return first.astype(np.int64), weights


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz"})
def _block_means(
    data: FloatArray,
    mask: Array,
    masked: bool,
    z_edges: Array,
    y_edges: Array,
    x_edges: Array,
    image: FloatArray,
    share: FloatArray,
) -> None:
    mz, my, mx = image.shape
    nx = data.shape[2]
    infinite = np.float32(np.inf)
    for row in prange(mz * my):
        k, j = row // my, row % my
        # Whole rows are added first: those loops run over contiguous samples.
        line = np.zeros(nx, np.float32)
        count = np.zeros(nx, np.float32)
        for z in range(z_edges[k], z_edges[k + 1]):
            for y in range(y_edges[j], y_edges[j + 1]):
                for x in range(nx):
                    v = data[z, y, x]
                    good = (v > 0) & (v < infinite)
                    if masked:
                        good &= mask[z, y, x]
                    line[x] += v if good else np.float32(0)
                    count[x] += np.float32(1) if good else np.float32(0)
        area = (z_edges[k + 1] - z_edges[k]) * (y_edges[j + 1] - y_edges[j])
        for i in range(mx):
            total, n = 0.0, 0.0
            for x in range(x_edges[i], x_edges[i + 1]):
                total += line[x]
                n += count[x]
            image[k, j, i] = total / n if n > 0 else 0.0
            share[k, j, i] = n / (area * (x_edges[i + 1] - x_edges[i]))


@njit(cache=True, nogil=True, parallel=True, fastmath={"contract", "nsz"})
def _expand(
    points: FloatArray,
    iz: Array,
    wz: FloatArray,
    iy: Array,
    wy: FloatArray,
    ix: Array,
    wx: FloatArray,
    out: FloatArray,
) -> None:
    nz, ny, nx = out.shape
    cy, cx = points.shape[1:]
    for z in prange(nz):
        plane = np.zeros((cy, cx + 3), np.float32)
        for a in range(4):
            w = wz[z, a]
            if w != 0:
                for j in range(cy):
                    for i in range(cx):
                        plane[j, i] += w * points[iz[z] + a, j, i]
        wide = np.empty((cy, nx), np.float32)
        for j in range(cy):
            for x in range(nx):
                i = ix[x]
                wide[j, x] = (
                    wx[x, 0] * plane[j, i]
                    + wx[x, 1] * plane[j, i + 1]
                    + wx[x, 2] * plane[j, i + 2]
                    + wx[x, 3] * plane[j, i + 3]
                )
        for y in range(ny):
            j = iy[y]
            j1, j2, j3 = min(j + 1, cy - 1), min(j + 2, cy - 1), min(j + 3, cy - 1)
            w0, w1, w2, w3 = wy[y, 0], wy[y, 1], wy[y, 2], wy[y, 3]
            for x in range(nx):
                out[z, y, x] = (
                    w0 * wide[j, x] + w1 * wide[j1, x] + w2 * wide[j2, x] + w3 * wide[j3, x]
                )
