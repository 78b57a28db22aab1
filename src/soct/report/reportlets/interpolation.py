"""Section 7b: slices that were made from their neighbours, and gaps that stayed open."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.images import robust_window
from soct.report.markup import EMPTY, figure, join, note, picture, table
from soct.report.reportlet import Page, Reportlet

_STEP = "interpolate_missing_slice"
_COLUMNS = ("interpolated", "interpolation_failed")
_SIDE = 300
_MOST = 12


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
    drawn = []
    for slice_id in ids[:_MOST]:
        names = [f"{part}_{slice_id}" for part in ("before", "middle", "after")]
        views = page.figures.arrays(_STEP, "run", *names)
        window = robust_window(*views)
        pictures = [
            picture(
                page.images.encode(view, window=window, max_side=_SIDE),
                f"Slice {slice_id}: {label}",
                width=_SIDE,
            )
            for view, label in zip(
                views, ("end of the slice above", "made up", "top of the slice below"), strict=True
            )
        ]
        drawn.append(
            figure(
                Markup('<div class="row">{}</div>').format(join(pictures)),
                f"Slice {slice_id}: the end of the slice above, the middle plane that was made up, and the top of the "
                "slice below.",
            )
        )
    rest = len(ids) - len(drawn)
    if rest > 0:
        drawn.append(note(f"{rest} more interpolated slices are not drawn."))
    return join(drawn) if drawn else EMPTY


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
