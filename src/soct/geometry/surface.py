"""The interface between water and sample: how deep it lies under every A-line.

A block of A-lines gives a raw depth map (`detect_interface`), block after block, so that no volume is ever in
memory; the maps of a whole slice, which are images, give the surface (`fit_surface`).

Convention: see `soct.space`. A depth is in samples; 0 is the centre of the first sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from scipy import ndimage as ndi

from soct.errors import InputError
from soct.geometry.smoothing import smooth_block
from soct.space import Array, FloatArray

SurfaceMode = Literal["plane", "quadratic", "surface"]
DETECTION_SIGMAS = 5.0
PERSISTENCE = 3
FAINTEST_SAMPLE = 0.03
LEVEL_WINDOW = 4


@dataclass(frozen=True)
class WaterLevel:
    """Brightness of the darkest depth of a block: water above the sample, or the noise floor below it.

    Attributes
    ----------
    floor : float
        Median of the darkest depth after smoothing.
    noise : float
        Robust standard deviation there (1.4826 MAD).
    brightest : float or None
        99th percentile of the block; None where it is not known.
    """

    floor: float
    noise: float
    brightest: float | None = None


@dataclass(frozen=True)
class InterfaceMap:
    """What one block says about the interface.

    Attributes
    ----------
    depth_px : ndarray (y, x) float32
        Depth of the interface, NaN where none was seen.
    confidence : ndarray (y, x) float32
        0 to 1, from the step of brightness in units of the noise; 0 where none was seen.
    """

    depth_px: FloatArray
    confidence: FloatArray


@dataclass(frozen=True)
class Surface:
    """The interface of a slice.

    Attributes
    ----------
    depth_px : ndarray (y, x) float32
        Depth for every A-line, finite everywhere.
    confidence : ndarray (y, x) float32
        Confidence of the measurement under it.
    coefficients : ndarray (6,) float64
        ``a + b y + c x + d y^2 + e x y + f x^2`` in pixels; the last three are 0 for a plane.
    residual_px : float
        Robust spread of the measured depths about the surface.
    measured_fraction : float
        Share of the A-lines with a measured depth.
    mode : str
        What `depth_px` is: ``plane``, ``quadratic`` or ``surface``.
    reason : str
        What was done, in words.
    """

    depth_px: FloatArray
    confidence: FloatArray
    coefficients: Array
    residual_px: float
    measured_fraction: float
    mode: str
    reason: str


def smooth_a_lines(
    block: Array, valid: Array | None = None, *, sigma_px: tuple[float, float, float] = (0.8, 2, 2)
) -> FloatArray:
    """Smooth a block in depth and across, counting only its data.

    Parameters
    ----------
    block : ndarray (z, y, x)
        Linear intensity; values that are not finite are no data.
    valid : ndarray (2, y, x) int, optional
        First valid sample and one past the last.
    sigma_px : tuple of float
        Gaussian sigma along z, y, x.

    Returns
    -------
    ndarray (z, y, x) float32
        NaN where nothing valid is near.
    """
    data = np.asarray(block, dtype=np.float32)
    if data.ndim != 3:
        raise InputError("A block of A-lines has three axes", found=str(data.shape))
    known = np.isfinite(data)
    if valid is not None:
        z = np.arange(data.shape[0])[:, None, None]
        known &= (z >= valid[0][None]) & (z < valid[1][None])
    return smooth_block(data, known, sigma_px)


def measure_water_level(smoothed: Array) -> WaterLevel:
    """Find the darkest depth of a smoothed block and its noise.

    Parameters
    ----------
    smoothed : ndarray (z, y, x)
        From `smooth_a_lines`; a sample of the slice (a few tiles) is enough for the whole slice.

    Returns
    -------
    WaterLevel
        All zero for a block without data.
    """
    planes = [p[np.isfinite(p)] for p in smoothed]
    # A depth that few A-lines reach says nothing about the slice.
    most = max((p.size for p in planes), default=0)
    enough = [i for i, p in enumerate(planes) if p.size > 0.5 * most]
    if not enough:
        return WaterLevel(0.0, 0.0)
    if all(p.size == most for p in planes):
        medians = np.median(np.stack(planes), axis=1)
    else:
        medians = np.array([np.median(planes[i]) for i in enough])
    at = int(np.argmin(medians))
    floor, darkest = float(medians[at]), enough[at]
    noise = 1.4826 * float(np.median(np.abs(planes[darkest] - floor)))
    return WaterLevel(floor, noise, _brightest(smoothed))


def _brightest(smoothed: Array) -> float:
    finite = smoothed[np.isfinite(smoothed)]
    return float(np.percentile(finite[:: 1 + finite.size // 100_000], 99)) if finite.size else 0.0


def detect_interface(
    block: Array,
    valid: Array | None = None,
    *,
    water: WaterLevel | None = None,
    sigma_px: tuple[float, float, float] = (0.8, 2, 2),
    background: Array | None = None,
    first_sample: int = 0,
    bin_px: int = 1,
) -> InterfaceMap:
    """Find the depth at which each A-line enters the sample.

    Parameters
    ----------
    block : ndarray (z, y, x)
        Linear intensity.
    valid : ndarray (2, y, x) int, optional
        Depth range with data.
    water : WaterLevel, optional
        Of the slice; measured on this block when absent.
    sigma_px : tuple of float
        Smoothing along z, y, x.
    background : ndarray (z,), optional
        Fixed lines of the frame (their brightness over depth, from water or from the darkest A-lines of a
        curved sample), taken off first.
    first_sample : int
        Samples above it are ignored (fixed lines near zero delay).
    bin_px : int
        A-lines are first averaged over squares of this size, which share one depth: 4 is ten times faster and
        as good where the surface is smooth. `sigma_px` then counts squares, and so does a `water` level.

    Returns
    -------
    InterfaceMap

    Notes
    -----
    The first lasting rise above the water is the candidate, so a brighter structure deeper down (tissue under
    agarose) does not win. Around it, the largest derivative of the log intensity gives the edge, and the depth
    is where the intensity crosses half-way between water and the level just below: for a symmetric
    point-spread function that is the interface to a small part of a sample. An A-line that is bright from
    its first sample on has its interface at that sample.
    """
    if bin_px > 1:
        shape = np.shape(block)
        binned = bin_a_lines(block, bin_px, valid=valid)
        found = detect_interface(
            binned,
            water=water,
            sigma_px=sigma_px,
            background=background,
            first_sample=first_sample,
        )
        return InterfaceMap(
            *(
                np.repeat(np.repeat(m, bin_px, 0), bin_px, 1)[: shape[1], : shape[2]]
                for m in (found.depth_px, found.confidence)
            )
        )
    smoothed = smooth_a_lines(block, valid, sigma_px=sigma_px)
    if background is not None:
        smoothed -= np.asarray(background, np.float32)[:, None, None]
    if water is None:
        water = measure_water_level(smoothed[first_sample:])
    return locate_interface(smoothed, water, first_sample=first_sample)


def locate_interface(
    smoothed: FloatArray, water: WaterLevel, *, first_sample: int = 0
) -> InterfaceMap:
    """Find the interface in a block that is smoothed already; see `detect_interface`.

    Parameters
    ----------
    smoothed : ndarray (z, y, x) float32
        From `smooth_a_lines`.
    water : WaterLevel
    first_sample : int
        Samples above it are ignored.
    """
    depth = np.full(smoothed.shape[1:], np.nan, dtype=np.float32)
    contrast = np.zeros(smoothed.shape[1:], dtype=np.float32)
    noise = max(water.noise, 0.02 * abs(water.floor), 1e-12)
    brightest = _brightest(smoothed) if water.brightest is None else water.brightest
    # What is left of fixed lines is no sample, however quiet the darkest depth is.
    rise = max(DETECTION_SIGMAS * noise, FAINTEST_SAMPLE * (brightest - water.floor))
    _find_edges(
        smoothed,
        np.float32(water.floor),
        np.float32(noise),
        np.float32(rise),
        int(first_sample),
        depth,
        contrast,
    )
    confidence = (contrast / (contrast + 4 * DETECTION_SIGMAS)).astype(np.float32)
    return InterfaceMap(depth, confidence)


def bin_a_lines(block: Array, bin_px: int, *, valid: Array | None = None) -> FloatArray:
    """Average A-lines over squares, counting only data.

    Parameters
    ----------
    block : ndarray (z, y, x)
    bin_px : int
        Side of a square; those at the far edges may be cut.
    valid : ndarray (2, y, x) int, optional
        Depth range with data.

    Returns
    -------
    ndarray (z, ceil(y / bin_px), ceil(x / bin_px)) float32
        NaN where a square holds no data.
    """
    data = np.ascontiguousarray(block, dtype=np.float32)
    nz, ny, nx = data.shape
    limits = np.zeros((2, 1, 1) if valid is None else (2, ny, nx), np.int64)
    if valid is not None:
        limits[:] = valid
    out = np.empty((nz, -(-ny // bin_px), -(-nx // bin_px)), np.float32)
    _average_squares(data, limits, valid is not None, bin_px, out)
    return out


@njit(cache=True, nogil=True)
def _average_squares(
    data: FloatArray, limits: Array, limited: bool, size: int, out: FloatArray
) -> None:
    nz, ny, nx = data.shape
    for z in range(nz):
        for by in range(out.shape[1]):
            for bx in range(out.shape[2]):
                total, count = 0.0, 0
                for y in range(by * size, min((by + 1) * size, ny)):
                    for x in range(bx * size, min((bx + 1) * size, nx)):
                        v = data[z, y, x]
                        good = np.isfinite(v)
                        if limited:
                            good &= limits[0, y, x] <= z < limits[1, y, x]
                        if good:
                            total += v
                            count += 1
                out[z, by, bx] = total / count if count > 0 else np.nan


@njit(cache=True, nogil=True)
def _find_edges(
    smoothed: FloatArray,
    floor: np.float32,
    noise: np.float32,
    rise: np.float32,
    first: int,
    depth: FloatArray,
    contrast: FloatArray,
) -> None:
    nz, ny, nx = smoothed.shape
    threshold = floor + rise
    for y in range(ny):
        for x in range(nx):
            start = first
            while start < nz and not np.isfinite(smoothed[start, y, x]):
                start += 1
            run = 0
            found = -1
            for z in range(start, nz):
                if smoothed[z, y, x] > threshold:
                    run += 1
                    if run == PERSISTENCE:
                        found = z - PERSISTENCE + 1
                        break
                else:
                    run = 0
            if found < 0:
                continue
            if found == start:
                depth[y, x] = start
                contrast[y, x] = max((smoothed[start, y, x] - floor) / noise, 0)
                continue
            edge, steepest = found, np.float32(-1)
            for z in range(max(found - 1, start + 1), min(found + LEVEL_WINDOW, nz)):
                low = max(smoothed[z - 1, y, x] - floor, noise)
                high = max(smoothed[z, y, x] - floor, noise)
                slope = np.log(high / low)
                if slope > steepest:
                    edge, steepest = z, slope
            crossing = np.float32(edge)
            level = smoothed[edge, y, x]
            # The steepest rise of the logarithm comes early; the level is taken again below the crossing.
            for _ in range(3):
                begin = int(np.ceil(crossing + 1.5))
                total, count = np.float32(0), 0
                for z in range(begin, min(begin + LEVEL_WINDOW, nz)):
                    if np.isfinite(smoothed[z, y, x]):
                        total += smoothed[z, y, x]
                        count += 1
                if count == 0:
                    break
                level = total / count
                half = (floor + level) / 2
                for z in range(max(found - 2, start + 1), min(begin + LEVEL_WINDOW, nz)):
                    a, b = smoothed[z - 1, y, x], smoothed[z, y, x]
                    if a < half <= b:
                        crossing = z - 1 + (half - a) / (b - a)
                        break
            depth[y, x] = crossing
            contrast[y, x] = max((level - floor) / noise, 0)


def fit_surface(
    depth_px: Array,
    confidence: Array,
    *,
    mode: SurfaceMode = "surface",
    smoothing_px: float = 8.0,
    min_measured_fraction: float = 0.02,
) -> Surface:
    """Fit the interface of a slice to its measured depths.

    Parameters
    ----------
    depth_px, confidence : ndarray (y, x)
        From `detect_interface`, over the whole slice.
    mode : str
        ``plane``, ``quadratic``, or ``surface``: the quadratic plus the smooth part of what it leaves.
    smoothing_px : float
        Gaussian sigma of that smooth part, in pixels.
    min_measured_fraction : float
        With fewer measured A-lines than this the surface is put at depth 0.

    Returns
    -------
    Surface

    Notes
    -----
    Tukey's biweight, reweighted least squares on at most about 40,000 A-lines, weights times confidence.
    """
    depth = np.asarray(depth_px, dtype=np.float32)
    weight = np.where(np.isfinite(depth), np.nan_to_num(confidence), 0).astype(np.float32)
    measured = float(np.mean(weight > 0)) if depth.size else 0.0
    if measured < min_measured_fraction or depth.size == 0:
        reason = f"only {measured:.1%} of the A-lines show an interface: it is taken at depth 0"
        zeros = np.zeros(depth.shape, np.float32)
        return Surface(zeros, zeros.copy(), np.zeros(6), 0.0, measured, mode, reason)
    coefficients = fit_quadratic(depth, weight, planar=mode == "plane")
    fitted = evaluate_quadratic(coefficients, depth.shape)
    residual = np.where(weight > 0, depth - fitted, 0).astype(np.float32)
    seen = residual[weight > 0]
    spread = 1.4826 * float(np.median(np.abs(seen - np.median(seen))))
    if mode == "surface":
        trusted = weight * (np.abs(residual - _local_level(residual, weight, smoothing_px)) < 2.0)
        total = ndi.gaussian_filter(trusted, smoothing_px, mode="constant")
        # The constant pulls the map back to the quadratic where next to nothing was measured.
        fitted = fitted + ndi.gaussian_filter(residual * trusted, smoothing_px, mode="constant") / (
            total + 0.02
        )
    return Surface(
        np.maximum(fitted, 0).astype(np.float32),
        weight,
        coefficients,
        spread,
        measured,
        mode,
        f"{mode} through {measured:.0%} of the A-lines, spread {spread:.2f} px",
    )


def _local_level(residual: Array, weight: Array, smoothing_px: float) -> FloatArray:
    """Median of the residual around every pixel, from blocks as wide as the smoothing."""
    size = max(1, int(smoothing_px))
    rows, cols = -(-residual.shape[0] // size), -(-residual.shape[1] // size)
    padding = ((0, rows * size - residual.shape[0]), (0, cols * size - residual.shape[1]))
    blocks = np.pad(np.where(weight > 0, residual, np.nan), padding, constant_values=np.nan)
    blocks = blocks.reshape(rows, size, cols, size).swapaxes(1, 2).reshape(rows, cols, -1)
    known = np.isfinite(blocks).any(2)
    level = np.zeros((rows, cols), np.float32)
    level[known] = np.nanmedian(blocks[known], axis=1)
    level = ndi.median_filter(level, 3, mode="nearest")
    full = np.repeat(np.repeat(level, size, 0), size, 1)
    return np.asarray(full[: residual.shape[0], : residual.shape[1]])


def fit_quadratic(values: Array, weight: Array, *, planar: bool = False) -> Array:
    """Fit ``a + b y + c x + d y^2 + e x y + f x^2`` robustly to a map.

    Parameters
    ----------
    values, weight : ndarray (y, x)
        Weight 0 where there is no value.
    planar : bool
        Fit only the first three terms.

    Returns
    -------
    ndarray (6,) float64
        Coefficients in pixels; all zero without any weight.
    """
    every = max(1, int(np.sqrt(values.size / 40_000)))
    sampled, w = np.asarray(values)[::every, ::every], np.asarray(weight)[::every, ::every]
    yy, xx = np.nonzero(w > 0)
    if yy.size < 12:
        every, sampled, w = 1, np.asarray(values), np.asarray(weight)
        yy, xx = np.nonzero(w > 0)
    coefficients = np.zeros(6)
    if yy.size == 0:
        return coefficients
    v, w = sampled[yy, xx].astype(float), w[yy, xx].astype(float)
    scale = float(max(values.shape))
    u, t = yy * every / scale, xx * every / scale
    terms = np.array([np.ones_like(u), u, t] + ([] if planar else [u * u, u * t, t * t]))
    c = np.zeros(len(terms))
    c[0] = np.median(v)
    for _ in range(12):
        residual = v - (terms * c[:, None]).sum(0)
        spread = 1.4826 * np.median(np.abs(residual)) + 1e-6
        robust = np.clip(1 - (residual / (4.685 * spread)) ** 2, 0, None) ** 2
        # Sums by numpy, not BLAS: their last bits do not depend on the number of threads. The coordinates lie
        # in 0 .. 1, so that squaring the condition number does no harm.
        weighted = terms * (w * robust)
        normal = np.array([[(row * column).sum() for column in terms] for row in weighted])
        update = np.linalg.lstsq(normal, (weighted * v).sum(1), rcond=1e-13)[0]
        if np.allclose(update, c, atol=1e-5):
            c = update
            break
        c = update
    coefficients[: c.size] = c
    return coefficients / scale ** np.array([0, 1, 1, 2, 2, 2])


def evaluate_quadratic(
    coefficients: Array, shape: tuple[int, int], *, bin_px: int = 1
) -> FloatArray:
    """Evaluate the surface of `fit_quadratic` on every pixel.

    Parameters
    ----------
    coefficients : ndarray (6,)
    shape : tuple of int
    bin_px : int
        Side, in pixels of the result, of the squares that the surface was fitted to.

    Returns
    -------
    ndarray `shape` float32
    """
    y, x = ((np.arange(n) + 0.5) / bin_px - 0.5 for n in shape)
    y, x = y[:, None], x[None]
    a, b, c, d, e, f = coefficients
    return (a + b * y + c * x + d * y * y + e * x * y + f * x * x).astype(np.float32)
