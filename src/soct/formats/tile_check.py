"""Deciding whether a tile folder holds what its `info.txt` promises, from names and sizes alone."""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from pathlib import Path

from soct.errors import InputError
from soct.formats.tile_info import read_info
from soct.formats.tile_search import TileFolder, leaves
from soct.formats.tiles import Problem, TileInfo, TileRecord, shown

# One tile is read as a whole: a larger one is a wrong header or a sparse file.
MAX_TILE_BYTES = 8 << 30


class _Rejected(Exception):
    """The tile cannot be used; carries the parts of a `Problem`."""

    def __init__(self, kind: str, message: str, file: Path, expected: str, found: str) -> None:
        super().__init__(message)
        self.parts = (kind, message, file, expected, found)


def _frame_order(path: Path) -> list[tuple[int, str]]:
    """Sort by name, with numbers as numbers: `image_10` follows `image_9`."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() and part.isascii() else (-1, part) for part in parts]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _Rejected(
            "unreadable", "A tile folder cannot be listed", folder, "a readable folder", reason
        ) from None


def _file_size(entry: os.DirEntry[str], root: Path) -> int:
    path = Path(entry.path)
    if entry.is_symlink() and (reason := leaves(path, root)):
        raise _Rejected(
            "symlink",
            "A symbolic link is not followed",
            path,
            "a file inside the input folder",
            reason,
        )
    try:
        status = entry.stat()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise _Rejected(
            "unreadable", "A file cannot be examined", path, "a regular file", reason
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise _Rejected(
            "unreadable", "Not a regular file", path, "a regular file", "something else"
        )
    return status.st_size


def _check_sizes(info: TileInfo, sizes: dict[Path, int], folder: Path) -> None:
    frame, expected = info.frame_bytes, info.frame_bytes * info.n_frames
    total = sum(sizes.values())
    promised = f"{expected} bytes: {info.n_frames} frames of {frame} bytes"
    for path, size in sizes.items():
        if size == 0 or size % frame:
            what = "is empty" if size == 0 else "is truncated: not a whole number of frames"
            whole = promised if len(sizes) == 1 else f"a multiple of {frame} bytes"
            raise _Rejected("truncated", f"A .bin file {what}", path, whole, f"{size} bytes")
    if total != expected:
        kind = "truncated" if total < expected else "wrong_size"
        files = f"{total} bytes in {len(sizes)} file{'s' if len(sizes) > 1 else ''}"
        where = folder if len(sizes) > 1 else next(iter(sizes))
        raise _Rejected(
            kind, "The .bin files do not have the size that info.txt says", where, promised, files
        )
    if expected > MAX_TILE_BYTES:
        raise _Rejected(
            "too_large",
            "A tile is too large to be one",
            folder,
            f"at most {MAX_TILE_BYTES} bytes",
            f"{expected} bytes",
        )


def _examine(tile: TileFolder, root: Path) -> TileRecord:
    entries = {entry.name: entry for entry in _entries(tile.path)}
    info_file = tile.path / "info.txt"
    if "info.txt" not in entries:
        raise _Rejected("missing_info", "A tile has no info.txt", info_file, "info.txt", "nothing")
    _file_size(entries["info.txt"], root)
    parsed = read_info(info_file)
    sizes = {
        Path(entry.path): _file_size(entry, root)
        for name, entry in entries.items()
        if name.startswith("image_") and name.endswith(".bin")
    }
    if not sizes:
        raise _Rejected(
            "no_data", "A tile has no .bin file", tile.path, "image_*.bin", "no such file"
        )
    _check_sizes(parsed.info, sizes, tile.path)
    return TileRecord(
        slice_id=tile.slice_id,
        row=tile.row,
        col=tile.col,
        folder=tile.path,
        files=tuple(sorted(sizes, key=_frame_order)),
        info=parsed.info,
        stage_mm=parsed.stage_mm,
    )


def check_tile(tile: TileFolder, root: Path) -> TileRecord | Problem:
    """Return the tile, or why it cannot be used.

    Parameters
    ----------
    tile : TileFolder
        Found by `soct.formats.tile_search.search`.
    root : Path
        The input folder, which no link may leave.
    """
    try:
        return _examine(tile, root)
    except _Rejected as rejected:
        kind, message, file, expected, found = rejected.parts
        name = shown(file.relative_to(root))
    except InputError as error:
        # read_info names the file, with the line where it knows it.
        kind, message, name = "malformed_info", error.message, error.file or ""
        name = name.removeprefix(shown(root) + "/")
        expected, found = error.expected or "", error.found or ""
    return Problem(
        kind, message, name, tile.slice_id, tile.row, tile.col, expected=expected, found=found
    )


def split_inconsistent(
    tiles: list[TileRecord], root: Path
) -> tuple[list[TileRecord], list[Problem]]:
    """Separate the tiles of a slice whose shape differs from that of most others.

    A slice is one grid of equal tiles; a tile of another shape has a wrong header.
    """
    shapes = Counter((tile.info.shape, tile.info.nx) for tile in tiles)
    if len(shapes) < 2:
        return tiles, []
    (shape, nx), _ = shapes.most_common(1)[0]
    good, problems = [], []
    for tile in tiles:
        if (tile.info.shape, tile.info.nx) == (shape, nx):
            good.append(tile)
            continue
        problems.append(
            Problem(
                "inconsistent",
                "A tile differs in shape from most tiles of its slice",
                shown(tile.folder.relative_to(root)),
                tile.slice_id,
                tile.row,
                tile.col,
                expected=f"(z, y, x) = {shape} with nx {nx}",
                found=f"{tile.info.shape} with nx {tile.info.nx}",
            )
        )
    return good, problems
