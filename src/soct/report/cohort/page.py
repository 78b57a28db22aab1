"""The page of a cohort: what stands out, where every number lies, and all runs in one table."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from soct import __version__
from soct.formats.atomic import write_bytes
from soct.report.cohort import Cohort, Placed
from soct.report.cohort.strips import draw_strips
from soct.report.cohort.texts import HEADER, cohort_rows, overview, standing_out, too_few
from soct.report.data_files import make_tsv
from soct.report.markup import Cell, Row, join, note, pill, table
from soct.report.rendering import draw_section, render_sections

PAGE_NAME = "cohort_report.html"
_CARDS = 12
_GRADES = {"PASS": "ok", "REVIEW": "warning", "FAIL": "error"}


def write_cohort(cohort: Cohort, path: Path) -> Path:
    """Write the page, and its numbers as a table of the same name beside it.

    Parameters
    ----------
    cohort : Cohort
        Its reports' paths are relative to the folder of `path`.
    path : Path
        The HTML file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, render_cohort(cohort).encode("utf-8", "backslashreplace"))
    write_bytes(path.with_suffix(".tsv"), make_tsv(HEADER, cohort_rows(cohort)))
    return path


def render_cohort(cohort: Cohort) -> str:
    """Return the page as text; the same runs give the same bytes."""
    sections = [
        draw_section(
            lambda: _outliers(cohort),
            "outliers",
            "What stands out",
            "Which runs are not like the others, and by which number?",
            good="no run stands out.",
            bad="a run that stands out by one number: open its report and look at that section. Many runs that "
            "lie apart from the others in the same number: another protocol or profile, not a bad brain.",
        ),
        draw_section(
            lambda: _strips(cohort),
            "places",
            "Every number’s place",
            "Where does each run lie among the others?",
            good="all marks within the grey bands.",
            bad="diamonds: runs farther out than the farthest of equal runs would be in one cohort of a hundred, or "
            "beyond a limit that the median keeps and 3.5 deviations out.",
        ),
        draw_section(
            lambda: table_of_runs(cohort, linked=True),
            "runs",
            "All runs",
            "What did each run come out with?",
        ),
    ]
    if cohort.unreadable:
        sections.append(
            draw_section(
                lambda: unreadable_runs(cohort),
                "unreadable",
                "Runs that cannot be read",
                "Which folders look like runs and say nothing?",
            )
        )
    return render_sections(
        sections,
        title=f"{len(cohort.runs)} runs (soct cohort report)",
        brand="soct cohort report",
        version=__version__,
        footer=f"soct {__version__} · made from the runs' saved metrics; nothing was measured again. The numbers "
        "are in the table of the same name beside this file.",
    )


def _outliers(cohort: Cohort) -> Markup:
    parts = [
        Markup("<h1>Cohort</h1>"),
        Markup('<p class="subtitle">{}</p>').format(overview(cohort)),
    ]
    if not cohort.can_tell:
        return join([*parts, Markup("<p>{} {}</p>").format(pill("info"), too_few(cohort))])
    found = [run for run in cohort.runs if run.outliers]
    if not found:
        return join([*parts, Markup("<p>{} No run stands out.</p>").format(pill("ok"))])
    parts.append(Markup("<h2>What stands out</h2>"))
    cards = [_card(i, run, cohort) for i, run in enumerate(found[:_CARDS], 1)]
    if len(found) > _CARDS:
        cards.append(note(f"{len(found) - _CARDS} more stand out: see the table of all runs."))
    return join([*parts, *cards])


def _card(rank: int, run: Placed, cohort: Cohort) -> Markup:
    member = run.member
    status = _GRADES[member.grade.value]
    problem = Markup("<dt>Its first problem</dt><dd>{}</dd>").format(member.problem) if member.problem else ""  # fmt: skip
    return Markup(
        '<article class="card problem {}"><h3><span>{}. {}</span>{}</h3><p class="where">{}</p>'
        "<dl>{}<dt>Folder</dt><dd>{}</dd></dl></article>"
    ).format(
        status if status != "ok" else "warning",
        rank,
        member.subject,
        pill(status, member.grade.value),
        standing_out(run, cohort),
        problem,
        _link(member.path, member.report),
    )


def _strips(cohort: Cohort) -> Markup:
    if not cohort.can_tell:
        return note(too_few(cohort))
    return join([draw_strips(cohort), strip_caption(cohort)])


def strip_caption(cohort: Cohort) -> Markup:
    """Say how to read the strip plot."""
    return Markup(
        '<p class="question">Each dot is a run, pale where it is not finished; a diamond stands out{}. Grey band: where '
        "{} equal runs would lie. Dashed marks: the default limits, warning and error. The axis counts distance "
        "from the median of the {} finished runs in robust standard deviations (1.4826 × median absolute "
        "deviation, at least a hundredth of the way from the warning to the error limit).</p>"
    ).format(
        "; this run is ringed" if cohort.own is not None else "", cohort.finished, cohort.finished
    )


def table_of_runs(cohort: Cohort, *, linked: bool) -> Markup:
    """Return the table of all runs by headline numbers, ranked.

    Parameters
    ----------
    cohort : Cohort
    linked : bool
        Link each run to its report; a report that is to be one self-contained file links to nothing.
    """
    spreads = cohort.spreads
    rows = []
    for rank, run in enumerate(cohort.runs, 1):
        member = run.member
        cells: list[Cell | Markup | str] = [
            Cell(str(rank), sort=rank),
            Cell(
                join([member.subject, Markup("<br>"), _link(member.path, member.report if linked else "")]),
                css="wide",
            ),
            pill(_GRADES[member.grade.value], member.grade.value),
            member.state,
            member.profile,
        ]  # fmt: skip
        cells += [_number_cell(run, spread.name) for spread in spreads]
        rows.append(Row(cells, css="marked" if member.path == cohort.own else ""))
    return table(
        ("Rank", "Run", "Verdict", "State", "Profile", *(s.label for s in spreads)),
        rows,
        caption="Those that stand out first, then by verdict. ◆ stands out for the worse, ◇ for the better; ! and ✕: "
        "beyond the warning and the error limit of the run’s own profile.",
        numeric=(0, *range(5, 5 + len(spreads))),
        empty="No run can be read.",
    )  # fmt: skip


def _number_cell(run: Placed, name: str) -> Cell:
    headline = run.member.headline(name)
    if headline is None or headline.value is None:
        return Cell("–", sort=float("-inf"))
    place = run.place(name)
    mark = "" if place is None else "◆ " if place.is_outlier else "◇ " if place.is_better_than_all else ""  # fmt: skip
    status = headline.status.value
    return Cell(
        f"{mark}{headline.text}",
        sort=headline.value,
        css=status if status in ("warning", "error") else "",
    )


def unreadable_runs(cohort: Cohort) -> Markup:
    """Return the table of folders that look like runs and cannot be read."""
    rows = [(Markup("<code>{}</code>").format(u.path), u.reason) for u in cohort.unreadable]
    return table(("Folder", "Why"), rows, caption="Runs that cannot be read")


def _link(path: str, report: str) -> Markup:
    if not report:
        return Markup("<code>{}</code>").format(path)
    # Begun with "./" and quoted: whatever the folder's name, it can only ever be a path.
    target = "./" + quote(os.fsencode(report), safe="/")
    return Markup('<a href="{}"><code>{}</code></a>').format(target, path)
