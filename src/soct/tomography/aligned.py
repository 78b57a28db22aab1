"""Aligned stacks and sinograms: every projection shifted by its own shift, ``aligned[k] = measured[k + s]``.

Planes are shifted one by one, by as many threads as numba kernels may use: beside input and output no more is held than a few
planes, and the result does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numba
import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from soct.tomography.projections import (
    Stack,
    as_floating,
    as_shiftslice,
    as_shiftstack,
    as_stack,
    check_sinogram,
    floating_dtype,
    plane_of,
)
from soct.tomography.shifts import (
    ShiftMethod,
    check_method,
    check_pad_mode,
    make_periodic,
    phase_ramp,
    shift_array,
    shift_axis,
)

Progress = Callable[[int, int], None]


def compute_aligned_stack(
    stack: Stack,
    shiftstack: ArrayLike,
    shift_method: ShiftMethod = "fourier",
    *,
    padmode: str = "reflect",
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Shift every projection of a stack, vertically and horizontally.

    Parameters
    ----------
    stack : (n, rows, cols)
        An array, or what hands out planes (an HDF5 dataset).
    shiftstack : array_like (2, n)
        Vertical and horizontal, pixels.
    shift_method : {"fourier", "linear", "spline"}
        See `soct.tomography.ShiftFunc`.
    padmode : str
        How projections go on beyond their edges, a mode of `numpy.pad`.
    out : ndarray (n, rows, cols), optional
        Where the result is written; may be `stack` itself.
    progress : callable, optional
        Called with the number of planes done and their total.

    Returns
    -------
    ndarray (n, rows, cols)
        `out`, or a new array: float32 of float32 and of whole numbers of up to 16 bits, else float64.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN in the projections or shifts, an unknown method.
    """
    stack = as_stack(stack, complex_too=True)
    shifts = as_shiftstack(shiftstack, len(stack))
    return _shift_planes(stack, shifts, shift_method, padmode, out, progress)


def compute_aligned_horizontal(
    stack: Stack,
    shiftstack: ArrayLike,
    shift_method: ShiftMethod = "fourier",
    *,
    padmode: str = "reflect",
    out: NDArray[Any] | None = None,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Shift every projection of a stack along its rows only.

    Parameters are those of `compute_aligned_stack`; of `shiftstack`, only the horizontal row counts.
    """
    stack = as_stack(stack, complex_too=True)
    shifts = as_shiftstack(shiftstack, len(stack))
    shifts[0] = 0.0
    return _shift_planes(stack, shifts, shift_method, padmode, out, progress)


def compute_aligned_sino(
    sino: ArrayLike,
    shiftslice: ArrayLike,
    shift_method: ShiftMethod = "fourier",
    *,
    padmode: str = "reflect",
) -> NDArray[Any]:
    """Shift every column of a sinogram.

    Parameters
    ----------
    sino : array_like (detector, n)
    shiftslice : array_like (n,) or (1, n)
        Horizontal shifts, pixels. Of a whole shiftstack (2, n), the horizontal row is taken.
    shift_method : {"fourier", "linear", "spline"}
        See `soct.tomography.ShiftFunc`.
    padmode : str
        How the columns go on beyond their ends, a mode of `numpy.pad`.

    Returns
    -------
    ndarray (detector, n)

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, an unknown method.
    """
    sinogram = check_sinogram(sino, "sino", complex_too=True)
    shifts = as_shiftslice(shiftslice, sinogram.shape[1])
    method, padmode = check_method(shift_method, "shift_method"), check_pad_mode(padmode)
    rows = np.ascontiguousarray(sinogram.T)
    return np.ascontiguousarray(shift_signals(rows, shifts, method, padmode).T)


def shift_signals(
    signals: NDArray[Any],
    shifts: NDArray[np.float64],
    method: ShiftMethod = "fourier",
    padmode: str = "reflect",
) -> NDArray[Any]:
    """Shift every row of ``(n, samples)`` by its own shift; as `shift_axis`, all rows at once."""
    size = signals.shape[1]
    if not np.any(shifts):
        return signals.copy()
    if method == "spline":
        moved = [
            shift_axis(row, float(s), 0, method, padmode)
            for row, s in zip(signals, shifts, strict=True)
        ]
        return np.stack(moved)
    whole = np.floor(shifts) if method == "linear" else np.round(shifts)
    part = shifts - whole
    places = (np.arange(size) + whole.astype(np.int64)[:, None]) % size
    if method == "linear":
        share = part.astype(signals.real.dtype)[:, None]
        near = np.take_along_axis(signals, places, 1)
        far = np.take_along_axis(signals, (places + 1) % size, 1)
        # Where the share is 0, the neighbour has no say: 0 times infinity is none.
        return np.where(share == 0, near, (1 - share) * near + share * far)
    periodic = make_periodic(signals, 1, padmode)
    length = periodic.shape[1]
    if np.iscomplexobj(signals):
        spectra = scipy.fft.fft(periodic, axis=1)
        spectra *= phase_ramp(length, part, real=False).astype(spectra.dtype)
        moved = scipy.fft.ifft(spectra, axis=1, overwrite_x=True)
    else:
        spectra = scipy.fft.rfft(periodic, axis=1)
        spectra *= phase_ramp(length, part).astype(spectra.dtype)
        moved = scipy.fft.irfft(spectra, n=length, axis=1, overwrite_x=True)
    exact = part == 0.0
    moved[exact, :size] = signals[exact]
    return np.take_along_axis(moved, places, 1)


def _shift_planes(
    stack: Stack,
    shifts: NDArray[np.float64],
    shift_method: ShiftMethod,
    padmode: str,
    out: NDArray[Any] | None,
    progress: Progress | None,
) -> NDArray[Any]:
    shape = tuple(stack.shape)
    dtype = floating_dtype(np.dtype(stack.dtype))
    method, padmode = check_method(shift_method, "shift_method"), check_pad_mode(padmode)
    if out is None:
        out = np.empty(shape, dtype)
    elif out.shape != shape or not np.can_cast(dtype, out.dtype, "same_kind"):
        raise ValueError(
            f"out must be an array of {dtype} with the shape {shape}; it is of {out.dtype} with the shape {out.shape}"
        )
    target = out

    def shift_plane(k: int) -> None:
        plane = as_floating(plane_of(stack, k))
        target[k] = shift_array(plane, shifts[:, k], method, padmode)

    n = shape[0]
    with ThreadPoolExecutor(max(1, min(n, numba.get_num_threads()))) as pool:
        tasks = [pool.submit(shift_plane, k) for k in range(n)]
        try:
            for done, task in enumerate(as_completed(tasks), 1):
                task.result()
                if progress is not None:
                    progress(done, n)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return target
