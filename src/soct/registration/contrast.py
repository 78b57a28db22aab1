"""What is compared between slices: local contrast of the logarithm, with no-data pixels marked.

Speckle is multiplicative and brightness falls with depth, so images are compared as logarithms with the
local mean taken out and the local spread evened out. The mean and spread come from block sums, smoothed and
interpolated between blocks, which costs a few operations per pixel at any window size.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.space import FloatArray

BoolArray = NDArray[np.bool_]


@njit(cache=True, nogil=True)
def block_mean(
    images: FloatArray, valid: BoolArray, factor: int
) -> tuple[FloatArray, BoolArray]:  # pragma: no cover - compiled
    """Average blocks of ``factor x factor`` pixels over their valid pixels.

    Parameters
    ----------
    images : (k, h, w) float32
    valid : (k, h, w) bool
    factor : int
        Block edge in pixels; edge blocks that are not whole are dropped.

    Returns
    -------
    (k, h // factor, w // factor) float32 and bool
        Means, and whether at least half of the block is valid. Zero where it is not.
    """
    k, h, w = images.shape
    oh, ow = h // factor, w // factor
    out = np.zeros((k, oh, ow), dtype=np.float32)
    out_valid = np.zeros((k, oh, ow), dtype=np.bool_)
    need = 0.5 * factor * factor
    for p in range(k):
        for i in range(oh):
            for j in range(ow):
                total = 0.0
                n = 0
                for y in range(i * factor, (i + 1) * factor):
                    for x in range(j * factor, (j + 1) * factor):
                        if valid[p, y, x]:
                            total += images[p, y, x]
                            n += 1
                if n > 0 and n >= need:
                    out[p, i, j] = total / n
                    out_valid[p, i, j] = True
    return out, out_valid


@njit(cache=True, nogil=True)
def _block_sums(
    image: FloatArray, valid: BoolArray, size: int
) -> NDArray[np.float64]:  # pragma: no cover - compiled
    """Sum 1, v and v^2 over blocks, ``(3, by, bx)``, part blocks at the edges included."""
    h, w = image.shape
    by, bx = (h + size - 1) // size, (w + size - 1) // size
    out = np.zeros((3, by, bx))
    # Down the columns of a row of blocks first: that vectorises.
    columns = np.empty((3, w), dtype=np.float32)
    count, first, second = columns[0], columns[1], columns[2]
    for i in range(by):
        columns[:] = np.float32(0)
        for y in range(i * size, min(h, (i + 1) * size)):
            row, ok = image[y], valid[y]
            for x in range(w):
                v = row[x] if ok[x] else np.float32(0)
                count[x] += np.float32(ok[x])
                first[x] += v
                second[x] += v * v
        for q in range(3):
            for x in range(w):
                out[q, i, x // size] += columns[q, x]
    return out


@njit(cache=True, nogil=True)
def _widened(blocks: NDArray[np.float64], w: int, size: int) -> FloatArray:  # pragma: no cover
    """Interpolate rows of block values linearly between block centres, ``(by, w)``."""
    by, bx = blocks.shape
    out = np.empty((by, w), dtype=np.float32)
    half = (size - 1) / 2.0
    for x in range(w):
        u = min(max((x - half) / size, 0.0), bx - 1.0)
        j = min(int(u), max(bx - 2, 0))
        j1 = min(j + 1, bx - 1)
        fx = u - j
        for i in range(by):
            out[i, x] = blocks[i, j] * (1 - fx) + blocks[i, j1] * fx
    return out


@njit(cache=True, nogil=True)
def _standardise(
    image: FloatArray,
    valid: BoolArray,
    mean: NDArray[np.float64],
    scale: NDArray[np.float64],
    size: int,
    out: FloatArray,
) -> None:  # pragma: no cover - compiled
    """Write ``(v - mean) * scale``, both interpolated linearly between block centres; 0 where invalid."""
    h, w = image.shape
    by = mean.shape[0]
    half = (size - 1) / 2.0
    means, scales = _widened(mean, w, size), _widened(scale, w, size)
    for y in range(h):
        v = min(max((y - half) / size, 0.0), by - 1.0)
        i = min(int(v), max(by - 2, 0))
        i1 = min(i + 1, by - 1)
        low = np.float32(v - i)
        high = np.float32(1) - low
        m0, m1, s0, s1 = means[i], means[i1], scales[i], scales[i1]
        row, ok, to = image[y], valid[y], out[y]
        for x in range(w):
            z = (row[x] - (m0[x] * high + m1[x] * low)) * (s0[x] * high + s1[x] * low)
            to[x] = z if ok[x] else np.float32(0)


def log_intensity(images: FloatArray, valid: BoolArray) -> FloatArray:
    """Return ``log(I + 0.5 mean)`` per plane, the mean over valid pixels; 0 where invalid.

    The offset keeps the noise of dark agarose from outweighing tissue. Negative intensities count as 0.

    Parameters
    ----------
    images : (k, h, w) float32
    valid : (k, h, w) bool
    """
    out = np.zeros(images.shape, dtype=np.float32)
    for plane in range(images.shape[0]):
        ok = valid[plane]
        if not ok.any():
            continue
        image = np.maximum(images[plane], np.float32(0))
        whole = bool(ok.all())
        offset = 0.5 * float((image if whole else image[ok]).mean(dtype=np.float64))
        if offset <= 0:
            continue
        image += np.float32(offset)
        if whole:
            np.log(image, out=out[plane])
        else:
            np.log(image, out=out[plane], where=ok)
    return out


def local_contrast(images: FloatArray, valid: BoolArray, window_px: float) -> FloatArray:
    """Return images with local mean 0 and even local spread; 0 where invalid.

    Parameters
    ----------
    images : (k, h, w) float32
        Usually from `log_intensity`.
    valid : (k, h, w) bool
    window_px : float
        About the standard deviation of the window in pixels.

    Returns
    -------
    (k, h, w) float32
        ``(v - m) / sqrt(s^2 + S^2)`` with the local mean m and spread s and the plane's median spread S,
        which keeps empty places flat.
    """
    size = max(2, round(window_px / 1.5))
    out = np.zeros(images.shape, dtype=np.float32)
    for plane in range(images.shape[0]):
        sums = _block_sums(images[plane], valid[plane], size)
        n, s1, s2 = ndi.gaussian_filter(sums, (0.0, 1.2, 1.2), mode="constant")
        n = np.maximum(n, 1e-6)
        mean = s1 / n
        variance = np.maximum(s2 / n - mean * mean, 0.0)
        filled = sums[0] > 0
        if not filled.any():
            continue
        floor = float(np.median(variance[filled]))
        scale = 1.0 / np.sqrt(variance + floor + 1e-12)
        if floor <= 0 and not (variance[filled] > 0).any():
            continue
        _standardise(images[plane], valid[plane], mean, scale, size, out[plane])
    return out


@njit(cache=True, nogil=True)
def smooth(
    images: FloatArray, valid: BoolArray, weights: NDArray[np.float32]
) -> FloatArray:  # pragma: no cover - compiled
    """Low-pass by a symmetric separable kernel, invalid pixels counting as 0.

    Parameters
    ----------
    images : (k, h, w) float32
        Zero where invalid and of zero local mean, so that zero is the neutral filling.
    valid : (k, h, w) bool
    weights : (n,) float32
        Kernel from its middle outwards.
    """
    k, h, w = images.shape
    n = weights.shape[0]
    out = np.empty((k, h, w), dtype=np.float32)
    # One row between zeros: it stays in the nearest cache, and every loop over it vectorises.
    padded = np.zeros(w + 2 * n, dtype=np.float32)
    line = padded[n : n + w]
    for p in range(k):
        for y in range(h):
            row = images[p, y]
            for x in range(w):
                line[x] = weights[0] * row[x]
            for t in range(1, n):
                weight = weights[t]
                if y - t >= 0:
                    row = images[p, y - t]
                    for x in range(w):
                        line[x] += weight * row[x]
                if y + t < h:
                    row = images[p, y + t]
                    for x in range(w):
                        line[x] += weight * row[x]
            to, ok = out[p, y], valid[p, y]
            for x in range(w):
                to[x] = weights[0] * line[x]
            for t in range(1, n):
                weight = weights[t]
                left, right = padded[n - t : n - t + w], padded[n + t : n + t + w]
                for x in range(w):
                    to[x] += weight * (left[x] + right[x])
            for x in range(w):
                to[x] = to[x] if ok[x] else np.float32(0)
    return out


def gaussian_weights(sigma_px: float) -> NDArray[np.float32]:
    """Return a normalised Gaussian kernel from its middle outwards, as `smooth` takes it."""
    n = max(1, int(np.ceil(3.0 * sigma_px)))
    half = np.exp(-0.5 * (np.arange(n + 1) / sigma_px) ** 2)
    return (half / (half[0] + 2 * half[1:].sum())).astype(np.float32)
