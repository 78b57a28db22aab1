"""Every slice stitched by stage positions alone, coarse and quick: what the tiles look like before any image is matched.

Tiles are shrunk to `resolution_um` and pasted, each pixel from the tile whose centre is nearest, without blending: a wrong place shows as a break. Compare with the slices of `stitch_3d_with_refinement`.
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

    from soct.formats.acquisition import Acquisition


class MotorOnlyStitchParams(Params):
    """Parameters of `motor_only_stitch`."""

    enabled: bool = parameter(
        False, "Stitch every slice by the stage alone, for comparison (profile diagnostic)."
    )
    resolution_um: float = parameter(
        25.0, "Voxel edge; an axis that is coarser keeps its sampling.", unit="um", gt=0, le=1000
    )
    overlap_fraction: float | None = parameter(
        None,
        "Overlap of neighbouring tiles where no stage position was recorded; empty: as estimate_xy_shifts found it.",
        ge=0,
        lt=0.9,
    )


def run(context: Context, params: MotorOnlyStitchParams) -> Result:
    """Stitch one slice."""
    import numpy as np

    from soct.formats.images import to_grey, write_png
    from soct.formats.ome_zarr import create_volume
    from soct.steps.motor_mosaic import render_motor_mosaic

    mosaic = render_motor_mosaic(
        context,
        context.mine("resample_mosaic_grid", "grid"),
        params.resolution_um,
        params.overlap_fraction,
    )
    seen = np.isfinite(mosaic.data)
    with create_volume(
        context.output("slice"),
        mosaic.data.shape,
        mosaic.voxel_um,
        codec="zstd",
        attributes={
            "slice_id": context.unit.slices[0],
            "corner_um": list(mosaic.corner_um),
            "motor_only": True,
        },
        threads=context.threads,
    ) as writer:
        writer.write((0, 0, 0), np.nan_to_num(mosaic.data))
        there = seen.any(axis=0)
        last = seen.shape[0] - seen[::-1].argmax(axis=0)
        valid = np.where(there, np.stack([seen.argmax(axis=0), last]), 0)
        writer.write_valid(valid.astype(np.int16))
    count = seen.sum(axis=0)
    mean = np.where(count > 0, np.nansum(mosaic.data, axis=0) / np.maximum(count, 1), np.nan)
    write_png(context.output("preview"), to_grey(mean))
    write_npz(
        context.output("figures"), mean=mean.astype(np.float32), voxel_um=np.array(mosaic.voxel_um)
    )
    return Result(
        metrics=(
            Metric("motor_voxel_um", float(mosaic.voxel_um.x), "um", "voxel edge of this view"),
            Metric(
                "motor_coverage",
                float(there.mean()),
                "",
                "share of the bounding box that a tile covers",
            ),
        )
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import FLOAT, largest, measure_slices

    target = params["motor_only_stitch"].resolution_um
    needs = []
    for size in measure_slices(acquisition, slices, params):
        # The working pixel is not known here in the plane; as if it were not coarser than 10 um.
        coarse = size.plane * min(1.0, (10.0 / target) ** 2)
        planes = size.tile[0] * min(1.0, size.voxel_z_um / target)
        bytes_ = int(FLOAT * coarse * planes)
        needs.append(Need(bytes_, 4 * bytes_ + 4 * size.tile_bytes))
    return largest(needs)


STEP = Step(
    id="motor_only_stitch",
    version=1,
    scope=Scope.SLICE,
    params=MotorOnlyStitchParams,
    run=run,
    cost=Cost(mvoxel=0.05, serial=0.5),
    estimate=estimate,
    summary="Diagnosis: every slice stitched by stage positions alone, coarse.",
    inputs=(
        Input("estimate_xy_shifts"),
        Input("resample_mosaic_grid"),
        Input("fix_focal_curvature", optional=True),
        Input("fix_illumination", optional=True),
    ),
    outputs=(
        Output("slice", "motor_z{slice:02d}.ome.zarr"),
        Output("preview", "motor_z{slice:02d}.png"),
        Output("figures", "figures_z{slice:02d}.npz", optional=True),
    ),
)
