"""Sorting `.oct` files into slices, tiles and angles, with the positions of their `.scan` companions.

Which slice a file belongs to is told by ``z<NN>`` or ``slice<NN>`` in its own name, else by the nearest
folder above it. Within a slice, files are in the order of their numbers, and the angles of one tile follow
each other: file ``k`` is angle ``k % n`` of position ``k // n``, where n is the number of files per position.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from soct.errors import InputError
from soct.formats.scan_positions import group_positions, read_positions
from soct.formats.thorlabs import read_header
from soct.formats.thorlabs_header import OctHeader
from soct.formats.tile_check import split_inconsistent
from soct.formats.tiles import Problem, SliceRecord, TileInfo, TileRecord, shown

_SLICE = re.compile(
    r"(?:^|[^a-z0-9])(?:slice[_\- ]?z?|z)(\d{1,9})(?![0-9])", re.ASCII | re.IGNORECASE
)
_DIGITS = re.compile(r"(\d+)", re.ASCII)
# Positions nearer than this part of the field of view are in the same row (or column).
_SAME_LINE = 0.25


def _slice_of(file: Path, root: Path) -> int:
    names = [file.stem, *(parent.name for parent in file.parents if parent.is_relative_to(root))]
    for name in names[: 1 + len(file.parent.relative_to(root).parts)]:
        if found := _SLICE.search(name):
            return int(found[1])
        if name is not file.stem and name.isdigit() and name.isascii() and len(name) < 10:
            return int(name)
    return 0


def _natural(file: Path) -> tuple[list[tuple[int, str]], str]:
    parts = _DIGITS.split(file.name)
    return [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts)], str(file)


def _problem(
    kind: str, message: str, file: str, slice_id: int, expected: str, found: str
) -> Problem:
    return Problem(kind, message, file, slice_id, expected=expected, found=found)


def _numbers(files: Sequence[Path]) -> list[int] | None:
    """Return the running number of each file, where exactly one number in the names runs."""
    names = [_DIGITS.split(file.stem) for file in files]
    if len({(len(name), *name[::2]) for name in names}) != 1:
        return None
    columns = [column for column in zip(*names, strict=True) if len(set(column)) > 1]
    if len(columns) != 1 or len(set(map(int, columns[0]))) != len(files):
        return None
    return [int(text) for text in columns[0]]


@dataclass(frozen=True)
class _Order:
    """Which file is which angle of which position."""

    angles: int
    files: dict[int, Path]
    """By running index."""

    def at(self, position: int) -> dict[int, Path]:
        first = position * self.angles
        found = ((a, self.files.get(first + a)) for a in range(self.angles))
        return {angle: file for angle, file in found if file is not None}


def _order(files: Sequence[Path], positions: int) -> _Order | None:
    """Return the order of a slice's files; None where they do not fit the number of positions."""
    numbers = _numbers(files)
    if numbers is not None:
        # Software counts from 0 or 1; a list that begins later says where it begins by its first number.
        start = min(numbers) if min(numbers) > 1 else min(1, *numbers)
        span = max(numbers) - start + 1
        angles = -(-span // positions)
        if len(files) * 2 > angles * positions:
            indexed = {n - start: file for n, file in zip(numbers, files, strict=True)}
            return _Order(angles, indexed)
    angles, rest = divmod(len(files), positions)
    return None if rest or not angles else _Order(angles, dict(enumerate(files)))


def _companion(slice_id: int, folder: Path, root: Path, scans: Sequence[Path]) -> Path | None:
    """Return the `.scan` file of a slice: the one beside its files, else the nearest one above."""
    while folder.is_relative_to(root):
        here = [scan for scan in scans if scan.parent == folder]
        named = [s for s in here if (m := _SLICE.search(s.stem)) and int(m[1]) == slice_id]
        neutral = [scan for scan in here if not _SLICE.search(scan.stem)]
        chosen = named or neutral
        if chosen:
            return chosen[0]
        folder = folder.parent
    return None


def _info(header: OctHeader) -> TileInfo:
    x, y, z = header.size
    width, height, depth = header.range_mm
    return TileInfo(
        nx=x,
        ny=y,
        n_extra=0,
        n_repeat=1,
        width_um=1000 * width,
        height_um=1000 * height,
        top_z=0,
        bottom_z=z - 1,
        axial_resolution_um=1000 * depth / z,
        extra={"a_scan_averaging": str(header.averaging)},
    )


@dataclass(frozen=True)
class _Slice:
    slice_id: int
    root: Path
    positions: tuple[tuple[float, float], ...]
    order: _Order

    def tiles(self) -> tuple[list[TileRecord], list[Problem]]:
        """Return the usable tiles, and a problem for every file that is absent or cannot be used."""
        headers: dict[int, dict[int, OctHeader]] = {}
        problems: list[Problem] = []
        missing: list[tuple[int, int]] = []
        for k in range(len(self.positions)):
            found = self.order.at(k)
            for angle in range(self.order.angles):
                if angle not in found:
                    missing.append((k, angle))
                    continue
                try:
                    headers.setdefault(k, {})[angle] = read_header(found[angle])
                except InputError as error:
                    problems.append(self._unusable(error, found[angle]))
        if not headers:
            return [], problems
        places = self._places(next(iter(next(iter(headers.values())).values())))
        problems += [
            self._missing(k, angle, None if k in headers else places[k]) for k, angle in missing
        ]
        taken: set[tuple[int, int]] = set()
        tiles = []
        for k, by_angle in sorted(headers.items(), key=lambda item: places[item[0]]):
            files = tuple(self.order.at(k)[angle] for angle in sorted(by_angle))
            if places[k] in taken:
                problems.append(self._double(k, files[0], places[k]))
                continue
            taken.add(places[k])
            tiles.append(
                TileRecord(
                    slice_id=self.slice_id,
                    row=places[k][0],
                    col=places[k][1],
                    folder=files[0],
                    files=files,
                    info=_info(next(iter(by_angle.values()))),
                    stage_mm=(*self.positions[k], None),
                    data_type="psoct",
                    angles=tuple(sorted(by_angle)),
                )
            )
        return tiles, problems

    def _places(self, header: OctHeader) -> list[tuple[int, int]]:
        x, y = (tuple(p[axis] for p in self.positions) for axis in (0, 1))
        rows = group_positions(y, _SAME_LINE * header.range_mm[1])
        cols = group_positions(x, _SAME_LINE * header.range_mm[0])
        return list(zip(rows, cols, strict=True))

    def _missing(self, k: int, angle: int, place: tuple[int, int] | None) -> Problem:
        x, y = self.positions[k]
        row, col = place if place is not None else (None, None)
        return Problem(
            "missing_tile",
            "A .oct file is missing",
            "",
            self.slice_id,
            row,
            col,
            f"a file for angle {angle} of position {k + 1} ({x:g}, {y:g}) mm",
            "nothing",
        )

    def _unusable(self, error: InputError, file: Path) -> Problem:
        name = (error.file or str(file)).replace(shown(self.root) + "/", "", 1)
        return _problem(
            "malformed_oct",
            error.message,
            name,
            self.slice_id,
            error.expected or "",
            error.found or "",
        )

    def _double(self, k: int, file: Path, place: tuple[int, int]) -> Problem:
        return _problem(
            "duplicate",
            "Two positions of a .scan file are the same; the first is used",
            shown(file.relative_to(self.root)),
            self.slice_id,
            f"one tile in row {place[0]}, column {place[1]}",
            f"position {k + 1} as well",
        )


def _collect(slice_id: int, found: list[Path], scans: Sequence[Path], root: Path) -> SliceRecord:
    folder = found[0].parent
    files = sorted((file for file in found if file.parent == folder), key=_natural)
    problems = [
        _problem(
            "duplicate",
            "A slice has .oct files in two folders; the first folder is used",
            shown(file.relative_to(root)),
            slice_id,
            f"all files of slice {slice_id} in {shown(folder.relative_to(root)) or '.'}",
            "another folder",
        )
        for file in found
        if file.parent != folder
    ]
    tiles: list[TileRecord] = []
    try:
        tiles, more = _tiles(slice_id, files, scans, root)
        problems += more
    except InputError as error:
        name = (error.file or "").replace(shown(root) + "/", "", 1)
        problems.append(
            _problem(
                "malformed_scan",
                error.message,
                name,
                slice_id,
                error.expected or "",
                error.found or "",
            )
        )
    tiles, inconsistent = split_inconsistent(tiles, root)
    problems += inconsistent
    if not tiles:
        problems.append(
            _problem(
                "no_usable_tile",
                "A slice has no usable tile",
                "",
                slice_id,
                "at least one usable tile",
                f"{len(files)} .oct files, none usable",
            )
        )
    return SliceRecord(slice_id, tuple(tiles), tuple(problems), root=root)


def _tiles(
    slice_id: int, files: Sequence[Path], scans: Sequence[Path], root: Path
) -> tuple[list[TileRecord], list[Problem]]:
    scan = _companion(slice_id, files[0].parent, root, scans)
    if scan is None:
        raise InputError(
            "A folder of .oct files has no .scan file, so the places of its tiles are unknown",
            file=shown(files[0].parent),
            expected="a .scan file beside the .oct files, or in a folder above",
            found="none",
        )
    positions = read_positions(scan)
    order = _order(files, len(positions))
    if order is None:
        raise InputError(
            "The .oct files of a slice do not fit the positions of its .scan file",
            file=shown(scan),
            expected=f"a multiple of {len(positions)} files: one per position and angle",
            found=f"{len(files)} files",
        )
    return _Slice(slice_id, root, positions, order).tiles()


def collect_slices(
    octs: Iterable[Path], scans: Sequence[Path], root: Path
) -> dict[int, SliceRecord]:
    """Sort `.oct` files into slices; what cannot be used becomes a problem of its slice.

    Parameters
    ----------
    octs, scans : sequence of Path
        Files found below `root`.
    root : Path
        The input folder, absolute.
    """
    found = sorted(
        ((_slice_of(file, root), file) for file in octs), key=lambda item: (item[0], str(item[1]))
    )
    return {
        slice_id: _collect(slice_id, [file for _, file in group], scans, root)
        for slice_id, group in groupby(found, key=lambda item: item[0])
    }
