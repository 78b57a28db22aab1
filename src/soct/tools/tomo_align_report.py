"""The report of `soct tomo align`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import Series, chart
from soct.report.images import ImageEncoder
from soct.report.markup import figure, join, note, number
from soct.report.rendering import draw_section
from soct.space import FloatArray
from soct.tomography import reconstruct_slice
from soct.tools.tomo_align import Alignment, AlignOptions
from soct.tools.tomo_blocks import aligned_rows
from soct.tools.tomo_input import Projections
from soct.tools.tomo_reconstruct_report import axis_chart
from soct.tools.tomo_report import (
    Example,
    Residuals,
    draw_example,
    draw_method,
    draw_overview,
    draw_residuals,
    draw_shifts,
    write_page,
)
from soct.tools.tomo_shifts import DOCUMENT, TABLE
from soct.tools.tomo_words import listed

_ALIGNED_PX = 0.1
_GAUGE = (
    "A constant shift, and a horizontal one like the cosine or the sine of the angle, only moves the whole object: projections "
    "cannot tell it, and it is taken out."
)
_VERTICAL = "root mean square difference of each projection's mass per row to the mean of all, as a part of what changes over the rows."
_HORIZONTAL = "root mean square difference of each projection to what the projections from all other sides say of it, as a part of the sinogram's own."


def write_align_report(
    opened: Projections, made: Alignment, options: AlignOptions, path: Path, name: str
) -> None:
    """Write the page."""
    encoder = ImageEncoder()
    example = make_example(opened, made, options)
    residuals = _residuals(made)
    sections = [
        draw_section(
            lambda: join(
                [
                    draw_overview(name, made.verdict(), made.warnings, _facts(opened, made)),
                    draw_example(example, encoder, "slice"),
                ]
            ),
            "alignment",
            name,
            "What came out, and what is to be looked at?",
            good="the aligned slice is sharper than the measured one, and residuals are lower.",
            bad="the aligned slice has doubled edges, or is less sharp than the measured one."
            if _moved(made)
            else "the slice has doubled edges: hardly any shift was found, and both slices look alike.",
        ),
        draw_section(
            lambda: join(
                [
                    draw_shifts(opened.numbers, made.shifts, _measured(made)),
                    Markup("<p>{}</p>").format(_GAUGE),
                    _uncertainty(made, opened.numbers),
                ]
            ),
            "shifts",
            "Shifts",
            "By how much is every projection displaced?",
            good="no steps or single peaks that the scan cannot explain.",
            bad="single projections far from their neighbours with a high residual.",
        ),
        draw_section(
            lambda: draw_example(example, encoder, "sinogram"),
            "sinogram",
            "Sinogram",
            "Are the traces of the object smooth?",
            good="every trace is a smooth sine in the aligned sinogram.",
            bad="traces that are jagged from line to line.",
        ),
        draw_section(
            lambda: draw_residuals(residuals, opened, made.shifts, _measured(made)),
            "residuals",
            "Residuals",
            "Which projections do not fit the others?",
            good="low and even after the alignment.",
            bad="single projections that stand out: look at them, and leave them out if they are spoilt.",
        ),
        draw_section(
            lambda: axis_chart(made.axis) if made.axis is not None else note("The rotation axis was not estimated."),
            "axis",
            "Rotation axis",
            "Where is the axis of the aligned projections?",
        ),
        draw_section(
            lambda: _method(opened, made, options), "method", "Method", "How was this made?"
        ),
    ]  # fmt: skip
    write_page(path, sections, name)


def make_example(opened: Projections, made: Alignment, options: AlignOptions) -> Example:
    """Return the middle one of the rows that were aligned, before and after."""
    rows = made.horizontal.rows if made.horizontal is not None else ()
    row = rows[len(rows) // 2] if rows else opened.first_row + opened.rows // 2
    inside = row - opened.first_row
    chosen = slice(inside, inside + 1)
    still = np.zeros_like(made.shifts)
    sinograms = tuple(aligned_rows(opened, s, chosen)[:, 0] for s in (still, made.shifts))
    axis = made.axis.axis if made.axis is not None else options.axis
    slices = tuple(_slice(opened, sinogram, axis, options) for sinogram in sinograms)
    return Example(row, (sinograms[0], sinograms[1]), (slices[0], slices[1]))


def _slice(
    opened: Projections, sinogram: FloatArray, axis: float | None, options: AlignOptions
) -> FloatArray:
    return np.asarray(
        reconstruct_slice(
            sinogram.T, opened.radians, theta_unit="rad", axis=axis, derivatives=options.derivatives
        )
    )


def _moved(made: Alignment) -> bool:
    return bool(made.shifts.std(axis=1).max() > _ALIGNED_PX)


def _measured(made: Alignment) -> tuple[bool, bool]:
    return (
        made.vertical is not None and made.vertical.is_measured,
        made.horizontal is not None,
    )


def _facts(opened: Projections, made: Alignment) -> list[tuple[str, str]]:
    told = [
        ("Projections", f"{opened.count} of {opened.rows} × {opened.cols} pixels"),
        ("Angles", f"{number(opened.span_deg)}°"),
    ]
    for name, part in (("Vertical shifts", made.vertical), ("Horizontal shifts", made.horizontal)):
        if part is None:
            told.append((name, "not asked for"))
        elif part is made.vertical and not made.vertical.is_measured:
            told.append((name, "not measured"))
        else:
            told.append((name, f"{number(float(part.shifts.std()), 'px')} RMS"))
    if made.axis is not None:
        told.append(("Rotation axis", f"{made.axis.measured('±')} px"))  # fmt: skip
    return told


def _residuals(made: Alignment) -> list[Residuals]:
    found = []
    vertical, horizontal = made.vertical, made.horizontal
    if vertical is not None and vertical.is_measured:
        found.append(Residuals("vertical", vertical.residual_before, vertical.residual_after, _VERTICAL))  # fmt: skip
    if horizontal is not None:
        found.append(Residuals("horizontal", horizontal.residual_before, horizontal.residual_after, _HORIZONTAL, horizontal.residual_expected))  # fmt: skip
    return found


def _uncertainty(made: Alignment, numbers: NDArray[np.int64]) -> Markup:
    series = []
    for i, (name, part) in enumerate((("vertical", made.vertical), ("horizontal", made.horizontal))):  # fmt: skip
        if part is not None and np.isfinite(part.uncertainty).any():
            known = np.where(np.isfinite(part.uncertainty), part.uncertainty, np.nan)
            series.append(Series(name, numbers, known, colour=i, dashed=i == 1))
    if not series:
        return note("How sure the shifts are is not known: one slice has nothing to compare with.")
    drawn = chart(
        series,
        title="How sure the shift of each projection is",
        x_label="projection",
        y_label="standard deviation (px)",
        include_zero=True,
        height=160,
    )
    caption = "How sure each shift is: vertically by the noise of the mass per row, horizontally by how far the slices agree about it."
    return figure(drawn, caption)


def _method(opened: Projections, made: Alignment, options: AlignOptions) -> Markup:
    told = [("Input", f"{opened.stack.path.name} ({opened.stack.layout})")]
    text = ""
    if made.vertical is not None and made.vertical.is_measured:
        told.append(("Vertical", f"rows {made.vertical.rows[0]} to {made.vertical.rows[-1]}"))
        text += (
            "Vertically, the mass in every row, which is the same from all sides, is compared with the mean of all projections; shifts "
            "and a slow background of each are found together. "
        )
    if made.horizontal is not None:
        rows = made.horizontal.rows
        told.append(("Horizontal", f"{len(rows)} slices, rows " + ", ".join(map(str, rows))))
        text += (
            "Horizontally, each slice by itself tells the shifts that make its projections from all sides one object; what most slices say "
            "of a projection is taken. "
        )
    if opened.excluded:
        told.append(("Left out", listed(opened.excluded, 20)))
    limit = "a quarter of the rows" if options.max_shift is None else f"{options.max_shift:g} px"  # fmt: skip
    told += [
        ("Greatest vertical displacement", limit),
        ("Projections are", "derivatives along the detector" if options.derivatives else "line integrals"),
        ("Detector frequencies of re-projection", f"up to {options.freqcutoff:g} of the greatest"),
        ("Interpolation of the stack", options.method),
    ]  # fmt: skip
    return draw_method(told, made.notes, text, [TABLE, DOCUMENT])
