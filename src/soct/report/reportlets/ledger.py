"""Section 1b: the slice ledger, as a heat-map and as a table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from soct.quality.limits import Limit
from soct.report.charts import svg
from soct.report.headline import SPECKLED
from soct.report.markup import (
    EMPTY,
    Cell,
    Row,
    details,
    figure,
    join,
    note,
    number,
    pill,
    table,
    words,
)  # fmt: skip
from soct.report.model import LedgerRow, RunView, UnitView
from soct.report.reportlet import Page, Reportlet

_MAX_ROWS = 18
_ROBUST_SIGMA = 1.4826
_OUTLIER = 6.0
"""Robust standard deviations from which on a metric without a limit is marked in full."""

# Even steps of lightness of one hue: more conspicuous is darker, also in grey.
_SHADES = ("#eef3f7", "#fbe6c4", "#f2b568", "#d97b2b", "#a33d05")
_SHADE_EDGES = (0.4, 0.5 + 1e-9, 0.75, 1.0)
"""Conspicuity from which on the next shade is used: near, beyond and far beyond the warning limit, error."""


def render(page: Page) -> Markup:
    """Draw the heat-map of slices by metrics, then the table of decisions."""
    view = page.view
    if not view.ledger:
        return note("No slices are known yet.")
    return join(
        [
            page.guarded("Slice heat-map", lambda: _heat_map(view)),
            _table(view),
        ]
    )


def slice_metrics(view: RunView) -> dict[str, dict[int, tuple[float, UnitView]]]:
    """Return ``metric -> slice id -> (value, unit)``; of a pair of neighbours the moving slice counts."""
    found: dict[str, dict[int, tuple[float, UnitView]]] = defaultdict(dict)
    order = {row.slice_id: i for i, row in enumerate(r for r in view.ledger if not r.missing)}
    for unit in view.units():
        if not unit.slices or not unit.finished:
            continue
        if len(unit.slices) == 2:
            fixed, moving = (order.get(s, -9) for s in unit.slices)
            if moving - fixed != 1:
                continue
        for metric in unit.metrics:
            value = unit.number(metric.name)
            if value is not None:
                found[metric.name][unit.slices[-1]] = (value, unit)
    return found


def conspicuity(view: RunView, name: str, values: Mapping[int, float]) -> dict[int, float]:
    """Return how much each value stands out: 0 not at all, 0.5 at the warning limit, 1 at the error limit.

    A metric without a limit can't be bad: it stands out by its distance from the median in robust standard
    deviations, up to 0.5.
    """
    limit = view.limits.limit(name)
    if limit is not None:
        return {s: _against(limit, v) for s, v in values.items()}
    numbers = np.array([v for v in values.values() if np.isfinite(v)])
    if numbers.size < 3:
        return dict.fromkeys(values, 0.0)
    middle = float(np.median(numbers))
    spread = _ROBUST_SIGMA * float(np.median(np.abs(numbers - middle)))
    spread = max(spread, 1e-3 * abs(middle), 1e-12)
    return {
        s: 0.5 * min(1.0, max(0.0, (abs(v - middle) / spread - 2.0) / (_OUTLIER - 2.0)))
        if np.isfinite(v)
        else 0.5
        for s, v in values.items()
    }


def _against(limit: Limit, value: float) -> float:
    severity = limit.severity(value)
    if severity < 0 and not limit.higher_is_better and limit.warning > 0:
        # Where the error limit lies far off, nothing at all would count as near the warning limit.
        return 0.5 * abs(value) / limit.warning
    return min(1.0, max(0.0, 0.5 + 0.5 * severity))


def _heat_map(view: RunView) -> Markup:
    metrics = slice_metrics(view)
    names = _chosen(view, metrics)
    if not names:
        return note("No metric per slice has been saved yet.")
    ids = [row.slice_id for row in view.ledger]
    width = float(np.clip(760 / len(ids), 1.6, 34))
    left, height, top = 168.0, 17.0, 20.0
    parts: list[Markup] = []
    for j, name in enumerate(names):
        label = words(name)
        y = top + j * height
        parts.append(
            Markup('<text class="ty" x="{:.0f}" y="{:.1f}">{}</text>').format(
                left - 6, y + 8, label
            )
        )
        values = {s: v for s, (v, _) in metrics[name].items()}
        shown = conspicuity(view, name, values)
        for i, slice_id in enumerate(ids):
            if slice_id in values:
                unit = metrics[name][slice_id][1]
                text = unit.metric(name)
                said = number(values[slice_id], text.unit if text else "")
                parts.append(
                    _cell(left + i * width, y, width, height, shown[slice_id], slice_id, f"{label}: {said}")
                )  # fmt: skip
    parts.append(_column_labels(ids, left, width, top))
    parts.append(_row_marks(view.ledger, left, width, top + len(names) * height))
    total_width = left + len(ids) * width + 8
    total_height = top + len(names) * height + 14
    title = f"Heat-map of {len(ids)} slices by {len(names)} metrics; darker cells stand out more"
    drawing = svg(max(total_width, 420), total_height, title, join(parts))
    legend = Markup('<p class="legend">{}<span>well within limits · near · beyond the warning limit · far beyond · error. A metric without a limit is at most “near”: it differs from the other slices. No cell: not measured. ✕: slice not used.</span></p>').format(
        join(Markup('<span class="swatch" style="background:{}"></span>').format(c) for c in _SHADES)
    )  # fmt: skip
    return figure(drawing + legend, "Each column is a slice, each row a metric. Click a cell to see the slice’s decisions.")  # fmt: skip


def _chosen(view: RunView, metrics: Mapping[str, Mapping[int, object]]) -> list[str]:
    """Metrics with a limit first, then those that vary; at most `_MAX_ROWS`."""
    limited = [
        name
        for name in metrics
        if view.limits.limit(name) is not None and SPECKLED.get(name) not in metrics
    ]
    rest = [
        name
        for name, by_slice in metrics.items()
        if view.limits.limit(name) is None and len({v[0] for v in by_slice.values()}) > 2  # type: ignore[index]
    ]
    return [*limited, *rest][:_MAX_ROWS]


def _cell(
    x: float, y: float, width: float, height: float, shown: float, slice_id: int, text: str
) -> Markup:
    shade = _SHADES[sum(shown >= edge for edge in _SHADE_EDGES)]
    gap = 1.0 if width > 5 else 0.0
    return Markup(
        '<a href="#slice-{}" tabindex="-1"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"><title>slice {}, {}</title></rect></a>'
    ).format(slice_id, x, y, max(width - gap, 1.2), height - 1, shade, slice_id, text)


def _column_labels(ids: Sequence[int], left: float, width: float, top: float) -> Markup:
    every = max(1, int(np.ceil(26 / width)))
    return join(
        Markup('<text class="tx" x="{:.1f}" y="{:.1f}">{}</text>').format(
            left + (i + 0.5) * width, top - 6, s
        )
        for i, s in enumerate(ids)
        if i % every == 0
    )


def _row_marks(rows: Sequence[LedgerRow], left: float, width: float, y: float) -> Markup:
    return join(
        Markup('<text class="tx error" x="{:.1f}" y="{:.1f}">✕</text>').format(
            left + (i + 0.5) * width, y + 10
        )
        for i, row in enumerate(rows)
        if not row.used or row.missing
    )


def _table(view: RunView) -> Markup:
    decisions = _decisions(view)
    tiles = {s.slice_id: s for s in view.acquisition.slices}
    metrics = slice_metrics(view)
    shown = [m for m in ("tile_residual_p95_um", "ncc", "confidence") if m in metrics]
    units = {m: next(iter(metrics[m].values()))[1].metric(m) for m in shown}
    rows = []
    for row in view.ledger:
        seen = tiles.get(row.slice_id)
        count = f"{len(seen.found)}/{seen.expected}" if seen else "–"
        cells: list[Cell | Markup | str] = [
            Cell(str(row.slice_id), sort=row.slice_id),
            _state(row),
            Cell(count, sort=float(len(seen.found)) if seen else 0.0),
        ]
        cells += [_metric_cell(metrics[name].get(row.slice_id), name) for name in shown]
        reasons = [row.reason] if row.reason else []
        reasons += list(decisions.get(row.slice_id, []))
        cells.append(Markup("<br>").join(reasons) if reasons else EMPTY)
        rows.append(Row(cells, id=f"slice-{row.slice_id}"))
    headers = ["Slice", "Used", "Tiles"]
    for name in shown:
        metric = units[name]
        label = words(name)
        headers.append(f"{label} (µm)" if metric and metric.unit == "um" else label)
    headers.append("Why, and what was decided")
    drawn = table(
        headers, rows, caption="Every slice, every decision. NCC and confidence: against the slice before.",
        numeric=[0, 2, *range(3, 3 + len(shown))],
    )  # fmt: skip
    if len(rows) <= 40:
        return drawn
    notable = [r for r in view.ledger if not r.used or r.missing or r.interpolated]
    summary = f"All {len(rows)} slices ({len(notable)} not stacked from their own image)"
    return details(summary, drawn, opened=True)


def _decisions(view: RunView) -> dict[int, list[str]]:
    """Return what was decided about every slice; what one step decided for one reason is one line."""
    found: dict[int, dict[tuple[str, str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for unit in view.units():
        for d in unit.decisions:
            found[d.slice_id][unit.step, d.reason].append(f"{d.column} = {number(d.value)}")
    return {
        slice_id: [
            f"{', '.join(values)} ({step}: {reason})"
            for (step, reason), values in by_reason.items()
        ]
        for slice_id, by_reason in found.items()
    }


def _metric_cell(found: tuple[float, UnitView] | None, name: str) -> Cell:
    if found is None:
        return Cell("–", sort=float("-inf"))
    value, unit = found
    metric = unit.metric(name)
    status = metric.status if metric else "info"
    css = status if status in ("warning", "error") else ""
    return Cell(number(value), sort=value, css=css)


def _state(row: LedgerRow) -> Markup:
    if row.interpolated:
        return pill("warning", "missing, interpolated" if row.missing else "interpolated")
    if row.missing:
        return pill("error", "missing")
    if not row.used:
        return pill("warning", f"no{f' ({row.decided_by})' if row.decided_by else ''}")
    return pill("ok", "yes")


REPORTLET = Reportlet(
    id="ledger",
    order=30,
    title="Slice ledger",
    question="Which slices stand out, which are not used, and who decided that?",
    render=render,
    good="an even, pale map; dark cells that stand alone.",
    bad="a dark column is one bad slice (look at its row below); a dark row is a setting that does not fit "
    "the whole brain.",
    inputs=("generate_slice_config", "register_pairwise", "stitch_3d_with_refinement"),
)
