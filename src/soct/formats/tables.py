"""The CSV tables of a run: one frozen dataclass per row, one column per field.

Tables are UTF-8 with a header row and are written in one step. Columns that soct does not know are kept.
Errors name the file and the line.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

from soct.errors import InputError
from soct.formats.atomic import write_bytes
from soct.formats.tiles import shown

MAX_TABLE_BYTES = 256 << 20
_TRUE = {"true", "1", "yes", "y", "t", "1.0"}
_FALSE = {"false", "0", "no", "n", "f", "0.0", ""}
_EMPTY = {"", "nan", "none", "null"}
_INTEGER = re.compile(r"[+-]?\d{1,15}(\.0*)?", re.ASCII)


@dataclass(frozen=True)
class ShiftRow:
    """One pair of slices in `shifts_xy.csv`: ``shift = boundary(fixed) - boundary(moving)`` of the stage."""

    fixed_id: int
    moving_id: int
    x_shift: float
    y_shift: float
    x_shift_mm: float
    y_shift_mm: float
    reliable: bool = True
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CleanShiftRow(ShiftRow):
    """One pair in `shifts_xy_clean.csv`: why it was corrected, and what the input said of it."""

    corrected: str = ""
    reliable_in: bool = True


@dataclass(frozen=True)
class SliceConfigRow:
    """One slice in `slice_config.csv`, the ledger of every decision about a slice."""

    slice_id: int
    use: bool = True
    exclude_reason: str = ""
    quality_score: float | None = None
    galvo_confidence: float | None = None
    galvo_fix: bool = False
    notes: str = ""
    rehomed: bool = False
    rehoming_reliable: bool = True
    auto_excluded: bool = False
    auto_exclude_reason: str = ""
    interpolated: bool = False
    interpolation_failed: bool = False
    interpolation_method_used: str = ""
    interpolation_fallback_reason: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_stacked(self) -> bool:
        """Whether the slice's own image goes into the volume.

        A step may keep a slice out of the registration and stack it where the stage puts it: column ``placement``.
        """
        return self.use and (not self.auto_excluded or self.extra.get("placement") == "stage")


@dataclass(frozen=True)
class StagePositionRow:
    """Where the stage was at one tile, `stage_positions.csv`."""

    slice_id: int
    tile_x: int
    tile_y: int
    x_mm: float | None
    y_mm: float | None
    z_mm: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TilePositionRow:
    """Where one tile lies on the canvas of its slice, `tile_positions.csv`; pixels."""

    row: int
    col: int
    y_px: float
    x_px: float
    nominal_y_px: float
    nominal_x_px: float
    confidence: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ZMatchRow:
    """How two slices overlap in depth, `z_matches.csv`: after the consistency fix, and measured before it."""

    fixed_id: int
    moving_id: int
    overlap_voxels: float
    blend_overlap_voxels: float
    moving_z_start: float
    correlation: float | None = None
    correlation_fallback_used: bool = False
    overlap_voxels_measured: float | None = None
    moving_z_start_measured: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StackingRow:
    """What was decided and applied for one slice, `stacking_decisions.csv`."""

    slice_id: int
    fixed_id: int | None = None
    transform_loaded: bool = False
    transform_source: str = ""
    manual_override: bool = False
    confidence: float | None = None
    overlap_source: str = ""
    overlap_voxels: float | None = None
    blend_overlap_voxels: float | None = None
    correlation: float | None = None
    applied_dy_px: float = 0.0
    applied_dx_px: float = 0.0
    applied_rotation_deg: float = 0.0
    reason: str = ""
    extra: Mapping[str, str] = field(default_factory=dict)


Row = TypeVar("Row")


def _split_optional(kind: Any) -> tuple[type, bool]:
    if get_origin(kind) in (Union, UnionType):
        inner = next(a for a in get_args(kind) if a is not type(None))
        return inner, True
    return kind, False


@dataclass(frozen=True)
class _Column:
    name: str
    kind: type
    is_optional: bool
    is_required: bool

    def parse(self, text: str) -> Any:
        """Convert one cell; ValueError says what was expected."""
        stripped = text.strip()
        if self.kind is str:
            return text
        if self.kind is bool:
            if stripped.lower() not in _TRUE | _FALSE:
                raise ValueError("true, 1, yes, y, t, or false, 0, no, n, f")
            return stripped.lower() in _TRUE
        if self.is_optional and stripped.lower() in _EMPTY:
            return None
        if self.kind is int:
            if not _INTEGER.fullmatch(stripped):
                raise ValueError("a whole number")
            return int(stripped.partition(".")[0])
        return _parse_number(stripped)

    def format(self, value: Any) -> str:
        if value is None:
            return ""
        if self.kind is bool:
            return "1" if value else "0"
        if self.kind is float:
            return repr(float(value))
        if self.kind is int:
            return str(int(value))
        return str(value)


def _parse_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError("a number") from None
    if not math.isfinite(value):
        raise ValueError("a finite number")
    return value


class _Schema(Generic[Row]):
    """The columns of a row type."""

    def __init__(self, row_type: type[Row]) -> None:
        hints = get_type_hints(row_type)
        self.row_type = row_type
        self.columns = []
        for item in fields(row_type):  # type: ignore[arg-type]
            if item.name != "extra":
                kind, is_optional = _split_optional(hints[item.name])
                self.columns.append(_Column(item.name, kind, is_optional, item.default is MISSING))

    def parse_row(self, cells: Mapping[str, str], place: str) -> Row:
        values: dict[str, Any] = {}
        for column in self.columns:
            text = cells.get(column.name)
            # An empty cell in a column with a default means the default.
            if text is None or (not text.strip() and not column.is_required):
                continue
            try:
                values[column.name] = column.parse(text)
            except ValueError as error:
                raise InputError(
                    f"A table has a wrong {column.name}",
                    file=place,
                    expected=f"{column.name}: {error}",
                    found=shown(repr(text[:80])),
                ) from None
        known = {column.name for column in self.columns}
        extra = {name: text for name, text in cells.items() if name not in known}
        return self.row_type(**values, extra=extra)  # type: ignore[call-arg]


def _read_lines(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TABLE_BYTES + 1)
        if len(data) > MAX_TABLE_BYTES:
            raise ValueError(f"more than {MAX_TABLE_BYTES} bytes")
        if b"\0" in data:
            raise ValueError("a NUL byte")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shown(str(error))[:200]
        raise InputError(
            "A table cannot be read", file=shown(path), expected="a UTF-8 CSV file", found=reason
        ) from error


def _check_header(header: list[str], schema: _Schema[Any], path: Path) -> None:
    twice = sorted({name for name in header if header.count(name) > 1 and name})
    missing = [c.name for c in schema.columns if c.is_required and c.name not in header]
    if not twice and not missing:
        return
    found = f"{', '.join(twice)} twice" if twice else f"no {', '.join(missing)}"
    raise InputError(
        "A table has a wrong header",
        file=f"{shown(path)}:1",
        expected=", ".join(c.name for c in schema.columns if c.is_required),
        found=shown(found)[:300],
    )


def read_table(path: Path, row_type: type[Row]) -> tuple[Row, ...]:
    """Read a table.

    Parameters
    ----------
    path : Path
        A CSV file. Identifiers may be written ``0`` or ``0.0``; true is any of true, 1, yes, y, t.
    row_type : type
        One of the row classes of this module. Columns that are missing take its defaults; columns that it
        does not have go to ``extra``.

    Raises
    ------
    InputError
        The file cannot be read, a required column is missing, or a value is wrong: ``file:line`` is named.
    """
    path = Path(path)
    schema = _Schema(row_type)
    reader = csv.reader(io.StringIO(_read_lines(path), newline=""), strict=True)
    rows: list[Row] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_header(header, schema, path)
        for cells in reader:
            place = f"{shown(path)}:{reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise InputError(
                    "A table has a row of another length than its header",
                    file=place,
                    expected=f"{len(header)} cells",
                    found=f"{len(cells)} cells",
                )
            rows.append(schema.parse_row(dict(zip(header, cells, strict=True)), place))
    except csv.Error as error:
        raise InputError(
            "A table is not CSV",
            file=f"{shown(path)}:{reader.line_num}",
            expected="cells separated by commas",
            found=shown(str(error))[:200],
        ) from error
    return tuple(rows)


def write_table(path: Path, row_type: type[Row], rows: Sequence[Row]) -> None:
    """Write a table in one step; columns in ``extra`` follow those of `row_type`."""
    schema = _Schema(row_type)
    extra: dict[str, None] = {}
    for row in rows:
        extra.update(dict.fromkeys(row.extra))  # type: ignore[attr-defined]
    lines = [_join([*(column.name for column in schema.columns), *extra])]
    for row in rows:
        known = [column.format(getattr(row, column.name)) for column in schema.columns]
        kept = [row.extra.get(name, "") for name in extra]  # type: ignore[attr-defined]
        lines.append(_join([*known, *kept]))
    write_bytes(Path(path), "".join(lines).encode("utf-8", "backslashreplace"))


def _join(cells: Sequence[str]) -> str:
    """Format one row; csv.writer leaves a lone carriage return bare, which then reads as a new row."""
    quoted = (
        '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell
        for cell in (cell.replace("\0", "\ufffd") for cell in cells)
    )
    return ",".join(quoted) + "\n"
