"""All slices -> one volume: poses applied, brightness matched, overlaps blended, pyramid written in one pass."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from soct.errors import StepError
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
from soct.steps.stack_blend import refine_blends
from soct.steps.stack_renderer import StackCanvas, StackRenderer, StackSlice
from soct.steps.stack_tables import StackedSlice, write_stack_tables
from soct.steps.stack_views import StackViews, motor_views

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition
    from soct.mosaic.stack_rendering import SlicePlacement

    BoolArray = NDArray[np.bool_]


class StackParams(Params):
    """Parameters of `stack`."""

    blend_depth_um: float = parameter(
        60.0, "Length of the ramp that takes a slice in and out along depth.", unit="um", ge=0
    )
    blend_lateral_um: float = parameter(
        150.0, "Width of the ramp at the border of a slice's field.", unit="um", ge=0
    )
    max_blend_refinement_um: float = parameter(
        0.0,
        "Longest shift in the plane that is still taken out of the overlap of two slices; 0 takes out none.",
        unit="um",
        ge=0,
        le=1000,
    )
    max_depth_um: float = parameter(
        0.0, "Use no more than this depth of each slice; 0 uses all of it.", unit="um", ge=0
    )
    interpolation: Literal["cubic", "linear"] = parameter(
        "linear",
        "Interpolation in the plane: linear, or cubic, which keeps more detail and more speckle.",
    )
    pyramid_levels_um: tuple[float, ...] = parameter(
        (10.0, 25.0, 50.0, 100.0),
        "Voxel sizes of the pyramid, from the base resolution up.",
        unit="um",
    )
    codec: Literal["none", "zstd"] = parameter("zstd", "Compression of the final volume.")
    orientation: str = parameter(
        "", "What increasing z, y and x point to, three letters such as PIR; empty if unknown."
    )

    @field_validator("orientation")
    @classmethod
    def _a_possible_code(cls, value: str) -> str:
        from soct.geometry.orientation import parse_orientation

        return parse_orientation(value) if value.strip() else ""


LEAST_BLOCKS = 64 << 20
"""Memory for blocks of planes at the least."""
FIRST_CUT_REACH_UM = 50.0
"""How far below the first cut the data may begin for the volume to begin at that cut."""


def _plan_canvas(poses: dict[str, Any]) -> StackCanvas:
    """Smallest canvas that holds every slice, and the first cut surface where that is near.

    Depth is 0 at the first cut. A volume that begins there tells the depth of a plane by its number, whatever
    margin below the surface is left out.
    """
    import numpy as np

    from soct.registration.transforms import RigidTransform2D
    from soct.space import Voxel

    low, high = [], []
    for row in poses["slices"].values():
        transform = RigidTransform2D(
            row["rotation_deg"], tuple(row["shift_px"]), tuple(row["centre_px"])
        )
        h, w = row["shape"][1:]
        corners = transform.inverse().apply(
            np.array([(y, x) for y in (0, h - 1) for x in (0, w - 1)], float)
        )
        first_plane, end_plane = row["depths"]
        low.append((row["z_px"] + first_plane, *corners.min(axis=0)))
        high.append((row["z_px"] + end_plane - 1, *corners.max(axis=0)))
    # A plane that only half of an interpolation reaches stays outside; in the plane every pixel counts.
    first = np.array(
        [np.ceil(np.min(low, axis=0)[0] - 0.5), *np.floor(np.min(low, axis=0)[1:] + 1e-6)]
    )
    last = np.array(
        [np.floor(np.max(high, axis=0)[0] + 0.5), *np.ceil(np.max(high, axis=0)[1:] - 1e-6)]
    )
    if 0 < first[0] * poses["voxel_um"][0] <= FIRST_CUT_REACH_UM:
        first[0] = 0.0
    shape = (last - first + 1).astype(int)
    # Even, so that no level of the pyramid ends in half a plane.
    shape[0] += shape[0] % 2
    return StackCanvas(
        (int(shape[0]), int(shape[1]), int(shape[2])),
        (float(first[0]), float(first[1]), float(first[2])),
        Voxel(*poses["voxel_um"]),
    )


def _placement(
    row: dict[str, Any], canvas: StackCanvas, level: dict[str, Any], *, motor: bool
) -> SlicePlacement:
    """Pose of one slice against the canvas' first voxel; `motor`: where the stage alone puts it."""
    import numpy as np

    from soct.mosaic.stack_rendering import SlicePlacement
    from soct.registration.transforms import RigidTransform2D

    if motor:
        transform = RigidTransform2D(0.0, tuple(row["stage_px"][1:]), tuple(row["centre_px"]))
        z = row["stage_px"][0]
    else:
        transform = RigidTransform2D(
            row["rotation_deg"], tuple(row["shift_px"]), tuple(row["centre_px"])
        )
        z = row["z_px"]
    to_canvas = np.eye(3)
    to_canvas[:2, 2] = canvas.origin[1:]
    return SlicePlacement(
        to_slice=np.ascontiguousarray((transform.matrix() @ to_canvas)[:2]),
        z_px=float(z - canvas.origin[0]),
        shape=(row["planes"], row["shape"][1], row["shape"][2]),
        gain=float(level["scale"]),
        floor=float(level["floor"]),
        cap=float(level["cap"]),
    )


def _open_slices(context: Context, params: StackParams) -> tuple[list[StackSlice], StackCanvas]:
    import numpy as np

    from soct.formats.documents import read_document
    from soct.formats.ome_zarr import open_volume
    from soct.mosaic.stack_rendering import depth_weights

    poses = read_document(context.run("estimate_slice_poses", "poses"))
    levels = read_document(context.run("normalize", "normalization"))["slices"]
    poses["slices"] = {
        i: row for i, row in poses["slices"].items() if levels[i]["cap"] > 0 and row["stacked"]
    }
    if not poses["slices"]:
        raise StepError(
            "no slice holds any signal: there is nothing to stack",
            hint="look at the raw tiles; `soct plan` lists what is wrong with them",
        )
    volumes = {
        i: open_volume(
            context.of_slice("compensate_attenuation", "slice", int(i)), threads=context.threads
        )
        for i in poses["slices"]
    }
    dz = poses["voxel_um"][0]
    most = round(params.max_depth_um / dz) if params.max_depth_um > 0 else None
    for i, row in poses["slices"].items():
        row["planes"] = min(volumes[i].shape[0], most or volumes[i].shape[0])
        valid = np.minimum(volumes[i].read_valid(), row["planes"])
        footprint = valid[1] > valid[0]
        if not footprint.any():
            raise StepError(
                f"slice {i} holds no data",
                file=volumes[i].path,
                hint=f"leave it out: generate_slice_config.exclude: [{i}]",
            )
        row["depths"] = (int(valid[0][footprint].min()), int(valid[1].max()))
    canvas = _plan_canvas(poses)
    slices = _open_interpolated(context, canvas)
    for i, row in sorted(poses["slices"].items(), key=lambda item: int(item[0])):
        with np.load(context.of_slice("compensate_attenuation", "levels", int(i))) as saved:
            weights = depth_weights(saved["snr"])
        slices.append(
            StackSlice(
                int(i),
                volumes[i],
                weights,
                _placement(row, canvas, levels[i], motor=False),
                _placement(row, canvas, levels[i], motor=True),
                row["depths"],
            )
        )
    return sorted(slices, key=lambda s: s.slice_id), canvas


def _open_interpolated(context: Context, canvas: StackCanvas) -> list[StackSlice]:
    """Return the slices that were made from their neighbours: in the canvas' own pixels, brightness as it is."""
    import numpy as np

    from soct.formats.ome_zarr import open_volume
    from soct.steps.interpolate_missing_slice import read_interpolated

    found = []
    for i, (path, entry) in read_interpolated(context).items():
        row = {
            "rotation_deg": 0.0,
            "shift_px": [entry["y_px"], entry["x_px"]],
            "centre_px": [0.0, 0.0],
            "z_px": entry["z_px"],
            "planes": entry["shape"][0],
            "shape": entry["shape"],
        }
        placement = _placement(
            row, canvas, {"scale": 1.0, "floor": 0.0, "cap": np.inf}, motor=False
        )
        volume = open_volume(path, threads=context.threads)
        weights = np.ones(entry["shape"][0], np.float32)
        depths = (entry["margin"], entry["shape"][0] - entry["margin"])
        found.append(StackSlice(i, volume, weights, placement, placement, depths, entry["method"]))
    return found


def _banding(
    context: Context, params: StackParams, views: StackViews, canvas: StackCanvas
) -> tuple[float | None, tuple[tuple[int, ...], ...]]:
    """Return the typical brightness step where slices meet, and the pairs of slices that stand out.

    Slices that blend over much of their depth turn a step into a wave that looks like anatomy along depth; the
    tissue that two slices both show tells it all the same. What all these steps have in common is the fall of
    light that the depth correction left: a saw-tooth, which the brightness along depth shows. The greater counts.
    """
    import numpy as np

    from soct.formats.documents import read_document
    from soct.quality.metrics import measure_banding

    ramp = round(params.blend_depth_um / canvas.voxel_um[0] / 2)
    along = measure_banding(views.median, views.starts + ramp, valid_fraction=views.fraction)
    rows = read_document(context.run("normalize", "normalization"))["steps"]
    pairs = [(int(row["fixed_id"]), int(row["moving_id"])) for row in rows]
    steps = np.array([row["log_step"] for row in rows])
    off = np.abs(steps - np.median(steps)) if rows else steps
    between = float(np.median(off)) if rows else np.nan
    known = [value for value in (along, between) if np.isfinite(value)]
    worst = [int(k) for k in np.argsort(-off, kind="stable")[:3] if off[k] > off.max() / 2]
    places = tuple(pairs[k] for k in worst) if known and max(known) == between else ()
    return max(known) if known else None, places


def _attributes(context: Context, slices: list[StackSlice]) -> dict[str, Any]:
    """Return what the volume says of itself: its slices, and the planes that no measurement lies behind."""
    made = [s for s in slices if s.interpolation]
    said: dict[str, Any] = {
        "subject": context.subject,
        "slices": [s.slice_id for s in slices if not s.interpolation],
        "slice_starts": [[s.slice_id, int(s.first_plane)] for s in slices],
    }
    if made:
        said["interpolated_slices"] = [
            {"slice_id": s.slice_id, "method": s.interpolation} for s in made
        ]
        said["interpolated_planes"] = [
            [s.first_plane, s.first_plane + s.depths[1] - s.depths[0] - 1] for s in made
        ]
    return said


def run(context: Context, params: StackParams) -> Result:
    """Render the volume from top to bottom and write it with its pyramid."""
    import numpy as np

    from soct.formats.images import to_grey, write_png
    from soct.formats.pyramid import PyramidWriter
    from soct.formats.validation import validate_volume
    from soct.report.screenshot import draw_views, take_views

    slices, canvas = _open_slices(context, params)
    slices, refined, told = refine_blends(context, params, slices, canvas)
    deepest = max(s.placement.shape[0] for s in slices)
    overlapping = sum(s.first_plane < slices[0].first_plane + deepest for s in slices)
    fixed = _fixed_bytes(canvas.shape, canvas.voxel_um, params.pyramid_levels_um, overlapping)
    blocks = dataclasses.replace(
        context, memory_bytes=max(context.memory_bytes - fixed, LEAST_BLOCKS)
    )
    renderer = StackRenderer(blocks, params, slices, canvas)
    views = StackViews(canvas, slices, context.threads)
    nz, ny, nx = canvas.shape
    depth = int(np.clip(renderer.memory // 8 // max(ny * nx * 4, 1), 1, 32))
    with PyramidWriter(
        context.output("volume"),
        canvas.shape,
        canvas.voxel_um,
        params.pyramid_levels_um,
        orientation=params.orientation or None,
        codec=params.codec,
        attributes=_attributes(context, slices),
        threads=context.threads,
    ) as writer:
        for z0, values, valid in renderer.blocks(depth):
            writer.append(values, valid)
            views.add(z0, values, valid)
            context.progress(0.8 * (z0 + len(values)) / nz)
    findings = validate_volume(context.output("volume"))
    if findings:
        raise StepError(
            "the stacked volume does not pass validation",
            file=context.output("volume"),
            found="; ".join(map(str, findings)),
        )
    motor_y, motor_x = motor_views(renderer, views, depth)
    write_npz(
        context.output("figures"),
        ortho_z=views.ortho_z,
        ortho_y=views.ortho_y,
        ortho_x=views.ortho_x,
        motor_y=motor_y,
        motor_x=motor_x,
        voxel_um=np.array(canvas.voxel_um),
        # Where the first voxel lies in the space of the poses.
        origin_um=np.array(canvas.origin) * np.array(canvas.voxel_um),
        z_boundaries=views.starts,
        slice_ids=np.array([s.slice_id for s in slices], np.int64),
        plane_median=views.median,
        plane_valid_fraction=views.fraction,
    )
    write_png(context.output("preview"), to_grey(views.ortho_z))
    picture = draw_views(take_views(context.output("volume")), context.subject)
    write_png(context.output("annotated"), picture)
    write_stack_tables(
        context,
        [StackedSlice(s.slice_id, s.depths, s.interpolation) for s in slices],
    )
    banding, banded = _banding(context, params, views, canvas)
    filled = np.flatnonzero(views.fraction > 0)
    gaps = int(np.ptp(filled)) + 1 - len(filled) if filled.size else nz
    warnings = (
        [f"{gaps} planes of the volume hold no data: slices are missing there"] if gaps else []
    )
    return Result(
        metrics=(
            Metric(
                "banding_index",
                banding,
                "",
                "typical brightness step where slices meet, beyond anatomy",
                places=banded,
            ),
            Metric(
                "filled",
                views.filled,
                "",
                "share of the planes between first and last that hold data",
            ),
            Metric(
                "slices_stacked",
                sum(not s.interpolation for s in slices),
                "",
                "slices in the volume, from their own image",
            ),
            Metric(
                "slices_made_up",
                sum(bool(s.interpolation) for s in slices),
                "",
                "slices in the volume that are interpolated",
            ),
            Metric("volume_planes", nz, "px", "planes of the volume"),
            Metric("volume_rows", ny, "px", "rows of the volume"),
            Metric("volume_columns", nx, "px", "columns of the volume"),
            Metric("planes_empty", gaps, "", "planes without any data"),
            Metric(
                "blend_refinement_um",
                refined,
                "um",
                "longest shift that was taken out of an overlap of slices",
            ),
            Metric("ngff_valid", True, "", "the volume passes the OME-NGFF check"),
        ),
        warnings=tuple(warnings),
        fallbacks=(*told, *renderer.device.fallbacks),
        backend=renderer.device.backend.name,
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, measure_slices

    sizes = measure_slices(acquisition, slices, params)
    if not sizes:
        return Need()
    plane = max(size.plane for size in sizes)
    kept = max(size.planes_kept(params) for size in sizes)
    dz = min(size.voxel_z_um for size in sizes)
    cut = 1000 * params["beam_profile_correction"].slicing_interval_mm / dz
    planes = kept + (len(sizes) - 1) * min(float(kept), cut)
    overlapping = math.ceil(kept / max(min(float(kept), cut), 1.0))
    canvas = max((size.canvas for size in sizes), key=math.prod)
    own = params["stack"]
    fixed = _fixed_bytes(
        (math.ceil(planes), *canvas),
        (dz, *sizes[0].voxel_um[1:]),
        own.pyramid_levels_um,
        1 + overlapping,
    )
    return Need(int(1.4 * FLOAT * planes * plane), fixed + LEAST_BLOCKS)


def _fixed_bytes(
    shape: tuple[int, int, int],
    voxel_um: tuple[float, float, float],
    levels_um: tuple[float, ...],
    overlapping: int,
) -> int:
    """Return what is held beside the blocks of planes: the writer, and maps of the slices that lie at one depth."""
    from soct.formats.pyramid_layout import pyramid_memory, volume_layout

    plane = shape[1] * shape[2]
    writer = pyramid_memory(shape, voxel_um, levels_um)
    compressed = 4 * volume_layout(shape).shards[0] * plane
    return writer + compressed + (24 * overlapping + 80) * plane


STEP = Step(
    id="stack",
    version=12,
    scope=Scope.RUN,
    params=StackParams,
    run=run,
    cost=Cost(unit=1.3, kept_mvoxel=0.05, serial=0.2),
    estimate=estimate,
    uses_gpu=True,
    summary="Stack all slices into one OME-Zarr volume.",
    inputs=(
        Input("compensate_attenuation"),
        Input("normalize"),
        Input("estimate_slice_poses"),
        Input("interpolate_missing_slice", optional=True),
    ),
    outputs=(
        Output("volume", "{subject}.ome.zarr"),
        Output("preview", "{subject}.png"),
        Output("annotated", "{subject}_annotated.png"),
        Output("z_matches", "z_matches.csv"),
        Output("decisions", "stacking_decisions.csv"),
        Output("figures", "figures.npz", optional=True),
    ),
)
