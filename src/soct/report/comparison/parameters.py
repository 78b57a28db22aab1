"""What was asked differently: input, parameters, limits, steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from soct.quality.limits import QualityLimits
from soct.report.markup import count
from soct.report.model import ParameterView, RunView

ABSENT = "not in this profile"
Relation: TypeAlias = Literal["same", "partly", "subject", "different", "unknown"]


@dataclass(frozen=True)
class Sameness:
    """Whether two runs are of one specimen."""

    relation: Relation
    """``partly``: some slices are the same raw data; ``subject``: only the name is the same."""
    text: str


@dataclass(frozen=True)
class ParameterDifference:
    """One setting that two runs have different values of."""

    key: str
    this: str
    other: str
    this_origin: str = ""
    other_origin: str = ""
    unit: str = ""
    description: str = ""


def compare_input(view: RunView, other: RunView) -> Sameness:
    """Say whether two runs are of the same raw data, by the fingerprints that were recorded."""
    mine, its = dict(view.acquisition.fingerprints), dict(other.acquisition.fingerprints)
    named = "of one subject" if view.subject == other.subject else "of different subjects"
    who = "" if view.subject == other.subject else f" ({view.subject} and {other.subject})"
    if not mine or not its:
        relation: Relation = "unknown" if view.subject == other.subject else "different"
        return Sameness(
            relation, f"Runs {named}{who}; the raw data of one left no fingerprint to compare."
        )
    shared = sum(its.get(name) == digest for name, digest in mine.items())
    if shared == len(mine) == len(its):
        return Sameness("same", f"The same raw data: all {count(shared, 'slice')} agree.")
    if shared:
        return Sameness(
            "partly",
            f"The same acquisition in part: {count(shared, 'slice')} of the same raw data, "
            f"{len(mine) - shared} more in this run, {len(its) - shared} more in the other.",
        )
    if view.subject == other.subject:
        return Sameness(
            "subject",
            "Another acquisition of a subject of the same name: no slice has the same raw data. "
            "Numbers can be compared; slices of one number need not be the same place.",
        )
    return Sameness(
        "different",
        f"Different subjects{who}: no slice has the same raw data. Numbers can be compared; pictures "
        "and slices of one number show different tissue.",
    )


def compare_parameters(view: RunView, other: RunView) -> tuple[ParameterDifference, ...]:
    """Return parameters and limits of different value, in the order of this run's profile."""
    mine = {p.key: p for p in view.parameters}
    its = {p.key: p for p in other.parameters}
    found = [
        _difference(mine.get(key), its.get(key))
        for key in dict.fromkeys((*mine, *its))
        if _value(mine.get(key)) != _value(its.get(key))
    ]
    return (*found, *_limits(view, other))


def _value(parameter: ParameterView | None) -> str | None:
    return None if parameter is None else parameter.value


def _difference(mine: ParameterView | None, its: ParameterView | None) -> ParameterDifference:
    known = mine or its
    assert known is not None
    return ParameterDifference(
        known.key,
        ABSENT if mine is None else mine.value,
        ABSENT if its is None else its.value,
        "" if mine is None else mine.origin,
        "" if its is None else its.origin,
        known.unit,
        known.description,
    )


def _limits(view: RunView, other: RunView) -> list[ParameterDifference]:
    found = []
    for name in QualityLimits.model_fields:
        here, there = view.limits.limit(name), other.limits.limit(name)
        if here is None or there is None:
            continue
        found += [
            ParameterDifference(
                f"quality.{name}.{part}",
                f"{getattr(here, part):g}",
                f"{getattr(there, part):g}",
                view.limit_origin(name, part),
                other.limit_origin(name, part),
                unit=QualityLimits.unit(name),
                description=QualityLimits.description(name),
            )
            for part in ("warning", "error")
            if getattr(here, part) != getattr(there, part)
        ]
    return found


def compare_steps(view: RunView, other: RunView) -> tuple[ParameterDifference, ...]:
    """Return the steps that only one run has, and those of another version."""
    mine, its = ({s.id: s.version for s in v.steps} for v in (view, other))
    return tuple(
        ParameterDifference(name, _version(mine.get(name)), _version(its.get(name)))
        for name in dict.fromkeys((*mine, *its))
        if mine.get(name) != its.get(name)
    )


def _version(version: int | None) -> str:
    return "switched off" if version is None else f"version {version}"
