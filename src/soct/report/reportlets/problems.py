"""Section 2: the problems, ranked."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.markup import EMPTY, details, join, pill, table
from soct.report.model import StatusName
from soct.report.problems import Problem
from soct.report.reportlet import Page, Reportlet

_SHOWN = 12


def render(page: Page) -> Markup:
    """Draw a card per problem, the worst first; the long tail is folded into a table."""
    serious = [p for p in page.problems if p.severity != "info"]
    quiet = [p for p in page.problems if p.severity == "info"]
    if not page.problems:
        return _all_passed(page)
    parts = [_card(i, problem) for i, problem in enumerate(serious[:_SHOWN], 1)]
    if not serious:
        parts.append(Markup("<p>No problem needs attention. {}</p>").format(_checked(page)))
    if len(serious) > _SHOWN:
        rest = serious[_SHOWN:]
        parts.append(details(f"{len(rest)} smaller problems", _table(rest)))
    if quiet:
        parts.append(
            details(f"{len(quiet)} for information: what soct decided or did otherwise", _table(quiet))
        )  # fmt: skip
    return join(parts)


def _card(rank: int, problem: Problem) -> Markup:
    rows = [
        ("Evidence", problem.evidence),
        ("Means", problem.meaning),
        ("soct did", problem.action),
    ]
    listed = [Markup("<dt>{}</dt><dd>{}</dd>").format(k, v) for k, v in rows if v]
    if problem.settings:
        listed.append(Markup("<dt>To change</dt><dd>{}</dd>").format(_settings(problem)))
    more = Markup(' <a href="#{}">show</a>').format(problem.anchor) if problem.anchor else EMPTY
    return Markup(
        '<article class="card problem {}"><h3><span>{}. {}</span>{}</h3>'
        '<p><span class="where">{}</span>{}</p><dl>{}</dl></article>'
    ).format(
        problem.severity,
        rank,
        problem.what,
        pill(problem.severity),
        problem.where,
        more,
        join(listed),
    )


def _settings(problem: Problem) -> Markup:
    lines = []
    for key, value, advice in problem.settings:
        step, _, name = key.partition(".")
        lines.append(
            Markup("<div><code>{}: {{{}: …}}</code> now {}; try {}</div>").format(
                step, name, value, advice
            )
        )
    return join(lines)


def _table(problems: list[Problem]) -> Markup:
    return table(
        ("", "What", "Where", "Evidence", "soct did"),
        [(pill(p.severity), p.what, p.where, p.evidence, p.action) for p in problems],
        caption="Ranked by how far they lie beyond their limits",
        sortable=False,
    )


def _all_passed(page: Page) -> Markup:
    if not any(page.view.steps):
        return Markup('<p class="none">Nothing has run yet.</p>')
    return Markup("<p>{} No problem was found. {}</p>").format(pill("ok"), _checked(page))


def _checked(page: Page) -> str:
    judged: dict[str, int] = {}
    ok: set[StatusName] = {"ok", "warning", "error"}
    for unit in page.view.units():
        for metric in unit.metrics:
            if metric.status in ok:
                judged[metric.name] = judged.get(metric.name, 0) + 1
    names = ", ".join(
        f"{name.replace('_', ' ')} ({count})" for name, count in sorted(judged.items())
    )
    return f"Checked against limits: {names}." if names else "No metric with a limit was saved yet."


REPORTLET = Reportlet(
    id="problems",
    order=20,
    title="Problems, ranked",
    question="What is wrong, where, and which profile line changes it?",
    render=render,
)
