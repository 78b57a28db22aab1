"""The reports of `soct tomo`: one page beside the output that loads nothing and is the same every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct import __version__
from soct.formats.atomic import write_bytes
from soct.report.charts import Series, chart
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
from soct.report.rendering import Section, render_sections
from soct.space import FloatArray
from soct.tools.tomo_input import Projections

_SIDE = 620
_SINOGRAM_SIDE = 900
_WORST = 10
_WITHIN = 0.95
"""Of the circle: its rim is bright where the object reaches beyond it."""
Facts = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Example:
    """One detector row, before and after.

    Attributes
    ----------
    row : int
        Of the detector.
    sinograms : (ndarray, ndarray)
        ``(n, cols)``, as measured and aligned.
    slices : (ndarray, ndarray)
        Reconstructed from both.
    """

    row: int
    sinograms: tuple[FloatArray, FloatArray]
    slices: tuple[FloatArray, FloatArray]


@dataclass(frozen=True)
class Residuals:
    """What is left between each projection and the others.

    Attributes
    ----------
    name : str
        Of the direction: vertical or horizontal.
    before, after : float64 ndarray (n,)
    meaning : str
        One sentence.
    expected : float64 ndarray (n,), optional
        About what is left where shifts are right.
    """

    name: str
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    meaning: str
    expected: NDArray[np.float64] | None = None


def write_page(path: Path, sections: list[Section], name: str) -> None:
    """Write a page of these sections."""
    text = render_sections(
        sections,
        title=f"{name} (soct tomo)",
        brand="soct tomo",
        version=__version__,
        footer=f"soct {__version__} · shifts and axes are in detector pixels; a shift says where the object lies.",
    )
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def draw_overview(
    title: str, verdict: str, warnings: Sequence[str], told: Facts, shown: Markup = EMPTY
) -> Markup:
    """Return the head of a page: what came out in words, what is to be looked at, the main numbers."""
    listed = join(Markup("<li>{}</li>").format(text) for text in warnings)
    status = "warning" if warnings else "ok"
    words = f"{len(warnings)} to look at" if warnings else "no warnings"
    return join(
        [
            Markup("<h1>{}</h1><p>{} {}</p>").format(title, pill(status, words), verdict),
            Markup('<ul class="warnings">{}</ul>').format(listed) if warnings else EMPTY,
            facts(told),
            shown,
        ]
    )


def draw_shifts(
    numbers: NDArray[np.int64], shifts: NDArray[np.float64], which: Sequence[bool]
) -> Markup:
    """Return a chart of both shifts of every projection."""
    x = numbers
    named = (("vertical (down)", 0), ("horizontal (to the right)", 1))
    series = [
        Series(name, x, shifts[i], colour=i, dashed=i == 1)
        for (name, i), shown in zip(named, which, strict=True)
        if shown
    ]
    if not series:
        return note("No shift was measured.")
    parts = [
        f"{name.partition(' ')[0]} {number(float(shifts[i].std()), 'px')} RMS, "
        f"{number(float(shifts[i].min()), 'px')} to {number(float(shifts[i].max()), 'px')}"
        for (name, i), shown in zip(named, which, strict=True)
        if shown
    ]
    drawn = chart(
        series,
        title=f"Shifts of {len(x)} projections: {'; '.join(parts)}",
        x_label="projection",
        y_label="displacement (px)",
        include_zero=True,
        height=260,
    )
    caption = f"How far the object is displaced in each projection: {'; '.join(parts)}."
    return figure(drawn, caption)


def slice_window(image: FloatArray) -> tuple[float, float]:
    """Return darkest and brightest value of a slice, as its circle has them: what lies outside is 0 and no part of it."""
    y, x = np.indices(image.shape)
    middle = 0.5 * (np.array(image.shape) - 1)
    inside = np.hypot(y - middle[0], x - middle[1]) < _WITHIN * middle.min()
    return robust_window(image[inside] if inside.any() else image, low=1.0, high=99.8)


def draw_example(example: Example, encoder: ImageEncoder, kind: str) -> Markup:
    """Return sinogram or slice of a row as flicker of before and after."""
    is_slice = kind == "slice"
    pair = example.slices if is_slice else example.sinograms
    side = _SIDE if is_slice else _SINOGRAM_SIDE
    window = slice_window(pair[1]) if is_slice else robust_window(pair[1], low=1.0, high=99.8)
    shown = []
    for image, how in zip(pair, ("as measured", "aligned"), strict=True):
        encoded = encoder.encode(image, window=window, max_side=side)
        width = min(side, max(encoded.width, 2 * encoded.width if encoded.width < 320 else 0))
        shown.append(picture(encoded, f"The {kind} of row {example.row}, {how}", width=width))
    same = np.array_equal(*pair)
    caption = f"Detector row {example.row}, " + (
        "reconstructed with the same axis, filter and brightness."
        if is_slice
        else "projections from the top down, the detector to the right."
    )
    if same:
        return figure(shown[1], caption + " Nothing was moved.")
    body = flicker(
        f"{kind}-{example.row}", shown[0], shown[1], labels=("as measured", "aligned"), title=f"{kind.capitalize()} of row {example.row}",
    )  # fmt: skip
    return figure(body, caption)


def draw_residuals(
    residuals: Sequence[Residuals],
    opened: Projections,
    shifts: NDArray[np.float64],
    which: Sequence[bool],
) -> Markup:
    """Return charts of residuals before and after, and the worst projections."""
    if not residuals:
        return note("Nothing was aligned, so there is no residual.")
    x = opened.numbers
    parts = []
    for found in residuals:
        before, after = (float(np.sqrt(np.nanmean(v**2))) for v in (found.before, found.after))
        series = [Series("before", x, found.before, colour=1, dashed=True), Series("after", x, found.after)]  # fmt: skip
        least = ""
        if found.expected is not None:
            series.append(Series("by noise and the making of slices", x, found.expected, colour=2, dashed=True))  # fmt: skip
            least = f"; {number(float(np.sqrt(np.nanmean(found.expected**2))))} is about what noise and the making of slices leave where shifts are right"
        drawn = chart(
            series,
            title=f"{found.name} residuals, {number(before)} before and {number(after)} after",
            x_label="projection",
            y_label="residual",
            include_zero=True,
        )  # fmt: skip
        caption = f"{found.name.capitalize()}: {found.meaning} Root mean square {number(before)} before, {number(after)} after{least}."
        parts.append(figure(drawn, caption))
    return join([*parts, _worst(residuals, opened, shifts, which)])


def _worst(
    residuals: Sequence[Residuals],
    opened: Projections,
    shifts: NDArray[np.float64],
    which: Sequence[bool],
) -> Markup:
    last = residuals[-1]
    order = np.argsort(-last.after, kind="stable")[:_WORST]
    far = set(outliers(last.after).tolist())
    turned = np.degrees(opened.radians)

    def shift(i: int, k: int) -> Cell:
        value = float(shifts[i, k])
        return Cell(number(value), value) if which[i] else Cell("not measured")

    rows = [
        (
            Cell(str(opened.numbers[k]), float(opened.numbers[k])),
            Cell(number(float(turned[k])), float(turned[k])),
            shift(0, k),
            shift(1, k),
            Cell(number(float(last.before[k])), float(last.before[k])),
            Cell(number(float(last.after[k])), float(last.after[k])),
            "stands out" if k in far else "",
        )
        for k in order.tolist()
    ]
    return table(
        ("Projection", "Angle (°)", "Vertical (px)", "Horizontal (px)", "Residual before", "Residual after", ""),
        rows,
        caption=f"The {len(rows)} projections that fit the others worst ({last.name})",
        numeric=range(6),
    )  # fmt: skip


def outliers(values: NDArray[np.float64], reach: float = 6.0) -> NDArray[np.int64]:
    """Return the numbers of projections whose residual stands out from the others', worst first."""
    finite = values[np.isfinite(values)]
    if finite.size < 8:
        return np.zeros(0, np.int64)
    middle = float(np.median(finite))
    spread = 1.4826 * float(np.median(np.abs(finite - middle)))
    # Residuals that all but vanish scatter for no reason.
    limit = middle + reach * max(spread, 0.05 * middle)
    order = np.argsort(-np.nan_to_num(values), kind="stable")
    return np.asarray([k for k in order if values[k] > limit], np.int64)


def draw_method(told: Facts, decided: Sequence[str], text: str, files: Sequence[str]) -> Markup:
    """Return how it was made, what was decided on the way, and what was written."""
    written = join(Markup("<li><code>{}</code></li>").format(f) for f in files)
    notes = join(Markup("<li>{}</li>").format(note) for note in decided)
    return join(
        [
            facts(told),
            Markup("<p>{}</p>").format(text),
            Markup("<h3>Decided on the way</h3><ul>{}</ul>").format(notes) if decided else EMPTY,
            Markup("<h3>Files</h3><ul>{}</ul>").format(written),
        ]
    )
