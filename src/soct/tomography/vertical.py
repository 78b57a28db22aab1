"""Vertical alignment of projections by their mass per row, which is the same from all sides.

The signals ``(n, rows)`` are taken from the stack in one pass; `soct.tomography.row_search` and `soct.tomography.row_profiles` align them, and the
stack is only shifted once. A region that the object leaves sideways in some projections does not have the same mass from all sides: then
residuals stay high, and the result says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.tomography.aligned import compute_aligned_stack, shift_signals
from soct.tomography.keywords import check_keywords
from soct.tomography.mass import (
    Profiles,
    Region,
    as_region,
    check_order,
    first_moments,
    mass_profiles,
    remove_polynomials,
)
from soct.tomography.notices import (
    ConvergenceWarning,
    TomographyWarning,
    TruncationWarning,
    tell,
)
from soct.tomography.object_columns import without_empty_columns
from soct.tomography.projections import Stack, as_floating, as_shiftstack, as_stack
from soct.tomography.row_profiles import ProfileAligner, ProfileFit
from soct.tomography.row_search import coarse_shifts, lags_left
from soct.tomography.shifts import ShiftMethod, check_method

Progress = Callable[[int, int], None]

# Rows that a region has at least beside those that the polynomial takes.
_LEAST_ROWS = 8
# What of the signal remains, at least, where it is told to change with the angle, and how much of that neighbouring rows share.
_CHANGES = 0.02
_SHARED = 0.5
_OUTLYING = 6.0
_UNCERTAIN_PX = 0.5
# Noise that is aligned with itself has a mean of about twice the power that it has by chance.
_MORE_THAN_NOISE = 5.0
_RESTARTS = 2
# Part of the greatest column sum that the outermost columns may hold where the centre of mass is used.
_AT_THE_EDGE = 0.05


@dataclass(frozen=True)
class VerticalAlignment:
    """What `align_vertical` found.

    Attributes
    ----------
    shifts : float64 ndarray (2, n)
        Vertical and horizontal, pixels: ``aligned[k] = measured[k + s]``. Vertical ones have the mean of those that were given: the
        projections cannot tell it. Horizontal ones are those given, or, with `alignx`, bring the centre of mass to column ``cols // 2``.
    uncertainties : float64 ndarray (n,)
        Standard deviation of each vertical shift, pixels, as far as noise causes it; infinite where nothing tells the shift.
    residuals_before, residuals_after : float64 ndarray (n,)
        Root mean square difference of each projection's mass per row to the mean of all, as a part of the signal's own.
    mean_fluctuation : float64 ndarray (bottom - top,)
        Mass per row that all projections share, without its polynomial; NaN at rows that most do not show.
    iterations : int
    converged : bool
        Whether the last iteration moved no shift by more than `pixtol`.
    notices : tuple of TomographyWarning
        What must be known about the result; ``str()`` of each is a sentence.
    """

    shifts: NDArray[np.float64]
    uncertainties: NDArray[np.float64]
    residuals_before: NDArray[np.float64]
    residuals_after: NDArray[np.float64]
    mean_fluctuation: NDArray[np.float64]
    iterations: int
    converged: bool
    notices: tuple[TomographyWarning, ...]


def align_vertical(
    stack: Stack,
    shiftstack: ArrayLike | None = None,
    *,
    maxit: int = 50,
    pixtol: float = 1e-3,
    deltax: int = 0,
    limsy: Any = None,
    polyorder: int = 2,
    alignx: bool = False,
    subpixel: bool = True,
    reach: int | None = None,
    progress: Progress | None = None,
) -> VerticalAlignment:
    """Find the vertical shifts of projections.

    Parameters
    ----------
    stack : (n, rows, cols)
        Line integrals: an array, or what hands out planes (an HDF5 dataset). Read once, but for a few projections.
    shiftstack : array_like (2, n), optional
        Where to start, pixels; not changed.
    maxit : int
        Most iterations.
    pixtol : float
        Done once no shift moves by more, pixels.
    deltax : int
        Columns left out at the left and at the right of aligned projections.
    limsy : None or (top, bottom)
        Rows of aligned projections that are compared; None is all of them.
    polyorder : int
        Polynomials over the rows of degrees 0 to this one are free in every projection, so a background does not draw the shifts.
    alignx : bool
        Align horizontally, too: the centre of mass comes to column ``cols // 2``, where the rotation axis is by default. Right
        where the whole object is seen and nothing beside it; a background draws the centre to the middle.
    subpixel : bool
        Whether shifts are parts of a pixel, or else rounded to whole ones.
    reach : int, optional
        Greatest displacement that is looked for, pixels; by default a quarter of the rows.
    progress : callable, optional
        Called with the number of projections read and their total.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, parameters out of range.

    Notes
    -----
    Signals are evaluated by splines of the fifth degree, whatever method shifts the images in the end. Rows that shifts bring in from beyond
    the projection's edge are not compared, and columns at the sides that show nothing but noise are not summed.
    """
    stack = as_stack(stack)
    n, rows, cols = stack.shape
    start = as_shiftstack(shiftstack, n)
    order = check_order(polyorder)
    region = _region(limsy, deltax, rows, cols, order)
    _check_iterations(maxit, pixtol)
    reach = max(2, rows // 4) if reach is None else int(reach)
    narrow = without_empty_columns(stack, region, start, order)
    over_columns, over_rows = mass_profiles(stack, narrow, start, progress=progress)
    signals = _without_rounding(over_columns, order)
    fit, before = _align_signals(signals, start[0], region, order, reach, maxit, pixtol)
    shifts = np.stack([fit.shifts, start[1]])
    notices = _notices(fit, before, maxit, pixtol)
    if alignx:
        if (region.top, region.bottom) != (0, rows):
            _, over_rows = mass_profiles(stack, region, shifts)
        shifts[1] = _centred(over_rows, start[1], region, cols // 2)
        notices += _edge_notices(over_rows)
    after = fit.residuals
    if not subpixel:
        shifts = np.round(shifts) if alignx else np.stack([np.round(shifts[0]), shifts[1]])
        aligner = ProfileAligner(signals, region.top, region.bottom, order)
        after = aligner.residuals(shifts[0])
    scale = _rms(fit.mean[None])[0]
    relative = [_rms(r) / scale if scale > 0 else np.zeros(n) for r in (before, after)]
    return VerticalAlignment(
        shifts,
        fit.uncertainties,
        relative[0],
        relative[1],
        fit.mean,
        fit.iterations,
        fit.last_step <= pixtol,
        tuple(notices),
    )


def alignprojections_vertical(
    stack: Stack, shiftstack: ArrayLike, **params: Any
) -> tuple[NDArray[np.float64], NDArray[Any]]:
    """Align projections vertically by their mass per row.

    Parameters
    ----------
    stack : (n, rows, cols)
        Line integrals. Neither it nor `shiftstack` is changed.
    shiftstack : array_like (2, n)
        Where to start, pixels.
    **params
        Those of `align_vertical`: `maxit`, `pixtol`, `deltax`, `limsy`, `polyorder`, `alignx`, `subpixel`, `reach`, `progress`; `shiftmeth`
        ("fourier", "linear" or "spline", how the aligned projections are sampled) and `out` (where they are written). Documented
        parameters of the other functions are passed over.

    Returns
    -------
    shiftstack : float64 ndarray (2, n)
        ``aligned[k] = stack[k + s]``. The vertical shifts have the mean of those that were given.
    aligned : ndarray (n, rows, cols)

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, parameters out of range.
    TypeError
        An unknown parameter; the message has the nearest one.

    Warns
    -----
    TomographyWarning
        The result holds with a reservation; see `VerticalAlignment.notices`.
    """
    own = "maxit pixtol deltax limsy polyorder alignx subpixel reach progress shiftmeth out"
    given = check_keywords("alignprojections_vertical", params, own.split())
    method: ShiftMethod = check_method(given.pop("shiftmeth", "fourier"))
    out = given.pop("out", None)
    found = align_vertical(stack, shiftstack, **given)
    tell(found.notices)
    return found.shifts, compute_aligned_stack(stack, found.shifts, method, out=out)


def vertical_shift(
    image: ArrayLike,
    lims: Any,
    vstep: float,
    maxshift: float,
    shift_method: ShiftMethod = "linear",
    polyorder: int = 2,
) -> NDArray[np.float64]:
    """Mass per row of one projection once it is shifted, without its polynomial: what is compared in a vertical alignment.

    Parameters
    ----------
    image : array_like (rows, cols)
    lims : None, (top, bottom) or ((top, bottom), (left, right))
        Region of the shifted projection; None is all of it.
    vstep : float
        Vertical shift, pixels.
    maxshift : float
        Greatest shift that will be asked for, pixels: rows closer to the edges are left out, so that signals of all shifts are of the
        same rows, and all of these were measured.
    shift_method : {"fourier", "linear", "spline"}
        See `soct.tomography.ShiftFunc`.
    polyorder : int
        Polynomials of degrees 0 to this one are removed.

    Returns
    -------
    float64 ndarray (rows of the region,)

    Raises
    ------
    ValueError
        A shift beyond `maxshift`, no rows left, NaN, shapes that do not fit.
    """
    plane = as_floating(np.asarray(image))
    if plane.ndim != 2:
        raise ValueError(f"image must have two dimensions; this one has the shape {plane.shape}")
    if not abs(vstep) <= maxshift < np.inf:
        raise ValueError(f"vstep must be within maxshift, {maxshift} pixels; it is {vstep}")
    rows, cols = plane.shape
    region = as_region(lims, rows, cols)
    method, order = check_method(shift_method, "shift_method"), check_order(polyorder)
    margin = int(np.ceil(maxshift))
    top, bottom = max(region.top, margin), min(region.bottom, rows - margin)
    if bottom - top <= order + 1:
        raise ValueError(
            f"No rows are left: {region.top} to {region.bottom} of {rows} rows, without {margin} at each edge (maxshift)"
        )
    profiles, _ = mass_profiles(plane[None], region, np.array([[vstep], [0.0]]))
    moved = shift_signals(profiles, np.array([float(vstep)]), method)
    return np.asarray(remove_polynomials(moved[:, top:bottom], order)[0])


def _region(limsy: Any, deltax: int, rows: int, cols: int, order: int) -> Region:
    if deltax != int(deltax) or not 0 <= 2 * deltax < cols:
        raise ValueError(
            f"deltax must be a whole number of columns, from 0 to less than half of {cols}; it is {deltax!r}"
        )
    limits = as_region(limsy, rows, cols, "limsy")
    if (limits.left, limits.right) != (0, cols):
        raise ValueError(f"limsy must be None or (top, bottom), not {limsy!r}; columns: deltax")
    if limits.bottom - limits.top < _LEAST_ROWS + order:
        raise ValueError(
            f"At least {_LEAST_ROWS + order} rows are needed to align projections vertically (polyorder {order}); "
            f"there are {limits.bottom - limits.top}"
        )
    return Region(limits.top, limits.bottom, int(deltax), cols - int(deltax))


def _check_iterations(maxit: int, pixtol: float) -> None:
    if maxit != int(maxit) or maxit < 1:
        raise ValueError(f"maxit must be a whole number of at least 1, not {maxit!r}")
    if not 0 < pixtol < np.inf:
        raise ValueError(f"pixtol must be a number of pixels above 0, not {pixtol!r}")


def _without_rounding(signals: Profiles, order: int) -> Profiles:
    """Signals, or zeros where nothing but rounding is left of them without their polynomials."""
    left = remove_polynomials(signals, order)
    return signals if _rms(left).max() > 1e-8 * np.abs(signals).max() else np.zeros_like(signals)


def _align_signals(
    signals: Profiles,
    start: NDArray[np.float64],
    region: Region,
    order: int,
    reach: int,
    maxit: int,
    pixtol: float,
) -> tuple[ProfileFit, Profiles]:
    """Whole pixels first, Newton steps, and a look whether any signal fits better elsewhere."""
    limits = region.top, region.bottom, order
    aligner = ProfileAligner(signals, *limits)
    before = aligner.residuals(start)
    shifts = coarse_shifts(signals, start, *limits, reach)
    fit = aligner.align(shifts, most=maxit, tolerance=pixtol)
    for _ in range(_RESTARTS):
        lags = lags_left(signals, fit.shifts, *limits, reach)
        if not lags.any():
            break
        shifts = fit.shifts + lags
        shifts += start.mean() - shifts.mean()
        fit = aligner.align(shifts, most=maxit, tolerance=pixtol)
    return fit, before


def _centred(
    over_rows: Profiles, start: NDArray[np.float64], region: Region, centre: int
) -> NDArray[np.float64]:
    """Horizontal shifts that bring the centre of mass within the region to a column."""
    limits = region.left, region.right
    if limits == (0, over_rows.shape[1]):
        return first_moments(over_rows, *limits) - centre
    shifts = start.copy()
    for _ in range(30):
        # The region moves with the projection, so its centre of mass does not follow the shift pixel by pixel.
        step = first_moments(shift_signals(over_rows, shifts), *limits) - centre
        shifts += step
        if np.abs(step).max() < 1e-4:
            break
    return shifts


def _edge_notices(over_rows: Profiles) -> list[TomographyWarning]:
    shape = np.abs(over_rows.mean(axis=0))
    if max(shape[0], shape[-1]) <= _AT_THE_EDGE * shape.max():
        return []
    return [
        TruncationWarning(
            "The horizontal shifts (alignx) are biased: there is mass at the left or right edge of the projections, so the object "
            "leaves the field of view or there is a background, and the centre of mass is not that of the object"
        )
    ]


def _notices(
    fit: ProfileFit, before: Profiles, maxit: int, pixtol: float
) -> list[TomographyWarning]:
    n = len(fit.shifts)
    if n == 1:
        return [TomographyWarning("One projection alone has nothing to be aligned with")]
    if not np.isfinite(fit.uncertainties).any():
        return [
            TomographyWarning(
                "The mass per row does not change over the rows: it cannot tell vertical shifts, and they stay as given"
            )
        ]
    notices: list[TomographyWarning] = []
    if fit.last_step > pixtol:
        notices.append(
            ConvergenceWarning(
                f"The vertical alignment did not settle within {maxit} iterations: the last one still moved a "
                f"projection by {fit.last_step:.3g} pixels (pixtol {pixtol:g})"
            )
        )
    uncertain = float(np.median(fit.uncertainties))
    if uncertain > _UNCERTAIN_PX:
        notices.append(
            TomographyWarning(
                f"Vertical shifts are uncertain by about {uncertain:.2g} pixels: the mass per row has little that tells them"
            )
        )
    residuals, scale = _rms(fit.residuals), _rms(fit.mean[None])[0]
    typical = float(np.median(residuals))
    if n * scale**2 < _MORE_THAN_NOISE * typical**2:
        notices.append(
            TomographyWarning(
                "What the projections' mass per row has in common is hardly more than noise: vertical shifts tell nothing"
            )
        )
    if typical > _CHANGES * scale and np.median(_shared(fit.residuals)) > _SHARED:
        notices.append(
            TruncationWarning(
                f"The mass per row changes with the angle, by {100 * typical / scale:.2g} % of what the alignment goes by: the object "
                "leaves the field of view sideways, or projections are not normalised alike; the shifts may be biased"
            )
        )
    outlying = np.flatnonzero(residuals > np.maximum(_OUTLYING * typical, 1e-3 * scale))
    if outlying.size:
        names = ", ".join(map(str, outlying[:10])) + (", ..." if outlying.size > 10 else "")
        notices.append(
            TomographyWarning(
                f"{outlying.size} of {n} projections do not fit the others, and their shifts may be wrong: {names}"
            )
        )
    return notices


def _rms(values: Profiles) -> NDArray[np.float64]:
    """Root mean square of each row of what is known; 0 where nothing is."""
    known = np.isfinite(values)
    total = np.where(known, values, 0.0)
    rms: NDArray[np.float64] = np.sqrt((total**2).sum(axis=1) / np.maximum(known.sum(axis=1), 1))
    return rms


def _shared(residuals: Profiles) -> NDArray[np.float64]:
    """How far neighbouring rows agree: 0 for noise, 1 for what is smooth."""
    values = np.where(np.isfinite(residuals), residuals, 0.0)
    power = np.maximum((values**2).sum(axis=1), 1e-300)
    shared: NDArray[np.float64] = (values[:, 1:] * values[:, :-1]).sum(axis=1) / power
    return shared
