"""Reconstruct slices from tomographic projections, with the shifts that `soct tomo align` measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soct.cli import options, tomo_options
from soct.pipeline.profiles.quantities import parse_size

_HOW = "How slices are made"


def _axis(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a detector coordinate in pixels, nor auto") from None


@tomo_options.with_input_options
def command(
    stack: tomo_options.Stack,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="OUT",
            help="Slices to write: .h5, .npy or .tif; OUT.json and a report OUT.html beside it.",
        ),
    ],
    shifts: tomo_options.Shifts = None,
    axis: Annotated[
        Any,
        typer.Option(
            "--axis",
            metavar="PX|auto",
            parser=options.parsed_by(_axis),
            help="Detector coordinate of the rotation axis (0 is the centre of the first pixel).",
            rich_help_panel=_HOW,
        ),
    ] = "auto",
    algorithm: Annotated[
        str,
        typer.Option(
            "--algorithm",
            metavar="FBP|SART",
            parser=options.one_of("FBP", "SART"),
            help="Filtered back-projection, or SART for few projections.",
            rich_help_panel=_HOW,
        ),
    ] = "FBP",
    filtertype: Annotated[
        str,
        typer.Option(
            "--filter",
            metavar="NAME",
            parser=options.one_of("ram-lak", "shepp-logan", "cosine", "hamming", "hann"),
            help="Of FBP: ram-lak (sharp), shepp-logan, cosine, hamming, hann (smooth).",
            rich_help_panel=_HOW,
        ),
    ] = "ram-lak",
    iterations: Annotated[
        int,
        typer.Option("--iterations", min=1, max=1000, help="Passes of SART.", rich_help_panel=_HOW),
    ] = 10,
    cutoff: Annotated[
        float,
        typer.Option(
            "--cutoff",
            min=0.01,
            max=1.0,
            help="Greatest detector frequency to use, as a part of the greatest there is.",
            rich_help_panel=_HOW,
        ),
    ] = 1.0,
    whole_square: Annotated[
        bool,
        typer.Option(
            "--whole-square",
            help="Fill also what lies outside of the circle that all projections see.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    padding: Annotated[
        str,
        typer.Option(
            "--padding",
            metavar="zero|edge",
            parser=options.one_of("zero", "edge"),
            help="Beyond the detector projections are zero, or fall off from their edge: for objects that reach beyond it.",
            rich_help_panel=_HOW,
        ),
    ] = "zero",
    extended: Annotated[
        bool,
        typer.Option(
            "--extended",
            help="Half acquisition: a full turn with the axis near one end of the detector; slices are wider than it.",
            rich_help_panel=_HOW,
        ),
    ] = False,
    chosen: Any = None,
    memory: Annotated[
        Any,
        typer.Option(
            "--memory",
            metavar="SIZE",
            parser=options.parsed_by(parse_size),
            help="Stay below it, by reconstructing fewer rows at once.",
            rich_help_panel=options.PANEL_MACHINE,
        ),
    ] = "2GB",
    gpu: Annotated[
        str,
        typer.Option(
            "--gpu",
            metavar="auto|off|require",
            parser=options.one_of("auto", "off", "require"),
            help="Compute on a GPU: where there is one, never, or not without.",
            rich_help_panel=options.PANEL_MACHINE,
        ),
    ] = "auto",
    no_report: tomo_options.NoReport = False,
    as_json: options.Json = False,
) -> int:
    """Reconstruct slices from tomographic projections, with the shifts that `soct tomo align` measured.

    Slices are made a block of rows at a time, and the file may be larger than memory. Stopped on the way, the same command
    goes on where it was. A horizontal shift moves the rays and not the projection, so nothing is interpolated for it.
    """
    from soct.cli.terminal import data, data_json, tell_first_run, words
    from soct.compute import caches

    caches.prepare()
    tell_first_run("radon_kernels")
    from soct.tools.tomo_reconstruct import ReconstructOptions, reconstruct
    from soct.tools.tomo_work import read_json

    opened = tomo_options.opened(stack, chosen)
    made = reconstruct(
        opened,
        out,
        ReconstructOptions(
            shifts=shifts,
            axis=axis if isinstance(axis, float) else None,
            algorithm=algorithm,  # type: ignore[arg-type]
            filtertype=filtertype,
            iterations=iterations,
            freqcutoff=cutoff,
            derivatives=chosen.derivatives,
            circle=not whole_square,
            padding=padding,  # type: ignore[arg-type]
            extended=extended,
            memory=memory if isinstance(memory, int) else parse_size(memory),
            gpu=gpu,  # type: ignore[arg-type]
        ),
        report=not no_report,
        tell=words,
        progress=tomo_options.progress,
    )
    if not made.is_new:
        words("complete already, by the same call: nothing to do")
    words(*(text for text in made.replaced if text not in made.warnings))
    words(*(f"warning: {text}" for text in made.warnings[len(opened.warnings) :]))
    if as_json:
        data_json(read_json(out.with_suffix(".json")))
    else:
        data(*(str(f) for f in made.files))
    return 0
