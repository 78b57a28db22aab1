"""Draw docs/steps/graph.svg: the steps from top to bottom, and who reads whom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from soct.pipeline.graph import in_reading_order
from soct.steps.declaration import Scope, Step

_ROW, _TOP, _LEFT, _BOX = 26, 64, 24, 230
_FILL = {Scope.RUN: "#e3edf5", Scope.SLICE: "#fdf0dc", Scope.PAIR: "#e4f3ec"}
_EDGE = {Scope.RUN: "#0072b2", Scope.SLICE: "#b06a00", Scope.PAIR: "#00734f"}
_NAME = {Scope.RUN: "the whole run", Scope.SLICE: "each slice", Scope.PAIR: "each pair"}
_STYLE = (
    "text{font:13px system-ui,'Segoe UI','Noto Sans','Liberation Sans',sans-serif;fill:#1d2530}"
    ".soft{fill:#5a6675}path{fill:none;stroke-width:1.3;opacity:.75}"
)


def direct_inputs(steps: Mapping[str, Step[Any]]) -> dict[str, list[str]]:
    """Return ``step -> steps that it reads``, without those that another of them has read already.

    A step that may be off hands nothing on.
    """
    reads = {name: {i.step for i in step.inputs if i.step in steps} for name, step in steps.items()}
    sure = {
        name: {i.step for i in step.inputs if i.step in steps and not i.optional}
        for name, step in steps.items()
    }
    above: dict[str, set[str]] = {}
    for name in steps:
        above[name] = {s for direct in sure[name] for s in ({direct} | above[direct])}
    return {
        name: [s for s in steps if s in reads[name] and not any(s in above[o] for o in sure[name])]
        for name in steps
    }


def draw_graph(steps: Mapping[str, Step[Any]]) -> str:
    """Return the drawing as SVG; the same declarations always give the same text."""
    ordered = in_reading_order(steps)
    place = {name: k for k, name in enumerate(ordered)}
    inputs = direct_inputs(ordered)
    longest = max((place[n] - place[s] for n, read in inputs.items() for s in read), default=1)
    reach = min(330, 36 + 13 * longest)
    width, height = max(_LEFT + _BOX + reach + 24, 680), _TOP + _ROW * len(ordered) + 12
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="img" aria-label="The steps in the order in which they run, with arcs from each to those that read it">',
        f'<style>{_STYLE}</style><rect width="{width}" height="{height}" fill="#fff"/>',
        *_legend(),
    ]
    parts += [
        _arc(place[s], place[n], ordered[s].scope, reach, longest)
        for n in ordered
        for s in inputs[n]
    ]
    parts += [_box(k, step) for k, step in enumerate(ordered.values())]
    return "\n".join([*parts, "</svg>", ""])


def _legend() -> list[str]:
    parts = []
    for k, scope in enumerate((Scope.SLICE, Scope.PAIR, Scope.RUN)):
        x = _LEFT + 122 * k
        parts.append(
            f'<rect x="{x}" y="12" width="14" height="14" rx="3" fill="{_FILL[scope]}" stroke="{_EDGE[scope]}"/>'
            f'<text x="{x + 20}" y="24">{_NAME[scope]}</text>'
        )
    parts.append(
        f'<text class="soft" x="{_LEFT}" y="48">dashed: off unless the profile says otherwise; '
        "an arc leads from a step to one that reads it</text>"
    )
    return parts


def _is_off(step: Step[Any]) -> bool:
    field = step.params.model_fields.get("enabled")
    return field is not None and not field.default


def _box(k: int, step: Step[Any]) -> str:
    y = _TOP + _ROW * k
    dashes = ' stroke-dasharray="4 3"' if _is_off(step) else ""
    return (
        f'<a href="{step.id}.md"><rect x="{_LEFT}" y="{y + 2}" width="{_BOX}" height="{_ROW - 5}" rx="5" '
        f'fill="{_FILL[step.scope]}" stroke="{_EDGE[step.scope]}"{dashes}/>'
        f'<text x="{_LEFT + 10}" y="{y + 17}">{escape(step.id)}</text></a>'
    )


def _arc(source: int, target: int, scope: Scope, reach: int, longest: int) -> str:
    x, y0, y1 = _LEFT + _BOX, _TOP + _ROW * source + 17, _TOP + _ROW * target + 9
    out = x + 14 + (reach - 24) * ((target - source) / longest) ** 0.7
    return (
        f'<path d="M{x} {y0} C{out:.0f} {y0} {out:.0f} {y1} {x + 6} {y1}" stroke="{_EDGE[scope]}"/>'
        f'<path d="M{x + 6} {y1 - 3.5} L{x} {y1} L{x + 6} {y1 + 3.5} Z" '
        f'style="fill:{_EDGE[scope]}" stroke="{_EDGE[scope]}"/>'
    )
