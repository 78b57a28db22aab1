"""The report of a montage: one page beside it that loads nothing and is the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct import __version__
from soct.formats.atomic import write_bytes
from soct.report.charts import Series, chart
from soct.report.examples import choose_examples
from soct.report.images import ImageEncoder, robust_window
from soct.report.markup import (
    EMPTY,
    Cell,
    facts,
    figure,
    flicker,
    join,
    note,
    number,
    picture,
    pill,
    table,
)
from soct.report.rendering import Section, draw_section, render_sections
from soct.report.residual_graph import ResidualGraph, draw_residual_graph
from soct.space import FloatArray
from soct.tools.montage import Montage
from soct.tools.montage_tables import REASONS, pair_table

_SIDE = 920
_SEAM_SIDE = 300
_SEAM_PX = 150
_FULL_RESIDUAL_PX = 1.0
_BINS = 24
_TABLE_ROWS = 2000
_MODELS = {
    "rigid": "images are moved only",
    "similarity": "images are moved, turned and scaled",
    "affine": "images are moved, turned, scaled and sheared",
}


def write_montage_report(
    made: Montage, preview: FloatArray, mosaic: Path, report: Path, blend: float
) -> None:
    """Write the page.

    Parameters
    ----------
    made : Montage
    preview : ndarray (y, x)
        A small picture of the mosaic; NaN where no image is.
    mosaic : Path
        The file that the page is about.
    report : Path
        The page.
    blend : float
        Width over which images fade, in pixels.
    """
    text = render_montage_report(made, preview, mosaic.name, blend)
    write_bytes(report, text.encode("utf-8", "backslashreplace"))


def render_montage_report(made: Montage, preview: FloatArray, name: str, blend: float) -> str:
    """Return the page as text; the same montage gives the same bytes."""
    encoder = ImageEncoder()
    sections = [
        draw_section(
            lambda: _overview(made, preview, name, encoder),
            "mosaic",
            name,
            "What came out, and what is to be looked at?",
            good="structures run through the borders of images; every image is measured.",
            bad="doubled or broken structures; an image at a place where it does not belong.",
        )
    ]
    if made.is_measured:
        sections += _measured_sections(made, encoder)
    sections += [
        draw_section(
            lambda: _tiles(made),
            "tiles",
            "Images",
            "Where does every image lie, and how sure is that?",
        ),
        draw_section(
            lambda: _method(made, blend),
            "method",
            "Method",
            "How was this made?",
        ),
    ]
    return render_sections(
        sections,
        title=f"{name} (soct montage)",
        brand="soct montage",
        version=__version__,
        footer=f"soct {__version__} · all positions and residuals are in pixels of the images.",
    )


def _measured_sections(made: Montage, encoder: ImageEncoder) -> list[Section]:
    return [
        draw_section(
            lambda: join([_graph(made), _histogram(made)]),
            "residuals",
            "Residuals",
            "Do the matches agree with each other?",
            good="thin grey lines; most residuals far below a pixel.",
            bad="thick orange lines that are not dashed: a match that the others contradict was used.",
        ),
        draw_section(
            lambda: _seams(made, encoder),
            "seams",
            "Seams",
            "Do neighbouring images show the same at the same place?",
            good="nothing moves when you switch between the two images.",
            bad="structures jump: the match is wrong, or the images are distorted.",
        ),
        draw_section(
            lambda: _pairs(made), "pairs", "Matches", "What did every pair of neighbours say?"
        ),
    ]


def _overview(made: Montage, preview: FloatArray, name: str, encoder: ImageEncoder) -> Markup:
    placement, images = made.placement, made.images
    h, w = images.shape
    told = [("Images", f"{len(images)} of {w} × {h} pixels, {images.dtype}")]
    if made.is_measured:
        accepted, total = int(placement.pair_accepted.sum()), len(placement.pairs)
        told += [
            ("Measured", f"{int(placement.measured.sum())} of {len(images)} images"),
            ("Matches used", f"{accepted} of {total}"),
            ("RMS residual", number(placement.rms_residual_px, "px")),
        ]
        if made.maps is not None:
            told.append(
                (
                    f"RMS residual, {made.options.model}",
                    f"{number(made.maps.rms_px, 'px')} of {made.maps.accepted} places "
                    f"({number(made.maps.rigid_rms_px, 'px')} with shifts alone)",
                )
            )
    status = "warning" if made.warnings else "ok"
    words = "see below" if made.warnings else "nothing to look at"
    warnings = join(Markup("<li>{}</li>").format(text) for text in made.warnings)
    encoded = encoder.encode(preview, max_side=_SIDE)
    shown = picture(encoded, f"The mosaic {name}", width=min(_SIDE, 2 * encoded.width))
    return join(
        [
            Markup("<h1>{}</h1><p>{}</p>").format(name, pill(status, words)),
            facts(told),
            Markup('<ul class="warnings">{}</ul>').format(warnings) if warnings else EMPTY,
            figure(shown, "The mosaic, made smaller and stretched for the screen; the file is not."),
        ]
    )  # fmt: skip


def _graph(made: Montage) -> Markup:
    placement = made.placement
    inside = made.group[placement.pairs[:, 0]] == made.group[placement.pairs[:, 1]]
    chosen = inside | ~placement.pair_accepted
    # Without a stage there is nothing that images were moved from.
    known = made.layout.kind != "images"
    graph = ResidualGraph(
        positions=made.positions_px,
        nominal=made.layout.nominal_px if known else made.positions_px,
        tile=np.array(made.images.shape, np.float64),
        pairs=placement.pairs[chosen],
        residual=placement.pair_residual_px[chosen],
        accepted=placement.pair_accepted[chosen],
        reasons=[r for r, c in zip(placement.pair_reason, chosen, strict=True) if c],
        limit=_FULL_RESIDUAL_PX,
        unit="px",
        expected="where the layout has them" if known else "their places",
    )
    return draw_residual_graph(graph, "Residual graph")


def _histogram(made: Montage) -> Markup:
    placement = made.placement
    values = placement.pair_residual_px[placement.pair_accepted]
    values = values[np.isfinite(values)]
    if not values.size:
        return EMPTY
    top = max(float(values.max()), 1e-3)
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, top))
    x = np.repeat(edges, 2)[1:-1]
    drawn = chart(
        [Series("matches", [0.0, *x, top], [0, *np.repeat(counts, 2), 0])],
        title=f"Residuals of {values.size} matches, 0 to {top:.3g} px",
        x_label="residual (px)",
        y_label="matches",
        include_zero=True,
        height=180,
    )
    median, p95 = (float(v) for v in np.percentile(values, [50, 95]))
    caption = (
        f"What the {values.size} matches that are used disagree with the final positions: median "
        f"{number(median, 'px')}, 95th percentile {number(p95, 'px')}."
    )
    return figure(drawn, caption)


def _seams(made: Montage, encoder: ImageEncoder) -> Markup:
    placement = made.placement
    used = np.flatnonzero(placement.pair_accepted)
    values = [(str(k), float(placement.pair_residual_px[k])) for k in used]
    chosen = choose_examples(values, seed="montage", worst=2)
    if not chosen:
        return note("No match is used, so no seam is shown.")
    drawn = [_seam(made, int(e.unit), e.why, encoder) for e in chosen]
    return Markup('<div class="row">{}</div>').format(join(drawn))


def _seam(made: Montage, k: int, why: str, encoder: ImageEncoder) -> Markup:
    placement, names = made.placement, made.images.names
    i, j = (int(v) for v in placement.pairs[k])
    offset = placement.positions_px[j] - placement.positions_px[i]
    first, second = shared_parts(made.images.read(i), made.images.read(j), offset)
    window = robust_window(first, second)
    shown = []
    for image, name in ((first, names[i]), (second, names[j])):
        encoded = encoder.encode(image, window=window, max_side=_SEAM_SIDE)
        shown.append(picture(encoded, f"What {name} shows of the overlap", width=_SEAM_SIDE))
    residual = number(float(placement.pair_residual_px[k]), "px")
    body = flicker(
        f"seam-{k}", shown[0], shown[1], labels=("first", "second"), title=f"{why.capitalize()}: {residual}"
    )  # fmt: skip
    return figure(body, f"{names[i]} and {names[j]} where they overlap.")


def shared_parts(
    first: FloatArray, second: FloatArray, offset: NDArray[np.float64]
) -> tuple[FloatArray, FloatArray]:
    """Cut both images to one square of whole pixels about the middle of their overlap; NaN where an image is not.

    Parameters
    ----------
    first, second : ndarray (y, x)
    offset : ndarray (2,)
        Position of the second image minus that of the first.
    """
    moved = [round(float(v)) for v in offset]
    half = min(_SEAM_PX // 2, min(first.shape) // 2)
    low = [(max(d, 0) + min(n, n + d)) // 2 - half for d, n in zip(moved, first.shape, strict=True)]
    there = [a - d for a, d in zip(low, moved, strict=True)]
    return _frame(first, low, 2 * half), _frame(second, there, 2 * half)


def _frame(image: FloatArray, low: list[int], side: int) -> FloatArray:
    out = np.full((side, side), np.nan, np.float32)
    y0, x0 = max(low[0], 0), max(low[1], 0)
    y1, x1 = min(low[0] + side, image.shape[0]), min(low[1] + side, image.shape[1])
    if y1 > y0 and x1 > x0:
        out[y0 - low[0] : y1 - low[0], x0 - low[1] : x1 - low[1]] = image[y0:y1, x0:x1]
    return out


def _pairs(made: Montage) -> Markup:
    lines = sorted(
        pair_table(made),
        key=lambda r: (not r.accepted, -r.residual_px if np.isfinite(r.residual_px) else 0.0),
    )
    rows = [
        (
            r.first,
            r.second,
            Cell(_px(r.dx_px), r.dx_px if np.isfinite(r.dx_px) else -1e9),
            Cell(_px(r.dy_px), r.dy_px if np.isfinite(r.dy_px) else -1e9),
            Cell(number(r.snr), r.snr),
            Cell(number(r.confidence), r.confidence),
            Cell(_px(r.residual_px), r.residual_px if np.isfinite(r.residual_px) else -1.0),
            "used" if r.accepted else REASONS.get(r.reason, r.reason),
        )
        for r in lines[:_TABLE_ROWS]
    ]
    more = f", the first {_TABLE_ROWS} of {len(lines)}" if len(lines) > _TABLE_ROWS else ""
    return table(
        ("First", "Second", "dx (px)", "dy (px)", "SNR", "Confidence", "Residual (px)", "Used, or why not"),
        rows,
        caption=f"All matches, those used by falling residual{more}",
        numeric=(2, 3, 4, 5, 6),
    )  # fmt: skip


def _px(value: float) -> str:
    return f"{value:.3f}".replace("-", "−") if np.isfinite(value) else "–"


def _tiles(made: Montage) -> Markup:
    placement = made.placement
    rows: list[tuple[Cell | str, ...]] = []
    for i, name in enumerate(made.images.names[:_TABLE_ROWS]):
        y, x = (float(v) for v in made.positions_px[i])
        how = ["measured" if placement.measured[i] else "not measured"]
        if i in placement.weak and placement.measured[i]:
            how.append("weak")
        rows.append(
            (
                name,
                Cell(_px(x), x),
                Cell(_px(y), y),
                Cell(number(float(placement.confidence[i])), float(placement.confidence[i])),
                *_shape_cells(made, i),
                str(int(made.group[i]) + 1) if made.group[i] >= 0 else "–",
                ", ".join(how) if made.is_measured else "as given",
            )
        )
    shape = () if made.maps is None else ("Turned (°)", "Scale")
    return table(
        ("Image", "x (px)", "y (px)", "Confidence", *shape, "Group", "Placed"),
        rows,
        caption="Top-left corner of every image in the mosaic",
        numeric=range(1, 5 + len(shape)),
    )


def _shape_cells(made: Montage, i: int) -> tuple[Cell, ...]:
    """How an image was turned and scaled."""
    if made.maps is None:
        return ()
    linear = made.matrices[i][:, :2]
    turn = float(np.degrees(np.arctan2(linear[1, 0] - linear[0, 1], np.trace(linear))))
    scale = float(np.sqrt(abs(np.linalg.det(linear))))
    return Cell(_px(turn), turn), Cell(f"{scale:.5f}", scale)


def _method(made: Montage, blend: float) -> Markup:
    options, layout = made.options, made.layout
    told: list[tuple[str, Markup | str]] = [("Layout", "; ".join(layout.notes))]
    if made.is_measured:
        told += [
            ("Model", f"{options.model}: {_MODELS[options.model]}"),
            ("Model of the stage", _stage(made)),
        ]
    told += [
        ("Borders", f"images fade over {blend:g} pixels" if blend else "no fading"),
        ("Interpolation", "none: positions are rounded" if options.whole_pixels else "cubic, at sub-pixel positions"),
    ]  # fmt: skip
    text = (
        "Neighbours are compared by their half-whitened cross spectrum on the logarithm of brightness; several peaks of "
        "each are kept, and one robust least squares over all images chooses among them. The overlaps are then cut anew "
        "where they belong, and refined with the weight that every frequency deserves by the coherence of all pairs."
        if made.is_measured
        else "Positions were taken from the positions file as they are; nothing was matched."
    )
    if made.maps is not None:
        text += (
            " Then windows along every overlap were matched by the SWIM method, and the maps of all images found that fit "
            "them best, each drawn towards the mean shape as far as the noise of the matches asks for. Residuals, seams and "
            "matches on this page are those of the shifts."
        )
    return join([facts(told), Markup("<p>{}</p>").format(text)])


def _stage(made: Montage) -> str:
    model = made.placement.model
    if made.layout.kind == "images":
        return "none: positions come from the matches alone"
    turn = float(
        np.degrees(np.arctan2(model.matrix[0, 1] - model.matrix[1, 0], np.trace(model.matrix)))
    )
    return f"turned by {turn:.2f}° against the camera, scatter {model.scatter_px:.2f} px"  # fmt: skip
