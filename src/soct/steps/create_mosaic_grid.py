"""Raw tiles of one slice -> mosaic grid, with the galvo's return lines moved out and cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from soct.errors import InputError
from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Cost,
    Decision,
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

    from soct.formats.acquisition import Acquisition, Problem, SliceRecord, TileRecord
    from soct.geometry.camera_shift import CameraShift
    from soct.geometry.galvo import GalvoDecision
    from soct.space import FloatArray, Voxel


class CreateMosaicGridParams(Params):
    """Parameters of `create_mosaic_grid`."""

    axial_resolution_um: float = parameter(
        3.5, "Axial sampling where the tiles do not state it.", unit="um", gt=0, le=1000
    )
    sharding_factor: int = parameter(
        4, "Tiles along each side of one shard of the grid (one file on disk).", ge=1, le=64
    )
    fix_galvo_shift: bool = parameter(
        True, "Find the A-lines recorded while the galvo returns and move them to the end."
    )
    galvo_confidence_threshold: float = parameter(
        0.6, "Below this confidence the frame is taken as recorded: return lines last.", ge=0, le=1
    )
    fix_camera_shift: bool = parameter(
        False,
        "Roll frames until their brightest A-line, the first after the trigger, is the first.",
    )
    legacy_orientation: bool = parameter(
        False, "Apply the old rotate-and-flip in the lateral plane (files of early acquisitions)."
    )
    missing_tiles: Literal["mask", "fail"] = parameter(
        "mask",
        "What to do about missing or unreadable tiles: leave a listed hole, or fail the slice.",
    )
    grid_axes: Literal["auto", "yx", "xy"] = parameter(
        "auto",
        "Lateral axis order of mosaic grids given as input; auto: xy unless soct wrote them.",
    )
    data_type: Literal["auto", "oct", "psoct"] = parameter(
        "auto",
        "What the input must be: raw spectral-domain tiles (oct), or Thorlabs .oct files (psoct).",
    )
    polarisation: Literal[0, 1, "both"] = parameter(
        0, "Detector of .oct files; both: the root of the summed powers of the two."
    )
    angle: int = parameter(
        0, "Which angle of .oct files that hold several at every position.", ge=0, le=1000
    )
    crop_start_px: int = parameter(
        320, "First depth sample of .oct files that is kept.", unit="px", ge=0, le=10**6
    )
    crop_stop_px: int = parameter(
        750, "One past the last depth sample of .oct files that is kept.", unit="px", ge=1, le=10**6
    )
    codec: Literal["none", "zstd"] = parameter(
        "none", "Compression on disk; speckle hardly compresses, so none is faster."
    )


def _voxel(record: SliceRecord, params: CreateMosaicGridParams) -> Voxel:
    from soct.space import Voxel

    info = record.tiles[0].info
    axial = info.axial_resolution_um or params.axial_resolution_um
    y, x = info.pixel_um
    return Voxel(axial, x, y) if params.legacy_orientation else Voxel(axial, y, x)


def _kept_depth(tile: TileRecord, params: CreateMosaicGridParams) -> int:
    """Return how many depth samples of a tile are kept."""
    if tile.data_type == "oct":
        return tile.info.n_z
    from soct.formats.thorlabs import crop_range

    crop = (params.crop_start_px, params.crop_stop_px)
    start, stop = crop_range(tile.info.n_z, crop, tile.files[0])
    return stop - start


def read_samples(tile: TileRecord, params: CreateMosaicGridParams) -> FloatArray:
    """Return the samples of a tile, ``(z, y, x)`` with the return lines inside."""
    if tile.data_type == "oct":
        from soct.formats.raw import read_tile

        return read_tile(tile)
    from soct.formats.thorlabs import read_magnitude

    if params.angle not in tile.angles:
        raise InputError(
            "A tile was not imaged at the chosen angle",
            file=tile.files[0],
            expected=f"one of {tile.angles}",
            found=f"create_mosaic_grid.angle = {params.angle}",
        )
    return read_magnitude(
        tile.files[tile.angles.index(params.angle)],
        polarisation=params.polarisation,
        crop=(params.crop_start_px, params.crop_stop_px),
    )


def _check_data_type(record: SliceRecord, params: CreateMosaicGridParams) -> None:
    """Refuse parameters that no tile of a slice fits: those are mistakes, not missing data."""
    tile = record.tiles[0]
    angles = sorted({angle for t in record.tiles for angle in t.angles})
    if tile.data_type == "psoct" and params.angle not in angles:
        raise InputError(
            "No tile was imaged at the chosen angle",
            file=tile.folder.parent,
            expected=f"one of {angles}",
            found=f"create_mosaic_grid.angle = {params.angle}",
        )
    if params.data_type in ("auto", tile.data_type):
        return
    names = {"oct": "raw spectral-domain tiles", "psoct": "Thorlabs .oct files"}
    raise InputError(
        "The input is not of the type that the profile names",
        file=tile.folder,
        expected=names[params.data_type],
        found=names[tile.data_type],
        hint="Set create_mosaic_grid.data_type to auto, or give the other input.",
    )


def _sample_projections(record: SliceRecord, params: CreateMosaicGridParams) -> list[FloatArray]:
    """Mean over depth of the central tiles; those that cannot be read are named when their turn comes."""
    from soct.geometry.galvo import choose_central_tiles

    aips: list[FloatArray] = []
    for k in choose_central_tiles([(t.row, t.col) for t in record.tiles]):
        try:
            aips.append(read_samples(record.tiles[k], params).mean(axis=0))
        except InputError:
            continue
    return aips


def decide_frames(
    record: SliceRecord, params: CreateMosaicGridParams
) -> tuple[CameraShift | None, GalvoDecision]:
    """Find the first A-line and the return lines from the central tiles, once for the slice."""
    from soct.geometry.camera_shift import apply_camera_shift, detect_camera_shift
    from soct.geometry.galvo import detect_galvo_return

    n_extra = record.tiles[0].info.n_extra
    finds_return = n_extra > 0 and params.fix_galvo_shift
    aips = _sample_projections(record, params) if finds_return or params.fix_camera_shift else []
    camera = None
    if params.fix_camera_shift:
        camera = detect_camera_shift(aips)
        aips = [apply_camera_shift(aip, camera) for aip in aips]
    galvo = detect_galvo_return(
        aips if finds_return else [],
        n_extra,
        confidence_threshold=params.galvo_confidence_threshold,
    )
    return camera, galvo


def run(context: Context, params: CreateMosaicGridParams) -> Result:
    """Write the mosaic grid of one slice."""
    import numpy as np

    from soct.formats.mosaic_grid import GridTile, MosaicGridWriter
    from soct.formats.raw import to_legacy_orientation
    from soct.geometry.camera_shift import apply_camera_shift
    from soct.geometry.galvo import apply_galvo_shift
    from soct.quality.saturation import clipped_share
    from soct.steps.tile_samples import Saturation, check_samples

    slice_id = context.unit.slices[0]
    assert context.acquisition is not None
    record = context.acquisition.slices[slice_id]
    if record.grid is not None:
        from soct.steps.grid_import import import_grid

        return import_grid(
            context,
            record,
            grid_axes=params.grid_axes,
            fix_galvo_shift=params.fix_galvo_shift,
            galvo_confidence_threshold=params.galvo_confidence_threshold,
            missing_tiles=params.missing_tiles,
            sharding_factor=params.sharding_factor,
            codec=params.codec,
        )
    if record.problems and params.missing_tiles == "fail":
        problem = record.problems[0]
        raise InputError(
            f"slice {slice_id} has {len(record.problems)} missing or damaged tiles; first: {problem.message}",
            file=problem.file,
            expected=problem.expected,
            found=problem.found,
            hint="mend the tiles, or set create_mosaic_grid.missing_tiles to mask",
        )
    if not record.tiles:
        raise InputError(
            f"slice {slice_id} has no readable tile",
            file=context.acquisition.root,
            hint=f"leave it out with --slices, or restore its tiles; {len(record.problems)} problems are listed by `soct plan`",
        )
    first = record.tiles[0].info
    _check_data_type(record, params)
    n_z = _kept_depth(record.tiles[0], params)
    camera, decision = decide_frames(record, params)
    row0, col0 = min(t.row for t in record.tiles), min(t.col for t in record.tiles)
    rows = max(t.row for t in record.tiles) - row0 + 1
    cols = max(t.col for t in record.tiles) - col0 + 1
    warnings: list[str] = []
    ny, nx = (first.nx, first.ny) if params.legacy_orientation else (first.ny, first.nx)
    written: list[GridTile] = []
    silent: list[GridTile] = []
    profile = np.zeros(first.nx + first.n_extra)
    saturation = Saturation.of_grid(rows, cols)
    with MosaicGridWriter(
        context.output("grid"),
        rows,
        cols,
        (n_z, ny, nx),
        _voxel(record, params),
        sharding_factor=params.sharding_factor,
        codec=params.codec,
        attributes={"slice_id": slice_id, "row0": row0, "col0": col0},
        threads=context.threads,
    ) as writer:
        there = {(t.row - row0, t.col - col0) for t in record.tiles}
        for position in writer.tile_order():
            if position not in there:
                writer.skip_tile(*position)
        for done, tile in enumerate(record.tiles):
            place = GridTile(
                row=tile.row - row0,
                col=tile.col - col0,
                stage_mm=tile.stage_mm,
                source=tile.folder.name,
                status="ok",
                galvo_shift=decision.shift,
                galvo_confidence=decision.confidence,
            )
            try:
                raw = read_samples(tile, params)
            except InputError as error:
                if params.missing_tiles == "fail":
                    raise
                warnings.append(str(error).replace("\n", "; "))
                silent.append(place)
                continue
            if bad := check_samples(raw):
                if params.missing_tiles == "fail":
                    raise InputError(f"a tile {bad.message}", file=tile.folder)
                warnings.append(f"{tile.folder.name} {bad.message}")
                if bad.silent:
                    silent.append(place)
                    continue
                np.nan_to_num(raw, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
            profile += raw.mean(axis=(0, 1), dtype=np.float64)
            if camera is not None:
                raw = apply_camera_shift(raw, camera)
            data = apply_galvo_shift(raw, decision)
            saturation.share[place.row, place.col] = clipped_share(data)
            if params.legacy_orientation:
                data = to_legacy_orientation(data)
            writer.write_tile(place.row, place.col, data)
            written.append(place)
            context.progress((done + 1) / len(record.tiles))
        if not written:
            # A slice without any signal goes on as an empty one: later steps say so and leave it out.
            warnings.append(f"slice {slice_id} shows nothing: none of its tiles holds data")
            for place in silent:
                writer.write_tile(place.row, place.col, np.zeros((n_z, ny, nx), np.float32))
            written = silent
        writer.close(written)
    write_npz(
        context.output("figures"),
        profile=(profile / max(1, len(written))).astype(np.float32),
        shift=np.int64(decision.shift),
        confidence=np.float64(decision.confidence),
        saturated=saturation.share.astype(np.float32),
    )
    return Result(
        metrics=(
            Metric("tiles_expected", rows * cols, "", "positions of the slice's grid"),
            Metric("tiles_found", len(written), "", "tiles read and written"),
            Metric("galvo_confidence", decision.confidence, "", "confidence of the galvo decision"),
            Metric("galvo_shift", decision.shift, "px", "A-lines by which each frame was rolled"),
            Metric(
                "galvo_decision", decision.reason, "", "what was decided about the return lines"
            ),
            Metric(
                "camera_decision",
                "off" if camera is None else camera.reason,
                "",
                "what was decided about the frame's first A-line",
            ),
            *saturation.metrics(),
        ),
        warnings=tuple(warnings),
        notices=tuple(p.message for p in record.problems),
        decisions=_galvo_decisions(slice_id, decision),
    )


def _galvo_decisions(slice_id: int, decision: GalvoDecision) -> tuple[Decision, ...]:
    """Return what the ledger says about the return lines; nothing where none were recorded."""
    if decision.n_extra == 0:
        return ()
    return (
        Decision(slice_id, "galvo_confidence", round(decision.confidence, 3), decision.reason),
        Decision(slice_id, "galvo_fix", decision.applied, decision.reason),
    )


def leaves_out(acquisition: Acquisition, params: CreateMosaicGridParams) -> dict[int, str]:
    """Name the slices without a usable tile, unless missing tiles are fatal."""
    if params.missing_tiles == "fail":
        return {}
    return {
        slice_id: describe_unusable(record.problems)
        for slice_id, record in acquisition.slices.items()
        if not record.tiles and record.grid is None
    }


def describe_unusable(problems: Sequence[Problem]) -> str:
    """Say in one line why a slice has no usable tile."""
    tiles = [p for p in problems if p.kind != "no_usable_tile"]
    if not tiles:
        return next((p.message for p in problems if p.file), "no readable tile")
    first = tiles[0]
    return f"no readable tile ({len(tiles)} problems; the first: {first.message}, {first.file})"


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import WAITING_BYTES, largest, measure_slices

    return largest(
        [
            # Beside the files that wait: two tiles as read, unpacked, turned and averaged.
            Need(
                size.grid_tiles * size.native_bytes,
                min(WAITING_BYTES, size.grid_tiles * size.native_bytes) + 8 * size.native_bytes,
                # Beside the grid, its figures.
                1
                + size.grid_files(size.native_bytes, params["create_mosaic_grid"].sharding_factor),
            )
            for size in measure_slices(acquisition, slices, params)
        ]
    )


STEP = Step(
    id="create_mosaic_grid",
    version=4,
    scope=Scope.SLICE,
    params=CreateMosaicGridParams,
    run=run,
    cost=Cost(raw_mvoxel=0.04, serial=0.2),
    estimate=estimate,
    leaves_out=leaves_out,
    summary="Raw tiles to one mosaic grid per slice, galvo return removed.",
    outputs=(
        Output("grid", "mosaic_grid_3d_z{slice:02d}.ome.zarr"),
        Output("figures", "figures_z{slice:02d}.npz", optional=True),
    ),
    reads_raw=True,
)
