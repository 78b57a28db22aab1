"""The `info.txt` of a raw tile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from soct.errors import InputError
from soct.formats.tiles import StagePosition, TileInfo, shown

MAX_INFO_BYTES = 64 * 1024
AXIAL_KEYS = ("axial_resolution", "z_resolution", "axial_res", "dz")
STAGE_KEYS = ("stage_x_pos_mm", "stage_y_pos_mm", "stage_z_pos_mm")
_TYPED = {"nx", "ny", "n_extra", "n_repeat", "width", "height", "top_z", "bottom_z", "focus_z"}
KNOWN_KEYS = _TYPED | {"line_rate", "exposure", "alinerepeat", *AXIAL_KEYS, *STAGE_KEYS}
# Far above any microscope; keeps every product of sizes printable.
_LARGEST_INTEGER = 10**15


@dataclass(frozen=True, slots=True)
class ParsedInfo:
    """What `info.txt` says of the tile, and of where the stage was."""

    info: TileInfo
    stage_mm: StagePosition

    @property
    def unknown_keys(self) -> tuple[str, ...]:
        """Keys that soct does not know; they are kept in ``info.extra``."""
        return tuple(key for key in self.info.extra if key not in KNOWN_KEYS)


def _read_pairs(text: str, file: Path) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        key, colon, value = line.partition(":")
        key, value = key.strip().lower(), value.strip()
        is_title = number == 1 and key not in KNOWN_KEYS
        if not colon or not key or is_title:
            continue
        if key in KNOWN_KEYS and pairs.get(key, value) != value:
            raise InputError(
                f"info.txt gives {key} twice",
                file=f"{shown(file)}:{number}",
                expected=f"one value of {key}",
                found=shown(f"{pairs[key]} and {value}"[:200]),
            )
        pairs[key] = value
    return pairs


class _Values:
    """Typed access to the pairs of one file, with errors that name it."""

    def __init__(self, pairs: Mapping[str, str], file: Path) -> None:
        self.pairs = pairs
        self.file = file

    def _fail(self, key: str, expected: str) -> InputError:
        value = self.pairs.get(key)
        found = "no such key" if value is None else shown(repr(value[:80]))
        what = "has no" if value is None else "has a wrong"
        return InputError(
            f"info.txt {what} {key}", file=shown(self.file), expected=expected, found=found
        )

    def number(self, key: str, *, positive: bool = False) -> float:
        expected = f"{key}: a {'positive ' if positive else ''}number"
        try:
            value = float(self.pairs[key])
        except (KeyError, ValueError):
            raise self._fail(key, expected) from None
        if not math.isfinite(value) or (positive and value <= 0):
            raise self._fail(key, expected)
        return value

    def optional(self, key: str, *, positive: bool = False) -> float | None:
        return self.number(key, positive=positive) if key in self.pairs else None

    def integer(self, key: str, minimum: int, default: int | None = None) -> int:
        if default is not None and key not in self.pairs:
            return default
        expected = f"{key}: a whole number of at least {minimum}"
        value = self.number(key)
        if value != int(value) or not minimum <= value <= _LARGEST_INTEGER:
            raise self._fail(key, expected)
        return int(value)


def parse_info(data: bytes, file: Path) -> ParsedInfo:
    """Parse the content of one `info.txt`.

    Parameters
    ----------
    data : bytes
        UTF-8, or Latin-1 as older acquisition software writes it.
    file : Path
        Named in errors.

    Raises
    ------
    InputError
        A key is missing, has a value of the wrong type or range, or is given twice with different values.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    pairs = _read_pairs(text, file)
    values = _Values(pairs, file)
    top = values.integer("top_z", 0)
    info = TileInfo(
        nx=values.integer("nx", 1),
        ny=values.integer("ny", 1),
        n_extra=values.integer("n_extra", 0, default=0),
        n_repeat=values.integer("n_repeat", 1, default=1),
        width_um=values.number("width", positive=True),
        height_um=values.number("height", positive=True),
        top_z=top,
        bottom_z=values.integer("bottom_z", top),
        focus_z=values.optional("focus_z"),
        axial_resolution_um=next(
            (values.number(key, positive=True) for key in AXIAL_KEYS if key in pairs), None
        ),
        extra={key: value for key, value in pairs.items() if key not in _TYPED},
    )
    x, y, z = (values.optional(key) for key in STAGE_KEYS)
    return ParsedInfo(info, (x, y, z))


def read_info(file: Path) -> ParsedInfo:
    """Read one `info.txt`.

    Raises
    ------
    InputError
        The file cannot be read, is larger than `MAX_INFO_BYTES`, or its content is wrong.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_INFO_BYTES + 1)
    except OSError as error:
        raise InputError(
            "info.txt cannot be read",
            file=shown(file),
            expected="a readable text file",
            found=error.strerror or type(error).__name__,
        ) from error
    if len(data) > MAX_INFO_BYTES:
        raise InputError(
            "info.txt is too large",
            file=shown(file),
            expected=f"at most {MAX_INFO_BYTES} bytes",
            found="more than that",
        )
    return parse_info(data, file)
