"""What ``soct report`` writes: each form of the report, and where it goes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from soct.cli.terminal import data, takes_escapes, words
from soct.errors import UsageError

if TYPE_CHECKING:
    from soct.report.model import RunView
    from soct.report.plain_text import Line
    from soct.report.reportlet import Page

_ENDINGS = {"html": ".html", "zip": ".zip", "text": ".txt", "json": ".json"}
REDACTED = "redacted"
"""Folder of the run folder for reports without names: the report itself stays as it is."""
_PRINTED = ("text", "json")
_ESCAPES = {"title": "1", "ok": "32", "warning": "33", "error": "31"}


@dataclass(frozen=True)
class Wanted:
    """What was asked for."""

    formats: tuple[str, ...]
    out: Path | None = None
    redact: bool = False
    """Leave out names and folders."""
    compare: Path | None = None
    """Another run to set this one beside."""
    cohort: Path | None = None
    """A folder of runs to place this one among."""
    rating: Path | None = None
    """A rating to keep with the run first."""


def write(folder: Path, wanted: Wanted) -> None:
    """Write or print every form that is wanted.

    Raises
    ------
    InputError
        It is no run folder, the rating is none of this run, or what is wanted cannot be written.
    UsageError
        The forms do not go where `out` says.
    """
    from soct.cli.report_beside import read_beside
    from soct.pipeline.folder.summary import build_view
    from soct.report.rendering import examine

    formats = tuple(dict.fromkeys(wanted.formats))
    check_place(formats, wanted.out)
    view = build_view(folder)
    # Whatever else is asked for must be there before a rating is kept.
    other, cohort = read_beside(folder, wanted)
    if wanted.rating is not None:
        view = _with_rating(folder, wanted.rating, view)
    if wanted.redact:
        from soct.report.redaction import redact

        view, other = redact(view, (other,) if other else ()), other and redact(other, (view,))
    page = examine(view, other, cohort)
    home = folder / REDACTED if wanted.redact else folder
    for form in formats:
        if wanted.out is None and form in _PRINTED:
            _print(page, form)
        else:
            path = _place(page, form, wanted.out or home)
            _save(page, form, path)
            # What is printed stays whole for the program that reads it.
            tell = words if wanted.out is None and set(formats) & set(_PRINTED) else data
            tell(str(path))


def _with_rating(folder: Path, file: Path, view: RunView) -> RunView:
    from soct.pipeline.folder.ratings import keep_rating
    from soct.pipeline.folder.run_folder import telling_of_writes
    from soct.pipeline.folder.summary import build_view

    with telling_of_writes(folder):
        words(f"rating kept: {keep_rating(folder, file, view)}")
    return build_view(folder)


def check_redaction(wanted: Wanted) -> None:
    """Raise UsageError where names would stay that nobody took out."""
    if wanted.redact and wanted.cohort is not None:
        raise UsageError(
            "--redact does not reach the names of a cohort's other runs",
            hint="give --redact without --cohort",
        )


def check_place(formats: tuple[str, ...], out: Path | None) -> None:
    """Raise UsageError where forms would be mixed up or written over each other."""
    if out is None:
        if len(set(formats) & set(_PRINTED)) > 1:
            raise UsageError(
                "text and json would both be printed",
                hint="give a folder for them: --out FOLDER",
            )
        return
    ending = out.suffix.lower()
    if out.is_dir() or ending not in _ENDINGS.values():
        if out.exists() and not out.is_dir():
            raise UsageError(
                "--out names a file that is no report",
                file=out,
                expected="a folder, or a file that ends in " + " or ".join(_expected(formats)),
            )
        return
    if len(formats) > 1:
        raise UsageError(
            f"{len(formats)} forms do not fit into one file",
            file=out,
            hint="give a folder: --out FOLDER",
        )
    if ending not in _expected(formats):
        raise UsageError(
            f"a report as {formats[0]} does not go into a file that ends in {ending}",
            file=out,
            expected=" or ".join(_expected(formats)),
        )


def _expected(formats: tuple[str, ...]) -> list[str]:
    return [_ENDINGS[form] for form in formats]


def _place(page: Page, form: str, out: Path) -> Path:
    from soct.report.rendering import report_stem

    if not out.is_dir() and out.suffix.lower() == _ENDINGS[form]:
        return out
    return out / f"{report_stem(page.view.subject)}{_ENDINGS[form]}"


def _save(page: Page, form: str, path: Path) -> None:
    from soct.formats.atomic import write_bytes
    from soct.pipeline.folder.run_folder import telling_of_writes
    from soct.report.bundle import make_bundle
    from soct.report.data_files import summarise_as_json
    from soct.report.plain_text import summarise_as_text
    from soct.report.rendering import write_page

    with telling_of_writes(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        if form == "html":
            write_page(page, path)
        elif form == "zip":
            write_bytes(path, make_bundle(page))
        elif form == "text":
            write_bytes(path, summarise_as_text(page).encode("utf-8", "backslashreplace"))
        else:
            write_bytes(path, summarise_as_json(page).encode())


def _print(page: Page, form: str) -> None:
    from soct.report.data_files import summarise_as_json
    from soct.report.plain_text import text_lines

    if form == "json":
        data(*summarise_as_json(page).splitlines())
    elif takes_escapes(sys.stdout) and not os.environ.get("NO_COLOR"):
        _print_coloured(text_lines(page))
    else:
        data(*(line.text for line in text_lines(page)))


def _print_coloured(lines: tuple[Line, ...]) -> None:
    from soct.pipeline.folder.inert_text import make_inert

    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:
        inert = make_inert(line.text).encode(encoding, "backslashreplace").decode(encoding)
        code = _ESCAPES.get(line.tone)
        sys.stdout.write(f"\x1b[{code}m{inert}\x1b[0m\n" if code else f"{inert}\n")
    sys.stdout.flush()
