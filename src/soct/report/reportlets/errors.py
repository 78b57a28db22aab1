"""Section 13: what failed, with everything needed to mend or report it."""

from __future__ import annotations

import re

from markupsafe import Markup

from soct.report.headline import place
from soct.report.markup import EMPTY, code, details, join, note
from soct.report.model import RunView, UnitView
from soct.report.reportlet import Page, Reportlet

_SHOWN = 50
_ABSOLUTE = re.compile(r"(?<![\w.…])(?:[A-Za-z]:[\\/]|/)(?:[^\s\"'<>|:,;()\[\]]+[\\/])+")


def render(page: Page) -> Markup:
    """Draw a card per failed unit, and what waits because of it."""
    failed = [u for u in page.view.units() if u.state == "failed"]
    if not failed:
        return note("No unit failed.")
    parts = [_card(page.view, unit) for unit in failed[:_SHOWN]]
    if len(failed) > _SHOWN:
        parts.append(note(f"and {len(failed) - _SHOWN} more, in report_data/units.tsv"))
    blocked = [u for u in page.view.units() if u.state == "blocked"]
    if blocked:
        listed = ", ".join(f"{u.step}:{u.name}" for u in blocked[:60])
        more = f" and {len(blocked) - 60} more" if len(blocked) > 60 else ""
        parts.append(
            Markup("<p>{} units did not run because what they need failed: {}{}.</p>").format(
                len(blocked), listed, more
            )
        )
    return join(parts)


def redact_paths(text: str) -> str:
    """Return text in which absolute folders are cut off, so it can be sent to somebody."""
    return _ABSOLUTE.sub("…/", text)


def _card(view: RunView, unit: UnitView) -> Markup:
    failure = unit.failure
    head = Markup('<article class="card failed"><h3 style="margin:0">{}, {}</h3>').format(
        unit.step, place(unit)
    )
    if failure is None:
        return head + Markup("<p>No message was recorded.</p></article>")
    rows = [
        ("File", failure.file),
        ("Expected", failure.expected),
        ("Found", failure.found),
        ("To do", failure.hint),
    ]
    listed = join(
        Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(k, redact_paths(v)) for k, v in rows if v
    )
    report = "\n".join(
        [
            f"soct {view.soct_version}, step {unit.step}, unit {unit.name}",
            f"{failure.kind}: {failure.message}",
            *(f"{k}: {v}" for k, v in rows if v),
            failure.traceback,
        ]
    ).strip()
    return head + Markup("<p>{}</p>{}{}</article>").format(
        redact_paths(failure.message),
        Markup('<dl class="facts">{}</dl>').format(listed) if listed else EMPTY,
        details("Text to copy into a bug report (paths are cut off)", code(redact_paths(report))),
    )


REPORTLET = Reportlet(
    id="errors",
    order=120,
    title="Errors",
    question="What failed, and what can be done about it?",
    render=render,
)
