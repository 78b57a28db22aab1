"""The strip plot of a cohort: one row per headline number, one mark per run, worse to the right.

All rows share one axis, the robust z, drawn as its inverse hyperbolic sine: even around the median, and a run
that is far out stays on the page. Shapes and labels repeat what colours say.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from soct.quality.limits import QualityLimits
from soct.report.charts import svg
from soct.report.cohort import Cohort, Placed
from soct.report.cohort.places import Place, Spread
from soct.report.markup import EMPTY, join, number, words

_LEFT, _RIGHT, _TOP, _ROW, _FOOT = 190.0, 96.0, 24.0, 34.0, 40.0
_WIDTH = 940.0
_NARROWEST = 6.0
"""The axis reaches at least so many deviations to both sides."""
_TICKS = (-300, -100, -30, -10, -3, -1, 0, 1, 3, 10, 30, 100, 300, 999)
_LABEL = 26
_LANES = (0.0, -6.0, 6.0, -11.0, 11.0)
"""Runs that would lie on each other are moved up and down."""


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def x(self, z: float) -> float:
        low, high = math.asinh(self.low), math.asinh(self.high)
        return _LEFT + (math.asinh(z) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    def holds(self, z: float) -> bool:
        return self.low <= z <= self.high


def draw_strips(cohort: Cohort) -> Markup:
    """Return the strip plot; the run whose report it is part of is ringed in every row."""
    spreads = [s for s in cohort.spreads if s.threshold is not None]
    found = [(run, place) for run in cohort.runs for place in run.places]
    if not spreads or not found:
        return EMPTY
    zs = [place.z for _, place in found]
    axis = _Axis(min(-_NARROWEST, min(zs) * 1.1), max(_NARROWEST, max(zs) * 1.1))
    parts = [_row(cohort, axis, spread, i) for i, spread in enumerate(spreads)]
    height = _TOP + _ROW * len(spreads) + _FOOT
    title = (
        f"Strip plot of {len(cohort.runs)} runs by {len(spreads)} headline numbers, in robust standard "
        "deviations from the median; worse is to the right. The table below holds the same numbers."
    )
    return svg(_WIDTH, height, title, join([_frame(axis, height), *parts]))


def _frame(axis: _Axis, height: float) -> Markup:
    bottom = height - _FOOT
    parts = [
        Markup('<text class="name" x="{}" y="14" text-anchor="end">median</text>').format(
            f"{_WIDTH - 2:.0f}"
        )
    ]
    for tick in _TICKS:
        if axis.holds(tick):
            css = "axis" if tick == 0 else "grid"
            parts.append(
                Markup(
                    '<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="{:.0f}" y2="{:.0f}"/>'
                    '<text class="tx" x="{:.1f}" y="{:.0f}">{}</text>'
                ).format(css, axis.x(tick), axis.x(tick), _TOP, bottom, axis.x(tick), bottom + 14, number(tick))
            )  # fmt: skip
    parts.append(
        Markup('<text class="tx name" x="{:.1f}" y="{:.0f}">{}</text>').format(
            (_LEFT + _WIDTH - _RIGHT) / 2,
            bottom + 31,
            "← better · robust standard deviations from the median · worse →",
        )
    )
    return join(parts)


def _row(cohort: Cohort, axis: _Axis, spread: Spread, index: int) -> Markup:
    y = _TOP + _ROW * (index + 0.5)
    assert spread.threshold is not None
    left = axis.x(max(axis.low, -spread.threshold))
    right = axis.x(min(axis.high, spread.threshold))
    median = "–" if spread.median is None else number(spread.scale * spread.median, spread.unit)
    head = Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="#eef1f5"/>'
        '<text class="ty name" x="{:.0f}" y="{:.1f}">{}</text>'
        '<text class="te" x="{:.0f}" y="{:.1f}">{}</text>'
    ).format(
        left, y - _ROW / 2 + 3, max(right - left, 0.0), _ROW - 6, _LEFT - 12, y, spread.label,
        _WIDTH - 2, y + 4, median,
    )  # fmt: skip
    shown = [(run, p) for run in cohort.runs if (p := run.place(spread.name)) is not None]
    return join([head, *_limits(axis, spread, y), *_marks(cohort, axis, shown, y)])


def _limits(axis: _Axis, spread: Spread, y: float) -> Iterator[Markup]:
    limit = QualityLimits().limit(spread.name)
    if limit is None:
        return
    for name, value in (("warning", limit.warning), ("error", limit.error)):
        z = spread.z(value)
        if axis.holds(z):
            told = number(spread.scale * value, spread.unit)
            yield Markup(
                '<line class="limit {0}" x1="{1:.1f}" x2="{1:.1f}" y1="{2:.1f}" y2="{3:.1f}">'
                "<title>{4}: {0} limit {5}</title></line>"
            ).format(name, axis.x(z), y - 13, y + 13, words(spread.name), told)


def _marks(
    cohort: Cohort, axis: _Axis, shown: Sequence[tuple[Placed, Place]], y: float
) -> Iterator[Markup]:
    taken: dict[int, int] = defaultdict(int)
    # Those that stand out and the run itself come last, so that they lie on top.
    order = sorted(
        shown, key=lambda s: (s[0].member.path == cohort.own, s[1].is_outlier, s[0].member.path)
    )
    for run, place in order:
        x = axis.x(place.z)
        cell = round(x / 9)
        own = run.member.path == cohort.own
        lane = 0.0 if own or place.is_outlier else _LANES[taken[cell] % len(_LANES)]
        taken[cell] += 1
        yield _mark(run, place, x, y + lane, own=own)


def _mark(run: Placed, place: Place, x: float, y: float, *, own: bool) -> Markup:
    told = f"{run.member.subject} ({run.member.path}): {place.label} {place.text}, z {number(round(place.z, 1))}"
    if place.is_outlier:
        shape = Markup(
            '<path class="dot c1" d="M{:.1f} {:.1f}l6 6l-6 6l-6 -6z"><title>{}</title></path>'
        ).format(x, y - 6, told)
    else:
        faint = "" if run.member.state == "complete" else ' fill-opacity="0.45"'
        shape = Markup(
            '<circle class="dot c0" cx="{:.1f}" cy="{:.1f}" r="4"{}><title>{}</title></circle>'
        ).format(x, y, Markup(faint), told)
    ring = EMPTY
    if own:
        ring = Markup(
            '<circle cx="{:.1f}" cy="{:.1f}" r="8.5" fill="none" stroke="#1d2530" stroke-width="2"/>'
        ).format(x, y)
    label = EMPTY
    if place.is_outlier:
        # Left of the mark, towards the others, where the plot has room in every case.
        at, anchor = (x - 13, "end") if x > _WIDTH / 2 else (x + 13, "start")
        name = run.member.subject
        short = name if len(name) <= _LABEL else name[: _LABEL - 1] + "…"
        label = Markup(
            '<text class="name" x="{:.1f}" y="{:.1f}" text-anchor="{}" style="paint-order:stroke;stroke:#fff;'
            'stroke-width:3px">{}</text>'
        ).format(at, y + 4, anchor, short)
    return join([shape, ring, label])
