"""Shifts that were measured before: read for the projections in use, and compared with what they were measured from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.tools.tomo_input import Projections
from soct.tools.tomo_tables import excluded_of, read_shifts
from soct.tools.tomo_words import listed
from soct.tools.tomo_work import read_json

TABLE, DOCUMENT = "shifts.csv", "align.json"


@dataclass(frozen=True)
class GivenShifts:
    """Shifts of the projections in use.

    Attributes
    ----------
    opened : Projections
        Without those of which the table tells no shift.
    values : float64 ndarray (2, n)
    path : Path or None
    sha256 : str or None
        Of the table.
    warnings : tuple of str
    """

    opened: Projections
    values: NDArray[np.float64]
    path: Path | None = None
    sha256: str | None = None
    warnings: tuple[str, ...] = ()

    def as_json_object(self) -> dict[str, Any] | None:
        """Return where they come from."""
        return None if self.path is None else {"file": str(self.path), "sha256": self.sha256}


def take_shifts(opened: Projections, given: Path | None) -> GivenShifts:
    """Read shifts; none are zero.

    Parameters
    ----------
    opened : Projections
    given : Path or None
        The table, or the folder that `soct tomo align` made.

    Raises
    ------
    InputError
        The table cannot be read, or was measured from another scan.
    """
    if given is None:
        return GivenShifts(opened, np.zeros((2, opened.count)))
    table = given / TABLE if given.is_dir() else given
    left_out = [k for k in excluded_of(table) if k in set(opened.numbers.tolist())]
    if left_out:
        opened = opened.without(left_out, f"left out, as the table of shifts has none: projections {listed(left_out, 20)}")  # fmt: skip
    values = read_shifts(table, opened.all_radians, opened.numbers)
    document = read_json(table.with_name(DOCUMENT)) if table.name == TABLE else None
    return GivenShifts(
        opened,
        values,
        table,
        hashlib.sha256(table.read_bytes()).hexdigest(),
        () if document is None else _compare(opened, document, table),
    )


def _compare(opened: Projections, document: dict[str, Any], table: Path) -> tuple[str, ...]:
    """Refuse shifts of a detector of another width, and warn of those of another file."""
    cols = document.get("cols")
    if cols is not None and cols != opened.cols:
        raise InputError(
            "The shifts were measured from another scan",
            file=shown(table),
            expected=f"projections {opened.cols} pixels wide, as those of {shown(opened.stack.path.name)}",
            found=f"{cols} pixels ({shown(str(document.get('parameters', {}).get('stack')))})",
            hint="Give the shifts of this scan, made by `soct tomo align`.",
        )
    told = []
    name = document.get("parameters", {}).get("stack")
    rows, own = document.get("detector_rows"), opened.stack.shape[1]
    mark = document.get("stack_mark")
    other = opened.stack.path.name != name if mark is None else mark != opened.whole.content_mark()
    if other:
        what = f"{shown(str(name))}" + (
            f", {rows} rows" if rows is not None and rows != own else ""
        )
        this = f"{shown(opened.stack.path.name)}" + (f", {own} rows" if rows not in (None, own) else "")  # fmt: skip
        told.append(
            f"the shifts were measured from another file ({what}) than this one ({this}): if it is another scan, they are wrong; if it is "
            "the aligned stack, they are applied twice"
        )
    return tuple(told)


def check_table(table: Path, document: dict[str, Any]) -> None:
    """Refuse a table that was changed since it was written.

    Raises
    ------
    InputError
        It is gone, or has other bytes.
    """
    noted = document.get("files", {}).get(table.name)
    found = None if not table.is_file() else hashlib.sha256(table.read_bytes()).hexdigest()
    if found is None or (noted is not None and found != noted["sha256"]):
        raise InputError(
            "A finished result was changed by something else",
            file=shown(table),
            expected="the table as soct wrote it",
            found="no such file" if found is None else "other content",
            hint="Remove the folder and align again, or give another name to what was changed.",
        )
