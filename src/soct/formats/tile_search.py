"""Finding tile folders, mosaic grids and session files below an input folder, without leaving it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from soct.formats.tiles import Problem, shown

MAX_IGNORED = 10_000
MAX_DEPTH = 64
TILE_NAME = re.compile(r"tile_x(-?\d{1,9})_y(-?\d{1,9})_z(\d{1,9})", re.ASCII)
GRID_NAME = re.compile(r"mosaic_grid_3d_z(\d{1,9})\.ome\.zarr", re.ASCII)
_SLICE_FOLDER = re.compile(r"(?:slice_)?z(\d{1,9})", re.ASCII)
TABLE_NAMES = ("shifts_xy.csv", "slice_config.csv")


@dataclass(frozen=True, slots=True)
class TileFolder:
    """A folder whose name says that it is a tile."""

    slice_id: int
    row: int
    col: int
    path: Path


@dataclass(slots=True)
class Findings:
    """What a search met; `ignored` is relative to the root."""

    tiles: list[TileFolder] = field(default_factory=list)
    grids: list[tuple[int, Path]] = field(default_factory=list)
    octs: list[Path] = field(default_factory=list)
    scans: list[Path] = field(default_factory=list)
    state: Path | None = None
    slice_metadata: dict[int, Path] = field(default_factory=dict)
    tables: dict[str, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: list[Path] = field(default_factory=list)

    def ignore(self, path: Path) -> None:
        """Remember an entry that is none of the input's business."""
        if len(self.ignored) < MAX_IGNORED:
            self.ignored.append(path)


def leaves(path: Path, root: Path) -> str | None:
    """Say why a symbolic link must not be followed, or None where it stays inside `root`."""
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        return f"a link that leads nowhere ({getattr(error, 'strerror', None) or 'loop'})"
    if not target.is_relative_to(root):
        return "a link that leaves the input folder"
    return None


def _refuse_link(entry: os.DirEntry[str], root: Path, findings: Findings) -> None:
    path = Path(entry.path)
    reason = leaves(path, root)
    if reason is None and not path.is_dir():
        findings.ignore(path.relative_to(root))
        return
    tile = TILE_NAME.fullmatch(entry.name)
    findings.problems.append(
        Problem(
            kind="symlink",
            message="A symbolic link is not followed",
            file=shown(path.relative_to(root)),
            slice_id=int(tile[3]) if tile else None,
            row=int(tile[2]) if tile else None,
            col=int(tile[1]) if tile else None,
            expected="folders and files inside the input folder",
            found=reason or "a link to a folder inside the input, which is found by itself",
        )
    )


def _take_file(path: Path, root: Path, findings: Findings) -> None:
    parent = path.parent
    if path.name == "state.json" and parent == root:
        findings.state = path
    elif path.name in TABLE_NAMES and parent == root:
        findings.tables[path.name] = path
    elif path.name == "metadata.json" and (found := _SLICE_FOLDER.fullmatch(parent.name)):
        findings.slice_metadata[int(found[1])] = path
    elif (suffix := path.suffix.lower()) in (".oct", ".scan") and not path.name.startswith("."):
        (findings.octs if suffix == ".oct" else findings.scans).append(path)
    else:
        findings.ignore(path.relative_to(root))


def _take_folder(path: Path, root: Path, findings: Findings) -> bool:
    """Sort a folder; return whether to search inside it."""
    if tile := TILE_NAME.fullmatch(path.name):
        findings.tiles.append(TileFolder(int(tile[3]), int(tile[2]), int(tile[1]), path))
    elif grid := GRID_NAME.fullmatch(path.name):
        findings.grids.append((int(grid[1]), path))
    elif path.suffix == ".zarr" or path.name.startswith("."):
        findings.ignore(path.relative_to(root))
    elif len(path.relative_to(root).parts) > MAX_DEPTH:
        findings.problems.append(
            Problem(
                "unreadable",
                "Folders are nested too deeply",
                file=shown(path.relative_to(root)),
                expected=f"at most {MAX_DEPTH} levels",
                found="more",
            )
        )
    else:
        return True
    return False


def _list(folder: Path, root: Path, findings: Findings) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        findings.problems.append(
            Problem(
                "unreadable",
                "A folder cannot be listed",
                file=shown(folder.relative_to(root)),
                expected="a readable folder",
                found=error.strerror or type(error).__name__,
            )
        )
        return []


def search(root: Path) -> Findings:
    """Search an input folder, at any depth, for all that belongs to an acquisition.

    Symbolic links to folders are never followed: those that leave `root`, or loop, become problems.

    Parameters
    ----------
    root : Path
        Absolute, resolved folder.
    """
    findings = Findings()
    pending = [root]
    while pending:
        folder = pending.pop()
        for entry in _list(folder, root, findings):
            path = Path(entry.path)
            if entry.is_symlink():
                _refuse_link(entry, root, findings)
            elif entry.is_dir(follow_symlinks=False):
                if _take_folder(path, root, findings):
                    pending.append(path)
            elif entry.is_file(follow_symlinks=False):
                _take_file(path, root, findings)
            else:
                findings.ignore(path.relative_to(root))
    findings.tiles.sort(key=lambda t: (t.slice_id, t.row, t.col, t.path))
    findings.grids.sort()
    findings.scans.sort()
    findings.ignored.sort()
    return findings
