"""Focal curvature: the bowl that the scan optics put into every tile.

The optical path through the scan lens depends on the scan angle, so a flat interface looks curved, in the
same way in every tile. What all tiles of a slice share beyond their own tilt is the curvature; it is taken
out by moving each A-line along depth. Nothing wraps around: what moves in from outside is no data.

Convention: see `soct.space`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit

from soct.errors import InputError
from soct.geometry.surface import InterfaceMap, evaluate_quadratic, fit_quadratic
from soct.space import Array, FloatArray


@dataclass(frozen=True)
class FocalCurvature:
    """The curvature common to the tiles of a slice.

    Attributes
    ----------
    depth_px : ndarray (y, x) float32
        Depth of a flat interface relative to its mean plane, in samples; zero mean.
    coefficients : ndarray (6,) float64
        Of the quadratic, as in `soct.geometry.surface.fit_quadratic`.
    residual_px : float
        Robust spread of the pooled tiles about the quadratic.
    tiles : int
        Tiles that had an interface to measure.
    reason : str
        What was done, in words.
    """

    depth_px: FloatArray
    coefficients: Array
    residual_px: float
    tiles: int
    reason: str


def estimate_focal_curvature(
    interfaces: Sequence[InterfaceMap],
    *,
    min_measured_fraction: float = 0.2,
    border_px: int = 2,
    bin_px: int = 1,
    tile_shape: tuple[int, int] | None = None,
) -> FocalCurvature:
    """Estimate the curvature that the tiles of a slice share.

    Parameters
    ----------
    interfaces : sequence of InterfaceMap
        Raw interface of each tile, all of one shape: one value per A-line, or per square of A-lines.
    min_measured_fraction : float
        Tiles with fewer measured A-lines don't vote.
    border_px : int
        A-lines at the tile's edge that don't vote (at most an eighth of the tile on every side): smoothing across
        A-lines flattens the bowl there. A square votes as a whole or not at all.
    bin_px : int
        Side of the squares of A-lines that the interfaces are of (`soct.geometry.surface.bin_a_lines`).
    tile_shape : tuple of int, optional
        A-lines of a tile along y and x; needed where the squares do not tell it.

    Returns
    -------
    FocalCurvature
        All zero when no tile votes.

    Raises
    ------
    InputError
        When there is no tile, or their shapes differ.

    Notes
    -----
    Each tile loses its own quadratic's plane (tilt and depth of the sample there); the median over tiles of
    what remains is fitted robustly by one quadratic, whose mean plane is then taken away.
    """
    shapes = {i.depth_px.shape for i in interfaces}
    if len(shapes) != 1:
        raise InputError("Focal curvature needs tiles of one shape", found=str(sorted(shapes)))
    shape = shapes.pop()
    full = tile_shape or (shape[0] * bin_px, shape[1] * bin_px)
    inner = _inner(shape, -(-border_px // bin_px))
    flattened = []
    for interface in interfaces:
        known = np.isfinite(interface.depth_px) & (interface.confidence > 0)
        if known.mean() < min_measured_fraction:
            continue
        own = fit_quadratic(
            np.where(known, interface.depth_px, 0),
            np.where(known, interface.confidence, 0) * inner,
        )
        plane = evaluate_quadratic(_mean_plane(own, shape), shape)
        flattened.append(np.where(known, interface.depth_px - plane, np.nan))
    if not flattened:
        zeros = np.zeros(full, np.float32)
        return FocalCurvature(zeros, np.zeros(6), 0.0, 0, "no tile shows an interface")
    stack = np.stack(flattened)
    seen = np.isfinite(stack).any(axis=0)
    pooled = np.zeros(shape)
    pooled[seen] = np.nanmedian(stack[:, seen], axis=0)
    votes = np.isfinite(stack).sum(axis=0) * inner
    binned = fit_quadratic(pooled, votes)
    binned = binned - _mean_plane(binned, shape)
    residual = (pooled - evaluate_quadratic(binned, shape))[seen]
    coefficients = _of_a_lines(binned, bin_px)
    coefficients = coefficients - _mean_plane(coefficients, full)
    bowl = evaluate_quadratic(coefficients, full)
    spread = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
    return FocalCurvature(
        bowl,
        coefficients,
        spread,
        len(flattened),
        f"quadratic of {np.ptp(bowl):.2f} px from {len(flattened)} tiles, spread {spread:.2f} px",
    )


def _of_a_lines(coefficients: Array, bin_px: int) -> Array:
    """Coefficients in A-lines of a quadratic that was fitted to squares of them."""
    a, b, c, d, e, f = coefficients
    # The centre of square i lies at A-line bin_px * i + (bin_px - 1) / 2.
    o = (1 / bin_px - 1) / 2
    moved = [a + (b + c) * o + (d + e + f) * o * o, b + (2 * d + e) * o, c + (2 * f + e) * o]
    return np.array([*moved, d, e, f]) / float(bin_px) ** np.array([0, 1, 1, 2, 2, 2])


def _inner(shape: tuple[int, int], border_px: int) -> Array:
    """1.0 where an A-line is away from the tile's edge, 0.0 at the edge."""
    inside = np.zeros(shape)
    y, x = (min(border_px, n // 8) for n in shape)
    inside[y : shape[0] - y, x : shape[1] - x] = 1.0
    return inside


def shift_a_lines(tile: Array, shift_px: Array) -> FloatArray:
    """Move each A-line towards smaller depth.

    Parameters
    ----------
    tile : ndarray (z, y, x)
    shift_px : ndarray (y, x)
        Samples by which each A-line moves up: ``out(z) = tile(z + shift)``. `FocalCurvature.depth_px`
        flattens the tile.

    Returns
    -------
    ndarray (z, y, x) float32
        NaN where the A-line has no data.

    Notes
    -----
    Catmull-Rom cubic, limited to the range of the two samples on either side so that the step at
    the interface does not ring; linear at the ends.
    """
    data = np.ascontiguousarray(tile, dtype=np.float32)
    shift = np.ascontiguousarray(shift_px, dtype=np.float32)
    if data.ndim != 3 or data.shape[1:] != shift.shape:
        raise InputError(
            "The shift must have one value per A-line",
            expected=str(data.shape[1:]),
            found=str(shift.shape),
        )
    out = np.empty_like(data)
    _shift_columns(data, shift, out)
    return out


def shift_valid_range(valid: Array, shift_px: Array, n_z: int) -> Array:
    """Compute the valid depth range (2, y, x) of a tile after `shift_a_lines`."""
    first = np.ceil(valid[0] - shift_px - 1e-4)
    last = np.floor(valid[1] - 1 - shift_px + 1e-4) + 1
    first, last = np.clip(first, 0, n_z), np.clip(last, 0, n_z)
    keep = (valid[1] > valid[0]) & (last > first)
    return np.where(keep, np.stack([first, last]), 0).astype(np.int16)


def _mean_plane(coefficients: Array, shape: tuple[int, int]) -> Array:
    """Coefficients of the least-squares plane of a quadratic over a rectangle."""
    d, e, f = coefficients[3:]
    n_y, n_x = (float(n - 1) for n in shape)
    plane = np.array(coefficients, dtype=float)
    plane[3:] = 0
    # Over 0..n, y^2 has the least-squares line n y - (n^2 - n) / 6 on integer points; y x splits at the centre.
    plane[0] -= d * (n_y * n_y - n_y) / 6 + f * (n_x * n_x - n_x) / 6 + e * n_x * n_y / 4
    plane[1] += d * n_y + e * n_x / 2
    plane[2] += f * n_x + e * n_y / 2
    return plane


@njit(cache=True, nogil=True)
def _shift_columns(data: FloatArray, shift: FloatArray, out: FloatArray) -> None:
    nz, ny, nx = data.shape
    for y in range(ny):
        for x in range(nx):
            s = shift[y, x]
            whole = int(np.floor(s))
            t = np.float32(s - whole)
            if t < 1e-4:
                t = np.float32(0)
            for z in range(nz):
                i = z + whole
                if i < 0 or i >= nz or (t > 0 and i + 1 >= nz):
                    out[z, y, x] = np.nan
                    continue
                p1 = data[i, y, x]
                if t == 0:
                    out[z, y, x] = p1
                    continue
                p2 = data[i + 1, y, x]
                linear = p1 + t * (p2 - p1)
                if i == 0 or i + 2 >= nz:
                    out[z, y, x] = linear
                    continue
                p0, p3 = data[i - 1, y, x], data[i + 2, y, x]
                v = p1 + np.float32(0.5) * t * (
                    p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0))
                )
                low, high = min(p1, p2), max(p1, p2)
                if np.isfinite(v):
                    out[z, y, x] = min(max(v, low), high)
                else:
                    out[z, y, x] = linear
