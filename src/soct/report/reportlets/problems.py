"""Section 2: the problems, ranked."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.evidence import find_evidence
from soct.report.figures import FigureError
from soct.report.markup import EMPTY, details, join, pill, table, words
from soct.report.model import StatusName
from soct.report.problems import Problem
from soct.report.reportlet import Page, Reportlet
from soct.report.reportlets.stitching import shown_examples

_SHOWN = 12
_LINKED = 3


def render(page: Page) -> Markup:
    """Draw a card per problem, the worst first; the long tail is folded into a table."""
    serious = [p for p in page.problems if p.severity != "info"]
    quiet = [p for p in page.problems if p.severity == "info"]
    if not page.problems:
        return _all_passed(page)
    parts = [_card(page, i, problem) for i, problem in enumerate(serious[:_SHOWN], 1)]
    if not serious:
        parts.append(Markup("<p>No problem needs attention. {}</p>").format(_checked(page)))
    if len(serious) > _SHOWN:
        rest = serious[_SHOWN:]
        parts.append(details(f"{len(rest)} smaller problems", _table(rest)))
    if quiet:
        parts.append(
            details(
                f"{len(quiet)} for information: what soct decided or did otherwise",
                _table(quiet),
                opened=not serious,
            )
        )  # fmt: skip
    if any(problem.settings for problem in page.problems):
        parts.append(_how_to_change(page))
    return join(parts)


def _how_to_change(page: Page) -> Markup:
    return Markup(
        '<p class="how">To try a line once, repeat the command of this run (<a href="#provenance">section '
        "“Provenance”</a>) with <code>--set step.parameter=value</code>. To keep it, write it into a profile of your own "
        "that starts with <code>extends: {}</code> and run with <code>--profile FILE</code>. In the same run folder "
        "only the steps that depend on it are computed anew.</p>"
    ).format(page.view.profile)


def _card(page: Page, rank: int, problem: Problem) -> Markup:
    rows = [
        ("Evidence", problem.evidence),
        ("Means", problem.meaning),
        ("soct did", problem.action),
        ("To do", problem.todo),
    ]
    listed = [Markup("<dt>{}</dt><dd>{}</dd>").format(k, v) for k, v in rows if v]
    if problem.settings:
        listed.append(Markup("<dt>To change</dt><dd>{}</dd>").format(_settings(problem)))
    links = _links(page, problem)
    if links:
        listed.append(Markup("<dt>Look at</dt><dd>{}</dd>").format(Markup(" · ").join(links)))
    return Markup(
        '<article class="card problem {}"><div><h3><span>{}. {}</span>{}</h3>'
        '<p><span class="where">{}</span></p><dl>{}</dl></div>{}</article>'
    ).format(
        problem.severity,
        rank,
        problem.what,
        pill(problem.severity),
        problem.where,
        join(listed),
        _thumbnail(page, problem),
    )


def _thumbnail(page: Page, problem: Problem) -> Markup:
    found = find_evidence(page, problem)
    if found is None:
        return EMPTY
    return Markup('<figure class="evidence">{}<figcaption>{}</figcaption></figure>').format(
        found.drawing, found.caption
    )


def _links(page: Page, problem: Problem) -> list[Markup]:
    """Return links to the section, and to what it says about the worst places."""
    link = Markup('<a href="#{}">{}</a>')
    links = [link.format(problem.anchor, f"section “{problem.anchor.replace('-', ' ')}”")] if problem.anchor else []  # fmt: skip
    known = {row.slice_id for row in page.view.ledger}
    pairs = _measured_pairs(page) if any(len(u) == 2 for u in problem.units) else set()
    stitched = set(shown_examples(page)) if problem.anchor == "stitching" else set()
    for slices in problem.units[:_LINKED]:
        if slices in pairs:
            links.append(link.format(f"pair-{slices[0]}-{slices[1]}", f"pair {slices[0]} → {slices[1]}"))  # fmt: skip
        elif len(slices) == 1 and f"z{slices[0]:02d}" in stitched:
            links.append(link.format(f"stitch-z{slices[0]:02d}", f"stitching of slice {slices[0]}"))
        elif slices and slices[-1] in known:
            links.append(link.format(f"slice-{slices[-1]}", f"slice {slices[-1]} in the ledger"))
    return list(dict.fromkeys(links))


def _measured_pairs(page: Page) -> set[tuple[int, ...]]:
    try:
        pairs = page.figures.array("estimate_slice_poses", "run", "pairs", ndim=2)
    except FigureError:
        return set()
    return {tuple(pair) for pair in pairs.astype(int).tolist()}


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
        ("Severity", "What", "Where", "Evidence", "soct did"),
        [
            (pill(p.severity), p.what, p.where, p.evidence, f"{p.action} {p.todo}".strip())
            for p in problems
        ],
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
    names = ", ".join(f"{words(name)} ({times})" for name, times in sorted(judged.items()))
    if not names:
        return "No metric with a limit was saved yet."
    return f"Checked against limits, and how often: {names}."


REPORTLET = Reportlet(
    id="problems",
    order=20,
    title="Problems, ranked",
    question="What is wrong, where, and which profile line changes it?",
    render=render,
)
