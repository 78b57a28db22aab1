"""The horizontal stage of `soct tomo align`: several slices by themselves, each kept as it is done, then what most of them say."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.space import FloatArray
from soct.tomography import align_horizontal, compute_aligned_stack
from soct.tomography.consensus import SURE_PX, agree
from soct.tools.tomo_axis import axis_of_rows
from soct.tools.tomo_blocks import aligned_rows
from soct.tools.tomo_input import Projections
from soct.tools.tomo_words import all_in_options, in_options, renumbered
from soct.tools.tomo_work import Work

if TYPE_CHECKING:
    from soct.tools.tomo_align import AlignOptions

Tell = Callable[[str], None]
Progress = Callable[[str], Callable[[float], None]]
_LEAST_MASS = 0.25
"""Of the greatest mass of a row: slices with less hold too little of the object."""
_ALIGNED_PX = 0.05
_GAINED = 0.98


@dataclass(frozen=True)
class HorizontalPart:
    """Horizontal shifts of all projections.

    Attributes
    ----------
    shifts, uncertainty : float64 ndarray (n,)
        Pixels; the uncertainty is how far slices agree, NaN where one slice alone tells.
    residual_before, residual_after : float64 ndarray (n,)
        Difference of each projection to what the others say of it, as a part of the sinogram's own.
    residual_expected : float64 ndarray (n,)
        About what noise and the making of slices leave of it where shifts are right.
    converged : bool
    warnings : tuple of str
    rows : tuple of int
        Detector rows of the slices.
    """

    shifts: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    residual_before: NDArray[np.float64]
    residual_after: NDArray[np.float64]
    residual_expected: NDArray[np.float64]
    converged: bool
    warnings: tuple[str, ...]
    rows: tuple[int, ...]
    axis: float
    """Of the aligned projections, as far as the slices tell it."""

    def typical_uncertainty(self) -> float | None:
        """Median standard deviation of a shift, pixels."""
        known = self.uncertainty[np.isfinite(self.uncertainty)]
        return round(float(np.median(known)), 4) if known.size else None

    def verdict(self) -> str:
        """Say in a sentence what came out."""
        before, after, expected = (
            float(np.sqrt(np.nanmean(v**2)))
            for v in (self.residual_before, self.residual_after, self.residual_expected)
        )
        least = f"about {expected:.2%} is what noise and the making of slices leave"
        if not self.shifts.any():
            return f"Horizontal: no shifts were found that make projections fit better; they disagree with each other by {after:.2%} ({least})."
        moved = float(self.shifts.std())
        if moved < _ALIGNED_PX:
            return f"Horizontal: aligned already, within {moved:.2g} px RMS; projections disagree with each other by {after:.2%} ({least})."
        return f"Horizontal: displaced by {moved:.3g} px RMS; projections disagree with each other by {before:.2%} before and {after:.2%} after ({least})."


@dataclass(frozen=True)
class SliceShifts:
    """What one slice says.

    Attributes
    ----------
    row : int
        Of the detector.
    shifts, deviations : float64 ndarray (n,)
        Horizontal displacement about the axis, and its standard deviation as far as noise causes it, pixels.
    axis : float
        Of the aligned projections.
    residual_before, residual_after, residual_expected : float64 ndarray (n,)
        As a part of the sinogram's root mean square.
    converged : bool
    warnings : tuple of str
    """

    row: int
    shifts: NDArray[np.float64]
    deviations: NDArray[np.float64]
    axis: float
    residual_before: NDArray[np.float64]
    residual_after: NDArray[np.float64]
    residual_expected: NDArray[np.float64]
    converged: bool
    warnings: tuple[str, ...]

    def packed(self) -> dict[str, Any]:
        """Return all as arrays, to be kept."""
        return {**vars(self), "warnings": np.array(self.warnings, np.str_)}

    @classmethod
    def unpacked(cls, stored: Mapping[str, Any]) -> SliceShifts:
        """Return what `packed` kept."""
        return cls(
            int(stored["row"]), stored["shifts"], stored["deviations"], float(stored["axis"]),
            stored["residual_before"], stored["residual_after"], stored["residual_expected"], bool(stored["converged"]),
            tuple(str(text) for text in stored["warnings"]),
        )  # fmt: skip


def choose_rows(
    opened: Projections, count: int, mass: NDArray[np.float64] | None, reach: float = 0.0
) -> list[int]:
    """Return rows from top to bottom that show something, counted from the first in use.

    Parameters
    ----------
    opened : Projections
    count : int
        At most so many.
    mass : float64 ndarray (rows,) or None
        What each row shows; None: not known.
    reach : float
        Greatest vertical displacement: rows so near to the edges are not seen in all projections.
    """
    margin = int(np.ceil(reach))
    if opened.rows - 2 * margin < count:
        margin = 0
    edges = np.linspace(margin, opened.rows - margin, min(count, opened.rows) + 1)
    chosen = []
    for low, high in pairwise(edges.tolist()):
        inside = np.arange(int(np.ceil(low)), max(int(np.ceil(low)) + 1, int(np.ceil(high))))
        if mass is not None:
            inside = inside[mass[inside] >= _LEAST_MASS * mass.max()]
        if inside.size:
            middle = 0.5 * (low + high - 1)
            chosen.append(int(inside[np.argmin(np.abs(inside - middle))]))
    return chosen


def align_rows(
    opened: Projections,
    shifts: NDArray[np.float64],
    mass: NDArray[np.float64] | None,
    options: AlignOptions,
    work: Work,
    tell: Tell,
    progress: Progress,
) -> tuple[HorizontalPart, FloatArray]:
    """Find horizontal shifts from several slices, or take those that are kept.

    Parameters
    ----------
    opened : Projections
    shifts : float64 ndarray (2, n)
        Vertical ones are taken away first.
    mass : float64 ndarray (rows,) or None
        What each row shows.
    options : AlignOptions
    work : Work
        Keeps every slice as it is done.
    tell, progress : callable

    Returns
    -------
    HorizontalPart
    float32 ndarray (n, r, cols)
        The rows of the slices, aligned.

    Raises
    ------
    InputError
        No slice tells anything.
    """
    chosen = choose_rows(opened, options.slices, mass, float(np.abs(shifts[0]).max()))
    rows = np.concatenate(
        [aligned_rows(opened, shifts, slice(r, r + 1), horizontally=False) for r in chosen], axis=1
    )
    axis = _start_axis(opened, rows, options, work, tell)
    some = "1 slice" if len(chosen) == 1 else f"{len(chosen)} slices"
    told = progress(f"aligning {some} horizontally")
    found, failures = [], []
    for i, row in enumerate(chosen):
        name = f"slice-{opened.first_row + row}"
        stored = work.load(name)
        if stored is not None:
            found.append(SliceShifts.unpacked(stored))
        else:
            try:
                made = _align_slice(opened, rows[:, i], opened.first_row + row, axis, options)
            except ValueError as error:
                failures.append(
                    f"row {opened.first_row + row} is not used: {in_options(str(error))}"
                )
            else:
                work.save(name, **made.packed())
                found.append(made)
        told((i + 1) / len(chosen))
    if not found:
        raise InputError(
            "No slice tells horizontal shifts",
            file=shown(opened.stack.path),
            found=failures[0],
            hint="Align vertically alone (--no-horizontal), or choose other --rows.",
        )
    part = combine(found, opened.radians, failures)
    if options.axis is not None:
        # Asked for, the axis is brought there.
        part = _moved(part, part.axis - options.axis, options.axis)
    moves = np.stack([np.zeros(opened.count), part.shifts])
    return part, np.asarray(compute_aligned_stack(rows, moves, "spline", out=rows))


def _start_axis(
    opened: Projections, rows: FloatArray, options: AlignOptions, work: Work, tell: Tell
) -> float:
    """Estimate the axis before projections are aligned: a truncated object does not tell its shifts without."""
    if options.axis is not None:
        return options.axis
    stored = work.load("start-axis")
    if stored is not None:
        return float(stored["axis"])
    try:
        axis = axis_of_rows(opened, rows, derivatives=options.derivatives).axis
    except InputError as error:
        axis = float(opened.cols // 2)
        tell(f"the axis is taken to be the middle of the detector at first: {error.found}")
    work.save("start-axis", axis=axis)
    return axis


def _align_slice(
    opened: Projections, sinogram: FloatArray, row: int, axis: float, options: AlignOptions
) -> SliceShifts:
    own = {} if options.maxit is None else {"maxit": options.maxit}
    found = align_horizontal(
        sinogram.T,
        opened.radians,
        theta_unit="rad",
        axis=axis,
        pixtol=options.pixtol,
        freqcutoff=options.freqcutoff,
        derivatives=options.derivatives,
        **own,
    )
    # What all projections share is where the axis lies.
    moved = found.axis_before - found.axis
    return SliceShifts(
        row,
        found.shifts[1] - moved,
        found.uncertainties,
        found.axis_before,
        found.residuals_before,
        found.residuals_after,
        found.residuals_expected,
        bool(found.converged),
        renumbered(all_in_options(found.notices), opened.numbers.tolist()),
    )


def combine(
    slices: Sequence[SliceShifts], radians: NDArray[np.float64], failures: Sequence[str] = ()
) -> HorizontalPart:
    """Return what most slices say of each projection: a robust mean, weighed by how sure each is."""
    agreed = agree(
        np.stack([s.shifts for s in slices]), np.stack([s.deviations for s in slices]), radians
    )
    mean = agreed.shifts
    part = 1.0 / np.array([np.median(s.deviations) ** 2 + SURE_PX**2 for s in slices])
    axis = float(np.average([s.axis for s in slices], weights=part))
    before, after, expected = (
        np.sqrt(np.mean([values**2 for values in each], axis=0))
        for each in zip(
            *((s.residual_before, s.residual_after, s.residual_expected) for s in slices),
            strict=True,
        )
    )
    doubt = _doubt(mean, before, after)
    return HorizontalPart(
        np.zeros_like(mean) if doubt else mean,
        agreed.uncertainties,
        before,
        before if doubt else after,
        expected,
        all(s.converged for s in slices),
        (*failures, *_grouped(slices), *doubt),
        tuple(s.row for s in slices),
        axis,
    )


def _moved(part: HorizontalPart, constant: float, axis: float) -> HorizontalPart:
    return replace(part, shifts=part.shifts + constant, axis=axis)


def _doubt(
    shifts: NDArray[np.float64], before: NDArray[np.float64], after: NDArray[np.float64]
) -> list[str]:
    """Say why shifts are not used, where they are not."""
    first, last = (float(np.sqrt(np.mean(values**2))) for values in (before, after))
    if shifts.std() < _ALIGNED_PX or last < _GAINED * first:
        return []
    return [
        f"horizontal shifts of {shifts.std():.2g} px RMS were found, yet projections fit each other no better with them "
        f"({first:.2%} before, {last:.2%} after): they may be chance, and projections are left as they are"
    ]


def _grouped(slices: Sequence[SliceShifts]) -> list[str]:
    """Return what slices warn of, each kind once, with the rows that it holds for."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for one in slices:
        for text in one.warnings:
            kinds.setdefault(re.sub(r"\d[\d.,\s-]*", "# ", text), []).append((one.row, text))
    told = []
    for found in kinds.values():
        rows = ", ".join(str(row) for row, _ in found)
        where = (
            "in all slices"
            if len(found) == len(slices) > 1
            else f"in row {rows}"
            if len(found) == 1
            else f"in rows {rows}"
        )
        more = "" if len(found) == 1 else f" (row {found[0][0]})"
        told.append(f"{where}: {found[0][1]}{more}")
    return told
