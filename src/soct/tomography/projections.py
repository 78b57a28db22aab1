"""What a stack, a sinogram and their shifts must look like, checked once, with messages that say what was found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Stack = Any
"""An array ``(n, rows, cols)``, or whatever has ``shape`` and ``dtype`` and hands out planes by ``stack[k]`` (an HDF5 dataset)."""


def as_stack(stack: Any, name: str = "stack", *, complex_too: bool = False) -> Stack:
    """Return a stack of projections ``(n, rows, cols)`` as it is; lists become arrays."""
    if not (hasattr(stack, "dtype") and hasattr(stack, "shape")):
        stack = np.asarray(stack)
    shape = tuple(stack.shape)
    if len(shape) != 3:
        raise ValueError(
            f"{name} must have three dimensions, (n, rows, cols); this one has the shape {shape}"
        )
    if min(shape) == 0:
        raise ValueError(f"{name} must hold at least one pixel; this one has the shape {shape}")
    _check_real(floating_dtype(np.dtype(stack.dtype)), name, complex_too)
    return stack


def _check_real(dtype: np.dtype[Any], name: str, complex_too: bool) -> None:
    if dtype.kind == "c" and not complex_too:
        raise ValueError(
            f"{name} must be real, not {dtype}: of complex projections, give the phase (unwrapped) or minus the logarithm of the amplitude"
        )


def plane_of(stack: Stack, k: int, name: str = "stack") -> NDArray[Any]:
    """Projection `k` as an array, checked to be finite."""
    plane = np.asarray(stack[k])
    # A sum is finite where all its terms are, but for overflow: the count is made only where it is not.
    if plane.dtype.kind in "fc" and not np.isfinite(plane.sum(dtype=_wide(plane.dtype))):
        bad = int((~np.isfinite(plane)).sum())
        if bad:
            raise ValueError(
                f"{name} must be finite; projection {k} has {bad} NaN or infinite pixels of {plane.size}"
            )
    return plane


def _wide(dtype: np.dtype[Any]) -> type:
    return np.complex128 if dtype.kind == "c" else np.float64


def check_sinogram(
    sinogram: ArrayLike, name: str = "sinogram", *, complex_too: bool = False
) -> NDArray[Any]:
    """Return a sinogram ``(detector, angle)`` as an array of finite floating-point numbers."""
    array = np.asarray(sinogram)
    if array.ndim != 2 or min(array.shape) == 0:
        raise ValueError(
            f"{name} must have two dimensions, (detector, angle); this one has the shape {array.shape}"
        )
    array = as_floating(array)
    _check_real(array.dtype, name, complex_too)
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ValueError(f"{name} must be finite; it has {bad} NaN or infinite values")
    return array


def as_shiftstack(
    shiftstack: ArrayLike | None, n: int, name: str = "shiftstack"
) -> NDArray[np.float64]:
    """Return shifts ``(2, n)``, vertical and horizontal, as a float64 copy; None is no shift."""
    if shiftstack is None:
        return np.zeros((2, n))
    shifts = np.array(shiftstack, dtype=np.float64)
    if shifts.shape != (2, n):
        raise ValueError(
            f"{name} must have the shape (2, {n}), vertical and horizontal shifts of {n} projections; "
            f"this one has the shape {shifts.shape}"
        )
    _check_finite(shifts, name)
    return shifts


def as_shiftslice(shiftslice: ArrayLike, n: int, name: str = "shiftslice") -> NDArray[np.float64]:
    """Return the horizontal shifts ``(n,)``, given as ``(n,)``, ``(1, n)`` or a whole shiftstack ``(2, n)``."""
    shifts = np.array(shiftslice, dtype=np.float64)
    if shifts.shape in ((1, n), (2, n)):
        shifts = shifts[-1]
    if shifts.shape != (n,):
        raise ValueError(
            f"{name} must have the shape ({n},) or (1, {n}), one shift per projection; "
            f"this one has the shape {shifts.shape}"
        )
    _check_finite(shifts, name)
    return shifts


def _check_finite(shifts: NDArray[np.float64], name: str) -> None:
    bad = np.flatnonzero(~np.isfinite(np.atleast_2d(shifts)).all(axis=0))
    if bad.size:
        raise ValueError(
            f"{name} must be finite; that of projection {bad[0]} is not ({bad.size} projections in all)"
        )


def as_floating(array: NDArray[Any]) -> NDArray[Any]:
    """Return real or complex numbers of single or double precision: whole ones as the floats that hold them."""
    return array.astype(floating_dtype(array.dtype), copy=False)


def real_floating(array: ArrayLike) -> NDArray[Any]:
    """Return an array of real numbers as floats (`as_floating`)."""
    values = np.asarray(array)
    if values.dtype.kind == "c":
        raise ValueError(
            f"projections must be real, not {values.dtype}: of complex ones, give the phase (unwrapped) or minus the logarithm of the "
            "amplitude"
        )
    return as_floating(values)


def floating_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return float32 for float32 and whole numbers of up to 16 bits, float64 for longer ones, complex for complex."""
    if dtype.kind not in "buifc":
        raise ValueError(f"Images must be numbers, not {dtype}")
    return np.result_type(dtype, np.float32)
