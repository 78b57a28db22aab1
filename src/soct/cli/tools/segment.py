"""Find the brain in a volume and write it as a mask, 1 inside and 0 outside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_PANEL = "How it is found"


def command(
    volume: Annotated[Path, typer.Argument(metavar="VOLUME|RUN", help="Volume or run folder.")],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help="New file: .ome.zarr (labels), .nii.gz, .nrrd or .tif."),
    ],
    voxel_um: Annotated[
        float,
        typer.Option(
            "--voxel-um", min=1, max=1000, help="Voxels of the mask.", rich_help_panel=_PANEL
        ),
    ] = 50.0,
    smoothing_um: Annotated[
        float,
        typer.Option(
            "--smoothing-um", min=0, max=5000, help="Of the local mean.", rich_help_panel=_PANEL
        ),
    ] = 40.0,
    closing_um: Annotated[
        float,
        typer.Option(
            "--closing-um", min=1, max=5000, help="Radius of gaps to close.", rich_help_panel=_PANEL
        ),
    ] = 150.0,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Least local mean of tissue; default: measured.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
) -> int:
    """Find the brain in a volume and write it as a mask, 1 inside and 0 outside.

    The threshold lies half-way between the most frequent local means of background and tissue. The largest body
    is kept, its gaps are closed and its holes filled. Where no background is found, all voxels with data are
    brain, and the command says so.
    """
    import numpy as np

    from soct.cli.terminal import data, words
    from soct.formats.conversion import Wish, prepare, write_volume
    from soct.formats.volume_source import in_memory
    from soct.intensity.brain_mask import segment_brain
    from soct.pipeline.folder.run_volume import find_volume

    source = prepare(find_volume(volume), Wish(target_um=voxel_um))
    assert source.voxel_um is not None
    values = np.concatenate(list(source.planes()))
    found = segment_brain(
        values,
        source.voxel_um,
        smoothing_um=smoothing_um,
        closing_um=closing_um,
        threshold=threshold,
    )
    write_volume(in_memory(source, found.mask.astype(np.uint8)), out, labels=True)
    levels = found.levels
    if levels is None and threshold is None:
        words("warning: no background was found: everything with data is taken as brain")
    elif levels is not None:
        words(
            f"background {levels.background:.3g}, tissue {levels.tissue:.3g}, "
            f"threshold {threshold if threshold is not None else levels.threshold:.3g}"
        )
    millimetres = float(np.prod(source.voxel_um)) * 1e-9
    words(f"{found.mask.sum() * millimetres:.4g} mm3 of brain")
    data(str(out))
    return 0
