"""The whole stack by stage positions alone, coarse: tiles and slices where the stage says, brightness as recorded.

Every slice is shown from its cut surface down to the next one, without blending, rotation or correction of brightness, so that what registration and normalisation do later can be told from what was there. Steps of the stage that `detect_rehoming_events` corrected are corrected here too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from soct.formats.npz import write_npz
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
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition
    from soct.space import FloatArray, Voxel
    from soct.steps.motor_mosaic import MotorMosaic


class MotorOnlyStackParams(Params):
    """Parameters of `motor_only_stack`."""

    enabled: bool = parameter(
        False, "Stack all slices by the stage alone, for comparison (profile diagnostic)."
    )
    resolution_um: float = parameter(
        25.0,
        "Voxel edge where motor_only_stitch is off (else its own is used).",
        unit="um",
        gt=0,
        le=1000,
    )
    overlap_fraction: float | None = parameter(
        None,
        "Overlap of neighbouring tiles where no stage position was recorded; empty: as estimate_xy_shifts found it.",
        ge=0,
        lt=0.9,
    )
    pyramid_levels_um: tuple[float, ...] = parameter(
        (50.0, 100.0), "Voxel sizes of the pyramid beyond the base level.", unit="um"
    )


def _mosaic(context: Context, params: MotorOnlyStackParams, slice_id: int) -> MotorMosaic:
    """Return a slice's motor-only mosaic: read where `motor_only_stitch` made it, else rendered."""
    import numpy as np

    from soct.formats.ome_zarr import open_volume
    from soct.steps.motor_mosaic import MotorMosaic, render_motor_mosaic

    if not context.has("motor_only_stitch", "slice"):
        return render_motor_mosaic(
            context,
            context.of_slice("resample_mosaic_grid", "grid", slice_id),
            params.resolution_um,
            params.overlap_fraction,
        )
    volume = open_volume(
        context.of_slice("motor_only_stitch", "slice", slice_id), threads=context.threads
    )
    data, valid = volume.read(), volume.read_valid()
    z = np.arange(volume.shape[0])[:, None, None]
    data = np.where((z >= valid[0]) & (z < valid[1]), data, np.nan).astype(np.float32)
    y, x = volume.attributes["corner_um"]
    return MotorMosaic(data, volume.voxel_um, (float(y), float(x)))


def _shifted(
    data: FloatArray, corner_px: tuple[float, float], shape: tuple[int, int]
) -> FloatArray:
    """Lay a slice on the canvas, linearly between pixels; NaN where it is not."""
    import numpy as np
    from scipy import ndimage as ndi

    out = np.full((data.shape[0], *shape), np.nan, np.float32)
    whole = [int(np.floor(c)) for c in corner_px]
    part = [c - w for c, w in zip(corner_px, whole, strict=True)]
    moved = ndi.shift(
        np.pad(data, ((0, 0), (0, 1), (0, 1)), constant_values=np.nan),
        (0, *part),
        order=1,
        cval=np.nan,
        prefilter=False,
    )
    y0, x0 = whole
    y1, x1 = min(y0 + moved.shape[1], shape[0]), min(x0 + moved.shape[2], shape[1])
    out[:, max(y0, 0) : y1, max(x0, 0) : x1] = moved[
        :, max(-y0, 0) : y1 - y0, max(-x0, 0) : x1 - x0
    ]
    return out


class _Places:
    """Where the stage puts every slice, in micrometres: corner in the plane, first plane, cut surface."""

    def __init__(self, context: Context) -> None:
        import numpy as np

        from soct.formats.documents import read_document
        from soct.formats.ome_zarr import open_volume

        space = read_document(context.run("bring_to_common_space", "offsets"))
        voxel = np.array(space["voxel_um"])
        # The stage's own word: without the angle to the camera that the tiles showed.
        undo = np.linalg.inv(np.array(space["grid_model"], float))
        self.offset: dict[int, NDArray[np.float64]] = {}
        self.first: dict[int, float] = {}
        self.surface: dict[int, float] = {}
        for text, row in space["slices"].items():
            i = int(text)
            stitched = open_volume(context.of_slice("stitch_3d_with_refinement", "slice", i))
            origin = np.array(stitched.attributes.get("origin_px", (0.0, 0.0)), float)
            self.offset[i] = (undo @ (np.array([row["y_px"], row["x_px"]]) - origin)) * voxel[1:]
            with np.load(context.of_slice("crop_interface", "surface", i)) as crop:
                crop_px = int(crop["crop_px"])
            self.surface[i] = row["z_px"] * voxel[0]
            self.first[i] = (row["z_px"] - crop_px) * voxel[0]
        self.order = sorted(self.surface, key=lambda i: (self.surface[i], i))
        starts = [self.surface[i] for i in self.order]
        step = float(np.median(np.diff(starts))) if len(starts) > 1 else 200.0
        self.end = {
            i: starts[k + 1] if k + 1 < len(starts) else starts[k] + step
            for k, i in enumerate(self.order)
        }


def run(context: Context, params: MotorOnlyStackParams) -> Result:
    """Stack the slices from top to bottom."""
    import numpy as np

    from soct.formats.images import to_grey, write_png
    from soct.formats.pyramid import PyramidWriter

    places = _Places(context)
    low, high, voxel = _extent(context, params, places)
    top = places.surface[places.order[0]]
    bottom = max(places.end.values())
    shape = (
        max(1, round((bottom - top) / voxel.z)),
        int(np.ceil((high[0] - low[0]) / voxel.y)) + 1,
        int(np.ceil((high[1] - low[1]) / voxel.x)) + 1,
    )
    centres = top + (np.arange(shape[0]) + 0.5) * voxel.z
    views = {
        "ortho_z": np.full(shape[1:], np.nan, np.float32),
        "ortho_y": np.full((shape[0], shape[2]), np.nan, np.float32),
        "ortho_x": np.full((shape[0], shape[1]), np.nan, np.float32),
    }
    boundaries = []
    with PyramidWriter(
        context.output("volume"),
        shape,
        voxel,
        params.pyramid_levels_um,
        attributes={"motor_only": True, "slices": places.order},
        threads=context.threads,
    ) as writer:
        done = 0
        for n, i in enumerate(places.order):
            last = n == len(places.order) - 1
            stop = shape[0] if last else int(np.searchsorted(centres, places.end[i]))
            boundaries.append(done)
            if stop <= done:
                continue
            mosaic = _mosaic(context, params, i)
            wanted = np.floor((centres[done:stop] - places.first[i]) / voxel.z).astype(int)
            there = (wanted >= 0) & (wanted < len(mosaic.data))
            corner = (places.offset[i] + mosaic.corner_um - low) / (voxel.y, voxel.x)
            planes = np.full((stop - done, *shape[1:]), np.nan, np.float32)
            planes[there] = _shifted(
                mosaic.data[wanted[there]],
                (float(corner[0]), float(corner[1])),
                (shape[1], shape[2]),
            )
            writer.append(np.nan_to_num(planes), np.isfinite(planes))
            _collect(views, planes, done)
            done = stop
            context.progress((n + 1) / len(places.order))
    write_png(context.output("preview"), to_grey(views["ortho_y"]))
    write_npz(
        context.output("figures"),
        voxel_um=np.array(voxel),
        z_boundaries=np.array(boundaries, np.int64),
        **views,
    )
    return Result(
        metrics=(
            Metric("motor_stack_voxel_um", float(voxel.x), "um", "voxel edge of this volume"),
            Metric("motor_stack_planes", shape[0], "px", "planes of this volume"),
            Metric("motor_stack_slices", len(places.order), "", "slices in this volume"),
        )
    )


def _extent(
    context: Context, params: MotorOnlyStackParams, places: _Places
) -> tuple[NDArray[np.float64], NDArray[np.float64], Voxel]:
    """Lowest and highest corner (y, x) in um over all slices, and the voxel."""
    import numpy as np

    from soct.formats.mosaic_grid import open_mosaic_grid
    from soct.formats.ome_zarr import open_volume
    from soct.geometry.resampling import plan_resampling
    from soct.steps.grid_tiles import expected_positions, present_tiles, tile_overlap

    low, high = [], []
    voxel = None
    for i in places.order:
        if context.has("motor_only_stitch", "slice"):
            volume = open_volume(context.of_slice("motor_only_stitch", "slice", i))
            size = np.array(volume.shape[1:]) * np.array(volume.voxel_um[1:])
            corner = places.offset[i] + np.array(volume.attributes["corner_um"], float)
            voxel = voxel or volume.voxel_um
        else:
            grid = open_mosaic_grid(context.of_slice("resample_mosaic_grid", "grid", i))
            overlap = tile_overlap(context, params.overlap_fraction)
            px = expected_positions(grid, present_tiles(grid), overlap).px
            size = (px.max(axis=0) + grid.tile_shape[1:]) * np.array(grid.voxel_um[1:])
            corner = places.offset[i]
            voxel = (
                voxel
                or plan_resampling(grid.tile_shape, grid.voxel_um, params.resolution_um).voxel_um
            )
        low.append(corner)
        high.append(corner + size)
    assert voxel is not None
    return np.min(low, axis=0), np.max(high, axis=0), voxel


def _collect(views: dict[str, FloatArray], planes: FloatArray, start: int) -> None:
    """Keep the three cuts through the middle."""
    nz, middle = len(views["ortho_y"]), [n // 2 for n in planes.shape[1:]]
    views["ortho_y"][start : start + len(planes)] = planes[:, middle[0]]
    views["ortho_x"][start : start + len(planes)] = planes[:, :, middle[1]]
    if start <= nz // 2 < start + len(planes):
        views["ortho_z"][:] = planes[nz // 2 - start]


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, measure_slices

    target = params["motor_only_stitch"].resolution_um
    sizes = measure_slices(acquisition, slices, params)
    coarse = max((s.plane * min(1.0, (10.0 / target) ** 2) for s in sizes), default=0.0)
    planes = max((s.tile[0] * min(1.0, s.voxel_z_um / target) for s in sizes), default=0.0)
    tile = max((s.tile_bytes for s in sizes), default=0)
    one = FLOAT * coarse * planes
    return Need(int(0.5 * one * len(sizes)), int(6 * one) + 4 * tile)


STEP = Step(
    id="motor_only_stack",
    version=1,
    scope=Scope.RUN,
    params=MotorOnlyStackParams,
    run=run,
    cost=Cost(mvoxel=0.03, serial=0.5),
    estimate=estimate,
    summary="Diagnosis: the whole stack by stage positions alone, coarse.",
    inputs=(
        Input("estimate_xy_shifts"),
        Input("resample_mosaic_grid"),
        Input("fix_focal_curvature", optional=True),
        Input("fix_illumination", optional=True),
        Input("motor_only_stitch", optional=True),
        Input("stitch_3d_with_refinement"),
        Input("crop_interface"),
        Input("bring_to_common_space"),
    ),
    outputs=(
        Output("volume", "motor_only.ome.zarr"),
        Output("preview", "motor_only.png"),
        Output("figures", "figures.npz", optional=True),
    ),
)
