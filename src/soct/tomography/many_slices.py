"""Horizontal shifts from many slices at once: each by itself, then what most of them say.

A projection is one exposure, so its shift is the same in all rows. Slices differ in what they hold of noise, of truncation and of trouble:
each is aligned alone, and for each projection the slices vote with their own precision, outliers with less.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from soct.tomography.angles import AngleUnit, radians
from soct.tomography.consensus import agree
from soct.tomography.gauge import gauge_part
from soct.tomography.horizontal import OWN_KEYWORDS, HorizontalAlignment, align_horizontal
from soct.tomography.horizontal_settings import HorizontalSettings
from soct.tomography.keywords import check_keywords
from soct.tomography.notices import TomographyWarning, tell
from soct.tomography.projections import Stack, as_floating, as_shiftstack, as_stack

Array = NDArray[Any]
Vector = NDArray[np.float64]
Progress = Callable[[int, int], None]

N_SLICES = 5
_REACH = 6
"""Rows beside a slice that its interpolation between rows takes."""


@dataclass(frozen=True)
class SlicesAlignment:
    """What `align_horizontal_slices` found.

    Attributes
    ----------
    shifts : float64 ndarray (2, n)
        Vertical (as given) and horizontal, pixels: ``aligned[k] = measured[k + s]``.
    uncertainties : float64 ndarray (n,)
        Standard deviation of each horizontal shift from how far slices agree, pixels; of a single slice, from its noise.
    rows : tuple of int
        Of aligned projections, from top to bottom.
    weights : float64 ndarray (slices, n)
        With which each slice had its say; 0 where it disagrees with most.
    slices : tuple of HorizontalAlignment
        What each slice says.
    notices : tuple of TomographyWarning
        What must be known about the result, each once.
    """

    shifts: NDArray[np.float64]
    uncertainties: Vector
    rows: tuple[int, ...]
    weights: Array
    slices: tuple[HorizontalAlignment, ...]
    notices: tuple[TomographyWarning, ...]

    @property
    def converged(self) -> bool:
        """Whether all slices did."""
        return all(found.converged for found in self.slices)


def align_horizontal_slices(
    stack: Stack,
    theta: ArrayLike,
    shiftstack: ArrayLike | None = None,
    *,
    slicenum: int | None = None,
    n_slices_tc: int = N_SLICES,
    n_workers_tc: int = 2,
    theta_unit: AngleUnit = "auto",
    axis: float | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> SlicesAlignment:
    """Find the horizontal shifts of projections from several slices.

    Parameters
    ----------
    stack : (n, rows, cols)
        Line integrals: an array, or what hands out planes (an HDF5 dataset). Only the rows in question are kept.
    theta : array_like (n,)
        Angles, see `align_horizontal`.
    shiftstack : array_like (2, n), optional
        Vertical shifts, which are applied, and horizontal ones to start from; pixels, not changed.
    slicenum : int, optional
        Row of aligned projections in the middle of the slices; ``rows // 2`` unless told otherwise.
    n_slices_tc : int
        How many neighbouring rows; fewer where the stack ends.
    n_workers_tc : int
        Threads. The result does not depend on it.
    theta_unit, axis, **settings
        As in `align_horizontal`.
    progress : callable, optional
        Called with the number of slices done and their total.

    Raises
    ------
    ValueError
        Shapes that do not fit, NaN, parameters out of range, rows without an object.
    """
    stack = as_stack(stack)
    n, rows, _ = stack.shape
    start = as_shiftstack(shiftstack, n)
    angles = radians(theta, theta_unit, n)
    HorizontalSettings(**settings)
    for name, value in (("n_slices_tc", n_slices_tc), ("n_workers_tc", n_workers_tc)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    middle = rows // 2 if slicenum is None else int(slicenum)
    if not 0 <= middle < rows:
        raise ValueError(
            f"slicenum must be a row of the stack, from 0 to {rows - 1}, not {slicenum}"
        )
    count = min(int(n_slices_tc), rows)
    first = int(np.clip(middle - count // 2, 0, rows - count))
    chosen = tuple(range(first, first + count))
    sinograms = aligned_rows(stack, start[0], chosen)
    done, lock = 0, Lock()

    def align(sinogram: Array) -> HorizontalAlignment:
        nonlocal done
        found = align_horizontal(sinogram, angles, start, theta_unit="rad", axis=axis, **settings)
        with lock:
            done += 1
            if progress is not None:
                progress(done, count)
        return found

    with ThreadPoolExecutor(min(int(n_workers_tc), count)) as pool:
        slices = tuple(pool.map(align, sinograms))
    horizontal, uncertainties, weights = _average(slices, start[1], angles)
    return SlicesAlignment(
        np.stack([start[0], horizontal]),
        uncertainties,
        chosen,
        weights,
        slices,
        _notices(slices, chosen, weights),
    )


def tomoconsistency_multiple(
    stack: Stack, theta: ArrayLike, shiftstack: ArrayLike, **params: Any
) -> NDArray[np.float64]:
    """Align projections horizontally by several slices.

    Parameters
    ----------
    stack : (n, rows, cols)
    theta : array_like (n,)
    shiftstack : array_like (2, n)
        Vertical shifts, which are applied, and horizontal ones to start from; not changed.
    **params
        Those of `align_horizontal_slices` (`slicenum`, `n_slices_tc`, `n_workers_tc`, `progress`) and of `align_horizontal`. Documented
        parameters of the other functions are passed over.

    Returns
    -------
    shiftstack : float64 ndarray (2, n)
        The robust average over the slices.

    Raises
    ------
    ValueError, TypeError
        As `align_horizontal_slices`; an unknown parameter is named with the nearest one.

    Warns
    -----
    TomographyWarning
        The result holds with a reservation; see `SlicesAlignment.notices`.
    """
    own = ("slicenum", "n_slices_tc", "n_workers_tc", *OWN_KEYWORDS)
    given = check_keywords("tomoconsistency_multiple", params, own)
    found = align_horizontal_slices(stack, theta, shiftstack, **given)
    tell(found.notices)
    return found.shifts


def aligned_rows(stack: Stack, vertical: Vector, rows: tuple[int, ...]) -> list[Array]:
    """Return the sinograms ``(cols, n)`` of rows of vertically aligned projections.

    Parameters
    ----------
    stack : (n, rows, cols)
        Read plane by plane.
    vertical : ndarray (n,)
        Pixels.
    rows : tuple of int
        Neighbouring ones, from top to bottom. Beyond the stack's end its last row goes on.
    """
    n, height, cols = stack.shape
    out = np.empty((len(rows), cols, n))
    for k in range(n):
        plane = as_floating(np.asarray(stack[k]))
        for i, row in enumerate(rows):
            out[i, :, k] = _between_rows(plane, float(np.clip(row + vertical[k], 0, height - 1)))
    if not np.isfinite(out).all():
        raise ValueError(
            f"stack must be finite; rows {rows[0]} to {rows[-1]} have NaN or infinite pixels"
        )
    return list(out)


def _between_rows(plane: Array, at: float) -> Array:
    """Interpolate by a Lanczos window of `_REACH` rows on either side."""
    whole = int(np.floor(at))
    part = at - whole
    if part < 1e-9:
        return np.asarray(plane[whole], np.float64)
    taps = np.arange(1 - _REACH, _REACH + 1)
    weights = np.sinc(part - taps) * np.sinc((part - taps) / _REACH)
    places = np.clip(whole + taps, 0, len(plane) - 1)
    return np.asarray((weights / weights.sum()) @ plane[places], np.float64)


def _average(
    slices: tuple[HorizontalAlignment, ...], start: Vector, angles: Vector
) -> tuple[Vector, Vector, Array]:
    """Average shifts over slices; also say how sure, and who had a say.

    The place of the axis is averaged by itself: in each slice it belongs to all projections together.
    """
    all_shifts = np.stack([found.shifts[1] for found in slices]) - start
    if len(slices) == 1:
        return slices[0].shifts[1], slices[0].uncertainties, np.ones_like(all_shifts)
    common = np.stack([gauge_part(shifts, angles) for shifts in all_shifts])
    agreed = agree(all_shifts - common, np.stack([found.uncertainties for found in slices]), angles)
    heard = agreed.weights.any(axis=1)
    horizontal = start + agreed.shifts + np.median(common[heard], axis=0)
    return horizontal, agreed.uncertainties, agreed.weights


def _notices(
    slices: tuple[HorizontalAlignment, ...], rows: tuple[int, ...], weights: Array
) -> tuple[TomographyWarning, ...]:
    """Each notice once, with the rows that it is of."""
    by_text: dict[tuple[type[TomographyWarning], str], list[int]] = {}
    for row, found in zip(rows, slices, strict=True):
        for notice in found.notices:
            by_text.setdefault((type(notice), str(notice)), []).append(row)
    notices = []
    for (kind, text), where in by_text.items():
        told = (
            ""
            if len(where) == len(rows)
            else f"Row{'s' * (len(where) > 1)} {', '.join(map(str, where))}: "
        )
        notices.append(kind(told + text))
    silent = [row for row, weight in zip(rows, weights, strict=True) if not weight.any()]
    if silent:
        notices.append(
            TomographyWarning(
                f"Rows {', '.join(map(str, silent))} disagree with most others and have no say"
            )
        )
    return tuple(notices)
