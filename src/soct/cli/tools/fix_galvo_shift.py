"""Find return lines of the galvo inside existing mosaic grids, and put the columns where they belong.

`soct run` does the same by itself when mosaic grids are its input, and leaves the input as it is. This command is for
grids that other tools go on with: it changes them in place. Each grid is changed in one step and keeps its former
array, so that `--undo` gives it back bit for bit, until `--discard-originals` frees the space.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from soct.cli import options

if TYPE_CHECKING:
    from soct.formats.mosaic_grid import MosaicGrid
    from soct.geometry.galvo_band import BandFix
    from soct.report.contact_sheet import SheetRow

_PICTURES = 3


def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="GRIDS", help="A mosaic_grid_3d_z<NN>.ome.zarr, or a folder that holds some."
        ),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")
    ] = False,
    undo: Annotated[
        bool, typer.Option("--undo", help="Give every changed grid its former array back.")
    ] = False,
    discard: Annotated[
        bool,
        typer.Option("--discard-originals", help="Remove the former arrays: no more --undo."),
    ] = False,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", min=0.0, max=1.0, help="Below this confidence a grid is left as it is."
        ),
    ] = 0.6,
    frames: Annotated[
        str,
        typer.Option(
            "--frames",
            metavar="auto|whole|cropped",
            parser=options.one_of("auto", "whole", "cropped"),
            help="What the tiles are: whole frames, or frames cut to the kept A-lines. auto finds out.",
        ),
    ] = "auto",
    grid_axes: options.GridAxes = "auto",
    sheet: Annotated[
        Path | None,
        typer.Option(
            "--contact-sheet", metavar="PNG", help="Draw tiles before and after, one row per grid."
        ),
    ] = None,
    as_json: options.Json = False,
) -> int:
    """Find return lines of the galvo inside existing mosaic grids, and put the columns where they belong.

    Whole frames are rolled until the return lines are last. In tiles that were cut to the kept number of A-lines the
    parts on either side of the return lines change places. The former array is kept inside each grid.
    """
    from soct.cli.terminal import data, data_json, words
    from soct.errors import UsageError, UserError

    if undo + discard + dry_run > 1 and not (dry_run and undo):
        raise UsageError("--dry-run, --undo and --discard-originals exclude each other")
    grids = _find(source)
    rows: list[dict[str, Any]] = []
    drawn: list[SheetRow] = []
    failed: UserError | None = None
    for path in grids:
        try:
            if undo or discard:
                row = _take_back(path, discard=discard, dry_run=dry_run)
            else:
                row = _fix(path, threshold, frames, grid_axes, dry_run=dry_run, drawn=drawn if sheet else None)  # fmt: skip
        except UserError as error:
            # The other grids are not held up by it; the first error decides how the command ends.
            failed = failed or error
            row = {"grid": path.name, "action": "failed", "why": error.message}
        rows.append(row)
        if not as_json:
            data(f"{row['grid']}: {row['action']}: {row['why']}")
    if sheet is not None and drawn:
        from soct.formats.images import write_png
        from soct.report.contact_sheet import draw_sheet

        write_png(sheet, draw_sheet(drawn))
        words(f"contact sheet: {sheet}")
    if as_json:
        data_json(rows)
    if failed is not None:
        raise failed
    return 0


def _find(source: Path) -> list[Path]:
    from soct.errors import InputError
    from soct.formats.tile_search import GRID_NAME, search

    if GRID_NAME.fullmatch(source.name) or (source / ".zattrs").exists():
        found = [source]
    else:
        found = [path for _, path in search(source.resolve()).grids] if source.is_dir() else []
    if not found or not all(path.is_dir() for path in found):
        raise InputError(
            "There is no mosaic grid",
            file=source,
            expected="mosaic_grid_3d_z<NN>.ome.zarr, or a folder that holds some",
        )
    return found


def _take_back(path: Path, *, discard: bool, dry_run: bool) -> dict[str, Any]:
    from soct.formats.grid_columns import (
        give_up_original,
        holding,
        read_change,
        settle,
        undo_change,
    )

    with holding(path):
        if not dry_run:
            settle(path)
        change = read_change(path)
        row: dict[str, Any] = {"grid": path.name, "action": "left", "why": "it was never changed"}
        if change is None:
            return row
        if not change.has_original:
            return {**row, "why": "its former array was given up"}
        if dry_run:
            return {**row, "action": "would be undone", "why": "its former array is there"}
        if discard:
            give_up_original(path)
            return {**row, "action": "discarded", "why": "its former array is removed"}
        undo_change(path)
        return {**row, "action": "undone", "why": "it is as it was, bit for bit"}


def _fix(
    path: Path,
    threshold: float,
    frames: str,
    grid_axes: str,
    *,
    dry_run: bool,
    drawn: list[SheetRow] | None,
) -> dict[str, Any]:
    from soct.formats.grid_columns import change_columns, holding, read_change, settle
    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.steps.grid_import import find_band

    with holding(path):
        if not dry_run:
            settle(path)
        row: dict[str, Any] = {"grid": path.name, "action": "left"}
        if read_change(path) is not None:
            return {**row, "why": "it was changed before (--undo takes that back)"}
        grid = open_mosaic_grid(path, grid_axes=None if grid_axes == "auto" else grid_axes)  # type: ignore[arg-type]
        band, why = find_band(grid, threshold, frames)  # type: ignore[arg-type]
        if drawn is not None:
            drawn.append(_sheet_row(grid, band, path.name))
        if band is None:
            return {**row, "why": why}
        row |= {"start": band.start, "width": band.width, "confidence": band.confidence,
                "bright": band.bright, "frames": band.frames}  # fmt: skip
        if band.is_identity:
            return {**row, "why": f"{band}: it lies at the tile's edge already"}
        if dry_run:
            return {**row, "action": "would be changed", "why": str(band)}
        details = {"tool": "fix-galvo-shift", "band": list(band.band), "frames": band.frames}
        change_columns(grid, band.order, details)
        return {**row, "action": "changed", "why": str(band)}


def _sheet_row(grid: MosaicGrid, band: BandFix | None, name: str) -> SheetRow:
    from soct.report.contact_sheet import SheetRow
    from soct.steps.grid_import import sample_projections

    before = sample_projections(grid, _PICTURES)
    if band is None:
        return SheetRow(f"{name}: left as it is", before, ["as it is"] * len(before))
    pictures = [p for tile in before for p in (tile, band.apply(tile))]
    return SheetRow(f"{name}: {band}", pictures, ["before", "after"] * len(before))
