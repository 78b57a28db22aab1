"""Slices into one volume: each voxel is interpolated once, from the slice's own grid to the stack.

A slice enters with its pose: a rigid map in the plane and a shift along z. Because neither changes with
depth, a source plane is resampled once in the plane and the two planes around an output plane are mixed
linearly. Slices overlap in depth (the microscope sees deeper than the vibratome cuts), so every output voxel
is a weighted mean over the slices that cover it. The weight of a voxel is

    snr(depth) x ramp(top) x ramp(bottom) x lateral(y, x)

where ``snr`` is the inverse relative variance at that depth, the ramps are raised cosines that take a slice
in and out without a step, and ``lateral`` does the same at the border of its footprint.

Arrays follow the convention of `soct.space`; matrices ``(2, 3)`` map output ``(y, x, 1)`` to slice ``(y, x)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.compute.backend import CPU, Backend
from soct.mosaic import rendering_arrays

FloatArray = NDArray[np.float32]

_HALF = 0.5


@dataclass(frozen=True)
class SlicePlacement:
    """How one slice lies in the stack.

    Attributes
    ----------
    to_slice : ndarray (2, 3), float64
        Output pixel ``(y, x, 1)`` to slice pixel ``(y, x)``.
    z_px : float
        Output plane on which the slice's plane 0 lies (may be fractional).
    shape : tuple of int
        ``(nz, ny, nx)`` of the slice.
    gain, floor, cap : float
        Brightness ``min(v, cap) - floor`` times ``gain``.
    drift : ndarray (nz, 2), float64, optional
        Shift ``(dy, dx)`` of each of the slice's planes on the output, in output pixels, on top of the pose.
    """

    to_slice: NDArray[np.float64]
    z_px: float
    shape: tuple[int, int, int]
    gain: float = 1.0
    floor: float = 0.0
    cap: float = np.inf
    drift: NDArray[np.float64] | None = None

    def matrix_of_plane(self, k: int) -> NDArray[np.float64]:
        """Return output to slice pixels on the slice's plane `k`."""
        if self.drift is None or not self.drift[k].any():
            return self.to_slice
        matrix = self.to_slice.copy()
        matrix[:, 2] -= matrix[:, :2] @ self.drift[k]
        return matrix

    @property
    def z_range(self) -> tuple[int, int]:
        """First output plane that the slice reaches, and one past the last."""
        return int(np.ceil(self.z_px - 1e-6)), int(
            np.floor(self.z_px + self.shape[0] - 1 + 1e-6)
        ) + 1

    def source_window(
        self, y: tuple[int, int], x: tuple[int, int], margin: int = 2
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """Slice rows and columns that the output rows ``y`` and columns ``x`` touch."""
        corners = np.array([[r, c, 1.0] for r in (y[0], y[1] - 1) for c in (x[0], x[1] - 1)])
        at = corners @ self.to_slice.T
        if self.drift is not None:
            margin += int(np.ceil(np.abs(self.drift).max(initial=0.0)))
        low = np.floor(at.min(axis=0)).astype(int) - margin
        high = np.ceil(at.max(axis=0)).astype(int) + margin + 1
        rows, columns = (
            (max(int(a), 0), min(int(b), n))
            for a, b, n in zip(low, high, self.shape[1:], strict=True)
        )
        return rows, columns


def depth_weights(snr: FloatArray) -> FloatArray:
    """Weights over a slice's depth, without the ramps that depend on each A-line's valid range.

    Parameters
    ----------
    snr : ndarray (nz,)
        Signal over noise floor at each depth; speckle of contrast ~1 caps the weight of good depths.
    """
    relative_noise = 1.0 / np.maximum(np.asarray(snr, np.float64), 1e-3)
    return (1.0 / (1.0 + relative_noise**2)).astype(np.float32)


def lateral_weights(valid: NDArray[np.int16], ramp_px: float) -> FloatArray:
    """Return a raised cosine from the border of a slice's footprint inwards.

    Parameters
    ----------
    valid : int16 ndarray (2, ny, nx)
        Depth range of valid data per A-line.
    ramp_px : float
        Width of the ramp; 0 gives 1 everywhere on the footprint.

    Returns
    -------
    float32 ndarray (ny, nx)
        In (0, 1] on the footprint, 0 outside.
    """
    footprint = valid[1] > valid[0]
    if ramp_px <= 0:
        return footprint.astype(np.float32)
    padded = np.pad(footprint, 1)
    distance = ndi.distance_transform_edt(padded)[1:-1, 1:-1]
    t = np.clip(distance / (ramp_px + 1.0), 0.0, 1.0)
    return np.where(footprint, np.maximum(0.5 - 0.5 * np.cos(np.pi * t), 1e-3), 0.0).astype(
        np.float32
    )


@njit(cache=True, nogil=True)
def _keys(t: float) -> tuple[float, float, float, float]:  # pragma: no cover - compiled
    """Keys' cubic convolution weights (a = -1/2) for a fraction t in [0, 1)."""
    t2 = t * t
    t3 = t2 * t
    return (
        -0.5 * t3 + t2 - 0.5 * t,
        1.5 * t3 - 2.5 * t2 + 1.0,
        -1.5 * t3 + 2.0 * t2 + 0.5 * t,
        0.5 * t3 - 0.5 * t2,
    )


@njit(cache=True, nogil=True)
def _resample_row(
    plane: Any,
    plane_z: int,
    valid: Any,
    row0: int,
    matrix: Any,
    y: int,
    cubic: bool,
    gain: float,
    floor: float,
    cap: float,
    ramp_px: float,
    lateral: Any,
    values: Any,
    weights: Any,
) -> None:  # pragma: no cover - compiled
    """One source plane onto the output row ``y``: values, and their weight without the SNR."""
    sy, sx = plane.shape
    nx = values.shape[0]
    for j in range(nx):
        fy = matrix[0, 0] * y + matrix[0, 1] * j + matrix[0, 2] - row0
        fx = matrix[1, 0] * y + matrix[1, 1] * j + matrix[1, 2]
        values[j] = 0.0
        weights[j] = 0.0
        if fy < -0.5 or fx < -0.5 or fy > sy - 0.5 or fx > sx - 0.5:
            continue
        by = int(np.floor(fy))
        bx = int(np.floor(fx))
        ty = fy - by
        tx = fx - bx
        done = False
        total = 0.0
        if cubic and by >= 1 and bx >= 1 and by + 2 < sy and bx + 2 < sx:
            wy = _keys(ty)
            wx = _keys(tx)
            good = True
            total = 0.0
            for a in range(4):
                for b in range(4):
                    yy = by - 1 + a
                    xx = bx - 1 + b
                    if plane_z < valid[0, yy, xx] or plane_z >= valid[1, yy, xx]:
                        good = False
                    else:
                        total += wy[a] * wx[b] * min(plane[yy, xx], cap)
            done = good
        if not done:
            total = 0.0
            norm = 0.0
            for a in range(2):
                for b in range(2):
                    yy = by + a
                    xx = bx + b
                    if yy < 0 or xx < 0 or yy >= sy or xx >= sx:
                        continue
                    if plane_z < valid[0, yy, xx] or plane_z >= valid[1, yy, xx]:
                        continue
                    w = (ty if a else 1.0 - ty) * (tx if b else 1.0 - tx)
                    total += w * min(plane[yy, xx], cap)
                    norm += w
            if norm < _HALF:
                continue
            total /= norm
        ry = min(max(int(np.floor(fy + 0.5)), 0), sy - 1)
        rx = min(max(int(np.floor(fx + 0.5)), 0), sx - 1)
        w = lateral[ry, rx]
        if w <= 0.0:
            w = 1e-3
        if ramp_px > 0.0:
            top = (plane_z - valid[0, ry, rx] + 1.0) / (ramp_px + 1.0)
            bottom = (1.0 * valid[1, ry, rx] - plane_z) / (ramp_px + 1.0)
            if top < 1.0:
                w *= max(0.5 - 0.5 * np.cos(np.pi * max(top, 0.0)), 1e-3)
            if bottom < 1.0:
                w *= max(0.5 - 0.5 * np.cos(np.pi * max(bottom, 0.0)), 1e-3)
        values[j] = (total - floor) * gain
        weights[j] = w


@njit(cache=True, nogil=True)
def _mix_row(
    low: Any,
    low_weight: Any,
    high: Any,
    high_weight: Any,
    fraction: float,
    snr: float,
    numerator: Any,
    denominator: Any,
) -> None:  # pragma: no cover - compiled
    """Mix two resampled rows linearly and add them, weighted, to an output row."""
    nx = numerator.shape[0]
    for j in range(nx):
        wl = low_weight[j]
        wh = high_weight[j]
        if wl > 0.0 and wh > 0.0:
            w = ((1.0 - fraction) * wl + fraction * wh) * snr
            v = (1.0 - fraction) * low[j] + fraction * high[j]
        elif wl > 0.0 and fraction <= _HALF:
            w = wl * snr
            v = low[j]
        elif wh > 0.0 and fraction > _HALF:
            w = wh * snr
            v = high[j]
        else:
            continue
        numerator[j] += w * v
        denominator[j] += w


@njit(cache=True, nogil=True, parallel=True)
def _add_rows(
    block: Any,
    block_z0: int,
    valid: Any,
    row0: int,
    matrices: Any,
    y0: int,
    cubic: bool,
    gain: float,
    floor: float,
    cap: float,
    ramp_px: float,
    lateral: Any,
    targets: Any,
    sources: Any,
    fractions: Any,
    snr: Any,
    numerator: Any,
    denominator: Any,
) -> None:  # pragma: no cover - compiled
    """Every row through all its planes: threads meet once for a block, not twice for each of its planes."""
    nx = numerator.shape[2]
    for i in prange(numerator.shape[1]):
        # Two neighbouring source planes, each resampled once: plane k lies in row k % 2.
        values = np.zeros((2, nx), np.float32)
        weights = np.zeros((2, nx), np.float32)
        held = np.full(2, -1000000000, np.int64)
        for n in range(targets.shape[0]):
            low = sources[n]
            high = low + 1 if fractions[n] > 0.0 else low
            for k in range(low, high + 1):
                at = k % 2
                if held[at] == k:
                    continue
                held[at] = k
                m = k - block_z0
                if m < 0 or m >= block.shape[0]:
                    values[at] = 0.0
                    weights[at] = 0.0
                    continue
                _resample_row(
                    block[m],
                    k,
                    valid,
                    row0,
                    matrices[m],
                    y0 + i,
                    cubic,
                    gain,
                    floor,
                    cap,
                    ramp_px,
                    lateral,
                    values[at],
                    weights[at],
                )
            _mix_row(
                values[low % 2],
                weights[low % 2],
                values[high % 2],
                weights[high % 2],
                fractions[n],
                snr[n],
                numerator[targets[n], i],
                denominator[targets[n], i],
            )


def _plan(
    count: int, z0: int, placement: SlicePlacement, block_z0: int, depth: int, nz: int
) -> list[tuple[int, int, float, int]]:
    """Output planes that the block reaches: their number, the source plane above, how far below it, depth of the SNR."""
    planned = []
    for i in range(count):
        source = z0 + i - placement.z_px
        k = int(np.floor(source + 1e-6))
        fraction = max(source - k, 0.0)
        if fraction < 1e-4:
            fraction = 0.0
        if k + 1 < block_z0 or k >= block_z0 + depth:
            continue
        planned.append((i, k, fraction, min(max(round(source), 0), nz - 1)))
    return planned


def add_slice(
    numerator: Any,
    denominator: Any,
    block: FloatArray,
    valid: NDArray[np.int16],
    lateral: FloatArray,
    placement: SlicePlacement,
    snr_weights: FloatArray,
    *,
    block_z0: int,
    row0: int,
    z0: int,
    y0: int,
    ramp_px: float,
    cubic: bool = True,
    backend: Backend = CPU,
) -> None:
    """Add one slice's part to a block of output planes.

    Parameters
    ----------
    numerator, denominator : float32 ndarray (bz, by, nx)
        Weighted sum and sum of weights of output planes ``z0 ..`` and rows ``y0 ..``, on the backend; changed in place.
    block : float32 ndarray (sz, sy, nx_slice)
        The slice's planes ``block_z0 ..`` and rows ``row0 ..``.
    valid : int16 ndarray (2, sy, nx_slice)
        Depth range of valid data, in planes of the whole slice, for the rows of the block.
    lateral : float32 ndarray (sy, nx_slice)
        `lateral_weights` for the rows of the block.
    placement : SlicePlacement
        Pose and brightness of the slice.
    snr_weights : float32 ndarray (nz_slice,)
        `depth_weights` of the slice.
    block_z0, row0, z0, y0 : int
        Origins of `block` in the slice and of the accumulators in the output.
    ramp_px : float
        Length of the raised cosine at the top and bottom of each A-line.
    cubic : bool
        Keys' cubic in the plane (sharp), else bilinear. Linear along z either way.
    backend : Backend
        What computes.
    """
    planned = _plan(numerator.shape[0], z0, placement, block_z0, block.shape[0], len(snr_weights))
    if not backend.compiled:
        _add_planes(
            numerator,
            denominator,
            tuple(backend.up(a) for a in (block, valid, lateral)),
            placement,
            [(i, k, fraction, snr_weights[at]) for i, k, fraction, at in planned],
            (block_z0, row0, y0),
            ramp_px,
            cubic,
            backend.xp,
        )
        return
    if not planned:
        return
    targets, sources, at = (np.array([p[n] for p in planned], np.int64) for n in (0, 1, 3))
    _add_rows(
        np.ascontiguousarray(block),
        block_z0,
        valid,
        row0,
        np.array([placement.matrix_of_plane(block_z0 + m) for m in range(block.shape[0])]),
        y0,
        cubic,
        float(placement.gain),
        float(placement.floor),
        float(placement.cap),
        float(ramp_px),
        lateral,
        targets,
        sources,
        np.array([p[2] for p in planned], np.float64),
        snr_weights[at],
        numerator,
        denominator,
    )


def _add_planes(
    numerator: Any,
    denominator: Any,
    arrays: tuple[Any, Any, Any],
    placement: SlicePlacement,
    planned: list[tuple[int, int, float, Any]],
    origins: tuple[int, int, int],
    ramp_px: float,
    cubic: bool,
    xp: Any,
) -> None:
    """`_add_rows` in whole planes, for array modules."""
    block, valid, lateral = arrays
    block_z0, row0, y0 = origins
    shape = numerator.shape[1:]
    cached: dict[int, tuple[Any, Any]] = {}

    def plane(k: int) -> tuple[Any, Any]:
        if k not in cached:
            for old in [n for n in cached if n < k - 1]:
                del cached[old]
            values = xp.zeros(shape, np.float32)
            weights = xp.zeros(shape, np.float32)
            cached[k] = values, weights
            if not 0 <= k - block_z0 < block.shape[0]:
                return cached[k]
            rendering_arrays.resample_plane(
                xp,
                block[k - block_z0],
                k,
                valid,
                row0,
                placement.matrix_of_plane(k),
                y0,
                cubic,
                placement.gain,
                placement.floor,
                placement.cap,
                ramp_px,
                lateral,
                values,
                weights,
            )
        return cached[k]

    for i, k, fraction, snr in planned:
        low = plane(k)
        high = low if fraction == 0.0 else plane(k + 1)
        rendering_arrays.accumulate(xp, *low, *high, fraction, snr, numerator[i], denominator[i])


def finish(numerator: FloatArray, denominator: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Divide by the weights. Where no slice reaches, the value is 0 and the mask False.

    Returns
    -------
    values : float32 ndarray, shape of `numerator`
    valid : bool ndarray, shape of `numerator`
    """
    valid = denominator > 0
    values = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=valid)
    return values, valid
