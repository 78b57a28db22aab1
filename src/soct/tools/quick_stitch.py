"""One slice as a flat mosaic, straight from its tiles or grid: no run folder, no correction, seconds.

Tiles are projected over depth and laid where the stage stood, or by index and overlap; with refinement they are
matched as `stitch_3d_with_refinement` does, on the projections.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from soct.errors import InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import SliceRecord
    from soct.space import FloatArray


@dataclass(frozen=True)
class QuickOptions:
    """How a slice is laid out.

    Attributes
    ----------
    slice_id : int or None
        Which slice; None: the only one, or the middle one.
    refine : bool
        Match the tiles.
    overlap_fraction : float or None
        Overlap where no stage position was recorded; None measures it.
    max_side_px : int or None
        Largest height or width of the picture; None keeps every pixel.
    blending : {"feather", "average", "none"}
    grid_axes : {"auto", "yx", "xy"}
        As in `create_mosaic_grid`.
    threads : int
    """

    slice_id: int | None = None
    refine: bool = False
    overlap_fraction: float | None = None
    max_side_px: int | None = 4000
    blending: Literal["feather", "average", "none"] = "feather"
    grid_axes: Literal["auto", "yx", "xy"] = "auto"
    threads: int = 1


@dataclass(frozen=True)
class QuickMosaic:
    """A flat mosaic, and how it came about."""

    image: FloatArray
    """``(y, x)``, NaN where no tile is."""
    pixel_um: tuple[float, float]
    slice_id: int | None
    tiles: int
    notes: tuple[str, ...]
    index: tuple[tuple[int, int], ...] = ()
    """Row and column of every tile."""
    positions_px: NDArray[np.float64] | None = None
    """Where each tile's first pixel lies in the picture, in recorded pixels, shape (n, 2)."""
    origin_um: tuple[float, float] | None = None
    """Stage position (y, x) of the picture's first pixel; None without stage positions."""


@dataclass(frozen=True)
class _Tiles:
    """Projections of a slice's tiles, and what is known of where they lie."""

    slice_id: int | None
    images: list[FloatArray]
    index: list[tuple[int, int]]
    stage_yx_mm: list[tuple[float, float]]
    pixel_um: tuple[float, float]
    notes: tuple[str, ...]


def quick_stitch(source: Path, options: QuickOptions) -> QuickMosaic:
    """Lay out one slice.

    Parameters
    ----------
    source : Path
        An input folder of `soct run`, or one mosaic grid.
    options : QuickOptions

    Raises
    ------
    InputError
        There is no slice, or none of its tiles can be read.
    UsageError
        The slice asked for is not there.
    """
    import numpy as np

    from soct.mosaic.flat_mosaic import choose_reduction, reduce_tile, render_flat_mosaic
    from soct.mosaic.grid import nominal_positions

    tiles = _load(source, options)
    shape = (tiles.images[0].shape[0], tiles.images[0].shape[1])
    rows, cols = (np.array([i[k] for i in tiles.index], np.int64) for k in (0, 1))
    stage = np.array(tiles.stage_yx_mm, np.float64).reshape(-1, 2)
    overlap: float | tuple[float, float] = 0.2
    notes = list(tiles.notes)
    if not np.isfinite(stage).all():
        overlap, told = _overlap(tiles, shape, options)
        notes.append(told)
    nominal = nominal_positions(rows, cols, stage, tiles.pixel_um, shape, overlap)
    positions = nominal.px
    if options.refine and len(positions) > 1:
        positions, told = _refine(tiles, positions, shape, options.threads)
        notes.append(told)
    small = shape
    if options.max_side_px is not None:
        small = choose_reduction(positions, shape, options.max_side_px)
    mosaic = render_flat_mosaic(
        [reduce_tile(image, small) for image in tiles.images], positions, shape, options.blending
    )
    pixel = (
        tiles.pixel_um[0] * mosaic.pixel_factor[0],
        tiles.pixel_um[1] * mosaic.pixel_factor[1],
    )
    # The canvas begins at the whole pixel at or before the first tile.
    local = positions - np.floor(positions.min(axis=0) + 1e-6)
    origin = np.median(stage * 1000 - local * np.array(tiles.pixel_um), axis=0)
    return QuickMosaic(
        mosaic.image,
        pixel,
        tiles.slice_id,
        len(tiles.images),
        tuple(notes),
        tuple(tiles.index),
        local,
        (float(origin[0]), float(origin[1])) if np.isfinite(origin).all() else None,
    )


def _load(source: Path, options: QuickOptions) -> _Tiles:
    from soct.formats.acquisition import open_acquisition

    if (source / ".zattrs").exists() or (source / "zarr.json").exists():
        return _load_grid(source, options)
    acquisition = open_acquisition(source)
    usable = [i for i, r in acquisition.slices.items() if r.tiles or r.grid is not None]
    chosen = usable[len(usable) // 2] if options.slice_id is None else options.slice_id
    if chosen not in usable:
        shown = ", ".join(map(str, usable[:20])) + (" ..." if len(usable) > 20 else "")
        raise UsageError(
            f"There is no slice {chosen} with readable tiles", file=source, expected=shown
        )
    record = acquisition.slices[chosen]
    if record.grid is not None:
        return _load_grid(record.grid, options)
    return _load_raw(record, options.threads)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _load_raw(record: SliceRecord, threads: int) -> _Tiles:
    import numpy as np

    from soct.formats.acquisition import TileRecord
    from soct.geometry.galvo import apply_galvo_shift
    from soct.steps.create_mosaic_grid import CreateMosaicGridParams, decide_frames, read_samples

    params = CreateMosaicGridParams()
    _, decision = decide_frames(record, params)

    def project(tile: TileRecord) -> FloatArray | None:
        try:
            image = read_samples(tile, params).mean(axis=0)
        except InputError:
            return None
        cut = apply_galvo_shift(image, decision)
        return np.nan_to_num(cut, nan=0.0, posinf=0.0, neginf=0.0).astype(np.float32)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(project, record.tiles))
    kept = [(t, image) for t, image in zip(record.tiles, found, strict=True) if image is not None]
    if not kept:
        raise InputError(f"no tile of slice {record.slice_id} could be read", file=record.root)
    lost = len(found) - len(kept) + sum(p.row is not None for p in record.problems)
    return _Tiles(
        record.slice_id,
        [image for _, image in kept],
        [(t.row, t.col) for t, _ in kept],
        [(_number(t.stage_mm[1]), _number(t.stage_mm[0])) for t, _ in kept],
        record.tiles[0].info.pixel_um,
        (decision.reason, *([f"{lost} tiles are missing or unreadable"] if lost else [])),
    )


def _load_grid(path: Path, options: QuickOptions) -> _Tiles:
    from soct.formats.mosaic_grid import GridTile, open_mosaic_grid
    from soct.steps.grid_import import band_of

    axes = None if options.grid_axes == "auto" else options.grid_axes
    grid = open_mosaic_grid(path, axes, options.threads)
    band, told = (None, "") if grid.tiles else band_of(grid, 0.6)
    first, stop = (0, grid.tile_shape[2]) if band is None else band.kept
    known = {(t.row, t.col): t for t in grid.tiles}

    def project(at: tuple[int, int]) -> tuple[GridTile, FloatArray] | None:
        tile = known.get(at, GridTile(*at))
        if tile.status != "ok":
            return None
        try:
            image = grid.read_tile(*at).mean(axis=0)
        except InputError:
            return None
        if not image.any():
            return None
        if band is not None:
            image = band.apply(image)[:, first:stop]
            if (first, stop) == (0, band.n_columns):
                image[:, band.band[0] : band.band[1]] = float("nan")
        return tile, image

    with ThreadPoolExecutor(options.threads) as pool:
        kept = [found for found in pool.map(project, grid.stored_tiles()) if found is not None]
    if not kept:
        raise InputError("no tile of the mosaic grid holds data", file=path)
    return _Tiles(
        grid.slice_id,
        [image for _, image in kept],
        [(t.row, t.col) for t, _ in kept],
        [(_number(t.stage_mm[1]), _number(t.stage_mm[0])) for t, _ in kept],
        (grid.voxel_um.y, grid.voxel_um.x),
        (told,) if told else (),
    )


def _overlap(
    tiles: _Tiles, shape: tuple[int, int], options: QuickOptions
) -> tuple[float | tuple[float, float], str]:
    import numpy as np

    from soct.mosaic.overlap import measure_overlap
    from soct.steps.estimate_xy_shifts import ASSUMED_OVERLAP

    if options.overlap_fraction is not None:
        return options.overlap_fraction, f"overlap {options.overlap_fraction:g} as asked for"
    index = np.array([(0, row, col) for row, col in tiles.index], np.int64)
    found = measure_overlap(lambda i: tiles.images[i], index, shape, workers=options.threads)
    known = [axis.fraction for axis in found if axis.fraction is not None]
    if not known:
        return ASSUMED_OVERLAP, f"overlap {ASSUMED_OVERLAP:g} is assumed (--overlap sets it)"
    y, x = (known[0] if axis.fraction is None else axis.fraction for axis in found)
    return (y, x), f"overlap {y:.3f} (y), {x:.3f} (x) measured from the images"


def _refine(
    tiles: _Tiles, nominal: NDArray[np.float64], shape: tuple[int, int], threads: int
) -> tuple[NDArray[np.float64], str]:
    from soct.mosaic.tile_placement import place_tiles

    placement = place_tiles(lambda i: tiles.images[i], nominal, shape, workers=threads)
    accepted, total = int(placement.pair_accepted.sum()), len(placement.pairs)
    return placement.positions_px, f"refined: {accepted} of {total} pairs of tiles hold the mosaic"


def describe(mosaic: QuickMosaic) -> Sequence[str]:
    """Return what a person wants to know of a quick mosaic, in lines."""
    which = "the grid" if mosaic.slice_id is None else f"slice {mosaic.slice_id}"
    y, x = mosaic.image.shape
    size = f"{x} x {y} pixels of {mosaic.pixel_um[1]:.2f} x {mosaic.pixel_um[0]:.2f} um (x, y)"
    return [f"{which}: {mosaic.tiles} tiles, {size}", *mosaic.notes]
