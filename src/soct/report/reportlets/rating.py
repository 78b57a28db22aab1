"""Section 16: what people say of the run, and a form to say it."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.identity import run_key
from soct.report.markup import EMPTY, code, details, error_card, join, pill, table
from soct.report.model import RatingView, StatusName
from soct.report.ratings import (
    ARTEFACTS,
    FORMAT,
    RATINGS,
    agree,
    current_ratings,
    describe_agreement,
    template,
)
from soct.report.reportlet import Page, Reportlet

_STATUS: dict[str, StatusName] = {"accept": "ok", "conditional": "warning", "reject": "error"}
_NAMED_AT_VERDICT = 6


def render(page: Page) -> Markup:
    """Draw the ratings that were given, then the form and what to do without JavaScript."""
    return join([_given(page), _form(page), _by_hand(page)])


def at_verdict(page: Page) -> Markup:
    """Draw the ratings in a line, to stand beside the computed verdict; nothing where there are none."""
    ratings = current_ratings(page.view)
    if not ratings:
        return EMPTY
    computed = page.verdict.grade.value
    named = join(
        Markup("<li>{} {}{}</li>").format(
            pill(_STATUS[r.rating], r.rating), r.rater, f", {_day(r)}" if r.time else ""
        )
        for r in ratings[-_NAMED_AT_VERDICT:]
    )
    said = describe_agreement(agree(ratings, computed), computed)
    return Markup(
        '<div class="rated"><strong>Rated by people</strong><ul>{}</ul><p>{} <a href="#rating">ratings</a></p></div>'
    ).format(named, said)


def _given(page: Page) -> Markup:
    view = page.view
    current = current_ratings(view)
    parts = [
        error_card("A rating could not be read", fault) for fault in view.rating_faults
    ]  # what is kept is shown or named
    if not view.ratings:
        return join([*parts, Markup('<p class="none">Nobody has rated this run yet.</p>')])
    computed = page.verdict.grade.value
    if current:
        found = agree(current, computed)
        seen = ", ".join(
            f"{ARTEFACTS[a]} ({n} of {found.raters})" for a, n in found.artefacts.items()
        )
        parts.append(Markup("<p>{}{}</p>").format(
            describe_agreement(found, computed), f" Artefacts seen: {seen}." if seen else ""
        ))  # fmt: skip
    rows = [
        (
            r.rater,
            pill(_STATUS[r.rating], r.rating),
            ", ".join(ARTEFACTS[a] for a in r.artefacts) or "–",
            r.comment or "–",
            r.time[:16].replace("T", " "),
            r.computed or "–",
            "yes" if r in current else _why_not(page, r),
        )
        for r in view.ratings
    ]
    headers = ("Rater", "Rating", "Artefacts", "Comment", "When", "Verdict then", "Counts")
    parts.append(table(headers, rows, caption="Ratings", sortable=False))
    return join(parts)


def _why_not(page: Page, rating: RatingView) -> str:
    if rating.run != run_key(page.view):
        return "no: other settings or raw data then"
    return "no: the rater has rated again"


def _form(page: Page) -> Markup:
    view = page.view
    choices = join(
        Markup(
            '<label><input type="radio" name="rating" value="{}" required> {}</label>'
        ).format(name, text)
        for name, text in RATINGS.items()
    )  # fmt: skip
    boxes = join(
        Markup('<label><input type="checkbox" name="artefacts" value="{}"> {}</label>').format(
            name, text
        )
        for name, text in ARTEFACTS.items()
    )
    return Markup(
        '<form class="rating" id="rating-form" autocomplete="off" aria-label="Rate this run"'
        ' data-format="{}" data-run="{}" data-subject="{}" data-version="{}" data-computed="{}">'
        "<fieldset><legend>Your rating</legend>{}</fieldset>"
        "<fieldset><legend>Artefacts that you see</legend>{}</fieldset>"
        '<label class="wide">Comment: where, and what may be used'
        '<textarea name="comment" rows="3" maxlength="20000"></textarea></label>'
        '<label class="wide">Your name'
        '<input type="text" name="rater" required maxlength="200" pattern=".*\\S.*"></label>'
        '<button type="submit" hidden>Save the rating as a file</button>'
        "<noscript><p>JavaScript is off, so this form cannot save a file: see <em>By hand</em> below.</p></noscript>"
        '<p role="status" id="rating-told"></p></form>'
    ).format(
        FORMAT, run_key(view), view.subject, view.soct_version, page.verdict.grade.value,
        choices, boxes,
    )  # fmt: skip


def _by_hand(page: Page) -> Markup:
    filled = code(template(page.view, page.verdict.grade.value))
    command = code("soct report RUN --ingest-rating FILE")
    keep = Markup(
        "<p>Whoever has the run folder RUN adds the file to it with the following command; the report then "
        "shows the rating here and at the verdict. Ratings of other people stay.</p>{}"
    ).format(command)
    hand = Markup(
        "<p>Without JavaScript the form saves nothing. Copy this into a file instead, such as rating.json, and "
        "fill it in: <code>rating</code> is one of {}; leave in <code>artefacts</code> what you see, or "
        "<code>[]</code>; <code>time</code> may stay empty.</p>{}"
    ).format(", ".join(RATINGS), filled)
    return keep + details("By hand, without JavaScript", hand)


def _day(rating: RatingView) -> str:
    return rating.time[:10]


REPORTLET = Reportlet(
    id="rating",
    order=145,
    title="Rating",
    question="What do people say who looked at it?",
    render=render,
)
"""Section 16 stands between provenance and the glossary."""
