"""Windows of tiles to spectra: the logarithm, the taper, the cross spectrum.

Speckle is multiplicative, so windows are compared as ``log(I + 0.5 mean)``; the added half mean keeps regions without
tissue, where only noise is left, from weighing as much as tissue. A quadratic surface is removed before the
taper, because shading and vignetting would otherwise leak over all frequencies.

Arrays follow `soct.space`. A window is ``(k, h, w)``: `k` images of the same region (depth slabs, colours),
each with a vote. NaN is no data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numba import njit, prange
from numpy.typing import NDArray

from soct.space import FloatArray

ComplexArray = NDArray[np.complex64]


def fast_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return the next larger shape whose real FFT is fast, with an even last axis."""
    rows = scipy.fft.next_fast_len(int(shape[0]), real=False)
    columns = 2 * scipy.fft.next_fast_len((int(shape[1]) + 1) // 2, real=False)
    return int(rows), int(columns)


@njit(cache=True, nogil=True)
def _taper(n: int, length: float, shift: float, out: Any) -> None:  # pragma: no cover - compiled
    """Fill in a raised cosine over `length` samples at both ends, 1 between, `shift` samples further left."""
    for i in range(n):
        d = max(min(i + shift, n - 1 - i - shift) + 0.5, 0.0)
        out[i] = 1.0 if d >= length else 0.5 - 0.5 * np.cos(np.pi * d / length)


def raised_cosine(size: int, length: float) -> FloatArray:
    """Return a window of `size` samples: 1 in the middle, a raised cosine over `length` samples at both ends."""
    window = np.empty(size)
    _taper(size, max(length, 1.0), 0.0, window)
    return window.astype(np.float32)


@njit(cache=True, nogil=True)
def _solve6(matrix: Any, rhs: Any) -> None:  # pragma: no cover - compiled
    """Solve a small symmetric positive system in place (Gauss without pivoting; the caller adds a ridge)."""
    n = rhs.size
    for i in range(n):
        pivot = matrix[i, i]
        for r in range(i + 1, n):
            f = matrix[r, i] / pivot
            if f != 0.0:
                for c in range(i, n):
                    matrix[r, c] -= f * matrix[i, c]
                rhs[r] -= f * rhs[i]
    for i in range(n - 1, -1, -1):
        s = rhs[i]
        for c in range(i + 1, n):
            s -= matrix[i, c] * rhs[c]
        rhs[i] = s / matrix[i, i]


@njit(cache=True, nogil=True)
def _prepare_one(
    raw: Any,
    h: int,
    w: int,
    offset: float,
    taper_y: float,
    taper_x: float,
    shift_y: float,
    shift_x: float,
    out: Any,
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Logarithm, quadratic trend and taper of one image; returns (valid fraction, variance)."""
    wy = np.empty(h)
    wx = np.empty(w)
    _taper(h, taper_y, shift_y, wy)
    _taper(w, taper_x, shift_x, wx)
    out[:, :] = 0.0
    matrix = np.zeros((6, 6))
    rhs = np.zeros(6)
    basis = np.empty(6)
    count = 0
    # The trend is smooth: every second row and column of a big window fit it as well as all do.
    step = 2 if h * w > 4096 else 1
    for y in range(h):
        v = 2.0 * (y + shift_y + 0.5) / h - 1.0
        for x in range(w):
            value = raw[y, x]
            if not np.isfinite(value):
                continue
            count += 1
            value = np.log(np.float32(max(value + offset, 1e-3 * offset)))
            out[y, x] = value
            if y % step == 0 and x % step == 0:
                u = 2.0 * (x + shift_x + 0.5) / w - 1.0
                g = wy[y] * wx[x]
                basis[0] = 1.0
                basis[1] = v
                basis[2] = u
                basis[3] = v * v
                basis[4] = v * u
                basis[5] = u * u
                for a in range(6):
                    ga = g * basis[a]
                    rhs[a] += ga * value
                    for b in range(a, 6):
                        matrix[a, b] += ga * basis[b]
    if count == 0:
        return 0.0, 0.0
    for a in range(6):
        for b in range(a):
            matrix[a, b] = matrix[b, a]
    ridge = 1e-9 * (matrix[0, 0] + 1e-12)
    for a in range(6):
        matrix[a, a] += ridge
    _solve6(matrix, rhs)
    variance = 0.0
    weight = 0.0
    for y in range(h):
        v = 2.0 * (y + shift_y + 0.5) / h - 1.0
        c0 = rhs[0] + rhs[1] * v + rhs[3] * v * v
        c1 = rhs[2] + rhs[4] * v
        for x in range(w):
            if not np.isfinite(raw[y, x]):
                out[y, x] = 0.0
                continue
            u = 2.0 * (x + shift_x + 0.5) / w - 1.0
            g = wy[y] * wx[x]
            value = out[y, x] - (c0 + c1 * u + rhs[5] * u * u)
            variance += g * value * value
            weight += g
            out[y, x] = g * value
    return count / (h * w), variance / max(weight, 1e-12)


@njit(cache=True, nogil=True, parallel=True)
def _prepare_batch(
    raw: Any,
    shapes: Any,
    offsets: Any,
    taper: float,
    limit: float,
    shifts: Any,
    out: Any,
    stats: Any,
) -> None:  # pragma: no cover - compiled
    n, k = raw.shape[:2]
    for item in prange(n * k):
        b = item // k
        c = item % k
        h = shapes[b, 0]
        w = shapes[b, 1]
        ty = max(1.0, min(taper * h, limit))
        tx = max(1.0, min(taper * w, limit))
        fraction, variance = _prepare_one(
            raw[b, c], h, w, offsets[c], ty, tx, shifts[b, 0], shifts[b, 1], out[b, c]
        )
        stats[b, c, 0] = fraction
        stats[b, c, 1] = variance


def prepare_windows(
    raw: FloatArray,
    shapes: NDArray[np.int64],
    offsets: NDArray[np.float64],
    fft_shape: tuple[int, int],
    taper: float = 0.25,
    taper_limit: float = 32.0,
    shifts: NDArray[np.float64] | None = None,
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Bring windows into the form that is correlated, zero-padded to the FFT.

    Parameters
    ----------
    raw : float32 ndarray (n, k, h, w)
        Windows in their upper left corner; NaN is no data.
    shapes : int ndarray (n, 2)
        Size of each window, at most ``(h, w)``.
    offsets : ndarray (k,)
        Added before the logarithm, per channel; half the mean brightness.
    fft_shape : (int, int)
        At least ``(h, w)``.
    taper : float
        Fraction of a side, at each end, under the raised cosine.
    taper_limit : float
        Longest taper, pixels.
    shifts : ndarray (n, 2), optional
        How far the taper and the trend lie to the upper left of each window, pixels: two windows that are
        a fraction of a pixel apart can then be tapered over the very same tissue.

    Returns
    -------
    windows : float32 ndarray (n, k, *fft_shape)
    stats : float64 ndarray (n, k, 2)
        Valid fraction, and variance of the log-brightness about its quadratic trend.
    """
    n, k = raw.shape[:2]
    out = np.empty((n, k, *fft_shape), np.float32)
    stats = np.zeros((n, k, 2))
    moves = np.zeros((n, 2)) if shifts is None else np.ascontiguousarray(shifts, np.float64)
    _prepare_batch(raw, shapes, offsets, taper, taper_limit, moves, out, stats)
    return out, stats


def window_autocorrelation(size: int, length: int, taper: float, limit: float = 32.0) -> FloatArray:
    """How much of two tapered windows overlaps at each lag of a periodic correlation.

    Parameters
    ----------
    size : int
        Samples of the window.
    length : int
        Samples of the FFT.
    taper, limit
        As in `prepare_windows`.

    Returns
    -------
    float32 ndarray (length,)
        1 at lag 0; negative lags wrap around.
    """
    window = np.empty(size)
    _taper(size, max(1.0, min(taper * size, limit)), 0.0, window)
    spectrum = scipy.fft.rfft(window, length)
    correlation = scipy.fft.irfft(np.abs(spectrum) ** 2, length)
    result: FloatArray = (correlation / correlation[0]).astype(np.float32)
    return result


def transform(windows: FloatArray, workers: int = 1) -> ComplexArray:
    """Real FFT over the last two axes, single precision."""
    spectra: ComplexArray = scipy.fft.rfft2(windows, workers=workers, overwrite_x=True)
    return spectra


@njit(cache=True, nogil=True, parallel=True)
def _whiten(first: Any, second: Any, power: float, gain: Any, out: Any) -> None:  # pragma: no cover
    n, k, rows, columns = first.shape
    for b in prange(n):
        for y in range(rows):
            for x in range(columns):
                re = np.float32(0.0)
                im = np.float32(0.0)
                for c in range(k):
                    f = first[b, c, y, x]
                    g = second[b, c, y, x]
                    re += f.real * g.real + f.imag * g.imag
                    im += f.imag * g.real - f.real * g.imag
                m = re * re + im * im
                if m > 0.0:
                    s = gain[y, x] / m ** (np.float32(0.5) * power)
                    out[b, y, x] = complex(re * s, im * s)
                else:
                    out[b, y, x] = 0.0


def cross_correlate(
    first: ComplexArray,
    second: ComplexArray,
    fft_shape: tuple[int, int],
    gain: FloatArray,
    whitening: float = 0.5,
    workers: int = 1,
) -> FloatArray:
    """Correlate spectra: ``C / |C|^whitening`` times `gain`, summed over channels before whitening.

    Half whitening keeps some of the signal-to-noise ratio that the amplitudes carry and sharpens the peak; full
    whitening lets bins without signal vote as loudly as the others.

    Parameters
    ----------
    first, second : complex64 ndarray (n, k, rows, columns)
    fft_shape : (int, int)
    gain : float32 ndarray (rows, columns)
        Filter.
    whitening : float
        0 is plain correlation, 1 is phase correlation.
    workers : int
        FFT threads.

    Returns
    -------
    float32 ndarray (n, *fft_shape)
        Element ``u`` is the agreement of ``first(p + u)`` with ``second(p)``; negative ``u`` wrap around.
    """
    out = np.empty((first.shape[0], *first.shape[2:]), np.complex64)
    _whiten(first, second, np.float32(whitening), gain, out)
    surface: FloatArray = scipy.fft.irfft2(out, s=fft_shape, workers=workers, overwrite_x=True)
    return surface


def low_pass(fft_shape: tuple[int, int], sigma: float) -> FloatArray:
    """Transfer function of a Gaussian of `sigma` pixels on the half spectrum, with zero mean."""
    ky = scipy.fft.fftfreq(fft_shape[0])[:, None]
    kx = scipy.fft.rfftfreq(fft_shape[1])[None, :]
    gain = np.exp(-2.0 * (np.pi * sigma) ** 2 * (ky**2 + kx**2))
    gain[0, 0] = 0.0
    return gain.astype(np.float32)
