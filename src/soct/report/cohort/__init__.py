"""The runs of a lab beside each other: where each one lies among them, and which stand out.

A run is known here by its headline numbers alone. Nothing is read from its volume or its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from soct.quality.verdict import Grade
from soct.report.cohort.places import SMALLEST, Place, Spread, measure_spread, place_in
from soct.report.headline import Headline, headline_numbers, judge
from soct.report.model import RunState, RunView
from soct.report.problems import find_problems

_GRADES = (Grade.FAIL, Grade.REVIEW, Grade.PASS)


@dataclass(frozen=True)
class Member:
    """One run of a cohort."""

    path: str
    """Its folder, relative to the cohort's; ``.`` for that folder itself."""
    subject: str
    state: RunState
    grade: Grade
    headlines: tuple[Headline, ...]
    profile: str = ""
    soct_version: str = ""
    problem: str = ""
    """The first of its problems, ranked."""
    report: str = ""
    """Its report, relative to the page that links to it; empty where there is none."""

    def headline(self, name: str) -> Headline | None:
        """Return a headline number by name, or None."""
        return next((h for h in self.headlines if h.id == name), None)


@dataclass(frozen=True)
class Unreadable:
    """A run folder of which nothing can be said."""

    path: str
    reason: str


@dataclass(frozen=True)
class Placed:
    """A run with the place of each of its headline numbers; those that stand out most come first."""

    member: Member
    places: tuple[Place, ...]

    @property
    def outliers(self) -> tuple[Place, ...]:
        """Numbers that stand out for the worse."""
        return tuple(p for p in self.places if p.is_outlier)

    def place(self, name: str) -> Place | None:
        """Return the place of a headline number, or None where it has none."""
        return next((p for p in self.places if p.name == name), None)


@dataclass(frozen=True)
class Cohort:
    """All runs below a folder.

    Attributes
    ----------
    runs : tuple of Placed
        Ranked: first those that stand out for the worse, the farthest first; then by verdict.
    spreads : tuple of Spread
        Of each headline number that any run has, over the finished runs.
    unreadable : tuple of Unreadable
    own : str
        The path of the run whose report this is part of, if any.
    """

    runs: tuple[Placed, ...]
    spreads: tuple[Spread, ...]
    unreadable: tuple[Unreadable, ...] = ()
    own: str | None = None

    @property
    def finished(self) -> int:
        """Runs by which the others are judged."""
        return sum(run.member.state == "complete" for run in self.runs)

    @property
    def can_tell(self) -> bool:
        """Whether there are enough finished runs to say anything."""
        return self.finished >= SMALLEST

    @property
    def own_run(self) -> Placed | None:
        """The run whose report this is part of."""
        return next((run for run in self.runs if run.member.path == self.own), None)

    def spread(self, name: str) -> Spread | None:
        """Return the spread of a headline number, or None."""
        return next((s for s in self.spreads if s.name == name), None)

    def seen_by(self, path: str) -> Cohort:
        """Return the cohort as the report of one of its runs shows it."""
        return replace(self, own=path)


def make_member(view: RunView, path: str, report: str = "") -> Member:
    """Return what a cohort knows of a run."""
    headlines = headline_numbers(view)
    serious = (p for p in find_problems(view, headlines) if p.severity != "info")
    first = next(serious, None)
    return Member(
        path=path,
        subject=view.subject,
        state=view.state,
        grade=judge(view, headlines).grade,
        headlines=headlines,
        profile=view.profile,
        soct_version=view.soct_version,
        problem="" if first is None else f"{first.what}: {first.where}",
        report=report,
    )


def make_cohort(members: Sequence[Member], unreadable: Sequence[Unreadable] = ()) -> Cohort:
    """Place and rank runs.

    Parameters
    ----------
    members : sequence of Member
        In any order. Those that are complete make the spread; all are placed in it.
    unreadable : sequence of Unreadable
    """
    names = dict.fromkeys(h.id for m in members for h in m.headlines if h.value is not None)
    finished = [m for m in members if m.state == "complete"]
    spreads = [measure_spread(name, _values(finished, name)) for name in names]
    placed = [Placed(m, _places(m, spreads)) for m in members]
    placed.sort(key=_rank)
    return Cohort(
        tuple(placed),
        tuple(spreads),
        tuple(sorted(unreadable, key=lambda u: u.path)),
    )


def _values(members: Sequence[Member], name: str) -> list[Headline]:
    found = (member.headline(name) for member in members)
    return [h for h in found if h is not None and h.value is not None]


def _places(member: Member, spreads: Sequence[Spread]) -> tuple[Place, ...]:
    found = []
    for spread in spreads:
        headline = member.headline(spread.name)
        if headline is not None and headline.value is not None and spread.threshold is not None:
            found.append(place_in(spread, headline))
    return tuple(sorted(found, key=lambda p: -p.excess))


def _rank(run: Placed) -> tuple[bool, float, int, float, str]:
    most = run.places[0].excess if run.places else float("-inf")
    stands_out = bool(run.outliers)
    return (
        not stands_out,
        -most if stands_out else 0.0,
        _GRADES.index(run.member.grade),
        -most,
        run.member.path,
    )
