"""The report for a terminal, a log or a mail: 80 columns, no markup.

Each line carries a tone, which a terminal may turn into a colour; without it nothing is lost.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from soct.quality.verdict import Grade
from soct.report.bad_slices import BadSlice, Finding, bad_slices
from soct.report.comparison import compare
from soct.report.comparison.rows import comparison_lines
from soct.report.headline import Headline
from soct.report.markup import count, duration, number, visible, words
from soct.report.model import RunView
from soct.report.problems import Problem
from soct.report.ratings import agree, current_ratings, describe_agreement
from soct.report.reportlet import Page

COLUMNS = 80
Tone: TypeAlias = Literal["", "title", "ok", "warning", "error"]
_TONES: dict[Grade, Tone] = {Grade.PASS: "ok", Grade.REVIEW: "warning", Grade.FAIL: "error"}
_FINDINGS_SHOWN = 3
_PLAIN = str.maketrans({"\u202f": " ", "\u2212": "-", "\u2013": "-"})


@dataclass(frozen=True)
class Line:
    """One line of the report."""

    text: str
    tone: Tone = ""


def text_lines(page: Page) -> tuple[Line, ...]:
    """Return the report: verdict, headline numbers, ranked problems with their remedies, bad slices."""
    parts = [_verdict(page), _headlines(page), _problems(page), _slices(page)]
    if page.other is not None:
        parts.append(_comparison(page, page.other))
    drawn = [line for part in parts for line in (*part, Line(""))]
    return tuple(Line(_inert(line.text), line.tone) for line in drawn[:-1])


def summarise_as_text(page: Page) -> str:
    """Return `text_lines` as one text."""
    return "".join(f"{line.text}\n" for line in text_lines(page))


def _inert(text: str) -> str:
    return visible(text.replace("\n", " ")).translate(_PLAIN)


def _wrap(text: str, indent: str, *, first: str | None = None) -> list[str]:
    lines = textwrap.wrap(
        _inert(text),
        COLUMNS,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_on_hyphens=False,
    )
    return lines or [(first or "").rstrip()]


def _verdict(page: Page) -> Iterator[Line]:
    view = page.view
    head = f"{page.verdict.grade.value}  {view.subject}"
    for text in _wrap(head, " " * 8, first=""):
        yield Line(text, _TONES[page.verdict.grade])
    for text in _wrap(_circumstances(view), "  "):
        yield Line(text)
    for reason in page.verdict.reasons:
        for text in _wrap(reason, "    ", first="  - "):
            yield Line(text)
    yield from _ratings(page)


def _ratings(page: Page) -> Iterator[Line]:
    ratings, computed = current_ratings(page.view), page.verdict.grade.value
    if not ratings:
        return
    said = "; ".join(f"{r.rating} by {r.rater}" for r in ratings)
    agreement = describe_agreement(agree(ratings, computed), computed)
    for text in _wrap(f"Rated by people: {said}. {agreement}", "    ", first="  "):
        yield Line(text)


def _circumstances(view: RunView) -> str:
    parts = [f"run {view.state}", f"profile {view.profile}"]
    if view.soct_version:
        parts.append(f"soct {view.soct_version}")
    if view.redacted:
        parts.append("redacted")
    if view.invocations:
        parts.append(f"begun {view.invocations[0].started[:16].replace('T', ' ')}")
    if view.wall_seconds is not None:
        parts.append(f"{duration(view.wall_seconds)} of computing")
    return ", ".join(parts)


def _headlines(page: Page) -> Iterator[Line]:
    yield Line("Headline numbers", "title")
    for headline in page.headlines:
        yield from _headline(headline)


def _headline(headline: Headline) -> Iterator[Line]:
    status = "" if headline.status.value == "info" else headline.status.value
    row = f"  {headline.label:<20}{headline.text:>11}  {status:<8}{headline.limit:<11}"
    tone: Tone = status if status in ("warning", "error") else ""  # type: ignore[assignment]
    for text in _wrap(headline.detail, " " * 55, first=row + " "):
        yield Line(text.rstrip(), tone)


def _problems(page: Page) -> Iterator[Line]:
    serious = [p for p in page.problems if p.severity != "info"]
    quiet = len(page.problems) - len(serious)
    if not serious:
        yield Line("No problem needs attention.", "title")
    else:
        yield Line(f"Problems, ranked ({len(serious)})", "title")
    for rank, problem in enumerate(serious, 1):
        yield from _problem(rank, problem)
    if quiet:
        yield Line(f"  and {quiet} for information, in the page's section on problems")


def _problem(rank: int, problem: Problem) -> Iterator[Line]:
    tone: Tone = "error" if problem.severity == "error" else "warning"
    head = f"{problem.severity}: {problem.what}; {problem.where}"
    for text in _wrap(head, "     ", first=f"{rank:>3}. "):
        yield Line(text, tone)
    for text in _wrap(problem.evidence, "     ") if problem.evidence else ():
        yield Line(text)
    for key, value, advice in problem.settings:
        step, _, name = key.partition(".")
        # The line stays whole, so that it can be copied.
        yield Line(_inert(f"     {step}: {{{name}: ...}}"))
        for text in _wrap(f"now {value or 'empty'}; try {advice}", "       "):
            yield Line(text)


def _slices(page: Page) -> Iterator[Line]:
    rows = page.view.ledger
    if not rows:
        yield Line("No slices are known yet.", "title")
        return
    bad = bad_slices(page.view)
    if not bad:
        yield Line(
            f"All {count(len(rows), 'slice')} used, each within its limits."
            if len(rows) > 1
            else "The slice is used, within its limits.",
            "title",
        )
        return
    yield Line(f"Slices to look at ({len(bad)} of {len(rows)})", "title")
    for found in bad:
        yield from _slice(found)


def _slice(bad: BadSlice) -> Iterator[Line]:
    error = bad.state != "used" or any(f.metric.status == "error" for f in bad.findings)
    said = [bad.row.reason] if bad.row.reason else []
    told: dict[str, str] = {}
    for finding in bad.findings:
        told.setdefault(finding.metric.name, _finding(finding))
    said += list(told.values())[:_FINDINGS_SHOWN]
    if len(told) > _FINDINGS_SHOWN:
        said.append(f"{len(told) - _FINDINGS_SHOWN} more")
    first = f"  {bad.row.slice_id:>5}  {bad.state:<13}"
    for text in _wrap("; ".join(said), " " * 22, first=first + "  "):
        yield Line(text.rstrip(), "error" if error else "warning")


def _finding(finding: Finding) -> str:
    metric, others = finding.metric, finding.unit.slices[:-1]
    beside = "".join(f" to slice {other}" for other in others)
    return f"{words(metric.name)} {number(metric.value, metric.unit)}{beside} ({metric.status})"


def _comparison(page: Page, other: Page) -> Iterator[Line]:
    lines = comparison_lines(compare(page, other), other.view.run_folder)
    for line in lines[1:]:  # the first is empty
        indent = line[: len(line) - len(line.lstrip())]
        if len(line) > COLUMNS:
            for text in _wrap(line.strip(), indent + "  ", first=indent):
                yield Line(text)
        else:
            yield Line(line)
