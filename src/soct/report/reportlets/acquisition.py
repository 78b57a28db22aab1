"""Section 3: what the microscope wrote, against what it should have."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from soct.report.acquisition_figures import (
    draw_cut_thickness,
    draw_stage_path,
    draw_tiles_per_slice,
)
from soct.report.charts import svg
from soct.report.markup import (
    details,
    facts,
    figure,
    join,
    note,
    number,
    size,
    table,
    unit_text,
    )  # fmt: skip
from soct.report.model import AcquisitionView, SliceAcquisition
from soct.report.reportlet import Page, Reportlet

_MAPS_SHOWN = 12
_COLOURS = {"found": "#0072b2", "missing": "#ffffff", "bad": "#e69f00"}


def render(page: Page) -> Markup:
    """Draw counts, the maps of incomplete slices, tile problems, stage depth and metadata."""
    acquisition = page.view.acquisition
    if not acquisition.slices:
        return note("No slices were found in the input.")
    return join(
        [
            _facts(acquisition),
            page.guarded("Tiles per slice", lambda: draw_tiles_per_slice(page)),
            page.guarded("Tile map", lambda: _maps(acquisition.slices)),
            _problems(acquisition.slices),
            page.guarded("Cut thickness", lambda: draw_cut_thickness(page)),
            page.guarded("Stage path", lambda: draw_stage_path(page)),
            _metadata(acquisition),
        ]
    )


def _facts(acquisition: AcquisitionView) -> Markup:
    slices = acquisition.slices
    ids = [s.slice_id for s in slices]
    grids = sorted({(s.rows, s.cols) for s in slices})
    shapes = ", ".join(f"{r} × {c}" for r, c in grids[:4]) + (" …" if len(grids) > 4 else "")
    missing = acquisition.missing_slices
    return facts(
        [
            ("Slices", f"{len(slices)} (ids {min(ids)} to {max(ids)})"),
            ("Missing slice ids", ", ".join(map(str, missing)) if missing else "none"),
            ("Tile grid (rows × columns)", shapes),
            (
                "Tiles read of expected",
                f"{number(sum(len(s.found) for s in slices))} of {number(sum(s.expected for s in slices))}",
            ),
            ("Input", f"{acquisition.kind}, {size(acquisition.raw_bytes)}"),
        ]
    )


def _maps(slices: Sequence[SliceAcquisition]) -> Markup:
    incomplete = sorted(
        (s for s in slices if s.problems or len(s.found) < s.expected),
        key=lambda s: (len(s.found) - s.expected, s.slice_id),
    )
    if not incomplete:
        return note("Every slice has all its tiles.")
    shown = sorted(incomplete[:_MAPS_SHOWN], key=lambda s: s.slice_id)
    maps = Markup('<div style="display:flex;flex-wrap:wrap;gap:1.2rem">{}</div>').format(
        join(_map(s) for s in shown)
    )
    legend = Markup(
        '<p class="legend" style="margin-left:0"><span class="swatch" style="background:{}"></span>read '
        '<span class="swatch" style="background:{}"></span>truncated, duplicate or unreadable '
        '<span class="swatch" style="background:{}"></span>missing</p>'
    ).format(_COLOURS["found"], _COLOURS["bad"], _COLOURS["missing"])
    rest = len(incomplete) - len(shown)
    caption = "Tile maps of the slices that are not complete" + (
        f"; {rest} more are in the table." if rest else "."
    )
    return figure(maps + legend, caption)


def _map(record: SliceAcquisition) -> Markup:
    found = set(record.found)
    bad = {(p.row, p.col): p.kind for p in record.problems if p.row is not None}
    cell = min(18.0, max(3.0, 150 / max(record.rows, record.cols, 1)))
    parts = []
    for r in range(record.rows):
        for c in range(record.cols):
            kind = bad.get((r, c), "")
            state = "found" if (r, c) in found else "bad" if kind and "missing" not in kind else "missing"  # fmt: skip
            css = "" if state == "found" else f"<title>row {r}, column {c}: {{}}</title>"
            parts.append(
                Markup(
                    '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}" stroke="#98a3b0" stroke-width=".6">{}</rect>'
                ).format(
                    c * cell + 1, 18 + r * cell, cell - 1, cell - 1, _COLOURS[state],
                    Markup(css).format(kind or "missing"),
                )
            )  # fmt: skip
    parts.append(Markup('<text x="1" y="11">slice {}</text>').format(record.slice_id))
    width, height = max(record.cols * cell + 2, 60), record.rows * cell + 20
    title = f"Slice {record.slice_id}: {len(found)} of {record.expected} tiles read"
    return Markup('<div style="width:{:.0f}px">{}</div>').format(
        width, svg(width, height, title, join(parts))
    )


def _problems(slices: Sequence[SliceAcquisition]) -> Markup:
    rows = [
        (
            str(p.slice_id),
            "–" if p.row is None else f"({p.row}, {p.col})",
            p.kind.replace("_", " "),
            p.file,
            p.expected,
            p.found,
            p.message,
        )
        for s in slices
        for p in s.problems
    ]
    if not rows:
        return note("No tile is missing, truncated or double.")
    return table(
        ("Slice", "Tile (row, col)", "What", "File", "Expected", "Found", "Message"),
        rows[:2000],
        caption=f"{len(rows)} tile{'s' if len(rows) > 1 else ''} with a problem",
        numeric=(0,),
    )


def _metadata(acquisition: AcquisitionView) -> Markup:
    rows = [
        (m.name, f"{m.value} {unit_text(m.unit)}".strip(), m.source) for m in acquisition.metadata
    ]
    parts = [table(("What", "Value", "Where it comes from"), rows, caption="Acquisition metadata",
                   empty="No acquisition metadata were recorded.")]  # fmt: skip
    if acquisition.ignored:
        listed = join(Markup("<li>{}</li>").format(n) for n in acquisition.ignored[:200])
        parts.append(details(f"Ignored in the input: {len(acquisition.ignored)}", Markup("<ul>{}</ul>").format(listed)))  # fmt: skip
    return join(parts)


REPORTLET = Reportlet(
    id="acquisition",
    order=40,
    title="Acquisition",
    question="Is everything there that the microscope should have written?",
    render=render,
    good="all tiles read, one grid shape, even steps in depth.",
    bad="holes in a map: the place has no data in the volume. A truncated tile can often be copied again "
    "from the microscope.",
    thresholds=("tiles_used", "slices_used"),
    inputs=("create_mosaic_grid", "estimate_slice_poses"),
)
