"""Alignment of a stack of projections: vertical, then horizontal from several slices; each stage is kept as it is done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from soct import __version__
from soct.errors import InputError, UsageError
from soct.formats.atomic import fsync_folder, write_text
from soct.formats.filled_arrays import array_suffix
from soct.formats.tiles import shown
from soct.space import FloatArray
from soct.tools.tomo_axis import AxisFound, axis_of_rows, check_axis
from soct.tools.tomo_blocks import ShiftMethod, aligned_projections
from soct.tools.tomo_input import Projections
from soct.tools.tomo_shifts import DOCUMENT, TABLE, check_table
from soct.tools.tomo_tables import read_shifts, write_shifts
from soct.tools.tomo_vertical import VerticalPart, align_vertically
from soct.tools.tomo_work import (
    FilledFile,
    Work,
    check_finished,
    fill_file,
    key_of,
    open_work,
    read_json,
)

if TYPE_CHECKING:
    from soct.tools.tomo_horizontal import HorizontalPart

DATASET = "exchange/data"
PAGE = "report.html"
_DIGITS = 4
_STACK_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class AlignOptions:
    """How a stack is aligned.

    Attributes
    ----------
    vertical, horizontal : bool
    slices : int
        Detector rows from which horizontal shifts are found.
    max_shift : float or None
        Greatest vertical displacement that is looked for, pixels; None: a quarter of the rows.
    derivatives : bool
        The projections are derivatives along the detector.
    axis : float or None
        Detector coordinate to which the rotation axis is brought; None: it stays where it is.
    freqcutoff : float
        Greatest detector frequency of re-projection, as a part of the greatest there is.
    maxit : int or None
        Most iterations of each stage; None: 50 vertically, 30 horizontally.
    pixtol : float
        Done when no shift moves by more, pixels.
    method : {"spline", "fourier", "linear"}
        How the stack is interpolated.
    """

    vertical: bool = True
    horizontal: bool = True
    slices: int = 5
    max_shift: float | None = None
    derivatives: bool = False
    axis: float | None = None
    freqcutoff: float = 0.6
    maxit: int | None = None
    pixtol: float = 1e-3
    method: ShiftMethod = "spline"


@dataclass(frozen=True)
class Alignment:
    """Where the object lies in every projection, and how far to trust it.

    Attributes
    ----------
    shifts : float64 ndarray (2, n)
        Vertical and horizontal displacement, pixels: ``aligned[k] = measured[k + s]``.
    vertical : VerticalPart or None
    horizontal : HorizontalPart or None
    axis : AxisFound or None
        Of the aligned projections; None where they do not tell it.
    notes, warnings : tuple of str
    """

    shifts: NDArray[np.float64]
    vertical: VerticalPart | None
    horizontal: HorizontalPart | None
    axis: AxisFound | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def verdict(self) -> str:
        """Say in a sentence what came out."""
        parts = [part.verdict() for part in (self.vertical, self.horizontal) if part is not None]
        if not parts:
            return "Nothing was aligned."
        return " ".join(parts)


@dataclass(frozen=True)
class Aligned:
    """What was written: a new alignment, or None where it was there; and the files."""

    alignment: Alignment | None
    document: dict[str, Any]
    files: tuple[Path, ...]


Tell = Callable[[str], None]
Progress = Callable[[str], Callable[[float], None]]


def align(
    opened: Projections,
    out: Path,
    options: AlignOptions,
    *,
    stack_out: Path | None = None,
    report: bool = True,
    tell: Tell = lambda _: None,
    progress: Progress = lambda _: lambda _: None,
) -> Aligned:
    """Align a stack and write the folder `out`: ``shifts.csv``, ``align.json``, ``report.html``.

    Stopped on the way, the same call goes on where it was; after it, it only writes an aligned stack that is missing.

    Raises
    ------
    UsageError
        An output exists and is not what this call would make, or nothing is asked for.
    InputError
        The stack cannot be read, or says nothing about shifts.
    ResourceError
        The disk is full.
    """
    if not (options.vertical or options.horizontal):
        raise UsageError("Neither direction is to be aligned", expected="at most one of --no-vertical and --no-horizontal")  # fmt: skip
    if options.axis is not None:
        check_axis(opened, options.axis, may_be_outside=False)
    suffix = "" if stack_out is None else array_suffix(stack_out)
    parameters = _parameters(opened, options)
    key = key_of(opened.fingerprint(), parameters)
    is_done = check_finished(out, out / DOCUMENT, key, parameters)
    if is_done:
        check_table(out / TABLE, read_json(out / DOCUMENT) or {})
    is_lacking_page = is_done and report and not (out / PAGE).exists()
    if is_done and not is_lacking_page and (stack_out is None or stack_out.exists()):
        return Aligned(None, read_json(out / DOCUMENT) or {}, _files(out, stack_out))
    with open_work(out, key, parameters, tell) as work:
        made = None
        if is_done and not is_lacking_page:
            shifts = read_shifts(out / TABLE, opened.all_radians, opened.numbers)
        else:
            if is_lacking_page:
                tell("the report is missing: it is made again, from the same measurement")
            made = _measure(opened, options, work, tell, progress)
            shifts = made.shifts
        if stack_out is not None and not (is_done and stack_out.exists()):
            _check_stack(stack_out, work)
            _write_stack(opened, shifts, options, work, FilledFile(stack_out, suffix, DATASET, (opened.count, opened.rows, opened.cols)), progress)  # fmt: skip
        if made is not None and is_done:
            _write_page(opened, made, options, out / PAGE, out.name)
            made = None
        elif made is not None:
            _publish(opened, made, options, parameters, key, out, work, report)
    return Aligned(made, read_json(out / DOCUMENT) or {}, _files(out, stack_out))


def _files(out: Path, stack_out: Path | None) -> tuple[Path, ...]:
    there = [out / name for name in (TABLE, DOCUMENT, PAGE) if (out / name).exists()]
    return (*there, *([stack_out] if stack_out is not None else []))


def _parameters(opened: Projections, options: AlignOptions) -> dict[str, Any]:
    return {
        "stack": opened.stack.path.name,
        "rows": [opened.first_row, opened.last_row],
        "values": opened.values,
        "vertical": options.vertical,
        "horizontal": options.horizontal,
        "slices": options.slices,
        "max_shift": options.max_shift,
        "derivatives": options.derivatives,
        "axis": options.axis,
        "freqcutoff": options.freqcutoff,
        "maxit": options.maxit,
        "pixtol": options.pixtol,
        "method": options.method,
        "excluded": list(opened.excluded),
    }


def _measure(
    opened: Projections, options: AlignOptions, work: Work, tell: Tell, progress: Progress
) -> Alignment:
    """Run both stages, or take what is kept of them."""
    shifts = np.zeros((2, opened.count))
    vertical = horizontal = None
    if options.vertical:
        vertical = align_vertically(opened, options, work, progress)
        shifts[0] = vertical.shifts
        tell(vertical.verdict())
    rows: FloatArray | None = None
    if options.horizontal:
        from soct.tools.tomo_horizontal import align_rows

        horizontal, rows = align_rows(
            opened,
            shifts,
            None if vertical is None else vertical.row_mass,
            options,
            work,
            tell,
            progress,
        )
        shifts[1] = horizontal.shifts
        tell(horizontal.verdict())
    axis, notes = _axis(opened, rows, options)
    if axis is not None:
        tell(axis.sentence())
    # Of each warning once, whichever stage has it.
    warnings = dict.fromkeys(
        [
            *opened.warnings,
            *opened.repairs.warnings(),
            *(vertical.warnings if vertical is not None else ()),
            *(horizontal.warnings if horizontal is not None else ()),
            *(axis.warnings if axis is not None else ()),
        ]
    )
    tell_of = [text for text in opened.repairs.sentences() if text not in warnings]
    for text in tell_of:
        tell(text)
    return Alignment(shifts, vertical, horizontal, axis, (*opened.told(), *notes), tuple(warnings))


def _axis(
    opened: Projections, rows: FloatArray | None, options: AlignOptions
) -> tuple[AxisFound | None, list[str]]:
    """Estimate the axis of the aligned rows, as far as they tell it."""
    if rows is None:
        return None, []
    try:
        return axis_of_rows(opened, rows, derivatives=options.derivatives), []
    except InputError as error:
        return None, [f"the rotation axis is not estimated: {error.found}"]


def _check_stack(stack_out: Path, work: Work) -> None:
    if stack_out.exists() and work.load("stack") is None:
        raise UsageError(
            "The aligned stack exists already; nothing is ever overwritten",
            file=shown(stack_out),
            expected="a new name",
        )
    if not stack_out.parent.is_dir():
        raise UsageError("The folder of the aligned stack does not exist", file=shown(stack_out.parent))  # fmt: skip


def _write_stack(
    opened: Projections,
    shifts: NDArray[np.float64],
    options: AlignOptions,
    work: Work,
    file: FilledFile,
    progress: Progress,
) -> None:
    size = max(1, _STACK_BLOCK_BYTES // (4 * opened.rows * opened.cols))
    blocks = [slice(k, min(k + size, opened.count)) for k in range(0, opened.count, size)]

    def compute(block: slice) -> FloatArray:
        return aligned_projections(opened, shifts, block, options.method)

    about = {"axes": "theta:y:x", "description": "line integrals, aligned by soct tomo align", "units": "1"}  # fmt: skip
    if options.derivatives:
        about["description"] = "derivatives of line integrals, aligned by soct tomo align"
    fill_file(
        work, "stack", file, blocks, compute, attributes=about,
        beside={"exchange/theta": (np.degrees(opened.radians), "degrees")},
        progress=progress("writing the aligned stack"),
    )  # fmt: skip


def _publish(
    opened: Projections,
    made: Alignment,
    options: AlignOptions,
    parameters: dict[str, Any],
    key: str,
    out: Path,
    work: Work,
    report: bool,
) -> None:
    """Write the folder under a hidden name, and give it its own in one step."""
    place = work.folder / "out"
    place.mkdir(exist_ok=True)
    residuals = tuple(
        None if part is None else part.residual_after for part in (made.vertical, made.horizontal)
    )
    write_shifts(place / TABLE, opened.all_radians, made.shifts, (residuals[0], residuals[1]), opened.numbers)  # fmt: skip
    document = as_json_object(opened, made, parameters, key)
    document["files"] = {
        TABLE: {"sha256": hashlib.sha256((place / TABLE).read_bytes()).hexdigest()}
    }
    write_text(place / DOCUMENT, json.dumps(document, indent=2) + "\n")
    if report:
        _write_page(opened, made, options, place / PAGE, out.name)
    place.rename(out)
    fsync_folder(out.parent)


def _write_page(
    opened: Projections, made: Alignment, options: AlignOptions, page: Path, name: str
) -> None:
    from soct.tools.tomo_align_report import write_align_report

    write_align_report(opened, made, options, page, name)


def as_json_object(
    opened: Projections, made: Alignment, parameters: dict[str, Any], key: str
) -> dict[str, Any]:
    """Return everything that was found, for programs."""

    def rms(values: NDArray[np.float64]) -> float:
        return float(np.sqrt(np.mean(values**2)))

    def residual(values: NDArray[np.float64]) -> float | None:
        return round(rms(values[np.isfinite(values)]), 6) if np.isfinite(values).any() else None

    def stage(part: VerticalPart | HorizontalPart | None) -> dict[str, Any] | None:
        if part is None:
            return None
        return {
            "rms_shift_px": round(rms(part.shifts), _DIGITS),
            "residual_before": residual(part.residual_before),
            "residual_after": residual(part.residual_after),
            "uncertainty_px": part.typical_uncertainty(),
            "converged": part.converged,
            "rows": list(part.rows),
        }

    axis = made.axis
    return {
        "soct_version": __version__,
        "key": key,
        "parameters": parameters,
        "verdict": made.verdict(),
        "stack_mark": opened.whole.content_mark(),
        "projections": opened.count,
        "excluded": list(opened.excluded),
        "rows": opened.rows,
        "detector_rows": opened.stack.shape[1],
        "cols": opened.cols,
        "vertical": stage(made.vertical),
        "horizontal": stage(made.horizontal),
        "axis_px": None if axis is None else round(axis.axis, _DIGITS),
        "axis_uncertainty_px": None if axis is None else axis.rounded_uncertainty,
        "notes": list(made.notes),
        "warnings": list(made.warnings),
    }
