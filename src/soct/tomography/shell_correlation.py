"""How alike two images or volumes of one thing are, frequency by frequency: the correlation of Fourier shells (rings).

Where two independent measurements correlate, they show the thing; where they do not, noise. The frequency at which the correlation
falls below a threshold is the resolution (Harauz and van Heel, Optik 73, 1986). The thresholds of half a bit and one bit of
information per value are those of van Heel and Schatz (J. Struct. Biol. 151, 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

FloatVector = NDArray[np.float64]
Window = Literal["hann", "tukey", "none"]
Part = Literal["all", "along", "across"]
CRITERIA = ("half-bit", "one-bit", "1/7")
# Independent values that a shell must hold to be judged.
_FEWEST = 8.0
_WIDTH = {"hann": 1.0, "tukey": 0.25, "none": 0.0}


@dataclass(frozen=True)
class Crossing:
    """Where a correlation falls below a threshold.

    Attributes
    ----------
    frequency : float
        Per length; the highest frequency measured where it never falls below, NaN where it is never above.
    resolution : float
        The length, 1 / `frequency`.
    is_crossed : bool
        False: it never falls below, or never rises above.
    """

    frequency: float
    resolution: float
    is_crossed: bool


@dataclass(frozen=True)
class ShellCorrelation:
    """The correlation of Fourier shells.

    Attributes
    ----------
    frequencies : ndarray (m,)
        Mean frequency of each shell, cycles per length.
    correlation : ndarray (m,)
        -1 to 1.
    counts : ndarray (m,)
        Independent real numbers in each shell: its values, as far as a window has not made neighbours alike.
    thresholds : dict of ndarray (m,)
        ``half-bit``, ``one-bit`` and ``1/7``.
    crossings : dict of Crossing
        Where the correlation falls below each, to stay there for two shells.
    notices : tuple of str
        What a user must know about it.
    """

    frequencies: FloatVector
    correlation: FloatVector
    counts: FloatVector
    thresholds: dict[str, FloatVector]
    crossings: dict[str, Crossing]
    notices: tuple[str, ...] = ()

    def resolution(self, criterion: str = "half-bit") -> float:
        """Return the length at which the correlation falls below a threshold; NaN where it is never above."""
        return self.crossings[criterion].resolution


def fourier_shell_correlation(
    volume1: ArrayLike,
    volume2: ArrayLike,
    *,
    voxel_size: float | Sequence[float] = 1.0,
    window: Window = "hann",
    part: Part = "all",
    axis: int = 0,
    cone_deg: float = 30.0,
) -> ShellCorrelation:
    """Correlate two images or volumes of one thing shell by shell of their spectra.

    Parameters
    ----------
    volume1, volume2 : array_like (y, x) or (z, y, x)
        Of one shape, aligned to each other, noise independent.
    voxel_size : float or sequence of float
        Length of a pixel or voxel along each axis; frequencies are per this length.
    window : {"hann", "tukey", "none"}
        The edges fade with a cosine over the whole array, over an eighth at each side, or not at all.
    part : {"all", "along", "across"}
        All directions; those within `cone_deg` of an axis; or those within `cone_deg` of the plane across it.
    axis : int
        Which axis `part` is about.
    cone_deg : float
        Half opening, degrees.

    Returns
    -------
    ShellCorrelation

    Raises
    ------
    ValueError
        Arrays that differ in shape, are not two- or three-dimensional, not finite, or without contrast.
    """
    first, second = (_checked(v, name) for v, name in ((volume1, "volume1"), (volume2, "volume2")))
    if first.shape != second.shape:
        raise ValueError(f"volume1 and volume2 differ in shape: {first.shape} and {second.shape}")
    shells = Shells(first.shape, voxel_size, window=window, part=part, axis=axis, cone_deg=cone_deg)
    a, b = shells.spectrum(first), shells.spectrum(second)
    cross = shells.sums((a * b.conj()).real)
    energy = shells.sums(np.abs(a) ** 2) * shells.sums(np.abs(b) ** 2)
    correlation = cross / np.sqrt(np.maximum(energy, 1e-300))
    return judge(shells.frequencies, correlation, shells.counts)


def _checked(volume: ArrayLike, name: str) -> NDArray[Any]:
    array = np.asarray(volume)
    if array.ndim not in (2, 3) or min(array.shape) < 4:
        raise ValueError(
            f"{name} must be (y, x) or (z, y, x) with at least 4 values along each axis; its shape is {array.shape}"
        )
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} must hold real numbers, not {array.dtype}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; it has {int((~np.isfinite(array)).sum())} values that are not")  # fmt: skip
    if not np.ptp(array):
        raise ValueError(f"{name} has no contrast: all its values are {array.flat[0]:g}")
    return array


class Shells:
    """Shells of the spectra of arrays of one shape.

    Parameters
    ----------
    shape : tuple of int
    voxel_size, window, part, axis, cone_deg
        As in `fourier_shell_correlation`.

    Attributes
    ----------
    frequencies, counts : ndarray (m,)
        Mean frequency and number of independent real numbers of each shell, the lowest first, without 0.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        voxel_size: float | Sequence[float] = 1.0,
        *,
        window: Window = "hann",
        part: Part = "all",
        axis: int = 0,
        cone_deg: float = 30.0,
    ) -> None:
        if window not in _WIDTH:
            raise ValueError(f'window must be "hann", "tukey" or "none", not {window!r}')
        if part not in ("all", "along", "across"):
            raise ValueError(f'part must be "all", "along" or "across", not {part!r}')
        if not 0 < cone_deg <= 90:
            raise ValueError(f"cone_deg must be more than 0 and at most 90, not {cone_deg!r}")
        size = np.broadcast_to(np.asarray(voxel_size, float), len(shape))
        if not (np.isfinite(size).all() and (size > 0).all()):
            raise ValueError(f"voxel_size must be positive, not {voxel_size!r}")
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"axis must be one of the {len(shape)} axes, not {axis!r}")
        self.window = _windows(shape, _WIDTH[window])
        self._bin(shape, size, part, axis % len(shape), np.deg2rad(cone_deg))

    def _bin(
        self, shape: tuple[int, ...], size: FloatVector, part: Part, axis: int, cone: float
    ) -> None:
        along = [scipy.fft.fftfreq(n, d) for n, d in zip(shape, size, strict=True)]
        along[-1] = scipy.fft.rfftfreq(shape[-1], size[-1])
        grid = np.meshgrid(*along, indexing="ij", sparse=True)
        radius = np.sqrt(sum(g * g for g in grid))
        axes = [axis] if part == "along" else [a for a in range(len(shape)) if part == "all" or a != axis]  # fmt: skip
        nyquist = min(0.5 / size[a] for a in axes)
        step = max(1 / (shape[a] * size[a]) for a in axes)
        index = np.rint(radius / step).astype(np.int64)
        if part != "all":
            lean = np.abs(grid[axis]) >= np.cos(cone) * radius if part == "along" else np.abs(grid[axis]) <= np.sin(cone) * radius  # fmt: skip
            index = np.where(lean, index, 0)
        index[(radius > nyquist * (1 + 1e-9))] = 0
        # Each value of the half that is stored stands for itself and its mirror image, but for those at both ends.
        weight = np.full(radius.shape, 2.0)
        weight[..., 0] = 1.0
        if shape[-1] % 2 == 0:
            weight[..., -1] = 1.0
        count = np.bincount(index.ravel(), weight.ravel())
        self._kept = np.flatnonzero(count > 0)
        self._kept = self._kept[self._kept > 0]
        if len(self._kept) < 2:
            raise ValueError(f"An array of shape {shape} has fewer than two shells in this part")
        self._index, self._weight = index.ravel(), weight.ravel()
        kept = count[self._kept].astype(np.float64)
        self.frequencies: FloatVector = self.sums(radius) / kept
        self.counts: FloatVector = kept * _independent(self.window)

    def sums(self, values: NDArray[Any]) -> FloatVector:
        """Sum values of a half spectrum over each shell."""
        total = np.bincount(self._index, self._weight * values.ravel())
        return np.asarray(total[self._kept], np.float64)

    def spectrum(self, array: NDArray[Any]) -> NDArray[np.complex128]:
        """Return the half spectrum of an array, its mean taken out, its edges faded."""
        values = np.asarray(array, np.float64)
        weight = _outer(self.window)
        mean = float((values * weight).sum() / weight.sum())
        spectrum: NDArray[np.complex128] = scipy.fft.rfftn((values - mean) * weight)
        return spectrum


def _windows(shape: tuple[int, ...], width: float) -> list[FloatVector]:
    """Return a window along each axis: a cosine over half of `width` at each end."""
    windows = []
    for n in shape:
        away = (np.minimum(np.arange(n), np.arange(n)[::-1]) + 0.5) / n
        edge = np.clip(away / (0.5 * width), 0, 1) if width else np.ones(n)
        windows.append(0.5 - 0.5 * np.cos(np.pi * edge))
    return windows


def _outer(windows: list[FloatVector]) -> FloatVector:
    weight = np.ones(())
    for w in windows:
        weight = weight[..., None] * w
    return weight


def _independent(windows: list[FloatVector]) -> float:
    """Return which part of the values of a shell is independent, once windows have blurred the spectrum.

    A shell is as thick as two frequencies lie apart, so that only neighbours within it, not those across it, are alike.
    """
    blur = np.prod([(w**2).sum() ** 2 / (len(w) * (w**4).sum()) for w in windows])
    return float(blur ** ((len(windows) - 1) / len(windows)))


def thresholds(counts: FloatVector) -> dict[str, FloatVector]:
    """Return the thresholds for shells of so many independent values.

    Van Heel and Schatz (2005): the correlation at which the two arrays together hold half a bit, or one, of
    information per value.
    """
    root = np.sqrt(np.maximum(counts, 1.0))
    return {
        "half-bit": (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root),
        "one-bit": (0.5 + 2.4142 / root) / (1.5 + 1.4142 / root),
        "1/7": np.full(len(counts), 1 / 7),
    }


def judge(
    frequencies: FloatVector,
    correlation: FloatVector,
    counts: FloatVector,
    notices: Sequence[str] = (),
) -> ShellCorrelation:
    """Find where a correlation crosses its thresholds, and say what that means."""
    limits = thresholds(counts)
    # The first shells may hold too few values to tell anything: their threshold is 1.
    told_by = counts >= min(_FEWEST, float(counts.max()))
    crossings = {
        name: _cross(frequencies[told_by], (correlation - limit)[told_by])
        for name, limit in limits.items()
    }
    told = list(notices)
    never = [n for n, c in crossings.items() if not c.is_crossed and np.isfinite(c.frequency)]
    if never:
        told.append(
            f"The correlation never falls below {' and '.join(never)}: the resolution is finer than "
            f"{1 / frequencies[-1]:.4g}, the limit that two voxels set"
        )
    lost = [n for n, c in crossings.items() if np.isnan(c.frequency)]
    if lost:
        told.append(
            f"The correlation is never above {' and '.join(lost)}: the two have nothing in common, or are not aligned"
        )
    return ShellCorrelation(frequencies, correlation, counts, limits, crossings, tuple(told))


def _cross(frequencies: FloatVector, excess: FloatVector) -> Crossing:
    below = excess < 0
    if below[: max(2, len(below) // 20)].all():
        return Crossing(float("nan"), float("nan"), False)
    # Shells of few values may fall below by chance: two in a row, or the last one, count.
    stays = below & np.append(below[1:], True)
    at = np.flatnonzero(stays & (np.cumsum(~below) > 0))
    if not at.size:
        return Crossing(float(frequencies[-1]), float(1 / frequencies[-1]), False)
    k = int(at[0])
    share = excess[k - 1] / (excess[k - 1] - excess[k])
    where = float(frequencies[k - 1] + share * (frequencies[k] - frequencies[k - 1]))
    return Crossing(where, 1 / where, True)
