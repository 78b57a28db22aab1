"""Section 7b: slices that were made from their neighbours, and gaps that stayed open."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.images import robust_window
from soct.report.markup import EMPTY, figure, join, note, picture, table
from soct.report.overlays import scale_overlay
from soct.report.reportlet import Page, Reportlet

_STEP = "interpolate_missing_slice"
_COLUMNS = ("interpolated", "interpolation_failed")
_SIDE = 300
_MOST = 12
_LABELS = (
    "End of the slice above",
    "Half-way: made up, no measurement",
    "Top of the slice below",
)


def render(page: Page) -> Markup:
    """Draw the table of absent slices, then what faces each other across each gap and what was put between."""
    rows = [
        row
        for row in page.view.ledger
        if any(row.columns.get(name, "").lower() in ("true", "1") for name in _COLUMNS)
    ]
    if not rows:
        return note("No slice is interpolated.")
    parts = [
        table(
            ("Slice", "What was done", "Why, or how well its neighbours agree"),
            [
                (
                    str(row.slice_id),
                    f"interpolated ({row.columns.get('interpolation_method_used', '')})"
                    if row.interpolated
                    else "the gap stays open",
                    row.columns.get("interpolation_fallback_reason", "")
                    or row.columns.get("notes", ""),
                )
                for row in rows
            ],
            caption="Slices without an image of their own. No measurement lies behind interpolated planes.",
        )
    ]
    if page.figures.has(_STEP):
        parts.append(page.guarded("Interpolated planes", lambda: _views(page)))
    return join(parts)


def _views(page: Page) -> Markup:
    ids = page.figures.array(_STEP, "run", "slice_ids").ravel().astype(int).tolist()
    # Runs of an earlier soct did not save how wide the pictures are.
    known = "width_um" in page.figures.names(_STEP)
    widths = page.figures.array(_STEP, "run", "width_um").ravel().tolist() if known else []
    drawn = [
        _gap(page, slice_id, float(widths[k]) if k < len(widths) else None)
        for k, slice_id in enumerate(ids[:_MOST])
    ]
    rest = len(ids) - len(drawn)
    if rest > 0:
        drawn.append(note(f"{rest} more interpolated slices are not drawn."))
    return join(drawn) if drawn else EMPTY


def _gap(page: Page, slice_id: int, width_um: float | None) -> Markup:
    """Draw what faces each other across a gap, and the plane that was made up half-way."""
    names = [f"{part}_{slice_id}" for part in ("before", "middle", "after")]
    views = page.figures.arrays(_STEP, "run", *names)
    window = robust_window(*views)
    drawn = []
    for view, label in zip(views, _LABELS, strict=True):
        image = page.images.encode(view, window=window, max_side=_SIDE)
        overlay = EMPTY if width_um is None else scale_overlay(image, width_um, shown=_SIDE)
        body = picture(image, f"Slice {slice_id}: {label}", overlay=overlay, width=_SIDE)
        drawn.append(figure(body, label))
    return Markup('<h3>Slice {}</h3><div class="row">{}</div>').format(slice_id, join(drawn))


REPORTLET = Reportlet(
    id="interpolation",
    order=75,
    title="Interpolated slices",
    question="Which planes are made up, and is that plausible?",
    render=render,
    good="the same structures in all three views; the middle one smoother, for it has less speckle.",
    bad="structures that appear twice or fade in the middle: the two sides do not belong together. Leave such a gap open "
    "(interpolate_missing_slice.enabled: false).",
    inputs=(_STEP,),
)
