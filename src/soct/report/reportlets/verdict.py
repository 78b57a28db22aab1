"""Section 0: the verdict and the headline numbers."""

from __future__ import annotations

from markupsafe import Markup

from soct.quality.verdict import Grade
from soct.report.data_files import count_units
from soct.report.headline import Headline
from soct.report.markup import EMPTY, STATUS_MARKS, duration, join
from soct.report.model import RunView
from soct.report.reportlet import Page, Reportlet
from soct.report.reportlets.rating import at_verdict

_STATUS = {Grade.PASS: "ok", Grade.REVIEW: "warning", Grade.FAIL: "error"}
_MEANING = {
    Grade.PASS: "Every headline number lies within its limits.",
    Grade.REVIEW: "Usable perhaps: look at the points below before you decide.",
    Grade.FAIL: "Not to be used as it is: see the points below.",
}
_REASONS_SHOWN = 6


def render(page: Page) -> Markup:
    """Draw the verdict, what it rests on, and the headline numbers."""
    view = page.view
    return join(
        [
            Markup("<h1>{}</h1>").format(view.subject),
            Markup('<p class="subtitle">{}</p>').format(_subtitle(view)),
            _verdict(page),
            at_verdict(page),
            Markup('<div class="cards">{}</div>').format(join(_card(h) for h in page.headlines)),
        ]
    )


def _subtitle(view: RunView) -> str:
    parts = [describe_state(view), f"profile {view.profile}"]
    if view.soct_version:
        parts.append(f"soct {view.soct_version}")
    if view.invocations:
        first, last = view.invocations[0].started, view.invocations[-1].ended
        span = f"{first[:16].replace('T', ' ')}"
        if last and last[:16] != first[:16]:
            span += f" to {last[:16].replace('T', ' ')}"
        parts.append(span)
    if view.wall_seconds is not None:
        parts.append(f"{duration(view.wall_seconds)} of computing")
    if view.redacted:
        parts.append("redacted")
    return " · ".join(part for part in parts if part)


def describe_state(view: RunView) -> str:
    """Say how far a run is and how often it was resumed."""
    counts = count_units(view)
    total = sum(counts.values())
    done = counts.get("done", 0) + counts.get("reused", 0)
    text = {
        "complete": "complete",
        "partial": f"stopped after {done} of {total} units",
        "failed": f"failed: {counts.get('failed', 0)} of {total} units",
        "running": f"still going on: {done} of {total} units done",
    }[view.state]
    resumed = len(view.invocations) - 1
    if resumed > 0:
        text += f", resumed {'once' if resumed == 1 else f'{resumed} times'}"
    return f"run {text}"


def _verdict(page: Page) -> Markup:
    verdict = page.verdict
    reasons = EMPTY
    if verdict.reasons:
        rest = len(verdict.reasons) - _REASONS_SHOWN
        items = join(Markup("<li>{}</li>").format(r) for r in verdict.reasons[:_REASONS_SHOWN])
        if rest > 0:
            items += Markup("<li>and {} more</li>").format(rest)
        reasons = Markup("<ul>{}</ul>").format(items)
    count = len(page.problems)
    link = (
        Markup('<p><a href="#problems">{} finding{}, ranked</a></p>').format(
            count, "" if count == 1 else "s"
        )
        if count
        else EMPTY
    )
    return Markup(
        '<div class="verdict {}"><div class="grade">{}</div><div><strong>{}</strong>{}{}</div></div>'
    ).format(_STATUS[verdict.grade], verdict.grade.value, _MEANING[verdict.grade], reasons, link)


def _meaning(page: Page) -> str:
    if page.verdict.grade is Grade.REVIEW and page.view.state in ("running", "partial"):
        return "Not finished: nothing so far is beyond an error limit that decides."
    return _MEANING[page.verdict.grade]


def _card(headline: Headline) -> Markup:
    limit = f"limit {headline.limit}" if headline.limit else ""
    return Markup(
        '<a class="number {}" href="#{}"><span class="label">{}{}</span><span class="value">{}</span>'
        '<span class="limit-text">{}</span><span class="detail">{}</span></a>'
    ).format(
        headline.status.value,
        headline.anchor,
        headline.label,
        _mark(headline),
        headline.text,
        limit,
        headline.detail,
    )


def _mark(headline: Headline) -> Markup:
    status = headline.status.value
    if status == "info":
        return EMPTY
    return Markup(
        '<span class="pill {}"><span aria-hidden="true">{}</span><span class="hidden">{}</span></span>'
    ).format(status, STATUS_MARKS[status], status)


REPORTLET = Reportlet(
    id="verdict",
    order=0,
    title="Verdict",
    question="Can this brain be used?",
    render=render,
)
