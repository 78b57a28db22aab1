"""``soct report`` with more than one run: ``RUN --compare OTHER``, ``RUN --cohort DIR``, ``--cohort DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from soct.cli.terminal import data
from soct.errors import UsageError

if TYPE_CHECKING:
    from soct.cli.report_forms import Wanted
    from soct.report.cohort import Cohort
    from soct.report.model import RunView


def read_beside(run: Path, wanted: Wanted) -> tuple[RunView | None, Cohort | None]:
    """Return the run to compare with and the runs of the lab, where they are asked for.

    Raises
    ------
    UsageError
        The run would be compared with itself.
    InputError
        What is given is no run folder, or holds none.
    """
    from soct.pipeline.folder.cohort_folder import read_cohort

    return (
        None if wanted.compare is None else _read_other(run, wanted.compare),
        None if wanted.cohort is None else read_cohort(wanted.cohort, run, also=run),
    )


def _read_other(run: Path, other: Path) -> RunView:
    from soct.pipeline.folder.summary import build_view

    view = build_view(other)
    if other.resolve() == run.resolve():
        raise UsageError(
            "A run cannot be compared with itself",
            file=other,
            hint="Name another run folder, such as the same input with another profile.",
        )
    return view


def write_cohort_page(wanted: Wanted) -> None:
    """Write the page of all runs in a folder and print its path.

    Raises
    ------
    UsageError
        There is no folder of runs either, or the page does not go where `out` says.
    InputError
        The folder is none, or holds no run folder; or the page cannot be written.
    """
    from soct.pipeline.folder.cohort_folder import read_cohort
    from soct.pipeline.folder.run_folder import telling_of_writes
    from soct.report.cohort.page import PAGE_NAME, write_cohort

    if wanted.cohort is None or wanted.compare is not None or wanted.rating is not None:
        raise UsageError(
            "There is no run to report on",
            expected="soct report RUN, or soct report --cohort FOLDER",
        )
    if wanted.formats != ("html",):
        raise UsageError(
            "A cohort is reported as a page and a table beside it",
            expected="--format html, or none",
            hint="The other forms are those of one run: give its folder.",
        )
    out = wanted.cohort if wanted.out is None else wanted.out
    path = out / PAGE_NAME if out.is_dir() else out
    if wanted.out is not None and path.suffix != ".html":
        raise UsageError(
            "The page of a cohort is an HTML file",
            file=path,
            expected="a name that ends in .html, or a folder that is there",
        )
    cohort = read_cohort(wanted.cohort, path.parent)
    with telling_of_writes(path.parent):
        data(str(write_cohort(cohort, path)))
