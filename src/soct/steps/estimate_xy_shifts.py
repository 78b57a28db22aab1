"""Stage positions of all tiles -> shifts between consecutive slices.

Where the stage was not recorded (mosaic grids of other tools, tiles without stage positions) tiles lie by their index,
and the shifts between slices are those of the input's `shifts_xy.csv`, or none. The overlap of the tiles is then
the parameter's, or the session metadata's, or measured from the images of a few slices.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from soct.errors import InputError
from soct.steps.declaration import (
    Context,
    Cost,
    Input,
    Metric,
    Need,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition, SliceRecord, TileRecord
    from soct.formats.mosaic_grid import GridTile, MosaicGrid
    from soct.registration.stage import StageShift, StageSlice

ASSUMED_OVERLAP = 0.2
SAMPLED_SLICES = 3
SAMPLED_SIDE = 4


class EstimateXyShiftsParams(Params):
    """Parameters of `estimate_xy_shifts`."""

    overlap_fraction: float | None = parameter(
        None,
        "Overlap of neighbouring tiles where no stage position was recorded; empty: from the session's metadata, "
        "else measured from the images.",
        ge=0,
        lt=0.9,
    )


@dataclass(frozen=True)
class _Tiles:
    """The tiles of one slice: index, stage position and size."""

    slice_id: int
    rows: list[int]
    cols: list[int]
    stage_mm: NDArray[np.float64]
    """``(x, y, z)`` of each tile, NaN where it was not recorded."""
    tile_um: tuple[float, float]
    pixel_um: tuple[float, float]

    @property
    def is_recorded(self) -> bool:
        import numpy as np

        return bool(np.isfinite(self.stage_mm[:, :2]).all())


@dataclass(frozen=True)
class _Overlap:
    """Overlap of neighbours along (y, x), and where it comes from."""

    fractions: tuple[float, float]
    source: Literal["stage", "profile", "metadata", "images", "assumed"]
    told: str = ""
    pairs: int = 0
    agree: int = 0


def _tiles_of(context: Context, record: SliceRecord) -> _Tiles | None:
    """Return what is known of a slice's tiles, raw or in a mosaic grid; None where it has none."""
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.steps.grid_tiles import present_tiles

    # As create_mosaic_grid understood it: axes in order, empty positions known.
    grid = open_mosaic_grid(context.of_slice("create_mosaic_grid", "grid", record.slice_id))
    pixel_um = (grid.voxel_um.y, grid.voxel_um.x)
    tile_um = (grid.tile_shape[1] * pixel_um[0], grid.tile_shape[2] * pixel_um[1])
    tiles: Sequence[TileRecord | GridTile] = record.tiles or present_tiles(grid)
    places = [(t.row, t.col, t.stage_mm) for t in tiles]
    if not places:
        return None
    stage = np.array([[np.nan if v is None else v for v in at] for _, _, at in places], float)
    return _Tiles(
        record.slice_id,
        [row for row, _, _ in places],
        [col for _, col, _ in places],
        stage.reshape(-1, 3),
        tile_um,
        pixel_um,
    )


def _place(tiles: _Tiles, overlap: tuple[float, float]) -> StageSlice:
    import numpy as np

    from soct.registration.stage import StageSlice, place_by_index

    if not tiles.is_recorded:
        return place_by_index(
            tiles.slice_id,
            tiles.rows,
            tiles.cols,
            tile_um=tiles.tile_um,
            pixel_um=tiles.pixel_um,
            overlap_fraction=overlap,
            z_mm=tiles.stage_mm[:, 2].tolist(),
        )
    return StageSlice(
        tiles.slice_id,
        np.array(tiles.rows, np.int64),
        np.array(tiles.cols, np.int64),
        tiles.stage_mm[:, 1],
        tiles.stage_mm[:, 0],
        tiles.stage_mm[:, 2],
        tiles.tile_um,
        tiles.pixel_um,
    )


def _find_overlap(
    context: Context, params: EstimateXyShiftsParams, nominal: Sequence[int]
) -> _Overlap:
    """Decide the overlap of tiles without stage positions."""
    assert context.acquisition is not None
    given = params.overlap_fraction
    if not nominal:
        value = ASSUMED_OVERLAP if given is None else given
        return _Overlap((value, value), "stage", "the stage tells where tiles are")
    if given is not None:
        return _Overlap((given, given), "profile", f"overlap {given:g} as the profile says")
    told = context.acquisition.session.get("overlap_fraction")
    if told is not None:
        value = float(told)
        return _Overlap((value, value), "metadata", f"overlap {value:g} as the metadata say")
    return _measure(context, nominal)


def _sample(
    context: Context, nominal: Sequence[int]
) -> tuple[list[tuple[MosaicGrid, GridTile]], list[tuple[int, int, int]]]:
    """Choose blocks of tiles about the middle of a few slices: there is tissue there."""
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.steps.grid_tiles import present_tiles

    at = np.unique(np.linspace(0, len(nominal) - 1, SAMPLED_SLICES + 2)[1:-1].round().astype(int))
    chosen: list[tuple[MosaicGrid, GridTile]] = []
    index: list[tuple[int, int, int]] = []
    for slice_id in (nominal[int(k)] for k in at):
        grid = open_mosaic_grid(context.of_slice("create_mosaic_grid", "grid", slice_id))
        row0, col0 = (max(0, (n - SAMPLED_SIDE) // 2) for n in (grid.rows, grid.cols))
        for tile in present_tiles(grid):
            if 0 <= tile.row - row0 < SAMPLED_SIDE and 0 <= tile.col - col0 < SAMPLED_SIDE:
                if chosen and grid.tile_shape[1:] != chosen[0][0].tile_shape[1:]:
                    continue
                chosen.append((grid, tile))
                index.append((slice_id, tile.row, tile.col))
    return chosen, index


def _measure(context: Context, nominal: Sequence[int]) -> _Overlap:
    import numpy as np

    from soct.mosaic.overlap import measure_overlap
    from soct.steps.grid_tiles import TileLoader, choose_matched_slabs, project_slabs

    chosen, index = _sample(context, nominal)
    slabs = {
        id(grid): choose_matched_slabs(
            TileLoader(grid, [t for g, t in chosen if g is grid], None), 3
        )
        for grid in {id(g): g for g, _ in chosen}.values()
    }
    count = min((len(s) for s in slabs.values()), default=1)

    def load(i: int) -> Any:
        grid, tile = chosen[i]
        return project_slabs(grid.read_tile(tile.row, tile.col), slabs[id(grid)][:count])

    shape = chosen[0][0].tile_shape[1:]
    axes = measure_overlap(
        load, np.array(index, np.int64).reshape(-1, 3), shape, workers=context.threads
    )
    known = [axis.fraction for axis in axes if axis.fraction is not None]
    pairs, agree = sum(a.pairs for a in axes), sum(a.agree for a in axes)
    if not known:
        why = "no two tiles are neighbours" if pairs == 0 else "too few neighbours look alike"
        return _Overlap(
            (ASSUMED_OVERLAP, ASSUMED_OVERLAP),
            "assumed",
            f"overlap {ASSUMED_OVERLAP:g} is assumed: {why}; set estimate_xy_shifts.overlap_fraction, and "
            "see whether create_mosaic_grid.grid_axes is right",
            pairs,
            agree,
        )
    y, x = (known[0] if axis.fraction is None else axis.fraction for axis in axes)
    return _Overlap(
        (y, x),
        "images",
        f"overlap {y:.3f} (y), {x:.3f} (x) measured from the images: {agree} of {pairs} pairs of tiles agree",
        pairs,
        agree,
    )


def _given_shifts(path: Path, wanted: Sequence[int]) -> tuple[StageShift, ...]:
    """Read the input's `shifts_xy.csv`; every slice of the run must be in it.

    Raises
    ------
    InputError
        A slice has no row, or the rows are no chain from slice to slice.
    """
    from itertools import pairwise

    from soct.steps.stage_tables import read_shifts

    shifts = sorted(read_shifts(path), key=lambda s: (s.fixed_id, s.moving_id))
    ids = {s.fixed_id for s in shifts} | {s.moving_id for s in shifts}
    broken = [(a, b) for a, b in pairwise(shifts) if a.moving_id != b.fixed_id]
    if broken:
        a, b = broken[0]
        raise InputError(
            "The input's table of shifts does not lead from slice to slice",
            file=path,
            expected=f"a row from slice {a.moving_id} after that to slice {a.moving_id}",
            found=f"a row from slice {b.fixed_id} to slice {b.moving_id}",
            hint="mend the table, or move it out of the input: the images then decide alone",
        )
    absent = [i for i in wanted if i not in ids]
    if absent and len(wanted) > 1:
        raise InputError(
            "The input's table of shifts does not have every slice",
            file=path,
            expected=f"rows for all {len(wanted)} slices",
            found=f"none for slice {', '.join(map(str, absent[:10]))}",
            hint="mend the table, or move it out of the input: the images then decide alone",
        )
    return tuple(shifts)


def run(context: Context, params: EstimateXyShiftsParams) -> Result:
    """Write the stage positions, the overlap and the shifts that follow from them."""
    from soct.formats.documents import write_document
    from soct.registration.stage import estimate_xy_shifts
    from soct.steps.stage_tables import write_shifts, write_stage

    assert context.acquisition is not None
    found = (_tiles_of(context, record) for record in context.acquisition.slices.values())
    tiles = {t.slice_id: t for t in found if t is not None}
    if not tiles:
        raise InputError(
            "no slice has a tile to take a position from", file=context.acquisition.root
        )
    nominal = [i for i, t in tiles.items() if not t.is_recorded]
    overlap = _find_overlap(context, params, nominal)
    slices = {i: _place(t, overlap.fractions) for i, t in tiles.items()}
    write_stage(context.output("stage_positions"), slices)
    write_document(
        context.output("overlap"),
        {
            "overlap_fraction_yx": list(overlap.fractions),
            "source": overlap.source,
            "pairs": overlap.pairs,
            "agree": overlap.agree,
        },
    )
    given = context.acquisition.tables.get("shifts_xy.csv")
    if given is not None and nominal:
        shifts = _given_shifts(given, list(slices))
    else:
        shifts = estimate_xy_shifts(slices)
    write_shifts(context.output("shifts"), shifts)
    unreliable = [s.moving_id for s in shifts if not s.reliable]
    return Result(
        metrics=(
            Metric("slices", len(slices), "", "slices with tiles"),
            Metric(
                "shifts_unreliable",
                len(unreliable),
                "",
                "shifts across a change of the mosaic's shape",
            ),
            Metric(
                "overlap_y", overlap.fractions[0] if nominal else None, "",
                "overlap of neighbouring tiles along y, where the stage does not tell it",
            ),
            Metric(
                "overlap_x", overlap.fractions[1] if nominal else None, "", "the same along x",
            ),
            Metric("overlap_source", overlap.source, "", "where the overlap comes from"),
        ),
        warnings=_warnings(nominal, overlap, given is not None) + _shape_changes(slices),
    )  # fmt: skip


def _shape_changes(slices: Mapping[int, StageSlice]) -> tuple[str, ...]:
    """Tell from which slice on the mosaic has other rows or columns than before."""
    import numpy as np

    shapes = {i: (int(np.ptp(s.rows)) + 1, int(np.ptp(s.cols)) + 1) for i, s in slices.items()}
    return tuple(
        f"slice {b}: the mosaic {'grew' if shapes[b] > shapes[a] else 'changed'} from "
        f"{shapes[a][0]} x {shapes[a][1]} to {shapes[b][0]} x {shapes[b][1]} tiles"
        for a, b in itertools.pairwise(sorted(shapes))
        if shapes[a] != shapes[b]
    )


def _warnings(nominal: Sequence[int], overlap: _Overlap, has_table: bool) -> tuple[str, ...]:
    if not nominal:
        if has_table:
            return ("the input's shifts_xy.csv is not used: the stage positions are recorded",)
        return ()
    which = f"slices {list(nominal[:10])}{' ...' if len(nominal) > 10 else ''}"
    between = (
        "shifts between slices are taken from the input's shifts_xy.csv"
        if has_table
        else "slices are taken to lie above each other until the images say more"
    )
    return (
        f"no stage positions in {which}: tiles are placed by index and overlap; {between}",
        overlap.told,
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, measure_slices

    sizes = measure_slices(acquisition, slices, params)
    sampled = SAMPLED_SLICES * SAMPLED_SIDE**2
    # Strips of half a tile on two sides of every sampled tile in three slabs, and two tiles as they are read.
    return Need(
        0,
        max(
            (
                3 * sampled * 3 * FLOAT * size.native[1] * size.native[2] + 3 * size.native_bytes
                for size in sizes
            ),
            default=0,
        ),
    )


STEP = Step(
    id="estimate_xy_shifts",
    version=2,
    scope=Scope.RUN,
    params=EstimateXyShiftsParams,
    run=run,
    cost=Cost(tile=0.0005),
    estimate=estimate,
    summary="Shifts between slices from the stage positions.",
    inputs=(Input("create_mosaic_grid"),),
    outputs=(
        Output("shifts", "shifts_xy.csv"),
        Output("stage_positions", "stage_positions.csv"),
        Output("overlap", "tile_overlap.json"),
    ),
    reads_raw=True,
)
