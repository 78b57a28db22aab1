"""Section 11: where this run lies among the lab's runs (`soct report RUN --cohort DIR`)."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.cohort import Cohort, Placed
from soct.report.cohort.page import strip_caption, table_of_runs, unreadable_runs
from soct.report.cohort.places import Place, Spread
from soct.report.cohort.strips import draw_strips
from soct.report.cohort.texts import how_far, overview, standing_out, too_few
from soct.report.markup import Cell, details, join, note, number, pill, table
from soct.report.reportlet import Page, Reportlet


def render(page: Page) -> Markup:
    """Say where this run stands out, then draw all numbers' places."""
    cohort = page.cohort
    own = None if cohort is None else cohort.own_run
    if cohort is None or own is None:
        return note("No cohort was given.")
    parts = [Markup("<p>{}</p>").format(overview(cohort))]
    if cohort.can_tell:
        parts.append(_verdict(cohort, own))
        parts.append(page.guarded("Strip plot", lambda: _strips(cohort)))
        parts.append(page.guarded("Places", lambda: _places(cohort, own)))
    else:
        parts.append(Markup("<p>{} {}</p>").format(pill("info"), too_few(cohort)))
    parts.append(details("All runs of the cohort", table_of_runs(cohort, linked=False)))
    if cohort.unreadable:
        parts.append(unreadable_runs(cohort))
    return join(parts)


def _verdict(cohort: Cohort, own: Placed) -> Markup:
    rank = 1 + cohort.runs.index(own)
    if own.outliers:
        return Markup("<p>{} It is number {} of the runs that stand out. {}.</p>").format(
            pill("warning", "stands out"), rank, standing_out(own, cohort)
        )
    return Markup("<p>{} This run does not stand out among the lab’s runs.</p>").format(
        pill("ok", "like the others")
    )


def _strips(cohort: Cohort) -> Markup:
    return join([draw_strips(cohort), strip_caption(cohort)])


def _places(cohort: Cohort, own: Placed) -> Markup:
    rows = []
    for place in own.places:
        spread = cohort.spread(place.name)
        assert spread is not None
        told = "worse than the others" if place.is_outlier else "better than the others" if place.is_better_than_all else "like the others"  # fmt: skip
        rows.append(
            (
                place.label,
                Cell(how_far(place, spread), css="wide"),
                Cell(number(round(place.z, 1)), sort=place.z),
                Cell(number(_stands_out_from(place, spread)), sort=_stands_out_from(place, spread)),
                Cell(f"{place.rank} of {place.count}", sort=place.rank),
                pill("warning" if place.is_outlier else "ok", told),
            )
        )
    return table(
        ("Headline number", "This run", "Robust z", "Stands out from", "Place (1 is best)", "This run is"),
        rows,
        caption="Where this run’s numbers lie, the farthest out for the worse first; a positive z is worse",
        numeric=(2, 3, 4),
    )  # fmt: skip


def _stands_out_from(place: Place, spread: Spread) -> float:
    """Return the z from which this number stands out: less where it is beyond a limit that others keep."""
    if place.excess != 0.0:
        return round(place.z / place.excess, 1)
    return spread.threshold or 0.0


REPORTLET = Reportlet(
    id="cohort",
    order=110,
    title="Cohort",
    question="Is this brain like the lab’s others?",
    render=render,
    good="no number stands out.",
    bad="a number that stands out although it is within its limits: something in this acquisition is not as usual. "
    "Look at the section of that number.",
    shown=lambda page: page.cohort is not None,
)
