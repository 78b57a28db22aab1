"""What the acquisition looks like along the run: tiles per slice, where the stage went, how thick the cuts were."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from soct.report.charts import Band, Series, chart, svg
from soct.report.markup import EMPTY, figure, join, note
from soct.report.model import RunView, SliceAcquisition
from soct.report.reportlet import Page
from soct.report.slice_pictures import POSES

_FOUND, _LOST = "#0072b2", "#e69f00"
_WIDTH, _LEFT, _HEIGHT = 640.0, 64.0, 96.0
_REHOMED = ("rehomed", "rehoming_reliable")


def draw_tiles_per_slice(page: Page) -> Markup:
    """Draw one bar per slice: tiles found, and on top of them those that were expected and are not there."""
    slices = {s.slice_id: s for s in page.view.acquisition.slices}
    if len(slices) < 2:
        return EMPTY
    ids = range(min(slices), max(slices) + 1)
    most = max(s.expected for s in slices.values()) or 1
    width = (_WIDTH - _LEFT - 14) / len(ids)
    parts = [_axis(most)]
    for i, slice_id in enumerate(ids):
        x = _LEFT + i * width
        parts.append(_bar(slices.get(slice_id), slice_id, x, width, most))
        if i % max(1, -(-len(ids) // 12)) == 0:
            parts.append(
                Markup('<text class="tx" x="{:.1f}" y="{:.0f}">{}</text>').format(
                    x + width / 2, _HEIGHT + 18, slice_id
                )
            )
    title = f"Tiles found and expected in each of {len(slices)} slices"
    legend = Markup(
        '<p class="legend"><span class="swatch" style="background:{}"></span>read '
        '<span class="swatch" style="background:{}"></span>expected and not read; an empty column is a slice that '
        "was never acquired</p>"
    ).format(_FOUND, _LOST)
    drawing = svg(_WIDTH, _HEIGHT + 36, title, join(parts))
    return figure(drawing + legend, "Tiles of every slice. A change of height is a change of the grid.")  # fmt: skip


def _axis(most: int) -> Markup:
    return Markup(
        '<line class="axis" x1="{0:.0f}" x2="{1:.0f}" y1="{2:.0f}" y2="{2:.0f}"/>'
        '<text class="ty" x="{3:.0f}" y="10">{4}</text><text class="ty" x="{3:.0f}" y="{2:.0f}">0</text>'
        '<text class="tx name" x="{5:.0f}" y="{6:.0f}">slice</text>'
        '<text class="name mid" transform="translate(12 {7:.0f}) rotate(-90)">tiles</text>'
    ).format(
        _LEFT, _WIDTH - 14, _HEIGHT + 4, _LEFT - 6, most, (_LEFT + _WIDTH) / 2, _HEIGHT + 32, _HEIGHT / 2
    )  # fmt: skip


def _bar(
    record: SliceAcquisition | None, slice_id: int, x: float, width: float, most: int
) -> Markup:
    if record is None:
        return EMPTY
    scale = (_HEIGHT - 6) / most
    found, lost = len(record.found), max(0, record.expected - len(record.found))
    bottom, gap = _HEIGHT + 4, 1.0 if width > 4 else 0.0
    rect = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"><title>slice {}: {} of {} tiles</title></rect>')  # fmt: skip
    # One lost tile of a hundred is still seen.
    top = max(3.0, lost * scale) if lost else 0.0
    parts = [
        rect.format(x, bottom - found * scale, max(0.5, width - gap), found * scale, _FOUND, slice_id, found, record.expected)
    ]  # fmt: skip
    if lost:
        parts.append(
            rect.format(x, bottom - found * scale - top, max(0.5, width - gap), top, _LOST, slice_id, found, record.expected)
        )  # fmt: skip
    return join(parts)


def draw_stage_path(page: Page) -> Markup:
    """Draw where the stage put every slice in the plane, with the steps that were corrected."""
    if not page.figures.has(POSES):
        return note("Stage path: the slices are not aligned yet.")
    ids, stage = page.figures.arrays(POSES, "run", "slice_ids", "stage_um")
    if len(ids) < 2:
        return EMPTY
    moved = stage[:, 1:] - np.median(stage[:, 1:], axis=0)
    lines = [
        Series("y", ids, moved[:, 0], 0, "both"),
        Series("x", ids, moved[:, 1], 1, "both", dashed=True),
    ]
    corrected = sorted(_corrected(page.view) & {int(i) for i in ids})
    text = "no step of the stage was corrected; a slice that jumps and comes back may be a glitch that was not recognised"
    if corrected:
        at = np.isin(ids, corrected)
        lines.append(Series("corrected", ids[at], moved[at, 0], 3, "points"))
        lines.append(Series("", ids[at], moved[at, 1], 3, "points"))
        text = "corrected or not trusted: slices " + ", ".join(map(str, corrected))
    drawn = chart(
        lines,
        title="Where the stage put every slice in the plane",
        x_label="slice",
        y_label="stage (µm)",
        height=170,
    )
    return figure(drawn, f"Position of every slice by the stage as it was used, against the median slice; {text}.")  # fmt: skip


def _corrected(view: RunView) -> set[int]:
    return {
        decision.slice_id
        for unit in view.units()
        for decision in unit.decisions
        if decision.column in _REHOMED
        and (decision.column == "rehomed") == bool(decision.value not in (False, 0, "false", "0"))
    }


def draw_cut_thickness(page: Page) -> Markup:
    """Draw how thick every cut was, by the overlaps of the images and by the stage."""
    if not page.figures.has(POSES):
        return _stage_depth(page.view.acquisition.slices)
    ids, pose, stage = page.figures.arrays(POSES, "run", "slice_ids", "pose_um", "stage_um")
    if len(ids) < 2:
        return note("Cut thickness: one slice has no neighbour.")
    across = np.diff(ids)
    seen, said = (np.diff(place[:, 0]) / across for place in (pose, stage))
    typical = float(np.median(seen))
    worst = int(np.argmax(np.abs(seen - typical)))
    drawn = chart(
        [
            Series("overlaps of the images", ids[1:], seen, 0, "both"),
            Series("stage", ids[1:], said, 4, "line", dashed=True),
        ],
        title="Thickness of every cut, by the overlaps of the images and by the stage",
        x_label="slice",
        y_label="thickness (µm)",
        limits=(Band(typical, "median"),),
        height=170,
    )
    caption = (
        f"Depth from the slice before, as the overlaps of the images and the stage say. Median {typical:.0f} µm; "
        f"farthest from it: slice {int(ids[worst + 1])} with {seen[worst]:.0f} µm. Twice the median is a missed cut."
    )
    return figure(drawn, caption)


def _stage_depth(slices: Sequence[SliceAcquisition]) -> Markup:
    """Draw what the stage alone said, before any overlap was measured."""
    known = [(s.slice_id, s.stage_z_mm) for s in slices if s.stage_z_mm is not None]
    if len(known) < 3:
        return note("Cut thickness: the slices are not aligned yet, and the stage does not tell it.")  # fmt: skip
    ids = np.array([k for k, _ in known], dtype=float)
    depth = np.array([z for _, z in known], dtype=float)
    drawn = chart(
        [Series("stage", ids[1:], 1000 * np.diff(depth) / np.diff(ids), 4, "both")],
        title="Step of the stage in depth from slice to slice",
        x_label="slice",
        y_label="step (µm per slice)",
        height=170,
    )
    return figure(drawn, "Step in depth that the stage reported; overlaps are not measured yet.")
