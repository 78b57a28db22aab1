"""Measure focus and Rayleigh length of the microscope from its own slices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def command(
    slices: Annotated[
        list[Path],
        typer.Argument(metavar="SLICE...", help="OME-Zarr slices with their whole frame."),
    ],
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="3x|10x",
            parser=options.one_of("3x", "10x"),
            help="Where the fit starts: a Rayleigh length of 610 um (3x) or 1060 um (10x).",
        ),
    ] = "3x",
    rayleigh_um: Annotated[
        float | None,
        typer.Option("--rayleigh-um", min=1.0, metavar="UM", help="Another start value."),
    ] = None,
    material: Annotated[
        str,
        typer.Option(
            "--material",
            metavar="auto|agarose|tissue",
            parser=options.one_of("auto", "agarose", "tissue"),
            help="What is measured; auto: agarose where there is enough of it.",
        ),
    ] = "auto",
    as_json: options.Json = False,
) -> int:
    """Measure focus and Rayleigh length of the microscope from its own slices.

    A confocal function times an exponential is fitted to the brightness over the depth of the frame. Stitched
    slices are below stitch_3d_with_refinement in a run folder.
    """
    from soct.cli.terminal import data, words
    from soct.compute import caches
    from soct.compute.threads import available_cpus

    caches.prepare()
    from soct.tools.axial_psf import RAYLEIGH_UM, estimate_psf

    found = estimate_psf(
        slices,
        rayleigh_um=rayleigh_um or RAYLEIGH_UM[objective],
        material=material,  # type: ignore[arg-type]
        threads=available_cpus(),
    )
    if as_json:
        data(
            json.dumps(
                {
                    "focus_um": found.focus_um,
                    "rayleigh_um": found.rayleigh_um,
                    "attenuation_per_mm": found.decay_per_mm,
                    "residual": found.residual,
                    "measured_on": found.measured_on,
                    "slices": found.slices,
                }
            )
        )
        return 0
    data(f"focus            {found.focus_um:8.1f} um below the first sample")
    data(f"Rayleigh length  {found.rayleigh_um:8.1f} um")
    words(
        f"measured on {found.measured_on} of {found.slices} slices; attenuation {found.decay_per_mm:.2f} / mm"
        f" fitted along; residual {100 * found.residual:.1f} %"
    )
    return 0
