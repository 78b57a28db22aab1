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
from numpy.typing import NDArray

from soct.compute.backend import CPU, Backend
from soct.mosaic import rendering_arrays, stack_kernels

FloatArray = NDArray[np.float32]


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
    weights: FloatArray = stack_kernels.ramp_from_border(footprint, float(ramp_px))
    return weights


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


def _matrices(placement: SlicePlacement, first: int, count: int) -> NDArray[np.float64]:
    """Return the map of each plane, or one for all where they do not drift."""
    if placement.drift is None or not placement.drift[first : first + count].any():
        return placement.to_slice[None]
    return np.array([placement.matrix_of_plane(first + m) for m in range(count)])


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
    stack_kernels.add_rows(
        np.ascontiguousarray(block),
        block_z0,
        valid,
        row0,
        _matrices(placement, block_z0, block.shape[0]),
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
    """`stack_kernels.add_rows` in whole planes, for array modules."""
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


def finish(
    numerator: FloatArray,
    denominator: FloatArray,
    values: FloatArray | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Divide by the weights. Where no slice reaches, the value is 0 and the mask False.

    Parameters
    ----------
    numerator, denominator : float32 ndarray (z, y, x)
        What `add_slice` added up, in memory of the CPU.
    values, valid : ndarray, optional
        Where to write; new arrays without.

    Returns
    -------
    values : float32 ndarray, shape of `numerator`
    valid : bool ndarray, shape of `numerator`
    """
    values = np.empty(numerator.shape, np.float32) if values is None else values
    valid = np.empty(numerator.shape, np.bool_) if valid is None else valid
    stack_kernels.divide(numerator, denominator, values, valid)
    return values, valid
