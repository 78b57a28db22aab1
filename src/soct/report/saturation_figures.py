"""Where the detector was at its ceiling: per slice, and tile by tile for the worst slice."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import Band, Series, chart, svg
from soct.report.markup import EMPTY, count, figure, join, number
from soct.report.reportlet import Page

_STEP = "create_mosaic_grid"
_MAP_WIDTH = 260.0
_CELL = 44.0


def draw_saturation(page: Page) -> Markup:
    """Say that no tile is clipped; or draw how much is, slice by slice, and the map of the worst slice."""
    found = page.view.numbers(_STEP, "saturated_percent")
    if not found:
        return EMPTY
    limit = page.view.limits.saturated_percent
    worst, value = max(found, key=lambda item: item[1])
    title = Markup("<h3>Saturation</h3>")
    if value == 0:
        text = "No sample of any tile was clipped at the detector’s ceiling"
        return title + Markup("<p>{} ({}).</p>").format(text, count(len(found), "slice"))
    beyond = sum(limit.status(v) != "ok" for _, v in found)
    drawn = chart(
        [
            Series(
                "worst tile",
                [u.slices[0] for u, _ in found],
                [v for _, v in found],
                style="both",
            )
        ],
        title="Clipped samples in the worst tile of every slice",
        x_label="slice",
        y_label="clipped (%)",
        limits=(Band(limit.warning, "limit"),),
        include_zero=True,
        width=520,
        height=170,
    )
    caption = (
        f"Samples at the detector’s ceiling, in the worst tile of each slice; most in slice {worst.slices[0]} "
        f"({number(value, '%')}). {count(beyond, 'slice')} of {len(found)} beyond the limit."
    )
    return title + Markup('<div class="row">{}{}</div>').format(
        figure(drawn, caption),
        page.guarded("Map of saturation", lambda: _map(page, worst.name, limit.warning)),
    )


def _map(page: Page, unit: str, limit: float) -> Markup:
    if not page.figures.has(_STEP, unit) or "saturated" not in page.figures.names(_STEP, unit):
        return EMPTY
    percent = 100 * page.figures.array(_STEP, unit, "saturated", ndim=2).astype(float)
    rows, cols = percent.shape
    cell = min(_CELL, _MAP_WIDTH / max(cols, 1))
    width, height = cell * cols, cell * rows
    tiles = join(
        _tile(row, col, cell, float(percent[row, col]), limit)
        for row in range(rows)
        for col in range(cols)
    )
    clipped = int((percent > 0).sum())
    title = f"Tiles of {unit}: {clipped} of {int(np.isfinite(percent).sum())} clipped"
    caption = (
        f"{unit}, the worst slice, tile by tile ({rows} rows, {cols} columns). Blue: none clipped; pale orange: "
        f"up to {number(limit, '%')}; dark orange: beyond; grey: no tile. {_named(percent)}"
    )
    return figure(svg(width + 2, height + 2, title, tiles), caption)


def _tile(row: int, col: int, cell: float, percent: float, limit: float) -> Markup:
    known = percent == percent
    colour = (
        "#e3e7ec" if not known
        else "#cfe3f1" if percent == 0
        else "#f3c98b" if percent <= limit
        else "#b5480b"
    )  # fmt: skip
    said = f"{number(percent, '%')} clipped" if known else "no tile"
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" stroke="#fff">'
        "<title>tile ({}, {}): {}</title></rect>"
    ).format(1 + col * cell, 1 + row * cell, cell, cell, colour, row, col, said)


def _named(percent: NDArray[np.float64]) -> str:
    """Name the tiles with most clipped samples, for readers without a pointer and on paper."""
    known = np.nan_to_num(percent)
    order = np.argsort(-known, axis=None, kind="stable")[:3]
    places = [tuple(int(v) for v in np.unravel_index(k, known.shape)) for k in order]
    named = [f"({r}, {c}) {number(float(known[r, c]), '%')}" for r, c in places if known[r, c] > 0]
    return f"Most: {', '.join(named)}."
