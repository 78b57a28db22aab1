"""Slices from a stack of projections, block of rows by block of rows, larger than memory, continued after a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soct import __version__
from soct.compute.backend import Device, Wanted, open_device
from soct.errors import InputError, ResourceError, UsageError
from soct.formats.atomic import write_text
from soct.formats.filled_arrays import array_suffix
from soct.formats.tiles import shown
from soct.space import FloatArray
from soct.tomography import reconstruct_stack
from soct.tools.tomo_axis import FULL_TURN_DEG, AxisFound, check_axis, find_axis
from soct.tools.tomo_blocks import MARGIN, aligned_rows
from soct.tools.tomo_input import Projections
from soct.tools.tomo_shifts import take_shifts
from soct.tools.tomo_work import FilledFile, check_finished, fill_file, key_of, open_work

Algorithm = Literal["FBP", "SART"]
DATASET = "reconstruction/data"
DEFAULT_MEMORY = 2 << 30
_COPIES = 12
"""Of a block of projections, at the most: read, shifted, filtered with padding, and spectra."""


@dataclass(frozen=True)
class ReconstructOptions:
    """How slices are made.

    Attributes
    ----------
    shifts : Path or None
        ``shifts.csv``, or the folder that `soct tomo align` made.
    axis : float or None
        Detector coordinate of the rotation axis; None: estimated.
    algorithm : {"FBP", "SART"}
    filtertype : str
        Of FBP.
    iterations : int
        Of SART.
    freqcutoff : float
        Greatest detector frequency that is used, as a part of the greatest there is.
    derivatives : bool
        The projections are derivatives along the detector.
    circle : bool
        Leave 0 what lies outside of the circle that all projections see.
    memory : int
        Bytes to stay below.
    padding : {"zero", "edge"}
        What a projection of FBP is taken to be beyond the detector.
    extended : bool
        Half an acquisition: opposite projections of a full turn complete each other.
    gpu : {"auto", "off", "require"}
        Where it is computed; the result is the same but for rounding.
    """

    shifts: Path | None = None
    axis: float | None = None
    algorithm: Algorithm = "FBP"
    filtertype: str = "ram-lak"
    iterations: int = 10
    freqcutoff: float = 1.0
    derivatives: bool = False
    circle: bool = True
    memory: int = DEFAULT_MEMORY
    padding: Literal["zero", "edge"] = "zero"
    extended: bool = False
    gpu: Wanted = "auto"


@dataclass(frozen=True)
class Reconstruction:
    """What was made.

    Attributes
    ----------
    out : Path
    axis : float
    found : AxisFound or None
        How the axis was estimated; None where it was given.
    shifts : float64 ndarray (2, n)
    is_new : bool
        False: the same call had made it before.
    notes, warnings : tuple of str
    files : tuple of Path
    """

    out: Path
    axis: float
    found: AxisFound | None
    shifts: NDArray[np.float64]
    is_new: bool
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    files: tuple[Path, ...] = field(default=())
    replaced: tuple[str, ...] = ()
    """Values that were replaced on reading."""


Tell = Callable[[str], None]
Progress = Callable[[str], Callable[[float], None]]


def reconstruct(
    opened: Projections,
    out: Path,
    options: ReconstructOptions,
    *,
    report: bool = True,
    tell: Tell = lambda _: None,
    progress: Progress = lambda _: lambda _: None,
) -> Reconstruction:
    """Reconstruct all rows in use to a file.

    Raises
    ------
    UsageError
        The output exists and is not what this call would make.
    InputError
        The stack or the shifts cannot be read.
    ResourceError
        The memory does not hold a block, or the disk is full.
    """
    suffix = array_suffix(out)
    given = take_shifts(opened, options.shifts)
    opened, shifts = given.opened, given.values
    before = given.warnings
    _check_extended(opened, options)
    if options.axis is not None:
        before += check_axis(opened, options.axis, may_be_outside=True)
    parameters = _parameters(opened, options, given.path)
    key = key_of(opened.fingerprint() + shifts.tobytes().hex(), parameters)
    document, page = out.with_suffix(".json"), out.with_suffix(".html")
    beside = [document, *([page] if report else [])]
    if check_finished(out, document, key, parameters, beside=beside):
        return _as_before(opened, out, document, shifts, options, page if report else None, tell, progress)  # fmt: skip
    blocks = block_rows(opened, shifts, options.memory, extended=options.extended)
    device = open_device(options.gpu)
    with open_work(out, key, parameters, tell) as work:
        stored = work.load("axis")
        if options.axis is not None:
            axis, found = options.axis, None
        elif stored is not None:
            axis, found = float(stored["axis"]), AxisFound.unpacked(stored)
        else:
            found = find_axis(opened, shifts, derivatives=options.derivatives, progress=progress("estimating the rotation axis"))  # fmt: skip
            axis = found.axis
            work.save("axis", **found.packed())
        if found is not None:
            tell(found.sentence())
            if options.padding == "zero" and any(
                "beyond the detector" in t for t in found.warnings
            ):
                before += ("of an object that reaches beyond the detector, --padding edge makes slices without a bright rim",)  # fmt: skip
        side = _side(opened, shifts, axis, options)
        some = "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"
        tell(f"{opened.rows} slices of {side} x {side} pixels, by {options.algorithm}, in {some}")

        told = progress("reconstructing")

        def compute(rows: slice) -> FloatArray:
            def part(done: int, _: int) -> None:
                told((rows.start + done) / opened.rows)

            return slices_of(opened, shifts, rows, axis, options, device, part)

        file = FilledFile(out, suffix, DATASET, (opened.rows, side, side))
        about = {"axes": "z:y:x", "description": "slices", "units": "per pixel", "axis_px": f"{axis:.4f}"}  # fmt: skip
        fill_file(work, "slices", file, blocks, compute, attributes=about)  # fmt: skip
        warnings = (
            *opened.warnings,
            *before,
            *opened.repairs.warnings(),
            *(found.warnings if found is not None else ()),
            *device.fallbacks,
        )
        notes = (*opened.told(), f"computed on {device.backend.name}")
        made = Reconstruction(out, axis, found, shifts, True, notes, warnings)
        files = [out, *([page] if report else []), document]
        if report:
            from soct.tools.tomo_reconstruct_report import write_reconstruct_report

            write_reconstruct_report(opened, made, options, page)
        content = _as_json(opened, made, parameters, key, [f.name for f in files])
        content["shape"] = [opened.rows, side, side]
        content["bytes"] = out.stat().st_size
        content["shifts"] = given.as_json_object()
        write_text(document, json.dumps(content, indent=2) + "\n")
    replaced = tuple(opened.repairs.sentences())
    return Reconstruction(out, axis, found, shifts, True, made.notes, warnings, tuple(files), replaced)  # fmt: skip


def _parameters(
    opened: Projections, options: ReconstructOptions, table: Path | None
) -> dict[str, Any]:
    return {
        "stack": opened.stack.path.name,
        "rows": [opened.first_row, opened.last_row],
        "values": opened.values,
        "shifts": None if table is None else table.name,
        "axis": options.axis,
        "algorithm": options.algorithm,
        "filter": options.filtertype if options.algorithm == "FBP" else None,
        "iterations": options.iterations if options.algorithm == "SART" else None,
        "freqcutoff": options.freqcutoff,
        "derivatives": options.derivatives,
        "circle": options.circle,
        "padding": options.padding if options.algorithm == "FBP" else None,
        "extended": options.extended,
        "excluded": list(opened.excluded),
    }


def _as_before(
    opened: Projections,
    out: Path,
    document: Path,
    shifts: NDArray[np.float64],
    options: ReconstructOptions,
    page: Path | None,
    tell: Tell,
    progress: Progress,
) -> Reconstruction:
    """Return what the same call made before; a report that is missing is written.

    Raises
    ------
    InputError
        The slices were changed by something else.
    """
    content = json.loads(document.read_bytes())
    size = out.stat().st_size
    if size != content.get("bytes", size):
        raise InputError(
            "A finished result was changed by something else",
            file=shown(out),
            expected=f"{content['bytes']} bytes, as soct wrote it",
            found=f"{size} bytes",
            hint="Remove it with the files beside it and reconstruct again, or give another name to what was changed.",
        )
    found, axis = None, float(content["axis_px"])
    files = [out.with_name(name) for name in content["files"]]
    is_lacking = page is not None and not page.exists()
    if is_lacking and options.axis is None:
        found = find_axis(opened, shifts, derivatives=options.derivatives, progress=progress("estimating the rotation axis"))  # fmt: skip
        axis = found.axis
    if page is not None and page not in files:
        files.insert(1, page)
    made = Reconstruction(out, axis, found, shifts, False, tuple(content["notes"]), tuple(content["warnings"]), tuple(files))  # fmt: skip
    if page is not None and is_lacking:
        from soct.tools.tomo_reconstruct_report import write_reconstruct_report

        tell("the report is missing: it is made again")
        write_reconstruct_report(opened, made, options, page)
    return made


def _check_extended(opened: Projections, options: ReconstructOptions) -> None:
    """Refuse half an acquisition that is none.

    Raises
    ------
    UsageError
        It is no full turn, or of derivatives.
    """
    if not options.extended:
        return
    if options.derivatives:
        raise UsageError("Half an acquisition of derivatives cannot be completed", expected="--extended without --derivatives")  # fmt: skip
    if opened.span_deg < FULL_TURN_DEG:
        raise UsageError(
            "Half an acquisition needs a full turn, so that opposite projections complete each other",
            file=shown(opened.stack.path),
            expected="angles over 360 degrees for --extended",
            found=f"{opened.span_deg:.4g} degrees",
        )


def _side(
    opened: Projections, shifts: NDArray[np.float64], axis: float, options: ReconstructOptions
) -> int:
    """Return rows and columns of a slice."""
    if not options.extended:
        return opened.cols
    from soct.tomography.field_of_view import Geometry, extended_size

    n, cols = opened.count, opened.cols
    return extended_size(Geometry.of(opened.radians, "rad", axis, shifts[1], cols, n), cols)


def _as_json(
    opened: Projections,
    made: Reconstruction,
    parameters: dict[str, Any],
    key: str,
    files: list[str],
) -> dict[str, Any]:
    return {
        "soct_version": __version__,
        "key": key,
        "parameters": parameters,
        "projections": opened.count,
        "excluded": list(opened.excluded),
        "axis_px": round(made.axis, 4),
        "axis_uncertainty_px": None if made.found is None else made.found.rounded_uncertainty,
        "notes": list(made.notes),
        "warnings": list(made.warnings),
        "files": files,
    }


def block_rows(
    opened: Projections, shifts: NDArray[np.float64], memory: int, *, extended: bool = False
) -> list[slice]:
    """Return the rows in blocks that stay below a size of memory.

    Raises
    ------
    ResourceError
        Not even one row does.
    """
    n, cols = opened.count, opened.cols
    reach = 2 * (MARGIN + int(np.ceil(np.abs(shifts[0]).max()))) if shifts[0].any() else 0
    margin = 2 * 4 * min(reach, opened.rows) * n * cols
    side = 2 * cols if extended else cols
    each = 4 * (_COPIES * n * cols + 4 * side * side)
    rows = (memory - margin) // each
    if rows < 1:
        need = margin + each
        raise ResourceError(
            "The memory does not hold one slice with its projections",
            expected=f"--memory of at least {-(-need // (1 << 20))} MB",
            found=f"{memory >> 20} MB",
        )
    step = int(min(rows, opened.rows))
    return [slice(a, min(a + step, opened.rows)) for a in range(0, opened.rows, step)]


def slices_of(
    opened: Projections,
    shifts: NDArray[np.float64],
    rows: slice,
    axis: float,
    options: ReconstructOptions,
    device: Device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FloatArray:
    """Return slices ``(r, cols, cols)``: shifted vertically by interpolation, horizontally by where each projection goes."""
    aligned = aligned_rows(opened, shifts, rows, horizontally=False)
    own: dict[str, Any] = (
        {"filtertype": options.filtertype, "padding": options.padding}
        if options.algorithm == "FBP"
        else {"iterations": options.iterations}
    )
    slices = reconstruct_stack(
        aligned,
        opened.radians,
        theta_unit="rad",
        axis=axis,
        shifts=shifts[1],
        device=device,
        progress=progress,
        algorithm=options.algorithm,
        freqcutoff=options.freqcutoff,
        derivatives=options.derivatives,
        circle=options.circle,
        extended=options.extended,
        **own,
    )
    return np.asarray(slices, np.float32)
