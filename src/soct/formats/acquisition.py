"""Opening an input folder: raw tiles in any layout, Thorlabs `.oct` files, or the mosaic grids of its slices.

Only names, sizes and the small text files are read, so 25,000 tiles take seconds. Whatever cannot be used
becomes a `Problem`; only an input with nothing usable at all is an error.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from itertools import groupby, pairwise
from pathlib import Path

from soct.compute.containers import hint_to_bind
from soct.errors import InputError
from soct.formats.session import read_session
from soct.formats.thorlabs_search import collect_slices
from soct.formats.tile_check import check_tile, split_inconsistent
from soct.formats.tile_search import Findings, TileFolder, search
from soct.formats.tiles import (
    Acquisition,
    Problem,
    SliceRecord,
    StagePosition,
    TileInfo,
    TileRecord,
    shown,
)

__all__ = [
    "Acquisition",
    "Problem",
    "SliceRecord",
    "StagePosition",
    "TileInfo",
    "TileRecord",
    "fingerprint_slice",
    "open_acquisition",
]

# Beyond this, a gap is one mistyped index, and one problem tells more than a million.
MAX_LISTED_GAP = 1_000
MAX_GRID_POSITIONS = 100_000


def _keep_first(found: list[TileFolder], root: Path) -> tuple[list[TileRecord], list[Problem]]:
    """Check the folders of one slice; where an index comes twice, the first usable one counts."""
    good: list[TileRecord] = []
    problems: list[Problem] = []
    for (row, col), group in groupby(found, key=lambda t: (t.row, t.col)):
        kept: TileRecord | None = None
        for folder in group:
            checked = check_tile(folder, root)
            if isinstance(checked, Problem):
                problems.append(checked)
            elif kept is None:
                kept = checked
            else:
                problems.append(
                    Problem(
                        "duplicate",
                        "A tile index comes twice; the first folder is used",
                        shown(folder.path.relative_to(root)),
                        folder.slice_id,
                        row,
                        col,
                        expected=f"only {shown(kept.folder.relative_to(root))}",
                        found="another folder with the same x, y and z",
                    )
                )
        if kept is not None:
            good.append(kept)
    return good, problems


def _missing_tiles(slice_id: int, found: Iterable[TileFolder]) -> list[Problem]:
    """Name the positions without a folder inside the rectangle that the slice's folders span."""
    present = {(tile.row, tile.col) for tile in found}
    rows = [row for row, _ in present]
    cols = [col for _, col in present]
    n_rows, n_cols = max(rows) - min(rows) + 1, max(cols) - min(cols) + 1
    where = f"rows {min(rows)}..{max(rows)}, columns {min(cols)}..{max(cols)}"
    if n_rows * n_cols > MAX_GRID_POSITIONS:
        return [
            Problem(
                "implausible_grid",
                "The tile indices of a slice span too large a grid",
                slice_id=slice_id,
                expected=f"at most {MAX_GRID_POSITIONS} positions",
                found=f"{n_rows * n_cols} positions ({where}) for {len(present)} tiles",
            )
        ]
    return [
        Problem(
            "missing_tile",
            "A tile is missing",
            f"tile_x{col:02d}_y{row:02d}_z{slice_id:02d}",
            slice_id,
            row,
            col,
            expected=f"a folder for every position in {where}",
            found="nothing",
        )
        for row in range(min(rows), max(rows) + 1)
        for col in range(min(cols), max(cols) + 1)
        if (row, col) not in present
    ]


def _collect_slice(slice_id: int, found: list[TileFolder], root: Path) -> SliceRecord:
    missing = _missing_tiles(slice_id, found)
    if missing and missing[0].kind == "implausible_grid":
        return SliceRecord(slice_id, problems=tuple(missing), root=root)
    good, problems = _keep_first(found, root)
    good, inconsistent = split_inconsistent(good, root)
    problems += [*inconsistent, *missing]
    if not good:
        problems.append(
            Problem(
                "no_usable_tile",
                "A slice has no usable tile",
                slice_id=slice_id,
                expected="at least one usable tile",
                found=f"{len(found)} folders, none usable",
            )
        )
    return SliceRecord(slice_id, tuple(good), tuple(problems), root=root)


def _missing_slices(ids: Iterable[int]) -> list[Problem]:
    problems = []
    for before, after in pairwise(sorted(ids)):
        gap = after - before - 1
        if gap > MAX_LISTED_GAP:
            problems.append(
                Problem(
                    "missing_slice",
                    f"{gap} slices are missing between {before} and {after}",
                    expected="consecutive slice ids",
                    found=f"{before}, then {after}",
                )
            )
            continue
        problems += [
            Problem(
                "missing_slice",
                f"Slice {slice_id} is missing",
                slice_id=slice_id,
                expected="consecutive slice ids",
                found=f"{before}, then {after}",
            )
            for slice_id in range(before + 1, after)
        ]
    return problems


def _collect_grids(findings: Findings, root: Path) -> tuple[dict[int, SliceRecord], list[Problem]]:
    slices: dict[int, SliceRecord] = {}
    problems: list[Problem] = []
    for slice_id, path in findings.grids:
        if slice_id in slices:
            problems.append(
                Problem(
                    "duplicate",
                    "A slice has two mosaic grids; the first is used",
                    shown(path.relative_to(root)),
                    slice_id,
                    expected="one mosaic grid per slice",
                    found="another one",
                )
            )
            continue
        slices[slice_id] = _check_grid(slice_id, path, root)
    return slices, problems


def _check_grid(slice_id: int, path: Path, root: Path) -> SliceRecord:
    """Open a grid's metadata; one that cannot be opened is a slice without tiles."""
    from soct.formats.mosaic_grid import open_mosaic_grid

    try:
        open_mosaic_grid(path, threads=1)
    except InputError as error:
        problem = Problem(
            "no_usable_tile",
            f"A slice's mosaic grid cannot be used: {error.message}",
            shown(path.relative_to(root)),
            slice_id,
            expected=error.expected or "",
            found=error.found or "",
        )
        return SliceRecord(slice_id, problems=(problem,), root=root)
    return SliceRecord(slice_id, grid=path, root=root)


def _resolve(path: Path) -> Path:
    expected = "a folder with tile_x<int>_y<int>_z<int> folders or mosaic_grid_3d_z<NN>.ome.zarr"
    try:
        root = Path(path).resolve(strict=True)
        is_folder = root.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise InputError(
            "The input cannot be opened",
            file=shown(path),
            expected=expected,
            found=getattr(error, "strerror", None) or type(error).__name__,
            hint=hint_to_bind(path) or None,
        ) from error
    if not is_folder:
        raise InputError(
            "The input is not a folder", file=shown(path), expected=expected, found="a file"
        )
    return root


def open_acquisition(path: Path) -> Acquisition:
    """Look through an input folder.

    Parameters
    ----------
    path : Path
        Tile folders ``tile_x<int>_y<int>_z<int>`` at any depth, Thorlabs `.oct` files with their `.scan`
        files, or mosaic grids ``mosaic_grid_3d_z<NN>.ome.zarr``.

    Returns
    -------
    Acquisition
        Its slices, its usable tiles, and every problem that was found.

    Raises
    ------
    InputError
        The folder does not exist, or holds nothing usable.
    """
    root = _resolve(path)
    findings = search(root)
    session, problems = read_session(findings.state, findings.slice_metadata, root)
    problems = [*findings.problems, *problems]
    grids, grid_problems = _collect_grids(findings, root)
    slices = {
        slice_id: _collect_slice(slice_id, list(group), root)
        for slice_id, group in groupby(findings.tiles, key=lambda t: t.slice_id)
    }
    if findings.octs and not slices:
        slices = collect_slices(findings.octs, findings.scans, root)
    elif findings.octs:
        problems.append(
            _mixed(findings.octs[0], f"{len(findings.octs)} .oct files", findings, root)
        )
    kind = "raw" if any(record.tiles for record in slices.values()) or not grids else "grid"
    if kind == "grid":
        slices, problems = grids, [*problems, *grid_problems]
    elif grids:
        problems.append(
            _mixed(findings.grids[0][1], f"{len(findings.grids)} grids", findings, root)
        )
    problems += _missing_slices(slices)
    for record in slices.values():
        problems += record.problems
    if not any(record.tiles or record.grid for record in slices.values()):
        raise _nothing_usable(root, findings, problems)
    return Acquisition(
        root=root,
        kind="raw" if kind == "raw" else "grid",
        slices=slices,
        problems=tuple(problems),
        ignored=tuple(findings.ignored),
        session=session,
        tables=findings.tables,
    )


def _mixed(other: Path, what: str, findings: Findings, root: Path) -> Problem:
    raw = (
        f"{len(findings.tiles)} tile folders"
        if findings.tiles
        else f"{len(findings.octs)} .oct files"
    )
    return Problem(
        "mixed_input",
        "The input holds several kinds of data; the raw tiles are used",
        shown(other.relative_to(root)),
        expected="raw tiles, .oct files or mosaic grids",
        found=f"{raw} and {what}",
    )


def _nothing_usable(root: Path, findings: Findings, problems: list[Problem]) -> InputError:
    what = (
        f"{len(findings.tiles)} tile folders, none usable"
        if findings.tiles
        else f"{len(findings.octs)} .oct files, none usable"
        if findings.octs
        else "no such folder"
    )
    if problems:
        first = problems[0]
        what += f"; the first of {len(problems)} problems: {first.message} ({first.file}"
        what += f"; expected {first.expected}, found {first.found})"
    return InputError(
        "The input holds no usable tile",
        file=shown(root),
        expected="folders named tile_x<int>_y<int>_z<int> with info.txt and image_*.bin, at any depth, "
        ".oct files with a .scan file, or mosaic_grid_3d_z<NN>.ome.zarr",
        found=what,
        hint="Point soct at the folder that holds the tile folders or their per-slice folders.",
    )


def _describe(path: Path) -> str:
    try:
        status = path.stat()
        if path.name in {"info.txt", "zarr.json", ".zarray", ".zattrs"}:
            return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError as error:
        return f"unreadable: {type(error).__name__}"
    return f"{status.st_size}:{status.st_mtime_ns}"


def _raw_files(tile: TileRecord) -> tuple[Path, ...]:
    return tile.files if tile.data_type == "psoct" else (tile.folder / "info.txt", *tile.files)


def fingerprint_slice(record: SliceRecord) -> dict[str, str]:
    """Describe the raw files of a slice so that any change to them shows.

    Returns
    -------
    dict
        File name relative to the input -> size and modification time, or the sha256 of small text files.
        Reading is never the reason for a difference.
    """
    if record.grid is not None:
        files = [Path(folder) / name for folder, _, names in os.walk(record.grid) for name in names]
    else:
        files = [file for tile in record.tiles for file in _raw_files(tile)]
    return {shown(file.relative_to(record.root)): _describe(file) for file in sorted(files)}
