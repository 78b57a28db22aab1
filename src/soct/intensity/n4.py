"""N4: the smooth multiplicative field of an image, from the sharpness of its histogram.

A field blurs the histogram of log intensities. Each iteration sharpens the histogram (Wiener deconvolution of a
Gaussian), takes what every voxel lacks to its sharpened value as a noisy sample of the field, and adds a smooth
B-spline approximation of these samples. Levels double the mesh of the spline. The approximation is that of
scattered data (Lee, Wolberg, Shin, 1997); on a regular grid its sums separate into one small matrix per axis,
masked voxels included, so one iteration is a few matrix products.

A smooth gradient of the anatomy gives a broad histogram that sharpening leaves as it is: it isn't taken for a field.

The code is written once over an array module (numpy or CuPy). With numpy, two numba kernels replace the passes
over the voxels. Sums are taken in a fixed order and by one thread: equal input gives equal bytes.

References
----------
Tustison et al., IEEE Trans. Med. Imaging 29:1310, 2010; Sled et al., IEEE Trans. Med. Imaging 17:87, 1998.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numba import njit
from threadpoolctl import threadpool_limits

from soct.compute.array_modules import to_host
from soct.space import Array, FloatArray

BINS = 200
FULL_WIDTH = 0.15
WIENER_NOISE = 0.01
CONVERGENCE = 0.001
ORDER = 3


@dataclass(frozen=True)
class LogField:
    """A field on the grid that it was fitted on.

    Attributes
    ----------
    log_bias : ndarray (z, y, x) float32
        Logarithm of the field.
    iterations : tuple of int
        Iterations of each level.
    """

    log_bias: FloatArray
    iterations: tuple[int, ...]


def spline_basis(position: Array, elements: int) -> Array:
    """Values of the cubic B-splines of a mesh at positions along one axis.

    Parameters
    ----------
    position : ndarray (n,)
        From 0, the begin of the first element, to 1, the end of the last; beyond, the outer elements are
        continued.
    elements : int
        Elements of the mesh.

    Returns
    -------
    ndarray (n, elements + 3)
        Rows sum to 1.
    """
    at = np.asarray(position, np.float64) * elements
    first = np.clip(np.floor(at), 0, elements - 1).astype(int)
    t = at - first
    values = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    basis = np.zeros((len(at), elements + ORDER))
    np.put_along_axis(basis, first[:, None] + np.arange(ORDER + 1), values / 6, axis=1)
    return basis


class _Passes(Protocol):
    """The passes over all voxels of one iteration."""

    def histogram(self, log_image: Any) -> tuple[Array, float, float]:
        """Return counts in `BINS` bins (shared linearly), the first bin's centre, and their distance."""

    def residual(self, log_image: Any, expected: Array, low: float, step: float) -> Any:
        """Return what each voxel lacks to its sharpened value; 0 outside of the mask."""

    def take_off(self, log_image: Any, log_bias: Any, change: Any) -> float:
        """Move `change` from the image to the field; return the variation of its exponential in the mask."""


class ArrayPasses:
    """The passes in terms of an array module: the reference, and what runs on a GPU."""

    def __init__(self, mask: Any, xp: Any) -> None:
        self.xp, self.mask = xp, mask
        self.inside = xp.flatnonzero(mask)

    def histogram(self, log_image: Any) -> tuple[Array, float, float]:
        """See `_Passes`."""
        xp = self.xp
        values = log_image.ravel()[self.inside].astype(xp.float64)
        low, high = float(values.min()), float(values.max())
        step = max(high - low, 1e-9) / (BINS - 1)
        at = (values - low) / step
        first = xp.minimum(at.astype(xp.int64), BINS - 2)
        part = at - first
        counts = xp.bincount(first, weights=1 - part, minlength=BINS)
        counts += xp.bincount(first + 1, weights=part, minlength=BINS)
        return np.asarray(to_host(counts)), low, step

    def residual(self, log_image: Any, expected: Array, low: float, step: float) -> Any:
        """See `_Passes`."""
        xp = self.xp
        values = log_image.ravel()[self.inside].astype(xp.float64)
        table = xp.asarray(expected)
        at = xp.clip((values - low) / step, 0, BINS - 1)
        first = xp.minimum(at.astype(xp.int64), BINS - 2)
        part = at - first
        out = xp.zeros(log_image.size, xp.float32)
        out[self.inside] = values - (table[first] * (1 - part) + table[first + 1] * part)
        return out.reshape(log_image.shape)

    def take_off(self, log_image: Any, log_bias: Any, change: Any) -> float:
        """See `_Passes`."""
        xp = self.xp
        log_image -= change
        log_bias += change
        ratio = xp.exp(change.ravel()[self.inside].astype(xp.float64))
        return float(ratio.std() / ratio.mean())


class KernelPasses:
    """The passes as numba kernels on numpy arrays."""

    def __init__(self, mask: Array) -> None:
        self.mask = np.ascontiguousarray(mask).ravel()

    def histogram(self, log_image: FloatArray) -> tuple[Array, float, float]:
        """See `_Passes`."""
        return _histogram(log_image.ravel(), self.mask, BINS)

    def residual(
        self, log_image: FloatArray, expected: Array, low: float, step: float
    ) -> FloatArray:
        """See `_Passes`."""
        out = np.empty_like(log_image)
        _residual(log_image.ravel(), self.mask, expected, low, step, out.ravel())
        return out

    def take_off(self, log_image: FloatArray, log_bias: FloatArray, change: FloatArray) -> float:
        """See `_Passes`."""
        return float(
            _take_off(
                log_image.ravel(), log_bias.ravel(), np.ascontiguousarray(change).ravel(), self.mask
            )
        )


class _Smoother:
    """B-spline approximation of samples on a masked grid, for one mesh."""

    def __init__(self, mask: Any, positions: Sequence[Array], elements: Sequence[int], xp: Any):
        bases = [spline_basis(p, n) for p, n in zip(positions, elements, strict=True)]
        self.xp = xp
        self.evaluate = [xp.asarray(b, xp.float32) for b in bases]
        cubes = [b**3 / (b**2).sum(axis=1, keepdims=True) for b in bases]
        self.spread = [xp.asarray(c.T, xp.float32) for c in cubes]
        squares = [xp.asarray((b**2).T, xp.float32) for b in bases]
        weight = self._product(mask.astype(xp.float32), squares)
        known = weight > 1e-10 * float(weight.max())
        self.inverse = xp.where(known, 1 / xp.where(known, weight, 1), 0).astype(xp.float32)

    def _product(self, array: Any, matrices: Sequence[Any]) -> Any:
        """Multiply every axis by its matrix (rows out, columns in)."""
        z, y, x = matrices
        out = self.xp.matmul(array, x.T)
        out = self.xp.matmul(y, out)
        return self.xp.matmul(z, out.reshape(out.shape[0], -1)).reshape(-1, *out.shape[1:])

    def smooth(self, samples: Any) -> Any:
        """Return the spline's values on the grid; samples outside of the mask must be 0."""
        points = self._product(samples, self.spread) * self.inverse
        return self._product(points, self.evaluate)


def sharpen(counts: Array, step: float) -> Array:
    """Return the expected true log intensity, minus the first bin's centre, for each bin of a blurred histogram.

    Parameters
    ----------
    counts : ndarray (bins,)
    step : float
        Distance of the bins' centres.
    """
    n = 1 << (int(np.ceil(np.log2(len(counts)))) + 1)
    offset = (n - len(counts)) // 2
    padded = np.zeros(n)
    padded[offset : offset + len(counts)] = counts
    width = FULL_WIDTH / step
    lag = np.minimum(np.arange(n), n - np.arange(n))
    blur = np.exp(-4 * np.log(2) * (lag / width) ** 2) * (2 * np.sqrt(np.log(2) / np.pi) / width)
    response = np.fft.rfft(blur).real
    wiener = response / (response**2 + WIENER_NOISE)
    sharp = np.maximum(np.fft.irfft(np.fft.rfft(padded) * wiener, n), 0)
    at = (np.arange(n) - offset) * step
    mean = np.fft.irfft(np.fft.rfft(sharp * at) * response, n)
    total = np.fft.irfft(np.fft.rfft(sharp) * response, n)
    known = total > 1e-9 * total.max(initial=0)
    # A bin that nothing sharp explains says nothing about the field.
    expected = np.where(known, mean / np.where(known, total, 1), at)
    return np.asarray(expected[offset : offset + len(counts)])


def fit_log_field(
    image: Array,
    mask: Array,
    centres: Sequence[Array],
    elements: Sequence[int],
    iterations: Sequence[int],
    *,
    xp: Any = np,
    passes: _Passes | None = None,
) -> LogField:
    """Fit the field of an image that has been reduced by block means.

    Parameters
    ----------
    image : ndarray (z, y, x)
        Positive where `mask` is.
    mask : ndarray (z, y, x) bool
        Voxels that count; at least one.
    centres : sequence of ndarray
        Increasing positions of the grid along z, y, x, in any unit.
    elements : sequence of int
        Elements of the first level's mesh along z, y, x.
    iterations : sequence of int
        Most iterations of each level; a level ends before when the field changes by less than `CONVERGENCE`.
    xp : module
        numpy or CuPy.
    passes : object, optional
        The passes over the voxels; by default the kernels for numpy and `ArrayPasses` for others.

    Returns
    -------
    LogField
        Zero on average over the mask.
    """
    positions = [_unit(np.asarray(c, np.float64)) for c in centres]
    inside = xp.asarray(mask, bool)
    log_image = xp.where(inside, xp.asarray(image, xp.float32), 1)
    log_image = xp.log(log_image).astype(xp.float32)
    log_bias = xp.zeros(log_image.shape, xp.float32)
    if passes is None:
        passes = KernelPasses(np.asarray(mask, bool)) if xp is np else ArrayPasses(inside, xp)
    done = []
    # Sums of BLAS depend on its threads; one is enough for matrices this small.
    with threadpool_limits(1, "blas"):
        for level, most in enumerate(iterations):
            smoother = _Smoother(inside, positions, [n << level for n in elements], xp)
            count = 0
            while count < most:
                count += 1
                counts, low, step = passes.histogram(log_image)
                lacking = passes.residual(log_image, sharpen(counts, step) + low, low, step)
                variation = passes.take_off(log_image, log_bias, smoother.smooth(lacking))
                if variation < CONVERGENCE:
                    break
            done.append(count)
    log_bias -= log_bias[inside].mean(dtype=xp.float64).astype(xp.float32)
    return LogField(np.asarray(to_host(log_bias)), tuple(done))


def _unit(centres: Array) -> Array:
    span = centres[-1] - centres[0]
    return np.asarray((centres - centres[0]) / span if span > 0 else np.zeros(len(centres)))


@njit(cache=True, nogil=True)
def _histogram(values: FloatArray, mask: Array, bins: int) -> tuple[Array, float, float]:
    low, high = np.inf, -np.inf
    for i in range(values.size):
        if mask[i]:
            low = min(low, values[i])
            high = max(high, values[i])
    step = max(high - low, 1e-9) / (bins - 1)
    counts = np.zeros(bins)
    for i in range(values.size):
        if mask[i]:
            at = (values[i] - low) / step
            first = min(int(at), bins - 2)
            part = at - first
            counts[first] += 1 - part
            counts[first + 1] += part
    return counts, low, step


@njit(cache=True, nogil=True)
def _residual(
    values: FloatArray, mask: Array, expected: Array, low: float, step: float, out: FloatArray
) -> None:
    last = expected.size - 1
    for i in range(values.size):
        if mask[i]:
            at = min(max((values[i] - low) / step, 0.0), float(last))
            first = min(int(at), last - 1)
            part = at - first
            out[i] = values[i] - (expected[first] * (1 - part) + expected[first + 1] * part)
        else:
            out[i] = 0


@njit(cache=True, nogil=True)
def _take_off(values: FloatArray, bias: FloatArray, change: FloatArray, mask: Array) -> float:
    n, total, square = 0, 0.0, 0.0
    for i in range(values.size):
        values[i] -= change[i]
        bias[i] += change[i]
        if mask[i]:
            ratio = np.exp(np.float64(change[i])) - 1
            n += 1
            total += ratio
            square += ratio * ratio
    mean = total / n
    return float(np.sqrt(max(square / n - mean * mean, 0.0)) / (1 + mean))
