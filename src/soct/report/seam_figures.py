"""Seams as pictures: the worst, a median and a random one, and the table of pairs that were not trusted."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from soct.report.images import robust_window
from soct.report.markup import EMPTY, details, figure, flicker, join, note, number, picture, table
from soct.report.overlays import scale_overlay, seam_overlay
from soct.report.reportlet import Page
from soct.report.seams import REASONS, Seam, choose_seams
from soct.report.slice_pictures import picture_seam, stitched_slice

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
    return Markup(
        '<h3>Seams, by residual, of {} trusted</h3><p class="question">The number is what the pair of tiles '
        "disagrees with the final placement. Good: what crosses the seam in “final” is single and unbroken. Bad: "
        'double in “final” (limit {}).</p><div class="row">{}</div>'
    ).format(number(trusted), number(page.view.limits.tile_residual_p95_um.warning, "um"), drawn)


def _seam(page: Page, seam: Seam, why: str) -> Markup:
    stitched = stitched_slice(page.figures, seam.unit)
    shown = picture_seam(page.figures, stitched, seam.unit, seam.a, seam.b)
    window = robust_window(shown.before, shown.after)
    drawn = []
    for image, label in ((shown.before, "motor positions"), (shown.after, "final")):
        encoded = page.images.encode(image, window=window, max_side=_SIDE)
        marks = seam_overlay(encoded, upright=shown.upright)
        overlay = scale_overlay(encoded, image.shape[1] * shown.pixel_um, marks, shown=_SIDE)
        alt = f"Seam of {seam.where}, {label}"
        drawn.append(picture(encoded, alt, overlay=overlay, width=_SIDE))
    title = f"{why.capitalize()}: {number(seam.residual_um, 'um')}"
    body = flicker(
        f"seam-{seam.key}", drawn[0], drawn[1], labels=("motor only", "final"), title=title
    )
    blurred = "" if shown.sharp else "; shown smaller than it is, so fine doubling may not show"
    return figure(body, f"{seam.where}, between the marks{blurred}.")


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
