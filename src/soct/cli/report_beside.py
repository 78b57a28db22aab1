"""``soct report RUN --compare OTHER``: the run that a report sets another one beside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from soct.errors import UsageError

if TYPE_CHECKING:
    from soct.report.model import RunView


def read_other(run: Path, other: Path) -> RunView:
    """Return the run to compare with.

    Raises
    ------
    UsageError
        It is the same run.
    InputError
        It is no run folder.
    """
    from soct.pipeline.summary import build_view

    view = build_view(other)
    if other.resolve() == run.resolve():
        raise UsageError(
            "A run cannot be compared with itself",
            file=other,
            hint="Name another run folder, such as the same input with another profile.",
        )
    return view
