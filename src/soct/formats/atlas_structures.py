"""The names of an atlas's regions and their hierarchy, from BrainGlobe's JSON or a CSV table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soct.errors import InputError
from soct.formats.tiles import shown

_MAX_TEXT_BYTES = 64 << 20
_MAX_STRUCTURES = 100_000


@dataclass(frozen=True)
class Structure:
    """A region of an atlas.

    Attributes
    ----------
    id : int
        The number of its voxels in the annotation.
    acronym, name : str
        What people call it.
    path : tuple of int
        Ids from the root of the hierarchy down to this one.
    colour : tuple of int
        Red, green, blue.
    """

    id: int
    acronym: str
    name: str
    path: tuple[int, ...]
    colour: tuple[int, int, int] = (255, 255, 255)

    @property
    def parent(self) -> int | None:
        """Id of the region that this one is a part of."""
        return self.path[-2] if len(self.path) > 1 else None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    InputError
        It is missing, too large or broken.
    """
    return _parse_json(path, read_text(path))


def read_text(path: Path) -> str:
    """Read a small text file.

    Raises
    ------
    InputError
        It is missing, too large or no text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_TEXT_BYTES + 1)
        if len(data) > _MAX_TEXT_BYTES:
            raise ValueError(f"more than {_MAX_TEXT_BYTES} bytes")
        return data.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            "A file of an atlas cannot be read",
            file=shown(path),
            expected="a text file",
            found=shown(getattr(error, "strerror", None) or str(error))[:200],
        ) from error


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            "A file of an atlas is broken",
            file=shown(path),
            expected="JSON",
            found=shown(f"{type(error).__name__}: {error}")[:200],
        ) from error


def read_structures(path: Path) -> tuple[Structure, ...]:
    """Read the names of regions, parents before their parts.

    Parameters
    ----------
    path : Path
        BrainGlobe's ``structures.json``, or a CSV table with the columns ``id``, ``acronym``, ``name`` and
        ``structure_id_path`` (such as ``/997/8/``) or ``parent_structure_id``.

    Raises
    ------
    InputError
        The file is broken, or the hierarchy is none.
    """
    text = read_text(path)
    is_table = path.suffix.lower() == ".csv"
    rows = list(csv.DictReader(io.StringIO(text))) if is_table else _parse_json(path, text)
    try:
        if not isinstance(rows, list) or len(rows) > _MAX_STRUCTURES:
            raise TypeError(f"not a list of at most {_MAX_STRUCTURES} regions")
        parents = {int(r["id"]): _parent(r) for r in rows}
        if len(parents) != len(rows):
            raise ValueError("an id that is given twice")
        found = [_structure(row, parents) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(
            "The table of an atlas's regions is broken",
            file=shown(path),
            expected="for each region id, acronym, name and its place in the hierarchy",
            found=shown(f"{type(error).__name__}: {error}")[:200],
        ) from error
    return tuple(sorted(found, key=lambda s: (len(s.path), s.path)))


def _parent(row: Mapping[str, Any]) -> int | None:
    path = row.get("structure_id_path")
    if path:
        parts = [int(p) for p in path.split("/") if p] if isinstance(path, str) else list(path)
        if not parts or int(parts[-1]) != int(row["id"]):
            raise ValueError(f"the path of region {row['id']} does not end with it")
        return int(parts[-2]) if len(parts) > 1 else None
    parent = row.get("parent_structure_id")
    return int(float(parent)) if parent not in (None, "") else None


def _structure(row: Mapping[str, Any], parents: Mapping[int, int | None]) -> Structure:
    own = int(row["id"])
    path = [own]
    while (parent := parents.get(path[-1])) is not None:
        if parent in path:
            raise ValueError(f"region {own} is a part of itself")
        path.append(parent)
    r, g, b = (int(v) & 255 for v in row.get("rgb_triplet") or (255, 255, 255))
    name = str(row["name"]).strip().strip('"')
    return Structure(own, str(row["acronym"]).strip(), name, tuple(reversed(path)), (r, g, b))
