"""The numbers of the report as files: TSV for spreadsheets, JSON for programs."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from soct.formats.atomic import write_bytes
from soct.formats.documents import without_infinities
from soct.report.bad_slices import BadSlice, bad_slices
from soct.report.cohort.texts import HEADER as COHORT_HEADER
from soct.report.cohort.texts import cohort_rows
from soct.report.comparison import compare
from soct.report.comparison.rows import HEADER, comparison_rows, comparison_summary
from soct.report.figures import FigureError
from soct.report.headline import place
from soct.report.identity import run_key
from soct.report.markup import visible
from soct.report.model import RunView
from soct.report.ratings import agree, current_ratings
from soct.report.research_crate import METADATA, make_crate

if TYPE_CHECKING:
    from soct.report.reportlet import Page

_STITCH = "stitch_3d_with_refinement"

CHECKSUMS = "SHA256SUMS"

DATA_FILES: dict[str, str] = {
    "summary.json": "verdict, headline numbers, problems and counts",
    "headline.tsv": "the headline numbers with their limits",
    "metrics.tsv": "every metric of every unit, with its status",
    "problems.tsv": "the ranked problems",
    "slices.tsv": "the slice ledger",
    "tiles.tsv": "tiles that are missing or not as they should be",
    "units.tsv": "state, time and memory of every unit",
    "parameters.tsv": "the resolved profile with the origin of each value",
    "outputs.tsv": "every published output with its size and checksum",
    METADATA: "this folder and the run for archives, as an RO-Crate",
    CHECKSUMS: "sha256 of the files above, for sha256sum -c",
}
ASKED_FILES: dict[str, str] = {
    "cohort.tsv": "where this run and the others of its lab lie, number by number",
    "comparison.tsv": "what differs from the run that was compared: settings, numbers, slices, problems",
}
"""Files that are written where they were asked for, and else are taken away: they would tell of another report."""


def make_data_files(page: Page) -> dict[str, bytes]:
    """Return every file of ``report_data/``, by name; the same page gives the same bytes."""
    made = {"summary.json": summarise_as_json(page).encode()}
    tables = {**_tables(page), **_asked_tables(page)}
    made |= {name: make_tsv(header, rows) for name, (header, rows) in tables.items()}
    made[METADATA] = make_crate(page, made, {**DATA_FILES, **ASKED_FILES})
    made[CHECKSUMS] = _checksums(made)
    return made


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
    for name, content in page.data.items():
        write_bytes(folder / name, content)
    for name in ASKED_FILES.keys() - page.data.keys():
        (folder / name).unlink(missing_ok=True)


def describe_data_file(name: str) -> str:
    """Say what is in a file of ``report_data/``."""
    return {**DATA_FILES, **ASKED_FILES}.get(name, "")


def _checksums(files: Mapping[str, bytes]) -> bytes:
    """Return what ``sha256sum -c`` reads."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "".join(lines).encode()


def summarise(page: Page) -> dict[str, Any]:
    """Return verdict, headline numbers, problems and counts, JSON-able."""
    view = page.view
    summary: dict[str, Any] = {
        "format": 1,
        "subject": view.subject,
        "redacted": view.redacted,
        "profile": view.profile,
        "soct_version": view.soct_version,
        "state": view.state,
        "started": view.invocations[0].started if view.invocations else "",
        "ended": view.invocations[-1].ended if view.invocations else "",
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
             "to_do": p.todo,
             "settings": [{"key": k, "value": v, "advice": a} for k, v, a in p.settings]}
            for p in page.problems
        ],
        "units": {
            step.id: _count(unit.state for unit in step.units) for step in view.steps
        },
        "slices": [asdict(row) for row in view.ledger],
        "bad_slices": [_bad_slice(bad) for bad in bad_slices(view)],
    }  # fmt: skip
    summary["run"] = run_key(view)
    summary |= _ratings(page)
    if page.other is not None:
        summary["comparison"] = comparison_summary(compare(page, page.other))
    return summary


def _ratings(page: Page) -> dict[str, Any]:
    current = current_ratings(page.view)
    found = agree(current, page.verdict.grade.value)
    return {
        "ratings": [{**asdict(r), "counts": r in current} for r in page.view.ratings],
        "agreement": {**asdict(found), "raters": found.raters},
    }


def _bad_slice(bad: BadSlice) -> dict[str, Any]:
    return {
        "slice_id": bad.row.slice_id,
        "state": bad.state,
        "reason": bad.row.reason,
        "findings": [
            {"step": f.unit.step, "unit": f.unit.name, "metric": f.metric.name,
             "value": f.metric.value, "unit_of_measure": f.metric.unit, "status": f.metric.status}
            for f in bad.findings
        ],
    }  # fmt: skip


def summarise_as_json(page: Page) -> str:
    """Return `summarise` as text; what is not a finite number is null."""
    summary = without_infinities(summarise(page))
    return json.dumps(summary, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


_Table: TypeAlias = tuple[Sequence[str], Iterable[Sequence[object]]]


def _asked_tables(page: Page) -> dict[str, _Table]:
    tables: dict[str, _Table] = {}
    if page.other is not None:
        tables["comparison.tsv"] = (HEADER, comparison_rows(compare(page, page.other)))
    if page.cohort is not None:
        tables["cohort.tsv"] = (COHORT_HEADER, cohort_rows(page.cohort))
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
                (i, p.severity, p.what, p.where, p.evidence, f"{p.action} {p.todo}".strip(),
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
        "outputs.tsv": (
            ("step", "unit", "name", "path", "bytes", "checksum"),
            (
                (u.step, u.name, o.name, o.path, o.bytes, o.checksum)
                for u in view.units()
                for o in u.outputs
            ),
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


def make_tsv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Return a table as the bytes of its file; text that a spreadsheet would run is made inert."""
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
