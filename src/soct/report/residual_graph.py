"""The residual graph of a mosaic: its tiles, the pairs that hold them, and how far each was moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import svg
from soct.report.markup import figure, join, number
from soct.report.seams import REASONS

_GRAPH_WIDTH = 430


@dataclass(frozen=True)
class ResidualGraph:
    """What is drawn.

    Attributes
    ----------
    positions, nominal : ndarray (n, 2)
        ``(y, x)`` of the tiles' first pixels, as placed and as expected.
    tile : ndarray (2,)
        Height and width of a tile.
    pairs : int ndarray (m, 2)
    residual : ndarray (m,)
        In `unit`; NaN where nothing was measured.
    accepted : bool ndarray (m,)
    reasons : sequence of str
        Why a pair was rejected, a key of `soct.report.seams.REASONS`; empty where it was not.
    limit : float
        Residual drawn at full strength.
    pixel : float
        Size of a pixel in `unit`.
    unit : str
    expected : str
        What the displacements are from.
    """

    positions: NDArray[np.float64]
    nominal: NDArray[np.float64]
    tile: NDArray[np.float64]
    pairs: NDArray[np.int64]
    residual: NDArray[np.float64]
    accepted: NDArray[np.bool_]
    reasons: Sequence[str]
    limit: float
    pixel: float = 1.0
    unit: str = "um"
    expected: str = "the motor positions"


def draw_residual_graph(graph: ResidualGraph, title: str) -> Markup:
    """Draw the graph with its caption."""
    centres = graph.positions + graph.tile / 2
    low, high = centres.min(axis=0) - graph.tile / 2, centres.max(axis=0) + graph.tile / 2
    scale = _GRAPH_WIDTH / max(float((high - low).max()), 1.0)
    xy = (centres - low) * scale
    parts = [_tile_outline(point, graph.tile * scale) for point in xy] if len(xy) <= 400 else []
    for (a, b), value, used, reason in zip(
        graph.pairs.tolist(), graph.residual.tolist(), graph.accepted.tolist(), graph.reasons, strict=True
    ):  # fmt: skip
        if not (0 <= a < len(xy) and 0 <= b < len(xy)):
            continue
        parts.append(_edge(xy[a], xy[b], value, bool(used), graph.limit, reason, graph.unit))
    moved = graph.positions - graph.nominal
    parts += _displacements(xy, moved, graph.pixel, graph.unit)
    height, width = ((high - low) * scale).tolist()
    rejected = int((~graph.accepted).sum())
    full = f"{title}: {len(xy)} tiles, {len(graph.pairs)} pairs, {rejected} rejected"
    body = svg(width + 2, height + 2, full, join(parts), css="graph")
    moved = moved - np.nanmean(moved, axis=0)
    longest = number(float(np.nanmax(np.hypot(moved[:, 0], moved[:, 1]))) * graph.pixel, graph.unit)
    caption = (
        f"{len(xy)} tiles (dots) and {len(graph.pairs)} measured pairs (lines: thicker and more orange for a larger "
        f"residual, full at {number(graph.limit, graph.unit)}; dashed: {rejected} rejected{_counted(graph.reasons)}). Arrows: "
        f"displacement from {graph.expected}, less its mean, enlarged; the longest stands for {longest}."
    )
    return figure(body, caption)


def _counted(reasons: Sequence[str]) -> str:
    named = Counter(reason for reason in reasons if reason)
    return ": " + ", ".join(f"{n} {reason}" for reason, n in sorted(named.items())) if named else ""


def _tile_outline(centre: NDArray[np.float64], shape: NDArray[np.float64]) -> Markup:
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="#0072b2" fill-opacity=".05" stroke="#c5ccd4" stroke-width=".6"/>'
    ).format(centre[1] - shape[1] / 2, centre[0] - shape[0] / 2, shape[1], shape[0])


def _edge(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    residual: float,
    used: bool,
    limit: float,
    reason: str,
    unit: str,
) -> Markup:
    share = min(1.0, abs(residual) / limit) if limit > 0 and residual == residual else 1.0
    colour = (
        "#8a8f98" if not used else ("#56708a", "#8a6d3b", "#d55e00")[min(2, int(share * 2.999))]
    )
    dashes = Markup("") if used else Markup(' stroke-dasharray="4 4"')
    return Markup(
        '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}" stroke-width="{:.1f}"{}><title>{}{}</title></line>'
    ).format(
        a[1], a[0], b[1], b[0], colour, 1.0 + 2.5 * share, dashes,
        number(residual, unit), "" if used else ", rejected" + (f": {REASONS.get(reason, reason)}" if reason else ""),
    )  # fmt: skip


def _displacements(
    xy: NDArray[np.float64], moved: NDArray[np.float64], pixel: float, unit: str
) -> list[Markup]:
    moved = moved - np.nanmean(moved, axis=0)
    largest = float(np.nanmax(np.hypot(moved[:, 0], moved[:, 1]))) if moved.size else 0.0
    enlarge = 0.6 * _GRAPH_WIDTH / max(np.sqrt(len(xy)), 1.0) / largest if largest > 0 else 0.0
    radius = 2.6 if len(xy) <= 200 else 1.4
    return [
        Markup(
            '<line x1="{0:.1f}" y1="{1:.1f}" x2="{2:.1f}" y2="{3:.1f}" stroke="#7a4f9e" stroke-width="1.4"/>'
            '<circle cx="{0:.1f}" cy="{1:.1f}" r="{4}" fill="#1d2530"><title>moved by {5}, {6} (y, x)</title></circle>'
        ).format(
            p[1], p[0], p[1] + enlarge * d[1], p[0] + enlarge * d[0], radius,
            number(float(d[0]) * pixel, unit), number(float(d[1]) * pixel, unit),
        )
        for p, d in zip(xy, np.nan_to_num(moved), strict=True)
    ]  # fmt: skip
