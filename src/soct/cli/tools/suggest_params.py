"""Print a profile of suggested values, with the reason for each; save it and give it to --profile."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT|RUN", help="Input folder or run folder.")
    ],
    base: Annotated[
        str, typer.Option("--extends", metavar="NAME", help="Profile to extend.")
    ] = "default",
) -> int:
    """Print a profile of suggested values, with the reason for each; save it and give it to --profile.

    An input tells overlap, depth sampling and cut thickness. A run tells from which value on a metric is unusual
    for this microscope (median and 3 MAD, or interquartile ranges), and how far slices have to be looked for.
    """
    from soct.cli.terminal import data, words
    from soct.pipeline.folder.inert_text import make_inert
    from soct.pipeline.profiles.suggestions import as_profile, suggest

    found = suggest(source)
    if not found:
        words("Nothing to suggest: the files say nothing that the defaults do not assume.")
    text = as_profile(found, make_inert(str(source), ""), base)
    data(*text.splitlines())
    return 0
