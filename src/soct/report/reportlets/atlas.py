"""Section 9: the atlas: does the brain lie in the template, and what do its regions measure."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from soct.report.images import robust_window
from soct.report.markup import facts, figure, flicker, join, note, number, picture, table
from soct.report.overlays import overlay_size, scale_overlay
from soct.report.reportlet import Page, Reportlet

_STEP = "align_to_ras"
_CUTS = ("coronal", "horizontal", "sagittal")
_REGION_COLUMNS = (
    ("Region", "acronym"),
    ("Name", "name"),
    ("Volume (mm³)", "volume_mm3"),
    ("Left (mm³)", "volume_left_mm3"),
    ("Right (mm³)", "volume_right_mm3"),
    ("Mean", "mean_intensity"),
    ("Median", "median_intensity"),
    ("Imaged (%)", "covered_fraction"),
)


def render(page: Page) -> Markup:
    """Draw the numbers, three cuts with outlines as flicker, the stages of the fit and the regions."""
    unit = next((u for u in page.view.units(_STEP) if u.finished), None)
    if unit is None:
        return note("The volume is not aligned to an atlas: align_to_ras is off, or is not done.")
    parts = [page.guarded("Numbers", lambda: _facts(page))]
    if page.figures.has(_STEP):
        parts += [
            page.guarded(f"Cut ({name})", lambda name=name: _cut(page, name))  # type: ignore[misc]
            for name in _CUTS
        ]
        parts.append(page.guarded("Stages of the fit", lambda: _stages(page)))
        parts.append(page.guarded("Regions", lambda: _regions(page)))
    return join(parts)


def _facts(page: Page) -> Markup:
    unit = next(u for u in page.view.units(_STEP) if u.finished)
    shown = []
    for label, name in (
        ("Atlas", "atlas_name"),
        ("Checksums", "atlas_checksum"),
        ("Overlap with the template (Dice)", "atlas_dice"),
        ("Distance of the surfaces, median", "atlas_edge_um"),
        ("Distance of the surfaces, 95th percentile", "atlas_edge_p95_um"),
        ("Volume's axes z, y, x grow towards", "atlas_orientation"),
        ("Score of this orientation over the next one", "atlas_orientation_margin"),
        ("Tilt against the template", "atlas_rotation_deg"),
        ("Size over the template's", "atlas_scale"),
        ("Last stage used", "atlas_transform"),
        ("Template's brain that was imaged", "atlas_covered"),
    ):
        metric = unit.metric(name)
        if metric is not None and metric.value is not None:
            value = metric.value
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            text = number(value, metric.unit) if is_number else str(value)
            limit = page.view.limits.limit(name)
            if limit is not None:
                sign = "≥" if limit.higher_is_better else "≤"
                text += f" (good {sign} {number(limit.warning, metric.unit)})"
            shown.append((label, text))
    return facts(shown)


def _cut(page: Page, name: str) -> Markup:
    template, brain, before, outline, letters, pixel = page.figures.arrays(
        _STEP,
        "run",
        *(f"{name}_{p}" for p in ("template", "brain", "before", "outline", "letters", "pixel_um")),
    )
    size = (float(pixel[0]), float(pixel[1]))
    window = robust_window(brain)
    drawn = []
    for array, label in ((before, "before: centre on centre"), (brain, "aligned")):
        lined = np.where(outline, np.nan, array)
        image = page.images.encode(lined, window=window, max_side=480, pixel_um=size)
        overlay = scale_overlay(
            image, array.shape[1] * size[1], _letters(letters, overlay_size(image))
        )
        drawn.append(
            picture(
                image,
                f"{name} cut, {label}, with the template's outline",
                overlay=overlay,
                width=440,
            )
        )
    reference = page.images.encode(template, max_side=480, pixel_um=size)
    beside = picture(
        reference,
        f"{name} cut of the template",
        overlay=scale_overlay(
            reference, template.shape[1] * size[1], _letters(letters, overlay_size(reference))
        ),
        width=440,
    )
    return Markup('<div class="row">{}{}</div>').format(
            flicker(
                f"atlas-{name}",
                drawn[0],
                drawn[1],
                labels=("before", "aligned"),
                title=f"{name.capitalize()} cut with the template's outline, before and after the fit",
            ),
            figure(beside, f"The template, {name} cut. Letters: superior, inferior, anterior, posterior, left, right. The "
                   "white line in the brain's picture is its outline."),
    )  # fmt: skip


def _letters(letters: object, size: tuple[float, float]) -> Markup:
    """Return the sides of the body at the edges of a picture: up, down, left, right."""
    up, down, left, right = (str(v) for v in np.ravel(np.asarray(letters))[:4])
    width, height = size
    places = (
        (up, width / 2, 20.0),
        (down, width / 2, height - 8),
        (left, 12.0, height / 2),
        (right, width - 12, height / 2),
    )
    return join(
        Markup(
            '<text x="{:.1f}" y="{:.1f}" text-anchor="middle" style="font-size:16px">{}</text>'
        ).format(x, y, text)
        for text, x, y in places
    )


def _stages(page: Page) -> Markup:
    names, scores, notes = page.figures.arrays(
        _STEP, "run", "stage_names", "stage_scores", "stage_notes"
    )
    rows = [
        (str(name), number(float(score), digits=4), str(text))
        for name, score, text in zip(names, scores, notes, strict=True)
    ]
    return table(
        ("Stage", "Metric", "Result"),
        rows,
        caption="Stages of the fit: each is used only where the metric rose",
        sortable=False,
        empty="No stage was saved.",
    )


def _regions(page: Page) -> Markup:
    if "region_id" not in page.figures.names(_STEP):
        return note("The template has no regions.")
    columns = [page.figures.array(_STEP, "run", f"region_{key}") for _, key in _REGION_COLUMNS]
    rows = []
    for cells in zip(*columns, strict=True):
        texts = [str(cell) for cell in cells]
        texts[2:7] = [number(float(t)) if t else "–" for t in texts[2:7]]
        texts[7] = number(100 * float(texts[7])) if texts[7] else "–"
        rows.append(tuple(texts))
    return table(
        tuple(title for title, _ in _REGION_COLUMNS),
        rows,
        numeric=range(2, 8),
        caption="The largest regions of the upper levels, each with its parts; all are in the CSV beside the volume",
        empty="The atlas has no regions.",
    )


REPORTLET = Reportlet(
    id="atlas",
    order=90,
    title="Atlas",
    question="Does the brain lie in the template, and what do its regions measure?",
    render=render,
    good="the outline follows the brain's surface in all three cuts, and inner structures stay in place when the pictures flicker.",
    bad="an outline that is turned or shifted: set align_to_ras.orientation, or search; one that is right as a whole and wrong in places: align_to_ras.transform: bspline.",
    inputs=(_STEP,),
    thresholds=("atlas_dice", "atlas_edge_um", "atlas_orientation_margin"),
)
