"""Download an atlas to align to: the only command that uses the network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as allen_mouse_25um.")],
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="Where to keep it; default: soct's cache folder, or $SOCT_ATLAS_DIR.",
        ),
    ] = None,
    server: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="URL",
            help="Another server with BrainGlobe's layout (http, https or file).",
        ),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", metavar="N.N", help="Default: the newest.")
    ] = None,
    sha256: Annotated[
        str, typer.Option("--sha256", metavar="HEX", help="What the archive must have.")
    ] = "",
) -> int:
    """Download an atlas to align to: the only command that uses the network.

    It comes from BrainGlobe's file server. A download that was cut off goes on with the same command; the
    atlas is checked before it appears under its name, with the checksums of all its files beside it.
    """
    from soct.cli.terminal import data, is_interactive, words
    from soct.errors import ResourceError
    from soct.formats.atlas_fetch import BASE_URL, fetch_atlas
    from soct.formats.atlases import atlas_folders

    places = atlas_folders()
    place = folder or (places[0] if places else None)
    if place is None:
        raise ResourceError("There is no folder to keep atlases in", hint="Give one with --folder.")
    base = server or BASE_URL
    words(f"This command uses the network: {base}")
    told = -1

    def tell(done: int, total: int | None) -> None:
        nonlocal told
        tenth = 10 * done // total if total else done >> 26
        if tenth != told and (is_interactive() or told < 0 or done == total):
            words(f"{done / 1e6:.0f} MB" + (f" of {total / 1e6:.0f}" if total else ""))
            told = tenth

    path = fetch_atlas(name, place, base_url=base, version=version, sha256=sha256, progress=tell)
    words(f"ready: align_to_ras.template: {path.name}")
    data(str(path))
    return 0
