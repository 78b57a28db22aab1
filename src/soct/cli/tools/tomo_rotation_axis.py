"""Find the rotation axis of tomographic projections: estimated with its uncertainty, or picked by eye."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from soct.cli import options, tomo_options


@tomo_options.with_input_options
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
    chosen: Any = None,
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

    opened = tomo_options.opened(stack, chosen)
    picker = None
    if pick:
        from soct.tools.axis_picker import pick_axis

        picker = pick_axis
    measured = measure_axis(
        opened,
        shifts,
        derivatives=chosen.derivatives,
        picker=picker,
        progress=tomo_options.progress,
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
