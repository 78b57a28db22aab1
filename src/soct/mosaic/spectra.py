"""Windows of tiles to spectra: the logarithm, the taper, the cross spectrum.

Speckle is multiplicative, so windows are compared as ``log(I + 0.5 mean)``; the added half mean keeps regions without
tissue, where only noise is left, from weighing as much as tissue. A quadratic surface is removed before the
taper, because shading and vignetting would otherwise leak over all frequencies.

Arrays follow `soct.space`. A window is ``(k, h, w)``: `k` images of the same region (depth slabs, colours),
each with a vote. NaN is no data.
"""

from __future__ import annotations

from functools import lru_cache
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


@lru_cache(maxsize=16)
def _power_tables(exponent: float) -> tuple[FloatArray, FloatArray]:
    """``m ** exponent`` for the powers of two a float32 can have, and for 1 to 2 in steps of 1/1024."""
    exponents = (2.0 ** (exponent * (np.arange(256) - 127.0))).astype(np.float32)
    mantissas = ((1.0 + np.arange(1025) / 1024.0) ** exponent).astype(np.float32)
    return exponents, mantissas


@njit(cache=True, nogil=True)
def _ramp(n: int, count: int, shift: float, out: Any) -> None:  # pragma: no cover - compiled
    """``exp(2 pi i f shift)`` for the first `count` FFT frequencies of length n, real at Nyquist's."""
    for i in range(count):
        a = 2.0 * np.pi * (i if 2 * i <= n else i - n) * shift / n
        out[i] = complex(np.cos(a), 0.0 if 2 * i == n else np.sin(a))


@njit(cache=True, nogil=True, parallel=True)
def _whiten(
    first: Any,
    second: Any,
    exponents: Any,
    mantissas: Any,
    gain: Any,
    shifts: Any,
    width: int,
    out: Any,
) -> None:  # pragma: no cover - compiled
    n, k, rows, columns = first.shape
    for b in prange(n):
        py = np.empty(rows, np.complex64)
        px = np.empty(columns, np.complex64)
        _ramp(rows, rows, shifts[b, 0], py)
        _ramp(width, columns, shifts[b, 1], px)
        moved = shifts[b, 0] != 0.0 or shifts[b, 1] != 0.0
        for y in range(rows):
            for x in range(columns):
                re = np.float32(0.0)
                im = np.float32(0.0)
                for c in range(k):
                    f = first[b, c, y, x]
                    g = second[b, c, y, x]
                    re += f.real * g.real + f.imag * g.imag
                    im += f.imag * g.real - f.real * g.imag
                # A power by its exponent's and its mantissa's table: within 3e-7, and 20 times as fast as pow.
                bits = np.float32(re * re + im * im).view(np.int32)
                e = (bits >> 23) & 255
                j = (bits >> 13) & 1023
                t = np.float32(bits & 8191) * np.float32(1.0 / 8192.0)
                m = mantissas[j] + t * (mantissas[j + 1] - mantissas[j])
                s = gain[y, x] * exponents[e] * m if e > 0 else np.float32(0.0)
                out[b, y, x] = complex(re * s, im * s)
            if moved:
                for x in range(columns):
                    out[b, y, x] *= py[y] * px[x]


def whiten(
    first: ComplexArray,
    second: ComplexArray,
    fft_shape: tuple[int, int],
    gain: FloatArray,
    whitening: float,
    shifts: NDArray[np.float64] | None = None,
) -> ComplexArray:
    """Return the spectrum whose inverse transform `cross_correlate` is; parameters as there."""
    out = np.empty((first.shape[0], *first.shape[2:]), np.complex64)
    moves = np.zeros((len(out), 2)) if shifts is None else np.asarray(shifts, np.float64)
    exponents, mantissas = _power_tables(-0.5 * float(whitening))
    _whiten(first, second, exponents, mantissas, gain, moves, fft_shape[1], out)
    return out


def cross_correlate(
    first: ComplexArray,
    second: ComplexArray,
    fft_shape: tuple[int, int],
    gain: FloatArray,
    whitening: float = 0.5,
    workers: int = 1,
    shifts: NDArray[np.float64] | None = None,
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
    shifts : ndarray (n, 2), optional
        How far ``(y, x)`` the surface is moved to smaller lags, pixels: windows are cut at whole pixels, and the fraction by
        which they should have lain further right and down than the second ones enters here, without interpolation.

    Returns
    -------
    float32 ndarray (n, *fft_shape)
        Element ``u`` is the agreement of ``first(p + u)`` with ``second(p)``; negative ``u`` wrap around.
    """
    out = whiten(first, second, fft_shape, gain, whitening, shifts)
    surface: FloatArray = scipy.fft.irfft2(out, s=fft_shape, workers=workers, overwrite_x=True)
    return surface


# Sums in any order, so that they run on several pixels at once; NaN stays what it is.
@njit(cache=True, nogil=True, fastmath={"reassoc"})
def _level(
    image: Any, y0: int, x0: int, wy: Any, wx: Any, out: Any
) -> tuple[int, float]:  # pragma: no cover - compiled
    """Cut, remove the mean, weigh, and scale to a standard deviation of 1; returns (visible pixels, deviation)."""
    h, w = out.shape
    top = max(0, -y0)
    bottom = min(h, image.shape[0] - y0)
    left = max(0, -x0)
    right = min(w, image.shape[1] - x0)
    infinite = np.float32(np.inf)
    nothing = np.float32(0.0)
    total = 0.0
    count = 0
    for y in range(top, bottom):
        row_total: Any = 0.0
        row_count = 0
        for x in range(left, right):
            v = image[y0 + y, x0 + x]
            there = abs(v) < infinite
            row_total += v if there else nothing
            row_count += 1 if there else 0
        total += row_total
        count += row_count
    mean = np.float32(total / max(count, 1))
    square = 0.0
    for y in range(h):
        if y < top or y >= bottom:
            out[y] = 0.0
            continue
        out[y, :left] = 0.0
        out[y, right:] = 0.0
        row_square: Any = nothing
        for x in range(left, right):
            v = image[y0 + y, x0 + x]
            v = wy[y] * wx[x] * (v - mean) if abs(v) < infinite else nothing
            out[y, x] = v
            row_square += v * v
        square += row_square
    deviation: Any = np.sqrt(square / max(count, 1))
    # What is left of a constant when its mean is taken off is rounding, no texture.
    if deviation <= 1e-6 * abs(mean):
        deviation = 0.0
    scale = np.float32(1.0 / deviation if deviation > 0.0 else 0.0)
    for y in range(h):
        for x in range(w):
            out[y, x] *= scale
    return count, deviation


def level_window(
    image: FloatArray,
    corner: tuple[int, int],
    shape: tuple[int, int],
    taper: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
) -> tuple[FloatArray, int, float]:
    """Cut a window of an image as it is, without logarithm or trend, in the form that is correlated.

    Parameters
    ----------
    image : float32 ndarray (rows, columns)
        NaN is no data; there and beyond the edge the window is its mean, which is 0.
    corner : (int, int)
        Row and column of the window's first pixel; may lie outside of the image.
    shape : (int, int)
    taper : float
        Fraction of a side, at each end, under the raised cosine; 0: none.
    shift : (float, float)
        How far ``(y, x)`` the taper lies to the upper left, pixels; see `prepare_windows`.

    Returns
    -------
    window : float32 ndarray `shape`
        Of standard deviation 1 over the visible pixels; all 0 where there is no texture.
    visible : int
        Pixels with data.
    deviation : float
        The standard deviation before.
    """
    out = np.empty(shape, np.float32)
    weights = []
    for size, move in zip(shape, shift, strict=True):
        weight = np.ones(size, np.float32)
        if taper > 0:
            _taper(size, max(1.0, taper * size), move, weight)
        weights.append(weight)
    visible, deviation = _level(image, corner[0], corner[1], weights[0], weights[1], out)
    return out, visible, deviation


def low_pass(fft_shape: tuple[int, int], sigma: float) -> FloatArray:
    """Transfer function of a Gaussian of `sigma` pixels on the half spectrum, with zero mean."""
    ky = scipy.fft.fftfreq(fft_shape[0])[:, None]
    kx = scipy.fft.rfftfreq(fft_shape[1])[None, :]
    gain = np.exp(-2.0 * (np.pi * sigma) ** 2 * (ky**2 + kx**2))
    gain[0, 0] = 0.0
    return gain.astype(np.float32)
