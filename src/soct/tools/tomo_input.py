"""What `soct tomo` works on: a stack of projections as line integrals, with its angles, read in blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, UsageError
from soct.formats.projection_angles import Angles, Unit, read_angles, spanned, spread
from soct.formats.projection_fields import files_mark, open_frames
from soct.formats.projection_stacks import (
    ProjectionStack,
    SinogramAxes,
    as_sinogram,
    chosen_projections,
    open_stack,
)
from soct.formats.tiles import shown
from soct.space import FloatArray
from soct.tomography.normalisation import (
    Fields,
    finite_values,
    line_integrals,
    looks_like_counts,
    looks_like_derivatives,
    looks_like_no_transmission,
    make_fields,
)
from soct.tools.tomo_repairs import Repairs
from soct.tools.tomo_words import listed

Values = Literal["auto", "line-integrals", "transmission"]
_BLOCK_BYTES = 256 << 20
Kind = Literal["counts", "transmission", "line integrals", "derivatives"]
_SAMPLE = 16


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
    flats, darks : Path or None
        Files of flat and dark fields, in the place of those of the stack.
    exclude : tuple of int
        Projections that are left out, counted from 0.
    derivatives : bool
        The values are derivatives of line integrals along the detector.
    """

    dataset: str | None = None
    angles: Path | None = None
    angle_range: tuple[float, float] | None = None
    span: float | None = None
    angle_unit: Unit = "auto"
    values: Values = "auto"
    sinogram_axes: SinogramAxes = "auto"
    rows: tuple[int | None, int | None] | None = None
    flats: Path | None = None
    darks: Path | None = None
    exclude: tuple[int, ...] = ()
    derivatives: bool = False


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
        What the stack holds: counts, transmission, line integrals or derivatives of such.
    notes : list of str
        What was decided.
    whole : ProjectionStack
        With the projections that are left out.
    all_radians : float64 ndarray (m,)
        Of all projections.
    numbers : int64 ndarray (n,)
        Of the projections in use, among all.
    repairs : Repairs
        What was replaced in all blocks that were read.
    """

    stack: ProjectionStack
    options: InputOptions
    angles: Angles
    radians: NDArray[np.float64]
    first_row: int
    last_row: int
    values: Kind
    notes: list[str]
    whole: ProjectionStack
    all_radians: NDArray[np.float64]
    numbers: NDArray[np.int64]
    warnings: list[str] = field(default_factory=list)
    repairs: Repairs = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.repairs = Repairs.of(self.count, self.rows, self.cols)
        self.repairs.numbers = self.numbers

    @property
    def excluded(self) -> tuple[int, ...]:
        """Projections that are left out."""
        return tuple(sorted(set(range(len(self.all_radians))) - set(self.numbers.tolist())))

    def without(self, more: Sequence[int], why: str) -> Projections:
        """Return the stack without some more projections; `why` goes into the notes."""
        left = np.setdiff1d(self.numbers, np.asarray(more, np.int64))
        made = replace(
            self,
            stack=chosen_projections(self.whole, tuple(left.tolist())),
            radians=self.all_radians[left],
            numbers=left,
            notes=[*self.notes, why],
        )
        made.repairs.dead = self.repairs.dead
        return made

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
        if found.dead.all():
            raise InputError(
                "The flat fields show no light",
                file=shown(self.options.flats or self.stack.path),
                expected=f"{self.stack.flats.name}: brighter than the dark fields",
                found="no pixel that is",
                hint="Give other flat fields with --flats FILE; values without any are --transmission or --line-integrals.",
            )
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
        if self.values in ("line integrals", "derivatives"):
            found = finite_values(block)
        else:
            fields = self._fields
            part = None if fields is None else fields.of_rows(slice(first, last))
            found = line_integrals(block, part)
        self.repairs.note((slice(start, end), slice(first, last)), found)
        self._check_repairs()
        return found.values

    def _check_repairs(self) -> None:
        lost = [int(self.numbers[k]) for k in self.repairs.lost]
        integrals = self.values in ("line integrals", "derivatives")
        if lost:
            few = len(lost) <= self.count // 4
            raise InputError(
                "Some projections have lines in which no value can be used",
                file=shown(self.stack.path),
                expected="finite numbers" + ("" if integrals else " above zero"),
                found=("projection " if len(lost) == 1 else "projections ") + listed(lost),
                hint=f"Leave {'it' if len(lost) == 1 else 'them'} out (--exclude {','.join(map(str, lost[:20]))}), or choose --rows that are measured in all."
                if few
                else "Look at the stack: these values are nearly everywhere.",
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
        for given in (self.options.flats, self.options.darks):
            if given is not None:
                digest.update(files_mark(given).encode())
        if self.excluded:
            digest.update(repr(self.excluded).encode())
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
    stack = open_stack(path, dataset=options.dataset, without=_unwanted(options))
    given = None if options.angles is None else read_angles(options.angles)
    stack = as_sinogram(stack, options.sinogram_axes, None if given is None else len(given.values))
    angles, radians = _angles(stack, given, options)
    first, last = _rows(stack, options.rows)
    stack = _with_fields(stack, options)
    values, note = _values(stack, options)
    notes = [*stack.notes, note, *_angle_notes(angles, radians, options)]
    numbers = np.arange(stack.shape[0])
    opened = Projections(stack, options, angles, radians, first, last, values, notes, stack, radians, numbers)  # fmt: skip
    if options.exclude:
        opened = _excluding(opened, options.exclude)
    _doubt(opened)
    return opened


def _unwanted(options: InputOptions) -> set[str]:
    """Return which fields of the file are not looked at."""
    if options.values != "auto" or options.derivatives:
        return {"flats", "darks"}
    given = {"flats": options.flats, "darks": options.darks}
    return {name for name, path in given.items() if path is not None}


def _with_fields(stack: ProjectionStack, options: InputOptions) -> ProjectionStack:
    """Take flat and dark fields from files of their own, where they are given."""
    if options.darks is not None and options.flats is None and stack.flats is None:
        raise UsageError("Dark fields alone say nothing", expected="--flats FILE with --darks FILE")
    if options.flats is not None and (options.values != "auto" or options.derivatives):
        raise UsageError(
            "Flat fields are of use to counts alone",
            expected="--flats without --line-integrals, --transmission or --derivatives",
        )
    rows, cols = stack.shape[1:]
    if options.flats is not None:
        stack = replace(stack, flats=open_frames(options.flats, "flat", rows, cols))
    if options.darks is not None:
        stack = replace(stack, darks=open_frames(options.darks, "dark", rows, cols))
    return stack


def _excluding(opened: Projections, numbers: tuple[int, ...]) -> Projections:
    beyond = [k for k in numbers if not 0 <= k < opened.count]
    if beyond:
        raise UsageError(
            "There is no such projection to leave out",
            file=shown(opened.stack.path),
            expected=f"--exclude with numbers from 0 to {opened.count - 1}",
            found=listed(beyond),
        )
    some = sorted(set(numbers))
    is_one = len(some) == 1
    return opened.without(some, f"left out, as --exclude says: {'projection' if is_one else 'projections'} {listed(some, 20)}")  # fmt: skip


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
            hint="Give the angles of these projections with --angles FILE, --angle-range FIRST LAST or --span DEGREES.",
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


def _values(stack: ProjectionStack, options: InputOptions) -> tuple[Kind, str]:
    asked = options.values
    if options.derivatives:
        if asked == "transmission":
            raise UsageError("Transmissions are no derivatives", expected="--derivatives or --transmission")  # fmt: skip
        return "derivatives", "values are derivatives of line integrals along the detector, as --derivatives says"  # fmt: skip
    if asked == "line-integrals":
        return "line integrals", "values are line integrals, as --line-integrals says"
    if asked == "transmission":
        return "transmission", "values are transmissions: line integrals are minus their logarithm"
    if stack.flats is not None:
        darks = "" if stack.darks is None else f" and {stack.darks.shape[0]} dark"
        total = stack.flats.shape[0] + (0 if stack.darks is None else stack.darks.shape[0])
        fields = "field" if total == 1 else "fields"
        return (
            "counts",
            f"values are counts: divided by {stack.flats.shape[0]} flat{darks} {fields} (medians), then minus the logarithm",
        )
    if asked == "auto" and stack.dtype.kind in "ui":
        raise InputError(
            "Whole numbers are counts of a detector, and there are no flat fields to divide them by",
            file=shown(stack.path),
            expected="flat fields beside the counts, or line integrals as floats",
            found=f"{stack.dtype} without flat fields",
            hint="Give them: --flats FILE [--darks FILE] (HDF5, TIFF or NPY). If the values are line integrals already: --line-integrals.",
        )
    return "line integrals", "no flat fields: values are taken for line integrals"


def _doubt(opened: Projections) -> None:
    """Refuse values that cannot be what they are taken for, and say where they hardly are.

    Raises
    ------
    InputError
        They look like counts or transmissions.
    """
    values, asked = opened.values, opened.options.values
    if values in ("counts", "derivatives") or asked == "line-integrals":
        return
    sample = _sample(opened)
    if values == "transmission":
        if looks_like_no_transmission(sample):
            good = sample[np.isfinite(sample)]
            raise InputError(
                "Values far above 1 are no transmissions",
                file=shown(opened.stack.path),
                expected="--transmission for values of about 0 to 1, flat fields divided out",
                found=f"{np.median(good):.4g} in the middle, up to {good.max():.4g}",
                hint="Of counts, give the flat fields: --flats FILE [--darks FILE] instead of --transmission.",
            )
        return
    if looks_like_counts(sample):
        _refuse_bright(opened, sample)
    elif looks_like_derivatives(sample):
        opened.warnings.append(
            "values of both signs cancel in nearly every line, as derivatives along the detector (phase gradients) do, but were "
            "taken for line integrals: say --derivatives if they are"
        )


def _sample(opened: Projections) -> FloatArray:
    """Return some rows in the middle of some projections."""
    n, rows = opened.count, opened.rows
    some = range(0, n, max(1, n // _SAMPLE))
    middle = slice(opened.first_row + rows // 3, opened.first_row + max(rows // 3 + 1, 2 * rows // 3))  # fmt: skip
    return np.concatenate([opened.stack.read(slice(k, k + 1), middle) for k in some])


def _refuse_bright(opened: Projections, sample: FloatArray) -> None:
    """Refuse what is brighter beside the object than behind it; where some values are below 0, only doubt it."""
    good = sample[np.isfinite(sample)]
    found = (
        "projections are brighter beside the object than behind it, as counts and transmissions are"
    )
    if good.min() < 0:
        opened.warnings.append(
            f"{found}, but were taken for line integrals: say --transmission if they are transmissions, or --line-integrals if "
            "they are right"
        )
        return
    counts = looks_like_no_transmission(sample)
    first, second = (
        ("counts, give the flat fields: --flats FILE [--darks FILE]", "transmissions: --transmission")
        if counts
        else ("transmissions: --transmission", "counts, give the flat fields: --flats FILE [--darks FILE]")
    )  # fmt: skip
    raise InputError(
        "The values look like counts or transmissions, not like line integrals",
        file=shown(opened.stack.path),
        expected="line integrals (about 0 beside the object), or what makes them such",
        found=f"{found} ({good.min():.4g} to {good.max():.4g})",
        hint=f"Of {first}. Of {second}. If they are line integrals all the same: --line-integrals.",
    )
