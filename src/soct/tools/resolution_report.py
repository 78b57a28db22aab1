"""The resolution of a volume as numbers for programs, as a table for a terminal, and as a page with its curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from soct import __version__
from soct.formats.atomic import write_bytes
from soct.formats.tiles import shown
from soct.report.charts import Series, chart
from soct.report.markup import EMPTY, Cell, facts, figure, join, pill, table
from soct.report.rendering import draw_section, render_sections
from soct.tomography.shell_correlation import CRITERIA
from soct.tools.resolution import Direction, VolumeResolution

_NOISE = {
    "second volume": "a second volume",
    "background": "the spectrum beside the tissue",
    "spectrum": "the end of each block's spectrum, taken for white",
}
_DRAWN = 24


def table_rows(found: VolumeResolution) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return headers and rows of the small table: median and quartiles in micrometres."""
    headers = ("resolution (um)", *CRITERIA, "blocks", "voxel (um)")
    rows = []
    for direction in found.directions:
        voxel = found.voxel_um.z if direction.name == "along z" else max(found.voxel_um[1:])
        cells = [_text(direction, criterion) for criterion in CRITERIA]
        name = f"{direction.name}, at best" if direction.may_flatter else direction.name
        rows.append((name, *cells, str(len(direction.blocks)), f"{voxel:g}"))
    return headers, rows


def _text(direction: Direction, criterion: str) -> str:
    middle, low, high = direction.quartiles_um(criterion)
    if not np.isfinite(middle):
        return "none"
    # Where half of the blocks never fall below, two voxels are all that can be said.
    mark = "<" if 2 * direction.at_limit(criterion) >= len(direction.blocks) else ""
    return f"{mark}{middle:.3g} ({low:.3g} to {high:.3g})"


def as_json_object(found: VolumeResolution) -> dict[str, Any]:
    """Return everything as numbers; what is not known is null."""
    return {
        "volume": shown(found.path),
        "other": None if found.other is None else shown(found.other),
        "shape": list(found.shape),
        "voxel_um": list(found.voxel_um),
        "block": list(found.block),
        "blocks": [list(place) for place in found.places],
        "noise_from": found.noise,
        "directions": {d.name: _direction(d) for d in found.directions},
        "notices": list(found.notices),
    }


def _direction(direction: Direction) -> dict[str, Any]:
    told = {}
    for criterion in CRITERIA:
        middle, low, high = direction.quartiles_um(criterion)
        told[criterion] = {
            "median_um": _number(middle),
            "quartiles_um": [_number(low), _number(high)],
            "blocks_um": [_number(v) for v in direction.values_um(criterion)],
            "blocks_at_the_limit_of_two_voxels": direction.at_limit(criterion),
        }
    return {
        "resolution": told,
        "may_flatter": direction.may_flatter,
        "frequency_per_um": [_number(v) for v in direction.frequencies],
        "median_correlation": [_number(v) for v in direction.median],
    }


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


def write_resolution_report(found: VolumeResolution, page: Path) -> None:
    """Write a page with the curves; the same measurement gives the same bytes."""
    name = shown(found.path.name)
    sections = [
        draw_section(
            lambda: _overview(found),
            "resolution",
            name,
            "How fine is the detail that the volume shows?",
            good="quartiles close to the median: the resolution is that of the volume, not of a place in it.",
            bad="a number that is told to flatter, or blocks that disagree.",
        )
    ]
    sections += [
        draw_section(
            lambda d=direction: _curves(d),  # type: ignore[misc]
            direction.name.replace(" ", "-"),
            direction.name.capitalize(),
            "Up to which frequency is it the specimen?",
            good="curves fall once, through both thresholds, and stay near 0.",
            bad="curves that never reach 0, or rise again: detail as fine as the voxels, or noise that is alike in neighbours.",
        )
        for direction in found.directions
    ]
    sections += [
        draw_section(lambda: _blocks(found), "blocks", "Blocks", "Where was it measured?"),
        draw_section(lambda: _method(found), "method", "Method", "How was it measured?"),
    ]
    text = render_sections(
        sections,
        title=f"Resolution of {name}",
        brand="soct resolution",
        version=__version__,
        footer=f"soct {__version__} · resolutions are lengths of a whole period, in micrometres.",
    )
    write_bytes(page, text.encode("utf-8", "backslashreplace"))


def _overview(found: VolumeResolution) -> Markup:
    headers, rows = table_rows(found)
    voxel = " × ".join(f"{v:g}" for v in found.voxel_um)
    told = [
        ("Voxels", f"{' × '.join(map(str, found.shape))} of {voxel} µm (z, y, x)"),
        ("Blocks", f"{len(found.places)} of {' × '.join(map(str, found.block))} voxels, in tissue"),
        ("Noise known from", _NOISE[found.noise]),
    ]
    if found.other is not None:
        told.append(("Second volume", shown(found.other)))
    warnings = join(Markup("<li>{}</li>").format(text) for text in found.notices)
    status, words = ("warning", "see below") if found.notices else ("ok", "nothing to look at")
    return join(
        [
            Markup("<h1>{}</h1><p>{}</p>").format(shown(found.path.name), pill(status, words)),
            table(headers, rows, caption="Median over the blocks, and quartiles", numeric=range(1, len(headers)), sortable=False),
            Markup('<ul class="warnings">{}</ul>').format(warnings) if warnings else EMPTY,
            facts(told),
        ]
    )  # fmt: skip


def _curves(direction: Direction) -> Markup:
    x = 1000 * direction.frequencies
    blocks = direction.blocks[:_DRAWN]
    series = [Series("blocks" if not k else "", x, b.correlation, colour=2) for k, b in enumerate(blocks)]  # fmt: skip
    limits = direction.blocks[0].thresholds
    series += [
        Series("median", x, direction.median, colour=0),
        Series("half-bit threshold", x, limits["half-bit"], colour=1, dashed=True),
        Series("one-bit threshold", x, limits["one-bit"], colour=3, dashed=True),
    ]
    middle, low, high = direction.quartiles_um()
    marks = (1000 / middle,) if np.isfinite(middle) else ()
    drawn = chart(
        series,
        title=f"Shell correlation {direction.name}: the median falls below half a bit at {middle:.3g} µm",
        x_label="frequency (periods per mm)",
        y_label="correlation",
        include_zero=True,
        marks=marks,
        height=260,
    )
    return figure(
        drawn,
        f"Correlation over frequency in {len(direction.blocks)} blocks. The vertical line is at {middle:.3g} µm "
        f"(quartiles {low:.3g} and {high:.3g} µm), where the blocks fall below half a bit.",
    )


def _blocks(found: VolumeResolution) -> Markup:
    rows: list[tuple[Cell | str, ...]] = []
    for k, (z, y, x) in enumerate(found.places):
        values = [float(d.values_um("half-bit")[k]) for d in found.directions]
        cells = [Cell(f"{v:.3g}" if np.isfinite(v) else "–", v if np.isfinite(v) else -1.0) for v in values]  # fmt: skip
        rows.append((str(z), str(y), str(x), *cells))
    headers = ("z", "y", "x", *(f"{d.name} (µm)" for d in found.directions))
    return table(headers, rows, caption="First voxel of every block, and its half-bit resolution", numeric=range(len(headers)))  # fmt: skip


def _method(found: VolumeResolution) -> Markup:
    how = (
        "Both volumes were correlated shell by shell of their spectra."
        if found.other is not None
        else "The noise N below the power P of each block's spectrum was taken from "
        + _NOISE[found.noise]
        + ", and 1 − N / P is the correlation that a second, equally noisy volume would show. Noise that is alike in neighbouring "
        "voxels without regions to measure it makes the number too good."
    )
    return Markup("<p>{}</p>").format(
        how
        + " Blocks lie in tissue and are full of data; their edges fade with a cosine (Hann). In plane: directions within 30° "
        "of it; along z: within 30° of the first axis. Thresholds of half a bit and one bit: van Heel and Schatz, "
        "J. Struct. Biol. 151 (2005) 250, with the number of independent values in each shell."
    )
