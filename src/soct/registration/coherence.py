"""The filter that makes sub-pixel alignment as sharp as the data allow.

Which frequencies two slices share differs from brain to brain: speckle and the change of anatomy over depth
drown the fine ones. The radial coherence of the two, measured on tiles once they are nearly aligned, gives
the weights of the maximum-likelihood delay estimate, ``|g| / (1 - |g|^2) / sqrt(Pf Pm)`` (Hannan and Thomson,
Biometrika 60, 1973); half of it is applied to each image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import fft

from soct.registration.contrast import BoolArray
from soct.space import FloatArray

_MOST_TILES = 96
_LEAST_TILES = 2


@dataclass(frozen=True)
class MatchedFilter:
    """Radial gains for the fixed and the moving image.

    Attributes
    ----------
    frequency : (n,) float64
        Cycles per pixel.
    fixed, moving : (n,) float64
        Gains, without unit.
    coherence : (n,) float64
        Real coherence of the two, -1 to 1.
    """

    frequency: NDArray[np.float64]
    fixed: NDArray[np.float64]
    moving: NDArray[np.float64]
    coherence: NDArray[np.float64]


@njit(cache=True, nogil=True)
def sample_tile(
    images: FloatArray,
    valid: BoolArray,
    matrix: NDArray[np.float64],
    y0: int,
    x0: int,
    size: int,
) -> tuple[FloatArray, float]:  # pragma: no cover - compiled
    """Sample a tile of fixed pixels from a moving stack, bilinear; also the share of valid samples."""
    k, h, w = images.shape
    out = np.zeros((k, size, size), dtype=np.float32)
    n = 0
    for p in range(k):
        for i in range(size):
            for j in range(size):
                y, x = y0 + i, x0 + j
                qy = matrix[0, 0] * y + matrix[0, 1] * x + matrix[0, 2]
                qx = matrix[1, 0] * y + matrix[1, 1] * x + matrix[1, 2]
                if qy < 0.0 or qx < 0.0 or qy >= h - 1 or qx >= w - 1:
                    continue
                iy = int(qy)
                ix = int(qx)
                if not valid[p, iy, ix]:
                    continue
                u = qy - iy
                t = qx - ix
                out[p, i, j] = (1 - u) * (
                    (1 - t) * images[p, iy, ix] + t * images[p, iy, ix + 1]
                ) + u * ((1 - t) * images[p, iy + 1, ix] + t * images[p, iy + 1, ix + 1])
                n += 1
    return out, n / (k * size * size)


def _tile_origins(h: int, w: int, size: int) -> list[tuple[int, int]]:
    rows = range(0, max(h - size, 0) + 1, size // 2)
    cols = range(0, max(w - size, 0) + 1, size // 2)
    tiles = [(y, x) for y in rows for x in cols if y + size <= h and x + size <= w]
    stride = -(-len(tiles) // _MOST_TILES)
    return tiles[:: max(stride, 1)]


def _power(spectrum: NDArray[np.complex64]) -> NDArray[np.float32]:
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def matched_filter(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    matrix: NDArray[np.float64],
) -> MatchedFilter | None:
    """Measure the coherence of two nearly aligned stacks and return the filter for each.

    Parameters
    ----------
    fixed, moving : (k, h, w) float32
        Local contrast, not smoothed, 0 where invalid.
    fixed_valid, moving_valid : (k, h, w) bool
    matrix : (3, 3) float64
        Fixed to moving ``(y, x, 1)``.

    Returns
    -------
    MatchedFilter or None
        None where too little of the overlap is valid to measure it.
    """
    k, h, w = fixed.shape
    size = next((s for s in (64, 32) if min(h, w) >= 2 * s), 0)
    if size == 0:
        return None
    window = np.hanning(size + 2)[1:-1].astype(np.float32)
    window2 = window[:, None] * window[None, :]
    radius = np.hypot(fft.fftfreq(size)[:, None], fft.rfftfreq(size)[None, :])
    bins = np.minimum((radius * size).astype(np.int64), size // 2)
    # The spectra of real images hold each column twice, but for the first and the last.
    twice = np.full(radius.shape, 2.0)
    twice[:, 0] = twice[:, -1] = 1.0
    count = np.bincount(bins.ravel(), twice.ravel(), size // 2 + 1)
    tiles = []
    for y, x in _tile_origins(h, w, size):
        box = (slice(None), slice(y, y + size), slice(x, x + size))
        if fixed_valid[box].mean() < 0.8:
            continue
        other, share = sample_tile(moving, moving_valid, matrix, y, x, size)
        if share < 0.8:
            continue
        tiles.append((fixed[box], other))
    used = len(tiles)
    if used < _LEAST_TILES:
        return None
    f, m = np.moveaxis(fft.rfft2(np.array(tiles) * window2), 1, 0)
    cross, pf, pm = (
        np.bincount(bins.ravel(), (s.sum(axis=(0, 1), dtype=np.float64) * twice).ravel())
        / (count * used * k)
        for s in (f.real * m.real + f.imag * m.imag, _power(f), _power(m))
    )
    coherence = cross / np.sqrt(np.maximum(pf * pm, 1e-30))
    # Neighbouring bins share noise; half-overlapping Hann tiles are about half independent.
    coherence = np.convolve(np.pad(coherence, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    floor = 1.0 / np.sqrt(count * used * k * 0.5)
    shared = np.clip(coherence - floor, 0.0, 0.97)
    # Once the shared texture has gone into the noise, what comes back is chance.
    peak = int(np.argmax(shared[: size // 4 + 1]))
    shared[peak:] = np.minimum.accumulate(shared[peak:])
    if shared[peak] <= 0.01:
        return None
    frequency = (np.arange(size // 2 + 1) + 0.5) / size
    weight = np.sqrt(shared / (1.0 - shared**2)) * np.exp(-0.5 * (2 * np.pi * 0.5 * frequency) ** 2)
    gains = []
    for power in (pf, pm):
        steady = np.maximum(power, 0.05 * power.max())
        gain = weight / np.sqrt(steady)
        gains.append(gain / gain.max())
    return MatchedFilter(frequency, gains[0], gains[1], coherence)


@njit(cache=True, nogil=True)
def _weigh(
    spectrum: NDArray[np.complex64], rows: int, columns: int, gain: NDArray[np.float32], bins: int
) -> None:  # pragma: no cover - compiled
    """Multiply a real image's spectrum by a radial gain that is known at ``(i + 0.5) / bins`` cycles per pixel."""
    most = gain.shape[0] - 1
    for y in range(rows):
        fy = (y if 2 * y <= rows else y - rows) / rows
        for x in range(spectrum.shape[1]):
            fx = x / columns
            at = min(max(math.sqrt(fy * fy + fx * fx) * bins - 0.5, 0.0), np.float64(most))
            i = min(int(at), most - 1)
            t = np.float32(at - i)
            spectrum[y, x] *= gain[i] * (np.float32(1) - t) + gain[i + 1] * t


def apply_filter(
    images: FloatArray,
    valid: BoolArray,
    frequency: NDArray[np.float64],
    gain: NDArray[np.float64],
) -> FloatArray:
    """Apply a radial gain to each plane and set invalid pixels to 0.

    Parameters
    ----------
    images : (k, h, w) float32
        Zero where invalid.
    valid : (k, h, w) bool
    frequency, gain : (n,) float64
        The gain at each radial frequency in cycles per pixel, evenly spaced from half a space on.
    """
    _, h, w = images.shape
    shape = (fft.next_fast_len(h + 8, real=True), fft.next_fast_len(w + 8, real=True))
    bins = round(0.5 / frequency[0])
    response = gain.astype(np.float32)
    out = np.empty_like(images)
    for plane in range(images.shape[0]):
        spectrum = fft.rfft2(images[plane], shape)
        _weigh(spectrum, *shape, response, bins)
        out[plane] = fft.irfft2(spectrum, shape, overwrite_x=True)[:h, :w]
    out *= valid
    return out
