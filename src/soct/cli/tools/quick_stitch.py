"""Lay out one slice as a flat picture, in seconds, by stage or index, or refined by the images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="INPUT", help="An input folder of `soct run`, or one mosaic grid."),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="Picture to write: .png (grey, 8 bit) or .tif (32 bit float)."
        ),
    ],
    slice_id: Annotated[
        int | None, typer.Option("--slice", min=0, help="Which slice; the middle one if not given.")
    ] = None,
    refine: Annotated[
        bool, typer.Option("--refine", help="Match the tiles by their images.")
    ] = False,
    overlap: Annotated[
        float | None,
        typer.Option(
            "--overlap",
            min=0.0,
            max=0.9,
            help="Overlap of tiles without stage positions; measured if not given.",
        ),
    ] = None,
    max_side: Annotated[
        int,
        typer.Option(
            "--max-side", min=0, metavar="PX", help="Largest side of the picture; 0: every pixel."
        ),
    ] = 4000,
    blending: Annotated[
        str,
        typer.Option(
            "--blending",
            metavar="feather|average|none",
            parser=options.one_of("feather", "average", "none"),
            help="How tiles are mixed where they overlap.",
        ),
    ] = "feather",
    grid_axes: options.GridAxes = "auto",
) -> int:
    """Lay out one slice as a flat picture, in seconds, by stage or index, or refined by the images."""
    from soct.cli.terminal import data, words
    from soct.compute import caches
    from soct.compute.threads import available_cpus
    from soct.errors import UsageError

    caches.prepare()
    from soct.formats.images import to_grey, write_float_tiff, write_png
    from soct.tools.quick_stitch import QuickOptions, describe, quick_stitch

    if out.suffix.lower() not in (".png", ".tif", ".tiff"):
        raise UsageError(
            "The picture's name does not say what it is", file=out, expected=".png, .tif or .tiff"
        )
    mosaic = quick_stitch(
        source,
        QuickOptions(
            slice_id=slice_id,
            refine=refine,
            overlap_fraction=overlap,
            max_side_px=max_side or None,
            blending=blending,  # type: ignore[arg-type]
            grid_axes=grid_axes,  # type: ignore[arg-type]
            threads=available_cpus(),
        ),
    )
    if out.suffix.lower() == ".png":
        write_png(out, to_grey(mosaic.image))
    else:
        write_float_tiff(out, mosaic.image, mosaic.pixel_um)
    words(*describe(mosaic))
    data(str(out))
    return 0
