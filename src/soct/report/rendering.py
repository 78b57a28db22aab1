"""The report as one file: every reportlet drawn, put into the page, and written whole.

The page loads nothing: pictures are data URIs, style and script are in it, and a content security policy
forbids everything else, so that text which should slip through the escaping still could not act. It holds no
date of its own: the same run state gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from soct.formats.atomic import write_bytes
from soct.quality.limits import QualityLimits
from soct.report.cohort import Cohort
from soct.report.data_files import write_report_data
from soct.report.figures import FigureStore
from soct.report.headline import headline_numbers, judge
from soct.report.markup import error_card, note, number, visible, words
from soct.report.model import RunView
from soct.report.problems import find_problems
from soct.report.reportlet import Page, Reportlet, describe, load_reportlets

_NOTE = note("")[:16]
_NOTE_TAGS = 2


@dataclass(frozen=True)
class Section:
    """One section of a page, drawn."""

    id: str
    title: str
    question: str
    good: str
    bad: str
    body: Markup
    limits: tuple[str, ...]
    failed: bool
    guided: bool
    """False when there is nothing to look at yet, so that no guide to it is needed."""
    idle: bool = False
    """Whether it says no more than why there is nothing, so that it takes little room and stands back in the list."""


def render_report(
    view: RunView, out: Path, *, other: RunView | None = None, cohort: Cohort | None = None
) -> Path:
    """Write the report of a run and the numbers beside it.

    Parameters
    ----------
    view : RunView
        The run's state; it may be running, failed or empty.
    out : Path
        The run folder, in which ``{subject}_quality_report.html`` and ``report_data/`` are written; or, when
        it ends in ``.html``, the file itself.
    other : RunView, optional
        A run to compare it with.
    cohort : Cohort, optional
        The runs among which it lies, itself included.

    Returns
    -------
    Path
        The page.
    """
    path = out if out.suffix == ".html" else out / report_name(view.subject)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_page(examine(view, other, cohort), path)
    return path


def write_page(page: Page, path: Path) -> None:
    """Write the page into an existing folder, and ``report_data/`` beside it."""
    write_bytes(path, encode_html(page))
    write_report_data(page, path.parent / "report_data")


def encode_html(page: Page) -> bytes:
    """Return the page as the bytes of its file."""
    return render_html(page).encode("utf-8", "backslashreplace")


def examine(view: RunView, other: RunView | None = None, cohort: Cohort | None = None) -> Page:
    """Judge a run: headline numbers, problems and verdict, without drawing anything.

    Parameters
    ----------
    view : RunView
    other : RunView, optional
        A run to compare it with.
    cohort : Cohort, optional
        The runs among which it lies, itself included.
    """
    headlines = headline_numbers(view)
    return Page(
        view=view,
        figures=FigureStore(view.figures),
        headlines=headlines,
        problems=find_problems(view, headlines),
        verdict=judge(view, headlines),
        other=None if other is None else examine(other),
        cohort=cohort,
    )


def render_html(page: Page, reportlets: tuple[Reportlet, ...] | None = None) -> str:
    """Return the page as text.

    Parameters
    ----------
    page : Page
        See `examine`.
    reportlets : tuple of Reportlet, optional
        Default: all of `soct.report.reportlets`.
    """
    known = load_reportlets() if reportlets is None else reportlets
    chosen = [reportlet for reportlet in known if reportlet.shown(page)]
    version = page.view.soct_version
    return render_sections(
        [_draw(page, reportlet) for reportlet in chosen],
        title=f"{page.view.subject}: {page.verdict.grade.value} (soct quality report)",
        brand="soct quality report",
        version=version,
        footer=f"soct {version} · made from the run's saved metrics and figures; nothing on this page was "
        "measured again. The numbers are in report_data/ beside this file.",
    )


def render_sections(
    sections: Sequence[Section], *, title: str, brand: str, version: str, footer: str
) -> str:
    """Return a page of any sections: the frame that all pages of soct share.

    Parameters
    ----------
    sections : sequence of Section
        See `draw_section`.
    title : str
        Of the window.
    brand : str
        Above the list of sections.
    version : str
        Of the soct that the page is about.
    footer : str
    """
    script = _resource("report.js")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(_resource),
        keep_trailing_newline=True,
    )
    text = environment.get_template("report.html.j2").render(
        title=title,
        brand=brand,
        version=version,
        footer=footer,
        sections=sections,
        style=Markup(_resource("report.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )
    return visible(text)


def report_name(subject: str) -> str:
    """Return the report's file name; characters that a file name can't hold become underscores."""
    return f"{report_stem(subject)}.html"


def report_stem(subject: str) -> str:
    """Return the name that all forms of a report share, without its ending."""
    safe = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in subject)
    short = safe.strip(". -").encode("utf-8", "replace")[:200].decode("utf-8", "ignore")
    return f"{short or 'run'}_quality_report"


def _draw(page: Page, reportlet: Reportlet) -> Section:
    return draw_section(
        lambda: reportlet.render(page),
        reportlet.id,
        reportlet.title,
        reportlet.question,
        good=reportlet.good,
        bad=reportlet.bad,
        limits=tuple(_limit(page.view, name) for name in reportlet.thresholds),
    )


def draw_section(
    draw: Callable[[], Markup],
    anchor: str,
    title: str,
    question: str,
    *,
    good: str = "",
    bad: str = "",
    limits: tuple[str, ...] = (),
) -> Section:
    """Draw a section; one that cannot be made is a red card in its place."""
    failed = False
    try:
        body = draw()
    except Exception as error:  # noqa: BLE001  (one broken section never costs the page)
        failed = True
        body = error_card(f"The section “{title}” could not be made", describe(error))
    return Section(
        id=anchor,
        title=title,
        question=question,
        good=good,
        bad=bad,
        body=body,
        limits=limits,
        failed=failed,
        guided=not body.startswith(_NOTE),
        idle=body.startswith(_NOTE) and body.count("<") == _NOTE_TAGS,
    )


def _limit(view: RunView, name: str) -> str:
    limit = view.limits.limit(name)
    if limit is None:
        return name
    unit = QualityLimits.unit(name)
    sign, beyond = ("≥", "<") if limit.higher_is_better else ("≤", ">")
    return f"{words(name)} {sign} {number(limit.warning, unit)} (error {beyond} {number(limit.error, unit)})"


def _resource(name: str) -> str:
    folder = resources.files("soct.report") / "templates"
    return (folder / name).read_text(encoding="utf-8")
