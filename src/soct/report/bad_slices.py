"""The slices that a person has to look at: not stacked from their own image, or beyond a limit."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal, TypeAlias

from soct.report.headline import is_superseded
from soct.report.model import LedgerRow, MetricView, RunView, UnitView

SliceState: TypeAlias = Literal["used", "not used", "missing", "interpolated"]


@dataclass(frozen=True)
class Finding:
    """A metric of a slice, or of the pair that it forms with the slice before, beyond its limit."""

    unit: UnitView
    metric: MetricView


@dataclass(frozen=True)
class BadSlice:
    """A row of the ledger that is not as it should be."""

    row: LedgerRow
    state: SliceState
    findings: tuple[Finding, ...] = ()
    """Errors first."""


def bad_slices(view: RunView) -> tuple[BadSlice, ...]:
    """Return the slices of the ledger that are not used, made up, or beyond a limit, in their order."""
    findings = _findings(view)
    judged = (
        BadSlice(row, _state(row), tuple(findings.get(row.slice_id, ()))) for row in view.ledger
    )
    return tuple(bad for bad in judged if bad.state != "used" or bad.findings)


def _state(row: LedgerRow) -> SliceState:
    if row.interpolated:
        return "interpolated"
    if row.missing:
        return "missing"
    return "used" if row.used else "not used"


def _findings(view: RunView) -> dict[int, list[Finding]]:
    found: dict[int, list[Finding]] = defaultdict(list)
    for unit in view.units():
        for metric in unit.metrics if unit.slices and unit.finished else ():
            if metric.status in ("warning", "error") and not is_superseded(unit, metric.name):
                found[unit.slices[-1]].append(Finding(unit, metric))
    for listed in found.values():
        listed.sort(key=lambda f: f.metric.status != "error")
    return found
