"""A comparison as the rows of ``comparison.tsv``, as JSON and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from soct.report.comparison import Comparison
from soct.report.comparison.metrics import Change

HEADER = ("kind", "name", "where", "this", "other", "difference", "this_run_is", "note")
_SLICES_NAMED = 12


def comparison_rows(found: Comparison) -> Iterator[Sequence[object]]:
    """Yield one row per difference: kind, name, place, both values, their difference, judgement, note."""
    yield "input", "same_input", "", found.input.relation, "", "", "", found.input.text
    yield "volume", "pixel_identical", "", found.volume.answer, "", "", "", found.volume.text
    for kind, differences in (("parameter", found.parameters), ("step", found.steps)):
        for d in differences:
            origins = "; ".join(filter(None, (d.this_origin, d.other_origin)))
            yield kind, d.key, "", d.this, d.other, "", "", origins
    for h in found.headlines:
        yield _change("headline", h.known.id, "", h.change, "")
    for m in found.metrics:
        name = f"{m.step}.{m.name}"
        yield _change("metric_median", name, "", m.median, m.unit)
        yield _change("metric_worst", name, _places(m.worst), m.worst, m.unit)
        if m.largest.difference is not None:
            yield _change("metric_largest", name, m.largest.this_place, m.largest, m.unit)
    for t in found.texts:
        name = f"{t.step}.{t.name}"
        yield "metric_text", name, t.place, t.this, t.other, "", "", f"{t.differing} of {t.units} units"  # fmt: skip
    for s in found.slices.slices:
        yield from _slice(s.slice_id, s.shift_um, s.rotation_deg, s.decisions)
    for p in found.problems:
        yield "problem", p.problem.what, p.problem.where, p.who, p.elsewhere, "", "", p.problem.evidence  # fmt: skip
    for o in found.outputs:
        note = f"{o.same} same, {o.different} different, {o.unknown} cannot be told"
        yield "outputs", o.step, o.first, "", "", "", "", note


def _change(kind: str, name: str, where: str, change: Change, note: str) -> Sequence[object]:
    return kind, name, where, change.this, change.other, change.difference, change.judgement, note


def _places(change: Change) -> str:
    places = filter(None, dict.fromkeys((change.this_place, change.other_place)))
    return "; ".join(places)


def _slice(
    slice_id: int,
    shift: tuple[float, float, float] | None,
    rotation: float | None,
    decisions: Sequence[tuple[str, str, str]],
) -> Iterator[Sequence[object]]:
    where = f"slice {slice_id}"
    for name, value in zip(("moved_z_um", "moved_y_um", "moved_x_um"), shift or (), strict=False):
        yield "slice", name, where, "", "", value, "", ""
    if rotation is not None:
        yield "slice", "turned_deg", where, "", "", rotation, "", ""
    for what, this, other in decisions:
        yield "slice", what, where, this, other, "", "", ""


def comparison_summary(found: Comparison) -> dict[str, Any]:
    """Return what `comparison.tsv` says at a glance, JSON-able."""
    return {
        "same_input": found.input.relation,
        "pixel_identical": found.volume.answer,
        "first_output_that_differs": found.parted_at.step if found.parted_at else None,
        "headline": [
            {"metric": h.known.id, "this": h.change.this, "other": h.change.other,
             "difference": h.change.difference, "this_run_is": h.change.judgement}
            for h in found.headlines
        ],
        "parameters": len(found.parameters),
        "metrics": len(found.metrics),
        "slices": [s.slice_id for s in found.slices.slices],
        "problems": len(found.problems),
    }  # fmt: skip


def comparison_lines(found: Comparison, name: str) -> list[str]:
    """Return the comparison for a terminal."""
    lines = [
        "",
        f"Compared with {name}: {found.input.text}",
        f"  pixel-identical: {found.volume.answer}. {found.volume.text}",
    ]
    lines += [f"  {d.key}: {d.this} here, {d.other} there" for d in found.parameters]
    for h in found.headlines:
        if h.change.judgement != "same":
            here, there = (x.text if x else "–" for x in (h.this, h.other))
            lines.append(
                f"  {h.known.label:<22}{here:>16}  {there:>16}  {h.change.judgement}".rstrip()
            )
    worst = ", ".join(str(s.slice_id) for s in found.slices.slices[:_SLICES_NAMED])
    lines.append(f"  slices that differ most: {worst}" if worst else "  no slice differs")
    for p in found.problems:
        whose = {"this": "only here", "other": "only there", "both": "elsewhere"}[p.who]
        lines.append(f"  problem {whose}: {p.problem.what}: {p.problem.where}")
    return lines
