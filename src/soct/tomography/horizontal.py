"""Horizontal alignment of projections: shifts that make the sinogram one of a single object.

The sinogram is made ready (dead columns, a faint background, a mass that varies), and looked at: does the object leave the detector? If not,
the shifts of greatest likelihood come from its bow-tie (`soct.tomography.bow_tie`), which starts from centres of mass and needs no good
start; where noise limits them, re-projection (`soct.tomography.consistency`), which also knows that an object is positive, sharpens all but
the slowest changes. A truncated object has re-projection alone: of a slice that reaches beyond the field (`soct.tomography.wide_slice`), or, of
derivatives, from the best of several starts.

Of the result, what projections do not tell is as in the shifts given: an object that lies elsewhere in its slice (cos and sin of the
angle), for a truncated object also the place of the axis (a constant). Where they do tell it, shifts bring the rotation axis to `axis`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.tomography.angles import AngleUnit, radians
from soct.tomography.bow_tie import BowTie, BowTieFit, FirstMoments
from soct.tomography.gauge import gauge_part
from soct.tomography.horizontal_settings import HorizontalSettings
from soct.tomography.keywords import check_keywords
from soct.tomography.notices import (
    ConvergenceWarning,
    TomographyWarning,
    TruncationWarning,
    tell,
)
from soct.tomography.prepared_sinogram import PreparedSinogram, prepare_sinogram
from soct.tomography.projections import as_shiftstack, check_sinogram
from soct.tomography.reprojection_search import HELD_TRUNCATED, ReprojectionSearch
from soct.tomography.support import Support, find_support, first_moments
from soct.tomography.truncation import Truncation

Array = NDArray[Any]
Vector = NDArray[np.float64]
Progress = Callable[[int, int], None]

_LEAST_PROJECTIONS = 8
_HALF_TURN = np.deg2rad(150)
_OUTLYING = 6.0
_AXIS_ELSEWHERE_PX = 5.0


@dataclass(frozen=True)
class HorizontalAlignment:
    """What `align_horizontal` found.

    Attributes
    ----------
    shifts : float64 ndarray (2, n)
        Vertical (as given) and horizontal, pixels: ``aligned[k] = measured[k + s]``.
    uncertainties : float64 ndarray (n,)
        Standard deviation of each horizontal shift as far as noise causes it, pixels.
    residuals_before, residuals_after : float64 ndarray (n,)
        Root mean square difference of each projection to that of the slice, with the shifts given (about the axis found) and those found, as
        a part of the sinogram's own.
    residuals_expected : float64 ndarray (n,)
        What they would be, roughly, if nothing but noise and the making of a slice set projections apart: derivatives, say, leave more.
    axis : float
        Detector coordinate of the rotation axis in aligned projections.
    axis_before : float
        That of the projections with the shifts given, on average; equal to `axis` where they do not tell it.
    noise : float
        Standard deviation of what no object could show, per pixel, in units of the sinogram.
    truncation : Truncation
    method : str
        What found the shifts: "likelihood", "likelihood and reprojection" or "reprojection".
    iterations : int
    converged : bool
        Whether the last iteration moved shifts by less than `pixtol`, root mean square.
    notices : tuple of TomographyWarning
        What must be known about the result; ``str()`` of each is a sentence.
    """

    shifts: NDArray[np.float64]
    uncertainties: Vector
    residuals_before: Vector
    residuals_after: Vector
    residuals_expected: Vector
    axis: float
    axis_before: float
    noise: float
    truncation: Truncation
    method: str
    iterations: int
    converged: bool
    notices: tuple[TomographyWarning, ...]


def align_horizontal(
    sinogram: ArrayLike,
    theta: ArrayLike,
    shiftstack: ArrayLike | None = None,
    *,
    theta_unit: AngleUnit = "auto",
    axis: float | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> HorizontalAlignment:
    """Find the horizontal shifts of projections from one slice.

    Parameters
    ----------
    sinogram : array_like (detectors, n)
        Line integrals, as measured, or their derivatives along the detector; 0 where there is no object.
    theta : array_like (n,)
        Angles in any order, evenly spaced or not, over any part of the turn.
    shiftstack : array_like (2, n), optional
        Where to start, pixels; not changed. An object within the field does not need a good start.
    theta_unit : {"auto", "rad", "deg"}
        "auto" takes angles that span at most 2 pi for radians.
    axis : float, optional
        Detector coordinate of the rotation axis; ``detectors // 2`` unless told otherwise. The axis of the aligned projections comes to lie
        there, if they tell where it is.
    progress : callable, optional
        Called with the number of iterations done, and the most there can be.
    **settings
        Those of `HorizontalSettings`: `method`, `maxit`, `pixtol`, `rtol`, `freqcutoff`, `freqcutoff_schedule`, `multiresolution`,
        `mr_factor`, `n_coarse_iter`, `circle`, `cliplow`, `cliphigh`, `filtertype`, `algorithm`, `derivatives`, `calc_derivatives`.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, parameters out of range, fewer than 8 projections.
    TypeError
        An unknown setting.

    Examples
    --------
    >>> import numpy as np
    >>> from soct.tomography import project
    >>> image = np.zeros((64, 64))
    >>> image[20:40, 24:50] = 1.0
    >>> angles = np.arange(60) * np.pi / 60
    >>> truth = np.random.default_rng(0).uniform(-3, 3, 60)
    >>> sinogram = project(image, angles, axis=32 + truth)
    >>> from soct.tomography.gauge import shift_error
    >>> bool(shift_error(align_horizontal(sinogram, angles).shifts[1], truth, angles) < 0.05)
    True
    """
    chosen = HorizontalSettings(**settings)
    values = check_sinogram(sinogram).astype(np.float64)
    detectors, n = values.shape
    angles = radians(theta, theta_unit, n)
    start = as_shiftstack(shiftstack, n)
    if n < _LEAST_PROJECTIONS or detectors < 16:
        raise ValueError(
            f"At least {_LEAST_PROJECTIONS} projections of 16 pixels are needed; this sinogram has the shape {values.shape}"
        )
    middle = float(detectors // 2) if axis is None else float(axis)
    if not 0 <= middle <= detectors - 1:
        raise ValueError(f"axis must lie on the detector, from 0 to {detectors - 1}, not {axis}")
    task = _Task(prepare_sinogram(values, chosen), angles, middle, start[1], chosen, progress)
    return task.run(start[0])


def alignprojections_horizontal(
    sinogram: ArrayLike, theta: ArrayLike, shiftstack: ArrayLike, **params: Any
) -> NDArray[np.float64]:
    """Align projections horizontally.

    Parameters
    ----------
    sinogram : array_like (detectors, n)
        As measured.
    theta : array_like (n,)
        Angles, see `align_horizontal`.
    shiftstack : array_like (2, n)
        Where to start, pixels; not changed.
    **params
        Those of `align_horizontal`. Documented parameters of the other functions are passed over.

    Returns
    -------
    shiftstack : float64 ndarray (2, n)
        Vertical shifts as given; ``aligned[:, k] = sinogram[:, k]`` at detector coordinates plus the horizontal one.

    Raises
    ------
    ValueError, TypeError
        As `align_horizontal`; an unknown parameter is named with the nearest one.

    Warns
    -----
    TomographyWarning
        The result holds with a reservation; see `HorizontalAlignment.notices`.
    """
    given = check_keywords("alignprojections_horizontal", params, OWN_KEYWORDS)
    found = align_horizontal(sinogram, theta, shiftstack, **given)
    tell(found.notices)
    return found.shifts


OWN_KEYWORDS = (
    "theta_unit",
    "axis",
    "progress",
    *(field.name for field in fields(HorizontalSettings)),
)
"""Keywords of `align_horizontal`."""


@dataclass
class _Task:
    """One sinogram on its way."""

    prepared: PreparedSinogram
    angles: Vector
    axis: float
    start: Vector
    chosen: HorizontalSettings
    progress: Progress | None

    def run(self, vertical: Vector) -> HorizontalAlignment:
        truncated = self.prepared.truncation.truncated
        by_likelihood = self.chosen.method == "likelihood" or (
            self.chosen.method == "auto" and not truncated
        )
        if by_likelihood:
            fit, support = self._likelihood()
            shifts = fit.centres - self.axis
            settled, method = self._search().sharpen(shifts, fit.deviations, support)
            uncertainties = fit.deviations
            iterations = fit.iterations + settled.iterations
            last = fit.step
        else:
            fit, method = None, "reprojection"
            settled = self._search().search(truncated)
            uncertainties = settled.after.deviations
            iterations, last = settled.iterations, settled.step
        if method != "likelihood":
            last = settled.step
        tells_axis = by_likelihood or not truncated
        shifts, axis_before = self._fix_gauge(settled.shifts, tells_axis)
        # An axis that lies elsewhere is not what makes projections disagree.
        before = (
            self._search().residuals(self.start + axis_before - self.axis, truncated)
            if by_likelihood
            else settled.before.residuals
        )
        size = max(float(np.sqrt(np.mean(self.prepared.sinogram**2))), 1e-300)
        residuals = settled.after.residuals / size
        converged = last <= max(self.chosen.pixtol, 1e-12) or self.chosen.maxit == 0
        noise = fit.noise if fit is not None else self.prepared.noise
        expected = self._search().expected(settled, noise, truncated)
        notices = self._notices(noise, residuals, converged, last, axis_before, tells_axis)
        return HorizontalAlignment(
            np.stack([vertical, shifts]),
            uncertainties,
            before / size,
            residuals,
            expected / size,
            self.axis,
            axis_before,
            noise,
            self.prepared.truncation,
            method,
            iterations,
            converged,
            notices,
        )

    def _search(self) -> ReprojectionSearch:
        return ReprojectionSearch(
            self.prepared, self.angles, self.axis, self.start, self.chosen, self.progress
        )

    def _likelihood(self) -> tuple[BowTieFit, Support]:
        """Twice: the ellipse that holds the object is sharper once projections are aligned."""
        sinogram, derivatives = self.prepared.sinogram, self.chosen.of_derivatives
        support = self._first_support()
        fit: BowTieFit | None = None
        for _ in range(2):
            mask = support.mask(len(sinogram))
            moments = first_moments(sinogram, mask, support.centres, derivatives)
            model = BowTie(
                np.where(mask, sinogram, 0.0),
                self.angles,
                support.half_widths,
                support.warped,
                support.centres,
                moments or FirstMoments(support.centres, np.inf),
                derivatives,
                self.chosen.freqcutoff,
            )
            centres = support.centres
            if fit is None:
                # Where noise spoils centres of mass, they still tell where the axis is.
                given = self.axis + self.start
                given = given + gauge_part(centres - given, self.angles)
                if model.spill(given) < model.spill(centres):
                    centres = given
            fit = model.fit(centres, self.chosen.maxit, self.chosen.pixtol)
            support = find_support(
                sinogram, self.angles, fit.centres, self.prepared.noise, derivatives
            )
        assert fit is not None
        return fit, support

    def _first_support(self) -> Support:
        """From centres of mass, in the whole field and then where the object shows."""
        sinogram, derivatives = self.prepared.sinogram, self.chosen.of_derivatives
        centres = self.axis + self.start
        mask = None
        for _ in range(3):
            moments = first_moments(sinogram, mask, centres, derivatives)
            if moments is not None:
                centres = moments.centres
            support = find_support(sinogram, self.angles, centres, self.prepared.noise, derivatives)
            mask = support.mask(len(sinogram))
            if moments is None:
                break
            centres = support.centres
        return support

    def _held(self) -> str:
        """Say what of the shifts of a truncated object is not found."""
        if self.chosen.of_derivatives:
            return (
                "The rotation axis and slow changes of the shifts (up to harmonic "
                f"{HELD_TRUNCATED} of the angle) stay as given"
            )
        if self.prepared.truncation.both_ends:
            return (
                "The rotation axis stays as given, and slow changes of the shifts are hardly found: "
                "what lies outside at both ends explains them as well"
            )
        return "The rotation axis stays as given"

    def _fix_gauge(self, shifts: Vector, tells_axis: bool) -> tuple[Vector, float]:
        """Leave the object where the shifts given put it; say where their axis was."""
        change = shifts - self.start
        wide = np.ptp(self.angles) > _HALF_TURN
        moved = gauge_part(
            change, self.angles, fitted_constant=wide or not tells_axis, constant=False
        )
        constant = 0.0
        if wide or not tells_axis:
            constant = float(np.mean(gauge_part(change, self.angles) - moved))
        if not tells_axis:
            return shifts - moved - constant, self.axis
        return shifts - moved, self.axis + constant

    def _notices(
        self,
        noise: float,
        residuals: Vector,
        converged: bool,
        last: float,
        axis_before: float,
        tells_axis: bool,
    ) -> tuple[TomographyWarning, ...]:
        notices = list(self.prepared.notices)
        if self.prepared.truncation.truncated:
            notices.append(
                TruncationWarning(f"{self.prepared.truncation.describe()}. {self._held()}")
            )
        if not converged:
            notices.append(
                ConvergenceWarning(
                    f"The horizontal shifts still changed by {last:.2g} px (RMS) in the last iteration, more than pixtol "
                    f"({self.chosen.pixtol:g} px): raise maxit ({self.chosen.maxit})"
                )
            )
        greatest = float(np.quantile(np.abs(self.prepared.sinogram), 0.999))
        if noise > 3.0 * self.prepared.noise + 0.01 * greatest:
            notices.append(
                TomographyWarning(
                    f"Projections disagree by {noise / greatest:.1%} of the greatest signal, where noise is "
                    f"{self.prepared.noise / greatest:.1%}: the object changed, or shifts are not all that is wrong with them"
                )
            )
        outlying = _outliers(residuals)
        if outlying.size:
            some = ", ".join(map(str, outlying[:8].tolist())) + (
                ", ..." if outlying.size > 8 else ""
            )
            notices.append(
                TomographyWarning(
                    f"{outlying.size} projections ({some}) fit the others much worse than most do"
                )
            )
        if np.ptp(self.angles) < _HALF_TURN:
            notices.append(
                TomographyWarning(
                    f"Angles span {np.rad2deg(np.ptp(self.angles)):.0f} degrees only: the rotation axis is held weakly"
                )
            )
        elif abs(axis_before - self.axis) > _AXIS_ELSEWHERE_PX:
            notices.append(
                TomographyWarning(
                    f"The rotation axis of the projections as given is near column {axis_before:.1f}; the shifts bring it to "
                    f"{self.axis:g}. Give axis={axis_before:.1f} to leave it there"
                )
            )
        return tuple(notices)


def _outliers(residuals: Vector) -> NDArray[np.int64]:
    """Projections whose residual lies far above those of most."""
    middle = float(np.median(residuals))
    spread = 1.4826 * float(np.median(np.abs(residuals - middle)))
    return np.flatnonzero(residuals > middle + _OUTLYING * max(spread, 0.1 * middle))
