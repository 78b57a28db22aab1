"""The numbers of the report as files: TSV for spreadsheets, JSON for programs, text for a terminal."""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeAlias

from soct.formats.atomic import write_bytes
from soct.formats.documents import without_infinities
from soct.report.comparison import compare
from soct.report.comparison.rows import (
    HEADER,
    comparison_lines,
    comparison_rows,
    comparison_summary,
)
from soct.report.figures import FigureError
from soct.report.headline import place
from soct.report.markup import visible
from soct.report.model import RunView
from soct.report.reportlet import Page

_STITCH = "stitch_3d_with_refinement"

DATA_FILES: dict[str, str] = {
    "summary.json": "verdict, headline numbers, problems and counts",
    "headline.tsv": "the headline numbers with their limits",
    "metrics.tsv": "every metric of every unit, with its status",
    "problems.tsv": "the ranked problems",
    "slices.tsv": "the slice ledger",
    "tiles.tsv": "tiles that are missing or not as they should be",
    "units.tsv": "state, time and memory of every unit",
    "parameters.tsv": "the resolved profile with the origin of each value",
}
ASKED_FILES: dict[str, str] = {
    "comparison.tsv": "what differs from the run that was compared: settings, numbers, slices, problems",
}
"""Files that are written where they were asked for, and else are taken away: they would tell of another report."""


def write_report_data(page: Page, folder: Path) -> None:
    """Write every file of `DATA_FILES` into a folder, and those of `ASKED_FILES` that this page has.

    Parameters
    ----------
    page : Page
        See `soct.report.rendering.examine`.
    folder : Path
        Made if absent; other files in it are left alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "summary.json", summarise_as_json(page).encode())
    tables = {**_tables(page), **_asked_tables(page)}
    for name, (header, rows) in tables.items():
        write_bytes(folder / name, _tsv(header, rows))
    for name in ASKED_FILES.keys() - tables.keys():
        (folder / name).unlink(missing_ok=True)


def data_files(page: Page) -> dict[str, str]:
    """Return the files that `write_report_data` makes for a page, with what is in them."""
    asked = _asked_tables(page)
    return {**DATA_FILES, **{name: what for name, what in ASKED_FILES.items() if name in asked}}


def summarise(page: Page) -> dict[str, Any]:
    """Return verdict, headline numbers, problems and counts, JSON-able."""
    view = page.view
    summary: dict[str, Any] = {
        "format": 1,
        "subject": view.subject,
        "profile": view.profile,
        "soct_version": view.soct_version,
        "state": view.state,
        "verdict": page.verdict.grade.value,
        "reasons": list(page.verdict.reasons),
        "headline": [
            {"metric": h.id, "label": h.label, "value": h.value, "text": h.text,
             "status": h.status.value, "limit": h.limit, "detail": h.detail}
            for h in page.headlines
        ],
        "problems": [
            {"severity": p.severity, "rank": round(p.rank, 4), "what": p.what, "where": p.where,
             "evidence": p.evidence, "meaning": p.meaning, "action": p.action,
             "settings": [{"key": k, "value": v, "advice": a} for k, v, a in p.settings]}
            for p in page.problems
        ],
        "units": {
            step.id: _count(unit.state for unit in step.units) for step in view.steps
        },
        "slices": [asdict(row) for row in view.ledger],
    }  # fmt: skip
    if page.other is not None:
        summary["comparison"] = comparison_summary(compare(page, page.other))
    return summary


def summarise_as_json(page: Page) -> str:
    """Return `summarise` as text; what is not a finite number is null."""
    summary = without_infinities(summarise(page))
    return json.dumps(summary, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def summarise_as_text(page: Page) -> str:
    """Return the report for a terminal or a mail: verdict, headline numbers and problems."""
    view = page.view
    lines = [
        f"{page.verdict.grade.value}  {view.subject}  ({view.state}, profile {view.profile})",
        *(f"  - {reason}" for reason in page.verdict.reasons),
        "",
    ]
    lines += [
        f"  {h.label:<22}{h.text:>16}  {h.status.value:<8}{h.limit:<14}{h.detail}".rstrip()
        for h in page.headlines
    ]
    lines += ["", f"Problems ({len(page.problems)})" if page.problems else "No problems found."]
    for i, problem in enumerate(page.problems, 1):
        lines.append(f"{i:>3}. [{problem.severity}] {problem.what}: {problem.where}")
        lines += textwrap.wrap(
            problem.evidence, 92, initial_indent="     ", subsequent_indent="     "
        )
        lines += [
            f"     {key}: now {value}; try {advice}" for key, value, advice in problem.settings
        ]
    if page.other is not None:
        lines += comparison_lines(compare(page, page.other), page.other.view.run_folder)
    return "\n".join(visible(line) for line in lines) + "\n"


_Table: TypeAlias = tuple[Sequence[str], Iterable[Sequence[object]]]


def _asked_tables(page: Page) -> dict[str, _Table]:
    tables: dict[str, _Table] = {}
    if page.other is not None:
        tables["comparison.tsv"] = (HEADER, comparison_rows(compare(page, page.other)))
    return tables


def _tables(page: Page) -> dict[str, _Table]:
    view = page.view
    extra = sorted({name for row in view.ledger for name in row.columns})
    return {
        "headline.tsv": (
            ("metric", "label", "value", "status", "limit", "detail"),
            ((h.id, h.label, h.value, h.status.value, h.limit, h.detail) for h in page.headlines),
        ),
        "metrics.tsv": (
            ("step", "unit", "metric", "value", "unit_of_measure", "status", "description"),
            (
                (u.step, u.name, m.name, m.value, m.unit, m.status, m.description)
                for u in view.units()
                for m in u.metrics
            ),
        ),
        "problems.tsv": (
            ("rank", "severity", "what", "where", "evidence", "action", "settings"),
            (
                (i, p.severity, p.what, p.where, p.evidence, p.action,
                 "; ".join(f"{k}: {v}" for k, v, _ in p.settings))
                for i, p in enumerate(page.problems, 1)
            ),
        ),
        "slices.tsv": (
            ("slice_id", "used", "reason", "decided_by", "interpolated", "missing", *extra),
            (
                (r.slice_id, r.used, r.reason, r.decided_by, r.interpolated, r.missing,
                 *(r.columns.get(name, "") for name in extra))
                for r in view.ledger
            ),
        ),
        "tiles.tsv": (
            ("slice_id", "row", "col", "kind", "message", "file", "expected", "found"),
            itertools.chain(
                (
                    (t.slice_id, t.row, t.col, t.kind, t.message, t.file, t.expected, t.found)
                    for s in view.acquisition.slices
                    for t in s.problems
                ),
                _blank_tiles(page),
            ),
        ),
        "units.tsv": (
            ("step", "unit", "where", "state", "seconds", "peak_memory_bytes", "backend", "reason"),
            (
                (u.step, u.name, place(u), u.state, u.seconds, u.peak_memory_bytes, u.backend, u.reason)
                for u in view.units()
            ),
        ),
        "parameters.tsv": (
            ("key", "value", "unit", "origin"),
            ((p.key, p.value, p.unit, p.origin) for p in view.parameters),
        ),
    }  # fmt: skip


def _blank_tiles(page: Page) -> Iterable[Sequence[object]]:
    """Rows of the tiles that no image placed, from the figures of the stitching step."""
    for unit in page.view.units():
        if unit.step != _STITCH or not page.figures.has(unit.step, unit.name):
            continue
        try:
            index, confidence, dark = page.figures.arrays(
                unit.step, unit.name, "grid_index", "tile_confidence", "blank"
            )
        except FigureError:
            continue  # told where the figure would be
        if len(index) < 2:
            continue
        for (row, col), left_out in zip(index[confidence == 0], dark[confidence == 0], strict=True):
            message = "only noise: left out" if left_out else "no texture: placed by the grid model"
            yield unit.slices[0], int(row), int(col), "blank_tile", message, "", "", ""


def _count(states: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for state in states:
        counts[state] = counts.get(state, 0) + 1
    return dict(sorted(counts.items()))


def _tsv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    lines = ["\t".join(header)]
    lines += ["\t".join(_field(value) for value in row) for row in rows]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _field(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.9g}"
    text = visible(str(value)).replace("\t", " ").replace("\n", " ")
    # A spreadsheet would run what begins like a formula.
    return f"'{text}" if text[:1] in ("=", "+", "@") else text


def count_units(view: RunView) -> dict[str, int]:
    """Return the number of units by state, over all steps."""
    return _count(unit.state for unit in view.units())
