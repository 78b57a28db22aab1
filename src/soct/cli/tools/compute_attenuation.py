"""Map the attenuation of a slice in 1/mm, as OME-Zarr and picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def command(
    source: Annotated[
        Path,
        typer.Argument(metavar="SLICE", help="OME-Zarr slice, linear intensity, depth along z."),
    ],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="OME-Zarr to make; OUT.png shows its mean.")
    ],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            metavar="li|smith|liu|vermeer",
            parser=options.one_of("li", "smith", "liu", "vermeer"),
            help="How the light below the last sample is found; li also cuts A-lines below 6 dB.",
        ),
    ] = "li",
    surface: Annotated[
        str,
        typer.Option(
            "--surface",
            metavar="auto|top",
            parser=options.one_of("auto", "top"),
            help="Where tissue begins: the interface, or the first valid sample.",
        ),
    ] = "auto",
    noise_floor: Annotated[
        float | None,
        typer.Option(
            "--noise-floor", min=0.0, help="Brightness without light; measured if absent."
        ),
    ] = None,
    smoothing_um: Annotated[
        float,
        typer.Option(
            "--smoothing-um", min=0.0, metavar="UM", help="Gaussian sigma across A-lines."
        ),
    ] = 40.0,
    as_json: options.Json = False,
) -> int:
    """Map the attenuation of a slice in 1/mm, as OME-Zarr and picture.

    Stitched slices are below stitch_3d_with_refinement in a run folder.
    """
    from soct.cli.terminal import data, words
    from soct.compute import caches
    from soct.compute.threads import available_cpus

    caches.prepare()
    from soct.formats.images import to_grey, write_png
    from soct.tools.attenuation_map import MapOptions, write_attenuation

    found = write_attenuation(
        source,
        out,
        MapOptions(
            method=method,  # type: ignore[arg-type]
            surface=surface,  # type: ignore[arg-type]
            noise_floor=noise_floor,
            smoothing_um=(5.0, smoothing_um),
            threads=available_cpus(),
        ),
    )
    picture = out.with_name(out.name.removesuffix(".zarr").removesuffix(".ome") + ".png")
    write_png(picture, to_grey(found.mean, (0.0, max(2 * found.median, 1e-3))))
    if as_json:
        data(
            json.dumps(
                {
                    "median_per_mm": found.median,
                    "p5_per_mm": found.low,
                    "p95_per_mm": found.high,
                    "noise_floor": found.noise_floor,
                    "noise": found.noise,
                    "surface": found.surface,
                    "method": method,
                    "map": str(out),
                    "picture": str(picture),
                }
            )
        )
        return 0
    words(
        f"attenuation {found.median:.2f} / mm (median; 5 to 95 %: {found.low:.2f} to {found.high:.2f})"
    )
    words(f"surface: {found.surface}; noise floor {found.noise_floor:.4g}; method {method}")
    data(str(out))
    data(str(picture))
    return 0
