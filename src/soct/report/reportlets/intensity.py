"""Section 4: brightness: galvo, flat field, axial profile, surface, signal over noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import Band, Series, chart
from soct.report.examples import choose_examples
from soct.report.figures import FigureError
from soct.report.images import Picture, robust_window
from soct.report.markup import EMPTY, count, figure, flicker, join, note, number, picture
from soct.report.overlays import scale_overlay
from soct.report.reportlet import Page, Reportlet
from soct.report.saturation_figures import draw_saturation
from soct.report.slice_pictures import STITCH, StitchedSlice, stitched_slice

_FLAT, _BEAM, _SURFACE, _DEPTH = (
    "fix_illumination",
    "beam_profile_correction",
    "crop_interface",
    "compensate_attenuation",
)
_GRID = "create_mosaic_grid"
_BIAS, _LEVEL_Z = "correct_bias_field", "normalize_z_intensity"


def render(page: Page) -> Markup:
    """Draw one part per correction that ran."""
    parts = [
        page.guarded(title, lambda draw=draw: draw(page))  # type: ignore[misc]
        for title, draw in (
            ("Saturation", draw_saturation),
            ("Galvo return", _galvo),
            ("Flat field", _flat_field),
            ("Axial profile", _axial_profile),
            ("Surface", _surface),
            ("Signal over noise", _contrast),
            ("Bias field", lambda page: _volume_pass(page, _BIAS, "Bias field of the volume")),
            ("Level along z", lambda page: _volume_pass(page, _LEVEL_Z, "Level of the planes")),
        )
    ]
    drawn = [part for part in parts if part]
    return join(drawn) if drawn else note("No intensity correction has run yet.")


def _galvo(page: Page) -> Markup:
    found = page.view.numbers(_GRID, "galvo_confidence")
    if not found:
        return EMPTY
    decisions = {}
    for unit, _ in found:
        decision = unit.metric("galvo_decision")
        shift = unit.metric("galvo_shift")
        text = str(decision.value) if decision else ""
        decisions[unit.slices] = (text, shift.value if shift else None)
    values = [v for _, v in found]
    ids = [u.slices[0] if u.slices else 0 for u, _ in found]
    same = {d for d, _ in decisions.values()}
    low, high = number(min(values)), number(max(values))
    summary = Markup("<p>Confidence {} over {}{}.</p>").format(
        low if low == high else f"{low} to {high}", count(len(values), "slice"),
        f"; decision for all: {same.pop()}" if len(same) == 1 else "",
    )  # fmt: skip
    limit = page.view.limits.galvo_confidence.warning
    drawn = chart(
        [Series("confidence", ids, values, style="points")],
        title="Galvo confidence per slice",
        x_label="slice",
        y_label="confidence",
        limits=(Band(limit, "limit"),),
        height=150,
    )
    body = figure(drawn) if len(values) > 2 else EMPTY
    least = found[int(np.argmin(values))][0].name
    profile = page.guarded(f"Galvo profile of {least}", lambda: galvo_profile(page, least))
    return _part("Galvo return", join([summary, body, profile]))


def galvo_profile(page: Page, unit: str) -> Markup:
    """Draw the mean brightness of the A-lines of one slice's frames, with the decision."""
    if not page.figures.has(_GRID, unit) or "profile" not in page.figures.names(_GRID, unit):
        return note(f"{unit} saved no profile of its A-lines.")
    profile = page.figures.array(_GRID, unit, "profile", ndim=1)
    shift = int(page.figures.array(_GRID, unit, "shift"))
    # Rolling by `shift` brings the return lines to the end of the frame.
    start = (profile.size - shift) % profile.size if profile.size else 0
    drawn = chart(
        [Series("brightness", np.arange(profile.size), profile)],
        title=f"Mean brightness of every A-line of the frames of {unit}, as recorded",
        x_label="A-line of the frame",
        y_label="mean brightness",
        height=150,
        marks=(float(start),) if shift else (),
    )
    caption = f"{unit}, the least sure slice: mean over its frames as recorded. " + (
        f"They are rolled by {shift} A-lines: the frame begins at the dotted line."
        if shift
        else "They are not rolled."
    )
    return figure(drawn, caption)


def _flat_field(page: Page) -> Markup:
    parts = []
    for unit in page.figures.units(_FLAT)[:3]:
        names = page.figures.names(_FLAT, unit)
        row = []
        if "flat" in names:
            flat = page.figures.array(_FLAT, unit, "flat", ndim=2)
            low, high = float(np.nanmin(flat)), float(np.nanmax(flat))
            image = page.images.encode(flat, window=(low, high), colours="cividis", max_side=300)
            overlay = _scale(page, image, lambda slice_: slice_.tile[1] * slice_.pixel_um, 300)
            row.append(figure(picture(image, "Flat field", overlay=overlay, width=300), _flat_text(low, high)))  # fmt: skip
        if {"before", "after"} <= names:
            before, after = page.figures.arrays(_FLAT, unit, "before", "after")
            body = _pair(page, f"flat-{unit}", before, after, "Mosaic with and without the flat field", ("raw", "corrected"))  # fmt: skip
            which = (
                f" of slice {int(page.figures.array(_FLAT, unit, 'slice_id'))}"
                if "slice_id" in names
                else ""
            )
            row.append(
                figure(
                    body,
                    f"Tiles{which} side by side by the stage, each picture scaled to its own brightness. A grid of tile edges should be seen in “raw” at most.",
                )
            )
        parts.append(Markup('<div class="row">{}</div>').format(join(row)))
    return _part("Flat field", join(parts)) if parts else EMPTY


def _flat_text(low: float, high: float) -> str:
    return (
        f"One tile: brightness that all tiles share, {number(low)} (dark blue) to {number(high)} (yellow), 1 on average. "
        "Smooth and brightest near the middle is the beam; outlines of tissue are an error."
    )


def _scale(
    page: Page,
    image: Picture,
    width_um: Callable[[StitchedSlice], float],
    shown: int,
    unit: str = "",
) -> Markup:
    """Return a scale bar by what a stitched slice says of its pixels; none where no slice is stitched yet."""
    stitched = page.figures.units(STITCH)
    if not stitched or (unit and unit not in stitched):
        return EMPTY
    try:
        found = width_um(stitched_slice(page.figures, unit or stitched[0]))
    except (FigureError, ValueError):
        return EMPTY
    return scale_overlay(image, found, shown=shown)


def _axial_profile(page: Page) -> Markup:
    parts = []
    for unit in page.figures.units(_BEAM)[:1]:
        names = page.figures.names(_BEAM, unit)
        depth = page.figures.array(_BEAM, unit, "depth_um").ravel()
        lines = []
        for i, (name, label) in enumerate(
            (("before", "before"), ("after", "after"), ("profile", "profile divided out"))
        ):
            if name in names:
                values = _typical(page.figures.array(_BEAM, unit, name))
                if values.size == depth.size:
                    lines.append(Series(label, depth, values / _largest(values), (1, 0, 4)[i], dashed=name == "profile"))  # fmt: skip
        parts.append(
            figure(
                chart(
                    lines,
                    title="Brightness along depth before and after the axial profile was divided out",
                    x_label="depth (µm)",
                    y_label="relative brightness",
                    include_zero=True,
                ),
                "Median over the slices, each curve by its own maximum. “After” should be level from just below the "
                "surface to where data end (0: no data); a slope is attenuation that compensate_attenuation takes next.",
            )
        )
    return _part("Axial profile", join(parts)) if parts else EMPTY


def _largest(values: NDArray[np.float64]) -> float:
    known = np.abs(values[np.isfinite(values)])
    return float(known.max()) or 1.0 if known.size else 1.0


def _typical(profiles: NDArray[Any]) -> NDArray[np.float64]:
    """One profile, or the median over the profiles ``(slice, depth)`` where they hold data."""
    data = np.asarray(profiles, dtype=np.float64)
    if data.ndim == 1:
        return data
    measured = np.isfinite(data).any(axis=0)
    typical = np.full(data.shape[-1], np.nan)
    typical[measured] = np.nanmedian(data[:, measured], axis=0)
    return typical


def _surface(page: Page) -> Markup:
    chosen = _surface_examples(page)
    if not chosen:
        return EMPTY
    drawn = []
    for unit, why in chosen:
        surface = page.figures.array(_SURFACE, unit, "surface", ndim=2)
        window = robust_window(surface, low=0.5, high=99.5)
        image = page.images.encode(surface, window=window, colours="cividis", max_side=240)
        overlay = _scale(
            page, image, lambda found: found.after.shape[1] * found.pixel_um, 240, unit
        )
        drawn.append(
            figure(
                picture(image, f"Surface height of {unit}", overlay=overlay, width=240),
                f"{unit}, {why}: surface {number(window[0])} (dark blue) to {number(window[1])} µm (yellow) deep",
            )
        )
    said = (
        "Where the cut surface lies in each A-line; depth is counted from it. Good: level or gently tilted, a few µm "
        "of relief. Bad: tissue outlines, single spots far off (the surface was missed there), a plane that runs out "
        "of the recorded depth."
    )
    body = Markup('<p class="question">{}</p><div class="row">{}</div>').format(said, join(drawn))
    return _part("Surface height", body)


def _surface_examples(page: Page) -> list[tuple[str, str]]:
    """Return the slice of greatest tilt, a median and a random one, as far as they saved a surface."""
    saved = set(page.figures.units(_SURFACE))
    for metric, what in (("interface_tilt_deg", "tilt"), ("interface_spread_um", "relief")):
        found = [(u.name, v) for u, v in page.view.numbers(_SURFACE, metric) if u.name in saved]
        if found:
            return [
                (
                    e.unit,
                    f"{'greatest' if e.why == 'worst' else e.why} {what}"
                    if e.why != "random"
                    else e.why,
                )
                for e in choose_examples(found, seed=page.view.subject, worst=1)
            ]
    examples = choose_examples(
        [(name, 0.0) for name in sorted(saved)], seed=page.view.subject, worst=0
    )
    return [(e.unit, "an example") for e in examples]


def _contrast(page: Page) -> Markup:
    """Draw signal over noise of tissue, slice by slice."""
    found = page.view.numbers(_DEPTH, "tissue_snr")
    if not found:
        return EMPTY
    values = [v for _, v in found]
    ids = [u.slices[0] if u.slices else 0 for u, _ in found]
    limit = page.view.limits.tissue_snr.warning
    worst = ids[int(np.argmin(values))]
    drawn = chart(
        [Series("signal over noise", ids, values, style="both")],
        title="Signal of tissue over the noise of a voxel, per slice",
        x_label="slice",
        y_label="signal / noise",
        limits=(Band(limit, "limit"),),
        include_zero=True,
        height=150,
    )
    caption = f"Half way down each slice; least in slice {worst} ({number(min(values))})."
    return _part("Signal over noise", figure(drawn, caption))


def _volume_pass(page: Page, step: str, title: str) -> Markup:
    """Draw a step that rewrote the whole volume: pictures before and after, its field, its effect on the planes."""
    if not page.figures.has(step):
        return EMPTY
    names = page.figures.names(step)
    row = []
    for prefix, label in (("", "Middle plane"), ("reslice_", "Reslice along depth")):
        first, second = page.figures.arrays(step, "run", f"{prefix}before", f"{prefix}after")
        key = f"{step}-{prefix or 'plane'}"
        row.append(figure(_pair(page, key, first, second, label, ("before", "after"))))
    if "field" in names:
        field = page.figures.array(step, "run", "field", ndim=2)
        low, high = float(np.nanmin(field)), float(np.nanmax(field))
        image = page.images.encode(field, window=(low, high), colours="cividis", max_side=300)
        row.append(figure(picture(image, "Field that was divided out", width=300), f"What the middle plane was divided by, {number(low)} (dark blue) to {number(high)} (yellow)"))  # fmt: skip
    before, after = page.figures.arrays(step, "run", "plane_before", "plane_after")
    starts = page.figures.array(step, "run", "z_boundaries").ravel()
    planes = np.arange(before.size)
    drawn = chart(
        [Series("before", planes, before, 1, dashed=True), Series("after", planes, after, 0)],
        title="Median brightness of every plane before and after",
        x_label="plane",
        y_label="median brightness",
        include_zero=True,
        marks=tuple(float(s) for s in starts) if starts.size <= 60 else (),
    )
    parts = [
        Markup('<div class="row">{}</div>').format(join(row)),
        figure(drawn, "Median brightness of every plane. Dotted lines: where sections begin."),
    ]
    return _part(title, join(parts))


def _pair(
    page: Page,
    key: str,
    before: NDArray[Any],
    after: NDArray[Any],
    title: str,
    labels: tuple[str, str],
) -> Markup:
    """Two pictures that differ in brightness, each scaled by its own median so that shape is compared."""
    drawn = []
    for array, label in ((before, labels[0]), (after, labels[1])):
        data = np.asarray(array, dtype=np.float32)
        image = page.images.encode(data, window=robust_window(data), max_side=420)
        drawn.append(picture(image, f"{title}: {label}", width=420))
    return flicker(key, drawn[0], drawn[1], labels=labels, title=title)


def _part(title: str, body: Markup) -> Markup:
    return Markup("<h3>{}</h3>{}").format(title, body)


REPORTLET = Reportlet(
    id="intensity",
    order=50,
    title="Intensity",
    question="Is brightness a property of the tissue, and not of the microscope?",
    render=render,
    good="a smooth flat field that looks like vignetting; a flat profile after correction; signal well over noise "
    "in every slice.",
    bad="tissue outlines in the flat field (too few tiles: pool more slices), a profile that still falls with depth "
    "(compensate_attenuation), a repeated dark column (galvo return), orange tiles in the map of saturation (less "
    "light at the next acquisition).",
    inputs=(_GRID, _FLAT, _BEAM, _SURFACE, _DEPTH, _BIAS, _LEVEL_Z),
    thresholds=("saturated_percent", "contrast_kept", "galvo_confidence", "background_std", "agarose_coverage", "tissue_snr"),
)  # fmt: skip
