"""Session metadata that acquisition software leaves beside the tiles (`state.json`, `metadata.json`)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from soct.formats.tiles import Problem, shown

MAX_JSON_BYTES = 4 << 20


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < 2**63


def _is_positive(value: object) -> bool:
    return _is_number(value) and value > 0  # type: ignore[operator]


def _is_fraction(value: object) -> bool:
    return _is_number(value) and 0 <= value < 1  # type: ignore[operator]


def _is_any(value: object) -> bool:
    numbers = value if isinstance(value, list) else [value]
    return 0 < len(numbers) <= 3 and all(_is_positive(number) for number in numbers)


_FIELDS: tuple[tuple[str, str, Callable[[object], bool], str], ...] = (
    ("slice_thickness", "slice_thickness_mm", _is_positive, "a positive number of mm"),
    ("overlap_fraction", "overlap_fraction", _is_fraction, "a number from 0 up to, not including, 1"),
    ("tile_size_um", "tile_size_um", _is_any, "one to three positive numbers of um"),
    ("tile_n_samples", "tile_n_samples", _is_any, "one to three positive numbers"),
    ("z_min", "z_min", _is_number, "a number"),
    ("z_max", "z_max", _is_number, "a number"),
)  # fmt: skip


def read_json_object(path: Path) -> dict[str, Any] | str:
    """Return the object in a small JSON file, or what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if len(data) > MAX_JSON_BYTES:
            return f"more than {MAX_JSON_BYTES} bytes"
        content = json.loads(data)
    except OSError as error:
        return error.strerror or type(error).__name__
    except (ValueError, RecursionError) as error:
        return f"{type(error).__name__}: {shown(str(error))[:200]}"
    return content if isinstance(content, dict) else f"a JSON {type(content).__name__}"


def read_session(
    state: Path | None, slice_metadata: Mapping[int, Path], root: Path
) -> tuple[dict[str, Any], list[Problem]]:
    """Read the session files; the first that knows a value wins, `state.json` before the slices.

    Returns
    -------
    session : dict
        See `soct.formats.tiles.Acquisition`.
    problems : list of Problem
        Files that cannot be read, values that cannot be.
    """
    session: dict[str, Any] = {}
    problems: list[Problem] = []
    sources = [(None, state)] if state is not None else []
    sources += [(slice_id, path) for slice_id, path in sorted(slice_metadata.items())]  # type: ignore[misc]
    for slice_id, path in sources:
        name = shown(path.relative_to(root))
        content = read_json_object(path)
        if isinstance(content, str):
            problems.append(
                Problem(
                    "unreadable",
                    "Session metadata cannot be read",
                    name,
                    slice_id,
                    expected="a JSON object",
                    found=content,
                )
            )
            continue
        if slice_id is None:
            session["state"] = content
        else:
            session.setdefault("slices", {})[slice_id] = content
        for key, target, is_valid, expected in _FIELDS:
            if key not in content or content[key] is None:
                continue
            if is_valid(content[key]):
                session.setdefault(target, content[key])
            else:
                found = shown(repr(content[key]))[:80]
                problems.append(
                    Problem(
                        "unreadable",
                        f"Session metadata has a wrong {key}",
                        name,
                        slice_id,
                        expected=expected,
                        found=found,
                    )
                )
    return session, problems
