"""``soct report``: the report of a run, from what is saved there."""

from __future__ import annotations

from soct.cli import options


def command(run: options.Run) -> int:
    """Write the report of a run folder again, from what is saved there."""
    from soct.cli.job_status import render
    from soct.cli.terminal import data
    from soct.errors import ExitCode

    data(str(render(run)))
    return ExitCode.OK
