"""Section 5: tiles within a slice: what the images added to the motor positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import Band, Series, chart
from soct.report.examples import Example, choose_examples
from soct.report.images import robust_window
from soct.report.markup import EMPTY, figure, flicker, join, note, number, picture, table
from soct.report.overlays import scale_overlay
from soct.report.reportlet import Page, Reportlet
from soct.report.residual_graph import ResidualGraph, draw_residual_graph
from soct.report.seam_figures import draw_rejected, draw_seams
from soct.report.seams import rank_seams

_STEP = "stitch_3d_with_refinement"
_RANKED_BY = ("tile_residual_p95_um", "tile_residual_rms_um")
_SIDE = 560


def render(page: Page) -> Markup:
    """Draw the residual per slice, then examples: before and after, and the residual graph."""
    if not any(unit.finished for unit in page.view.units(_STEP)):
        return note("No slice is stitched yet.")
    seams = rank_seams(page.figures, page.figures.units(_STEP))
    parts = [
        page.guarded("Residual per slice", lambda: _per_slice(page)),
        page.guarded("Seams per slice", lambda: _seam_metrics(page)),
        page.guarded("Seams", lambda: draw_seams(page, seams)),
    ]
    for example in _examples(page):
        unit = example.unit
        value = "" if example.value is None else f" ({number(example.value, 'um')})"
        title = Markup('<h3 id="stitch-{0}">{0}: {1}{2}</h3>').format(unit, example.why, value)
        pictures = page.guarded(f"Stitching of {unit}", lambda unit=unit: _before_after(page, unit))  # type: ignore[misc]
        graph = page.guarded(f"Residual graph of {unit}", lambda unit=unit: _graph(page, unit))  # type: ignore[misc]
        parts.append(title + Markup('<div class="row">{}{}</div>').format(pictures, graph))
    parts.append(page.guarded("Table of slices", lambda: _table(page)))
    parts.append(page.guarded("Rejected pairs", lambda: draw_rejected(seams)))
    return join(parts)


def shown_examples(page: Page) -> tuple[str, ...]:
    """Return the slices that the section shows; each has the anchor ``stitch-`` and its name."""
    return tuple(example.unit for example in _examples(page))


def _examples(page: Page) -> tuple[Example, ...]:
    drawn = set(page.figures.units(_STEP))
    for metric in _RANKED_BY:
        found = [(u.name, v) for u, v in page.view.numbers(_STEP, metric) if u.name in drawn]
        if found:
            return choose_examples(found, seed=page.view.subject)
    return choose_examples([(name, 0.0) for name in sorted(drawn)], seed=page.view.subject, worst=0)


def _per_slice(page: Page) -> Markup:
    lines = []
    for i, (metric, label) in enumerate(
        (("tile_residual_p95_um", "95th percentile"), ("tile_residual_rms_um", "RMS"))
    ):
        found = page.view.numbers(_STEP, metric)
        if len(found) > 1:
            lines.append(Series(label, [u.slices[0] for u, _ in found], [v for _, v in found], i, "both"))  # fmt: skip
    if not lines:
        return EMPTY
    limit = page.view.limits.tile_residual_p95_um
    drawn = chart(
        lines,
        title="Tile residual per slice",
        x_label="slice",
        y_label="residual (µm)",
        limits=(Band(limit.warning, "limit of p95"),),
        include_zero=True,
        height=170,
    )
    return figure(
        drawn,
        "What the tile pairs of each slice disagree with the final placement. One slice far above the others: look at "
        "its graph below for the pair; all of them: the stage's scale or angle, or tiles that are distorted.",
    )


def _seam_metrics(page: Page) -> Markup:
    """Draw what the seams of each slice looked like by the stage alone and as placed."""
    drawn = []
    for metric, label, limit in (
        ("seam_l1", "difference in overlaps", page.view.limits.seam_l1),
        ("seam_pearson", "correlation in overlaps", page.view.limits.seam_pearson),
    ):
        lines = []
        for k, (name, said) in enumerate(((f"{metric}_before", "motor only"), (metric, "final"))):
            found = page.view.numbers(_STEP, name)
            if len(found) > 1:
                ids = [u.slices[0] for u, _ in found]
                lines.append(Series(said, ids, [v for _, v in found], 1 - k, "both", dashed=k == 0))
        if len(lines) == 2:
            body = chart(
                lines,
                title=f"{label.capitalize()} per slice, motor only and final",
                x_label="slice",
                y_label=label,
                limits=(Band(limit.warning, "limit"),),
                width=460,
                height=180,
            )
            better = "lower" if metric == "seam_l1" else "higher"
            drawn.append(
                figure(
                    body,
                    f"{label.capitalize()}, tile against tile: {better} is better. Final should beat motor only.",
                )
            )
    return Markup('<div class="row">{}</div>').format(join(drawn)) if drawn else EMPTY


def _before_after(page: Page, unit: str) -> Markup:
    before, after = page.figures.arrays(_STEP, unit, "before", "after")
    pixel = _shown_pixel(page, unit, after)
    window = robust_window(before, after)
    drawn = []
    for array, label in ((before, "motor positions"), (after, "final")):
        image = page.images.encode(array, window=window, max_side=_SIDE)
        overlay = scale_overlay(image, array.shape[1] * pixel) if pixel else EMPTY
        alt = f"Slice {unit}, projection along depth, {label}"
        drawn.append(picture(image, alt, overlay=overlay, width=_SIDE))
    return figure(
        flicker(
            f"stitch-{unit}",
            drawn[0],
            drawn[1],
            labels=("motor only", "final"),
            title="Projection along depth",
        )
    )


def _shown_pixel(page: Page, unit: str, shown: NDArray[Any]) -> float:
    """Micrometres per pixel of the (shrunken) projection, from the extent of the tiles; 0 if unknown."""
    names = page.figures.names(_STEP, unit)
    if not {"positions_px", "tile_shape", "voxel_um"} <= names:
        return 0.0
    positions, shape, voxel = page.figures.arrays(
        _STEP, unit, "positions_px", "tile_shape", "voxel_um"
    )
    if positions.ndim != 2 or positions.shape[0] == 0:
        return 0.0
    extent = float(np.ptp(positions[:, 1]) + np.ravel(shape)[-1]) * float(np.ravel(voxel)[-1])
    return extent / shown.shape[1]


def _graph(page: Page, unit: str) -> Markup:
    positions, nominal, tile_shape, voxel, pairs, residual, accepted = page.figures.arrays(
        _STEP, unit, "positions_px", "nominal_px", "tile_shape", "voxel_um", "pairs",
        "pair_residual_px", "pair_accepted",
    )  # fmt: skip
    pixel = float(np.ravel(voxel)[-1])
    graph = ResidualGraph(
        positions=positions.astype(float),
        nominal=nominal.astype(float),
        tile=np.ravel(tile_shape)[-2:].astype(float),
        pairs=pairs.reshape(-1, 2),
        residual=np.ravel(residual) * pixel,
        accepted=np.ravel(accepted).astype(bool),
        reasons=_reasons(page, unit, len(pairs)),
        limit=page.view.limits.tile_residual_p95_um.warning,
        pixel=pixel,
    )
    return draw_residual_graph(graph, f"Residual graph of {unit}")


def _reasons(page: Page, unit: str, count: int) -> list[str]:
    """Why each pair was rejected, as far as the run saved it."""
    if "pair_reason" not in page.figures.names(_STEP, unit):
        return [""] * count
    found = page.figures.array(_STEP, unit, "pair_reason").ravel().astype(str).tolist()
    return found if len(found) == count else [""] * count


def _table(page: Page) -> Markup:
    names = (
        ("tile_residual_p95_um", "p95 (µm)"),
        ("tile_residual_rms_um", "RMS (µm)"),
        ("pairs_accepted", "accepted"),
        ("pairs_total", "pairs"),
        ("seam_step_percent", "seam step (%)"),
        ("seam_l1_before", "L1 before"),
        ("seam_l1", "L1 after"),
        ("seam_pearson", "correlation"),
    )
    units = [u for u in page.view.units(_STEP) if u.finished]
    shown = [(n, label) for n, label in names if any(u.number(n) is not None for u in units)]
    if not shown:
        return EMPTY
    rows = []
    for unit in units:
        metrics = [unit.metric(name) for name, _ in shown]
        rows.append([unit.name, *(number(m.value) if m else "–" for m in metrics)])
    return table(
        ("Slice", *(label for _, label in shown)),
        rows,
        caption="Stitching metrics of every slice, as saved",
        numeric=range(1, len(shown) + 1),
    )


REPORTLET = Reportlet(
    id="stitching",
    order=60,
    title="Tile stitching",
    question="Are the tiles of a slice where they belong, and did the images improve on the motor positions?",
    render=render,
    good="fibres run through the seams in “final”, also where they break in “motor only”; thin grey lines in the graph.",
    bad="doubled fibres along seams; thick orange lines that are not dashed (a wrong pair was trusted); long "
    "arrows in one row (a stage scale or camera angle that the model does not hold).",
    inputs=(_STEP,),
    thresholds=("tile_residual_p95_um", "tile_residual_rms_um", "seam_step_percent", "seam_l1", "seam_pearson"),
)  # fmt: skip
