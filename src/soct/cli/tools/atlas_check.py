"""Say what an atlas or template is, and whether its files are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    template: Annotated[
        str,
        typer.Argument(
            metavar="TEMPLATE", help="An atlas folder, a volume file, or a fetched atlas."
        ),
    ],
    voxel_um: Annotated[
        str | None,
        typer.Option("--voxel-um", metavar="Z,Y,X", help="For a file that doesn't say it."),
    ] = None,
    orientation: Annotated[
        str | None,
        typer.Option("--orientation", metavar="CODE", help="For a file that doesn't say it."),
    ] = None,
    annotation: Annotated[
        Path | None, typer.Option("--annotation", metavar="FILE", help="Volume of region numbers.")
    ] = None,
) -> int:
    """Say what an atlas or template is, and whether its files are whole.

    Every file that an alignment would read is read, and compared with its checksum where there is one.
    """
    from soct.cli.terminal import data
    from soct.errors import UsageError
    from soct.formats.atlases import find_atlas, open_atlas, verify_atlas
    from soct.geometry.orientation import parse_orientation

    try:
        size = None if voxel_um is None else [float(v) for v in voxel_um.split(",")]
        code = None if orientation is None else parse_orientation(orientation)
        if size is not None and len(size) != 3:
            raise ValueError("--voxel-um needs three numbers, along z, y and x")
    except ValueError as error:
        raise UsageError(str(error)) from None
    atlas = open_atlas(find_atlas(template), voxel_um=size, orientation=code, annotation=annotation)
    shape = " x ".join(str(n) for n in atlas.shape)
    voxel = " x ".join(f"{v:g}" for v in atlas.voxel_um)
    data(f"{atlas.name} {atlas.version}".strip())
    data(f"template     {shape} voxels of {voxel} um, z, y, x grow towards {atlas.orientation}")
    for note in atlas.header.notes:
        data(f"             {note}")
    atlas.template.read([max(1, n // 64) for n in atlas.shape])
    if atlas.annotation is not None:
        atlas.annotation.read([max(1, n // 64) for n in atlas.shape], labels=True)
    names = f"{len(atlas.structures)} names" if atlas.structures else "no names"
    data(f"regions      {'drawn' if atlas.annotation is not None else 'none drawn'}, {names}")
    data(f"checksums    {verify_atlas(atlas)}")
    return 0
