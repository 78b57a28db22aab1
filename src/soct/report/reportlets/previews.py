"""Pictures of the slices before anything is measured, where `mosaic_preview` or `generate_aip` made them."""

from __future__ import annotations

from markupsafe import Markup

from soct.report.images import robust_window
from soct.report.markup import details, figure, join, note, picture
from soct.report.reportlet import Page, Reportlet

_SHOWN = 12
_SIDE = 360
_STEPS = (
    ("mosaic_preview", "Tiles where the stage, or index and overlap, puts them"),
    ("generate_aip", "Tiles side by side, overlaps shown twice"),
)


def render(page: Page) -> Markup:
    """Draw the previews of some slices, spread over the run."""
    parts = []
    for step, title in _STEPS:
        units = page.figures.units(step)
        if not units:
            continue
        chosen = units[:: max(1, -(-len(units) // _SHOWN))]
        drawn = join(_guarded(page, step, unit) for unit in chosen)
        caption = f"{title}: {len(chosen)} of {len(units)} slices"
        parts.append(details(caption, Markup('<div class="row small">{}</div>').format(drawn)))
    if not parts:
        return note("Switched off: mosaic_preview and generate_aip draw the slices before they are stitched.")  # fmt: skip
    return join(parts)


def _guarded(page: Page, step: str, unit: str) -> Markup:
    return page.guarded(f"{step} of {unit}", lambda: _picture(page, step, unit))


def _picture(page: Page, step: str, unit: str) -> Markup:
    image = page.figures.array(step, unit, "picture", ndim=2)
    drawn = page.images.encode(image, window=robust_window(image), max_side=_SIDE)
    return figure(picture(drawn, f"{step} of {unit}"), unit)


REPORTLET = Reportlet(
    id="previews",
    order=45,
    title="Slices as acquired",
    question="Do the tiles fit roughly, before anything is measured?",
    render=render,
    good="structures run on from tile to tile but for small steps.",
    bad="nothing fits: look at the overlap and at create_mosaic_grid.grid_axes; dark stripes at one place in every "
    "tile: the galvo's return.",
    inputs=("mosaic_preview", "generate_aip"),
)
