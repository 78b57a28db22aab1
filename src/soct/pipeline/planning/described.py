"""An acquisition that nobody has recorded yet, from a description: for plans before the first cut.

Its slices and tiles have names and sizes, which is all that planning reads; there are no files.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from soct.errors import UsageError
from soct.formats.tiles import (
    BYTES_PER_SAMPLE,
    Acquisition,
    SliceRecord,
    TileInfo,
    TileRecord,
)
from soct.pipeline.profiles.layers import Origin, Setting, merge, settings_of_document
from soct.pipeline.profiles.quantities import format_size, parse_size
from soct.pipeline.profiles.strict_yaml import read_document, refuse
from soct.pipeline.profiles.validation import validate_section

_DEPTH = 256
"""Samples along depth where only the size of the raw data is told."""
_NOWHERE = Path("described")
_TOLERANCE = 0.1


def parse_product(text: str, parts: int) -> tuple[int, ...]:
    """Return whole numbers between crosses, such as ``20x20``.

    Raises
    ------
    ValueError
        It is anything else.
    """
    numbers = re.split(r"[x×X*]", text.replace(" ", ""))
    if len(numbers) != parts or not all(re.fullmatch(r"[1-9]\d{0,5}", n) for n in numbers):
        shown = "x".join("ABC"[:parts])
        raise ValueError(f"{text!r} is not {parts} whole numbers such as {shown}")
    return tuple(int(n) for n in numbers)


def parse_tiles(value: Any) -> Any:
    """Return rows and columns: of ``20x20``, or of a number of tiles, as square as they can be laid."""
    if isinstance(value, str) and not value.strip().isdigit():
        return parse_product(value, 2)
    count = int(value) if isinstance(value, str) else value
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        return value
    rows = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
    # A prime number of tiles is no grid: they are laid on one that is about square.
    rows = rows if rows * rows * 4 >= count else math.isqrt(count)
    return rows, math.ceil(count / rows)


def parse_tile_size(value: Any) -> Any:
    """Return the voxels of a tile along x, y and z, of ``512x512x700``."""
    return parse_product(value, 3) if isinstance(value, str) else value


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


class Description(BaseModel):
    """What an acquisition will be."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    slices: int = Field(..., ge=1, le=10_000, description="Number of slices.")
    tiles: Annotated[tuple[int, int], BeforeValidator(parse_tiles)] = Field(
        ..., description="Tiles of a slice: rows x columns, such as 20x20, or their number."
    )
    tile_size: Annotated[tuple[int, int, int] | None, BeforeValidator(parse_tile_size)] = Field(
        None, description="Voxels of a tile along x, y and depth, such as 512x512x700."
    )
    raw_size: Annotated[int | None, BeforeValidator(_size)] = Field(
        None, ge=1, description="Size of all raw tiles, such as 1TB, in place of tile_size."
    )
    pixel_um: float = Field(10.0, gt=0, le=1000, description="Lateral sampling, in micrometres.")
    axial_um: float = Field(3.5, gt=0, le=1000, description="Sampling in depth, in micrometres.")

    @property
    def tile(self) -> tuple[int, int, int]:
        """Voxels along x, y and depth.

        Raises
        ------
        UsageError
            Neither or two contradicting sizes are told.
        """
        tiles = self.slices * math.prod(self.tiles)
        if self.tile_size is None:
            if self.raw_size is None:
                raise UsageError(
                    "A description needs the size of its tiles, or of all raw data",
                    expected="tile_size (--tile-size 512x512x700) or raw_size (--raw-size 1TB)",
                )
            edge = math.sqrt(self.raw_size / (tiles * BYTES_PER_SAMPLE * _DEPTH))
            return max(1, round(edge)), max(1, round(edge)), _DEPTH
        size = tiles * math.prod(self.tile_size) * BYTES_PER_SAMPLE
        if self.raw_size is not None and abs(size / self.raw_size - 1) > _TOLERANCE:
            raise UsageError(
                "The size of the tiles and that of all raw data contradict each other",
                expected=f"{format_size(size)}: {tiles} tiles of "
                f"{'x'.join(map(str, self.tile_size))} voxels of {BYTES_PER_SAMPLE} bytes",
                found=format_size(self.raw_size),
                hint="Leave one of them out.",
            )
        return self.tile_size

    def __str__(self) -> str:
        rows, columns = self.tiles
        x, y, z = self.tile
        told = ""
        if self.raw_size is not None and self.tile_size is not None:
            size = self.slices * rows * columns * x * y * z * BYTES_PER_SAMPLE
            told = f"; {format_size(size)} of raw data, {format_size(self.raw_size)} were told"
        return (
            f"{self.slices} slices of {rows} x {columns} tiles of {x} x {y} x {z} voxels, "
            f"{self.pixel_um:g} um lateral, {self.axial_um:g} um in depth{told}"
        )


@dataclass(frozen=True)
class Described:
    """A description with its acquisition."""

    description: Description
    acquisition: Acquisition


def describe(file: Path | None, options: Mapping[str, Any]) -> Described:
    """Return the acquisition that a file and options describe.

    Parameters
    ----------
    file : Path, optional
        YAML with the keys of `Description`.
    options : mapping
        Values by key, which replace those of the file; None values are left out.

    Raises
    ------
    ConfigurationError
        With one line for every problem.
    UsageError
        Something lacks, or the sizes contradict each other.
    """
    if file is None:
        _check_told(options)
    settings: list[Setting] = []
    if file is not None:
        settings += settings_of_document(read_document(file), "description")
    settings += [
        Setting((key,), value, Origin("command line", f"--{key.replace('_', '-')}"))
        for key, value in options.items()
        if value is not None
    ]
    checked = validate_section(Description, list(merge(settings).values()), 0, str(file or ""))
    refuse(list(checked.problems))
    assert isinstance(checked.model, Description)
    return Described(checked.model, acquisition_of(checked.model))


def _check_told(options: Mapping[str, Any]) -> None:
    """Raise UsageError where options alone describe an acquisition, and one of them lacks."""
    sizes = [options.get("tile_size"), options.get("raw_size")]
    lacking = [f"--{key}" for key in ("slices", "tiles") if options.get(key) is None]
    if sizes == [None, None]:
        lacking.append("--tile-size or --raw-size")
    if lacking:
        raise UsageError(
            f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} missing",
            expected="--slices, --tiles, and --tile-size or --raw-size",
            hint="For instance: soct plan --slices 60 --tiles 20x20 --raw-size 1TB",
        )


def acquisition_of(description: Description) -> Acquisition:
    """Return slices and tiles with names and sizes, and no files."""
    x, y, z = description.tile
    info = TileInfo(
        nx=x,
        ny=y,
        n_extra=0,
        n_repeat=1,
        width_um=x * description.pixel_um,
        height_um=y * description.pixel_um,
        top_z=0,
        bottom_z=z - 1,
        axial_resolution_um=description.axial_um,
    )
    rows, columns = description.tiles
    first = TileRecord(0, 0, 0, _NOWHERE, (), info)
    # All slices share the tiles of one: their positions and sizes are read, never their slice.
    tiles = tuple(replace(first, row=r, col=c) for r in range(rows) for c in range(columns))
    slices = {s: SliceRecord(s, tiles, root=_NOWHERE) for s in range(description.slices)}
    return Acquisition(_NOWHERE, "raw", slices)


def fingerprint_of_described(record: SliceRecord) -> dict[str, str]:
    """Stand in for the fingerprint of files that are not there."""
    return {f"slice {record.slice_id}": "described"}
