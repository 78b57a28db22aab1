"""Stack the depth projections of all slices to a volume of one plane per slice (2.5D)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def command(
    source: options.Input,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="New volume: .ome.zarr, .nii.gz, .nrrd or .tif, as `soct convert` writes.",
        ),
    ],
    voxel_um: Annotated[
        float, typer.Option("--voxel-um", min=0.1, max=1000, help="Largest pixel of the planes.")
    ] = 25.0,
    cut_um: Annotated[
        float | None,
        typer.Option(
            "--cut-um",
            min=1,
            max=5000,
            help="Distance between slices, where the input does not say it.",
        ),
    ] = None,
    no_match: Annotated[
        bool, typer.Option("--no-match", help="Lay tiles by the stage alone.")
    ] = False,
    orientation: Annotated[
        str | None,
        typer.Option(
            "--orientation", metavar="PIR", help="What z, y and x grow towards, if known."
        ),
    ] = None,
) -> int:
    """Stack the depth projections of all slices to a volume of one plane per slice (2.5D).

    Tiles are projected, stitched and registered in the plane by the code of the pipeline, without its
    corrections: a first look at a whole brain, or input for tools that work on flat mosaics.
    """
    from soct.cli.terminal import data, words
    from soct.compute import caches

    caches.prepare()
    from soct.compute.threads import available_cpus
    from soct.formats.conversion import write_volume
    from soct.formats.volume_source import measure_window, volume_of
    from soct.geometry.orientation import parse_orientation
    from soct.tools.quick_stack import quick_stack
    from soct.tools.quick_stitch import QuickOptions

    code = None
    if orientation is not None:
        try:
            code = parse_orientation(orientation)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
    made = quick_stack(
        source,
        QuickOptions(refine=not no_match, threads=available_cpus()),
        voxel_um=voxel_um,
        cut_um=cut_um,
        tell=words,
    )
    for note in made.notes:
        words(f"warning: {note}")
    volume = volume_of(out, made.planes, made.voxel_um, code)
    write_volume(volume_of(out, made.planes, made.voxel_um, code, measure_window(volume)), out)
    z, y, x = made.planes.shape
    words(f"{len(made.slices)} slices: {z} x {y} x {x} (z, y, x)")
    data(str(out))
    return 0
