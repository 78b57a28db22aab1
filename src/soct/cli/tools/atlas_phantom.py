"""Write a small made-up atlas, to try the alignment with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.")],
    voxel_um: Annotated[
        float, typer.Option("--voxel-um", metavar="UM", min=50, max=400, help="Edge of its voxels.")
    ] = 100.0,
) -> int:
    """Write a small made-up atlas, to try the alignment with.

    It has BrainGlobe's layout, seven regions, and no anatomy.
    """
    from soct.cli.terminal import data
    from soct.errors import UsageError
    from soct.pipeline.folder.run_folder import telling_of_writes
    from soct.simulate.atlas import write_phantom_atlas

    if folder.exists():
        raise UsageError("There is something of that name already", file=folder)
    with telling_of_writes(folder.parent):
        write_phantom_atlas(folder, voxel_um)
    data(str(folder))
    return 0
