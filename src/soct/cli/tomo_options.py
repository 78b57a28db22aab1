"""Options that the commands of `soct tomo` share: how a stack is to be understood."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from soct.cli import options
from soct.cli.model_options import give_signature, keyword

if TYPE_CHECKING:
    from soct.tools.tomo_input import InputOptions, Projections

STACK = "The stack"
_NUMBERS = re.compile(r"(\d{1,9})(?:-(\d{1,9}))?")
_MOST_EXCLUDED = 1_000_000
_ROWS = re.compile(r"(\d*):(\d*)")


def parse_rows(text: str) -> tuple[int | None, int | None]:
    """Return the first row and the one after the last, None where left out."""
    found = _ROWS.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not A:B, such as 100:400 (the last row is not included)")
    first, last = (int(part) if part else None for part in found.groups())
    if first is not None and last is not None and first >= last:
        raise ValueError(f"{text!r} is no row: A must be less than B")
    return first, last


Stack = Annotated[
    Path,
    typer.Argument(
        metavar="STACK",
        help="Projections: HDF5 (Data Exchange, NXtomo), TIFF, folder of TIFFs, NPY (n, rows, cols); a 2-D NPY or TIFF is one sinogram.",
    ),
]
Dataset = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="PATH",
        help="Of the projections in an HDF5 file of another layout.",
        rich_help_panel=STACK,
    ),
]
AngleFile = Annotated[
    Path | None,
    typer.Option(
        "--angles",
        metavar="FILE",
        help="Angles: text, CSV (angle_deg, theta, ...) or NPY; default: those of the stack.",
        rich_help_panel=STACK,
    ),
]
AngleRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--angle-range",
        metavar="FIRST LAST",
        help="Even angles from the first to the last projection, both included.",
        rich_help_panel=STACK,
    ),
]
Span = Annotated[
    float | None,
    typer.Option(
        "--span",
        metavar="ANGLE",
        help="Even angles from 0 over this span, which one more projection would complete: 180 or 360.",
        rich_help_panel=STACK,
    ),
]
AngleUnit = Annotated[
    str,
    typer.Option(
        "--angle-unit",
        metavar="auto|deg|rad",
        parser=options.one_of("auto", "deg", "rad"),
        help="Of angles; auto: what the file says, else by their span (2 pi at most: radians). Ranges are in degrees.",
        rich_help_panel=STACK,
    ),
]
LineIntegrals = Annotated[
    bool,
    typer.Option(
        "--line-integrals",
        help="The values are line integrals already (or unwrapped phases); default for floats without flat fields.",
        rich_help_panel=STACK,
    ),
]
Transmission = Annotated[
    bool,
    typer.Option(
        "--transmission",
        help="The values are transmissions, flat fields divided out: take minus their logarithm.",
        rich_help_panel=STACK,
    ),
]
SinogramAxes = Annotated[
    str,
    typer.Option(
        "--sinogram-axes",
        metavar="ORDER",
        parser=options.one_of("auto", "angle-detector", "detector-angle"),
        help="Of a 2-D image: angle-detector or detector-angle; auto: by the number of angles.",
        rich_help_panel=STACK,
    ),
]
Rows = Annotated[
    Any,
    typer.Option(
        "--rows",
        metavar="A:B",
        parser=options.parsed_by(parse_rows),
        help="Detector rows to use, B not included.",
        rich_help_panel=STACK,
    ),
]
Shifts = Annotated[
    Path | None,
    typer.Option(
        "--shifts",
        metavar="FILE",
        help="Shifts of the projections: shifts.csv of `soct tomo align`, or its folder.",
    ),
]
Derivatives = Annotated[
    bool,
    typer.Option(
        "--derivatives",
        help="The projections are derivatives along the detector, such as phase gradients.",
        rich_help_panel=STACK,
    ),
]
Flats = Annotated[
    Path | None,
    typer.Option(
        "--flats",
        metavar="FILE",
        help="Flat fields in a file of their own: HDF5, TIFF or NPY, frames or one averaged frame.",
        rich_help_panel=STACK,
    ),
]
Darks = Annotated[
    Path | None,
    typer.Option(
        "--darks",
        metavar="FILE",
        help="Dark fields in a file of their own.",
        rich_help_panel=STACK,
    ),
]


def parse_numbers(text: str) -> tuple[int, ...]:
    """Return projections such as 3,17,40-42."""
    found: list[int] = []
    for part in text.split(","):
        match = _NUMBERS.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{text!r} is no list of projections, such as 3,17,40-42 (from 0)")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last - first > _MOST_EXCLUDED:
            raise ValueError(f"{part.strip()!r} is no range of projections")
        found += range(first, last + 1)
    return tuple(found)


Exclude = Annotated[
    Any,
    typer.Option(
        "--exclude",
        metavar="K,K-K",
        parser=options.parsed_by(parse_numbers),
        help="Projections to leave out, counted from 0: 3,17,40-42.",
        rich_help_panel=STACK,
    ),
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.")]

_SHARED: dict[str, tuple[Any, Any]] = {
    "derivatives": (Derivatives, False),
    "dataset": (Dataset, None),
    "angles": (AngleFile, None),
    "angle_range": (AngleRange, None),
    "span": (Span, None),
    "angle_unit": (AngleUnit, "auto"),
    "line_integrals": (LineIntegrals, False),
    "transmission": (Transmission, False),
    "sinogram_axes": (SinogramAxes, "auto"),
    "rows": (Rows, None),
    "flats": (Flats, None),
    "darks": (Darks, None),
    "exclude": (Exclude, None),
}


def with_input_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options that say how a stack is to be understood, in the place of its parameter `chosen`.

    It gets them as one `InputOptions`.
    """

    @functools.wraps(command)
    def with_options(*args: Any, **given: Any) -> int:
        shared = {name: given.pop(name) for name in _SHARED}
        return command(*args, chosen=_input_options(**shared), **given)

    hints = get_type_hints(command, include_extras=True)
    parameters = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name == "chosen":
            parameters += [keyword(n, kind, default) for n, (kind, default) in _SHARED.items()]
        else:
            parameters.append(
                parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
            )
    made: Callable[..., int] = give_signature(with_options, parameters)
    return made


def _input_options(*, line_integrals: bool, transmission: bool, **others: Any) -> InputOptions:
    from soct.errors import UsageError
    from soct.tools.tomo_input import InputOptions

    if line_integrals and transmission:
        raise UsageError(
            "--line-integrals and --transmission both say what the values are",
            expected="one of them",
        )
    values = "line-integrals" if line_integrals else "transmission" if transmission else "auto"
    others["exclude"] = tuple(others["exclude"] or ())
    return InputOptions(values=values, **others)  # type: ignore[arg-type]


def opened(stack: Path, chosen: InputOptions) -> Projections:
    """Open a stack, and say what it is taken for."""
    from soct.cli.terminal import words
    from soct.tools.tomo_input import open_projections

    found = open_projections(stack, chosen)
    n, rows, cols = found.whole.shape
    used = "" if found.rows == rows else f", rows {found.first_row} to {found.last_row - 1}"
    words(f"{n} projections of {rows} x {cols} pixels ({found.stack.layout}){used}", *found.notes)
    words(*(f"warning: {text}" for text in found.warnings))
    return found


def progress(stage: str) -> Callable[[float], None]:
    """Say what begins, and return what takes the fraction done."""
    from soct.cli.terminal import telling_progress, words

    words(f"{stage} ...")
    return telling_progress()
