"""What came out differently, in numbers: headline numbers, then every metric by its median and its worst unit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

from soct.quality.limits import Limit
from soct.report.headline import Headline, headline_numbers, place
from soct.report.markup import number
from soct.report.model import RunView, UnitView

Judgement: TypeAlias = Literal["better", "worse", "alike", "same", ""]
"""Of this run against the other; ``alike``: they differ by less than matters; empty where there is no limit
that says which way is good."""
_ALIKE = 0.01
"""Share of the way from the warning to the error limit below which a difference is no better and no worse."""
_EQUAL = 1e-9
"""Relative difference below which two numbers are one number."""


@dataclass(frozen=True)
class Change:
    """One number in both runs."""

    this: float | None
    other: float | None
    judgement: Judgement = ""
    this_place: str = ""
    other_place: str = ""

    @property
    def difference(self) -> float | None:
        """How much greater the number of this run is."""
        return None if self.this is None or self.other is None else self.this - self.other


@dataclass(frozen=True)
class HeadlineChange:
    """A headline number in both runs."""

    this: Headline | None
    other: Headline | None
    change: Change

    @property
    def known(self) -> Headline:
        """The headline of this run, or of the other where this has none."""
        found = self.this or self.other
        assert found is not None
        return found


@dataclass(frozen=True)
class MetricChange:
    """A metric of a step that both runs have, over all units."""

    step: str
    name: str
    unit: str
    median: Change
    worst: Change
    """By the limit, else the largest in size."""
    largest: Change
    """At the unit where the two runs differ most."""
    units: int
    """Units that both runs measured."""


@dataclass(frozen=True)
class TextChange:
    """A metric that is a word or a flag, where units differ."""

    step: str
    name: str
    place: str
    this: str
    other: str
    differing: int
    units: int


def judge_change(limit: Limit | None, this: float | None, other: float | None) -> Judgement:
    """Say whether this run's value is better than the other's, by the direction of the limit."""
    if this is None or other is None:
        return ""
    if equal(this, other):
        return "same"
    if limit is None:
        return ""
    mine, its = goodness(limit, this), goodness(limit, other)
    if abs(mine - its) <= _ALIKE * (abs(limit.error - limit.warning) or abs(limit.error)):
        return "alike"
    return "better" if mine > its else "worse"


def goodness(limit: Limit | None, value: float) -> float:
    """Return a number that grows with quality; without a limit, small values count as good."""
    if math.isnan(value):
        return -math.inf
    return value if limit is not None and limit.higher_is_better else -abs(value)


def equal(this: float, other: float) -> bool:
    """Whether two values are the same number; NaN equals NaN."""
    return math.isclose(this, other, rel_tol=_EQUAL) or (math.isnan(this) and math.isnan(other))


def compare_headlines(view: RunView, other: RunView) -> tuple[HeadlineChange, ...]:
    """Return every headline number of either run that has one."""
    mine = {h.id: h for h in headline_numbers(view)}
    its = {h.id: h for h in headline_numbers(other)}
    found = []
    for name in dict.fromkeys((*mine, *its)):
        here, there = mine.get(name), its.get(name)
        this = None if here is None else here.value
        that = None if there is None else there.value
        if this is not None or that is not None:
            judged = judge_change(view.limits.limit(name), this, that)
            found.append(HeadlineChange(here, there, Change(this, that, judged)))
    return tuple(found)


_Values: TypeAlias = Mapping[str, list[tuple[UnitView, float]]]


def compare_metrics(view: RunView, other: RunView) -> tuple[MetricChange, ...]:
    """Return the metrics that differ, step by step; steps that only one run finished are not compared."""
    found = []
    for step in view.steps:
        units = {m.name: m.unit for v in (other, view) for u in v.units(step.id) for m in u.metrics}
        mine, its = _numbers(view, step.id), _numbers(other, step.id)
        if not mine or not its:
            continue
        for name in dict.fromkeys((*mine, *its)):
            change = _metric(view, step.id, name, units[name], mine.get(name, []), its.get(name, []))  # fmt: skip
            if change is not None:
                found.append(change)
    return tuple(found)


def _numbers(view: RunView, step: str) -> _Values:
    values: dict[str, list[tuple[UnitView, float]]] = defaultdict(list)
    for unit in view.units(step):
        for metric in unit.metrics if unit.finished else ():
            value = unit.number(metric.name)
            if value is not None:
                values[metric.name].append((unit, value))
    return values


def _metric(
    view: RunView,
    step: str,
    name: str,
    unit: str,
    mine: list[tuple[UnitView, float]],
    its: list[tuple[UnitView, float]],
) -> MetricChange | None:
    limit = view.limits.limit(name)
    theirs = {u.slices: v for u, v in its}
    both = [(u, v, theirs[u.slices]) for u, v in mine if u.slices in theirs]
    differing = [(u, a, b) for u, a, b in both if not equal(a, b)]
    if not differing and len(both) == len(mine) == len(its):
        return None
    largest = Change(None, None)
    if differing:
        at, a, b = max(differing, key=lambda d: _size(d[1] - d[2]))
        largest = Change(a, b, judge_change(limit, a, b), place(at), place(at))
    middle, its_middle = _median(mine), _median(its)
    (worst, where), (its_worst, its_where) = _worst(limit, mine), _worst(limit, its)
    return MetricChange(
        step, name, unit,
        Change(middle, its_middle, judge_change(limit, middle, its_middle)),
        Change(worst, its_worst, judge_change(limit, worst, its_worst), where, its_where),
        largest, len(both),
    )  # fmt: skip


def _size(difference: float) -> float:
    return math.inf if math.isnan(difference) else abs(difference)


def _median(values: list[tuple[UnitView, float]]) -> float | None:
    known = [v for _, v in values if not math.isnan(v)]
    return median(known) if known else None


def _worst(limit: Limit | None, values: list[tuple[UnitView, float]]) -> tuple[float | None, str]:
    if not values:
        return None, ""
    unit, value = min(values, key=lambda pair: goodness(limit, pair[1]))
    return value, place(unit)


def compare_texts(view: RunView, other: RunView) -> tuple[TextChange, ...]:
    """Return the metrics that are words or flags and differ in a unit that both runs finished."""
    found = []
    for step in view.steps:
        theirs = {u.slices: u for u in other.units(step.id) if u.finished}
        differing: dict[str, list[tuple[UnitView, str, str]]] = defaultdict(list)
        units = [u for u in view.units(step.id) if u.finished and u.slices in theirs]
        for unit in units:
            for name, this, that in _texts(unit, theirs[unit.slices]):
                differing[name].append((unit, this, that))
        for name, group in differing.items():
            unit, this, that = group[0]
            found.append(TextChange(step.id, name, place(unit), this, that, len(group), len(units)))
    return tuple(found)


def _texts(unit: UnitView, other: UnitView) -> Iterator[tuple[str, str, str]]:
    for metric in unit.metrics:
        its = other.metric(metric.name)
        if its is None or metric.value == its.value:
            continue
        if isinstance(metric.value, bool | str) or isinstance(its.value, bool | str):
            yield metric.name, number(metric.value), number(its.value)
