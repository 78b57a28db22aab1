"""The `.scan` text beside Thorlabs `.oct` files: where the stage stood for every tile."""

from __future__ import annotations

import math
import re
from pathlib import Path

from soct.errors import InputError
from soct.formats.tiles import shown

MAX_SCAN_BYTES = 16 << 20
MAX_POSITIONS = 100_000
_NUMERIC = re.compile(r"[-+.\d]")


def _fail(file: Path, number: int, found: str) -> InputError:
    return InputError(
        "A .scan file has no usable positions",
        file=f"{shown(file)}:{number}" if number else shown(file),
        expected="a line with the word Positions, then one `x y` (mm) per line",
        found=shown(found)[:120],
    )


def parse_positions(data: bytes, file: Path) -> tuple[tuple[float, float], ...]:
    """Parse the content of a `.scan` file.

    The list begins after the first line that contains the word *positions* and ends at the first line that
    does not begin with a number. Numbers may be separated by blanks, commas or semicolons; a third one is
    taken as a height and left.

    Parameters
    ----------
    data : bytes
        UTF-8 or Latin-1.
    file : Path
        Named in errors.

    Returns
    -------
    tuple of (float, float)
        Stage positions ``(x, y)`` in millimetres, in the order of the tiles.

    Raises
    ------
    InputError
        There is no marker, no position, or a line that is not one.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    lines = enumerate(text.splitlines(), 1)
    if not any("positions" in line.lower() for _, line in lines):
        raise _fail(file, 0, "no line with the word Positions")
    found: list[tuple[float, float]] = []
    for number, line in lines:
        words = line.replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        if not _NUMERIC.match(words[0]):
            break
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise _fail(file, number, line) from None
        if len(values) not in (2, 3) or not all(abs(v) < 1e6 for v in values):
            raise _fail(file, number, line)
        found.append((values[0], values[1]))
        if len(found) > MAX_POSITIONS:
            raise _fail(file, number, f"more than {MAX_POSITIONS} positions")
    if not found:
        raise _fail(file, 0, "no position after the marker")
    return tuple(found)


def read_positions(file: Path) -> tuple[tuple[float, float], ...]:
    """Read the stage positions ``(x, y)`` in mm from a `.scan` file; see `parse_positions`."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_SCAN_BYTES + 1)
    except OSError as error:
        raise _fail(file, 0, error.strerror or type(error).__name__) from error
    if len(data) > MAX_SCAN_BYTES:
        raise _fail(file, 0, f"more than {MAX_SCAN_BYTES} bytes")
    return parse_positions(data, file)


def group_positions(values: tuple[float, ...], tolerance: float) -> tuple[int, ...]:
    """Return the row (or column) of each position: values nearer than `tolerance` to the next share one."""
    order = sorted(range(len(values)), key=values.__getitem__)
    groups = [0] * len(values)
    last, group = -math.inf, -1
    for i in order:
        if values[i] - last > tolerance:
            group += 1
        groups[i] = group
        last = values[i]
    return tuple(groups)
