"""What both axis pickers show: the slice that an axis gives, and a pair of opposite projections laid over each other.

A wrong axis splits every point of a slice into a crescent, and sets the mirrored projection beside the other one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.errors import ExitCode, UsageError, UserError
from soct.geometry.resampling import average_boxes
from soct.report.images import robust_window
from soct.space import FloatArray

View = Literal["slice", "pair"]
SIDE = 384
"""Longest side of a preview in pixels: a slice of this size is there in an instant."""
_PAIR_ROWS = 4
_OPPOSITE = np.radians(5.0)


class PickCancelledError(UserError):
    """Whoever was asked for the axis wanted none."""

    exit_code = ExitCode.INTERRUPTED


@dataclass
class AxisPreview:
    """A sinogram and a pair of projections, small enough to follow a slider. Use `prepare`.

    Attributes
    ----------
    cols : int
        Detector pixels of the stack; axes are given in these.
    sinogram : float32 ndarray (n, m)
        Reduced along the detector.
    radians : float64 ndarray (n,)
    pair : (ndarray, ndarray) or None
        Projections ``(rows, m)`` half a turn apart, the second mirrored; None where there is none, or one row alone.
    """

    cols: int
    sinogram: FloatArray
    radians: NDArray[np.float64]
    pair: tuple[FloatArray, FloatArray] | None
    _window: tuple[float, float] | None = field(default=None, repr=False)

    @property
    def factor(self) -> float:
        """Detector pixels of the stack per pixel of the preview."""
        return self.cols / self.sinogram.shape[1]

    def _reduced(self, axis: float) -> float:
        """Return the axis in pixels of the preview; centres of first pixels are half a pixel from the edge."""
        return (axis + 0.5) / self.factor - 0.5

    def slice_at(self, axis: float) -> NDArray[np.uint8]:
        """Return the slice that an axis gives, 8 bits."""
        from soct.tomography import reconstruct_slice

        image = np.asarray(
            reconstruct_slice(self.sinogram.T, self.radians, axis=self._reduced(axis), theta_unit="rad")
        )  # fmt: skip
        if self._window is None:
            self._window = robust_window(image, low=1.0, high=99.8)
        return _grey(image, self._window)

    def pair_at(self, axis: float) -> NDArray[np.uint8]:
        """Return opposite projections as green and magenta, ``(rows, m, 3)``; where they agree they are grey.

        Raises
        ------
        UsageError
            There is no such pair.
        """
        if self.pair is None:
            raise UsageError(
                "There are no two projections half a turn apart to lay over each other"
            )
        first, second = self.pair
        window = robust_window(first, second)
        # Mirrored about the axis: u goes to 2 axis - u, and the second is mirrored about its middle already.
        moved = 2 * self._reduced(axis) - (first.shape[1] - 1)
        at = np.arange(first.shape[1]) - moved
        shifted = np.stack([np.interp(at, np.arange(len(line)), line) for line in second])
        green, magenta = _grey(first, window), _grey(shifted.astype(np.float32), window)
        return np.stack([magenta, green, magenta], axis=2)

    def draw(self, axis: float, view: View) -> NDArray[np.uint8]:
        """Return what one of the views shows."""
        return self.slice_at(axis) if view == "slice" else self.pair_at(axis)

    @property
    def views(self) -> tuple[View, ...]:
        """What can be shown."""
        return ("slice",) if self.pair is None else ("slice", "pair")

    def clip(self, axis: float) -> float:
        """Return the axis, kept on the detector, to a hundredth of a pixel."""
        return round(min(max(float(axis), 0.0), self.cols - 1.0), 2)


def _grey(image: FloatArray, window: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = window
    return np.asarray(np.clip((image - low) / max(high - low, 1e-30), 0, 1) * 255 + 0.5, np.uint8)


def prepare(stack: ArrayLike, radians: ArrayLike) -> AxisPreview:
    """Reduce a stack or a sinogram to what a picker shows.

    Parameters
    ----------
    stack : array (n, rows, cols), or (detector, angle)
        A stack of projections (its middle row is shown), or one sinogram.
    radians : array_like (n,)

    Raises
    ------
    ValueError
        The shapes do not fit.
    """
    data = np.asarray(stack, np.float32)
    theta = np.asarray(radians, np.float64)
    if data.ndim == 2:
        data = data.T[:, None]
    if data.ndim != 3 or len(data) != len(theta):
        raise ValueError(
            f"{data.shape} and {len(theta)} angles are no stack (n, rows, cols) or sinogram (detector, angle) with its angles"
        )
    cols = data.shape[2]
    rows = np.ascontiguousarray(data[:, data.shape[1] // 2])
    width = min(cols, SIDE)
    sinogram = rows if width == cols else average_boxes(rows, (len(rows), width))
    return AxisPreview(cols, sinogram, theta, _opposite(data, theta, width))


def _opposite(
    data: FloatArray, theta: NDArray[np.float64], width: int
) -> tuple[FloatArray, FloatArray] | None:
    """Find the two projections that are nearest to half a turn apart."""
    if data.shape[1] < _PAIR_ROWS:
        return None
    apart = np.abs((theta[None] - theta[:, None]) % (2 * np.pi) - np.pi)
    i, j = (int(k) for k in np.unravel_index(int(np.argmin(apart)), apart.shape))
    if apart[i, j] > _OPPOSITE:
        return None
    shape = (min(data.shape[1], SIDE), width)
    first, second = (
        image if image.shape == shape else average_boxes(np.ascontiguousarray(image), shape)
        for image in (data[i], data[j])
    )
    return first, second[:, ::-1].copy()
