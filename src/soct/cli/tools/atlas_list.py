"""List the atlases on this machine, in soct's folder and in BrainGlobe's."""

from __future__ import annotations


def command() -> int:
    """List the atlases on this machine, in soct's folder and in BrainGlobe's."""
    from soct.cli.terminal import data, words
    from soct.formats.atlases import atlas_folders, list_atlases

    found = list_atlases()
    for path in found:
        data(f"{path.name}\t{path}")
    if not found:
        words("no atlas in " + ", ".join(str(folder) for folder in atlas_folders()))
        words("`soct atlas fetch NAME` downloads one.")
    return 0
