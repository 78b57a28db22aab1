"""At which angle each projection was taken: from the stack's file, a file of its own, or a range."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tiles import shown

Unit = Literal["auto", "deg", "rad"]
_MAX_BYTES = 64 << 20
_SEPARATORS = re.compile(r"[,;\s]+")
_COLUMNS: dict[str, Unit] = {
    "angle_deg": "deg", "theta_deg": "deg", "angle_rad": "rad", "theta_rad": "rad",
    "angle": "auto", "angles": "auto", "theta": "auto", "rotation_angle": "auto",
}  # fmt: skip


@dataclass(frozen=True)
class Angles:
    """Angles as they were found.

    Attributes
    ----------
    values : float64 ndarray (n,)
        In `unit`.
    unit : {"auto", "deg", "rad"}
        ``auto``: nothing says so; a span of at most 2 pi is taken for radians.
    source : str
        Where they come from, for people.
    """

    values: NDArray[np.float64]
    unit: Unit
    source: str


def checked(values: NDArray[np.float64], unit: Unit, source: str, path: Path) -> Angles:
    """Return angles that are finite numbers.

    Raises
    ------
    InputError
        Some are not.
    """
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        raise InputError(
            "Some angles are no finite numbers",
            file=shown(path),
            expected=f"{source}: one finite angle per projection",
            found=f"{values[wrong[0]]} at projection {wrong[0]}"
            + (f" and {wrong.size - 1} more" if wrong.size > 1 else ""),
        )
    return Angles(values, unit, source)


def read_angles(path: Path) -> Angles:
    """Read angles from text (one per line), CSV (a column ``angle_deg``, ``angle_rad``, ``theta``...) or NPY.

    Raises
    ------
    InputError
        It cannot be read or holds anything but one finite number per projection.
    """
    path = Path(path)
    try:
        if path.suffix.lower() == ".npy":
            array = np.load(path, allow_pickle=False)
            if array.ndim != 1 or array.dtype.kind not in "uif":
                raise _wrong(path, f"shape {array.shape}, {array.dtype}")
            return checked(array.astype(np.float64), "auto", shown(path.name), path)
        if path.stat().st_size > _MAX_BYTES:
            raise _wrong(path, f"{path.stat().st_size} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except InputError:
        raise
    except UnicodeDecodeError as error:
        raise _wrong(path, "no text") from error
    except (OSError, ValueError, EOFError) as error:
        raise _wrong(path, getattr(error, "strerror", None) or str(error)) from error
    values, unit = _parse(path, text)
    return checked(values, unit, shown(path.name), path)


def _wrong(path: Path, found: str) -> InputError:
    return InputError(
        "A file of angles cannot be read",
        file=shown(path),
        expected="one angle per line, a CSV with a column angle_deg, angle_rad, angle or theta, or a 1-D NPY",
        found=shown(found)[:200],
        hint="Write the angles to such a file, or say --angle-range FIRST LAST or --span DEGREES.",
    )


def _parse(path: Path, text: str) -> tuple[NDArray[np.float64], Unit]:
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    rows = [[cell for cell in _SEPARATORS.split(line) if cell] for line in lines if line]
    if not rows:
        raise _wrong(path, "nothing")
    column, unit = 0, "auto"
    if not _is_number(rows[0][0]):
        names = [name.strip('"').lower() for name in rows.pop(0)]
        known = [i for i, name in enumerate(names) if name in _COLUMNS]
        if not known:
            raise _wrong(path, f"columns {', '.join(names)}")
        column, unit = known[0], _COLUMNS[names[known[0]]]
    elif len(rows) == 1:
        # All in one line.
        rows = [[cell] for cell in rows[0]]
    elif max(len(row) for row in rows) > 1:
        raise _wrong(path, f"{max(len(row) for row in rows)} numbers in a line, and no header")
    found = np.empty(len(rows))
    for i, row in enumerate(rows):
        if column >= len(row) or not _is_number(row[column]):
            raise _wrong(path, f"{' '.join(row)[:80]!r} as angle {i}")
        found[i] = float(row[column])
    return found, unit  # type: ignore[return-value]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def spread(count: int, first: float, last: float, unit: Unit) -> Angles:
    """Return evenly spaced angles from the first projection's to the last one's, both included."""
    unit = "deg" if unit == "auto" else unit
    values: NDArray[np.float64] = np.array(np.linspace(first, last, count), np.float64)
    return Angles(values, unit, f"{first:g} to {last:g} {unit}, evenly")


def spanned(count: int, span: float, unit: Unit) -> Angles:
    """Return evenly spaced angles over a span that the next projection after the last would complete."""
    unit = "deg" if unit == "auto" else unit
    values = np.arange(count, dtype=np.float64) * np.float64(span / count)
    return Angles(values, unit, f"span of {span:g} {unit}, evenly")
