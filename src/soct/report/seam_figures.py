"""Seams as pictures: the worst, a median and a random one, and the table of pairs that were not trusted."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from soct.report.images import robust_window
from soct.report.markup import EMPTY, details, figure, flicker, join, note, number, picture, table
from soct.report.overlays import scale_overlay
from soct.report.reportlet import Page
from soct.report.seams import REASONS, Seam, choose_seams
from soct.report.slice_pictures import cut_seam, stitched_slice

_SIDE = 300
_LISTED = 200


def draw_seams(page: Page, seams: Sequence[Seam]) -> Markup:
    """Draw the seams that disagree most, the median and a random one, by the stage alone and as placed."""
    chosen = choose_seams(seams, page.view.subject)
    if not chosen:
        return note("No seam was measured and trusted, so none is shown.")
    drawn = join(
        page.guarded(f"Seam of {seam.where}", lambda seam=seam, why=why: _seam(page, seam, why))  # type: ignore[misc]
        for seam, why in chosen
    )
    trusted = sum(s.accepted for s in seams)
    return Markup('<h3>Seams, by residual, of {} trusted</h3><div class="row">{}</div>').format(
        trusted, drawn
    )


def _seam(page: Page, seam: Seam, why: str) -> Markup:
    stitched = stitched_slice(page.figures, seam.unit)
    before, after = cut_seam(stitched, seam.a, seam.b)
    window = robust_window(before, after)
    drawn = []
    for image, label in ((before, "motor positions"), (after, "final")):
        encoded = page.images.encode(image, window=window, max_side=_SIDE)
        overlay = scale_overlay(encoded, image.shape[1] * stitched.pixel_um, shown=_SIDE)
        alt = f"Seam of {seam.where}, {label}"
        drawn.append(picture(encoded, alt, overlay=overlay, width=_SIDE))
    title = f"{why.capitalize()}: {number(seam.residual_um, 'um')}"
    body = flicker(
        f"seam-{seam.key}", drawn[0], drawn[1], labels=("motor only", "final"), title=title
    )
    return figure(body, f"{seam.where}; the seam is in the middle.")


def draw_rejected(seams: Sequence[Seam]) -> Markup:
    """Draw the table of measured pairs that were rejected, with the reason."""
    rejected = [s for s in seams if not s.accepted]
    if not rejected:
        return EMPTY
    rows = [
        (
            s.where,
            number(s.residual_um),
            REASONS.get(s.reason, s.reason) or "this run did not save why",
        )
        for s in rejected[:_LISTED]
    ]
    more = f", the {_LISTED} farthest off" if len(rejected) > _LISTED else ""
    drawn = table(
        ("Pair", "Off by (µm)", "Why it was not trusted"),
        rows,
        caption=f"Measured pairs that were rejected{more}",
        numeric=(1,),
    )
    return details(f"{len(rejected)} measured pairs that were rejected, and why", drawn)
