"""Section 12: where the time and the memory went."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.charts import svg, ticks
from soct.report.markup import (
    EMPTY,
    Cell,
    Row,
    count,
    duration,
    facts,
    figure,
    join,
    note,
    number,
    size,
    table,
    )  # fmt: skip
from soct.report.model import RunView, StepView, UnitView
from soct.report.reportlet import Page, Reportlet

_WIDTH, _LEFT, _ROW = 860.0, 190.0, 20.0
_MAX_BARS_PER_STEP = 400
_FAR = 6.0
"""A memory budget this many times the largest unit is told in words."""
_FILL = {"done": "#0072b2", "reused": "#b8c7d4", "failed": "#d55e00", "running": "#e69f00"}


def render(page: Page) -> Markup:
    """Draw totals, the Gantt chart, and the table of steps."""
    view = page.view
    if not any(u.seconds is not None for u in view.units()):
        return note("No unit has finished yet.")
    return join(
        [
            _totals(view),
            page.guarded("Gantt chart", lambda: _gantt(view)),
            page.guarded("Peak memory", lambda: _memory(view)),
            page.guarded("Time per step", lambda: _table(view)),
        ]
    )


def _totals(view: RunView) -> Markup:
    pairs: list[tuple[str, Markup | str]] = []
    if view.wall_seconds is not None:
        pairs.append(("Time", duration(view.wall_seconds)))
        if view.acquisition.raw_bytes and view.wall_seconds > 0 and view.state == "complete":
            rate = view.acquisition.raw_bytes / 1e6 / view.wall_seconds
            pairs.append(("Raw data per second", number(rate, "MB/s")))
    if view.cpus is not None:
        pairs.append(("CPUs", str(view.cpus)))
    if view.peak_memory_bytes is not None:
        budget = view.memory_budget_bytes
        text = size(view.peak_memory_bytes) + (f" of {size(budget)}" if budget else "")
        pairs.append(("Peak memory", text))
    backends = sorted({u.backend for u in view.units() if u.backend})
    if backends:
        pairs.append(("Computed on", ", ".join(backends)))
    falls = sum(len(u.fallbacks) for u in view.units())
    pairs.append(("Ran otherwise than asked", count(falls, "time") if falls else "never"))
    return facts(pairs)


def _gantt(view: RunView) -> Markup:
    steps = [s for s in view.steps if any(u.started_s is not None for u in s.units)]
    if not steps:
        return EMPTY
    end = max(
        (u.started_s or 0.0) + (u.seconds or 0.0)
        for s in steps for u in s.units if u.started_s is not None
    ) or 1.0  # fmt: skip
    minutes = end > 180
    scale = (_WIDTH - _LEFT - 12) / end
    parts = []
    for value in ticks(0, end / (60 if minutes else 1), 8):
        x = _LEFT + value * (60 if minutes else 1) * scale
        parts.append(
            Markup(
                '<line class="grid" x1="{0:.1f}" x2="{0:.1f}" y1="4" y2="{1:.1f}"/>'
                '<text class="tx" x="{0:.1f}" y="{2:.1f}">{3}</text>'
            ).format(x, len(steps) * _ROW + 6, len(steps) * _ROW + 20, number(value))
        )
    for i, step in enumerate(steps):
        y = 6 + i * _ROW
        parts.append(
            Markup('<text class="ty" x="{:.0f}" y="{:.1f}">{}</text>').format(_LEFT - 8, y + 8, step.id)
        )  # fmt: skip
        parts += [_bar(u, y, scale) for u in _drawn(step)]
    parts.append(
        Markup('<text class="tx name" x="{:.1f}" y="{:.1f}">{}</text>').format(
            (_LEFT + _WIDTH) / 2, len(steps) * _ROW + 36, "minutes" if minutes else "seconds"
        )
    )
    title = f"Gantt chart of {len(steps)} steps over {duration(end)}"
    drawing = svg(_WIDTH, len(steps) * _ROW + 42, title, join(parts))
    legend = Markup('<p class="legend" style="margin-left:0">{}</p>').format(
        join(
            Markup('<span class="swatch" style="background:{}"></span>{}').format(colour, word)
            for word, colour in zip(
                ("computed", "reused", "failed", "running"), _FILL.values(), strict=True
            )
        )
    )
    return figure(drawing + legend, "When each unit ran, over all invocations.")


def _drawn(step: StepView) -> list[UnitView]:
    """Units with a start; of very many, the longest (a bar below a pixel says nothing)."""
    units = [u for u in step.units if u.started_s is not None]
    if len(units) <= _MAX_BARS_PER_STEP:
        return units
    longest = sorted(units, key=lambda u: -(u.seconds or 0.0))[:_MAX_BARS_PER_STEP]
    return sorted(longest, key=lambda u: (u.started_s or 0.0, u.slices))


def _bar(unit: UnitView, y: float, scale: float) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="13" fill="{}" fill-opacity=".85"><title>{}: {}, {}</title></rect>'
    ).format(
        _LEFT + (unit.started_s or 0.0) * scale,
        y + 1,
        max(1.0, (unit.seconds or 0.0) * scale),
        _FILL.get(unit.state, "#8a8f98"),
        unit.name,
        unit.state,
        duration(unit.seconds),
    )


def _memory(view: RunView) -> Markup:
    """Draw each step's largest unit against the budget of the run."""
    peaks = [
        (step.id, max((u.peak_memory_bytes or 0 for u in step.units), default=0))
        for step in view.steps
    ]
    peaks = [(step, peak) for step, peak in peaks if peak]
    if not peaks:
        return note("Peak memory was not recorded.")
    budget = view.memory_budget_bytes or 0
    highest = max(peak for _, peak in peaks)
    near = 0 < budget <= _FAR * highest
    # A budget far beyond all bars would make them too short to compare.
    largest = max(budget, highest) if near else highest
    scale = (_WIDTH - _LEFT - 90) / largest
    parts = []
    for i, (step, peak) in enumerate(peaks):
        y = 6 + i * _ROW
        fill = _FILL["failed"] if budget and peak > budget else _FILL["done"]
        parts.append(
            Markup(
                '<text class="ty" x="{:.0f}" y="{:.1f}">{}</text>'
                '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="13" fill="{}" fill-opacity=".85"/>'
                '<text x="{:.1f}" y="{:.1f}">{}</text>'
            ).format(
                _LEFT - 8, y + 8, step, _LEFT, y + 1, max(1.0, peak * scale), fill,
                _LEFT + peak * scale + 6, y + 12, size(peak),
            )
        )  # fmt: skip
    height = len(peaks) * _ROW + 26
    if near:
        x = _LEFT + budget * scale
        parts.append(
            Markup(
                '<line class="limit" x1="{0:.1f}" x2="{0:.1f}" y1="2" y2="{1:.1f}"/>'
                '<text class="te limit" x="{0:.1f}" y="{2:.1f}">budget {3}</text>'
            ).format(x, height - 18, height - 5, size(budget))
        )
    title = "Peak memory of the largest unit of every step, against the budget"
    text = "Peak memory of the largest unit of every step"
    if near:
        text += "; dashed: what all units together may take."
    elif budget:
        text += f"; the budget of {size(budget)} lies far to the right."
    else:
        text += "; no budget was recorded."
    return figure(svg(_WIDTH, height, title, join(parts)), text)


def _table(view: RunView) -> Markup:
    rows = []
    for step in view.steps:
        timed = [u for u in step.units if u.seconds is not None]
        if not step.units:
            continue
        total = sum(u.seconds or 0.0 for u in timed)
        peak = max((u.peak_memory_bytes or 0 for u in timed), default=0)
        bytes_read = sum(u.bytes_read or 0 for u in timed)
        longest = max(timed, key=lambda u: (u.seconds or 0.0, u.slices), default=None)
        states: dict[str, int] = {}
        for unit in step.units:
            states[unit.state] = states.get(unit.state, 0) + 1
        rate = bytes_read / 1e6 / total if bytes_read and total > 0 else None
        rows.append(
            Row(
                [
                    step.id,
                    ", ".join(f"{n}\u00a0{state}" for state, n in sorted(states.items())),
                    Cell(duration(total) if timed else "–", sort=total),
                    f"{longest.name}: {duration(longest.seconds)}" if longest else "–",
                    Cell(number(rate) if rate else "–", sort=rate or 0.0),
                    Cell(size(peak) if peak else "–", sort=float(peak)),
                    "; ".join(sorted({t for u in step.units for t in u.fallbacks}))[:300],
                ]
            )
        )
    return table(
        ("Step", "Units", "Time (sum)", "Longest", "MB/s of raw", "Peak memory", "Ran otherwise, and why"),
        rows,
        caption="Time summed over units, so parallel units count each",
        numeric=(2, 4, 5),
    )  # fmt: skip


REPORTLET = Reportlet(
    id="performance",
    order=110,
    title="Performance",
    question="Where did the time and the memory go?",
    render=render,
    inputs=(),
)
