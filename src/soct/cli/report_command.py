"""``soct report``: the report of a run, from what is saved there, as a page or in another form."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from soct.cli import options

FORMATS = ("html", "zip", "text", "json")

Run = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Run folder; none with --cohort alone.")
]
Compare = Annotated[
    Path | None,
    typer.Option(
        "--compare",
        metavar="OTHER_RUN",
        help="Set the run beside another one: settings, numbers, pictures and slices that differ.",
    ),
]


CohortFolder = Annotated[
    Path | None,
    typer.Option(
        "--cohort",
        metavar="FOLDER",
        help="Say where the run lies among all runs in this folder; without RUN: one page of all of them.",
    ),
]


def _formats(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        if name not in FORMATS:
            raise ValueError(f"{name!r} is not one of {', '.join(FORMATS)}")
    return names


Formats = Annotated[
    Any,
    typer.Option(
        "--format",
        metavar="html|zip|text|json",
        parser=options.parsed_by(_formats),
        help="html: the page and report_data/; zip: both in one file to send; text: 80 columns for a terminal or a log; json: for programs. Several: with commas.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FILE|FOLDER",
        help="Where to; default: the run folder, and stdout for text and json.",
    ),
]
Redact = Annotated[
    bool,
    typer.Option(
        "--redact",
        help="Leave out paths, hosts, users and the subject's name; written into RUN/redacted unless --out says otherwise.",
    ),
]
IngestRating = Annotated[
    Path | None,
    typer.Option(
        "--ingest-rating",
        metavar="FILE",
        help="Add a rating, as the report's form saves it, to the run; the report then shows it.",
    ),
]


def command(
    run: Run = None,
    formats: Formats = None,
    out: Out = None,
    redact: Redact = False,
    compare: Compare = None,
    cohort: CohortFolder = None,
    ingest_rating: IngestRating = None,
) -> int:
    """Write the report of a run folder again, from what is saved there; or that of all runs of a lab."""
    from soct.cli import report_beside, report_forms
    from soct.errors import ExitCode

    wanted = report_forms.Wanted(formats or ("html",), out, redact, compare, cohort, ingest_rating)
    report_forms.check_redaction(wanted)
    if run is None:
        report_beside.write_cohort_page(wanted)
    else:
        report_forms.write(run, wanted)
    return ExitCode.OK
