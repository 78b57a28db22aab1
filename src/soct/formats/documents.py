"""Small JSON documents that steps hand to each other: sorted, without a time, with a clear error."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from soct.errors import InputError
from soct.formats.atomic import write_text


def without_infinities(value: Any) -> Any:
    """Return the same content in words that JSON has: NaN and infinities become null, tuples lists."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): without_infinities(v) for k, v in value.items()}
    return [without_infinities(v) for v in value] if isinstance(value, list | tuple) else value


def write_document(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON object; the same content always gives the same bytes.

    Raises
    ------
    ValueError
        The content holds NaN or infinity, which JSON cannot express.
    """
    write_text(path, json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_document(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    InputError
        The file is missing, unreadable or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "a document of the run cannot be read",
            file=path,
            expected="a JSON object written by soct",
            found=str(error),
            hint="run the same command again: the step that writes it is then redone",
        ) from error
    if not isinstance(content, dict):
        raise InputError(
            "a document of the run is malformed",
            file=path,
            expected="a JSON object",
            found=type(content).__name__,
        )
    return content
