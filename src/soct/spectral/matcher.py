"""How far two images are apart around a pair of points: the SWIM method, on windows of any size.

Windows are cut around both points, the first is apodised, and their cross spectrum ``C = F conj(G)`` is whitened to ``C |C|^w``.
The highest point of its inverse transform and the centroid around it say how far the windows are apart; both points move
by half of that, and the windows are cut anew.

Windows are cut at whole pixels. The fraction by which a point lies beside them turns the phase of the cross spectrum instead: bilinear
interpolation would shift high frequencies by less than low ones, and cost ten times the error. For the same reason the
centroid takes only what rises above a quarter of the peak: a ring of noise around it would pull towards whole pixels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from soct.mosaic.refinement import refine_spectra
from soct.mosaic.spectra import cross_correlate, level_window, transform
from soct.space import FloatArray
from soct.spectral.image import Image, as_plane, as_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soct.mosaic.spectra import ComplexArray

Point = NDArray[np.float64]
PeakFit = Literal["centroid", "likelihood"]

_APODISED = 0.25
_TAPER = 0.125
_CLIP = 0.25
_LEAST_SIDE = 8


@dataclass(frozen=True)
class MatchStats:
    """What the iterations of `Matcher.refine` found.

    Attributes
    ----------
    shifts : ndarray (n, 2)
        By how much ``(x, y)`` the second image lay displaced against the first one at each iteration, pixels.
    peakwidths : ndarray (n,)
        Root mean square radius of the peak along one axis, pixels.
    snrs : ndarray (n,)
        ``(max - mean) / std`` of the correlation; chance alone gives 3 to 5. 0 where a window had no texture.
    niters : int
        Iterations done.
    shift, peakwidth, snr
        Those of the last iteration.
    covariance : ndarray (2, 2) or None
        Of the shift, squared pixels, order ``(x, y)``; only the fit "likelihood" tells it.
    """

    shifts: NDArray[np.float64]
    peakwidths: NDArray[np.float64]
    snrs: NDArray[np.float64]
    covariance: NDArray[np.float64] | None = None

    @property
    def niters(self) -> int:
        """Iterations done."""
        return len(self.shifts)

    @property
    def shift(self) -> Point:
        """Displacement at the last iteration."""
        return np.asarray(self.shifts[-1])

    @property
    def peakwidth(self) -> float:
        """Radius of the peak at the last iteration."""
        return float(self.peakwidths[-1])

    @property
    def snr(self) -> float:
        """SNR of the last iteration."""
        return float(self.snrs[-1])


@njit(cache=True, nogil=True)
def _peak(
    surface: Any, radius_y: int, radius_x: int, clip: float
) -> tuple[float, float, float, float]:  # pragma: no cover - compiled
    """Centroid of the clipped neighbourhood of the highest point: (y, x), its rms radius per axis, and the SNR."""
    rows, columns = surface.shape
    at_y = 0
    at_x = 0
    highest = surface[0, 0]
    total = 0.0
    square = 0.0
    for y in range(rows):
        # Sums of one row in single precision, of all rows in double: quick and exact enough.
        row_total: Any = np.float32(0.0)
        row_square: Any = np.float32(0.0)
        row_highest = surface[y, 0]
        for x in range(columns):
            v = surface[y, x]
            row_total += v
            row_square += v * v
            row_highest = max(row_highest, v)
        total += row_total
        square += row_square
        if row_highest > highest:
            highest = row_highest
            at_y = y
    for x in range(columns):
        if surface[at_y, x] == highest:
            at_x = x
            break
    floor = clip * highest
    mass = 0.0
    my = 0.0
    mx = 0.0
    moment = 0.0
    for dy in range(-radius_y, radius_y + 1):
        for dx in range(-radius_x, radius_x + 1):
            v = surface[(at_y + dy) % rows, (at_x + dx) % columns] - floor
            if v > 0.0:
                mass += v
                my += v * dy
                mx += v * dx
                moment += v * (dy * dy + dx * dx)
    if mass <= 0.0:
        return 0.0, 0.0, 0.0, 0.0
    my /= mass
    mx /= mass
    radius = np.sqrt(max(0.5 * (moment / mass - my * my - mx * mx), 0.0))
    mean = total / surface.size
    spread = np.sqrt(max(square / surface.size - mean * mean, 0.0))
    if 2 * at_y > rows:
        at_y -= rows
    if 2 * at_x > columns:
        at_x -= columns
    return at_y + my, at_x + mx, radius, (highest - mean) / spread


@dataclass(frozen=True)
class _Windows:
    """Both windows of a pair of points as spectra."""

    corners: tuple[tuple[int, int], tuple[int, int]]
    first: ComplexArray
    second: ComplexArray
    visible: tuple[int, int]
    textured: bool


class Matcher:
    """Matches places of two images.

    Parameters
    ----------
    img1, img2 : Image, array_like or path
        Never modified.
    stats : bool
        Whether `refine` returns a `MatchStats` as well.

    Attributes
    ----------
    shifts, peakwidths, snrs, niters, shift, peakwidth, snr, covariance
        Of the last call of `refine`, see `MatchStats`.

    Examples
    --------
    >>> scene = np.random.default_rng(0).random((300, 320))
    >>> matcher = Matcher(scene[:, :300], scene[:, 20:])
    >>> p1, p2 = matcher.refine((150, 150), (150, 150), 256, iters=3)
    >>> np.round(p2 - p1, 2) + 0.0
    array([-20.,   0.])
    """

    def __init__(
        self,
        img1: Image | ArrayLike | str | Path,
        img2: Image | ArrayLike | str | Path,
        stats: bool = False,
    ) -> None:
        self._images = (_plane(img1), _plane(img2))
        self._returns_stats = stats
        self._peak_radius = 5
        self._prewhiten = -0.65
        self._fit: PeakFit = "centroid"
        self._gains: dict[tuple[int, int], FloatArray] = {}
        self._stats = MatchStats(np.empty((0, 2)), np.empty(0), np.empty(0))

    def setpeakradius(self, radius: int = 5) -> None:
        """Set how far around the highest point the centroid reaches: 5 is a square of 11 x 11."""
        if radius != int(radius) or radius < 1:
            raise ValueError(
                f"The peak's radius must be a whole number of at least 1, not {radius!r}"
            )
        self._peak_radius = int(radius)

    def setprewhiten(self, exponent: float = -0.65) -> None:
        """Set `w` in ``C |C|^w``: 0 is plain correlation, -1 phase correlation."""
        if not -1.0 <= exponent <= 0.0:
            raise ValueError(f"The whitening exponent must be from -1 to 0, not {exponent!r}")
        self._prewhiten = float(exponent)

    def setpeakfit(self, fit: PeakFit = "centroid") -> None:
        """Set how the last fraction of a pixel is found.

        Parameters
        ----------
        fit : {"centroid", "likelihood"}
            "likelihood" adds, after the iterations, the shift of greatest likelihood: the phase of the cross spectrum weighed at every
            frequency by how well the windows agree there, both apodised over the very same part of the scene. It is the
            more exact, tells the covariance of the shift, and takes about twice as long. Where it finds nothing within a pixel of the
            centroid, that stays, and the covariance is None.
        """
        if fit not in ("centroid", "likelihood"):
            raise ValueError(f'The peak fit is "centroid" or "likelihood", not {fit!r}')
        self._fit = fit

    def __getattr__(self, name: str) -> Any:
        if name in (*MatchStats.__annotations__, "niters", "shift", "peakwidth", "snr"):
            if not self._stats.niters:
                raise AttributeError(f"{name} is known once refine() has been called")
            return getattr(self._stats, name)
        raise AttributeError(f"A Matcher has no attribute {name!r}")

    def refine(
        self,
        p1: ArrayLike,
        p2: ArrayLike,
        size: int | Sequence[int] = 512,
        iters: int = 1,
        tolerance: float = 0.0,
    ) -> Any:
        """Move two points until both images show the same there.

        Parameters
        ----------
        p1, p2 : (x, y)
            Points in the first and second image, closer than half a window to the truth.
        size : int or (w, h)
            Of the windows, pixels, at least 8. Sides with large prime factors are slow.
        iters : int
            At most so many iterations.
        tolerance : float
            Done after an iteration that found the windows less than this apart, pixels.

        Returns
        -------
        p1, p2 : float64 ndarray (2,)
            Each moved by half of the shift found.
        stats : MatchStats
            Only of a ``Matcher(..., stats=True)``.

        Raises
        ------
        ValueError
            A point is none, or its window shows nothing of the image; `size` or `iters` is out of range.

        Notes
        -----
        Windows without texture have no match: the points stay, and the SNR is 0.
        """
        points = [_point(p1, "p1"), _point(p2, "p2")]
        shape = as_size(size, "size")[::-1]
        if min(shape) < _LEAST_SIDE:
            raise ValueError(f"size must be at least {_LEAST_SIDE} pixels, not {size!r}")
        if iters != int(iters) or iters < 1:
            raise ValueError(f"iters must be a whole number of at least 1, not {iters!r}")
        self._stats = self._iterate(points, shape, int(iters), tolerance)
        if self._fit == "likelihood" and self._stats.snr > 0:
            self._polish(points, shape)
        if self._returns_stats:
            return points[0], points[1], self._stats
        return points[0], points[1]

    def _iterate(
        self, points: list[Point], shape: tuple[int, int], iters: int, tolerance: float
    ) -> MatchStats:
        rows: list[tuple[Point, float, float]] = []
        windows: _Windows | None = None
        before = points
        for _ in range(iters):
            corners = _corners(points, shape)
            if windows is None or windows.corners != corners:
                cut = self._cut(corners, shape)
                if min(cut.visible) == 0:
                    _say_outside(cut, points, shape, self._images, first=windows is None)
                    # Back to where both windows showed something.
                    points[:] = before
                    rows.append((np.zeros(2), 0.0, 0.0))
                    break
                windows = cut
            shift, width, snr = self._measure(windows, points, shape)
            rows.append((shift, width, snr))
            before = [p.copy() for p in points]
            points[0] -= 0.5 * shift
            points[1] += 0.5 * shift
            if snr == 0 or np.hypot(*shift) < tolerance:
                break
        shifts, widths, snrs = zip(*rows, strict=True)
        return MatchStats(np.array(shifts), np.array(widths), np.array(snrs))

    def _cut(
        self, corners: tuple[tuple[int, int], tuple[int, int]], shape: tuple[int, int]
    ) -> _Windows:
        spectra, visible, deviations = [], [], []
        for image, corner, taper in zip(self._images, corners, (_APODISED, 0.0), strict=True):
            window, seen, deviation = level_window(image, corner, shape, taper)
            spectra.append(transform(window)[None, None])
            visible.append(seen)
            deviations.append(deviation)
        return _Windows(
            corners, spectra[0], spectra[1], (visible[0], visible[1]), min(deviations) > 0
        )

    def _measure(
        self, windows: _Windows, points: list[Point], shape: tuple[int, int]
    ) -> tuple[Point, float, float]:
        """Displacement of the second image's content, width of the peak, SNR."""
        if not windows.textured:
            return np.zeros(2), 0.0, 0.0
        surface = cross_correlate(
            windows.first,
            windows.second,
            shape,
            self._gain(shape),
            -self._prewhiten,
            shifts=_fraction(points, windows.corners, shape)[None],
        )[0]
        radii = (min(self._peak_radius, (n - 1) // 2) for n in shape)
        y, x, width, snr = _peak(surface, *radii, _CLIP)
        # The surface peaks where the first window's content lies against the second's.
        return np.array([-x, -y]), width, snr

    def _gain(self, shape: tuple[int, int]) -> FloatArray:
        """All frequencies alike but the mean, which is removed."""
        if shape not in self._gains:
            gain = np.ones((shape[0], shape[1] // 2 + 1), np.float32)
            gain[0, 0] = 0.0
            self._gains = {shape: gain}
        return self._gains[shape]

    def _polish(self, points: list[Point], shape: tuple[int, int]) -> None:
        """Add the shift of greatest likelihood, both windows apodised where they show the same."""
        corners = _corners(points, shape)
        spectra = []
        for image, corner, point in zip(self._images, corners, points, strict=True):
            left_over = _upper_left(point, shape) - corner
            window, seen, deviation = level_window(
                image, corner, shape, _TAPER, (-left_over[0], -left_over[1])
            )
            if seen == 0 or deviation == 0:
                return
            spectra.append(transform(window)[None, None])
        start = _fraction(points, corners, shape)
        found = refine_spectra(spectra[0], spectra[1], start, shape, limit_px=1.0)
        if found is None:
            return
        at, covariance = found
        shift = -(at - start)[::-1]
        points[0] -= 0.5 * shift
        points[1] += 0.5 * shift
        shifts = self._stats.shifts.copy()
        shifts[-1] += shift
        self._stats = replace(self._stats, shifts=shifts, covariance=covariance[::-1, ::-1].copy())


def _plane(image: Image | ArrayLike | str | Path) -> FloatArray:
    return as_plane(Image(image) if isinstance(image, str | Path) else image)


def _point(value: ArrayLike, name: str) -> Point:
    point = np.array(value, np.float64)
    if point.shape != (2,) or not np.isfinite(point).all():
        raise ValueError(f"{name} must be a point (x, y) of two finite numbers, not {value!r}")
    return point


def _upper_left(point: Point, shape: tuple[int, int]) -> Point:
    """Row and column at which the window's first pixel would lie."""
    return point[::-1] - np.array(shape) / 2


def _corners(
    points: list[Point], shape: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Whole pixels nearest to both windows' upper left."""
    first, second = (np.rint(_upper_left(p, shape)).astype(int).tolist() for p in points)
    return (first[0], first[1]), (second[0], second[1])


def _fraction(
    points: list[Point], corners: tuple[tuple[int, int], tuple[int, int]], shape: tuple[int, int]
) -> Point:
    """How much further right and down the first window should lie, against the second, than it was cut: ``(y, x)``."""
    first, second = (_upper_left(p, shape) - c for p, c in zip(points, corners, strict=True))
    return np.asarray(first - second)


def _say_outside(
    cut: _Windows,
    points: list[Point],
    shape: tuple[int, int],
    images: tuple[FloatArray, FloatArray],
    first: bool,
) -> None:
    """Raise an error for a window that shows nothing, or warn if it went there by itself."""
    which = cut.visible.index(0)
    x, y = points[which]
    height, width = images[which].shape
    told = (
        f"A window of {shape[1]} x {shape[0]} pixels at ({x:g}, {y:g}) shows nothing of image {which + 1}, "
        f"which has {width} x {height} pixels"
    )
    if first:
        raise ValueError(told)
    warnings.warn(
        f"{told}: the iterations end where they were before, without a match", stacklevel=4
    )
