"""``slice_config_final.csv``: every decision about every slice, and who made it.

It starts from the table that generate_slice_config wrote and takes the decisions of all finished units in
pipeline order, so it does not depend on which unit ended first.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from soct.formats.atomic import write_bytes
from soct.steps.declaration import Decision

FILE_NAME = "slice_config_final.csv"


def write_ledger(
    run_folder: Path,
    start: Path | None,
    slices: Iterable[int],
    decisions: Iterable[tuple[str, Decision]],
) -> None:
    """Write the ledger, unless the file already says the same.

    Parameters
    ----------
    run_folder : Path
    start : Path or None
        The slice table that decisions are applied to; None before there is one.
    slices : iterable of int
        Every slice gets a row.
    decisions : iterable of (str, Decision)
        Step and decision, in the order in which they apply.
    """
    columns, rows = _read(start)
    for slice_id in slices:
        rows.setdefault(slice_id, {"slice_id": f"{slice_id:02d}", "use": "true"})
    for step, decision in decisions:
        row = rows.setdefault(decision.slice_id, {"slice_id": f"{decision.slice_id:02d}"})
        value = _text(decision.value)
        row[decision.column] = value
        note = f"{step}: {decision.column}={value} ({decision.reason})"
        row["notes"] = "; ".join(filter(None, (row.get("notes", ""), note)))
    names = list(dict.fromkeys([*columns, *(name for row in rows.values() for name in row)]))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[slice_id] for slice_id in sorted(rows))
    _write_changed(run_folder / FILE_NAME, text.getvalue().encode())


def _read(path: Path | None) -> tuple[list[str], dict[int, dict[str, str]]]:
    if path is None or not path.is_file():
        return ["slice_id", "use"], {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = {int(float(row["slice_id"])): dict(row) for row in reader}
        return list(reader.fieldnames or ()), rows


def _text(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _write_changed(path: Path, content: bytes) -> None:
    try:
        if path.read_bytes() == content:
            return
    except OSError:
        pass
    write_bytes(path, content)
