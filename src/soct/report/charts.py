"""Small inline SVG charts: lines, points, limits. Nothing here needs JavaScript, a font or a network.

Coordinates are written with one decimal, so the same numbers always give the same bytes. Colours come from
the page's CSS classes (``c0`` ... ``c5``, the Okabe-Ito palette), shapes and dashes repeat what colours say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import ArrayLike, NDArray

from soct.report.markup import EMPTY, join, number

WIDTH, HEIGHT = 640, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 10, 36
_HALO = "paint-order:stroke;stroke:#fff;stroke-width:3px"
"""Of text that may lie over points."""


@dataclass(frozen=True)
class Series:
    """One line or set of points."""

    label: str
    x: ArrayLike
    y: ArrayLike
    colour: int = 0
    style: Literal["line", "points", "both"] = "line"
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """A horizontal limit line with its name."""

    y: float
    label: str
    status: str = "warning"


@dataclass(frozen=True)
class Frame:
    """Maps data to the drawing."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = WIDTH
    height: int = HEIGHT

    def px(self, value: float) -> float:
        """Horizontal position of a value."""
        span = (self.x[1] - self.x[0]) or 1.0
        return _LEFT + (value - self.x[0]) / span * (self.width - _LEFT - _RIGHT)

    def py(self, value: float) -> float:
        """Vertical position of a value."""
        span = (self.y[1] - self.y[0]) or 1.0
        return self.height - _BOTTOM - (value - self.y[0]) / span * (self.height - _TOP - _BOTTOM)


def chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    limits: Sequence[Band] = (),
    width: int = WIDTH,
    height: int = HEIGHT,
    include_zero: bool = False,
    marks: Sequence[float] = (),
) -> Markup:
    """Return a chart with axes, legend and limit lines.

    Parameters
    ----------
    series : sequence of Series
        Points that are not finite are left out; a line is broken there.
    title : str
        The alternative text; it should say what is seen.
    limits : sequence of Band
        Drawn dashed where they lie within twice the data's range; others are named at the edge that they lie beyond.
    marks : sequence of float
        Vertical lines at these x.
    """
    data = [(s, _array(s.x), _array(s.y)) for s in series]
    frame = _frame(data, limits, width, height, include_zero)
    if frame is None:
        return Markup('<p class="none">{}: no values.</p>').format(title)
    whole = all(bool(np.all(x[np.isfinite(x)] % 1 == 0)) for _, x, _ in data)
    parts = [_axes(frame, x_label, y_label, whole=whole)]
    parts += [
        Markup('<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            _f(frame.px(at)), _TOP, frame.height - _BOTTOM
        )
        for at in marks
        if frame.x[0] <= at <= frame.x[1]
    ]
    parts += [_series(frame, s, x, y) for s, x, y in data]
    # Over the points: the words of a limit have to be read.
    parts += [
        _limit(frame, band) if frame.y[0] <= band.y <= frame.y[1] else _far_limit(frame, band)
        for band in limits
        if np.isfinite(band.y)
    ]
    return join([svg(width, height, title, join(parts)), _legend(series)])


def svg(width: float, height: float, title: str, body: Markup, *, css: str = "chart") -> Markup:
    """Return an inline SVG with an accessible name; one that holds links is a group, since an image is one thing."""
    role = "group" if "<a " in body else "img"
    return Markup(
        '<div class="drawing"><svg class="{}" role="{}" aria-label="{}" viewBox="0 0 {} {}" style="--width:{}px">{}</svg></div>'
    ).format(css, role, title, _f(width), _f(height), round(width), body)


def polyline(points: Sequence[tuple[float, float]], css: str) -> Markup:
    """Return a line through points given in drawing units."""
    text = " ".join(f"{_f(x)},{_f(y)}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(css, text)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round values that divide a range into about `count` parts, at least three where they can be."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    found = _round_values(low, high, count)
    return found if len(found) >= 3 or count >= 12 else ticks(low, high, count + 1)


def _round_values(low: float, high: float, count: int) -> list[float]:
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def round_length(maximum: float) -> float:
    """Return the largest 1, 2 or 5 times a power of ten that does not exceed `maximum`."""
    if maximum <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(maximum))
    return next(power * m for m in (5.0, 2.0, 1.0) if power * m <= maximum * (1 + 1e-9))


def _array(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64).ravel()


def _frame(
    data: Sequence[tuple[Series, NDArray[np.float64], NDArray[np.float64]]],
    limits: Sequence[Band],
    width: int,
    height: int,
    include_zero: bool,
) -> Frame | None:
    xs = [x[np.isfinite(x) & np.isfinite(y)] for _, x, y in data]
    ys = [y[np.isfinite(x) & np.isfinite(y)] for _, x, y in data]
    if not any(x.size for x in xs):
        return None
    x, y = np.concatenate(xs), np.concatenate(ys)
    low, high = float(y.min()), float(y.max())
    if include_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if high - low < 1e-6 * max(abs(low), abs(high)):
        low = high = 0.5 * (low + high)
    span = high - low
    reach = span if span > 0 else max(abs(high), 1e-9)
    near = [b.y for b in limits if low - reach <= b.y <= high + reach]
    low, high = min([low, *near]), max([high, *near])
    # Around nothing but zeros there is no scale of its own: one unit either way.
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    x_low, x_high = float(x.min()), float(x.max())
    x_pad = 0.02 * (x_high - x_low) or 0.5
    return Frame((x_low - x_pad, x_high + x_pad), (low - pad, high + pad), width, height)


def _axes(frame: Frame, x_label: str, y_label: str, *, whole: bool) -> Markup:
    left, bottom = _LEFT, frame.height - _BOTTOM
    parts = []
    for value in ticks(*frame.y, count=max(3, frame.height // 45)):
        y = _f(frame.py(value))
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="ty" x="{}" y="{}">{}</text>'
            ).format(left, frame.width - _RIGHT, y, y, left - 6, y, _tick(value))
        )
    for value in ticks(*frame.x, count=max(3, frame.width // 90)):
        if whole and value != round(value):
            continue
        parts.append(
            Markup('<text class="tx" x="{}" y="{}">{}</text>').format(
                _f(frame.px(value)), bottom + 14, _tick(value)
            )
        )
    parts.append(
        Markup(
            '<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>'
            '<text class="tx name" x="{3}" y="{4}">{5}</text>'
            '<text class="name mid" transform="translate(12 {6}) rotate(-90)">{7}</text>'
        ).format(
            left,
            frame.width - _RIGHT,
            bottom,
            _f((left + frame.width - _RIGHT) / 2),
            frame.height - 5,
            x_label,
            _f((_TOP + bottom) / 2),
            y_label,
        )
    )
    return join(parts)


def _far_limit(frame: Frame, band: Band) -> Markup:
    """Name a limit that lies outside of the chart, so that values that look wild are seen to be far within."""
    above = band.y > frame.y[1]
    y = _TOP - 1 if above else frame.height - _BOTTOM - 5
    text = f"{band.label} {number(float(band.y))} {'↑' if above else '↓'}"
    return Markup('<text class="te {}" x="{}" y="{}" style="{}">{}</text>').format(
        band.status, frame.width - _RIGHT, _f(y), _HALO, text
    )


def _limit(frame: Frame, band: Band) -> Markup:
    y = _f(frame.py(band.y))
    return Markup(
        '<line class="limit {0}" x1="{1}" x2="{2}" y1="{3}" y2="{3}"/>'
        '<text class="te {0}" x="{2}" y="{4}" style="{6}">{5}</text>'
    ).format(
        band.status, _LEFT, frame.width - _RIGHT, y, _f(frame.py(band.y) - 4), band.label, _HALO
    )


def _series(frame: Frame, series: Series, x: NDArray[np.float64], y: NDArray[np.float64]) -> Markup:
    points: list[tuple[float, float] | None] = [
        (frame.px(a), frame.py(b)) if math.isfinite(a) and math.isfinite(b) else None
        for a, b in zip(x.tolist(), y.tolist(), strict=True)
    ]
    parts: list[Markup] = []
    if series.style in ("line", "both"):
        css = f"line c{series.colour}" + (" dashed" if series.dashed else "")
        parts += [polyline(run, css) for run in _runs(points)]
    if series.style in ("points", "both"):
        radius = 3 if len(points) <= 120 else 1.6
        parts += [
            Markup('<circle class="dot c{}" cx="{}" cy="{}" r="{}"/>').format(
                series.colour, _f(p[0]), _f(p[1]), radius
            )
            for p in points
            if p is not None
        ]
    return join(parts)


def _runs(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if len(run) > 1]


def _legend(series: Sequence[Series]) -> Markup:
    if len(series) < 2:
        return EMPTY
    return Markup('<p class="legend">{}</p>').format(
        join(
            Markup('<span class="key c{}{}">{}</span>').format(
                s.colour,
                " points" if s.style == "points" else " dashed" if s.dashed else "",
                s.label,
            )
            for s in series
            if s.label
        )
    )


def _tick(value: float) -> str:
    return number(float(f"{value:.6g}"), digits=4)


def _f(value: float) -> str:
    text = f"{value:.1f}"
    return text[:-2] if text.endswith(".0") else text
