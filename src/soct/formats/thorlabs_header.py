"""The `Header.xml` of a Thorlabs `.oct` file: what its samples are, checked before any of them is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from soct.errors import InputError
from soct.formats.tiles import shown

MAX_HEADER_BYTES = 4 << 20
BYTES_PER_SAMPLE = 8
MEMBERS = ("data/Complex.data", "data/Complex_Cam1.data")
"""Samples of polarisation 0 and 1."""
_MAX_DEPTH = 64
# No sample count of a microscope has more digits; keeps every product printable.
_LARGEST = 10**7
_LARGEST_RANGE_MM = 1000.0


@dataclass(frozen=True, slots=True)
class OctHeader:
    """What a `.oct` file says of its samples.

    Attributes
    ----------
    size : tuple of int
        ``(x, y, z)``: A-lines per B-scan, B-scans, depth samples.
    range_mm : tuple of float
        Field of view ``(x, y, z)``.
    averaging : int
        A-scans that the microscope averages to one.
    """

    size: tuple[int, int, int]
    range_mm: tuple[float, float, float]
    averaging: int = 1

    @property
    def n_bytes(self) -> int:
        """Size of one polarisation's samples, averaged."""
        return BYTES_PER_SAMPLE * math.prod(self.size)


@dataclass
class _Reader:
    """Collects what is needed from the events of a parser; no tree is built."""

    path: list[str] = field(default_factory=list)
    attributes: list[dict[str, str]] = field(default_factory=list)
    text: str = ""
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    averaging: str | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self.path) >= _MAX_DEPTH:
            raise ValueError(f"elements nested more than {_MAX_DEPTH} deep")
        self.path.append(name)
        self.attributes.append(attributes)
        self.text = ""

    def data(self, text: str) -> None:
        self.text += text[:1000]

    def end(self, name: str) -> None:
        attributes = self.attributes.pop()
        self.path.pop()
        text = self.text.strip()
        if name == "DataFile":
            self.files[text.replace("\\", "/").lower()] = attributes
        elif name == "AScans" and self.path and self.path[-1].endswith("Averaging"):
            self.averaging = text
        self.text = ""


def _refuse_declaration(*_: object) -> None:
    raise ValueError("a document type or entity declaration")


def _parse(data: bytes) -> _Reader:
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    # Entities are how a small document becomes a large one, or reads other files.
    parser.StartDoctypeDeclHandler = _refuse_declaration
    parser.EntityDeclHandler = _refuse_declaration
    parser.Parse(data, True)
    return reader


def _count(values: Mapping[str, str], key: str) -> int:
    number = int(values[key])
    if not 0 < number <= _LARGEST:
        raise ValueError(f"{key} {number}")
    return number


def _range(values: Mapping[str, str], key: str) -> float:
    number = float(values[key])
    if not 0 < number <= _LARGEST_RANGE_MM:
        raise ValueError(f"{key} {number}")
    return number


def parse_header(data: bytes, file: Path) -> OctHeader:
    """Parse the content of a `Header.xml`.

    Parameters
    ----------
    data : bytes
        In any encoding that XML declares.
    file : Path
        The `.oct` file, named in errors.

    Raises
    ------
    InputError
        It is not XML, declares entities, or does not describe complex samples of a plausible size.
    """
    try:
        reader = _parse(data)
        values = reader.files[MEMBERS[0].lower()]
        x, y, z = (_count(values, f"Size{axis}") for axis in "XYZ")
        width, height, depth = (_range(values, f"Range{axis}") for axis in "XYZ")
        averaging = _count({"AScans": reader.averaging or "1"}, "AScans")
    except (expat.ExpatError, KeyError, ValueError, OverflowError, LookupError) as error:
        raise InputError(
            "Header.xml does not describe complex samples",
            file=f"{shown(file)}: Header.xml",
            expected=r"a DataFile entry data\Complex.data with SizeX/Y/Z and RangeX/Y/Z (mm)",
            found=shown(f"{type(error).__name__}: {error}")[:200],
        ) from error
    return OctHeader((x, y, z), (width, height, depth), averaging)
