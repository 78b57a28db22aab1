"""Find the rotation axis of tomographic projections: estimated with its uncertainty, or picked by eye."""

from __future__ import annotations

from typing import Annotated

import typer

from soct.cli import options, tomo_options


def command(
    stack: tomo_options.Stack,
    pick: Annotated[
        bool,
        typer.Option(
            "--pick",
            help="Show the slice in a window, to correct the axis by eye: Enter takes it, Escape cancels.",
        ),
    ] = False,
    shifts: tomo_options.Shifts = None,
    derivatives: tomo_options.Derivatives = False,
    dataset: tomo_options.Dataset = None,
    angles: tomo_options.AngleFile = None,
    angle_range: tomo_options.AngleRange = None,
    span: tomo_options.Span = None,
    angle_unit: tomo_options.AngleUnit = "auto",
    line_integrals: tomo_options.LineIntegrals = False,
    transmission: tomo_options.Transmission = False,
    sinogram_axes: tomo_options.SinogramAxes = "auto",
    rows: tomo_options.Rows = None,
    flats: tomo_options.Flats = None,
    darks: tomo_options.Darks = None,
    exclude: tomo_options.Exclude = None,
    as_json: options.Json = False,
) -> int:
    """Find the rotation axis of tomographic projections: estimated with its uncertainty, or picked by eye.

    Prints the detector coordinate of the axis in pixels (0 is the centre of the first pixel) and its standard deviation.
    """
    from soct.cli.terminal import data, data_json, tell_first_run, words
    from soct.compute import caches

    caches.prepare()
    tell_first_run("radon_kernels")
    from soct.tools.tomo_axis import measure_axis

    chosen = tomo_options.input_options(
        dataset=dataset,
        angles=angles,
        angle_range=angle_range,
        span=span,
        angle_unit=angle_unit,
        line_integrals=line_integrals,
        transmission=transmission,
        sinogram_axes=sinogram_axes,
        rows=rows,
        flats=flats,
        darks=darks,
        exclude=exclude,
        derivatives=derivatives,
    )
    opened = tomo_options.opened(stack, chosen)
    picker = None
    if pick:
        from soct.tools.axis_picker import pick_axis

        picker = pick_axis
    measured = measure_axis(
        opened, shifts, derivatives=derivatives, picker=picker, progress=tomo_options.progress
    )
    words(*(t for t in measured.opened.repairs.sentences() if t not in measured.warnings))
    words(measured.found.sentence(), *(f"warning: {text}" for text in measured.warnings))
    if as_json:
        data_json(measured.as_json_object())
    elif measured.picked is not None:
        data(f"{measured.picked:.2f}")
    else:
        data(measured.found.measured())
    return 0
