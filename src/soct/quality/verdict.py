"""PASS, REVIEW or FAIL: one answer for a run, with its reasons.

The rule, so that anybody can check it by hand:

- FAIL when a unit failed, when a headline number is beyond its error limit, or when more than
  `SPREAD_OF_ERRORS` of the values of one metric are.
- REVIEW when the run is not complete, when any headline number is beyond its warning limit, when any other
  value is beyond its error limit, or when more than `SPREAD_OF_WARNINGS` of the values of one metric are
  beyond the warning limit: one weak pair among a hundred is normal, ten are not.
- PASS otherwise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from soct.quality.limits import Status

SPREAD_OF_ERRORS = 0.1
SPREAD_OF_WARNINGS = 0.1
_PLACES = 3


class Grade(StrEnum):
    """The verdict on a run."""

    PASS = "PASS"
    REVIEW = "REVIEW"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Check:
    """One judged value."""

    metric: str
    status: Status
    where: str = ""
    label: str = ""
    """The metric in words, for the reasons."""
    headline: bool = False
    """True for the run's own numbers, of which a single bad one decides."""


@dataclass(frozen=True)
class Verdict:
    """The grade, and every reason for it that is not PASS; the gravest first."""

    grade: Grade
    reasons: tuple[str, ...] = ()


def judge_run(state: str, checks: Iterable[Check], failed_units: int = 0) -> Verdict:
    """Return the verdict on a run.

    Parameters
    ----------
    state : str
        ``complete``, ``partial``, ``failed`` or ``running``.
    checks : iterable of Check
        Every judged value; those with status ``info`` do not count.
    failed_units : int
        Units that ended with an error.

    Returns
    -------
    Verdict
        Its reasons name the metric and where it is bad.
    """
    judged = [check for check in checks if check.status is not Status.INFO]
    failing: list[str] = []
    reviewing: list[str] = []
    if failed_units:
        failing.append(f"{failed_units} unit{'s' if failed_units > 1 else ''} failed")
    elif state == "failed":
        failing.append("the run failed")
    if state in ("partial", "running"):
        reviewing.append(
            "the run is not finished"
            if state == "partial"
            else "the run is still going on: this verdict is preliminary"
        )
    if not judged and state == "complete":
        reviewing.append("nothing was measured against a limit")
    for check in judged:
        if check.headline and check.status is Status.ERROR:
            failing.append(f"{check.label or check.metric} is beyond its error limit")
        elif check.headline and check.status is Status.WARNING:
            reviewing.append(f"{check.label or check.metric} is beyond its warning limit")
    _judge_spread([check for check in judged if not check.headline], failing, reviewing)
    if failing:
        return Verdict(Grade.FAIL, (*failing, *reviewing))
    return Verdict(Grade.REVIEW if reviewing else Grade.PASS, tuple(reviewing))


def _judge_spread(checks: list[Check], failing: list[str], reviewing: list[str]) -> None:
    by_metric: dict[str, list[Check]] = defaultdict(list)
    for check in checks:
        by_metric[check.metric].append(check)
    for metric, group in by_metric.items():
        errors = [check for check in group if check.status is Status.ERROR]
        warnings = [check for check in group if check.status is Status.WARNING]
        label = group[0].label or metric
        if len(errors) > max(1.0, SPREAD_OF_ERRORS * len(group)):
            failing.append(
                f"{label} is beyond its error limit in {len(errors)} of {len(group)}{_places(errors)}"
            )
        elif errors:
            places = ", ".join(check.where for check in errors[:3] if check.where)
            reviewing.append(
                f"{label} is beyond its error limit{f' in {places}' if places else ''}"
            )
        elif len(warnings) > max(1.0, SPREAD_OF_WARNINGS * len(group)):
            reviewing.append(
                f"{label} is beyond its warning limit in {len(warnings)} of {len(group)}{_places(warnings)}"
            )


def _places(bad: list[Check]) -> str:
    places = [check.where for check in bad if check.where]
    more = ", …" if len(places) > _PLACES else ""
    return f" ({', '.join(places[:_PLACES])}{more})" if places else ""
