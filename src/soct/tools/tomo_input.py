"""What `soct tomo` works on: a stack of projections as line integrals, with its angles, read in blocks."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, UsageError
from soct.formats.projection_angles import Angles, Unit, read_angles, spanned, spread
from soct.formats.projection_stacks import (
    ProjectionStack,
    SinogramAxes,
    as_sinogram,
    open_stack,
)
from soct.formats.tiles import shown
from soct.space import FloatArray
from soct.tomography.normalisation import (
    Fields,
    finite_values,
    line_integrals,
    looks_like_counts,
    make_fields,
)
from soct.tools.tomo_repairs import Repairs

Values = Literal["auto", "line-integrals", "transmission"]
_BLOCK_BYTES = 256 << 20
_SAMPLE = 16
_LISTED = 6


@dataclass(frozen=True)
class InputOptions:
    """How a stack is to be understood.

    Attributes
    ----------
    dataset : str or None
        Of an HDF5 file.
    angles : Path or None
        File of angles.
    angle_range : (float, float) or None
        Angles of the first and the last projection.
    span : float or None
        Angle that all projections cover evenly, the next after the last included.
    angle_unit : {"auto", "deg", "rad"}
    values : {"auto", "line-integrals", "transmission"}
        ``auto``: counts where the stack has flat fields, else line integrals.
    sinogram_axes : {"auto", "angle-detector", "detector-angle"}
        Of a 2-D image.
    rows : (int or None, int or None) or None
        Detector rows to use, the last one excluded; None: from the first, or to the last.
    """

    dataset: str | None = None
    angles: Path | None = None
    angle_range: tuple[float, float] | None = None
    span: float | None = None
    angle_unit: Unit = "auto"
    values: Values = "auto"
    sinogram_axes: SinogramAxes = "auto"
    rows: tuple[int | None, int | None] | None = None


@dataclass
class Projections:
    """A stack as line integrals. Use `open_projections`.

    Attributes
    ----------
    stack : ProjectionStack
    options : InputOptions
    angles : Angles
    radians : float64 ndarray (n,)
    first_row, last_row : int
        Rows in use, the last one excluded.
    values : str
        What the stack holds: counts, transmission or line integrals.
    notes : list of str
        What was decided.
    repairs : Repairs
        What was replaced in all blocks that were read.
    """

    stack: ProjectionStack
    options: InputOptions
    angles: Angles
    radians: NDArray[np.float64]
    first_row: int
    last_row: int
    values: Literal["counts", "transmission", "line integrals"]
    notes: list[str]
    warnings: list[str] = field(default_factory=list)
    repairs: Repairs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.repairs = Repairs.of(self.count, self.rows, self.cols)

    @property
    def count(self) -> int:
        """Number of projections."""
        return self.stack.shape[0]

    @property
    def rows(self) -> int:
        """Number of rows in use."""
        return self.last_row - self.first_row

    @property
    def cols(self) -> int:
        """Number of detector pixels in a row."""
        return self.stack.shape[2]

    @property
    def span_deg(self) -> float:
        """Angle that the projections cover, with one usual step more."""
        turned = np.sort(self.radians)
        step = float(np.median(np.diff(turned)))
        return float(np.degrees(turned[-1] - turned[0] + step))

    @cached_property
    def _fields(self) -> Fields | None:
        if self.values != "counts" or self.stack.flats is None:
            return None
        rows = slice(self.first_row, self.last_row)
        darks = None if self.stack.darks is None else self.stack.darks.read(rows)
        found = make_fields(self.stack.flats.read(rows), darks)
        self.repairs.dead = found.dead.sum(axis=1)
        return found

    def read(self, projections: slice, rows: slice) -> FloatArray:
        """Return line integrals ``(m, r, cols)``; rows count from the first one in use.

        Raises
        ------
        InputError
            The file is incomplete, or a projection has a line in which nothing can be used.
        """
        first, last, _ = rows.indices(self.rows)
        start, end, _ = projections.indices(self.count)
        block = self.stack.read(
            slice(start, end), slice(self.first_row + first, self.first_row + last)
        )
        if self.values == "line integrals":
            found = finite_values(block)
        else:
            fields = self._fields
            part = None if fields is None else fields.of_rows(slice(first, last))
            found = line_integrals(block, part)
        self.repairs.note((slice(start, end), slice(first, last)), found)
        self._check_repairs()
        return found.values

    def _check_repairs(self) -> None:
        lost, integrals = self.repairs.lost, self.values == "line integrals"
        if lost:
            more = f" and {len(lost) - _LISTED} more" if len(lost) > _LISTED else ""
            raise InputError(
                "Some projections have lines in which no value can be used",
                file=shown(self.stack.path),
                expected="finite numbers" + ("" if integrals else " above zero"),
                found="projections " + ", ".join(str(k) for k in lost[:_LISTED]) + more,
                hint="Leave these projections out, or choose --rows that are measured in all.",
            )
        if self.repairs.is_too_much:
            raise InputError(
                "Too many values cannot be used",
                file=shown(self.stack.path),
                expected="projections of which nearly all values are finite"
                + ("" if integrals else ", and brighter than the dark field"),
                found=f"{self.repairs.fraction:.0%} are not",
                hint=None
                if integrals
                else "If these are line integrals already, say so: --line-integrals.",
            )

    def blocks(self) -> list[slice]:
        """Return the projections in blocks that fit into memory."""
        size = max(1, _BLOCK_BYTES // (self.rows * self.cols * 12))
        return [slice(k, min(k + size, self.count)) for k in range(0, self.count, size)]

    def told(self) -> tuple[str, ...]:
        """Return what was decided, and what was replaced in what was read so far."""
        return (*self.notes, *self.repairs.sentences())

    def fingerprint(self) -> str:
        """Return what tells this input, as it is understood, from others."""
        import hashlib

        told = (self.stack.fingerprint(), self.stack.shape, self.first_row, self.last_row, self.values)  # fmt: skip
        digest = hashlib.sha256(repr(told).encode())
        digest.update(np.ascontiguousarray(self.radians).tobytes())
        return digest.hexdigest()[:32]


def open_projections(path: Path, options: InputOptions) -> Projections:
    """Open a stack and find out what its values and angles are.

    Raises
    ------
    InputError
        The stack or its angles cannot be used.
    UsageError
        What is asked for does not fit it, or nothing says the angles.
    """
    stack = open_stack(path, dataset=options.dataset)
    given = None if options.angles is None else read_angles(options.angles)
    stack = as_sinogram(stack, options.sinogram_axes, None if given is None else len(given.values))
    angles, radians = _angles(stack, given, options)
    first, last = _rows(stack, options.rows)
    values, note = _values(stack, options.values)
    notes = [*stack.notes, note, *_angle_notes(angles, radians, options)]
    opened = Projections(stack, options, angles, radians, first, last, values, notes)
    _doubt(opened)
    return opened


def _angles(
    stack: ProjectionStack, given: Angles | None, options: InputOptions
) -> tuple[Angles, NDArray[np.float64]]:
    from soct.tomography.angles import radians

    n = stack.shape[0]
    asked = [
        name
        for name, value in (
            ("--angles", options.angles),
            ("--angle-range", options.angle_range),
            ("--span", options.span),
        )
        if value is not None
    ]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} both say the angles", expected="one of them")
    if options.angle_range is not None:
        found = spread(n, *options.angle_range, options.angle_unit)
    elif options.span is not None:
        found = spanned(n, options.span, options.angle_unit)
    elif given is not None or stack.angles is not None:
        found = given or stack.angles  # type: ignore[assignment]
    else:
        raise UsageError(
            "Nothing says at which angles the projections were taken",
            file=shown(stack.path),
            expected="--angles FILE, --angle-range FIRST LAST or --span DEGREES",
            found="a stack without angles",
            hint="--span 180: evenly over half a turn, the first at 0.",
        )
    if len(found.values) != n:
        raise InputError(
            "The number of angles is not that of the projections",
            file=shown(options.angles or stack.path),
            expected=f"{n} angles, one per projection of {shown(stack.path.name)}",
            found=f"{len(found.values)} ({found.source})",
        )
    if float(np.ptp(found.values)) == 0.0:
        raise InputError("All projections have the same angle", file=shown(stack.path), found=found.source)  # fmt: skip
    unit = found.unit if options.angle_unit == "auto" else options.angle_unit
    return found, radians(found.values, unit)


def _angle_notes(angles: Angles, radians: NDArray[np.float64], options: InputOptions) -> list[str]:
    low, high = float(np.degrees(radians.min())), float(np.degrees(radians.max()))
    # Radians of whole turns look like small degrees only where nothing says the unit.
    guessed = angles.unit == "auto" and options.angle_unit == "auto"
    was_radians = np.isclose(np.ptp(radians), np.ptp(angles.values))
    unit = f", taken for {'radians' if was_radians else 'degrees'} by their span" if guessed else ""
    return [f"{len(radians)} angles from {low:.4g} to {high:.4g} degrees ({angles.source}{unit})"]


def _rows(stack: ProjectionStack, asked: tuple[int | None, int | None] | None) -> tuple[int, int]:
    total = stack.shape[1]
    if asked is None:
        return 0, total
    first, last = asked[0] or 0, total if asked[1] is None else asked[1]
    if not 0 <= first < last <= total:
        raise UsageError(
            "The rows are not in the stack",
            file=shown(stack.path),
            expected=f"--rows A:B with 0 <= A < B <= {total}",
            found=f"{first}:{last}",
        )
    return first, last


def _values(
    stack: ProjectionStack, asked: Values
) -> tuple[Literal["counts", "transmission", "line integrals"], str]:
    if asked == "line-integrals":
        return "line integrals", "values are line integrals, as --line-integrals says"
    if asked == "transmission":
        return "transmission", "values are transmissions: line integrals are minus their logarithm"
    if stack.flats is not None:
        darks = "" if stack.darks is None else f" and {stack.darks.shape[0]} dark"
        return (
            "counts",
            f"values are counts: divided by {stack.flats.shape[0]} flat{darks} fields (medians), then minus the logarithm",
        )
    return "line integrals", "no flat fields: values are taken for line integrals"


def _doubt(opened: Projections) -> None:
    """Say where values that are taken for line integrals look like something else."""
    if opened.values != "line integrals" or opened.options.values != "auto":
        return
    n, rows = opened.count, opened.rows
    some = slice(0, n, max(1, n // _SAMPLE))
    middle = slice(opened.first_row + rows // 3, opened.first_row + max(rows // 3 + 1, 2 * rows // 3))  # fmt: skip
    sample = np.concatenate([opened.stack.read(slice(k, k + 1), middle) for k in range(*some.indices(n))])  # fmt: skip
    if looks_like_counts(sample):
        opened.warnings.append(
            "projections are brighter beside the object than behind it, as counts and transmissions are, but were taken for "
            "line integrals: say --transmission if they are transmissions, or --line-integrals if they are right"
        )
