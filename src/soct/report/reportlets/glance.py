"""Section 1: three orthogonal views of the final volume."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.images import Picture, robust_window
from soct.report.markup import EMPTY, figure, join, note, picture
from soct.report.model import RunView
from soct.report.overlays import overlay_size, scale_overlay
from soct.report.reportlet import Page, Reportlet

_STEP = "stack"
_VIEWS = ("ortho_z", "ortho_y", "ortho_x", "voxel_um")
_LATER_VIEWS = ("after", "reslice_after", "reslice_x_after", "voxel_um")
_SIDE = 620
_MAX_HEIGHT = 520
_COLUMN = 430
_NARROW = 240
"""About as wide as a view gets beside the others, where reslices stand below each other and beside the plane."""
_TALL = 0.45
"""From this height over width on, reslices stand beside the plane and not below each other."""
_LETTERS = {"A": "P", "P": "A", "S": "I", "I": "S", "R": "L", "L": "R"}


def render(page: Page) -> Markup:
    """Draw the three planes through the middle of the volume."""
    if not page.figures.has(_STEP):
        return note("The volume is not stacked yet, so there are no views of it.")
    return page.guarded("Orthogonal views", lambda: _views(page))


def _views(page: Page) -> Markup:
    step, names = volume_views(page)
    ortho_z, ortho_y, ortho_x, voxel = page.figures.arrays(step, "run", *names)
    vz, vy, vx = (float(v) for v in np.ravel(voxel)[:3])
    window = robust_window(ortho_z, ortho_y, ortho_x)
    letters = page.view.volume.orientation if page.view.volume else ""
    planes = (
        ("In plane (y, x), at the middle depth", ortho_z, (vy, vx), "yx"),
        ("Reslice (z, x), at the middle of y", ortho_y, (vz, vx), "zx"),
        ("Reslice (z, y), at the middle of x", ortho_x, (vz, vy), "zy"),
    )
    height = ortho_y.shape[0] * vz
    tall = height > _TALL * max(ortho_y.shape[1] * vx, ortho_x.shape[1] * vy)
    drawn = []
    for title, plane, pixel, axes in planes:
        image = page.images.encode(plane, window=window, max_side=_SIDE, pixel_um=pixel)
        width_um = plane.shape[1] * pixel[1]
        marks = _slice_marks(page, plane.shape[0]) if axes[0] == "z" else EMPTY
        width = min(_SIDE, round(_MAX_HEIGHT / image.aspect))
        shown = min(width, _NARROW if tall else _COLUMN)
        overlay = scale_overlay(
            image, width_um, marks + _orientation(image, axes, letters, shown), shown=shown
        )
        alt = f"{title}: grey values of the final volume"
        body = picture(image, alt, overlay=overlay, width=width)
        drawn.append(figure(body, title))
    caption = Markup(
        '<p class="question">One brightness window for all views. The bar is the length it says. '
        "Orange bars at the edge of a reslice: slices not stacked from their own image; "
        "pale grey: no data.</p>"
    )
    css = "ortho tall" if tall else "ortho"
    views = Markup('<div class="{}">{}<div class="reslices">{}</div></div>').format(
        css, drawn[0], join(drawn[1:])
    )
    return join([views, caption])


def volume_views(page: Page) -> tuple[str, tuple[str, ...]]:
    """Return the step whose volume the report is about, and its views; the stack where it drew none."""
    step = page.view.volume.path.split("/")[0] if page.view.volume else _STEP
    if step != _STEP and page.figures.has(step) and set(_LATER_VIEWS) <= page.figures.names(step):
        return step, _LATER_VIEWS
    return _STEP, _VIEWS


def _orientation(image: Picture, axes: str, letters: str, shown: int) -> Markup:
    """Letters at the four edges: anatomical ones where known, else the array's axes."""
    width, height = overlay_size(image)
    text_size = 11.5 * width / shown
    vertical, horizontal = axes[0], axes[1]
    if len(letters) == 3 and all(letter in _LETTERS for letter in letters):
        by_axis = dict(zip("zyx", letters, strict=True))
        down, right = by_axis[vertical], by_axis[horizontal]
        marks: tuple[tuple[str, float, float], ...] = (
            (_LETTERS[down], width / 2, 1.2 * text_size),
            (down, width / 2, height - 0.6 * text_size),
            (_LETTERS[right], 0.9 * text_size, height / 2),
            (right, width - 0.9 * text_size, height / 2),
        )
    else:
        marks = ((f"→ {horizontal}   ↓ {vertical}", 3.2 * text_size, 1.5 * text_size),)
    return join(
        Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" style="font-size:{:.0f}px">{}</text>').format(
            x, y, text_size, text
        )
        for text, x, y in marks
    )  # fmt: skip


def _slice_marks(page: Page, rows: int) -> Markup:
    """Orange bars at the left edge over the planes of slices that are not their own image."""
    names = page.figures.names(_STEP)
    if "z_boundaries" not in names or "plane_median" not in names:
        return EMPTY
    starts = page.figures.array(_STEP, "run", "z_boundaries").ravel().astype(float)
    planes = page.figures.array(_STEP, "run", "plane_median").size
    ids = _slice_ids(page, starts, names)
    flagged = {r.slice_id for r in page.view.ledger if not r.used or r.interpolated}
    parts = []
    for i, slice_id in enumerate(ids):
        if slice_id not in flagged:
            continue
        top = starts[i] / max(planes, 1)
        bottom = (starts[i + 1] if i + 1 < starts.size else planes) / max(planes, 1)
        parts.append(
            Markup(
                '<rect x="0" y="{:.2f}%" width="7" height="{:.2f}%" fill="#e69f00"><title>slice {}</title></rect>'
            ).format(100 * top, 100 * max(bottom - top, 1 / max(rows, 1)), slice_id)
        )
    return join(parts)


def _slice_ids(page: Page, starts: NDArray[np.float64], names: frozenset[str]) -> list[int]:
    if "slice_ids" in names:
        ids = page.figures.array(_STEP, "run", "slice_ids").ravel().astype(int).tolist()
    else:
        ids = _ledger_ids(page.view)
    return ids if len(ids) == starts.size else []


def _ledger_ids(view: RunView) -> list[int]:
    return [row.slice_id for row in view.ledger if not row.missing]


REPORTLET = Reportlet(
    id="glance",
    order=10,
    title="At a glance",
    question="Does it look like a brain, in all three directions?",
    render=render,
    good="smooth outlines and even brightness in the reslices; no stripes, no steps.",
    bad="steps in the outline (alignment), stripes at the slice interval (intensity), black bands "
    "(missing slices), a bent midline (drift). The section “Problems” says which setting to change.",
    inputs=(_STEP, "correct_bias_field", "normalize_z_intensity"),
)
