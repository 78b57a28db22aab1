"""Shifts of images and signals by any number of pixels: ``out[k] = in[k + s]``.

A shift along both axes is one along each. Linear and Fourier shifts are circular: what leaves at one end comes in at the other. The Fourier
one is done as a shift by at most half a pixel, for which the signal is continued beyond its ends (by reflection), and one by whole
pixels: so the jump from the last sample to the first never rings, and whole shifts are exact. The cubic spline looks beyond
the ends at the continued signal instead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage as ndi

from soct.tomography.projections import as_floating

ShiftMethod = Literal["linear", "fourier", "spline"]
METHODS: tuple[ShiftMethod, ...] = ("linear", "fourier", "spline")
PAD_MODES = (
    "reflect",
    "symmetric",
    "edge",
    "constant",
    "linear_ramp",
    "maximum",
    "mean",
    "median",
    "minimum",
    "wrap",
)
_BY_INDEX = ("reflect", "symmetric", "edge", "wrap")

# Samples at least between the ends of a signal that is made periodic.
_BLEND = 32
# The response of the spline's prefilter falls by 0.27 per sample: 4e-10 is left after so many.
_SPLINE_REACH = 16


class ShiftFunc:
    """Shifts arrays of one or two dimensions.

    Parameters
    ----------
    shiftmeth : {"linear", "fourier", "spline"}
        Two taps (quick, blurs), exact for band-limited signals, or cubic spline.

    Examples
    --------
    >>> shift = ShiftFunc(shiftmeth="linear")
    >>> shift(np.array([0.0, 1.0, 2.0, 3.0]), 1)
    array([1., 2., 3., 0.])
    >>> shift(np.eye(3), (1, 0.5))
    array([[0.5, 0.5, 0. ],
           [0. , 0.5, 0.5],
           [0.5, 0. , 0.5]])
    """

    def __init__(self, shiftmeth: ShiftMethod = "linear") -> None:
        self.shiftmeth = check_method(shiftmeth)

    def __repr__(self) -> str:
        return f"ShiftFunc(shiftmeth={self.shiftmeth!r})"

    def __call__(
        self,
        array: ArrayLike,
        shift: ArrayLike,
        padmode: str = "reflect",
        complex: bool | None = None,
    ) -> NDArray[Any]:
        """Shift an array: ``out[k] = array[k + shift]``.

        Parameters
        ----------
        array : array_like (n,) or (rows, cols)
            Real or complex; whole numbers become floats.
        shift : float, or (vertical, horizontal)
            Pixels; of a signal, one number (or a list of one).
        padmode : str
            How the signal goes on beyond its ends, a mode of `numpy.pad`. A linear shift never looks there. With "wrap", a Fourier
            shift is that of a periodic signal.
        complex : bool, optional
            Whether the result is complex; by default as `array` is. False drops the imaginary part.

        Returns
        -------
        ndarray
            A new array of the same shape; float32 stays float32.

        Raises
        ------
        ValueError
            More than two dimensions, a shift that does not fit the array or is not finite, an unknown `padmode`.
        """
        given = np.asarray(array)
        if given.ndim not in (1, 2) or given.size == 0:
            raise ValueError(
                f"Only arrays of one or two dimensions are shifted; this one has the shape {given.shape}. "
                "Stacks are shifted by compute_aligned_stack"
            )
        moves = np.atleast_1d(np.asarray(shift, dtype=np.float64)).ravel()
        if moves.size != given.ndim or not np.isfinite(moves).all():
            wanted = (
                "one finite number"
                if given.ndim == 1
                else "two finite numbers, (vertical, horizontal)"
            )
            raise ValueError(
                f"The shift of an array of {given.ndim} dimension(s) must be {wanted}, not {shift!r}"
            )
        out = shift_array(as_floating(given), moves, self.shiftmeth, check_pad_mode(padmode))
        if complex is None or complex == np.iscomplexobj(out):
            return out
        return out.astype(np.result_type(out, np.complex64)) if complex else out.real.copy()


def check_method(method: str, name: str = "shiftmeth") -> ShiftMethod:
    """Return the name of a method of shifting, or say which there are."""
    if method not in METHODS:
        raise ValueError(f"{name} must be one of {', '.join(METHODS)}; not {method!r}")
    return method


def check_pad_mode(padmode: str) -> str:
    """Return the name of a mode of `numpy.pad`, or say which there are."""
    if padmode not in PAD_MODES:
        raise ValueError(f"padmode must be one of {', '.join(PAD_MODES)}; not {padmode!r}")
    return padmode


def shift_array(
    array: NDArray[Any], shift: Any, method: ShiftMethod, padmode: str = "reflect"
) -> NDArray[Any]:
    """Shift a floating-point array of one or two dimensions along each of its axes; arguments are not checked."""
    if method == "linear":
        return _shift_linear(array, shift)
    out = array
    # The last axis first: whole rows are quickest, and the order makes no difference to the result but for rounding.
    for axis in range(array.ndim - 1, -1, -1):
        out = shift_axis(out, float(shift[axis]), axis, method, padmode)
    return out.copy() if out is array else out


def shift_axis(
    array: NDArray[Any], shift: float, axis: int, method: ShiftMethod, padmode: str = "reflect"
) -> NDArray[Any]:
    """Shift along one axis; returns the array itself where the shift is zero."""
    if shift == 0.0:
        return array
    if method == "spline":
        return _spline_axis(array, shift, axis, padmode)
    if method == "linear":
        moves = np.zeros(array.ndim)
        moves[axis] = shift
        return _shift_linear(array, moves)
    whole = round(shift)
    part = shift - whole
    moved = array if part == 0.0 else _fourier_axis(array, part, axis, padmode)
    return np.roll(moved, -whole, axis)


def _shift_linear(array: NDArray[Any], shift: Any) -> NDArray[Any]:
    """Bilinear shift of a signal or an image."""
    plane = np.ascontiguousarray(np.atleast_2d(array))
    moves = np.zeros(2)
    moves[2 - array.ndim :] = shift
    whole = np.floor(moves)
    part = (moves - whole).astype(array.real.dtype)
    first = whole.astype(np.int64) % plane.shape
    out = np.empty_like(plane)
    _bilinear(plane, first[0], first[1], part[0], part[1], out)
    return out.reshape(array.shape)


@njit(cache=True, nogil=True)
def _mix(a: Any, b: Any, part: Any, out: Any) -> None:  # pragma: no cover - compiled
    # Where the share is 0, the other one has no say: 0 times infinity is none.
    if part == 0.0:
        out[:] = a
    else:
        rest = type(part)(1.0) - part
        for x in range(out.size):
            out[x] = rest * a[x] + part * b[x]


@njit(cache=True, nogil=True)
def _bilinear(
    plane: Any, y0: int, x0: int, fy: Any, fx: Any, out: Any
) -> None:  # pragma: no cover - compiled
    """Every row mixed with the next one, then every pixel with the next one, circularly from ``(y0, x0)`` on."""
    rows, columns = plane.shape
    row = np.empty(columns, plane.dtype)
    left = columns - x0
    for y in range(rows):
        _mix(plane[(y + y0) % rows], plane[(y + y0 + 1) % rows], fy, row)
        _mix(row[x0 : columns - 1], row[x0 + 1 :], fx, out[y, : left - 1])
        _mix(row[columns - 1 :], row[:1], fx, out[y, left - 1 : left])
        _mix(row[:x0], row[1 : x0 + 1], fx, out[y, left:])


@lru_cache(maxsize=64)
def _continued(size: int, before: int, after: int, padmode: str) -> NDArray[np.int64]:
    """Where the samples of a continued signal are found in it."""
    return np.pad(np.arange(size), (before, after), mode=padmode)  # type: ignore[call-overload]


def pad_axis(array: NDArray[Any], before: int, after: int, axis: int, padmode: str) -> NDArray[Any]:
    """Continue an array beyond both ends of one axis."""
    if padmode in _BY_INDEX:
        return np.take(array, _continued(array.shape[axis], before, after, padmode), axis)
    widths = [(0, 0)] * array.ndim
    widths[axis] = (before, after)
    return np.pad(array, widths, mode=padmode)  # type: ignore[call-overload]


@lru_cache(maxsize=64)
def _fade(gap: int) -> NDArray[np.float64]:
    """From 1 to 0 over the samples between the end of a signal and its beginning one period later."""
    fade: NDArray[np.float64] = 0.5 + 0.5 * np.cos(np.pi * (np.arange(gap) + 0.5) / gap)
    return fade


def make_periodic(array: NDArray[Any], axis: int, padmode: str = "reflect") -> NDArray[Any]:
    """Continue an array to a fast length for the FFT so that its end goes over into its beginning smoothly.

    The samples that are added lie behind the end: the signal as it goes on there, faded into what comes before its beginning.
    """
    size = array.shape[axis]
    if padmode == "wrap":
        return array
    real = not np.iscomplexobj(array)
    gap = int(scipy.fft.next_fast_len(size + _BLEND, real=real)) - size
    both = pad_axis(array, gap, gap, axis, padmode)
    parts = np.moveaxis(both, axis, 0)
    shape = (gap,) + (1,) * (array.ndim - 1)
    fade = _fade(gap).astype(array.real.dtype).reshape(shape)
    parts[gap + size :] = fade * parts[gap + size :] + (1 - fade) * parts[:gap]
    return np.moveaxis(parts[gap:], 0, axis)


@lru_cache(maxsize=64)
def _frequencies(size: int, real: bool) -> NDArray[np.float64]:
    """Angular frequencies, radians per sample."""
    freq = scipy.fft.rfftfreq(size) if real else scipy.fft.fftfreq(size)
    angular: NDArray[np.float64] = 2 * np.pi * freq
    return angular


def phase_ramp(size: int, shift: Any, real: bool = True) -> NDArray[np.complex128]:
    """``exp(i w s)`` at the frequencies of an FFT of `size` samples, real at Nyquist's; shifts broadcast before them."""
    angles = np.asarray(shift, dtype=np.float64)[..., None] * _frequencies(size, real)
    ramp: NDArray[np.complex128] = np.exp(1j * angles)
    if size % 2 == 0:
        ramp[..., size // 2] = ramp[..., size // 2].real
    return ramp


def _fourier_axis(array: NDArray[Any], part: float, axis: int, padmode: str) -> NDArray[Any]:
    """Shift by less than a pixel in the Fourier domain."""
    size = array.shape[axis]
    periodic = make_periodic(array, axis, padmode)
    length = periodic.shape[axis]
    real = not np.iscomplexobj(array)
    spectrum = (scipy.fft.rfft if real else scipy.fft.fft)(periodic, axis=axis)
    shape = [1] * array.ndim
    shape[axis] = -1
    spectrum *= phase_ramp(length, part, real).astype(spectrum.dtype).reshape(shape)
    if real:
        moved = scipy.fft.irfft(spectrum, n=length, axis=axis, overwrite_x=True)
    else:
        moved = scipy.fft.ifft(spectrum, axis=axis, overwrite_x=True)
    return np.moveaxis(np.moveaxis(moved, axis, 0)[:size], 0, axis)


def _spline_axis(array: NDArray[Any], shift: float, axis: int, padmode: str) -> NDArray[Any]:
    """Shift by a cubic spline through the samples of the continued signal."""
    size = array.shape[axis]
    whole = int(np.floor(shift))
    before = max(0, -whole) + _SPLINE_REACH
    after = max(0, whole) + _SPLINE_REACH
    wide = np.moveaxis(pad_axis(array, before, after, axis, padmode), axis, 0)
    first = before + whole
    t = shift - whole
    if t == 0.0:
        out = wide[first : first + size].copy()
    else:
        coefficients = ndi.spline_filter1d(wide, 3, axis=0, output=wide.dtype, mode="mirror")
        weights = (
            (1 - t) ** 3 / 6,
            2 / 3 - t**2 + t**3 / 2,
            2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2,
            t**3 / 6,
        )
        out = np.zeros_like(wide[:size])
        for k, weight in enumerate(weights, first - 1):
            out += array.real.dtype.type(weight) * coefficients[k : k + size]
    return np.moveaxis(out, 0, axis)
