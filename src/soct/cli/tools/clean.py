"""List, and with --yes remove, what a run can compute again: arrays of single slices, and leftovers."""

from __future__ import annotations

from typing import Annotated

import typer

from soct.cli import options


def command(
    run: options.Run,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only list.")] = False,
    temporaries: Annotated[
        bool, typer.Option("--temporaries", help="Only what interrupted runs left behind.")
    ] = False,
) -> int:
    """List, and with --yes remove, what a run can compute again: arrays of single slices, and leftovers.

    The volume, the report, tables, figures and the input are never touched. A later `soct run` with other
    parameters computes again what it needs.
    """
    from soct.cli.terminal import data, words
    from soct.pipeline.folder.cleaning import clean, find_removable
    from soct.pipeline.profiles.quantities import format_size

    act = clean if yes else find_removable
    found = act(run, temporaries_only=temporaries)
    for item in found:
        data(f"{format_size(item.n_bytes):>10}  {item.path}")
    total = format_size(sum(item.n_bytes for item in found))
    words(f"{total} removed" if yes else f"{total} would be removed with --yes")
    return 0
