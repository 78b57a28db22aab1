"""The headline numbers of a run: picked from the saved metrics, never computed from images here.

Where a metric is saved per slice or per pair, the worst one is the headline and its place is named; that is
the number by which a person decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from soct.quality.limits import QualityLimits, Status, metric_status
from soct.quality.verdict import Check, Verdict, judge_run
from soct.report.markup import number, words
from soct.report.model import RunView, UnitView


@dataclass(frozen=True)
class Headline:
    """One headline number, judged."""

    id: str
    """Name of the limit."""
    label: str
    value: float | None
    """None when no step saved it (yet)."""
    text: str
    status: Status
    limit: str
    detail: str = ""
    anchor: str = ""
    """The section that explains it."""
    scale: float = 1.0
    """Times `value` is what is written, in `unit`."""
    unit: str = ""


@dataclass(frozen=True)
class _Source:
    metric: str
    label: str
    steps: tuple[str, ...]
    anchor: str
    scale: float = 1.0
    unit: str = ""


_SOURCES = (
    _Source(
        "tile_residual_p95_um", "Tile residual, p95", ("stitch_3d_with_refinement",), "stitching"
    ),
    _Source(
        "seam_step_percent",
        "Seam step",
        ("stitch_3d_with_refinement", "fix_illumination"),
        "stitching",
    ),
    _Source("seam_l1", "Seam difference", ("stitch_3d_with_refinement",), "stitching", 100.0, "%"),
    _Source("slice_shift_p95_um", "Slice shift, p95", ("estimate_slice_poses",), "alignment"),
    _Source("slice_residual_p95_um", "Slice residual, p95", ("estimate_slice_poses",), "alignment"),
    _Source("cumulative_drift_um", "Cumulative drift", ("estimate_slice_poses",), "alignment"),
    _Source(
        "cumulative_rotation_deg", "Cumulative rotation", ("estimate_slice_poses",), "alignment"
    ),
    _Source("banding_index", "Banding index", ("stack", "normalize"), "between-slices"),
    _Source("filled", "Filled, no gaps", ("stack",), "volume", 100.0, "%"),
)


def headline_numbers(view: RunView) -> tuple[Headline, ...]:
    """Return the headline numbers in the order in which they are shown."""
    counted = (_slices_used(view), _tiles_used(view))
    measured = {source.metric: _from_metrics(view, source) for source in _SOURCES}
    # Two measures of one thing: the step free of speckle where a step saved it, else the mean difference.
    redundant = "seam_step_percent" if measured["seam_l1"].value is not None else "seam_l1"
    if measured["seam_step_percent"].value is not None:
        redundant = "seam_l1"
    return (*counted, *(h for name, h in measured.items() if name != redundant))


SPECKLED = {"seam_l1": "seam_step_percent"}
"""Metrics that speckle fills, and those that measure the same thing free of it."""


def is_superseded(unit: UnitView, metric: str) -> bool:
    """Whether a unit saved a better measure of the same thing, which is judged in its place."""
    return metric in SPECKLED and unit.number(SPECKLED[metric]) is not None


def judge(view: RunView, headlines: tuple[Headline, ...]) -> Verdict:
    """Return the verdict on a run from its headline numbers and all its metrics."""
    run_scope = {h.id for h in headlines}
    checks = [
        Check(h.id, h.status, label=f"{h.label} ({h.text})", headline=True) for h in headlines
    ]
    checks += [
        Check(m.name, Status(m.status), where=place(unit), label=words(m.name))
        for unit in view.units()
        if unit.finished
        for m in unit.metrics
        if not (m.name in run_scope and not unit.slices) and not is_superseded(unit, m.name)
    ]
    failed = sum(unit.state == "failed" for unit in view.units())
    return judge_run(view.state, checks, failed)


def place(unit: UnitView) -> str:
    """Say where a unit is: ``slice 3``, ``slices 3→4`` or ``whole run``."""
    return place_of(unit.slices)


def place_of(slices: tuple[int, ...]) -> str:
    """Say where a unit of these slices is, as `place` does."""
    if not slices:
        return "whole run"
    if len(slices) == 1:
        return f"slice {slices[0]}"
    return "slices " + "→".join(str(s) for s in slices)


def _from_metrics(view: RunView, source: _Source) -> Headline:
    limit = view.limits.limit(source.metric)
    found = next((v for s in source.steps if (v := view.numbers(s, source.metric))), [])
    unit = source.unit or QualityLimits.unit(source.metric)
    limit_text = "" if limit is None else _limit_text(limit, source, unit)
    if not found:
        return Headline(
            source.metric, source.label, None, "not measured", Status.INFO, limit_text,
            _why_not(view, source), source.anchor, source.scale, unit,
        )  # fmt: skip
    worst = _worst(limit.higher_is_better if limit is not None else False)
    where, value = worst(found)
    detail = f"worst of {len(found)}: {place(where)}" if len(found) > 1 else ""
    if source.metric == "banding_index" and value == 0.0:
        detail = "no step at slices beyond what anatomy does elsewhere"
    status = metric_status(source.metric, value, view.limits)
    text = number(source.scale * value, unit)
    return Headline(
        source.metric, source.label, value, text, status, limit_text, detail, source.anchor,
        source.scale, unit,
    )  # fmt: skip


def _why_not(view: RunView, source: _Source) -> str:
    """Say why a headline number is not there: its step has not run, or found nothing to measure."""
    ran = [u for s in source.steps for u in view.units(s) if u.finished]
    if not ran:
        return f"{source.steps[0]} has not run" if view.step(source.steps[0]) else ""
    if source.metric == "banding_index":
        return "too few slices or planes to tell"
    return "this run did not save it"


def _worst(
    higher_is_better: bool,
) -> Callable[[list[tuple[UnitView, float]]], tuple[UnitView, float]]:
    def rank(pair: tuple[UnitView, float]) -> float:
        value = pair[1]
        if value != value:
            return float("inf")
        return -value if higher_is_better else abs(value)

    return lambda pairs: max(pairs, key=rank)


def _limit_text(limit: object, source: _Source, unit: str) -> str:
    warning = getattr(limit, "warning", 0.0) * source.scale
    sign = "≥" if getattr(limit, "higher_is_better", False) else "≤"
    return f"{sign} {number(warning, unit)}"


def _slices_used(view: RunView) -> Headline:
    acquired = [row for row in view.ledger if not row.missing]
    missing = len(view.ledger) - len(acquired)
    if not acquired:
        return Headline(
            "slices_used", "Slices used", None, "–", Status.INFO, "", "no slices", "ledger"
        )
    used = sum(row.used for row in acquired)
    details = [f"{missing} never acquired"] if missing else []
    interpolated = sum(row.interpolated for row in view.ledger)
    if interpolated:
        details.append(f"{interpolated} interpolated")
    share = used / len(acquired)
    return Headline(
        "slices_used",
        "Slices used",
        share,
        f"{used} of {len(acquired)}",
        metric_status("slices_used", share, view.limits),
        f"≥ {number(100 * view.limits.slices_used.warning, '%')}",
        ", ".join(details),
        "ledger",
        100.0,
        "%",
    )


def _tiles_used(view: RunView) -> Headline:
    slices = view.acquisition.slices
    expected = sum(s.expected for s in slices)
    if not expected:
        return Headline(
            "tiles_used", "Tiles used", None, "–", Status.INFO, "", "no tiles", "acquisition"
        )
    found = sum(len(s.found) for s in slices)
    share = found / expected
    return Headline(
        "tiles_used",
        "Tiles used",
        share,
        f"{number(found)} of {number(expected)}",
        metric_status("tiles_used", share, view.limits),
        f"≥ {number(100 * view.limits.tiles_used.warning, '%')}",
        f"{expected - found} missing or unreadable" if expected > found else "",
        "acquisition",
        100.0,
        "%",
    )
