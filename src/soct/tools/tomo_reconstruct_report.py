"""The report of `soct tomo reconstruct`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from markupsafe import Markup

from soct.formats.filled_arrays import find_array
from soct.report.charts import Series, chart
from soct.report.images import ImageEncoder
from soct.report.markup import figure, join, note, number, picture
from soct.report.rendering import Section, draw_section
from soct.space import FloatArray
from soct.tools.tomo_axis import AxisFound
from soct.tools.tomo_input import Projections
from soct.tools.tomo_reconstruct import DATASET, Reconstruction, ReconstructOptions, slices_of
from soct.tools.tomo_report import draw_method, draw_overview, draw_shifts, slice_window, write_page

_SIDE = 620
_SMALL_SIDE = 300
_AXIS_STEP_PX = 2.0
_THREE = "grid-template-columns:repeat(3,minmax(0,1fr))"
_ACROSS = 400


def write_reconstruct_report(
    opened: Projections, made: Reconstruction, options: ReconstructOptions, path: Path
) -> None:
    """Write the page."""
    encoder = ImageEncoder()
    sections = [
        draw_section(
            lambda: _overview(opened, made, options, encoder),
            "slices",
            made.out.name,
            "What came out, and what is to be looked at?",
            good="closed edges; small things are points.",
            bad="rings, streaks, crescents beside every small thing, edges that are doubled.",
        ),
        draw_section(
            lambda: _axis(opened, made, options, encoder),
            "axis",
            "Rotation axis",
            "Is the axis where the slice is sharpest?",
            good="the slice in the middle is sharper than both beside it.",
            bad="one of the others is as sharp: give the axis with --axis, or pick it (soct tomo rotation-axis --pick).",
        ),
        *_shift_sections(opened, made),
        draw_section(lambda: _method(opened, made, options), "method", "Method", "How was this made?"),
    ]  # fmt: skip
    write_page(path, sections, made.out.name)


def _shift_sections(opened: Projections, made: Reconstruction) -> list[Section]:
    if not made.shifts.any():
        return []
    which = [bool(row.any()) for row in made.shifts]
    return [
        draw_section(
            lambda: draw_shifts(opened.numbers, made.shifts, which),
            "shifts",
            "Shifts",
            "By how much were projections displaced?",
        )
    ]


def _overview(
    opened: Projections, made: Reconstruction, options: ReconstructOptions, encoder: ImageEncoder
) -> Markup:
    suffix = made.out.suffix.lower()
    volume = find_array(made.out, suffix, DATASET).read()
    rows = sorted({len(volume) // 4, len(volume) // 2, (3 * len(volume)) // 4})
    window = slice_window(volume[len(volume) // 2])
    shown = [
        figure(
            picture(
                encoder.encode(volume[r], window=window, max_side=_SIDE),
                f"Slice {r}",
                width=min(_SIDE, 2 * volume.shape[2]),
            ),
            f"Slice {r} (detector row {opened.first_row + r}).",
        )
        for r in rows
    ]
    if len(volume) >= 16:
        step = max(1, len(volume) // _ACROSS)
        across = np.array(volume[::step, volume.shape[1] // 2])
        encoded = encoder.encode(across, window=window, max_side=_SIDE, pixel_um=(float(step), 1.0))
        shown.append(figure(picture(encoded, "A cut along the rotation axis", width=min(_SIDE, 2 * volume.shape[2])), "A cut along the rotation axis: rows of the detector from the top down."))  # fmt: skip
    turned = f"{opened.count} over {number(opened.span_deg)}°"
    axis = f"{made.axis:.2f} px" if made.found is None else f"{made.found.measured('±')} px"
    told = [
        ("Slices", f"{len(volume)} of {volume.shape[1]} × {volume.shape[2]} pixels"),
        ("Projections", turned),
        ("Rotation axis", axis),
        ("Shifts", options.shifts.name if options.shifts is not None else "none"),
    ]
    verdict = "All slices are reconstructed."
    return draw_overview(
        made.out.name,
        verdict,
        made.warnings,
        told,
        Markup('<div class="row">{}</div>').format(join(shown)),
    )


def _axis(
    opened: Projections, made: Reconstruction, options: ReconstructOptions, encoder: ImageEncoder
) -> Markup:
    middle = opened.rows // 2
    rows = slice(middle, middle + 1)
    tried = [made.axis + d for d in (-_AXIS_STEP_PX, 0.0, _AXIS_STEP_PX)]
    slices = [slices_of(opened, made.shifts, rows, axis, options)[0] for axis in tried]
    part = [_middle(image) for image in slices]
    window = slice_window(slices[1])
    pictures = [
        figure(
            picture(encoder.encode(image, window=window, max_side=_SMALL_SIDE), f"The slice with the axis at {axis:.2f} px", width=_SMALL_SIDE),
            f"Axis at {axis:.2f} px" + (", as used." if axis == made.axis else "."),
        )
        for image, axis in zip(part, tried, strict=True)
    ]  # fmt: skip
    drawn = [Markup('<div class="row" style="{}">{}</div>').format(_THREE, join(pictures))]
    drawn.append(axis_chart(made.found) if made.found is not None else note("The axis was given with --axis."))  # fmt: skip
    return join(drawn)


def _middle(image: FloatArray) -> FloatArray:
    """Return the middle half, where details are seen."""
    quarter = image.shape[0] // 4 if image.shape[0] > _SMALL_SIDE else 0
    return image[quarter : image.shape[0] - quarter, quarter : image.shape[1] - quarter]


def axis_chart(found: AxisFound) -> Markup:
    """Return how badly each axis explains the projections."""
    drawn = chart(
        [Series("axes tried", found.candidates, found.score)],
        title=f"How badly each axis explains the projections; the axis is at {found.axis:.2f} px",
        x_label="axis (px)",
        y_label="unexplained part",
        include_zero=True,
        height=180,
        marks=(found.axis,),
    )
    caption = (
        f"Estimated from the {found.method}: {found.measured('±')} px. The lower, the better the "
        "projections from all sides agree about this axis."
    )
    return figure(drawn, caption)


def _method(opened: Projections, made: Reconstruction, options: ReconstructOptions) -> Markup:
    is_fbp = options.algorithm == "FBP"
    told = [
        ("Input", f"{opened.stack.path.name} ({opened.stack.layout})"),
        ("Algorithm", f"FBP, {options.filtertype} filter" if is_fbp else f"SART, {options.iterations} passes"),
        ("Detector frequencies", "all" if options.freqcutoff == 1 else f"up to {options.freqcutoff:g} of the greatest"),
        ("Projections are", "derivatives along the detector" if options.derivatives else "line integrals"),
    ]  # fmt: skip
    text = (
        "Filtered projections are added up along their rays"
        if is_fbp
        else "Slices are corrected, projection after projection, until they explain what was measured"
    )
    text += (
        "; uneven angles count by the part of the turn that each stands for. A horizontal shift moves the rays and not the "
        "projection, so only vertical shifts are interpolated (spline). Values are those of the object per pixel."
    )
    return draw_method(told, made.notes, text, [made.out.name, made.out.with_suffix(".json").name])
