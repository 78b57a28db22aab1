"""Align tomographic projections, vertically and horizontally, and say how well they fit each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soct.cli import options, tomo_options

_HOW = "How they are aligned"
_OUT = "What is written"


@tomo_options.with_input_options
def command(
    stack: tomo_options.Stack,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="New folder: shifts.csv, align.json and report.html.",
            rich_help_panel=_OUT,
        ),
    ],
    write_stack: Annotated[
        Path | None,
        typer.Option(
            "--write-stack",
            metavar="FILE",
            help="Write the aligned stack too: .h5, .npy or .tif.",
            rich_help_panel=_OUT,
        ),
    ] = None,
    no_vertical: Annotated[
        bool,
        typer.Option("--no-vertical", help="Leave the rows as they are.", rich_help_panel=_HOW),
    ] = False,
    no_horizontal: Annotated[
        bool,
        typer.Option("--no-horizontal", help="Align vertically only.", rich_help_panel=_HOW),
    ] = False,
    slices: Annotated[
        int,
        typer.Option(
            "--slices",
            min=1,
            max=1000,
            help="Detector rows from which the horizontal shifts are found.",
            rich_help_panel=_HOW,
        ),
    ] = 5,
    max_shift: Annotated[
        float | None,
        typer.Option(
            "--max-shift",
            metavar="PX",
            min=0.1,
            help="Greatest vertical displacement to look for; default: a quarter of the rows.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    axis: Annotated[
        float | None,
        typer.Option(
            "--axis",
            metavar="PX",
            help="Bring the rotation axis to this detector coordinate; default: it stays where it is.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    cutoff: Annotated[
        float,
        typer.Option(
            "--cutoff",
            min=0.01,
            max=1.0,
            help="Greatest detector frequency to use, as a part of the greatest there is; less for noisy data.",
            rich_help_panel=_HOW,
        ),
    ] = 0.6,
    maxit: Annotated[
        int | None,
        typer.Option(
            "--maxit",
            min=1,
            max=10000,
            help="Most iterations; default: 50 vertically, 30 horizontally.",
            rich_help_panel=_HOW,
        ),
    ] = None,
    pixtol: Annotated[
        float,
        typer.Option(
            "--pixtol",
            metavar="PX",
            min=1e-6,
            help="Done when no shift moves by more.",
            rich_help_panel=_HOW,
        ),
    ] = 1e-3,
    interpolation: Annotated[
        str,
        typer.Option(
            "--interpolation",
            metavar="spline|fourier|linear",
            parser=options.one_of("spline", "fourier", "linear"),
            help="Of the aligned stack.",
            rich_help_panel=_OUT,
        ),
    ] = "spline",
    no_report: tomo_options.NoReport = False,
    chosen: Any = None,
    as_json: options.Json = False,
) -> int:
    """Align tomographic projections, vertically and horizontally, and say how well they fit each other.

    Vertical shifts come from the mass in every row, which is the same from all sides; horizontal ones from several slices, each
    of which must be one object from all sides. shifts.csv says how far the object is displaced in each projection, down and to
    the right. Stopped on the way, the same command goes on where it was.
    """
    from soct.cli.terminal import data, data_json, tell_first_run, words
    from soct.compute import caches

    caches.prepare()
    tell_first_run("radon_kernels")
    from soct.tools.tomo_align import AlignOptions, align

    opened = tomo_options.opened(stack, chosen)
    made = align(
        opened,
        out,
        AlignOptions(
            vertical=not no_vertical,
            horizontal=not no_horizontal,
            slices=slices,
            max_shift=max_shift,
            derivatives=chosen.derivatives,
            axis=axis,
            freqcutoff=cutoff,
            maxit=maxit,
            pixtol=pixtol,
            method=interpolation,  # type: ignore[arg-type]
        ),
        stack_out=write_stack,
        report=not no_report,
        tell=words,
        progress=tomo_options.progress,
    )
    if made.alignment is None:
        words("the shifts are complete already, by the same call")
    else:
        told = made.alignment.warnings[len(opened.warnings) :]
        words(*(f"warning: {text}" for text in told))
    if as_json:
        data_json(made.document)
    else:
        data(*(str(f) for f in made.files))
    return 0
