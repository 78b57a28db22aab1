"""Section 7: brightness from slice to slice: levels before and after, what repeats at the slice interval."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import Band, Series, chart
from soct.report.markup import EMPTY, facts, figure, join, note, number
from soct.report.reportlet import Page, Reportlet
from soct.report.spectrum import DepthSpectrum, depth_spectrum

_GAIN, _STACK, _BIAS, _LEVEL_Z = (
    "normalize",
    "stack",
    "correct_bias_field",
    "normalize_z_intensity",
)


def render(page: Page) -> Markup:
    """Draw the levels and gains of the slices, then brightness and its spectrum along depth."""
    if not page.figures.has(_GAIN) and not page.figures.has(_STACK):
        return note("No slice is normalised and none is stacked yet.")
    parts = [
        page.guarded("Facts", lambda: _facts(page)),
        page.guarded("Level per slice", lambda: _levels(page)),
        page.guarded("Gain per slice", lambda: _gains(page)),
        page.guarded("Brightness along depth", lambda: _depth(page)),
        page.guarded("Banding spectrum", lambda: _spectrum(page)),
    ]
    return join(part for part in parts if part)


def _facts(page: Page) -> Markup:
    found = page.view.numbers(_STACK, "banding_index")
    banding = number(found[0][1]) if found else "not measured"
    pairs = [("Banding index", banding)]
    spread = page.view.numbers(_GAIN, "gain_spread")
    if spread:
        pairs.append(("Scatter of the slices’ gains", number(100 * spread[0][1], "%")))
    for name, label in (
        ("gain_limited", "Gains at their limit"),
        ("slices_empty", "Slices with too little signal"),
    ):
        counted = page.view.numbers(_GAIN, name)
        if counted:
            pairs.append((label, _which(page, name, int(counted[0][1]))))
    return facts(pairs)


def _which(page: Page, name: str, amount: int) -> str:
    array = {"gain_limited": "limited", "slices_empty": "empty"}[name]
    if amount == 0:
        return "none"
    if not page.figures.has(_GAIN) or array not in page.figures.names(_GAIN):
        return str(amount)
    ids, chosen = page.figures.arrays(_GAIN, "run", "slice_ids", array)
    named = [str(i) for i, hit in zip(ids.tolist(), chosen.tolist(), strict=True) if hit]
    text = ", ".join(named[:12]) + (" …" if len(named) > 12 else "")
    return f"{amount}: slice{'s' if amount > 1 else ''} {text}"


def _levels(page: Page) -> Markup:
    if not page.figures.has(_GAIN):
        return note("The slices are not normalised yet.")
    ids, before, after = page.figures.arrays(_GAIN, "run", "slice_ids", "before", "after")
    whole = {"extremes_before", "extremes_after"} <= page.figures.names(_GAIN)
    drawn = []
    for label, level in (("before", before), ("after", after)):
        lines = [Series("median", ids, level / _typical(level), 0, "both")]
        if whole:
            extremes = page.figures.array(_GAIN, "run", f"extremes_{label}", ndim=2)
            lines += [
                Series("P99", ids, extremes[:, 1] / _typical(level), 1, dashed=True),
                Series("P1", ids, extremes[:, 0] / _typical(level), 2, dashed=True),
            ]
        drawn.append(
            figure(
                chart(
                    lines,
                    title=f"Brightness of tissue in every slice {label} normalisation",
                    x_label="slice",
                    y_label="over typical median",
                    include_zero=True,
                    width=460,
                ),
                f"{label.capitalize()} normalisation.",
            )
        )
    missing = "" if whole else " This run did not save P1 and P99."
    caption = f"Tissue brightness of every slice, over the median slice’s.{missing}"
    return Markup('<h3>Level of every slice</h3><div class="row">{}</div><p>{}</p>').format(
        join(drawn), caption
    )


def _gains(page: Page) -> Markup:
    if not page.figures.has(_GAIN):
        return EMPTY
    ids, gain = page.figures.arrays(_GAIN, "run", "slice_ids", "gain")
    limits = [
        Band(float(known.value), label)
        for name, label in (("min_scale", "least gain"), ("max_scale", "greatest gain"))
        if (known := page.view.parameter(f"{_GAIN}.{name}")) and _is_number(known.value)
    ]
    lines = [Series("gain", ids, gain, 0, "both")]
    if "limited" in page.figures.names(_GAIN):
        held = page.figures.array(_GAIN, "run", "limited").astype(bool)
        if held.any():
            lines.append(Series("at its limit", ids[held], gain[held], 1, "points"))
    drawn = chart(
        lines,
        title="Gain of every slice",
        x_label="slice",
        y_label="gain",
        limits=limits,
        height=150,
    )
    return figure(
        drawn,
        "Gain that was applied, before one factor for the whole run. A gain at its limit leaves a step.",
    )


def _depth(page: Page) -> Markup:
    if not page.figures.has(_STACK) or "plane_median" not in page.figures.names(_STACK):
        return EMPTY
    lines = _curves(page)
    starts = page.figures.array(_STACK, "run", "z_boundaries").ravel()
    drawn = chart(
        [
            Series(label, np.arange(c.size), c, k, dashed=k > 0)
            for k, (label, c) in enumerate(lines)
        ],
        title="Median tissue brightness of every plane of the volume",
        x_label="plane",
        y_label="median brightness",
        include_zero=True,
        marks=tuple(float(s) for s in starts) if starts.size <= 60 else (),
    )
    return Markup("<h3>Brightness along depth</h3>{}").format(
        figure(drawn, "Dotted lines: where each slice starts. Stripes show as a saw-tooth.")
    )


def _spectrum(page: Page) -> Markup:
    if not page.figures.has(_STACK) or "plane_median" not in page.figures.names(_STACK):
        return EMPTY
    names = page.figures.names(_STACK)
    starts = page.figures.array(_STACK, "run", "z_boundaries").ravel()
    valid = (
        page.figures.array(_STACK, "run", "plane_valid_fraction").ravel()
        if "plane_valid_fraction" in names
        else None
    )
    spectra = [
        (label, found)
        for label, curve in _curves(page)
        if (found := depth_spectrum(curve, starts, valid if label == "stacked" else None))
    ]
    if not spectra:
        return note("Banding spectrum: not measured; it needs at least three slices that follow each other.")  # fmt: skip
    drawn = chart(
        [
            Series(label, s.repeats_per_slice, s.amplitude_percent, k, dashed=k > 0)
            for k, (label, s) in enumerate(spectra)
        ],
        title="Amplitude of brightness along depth by how often it repeats per slice",
        x_label="repeats per slice interval",
        y_label="amplitude (%)",
        include_zero=True,
        marks=(1.0, 2.0, 3.0, 4.0),
    )
    return figure(drawn, " ".join([*(_said(label, s) for label, s in spectra), "Banding is a peak at 1 (dotted), with overtones at 2, 3 and 4; slower changes are anatomy and are left out."]))  # fmt: skip


def _said(label: str, spectrum: DepthSpectrum) -> str:
    period = number(spectrum.planes_per_slice)
    return (
        f"{label.capitalize()}: {number(spectrum.at_slice_percent, '%')} at the slice interval "
        f"({period} planes)."
    )


def _curves(page: Page) -> list[tuple[str, NDArray[np.float64]]]:
    """Brightness of the planes as stacked, and as each later step over the whole volume left it."""
    found = [("stacked", page.figures.array(_STACK, "run", "plane_median").ravel().astype(float))]
    for step, label in ((_BIAS, "bias field corrected"), (_LEVEL_Z, "levelled along z")):
        if page.figures.has(step) and "plane_after" in page.figures.names(step):
            after = page.figures.array(step, "run", "plane_after").ravel().astype(float)
            if after.size == found[0][1].size:
                found.append((label, after))
    return found


def _typical(level: NDArray[Any]) -> float:
    known = level[np.isfinite(level) & (level > 0)]
    return float(np.median(known)) if known.size else 1.0


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


REPORTLET = Reportlet(
    id="between-slices",
    order=75,
    title="Between-slice intensity",
    question="Does brightness change where tissue changes, and not where slices meet?",
    render=render,
    good="medians in one line after normalisation, P1 and P99 beside them; a spectrum without a peak at 1.",
    bad="a peak at 1 and a saw-tooth along depth (raise compensate_attenuation.strength); one slice off the line (its "
    "gain reached a limit: widen normalize.min_scale and max_scale).",
    inputs=(_GAIN, _STACK, _BIAS, _LEVEL_Z),
    thresholds=("banding_index",),
)
