"""Draw a small tomographic scan of a known object, with known shifts, to try the other commands on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_OBJECT = "The scan"
_FAULTS = "What is wrong with it"


def command(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT.h5", help="New HDF5 file (Data Exchange); OUT.truth.csv beside it."
        ),
    ],
    projections: Annotated[
        int,
        typer.Option("--projections", min=8, max=4000, rich_help_panel=_OBJECT, help="How many."),
    ] = 120,
    rows: Annotated[
        int,
        typer.Option("--rows", min=1, max=4000, rich_help_panel=_OBJECT, help="Of the detector."),
    ] = 64,
    cols: Annotated[
        int,
        typer.Option("--cols", min=16, max=4000, rich_help_panel=_OBJECT, help="Of the detector."),
    ] = 128,
    span: Annotated[
        float,
        typer.Option(
            "--span", min=1.0, max=360.0, rich_help_panel=_OBJECT, help="Degrees, evenly covered."
        ),
    ] = 180.0,
    axis: Annotated[
        float | None,
        typer.Option(
            "--axis",
            metavar="PX",
            rich_help_panel=_OBJECT,
            help="Detector coordinate of the rotation axis; default: the middle, cols // 2.",
        ),
    ] = None,
    shifts: Annotated[
        float,
        typer.Option(
            "--shifts",
            min=0.0,
            max=100.0,
            metavar="PX",
            rich_help_panel=_FAULTS,
            help="Each projection is displaced by up to this, vertically and horizontally.",
        ),
    ] = 0.0,
    drift: Annotated[
        float,
        typer.Option(
            "--drift",
            min=0.0,
            max=100.0,
            metavar="PX",
            rich_help_panel=_FAULTS,
            help="Slow horizontal drift, up to this.",
        ),
    ] = 0.0,
    noise: Annotated[
        float,
        typer.Option(
            "--noise",
            min=0.0,
            max=1.0,
            rich_help_panel=_FAULTS,
            help="Standard deviation, as a part of the largest line integral.",
        ),
    ] = 0.0,
    seed: Annotated[
        int,
        typer.Option(
            "--seed", min=0, rich_help_panel=_OBJECT, help="Of the object, shifts and noise."
        ),
    ] = 0,
) -> int:
    """Draw a small tomographic scan of a known object, with known shifts, to try the other commands on.

    Ellipsoids are projected in closed form and recorded as counts, with flat and dark fields, as a beamline writes them.
    OUT.truth.csv holds the displacement of every projection, in the columns of the shifts.csv that `soct tomo align` writes.
    """
    from soct.cli.terminal import data, words
    from soct.tools.tomo_simulate import ScanWish, write_scan

    wish = ScanWish(projections, rows, cols, span, shifts, drift, noise, axis, seed)
    made = write_scan(out, wish)
    words(f"{projections} projections of {rows} x {cols} pixels over {span:g} degrees")
    data(*(str(path) for path in made))
    return 0
