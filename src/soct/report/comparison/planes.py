"""Two pictures of other sizes laid on one grid, by micrometres, so that they can be shown in turn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAX_SIDE = 3000
"""Cells of the common grid along a side; more would not be seen and would cost memory."""


@dataclass(frozen=True)
class Plane:
    """A picture and where it lies.

    Attributes
    ----------
    array : ndarray (rows, columns)
    pixel_um : (float, float)
    first_um : (float, float)
        Outer edge of the first pixel, in the frame in which the pictures are compared.
    """

    array: NDArray[np.float32]
    pixel_um: tuple[float, float]
    first_um: tuple[float, float]


def centred(array: NDArray[np.float32], pixel_um: tuple[float, float]) -> Plane:
    """Return a picture whose middle lies at 0."""
    first = tuple(-0.5 * n * p for n, p in zip(array.shape, pixel_um, strict=True))
    return Plane(array, pixel_um, (first[0], first[1]))


def common_grid(
    this: Plane, other: Plane
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[float, float]]:
    """Lay two pictures on the grid that holds both, in the finer pixels of the two.

    No value is interpolated: each cell takes the pixel that it lies in; NaN where a picture has none. Pictures
    of one size and place come back as they are.

    Returns
    -------
    this, other : ndarray (rows, columns)
    pixel_um : (float, float)
    """
    if (
        this.array.shape == other.array.shape
        and this.pixel_um == other.pixel_um
        and np.allclose(this.first_um, other.first_um, atol=0.25 * min(this.pixel_um))
    ):
        return this.array, other.array, this.pixel_um
    rows, columns = _axis(this, other, 0), _axis(this, other, 1)
    return (
        _take(this.array, rows.this, columns.this),
        _take(other.array, rows.other, columns.other),
        (rows.cell_um, columns.cell_um),
    )


@dataclass(frozen=True)
class _Axis:
    """For each cell of the common grid, the pixel of either picture, -1 for none."""

    this: NDArray[np.intp]
    other: NDArray[np.intp]
    cell_um: float


def _axis(this: Plane, other: Plane, axis: int) -> _Axis:
    planes = (this, other)
    low = min(p.first_um[axis] for p in planes)
    high = max(p.first_um[axis] + p.array.shape[axis] * p.pixel_um[axis] for p in planes)
    cell = max(min(p.pixel_um[axis] for p in planes), (high - low) / _MAX_SIDE)
    centres = low + (np.arange(max(1, round((high - low) / cell))) + 0.5) * cell
    pixels = []
    for plane in planes:
        at = np.floor((centres - plane.first_um[axis]) / plane.pixel_um[axis]).astype(np.intp)
        pixels.append(np.where((at >= 0) & (at < plane.array.shape[axis]), at, -1))
    return _Axis(pixels[0], pixels[1], cell)


def _take(
    array: NDArray[np.float32], rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float32]:
    laid = np.asarray(array, np.float32)[np.ix_(rows, columns)]
    laid[rows < 0, :] = np.nan
    laid[:, columns < 0] = np.nan
    return laid
