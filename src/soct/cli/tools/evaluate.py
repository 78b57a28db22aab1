"""Score a volume against the truth of a simulated acquisition."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def command(
    volume: Annotated[
        Path,
        typer.Argument(metavar="VOLUME|RUN", help="OME-Zarr volume, or a run: its newest volume."),
    ],
    acquisition: Annotated[
        Path, typer.Argument(metavar="ACQUISITION", help="Folder that `soct simulate` wrote.")
    ],
    as_json: options.Json = False,
) -> int:
    """Score a volume against the truth of a simulated acquisition."""
    from soct.cli import demonstration
    from soct.pipeline.folder.run_volume import find_volume

    return demonstration.tell_score(find_volume(volume), acquisition, as_json=as_json)
