"""A mosaic grid that came as input -> soct's own grid: axes in order, return lines out, empty places listed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from soct.errors import InputError
from soct.formats.npz import write_npz
from soct.steps.declaration import Metric, Result
from soct.steps.tile_samples import Saturation, check_samples

if TYPE_CHECKING:
    from soct.formats.acquisition import SliceRecord
    from soct.formats.mosaic_grid import GridTile, MosaicGrid
    from soct.geometry.galvo_band import BandFix
    from soct.space import FloatArray
    from soct.steps.declaration import Context

SAMPLED_TILES = 24


def sample_projections(grid: MosaicGrid, count: int = SAMPLED_TILES) -> list[FloatArray]:
    """Mean over depth of the tiles with data nearest the middle of a grid; unreadable ones are passed over."""
    from soct.geometry.galvo import choose_central_tiles

    places = [(row, col) for row in range(grid.rows) for col in range(grid.cols)]
    found: list[FloatArray] = []
    for k in choose_central_tiles(places, len(places)):
        if len(found) == count:
            break
        try:
            tile = grid.read_tile(*places[k])
        except InputError:
            continue
        if tile.any():
            found.append(tile.mean(axis=0))
    return found


def find_band(
    source: MosaicGrid, threshold: float, frames: Literal["auto", "whole", "cropped"] = "auto"
) -> tuple[BandFix | None, str]:
    """Look for return lines in the tiles of a grid.

    Returns
    -------
    BandFix or None
        The band, where it is found with enough confidence.
    str
        What was decided, in words.
    """
    from soct.geometry.galvo_band import detect_band

    band = detect_band(sample_projections(source), frames=frames)
    if band is None:
        return None, "the tiles show no band of return lines: left as they are"
    if band.confidence < threshold:
        return None, f"left as they are: {band} is below the confidence {threshold:.2f}"
    return band, f"{band}; " + (
        "cut off"
        if band.kept != (0, band.n_columns)
        else "its columns, which were never kept, are no data"
    )


def band_of(source: MosaicGrid, threshold: float) -> tuple[BandFix | None, str]:
    """Return the band that `soct fix-galvo-shift` left in a grid, or else look for one."""
    import numpy as np

    from soct.formats.grid_columns import read_change
    from soct.geometry.galvo_band import BandFix

    change = read_change(source.path)
    if change is None or change.details.get("tool") != "fix-galvo-shift":
        return find_band(source, threshold)
    first, stop = (int(v) for v in change.details["band"])
    n = source.tile_shape[2]
    at_edge = first == 0 or stop == n
    band = BandFix(
        n, first, stop - first, False, "cropped", 1.0, 0, np.zeros(0, np.float32), in_place=True
    )
    what = "cut off" if at_edge else "no data"
    return band, f"soct fix-galvo-shift put the return lines to columns {first} to {stop}: {what}"


def import_grid(
    context: Context,
    record: SliceRecord,
    *,
    grid_axes: Literal["auto", "yx", "xy"],
    fix_galvo_shift: bool,
    galvo_confidence_threshold: float,
    missing_tiles: Literal["mask", "fail"],
    sharding_factor: int,
    codec: Literal["none", "zstd"],
) -> Result:
    """Rewrite a mosaic grid that came as input in soct's own form.

    The other parameters are those of `create_mosaic_grid`.
    """
    import numpy as np

    from soct.formats.mosaic_grid import MosaicGridWriter, open_mosaic_grid

    assert record.grid is not None
    source = open_mosaic_grid(
        record.grid, grid_axes=None if grid_axes == "auto" else grid_axes, threads=context.threads
    )
    band, decision = None, "the grid is soct's own: return lines were treated when it was made"
    if not source.tiles:
        decision = "fix_galvo_shift is off: tiles are left as they are"
        if fix_galvo_shift:
            band, decision = band_of(source, galvo_confidence_threshold)
    first, stop = (0, source.tile_shape[2]) if band is None else band.kept
    attributes: dict[str, object] = {"slice_id": record.slice_id}
    for name in ("row0", "col0", "no_data_columns"):
        if name in source.attributes:
            attributes[name] = source.attributes[name]
    if band is not None and band.kept == (0, band.n_columns):
        attributes["no_data_columns"] = list(band.band)
    with MosaicGridWriter(
        context.output("grid"),
        source.rows,
        source.cols,
        (*source.tile_shape[:2], stop - first),
        source.voxel_um,
        sharding_factor=sharding_factor,
        codec=codec,
        attributes=attributes,
        threads=context.threads,
    ) as writer:
        saturation = Saturation.of_grid(source.rows, source.cols)
        tiles, warnings = _copy(
            context, source, writer, band, (first, stop), missing_tiles, saturation
        )
        if not any(t.status == "ok" for t in tiles):
            # It goes on as an empty slice: later steps say so and leave it out.
            warnings.append(f"slice {record.slice_id} shows nothing: none of its tiles holds data")
            tiles[0] = replace(tiles[0], status="ok")
        writer.close(tiles)
    found = sum(t.status == "ok" for t in tiles)
    profile = np.zeros(0, np.float32) if band is None else band.profile
    confidence = band.confidence if band is not None else 0.0
    write_npz(
        context.output("figures"),
        profile=profile,
        shift=np.int64(0 if band is None else int(band.order[0])),
        confidence=np.float64(confidence),
        saturated=saturation.share.astype(np.float32),
    )
    return Result(
        metrics=(
            Metric("tiles_expected", source.rows * source.cols, "", "positions of the grid"),
            Metric("tiles_found", found, "", "tiles with data"),
            Metric(
                "galvo_confidence",
                None if band is None else confidence,
                "",
                "confidence of the galvo decision",
            ),
            Metric("galvo_decision", decision, "", "what was decided about the return lines"),
            *saturation.metrics(),
        ),
        warnings=(_describe(source), *warnings),
    )


def _copy(
    context: Context,
    source: MosaicGrid,
    writer: object,
    band: BandFix | None,
    kept: tuple[int, int],
    missing_tiles: str,
    saturation: Saturation,
) -> tuple[list[GridTile], list[str]]:
    """Copy every tile that has data; return what is known of all positions."""
    import numpy as np

    from soct.formats.mosaic_grid import GridTile, MosaicGridWriter
    from soct.quality.saturation import clipped_share

    assert isinstance(writer, MosaicGridWriter)
    known = {(t.row, t.col): t for t in source.tiles}
    tiles: dict[tuple[int, int], GridTile] = {}
    warnings: list[str] = []
    for done, (row, col) in enumerate(writer.tile_order()):
        place = known.get((row, col), GridTile(row, col))
        name = f"tile (row {row}, column {col})"
        status = place.status
        if status == "ok":
            try:
                tile = source.read_tile(row, col)
            except InputError as error:
                if missing_tiles == "fail":
                    raise
                status = "unreadable"
                warnings.append(f"{name} is left out: {error}".replace("\n", "; "))
            else:
                bad = check_samples(tile)
                if bad is not None and bad.is_empty:
                    status = "missing"
                elif bad is not None:
                    if missing_tiles == "fail":
                        raise InputError(f"{name} {bad.message}", file=source.path)
                    warnings.append(f"{name} {bad.message}")
                    status = "no signal" if bad.silent else "ok"
                    np.nan_to_num(tile, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        if status == "ok":
            data = tile if band is None else band.apply(tile)[..., kept[0] : kept[1]]
            saturation.share[row, col] = clipped_share(data)
            writer.write_tile(row, col, np.ascontiguousarray(data))
        else:
            writer.skip_tile(row, col)
        tiles[row, col] = replace(place, status=status)
        context.progress((done + 1) / (source.rows * source.cols))
    return [tiles[at] for at in sorted(tiles)], warnings


def _describe(source: MosaicGrid) -> str:
    """Say what a grid tells and what it does not."""
    size = f"{source.rows} x {source.cols} tiles of {source.tile_shape[1]} x {source.tile_shape[2]} (y, x)"
    if source.tiles:
        return f"the input is a mosaic grid that soct wrote: {size}"
    return (
        f"the input is a mosaic grid of another tool: {size}, read with its second axis along "
        f"{'x' if source.is_transposed else 'y'} (create_mosaic_grid.grid_axes); checks of raw files do not apply"
    )
