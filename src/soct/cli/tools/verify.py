"""Read every output of a run and compare it with its record; or read every voxel of a volume."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options


def command(
    target: Annotated[
        Path, typer.Argument(metavar="RUN|VOLUME", help="Run folder or OME-Zarr volume.")
    ],
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Let the next `soct run` compute damaged units again."),
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Read every output of a run and compare it with its record; or read every voxel of a volume.

    Exit code 0: all is as it was written; 4: something is damaged or missing, and named. `soct run` notices lost
    files and changed sizes by itself; flipped bits only this command finds before they are read.
    """
    from soct.cli.terminal import data, data_json, words
    from soct.errors import ExitCode, UsageError
    from soct.formats.validation import validate_volume
    from soct.pipeline.folder.run_folder import FILE_NAME
    from soct.pipeline.folder.status import verify

    if (target / FILE_NAME).exists() or not target.name.rstrip("/").endswith(".zarr"):
        found = [(str(d.unit), d.reason) for d in verify(target, forget=forget)]
    elif forget:
        raise UsageError("--forget is for run folders", file=target)
    else:
        found = [
            (f.file, f"{f.message} {f.found}".strip())
            for f in validate_volume(target, samples=True)
        ]
    if as_json:
        data_json([{"where": where, "what": what} for where, what in found])
    else:
        data(*(f"{where}: {what}" for where, what in found))
    if not found:
        words("All is as it was written.")
        return ExitCode.OK
    words(f"{len(found)} damaged" + ("; the next `soct run` computes them again" if forget else ""))
    return ExitCode.INPUT
