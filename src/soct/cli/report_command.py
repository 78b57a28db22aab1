"""``soct report``: the report of a run, from what is saved there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from soct.cli import options

Compare = Annotated[
    Path | None,
    typer.Option(
        "--compare",
        metavar="OTHER_RUN",
        help="Set the run beside another one: settings, numbers, pictures and slices that differ.",
    ),
]


def command(run: options.Run, compare: Compare = None) -> int:
    """Write the report of a run folder again, from what is saved there."""
    from soct.cli.job_status import render
    from soct.cli.report_beside import read_other
    from soct.cli.terminal import data
    from soct.errors import ExitCode

    other = None if compare is None else read_other(run, compare)
    data(str(render(run) if other is None else render(run, other=other)))
    return ExitCode.OK
