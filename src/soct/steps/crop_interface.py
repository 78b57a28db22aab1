"""The water-tissue interface of one slice, and from which depth on its data are used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

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
    from soct.space import FloatArray

    BoolArray = NDArray[np.bool_]


class CropInterfaceParams(Params):
    """Parameters of `crop_interface`."""

    mode: Literal["plane", "surface"] = parameter(
        "plane",
        "plane keeps the geometry and crops at one depth; surface flattens every A-line to the interface.",
    )
    out_depth_um: float = parameter(
        600.0, "Depth kept below the interface.", unit="um", gt=0, le=20_000
    )
    margin_um: float = parameter(
        5.0, "Data closer than this below the interface are left out: half water.", unit="um", ge=0
    )
    smoothing_um: float = parameter(
        200.0, "Lateral scale of the interface map.", unit="um", ge=0, le=10_000
    )


REACH_PX = 20
HALO_PX = 8
SAMPLE_PX = (256, 512)
"""Rows and columns in the middle of the slice that tell the level of the water."""
CLASS_RATIO = 3.0


def mean_below(block: FloatArray, depth: FloatArray) -> FloatArray:
    """Mean of the samples just below the interface, (y, x); 0 where no interface was seen."""
    import numpy as np

    z = np.arange(block.shape[0], dtype=np.float32)[:, None, None]
    top = np.nan_to_num(depth, nan=float(block.shape[0]))[None] + 1
    inside = (z >= top) & (z < top + REACH_PX)
    count = inside.sum(axis=0)
    total = np.einsum("zyx,zyx->yx", np.nan_to_num(block), inside.astype(np.float32))
    return np.where(count > 0, total / np.maximum(count, 1), 0.0).astype(np.float32)


def choose_tissue(below: FloatArray, floor: float) -> tuple[BoolArray, float]:
    """Tell tissue from agarose by the brightness under the surface; everything where there is one class.

    Returns the mask and the share of A-lines that are agarose.
    """
    import numpy as np
    from scipy import ndimage as ndi

    from soct.intensity.normalization import IntensityHistogram, split_tissue

    smooth = ndi.gaussian_filter(below, 2.0, mode="nearest") - floor
    lit = smooth > 0
    histogram = IntensityHistogram()
    histogram.add(smooth[lit])
    threshold = split_tissue(histogram)
    bright, dim = smooth[lit & (smooth > threshold)], smooth[lit & (smooth <= threshold)]
    if not bright.size or not dim.size or bright.mean() < CLASS_RATIO * dim.mean():
        return lit, 0.0
    return lit & (smooth > threshold), float(dim.size / max(np.count_nonzero(below > 0), 1))


def choose_agarose(below: FloatArray, brightest: FloatArray, tissue: BoolArray) -> BoolArray:
    """Choose the A-lines without any tissue: none begins below their agarose, and none lies beside them."""
    import numpy as np
    from scipy import ndimage as ndi

    dark = (below > 0) & ~tissue
    if not dark.any() or not tissue.any():
        return np.zeros_like(tissue)
    border = float(np.sqrt(np.median(below[tissue]) * np.median(below[dark])))
    pure = dark & (ndi.gaussian_filter(brightest, 2.0, mode="nearest") <= border)
    eroded: BoolArray = ndi.binary_erosion(pure, iterations=2)
    return eroded


def run(context: Context, params: CropInterfaceParams) -> Result:
    """Measure the interface block by block, fit it, and choose the crop."""
    import numpy as np

    from soct.formats.ome_zarr import open_volume
    from soct.geometry.surface import (
        detect_interface,
        fit_surface,
        measure_water_level,
        smooth_a_lines,
    )
    from soct.intensity.agarose_cover import find_brightest
    from soct.intensity.depth_profiles import DepthSums
    from soct.steps.blocks import cut_blocks, middle_block

    volume = open_volume(
        context.mine("stitch_3d_with_refinement", "slice"), threads=context.threads
    )
    nz, ny, nx = volume.shape
    dz = volume.voxel_um.z
    valid = volume.read_valid()
    blocks = cut_blocks(volume.shape, volume.shards)
    middle = middle_block(volume.shape, *SAMPLE_PX)
    water = measure_water_level(
        smooth_a_lines(
            volume.read(None, middle[:2], middle[2:]), valid[:, middle.rows, middle.columns]
        )
    )
    depth = np.full((ny, nx), np.nan, np.float32)
    confidence = np.zeros((ny, nx), np.float32)
    below = np.zeros((ny, nx), np.float32)
    brightest = np.zeros((ny, nx), np.float32)
    for done, block in enumerate(blocks):
        wider = block.grown(HALO_PX, volume.shape)
        data = volume.read(None, wider[:2], wider[2:])
        found = detect_interface(data, valid[:, wider.rows, wider.columns], water=water)
        inner, here = block.within(wider), (block.rows, block.columns)
        depth[here] = found.depth_px[inner]
        confidence[here] = found.confidence[inner]
        below[here] = mean_below(data[:, *inner], found.depth_px[inner])
        brightest[here] = find_brightest(data[:, *inner], found.depth_px[inner])
        context.progress(0.7 * (done + 1) / len(blocks))
    confidence[valid[1] <= valid[0]] = 0.0
    surface = fit_surface(
        depth,
        confidence,
        mode="surface",
        smoothing_px=max(params.smoothing_um / volume.voxel_um.y, 1.0),
    )
    used = surface.depth_px[valid[1] > valid[0]]
    crop = int(np.floor(np.percentile(used, 1))) if used.size else 0
    planes = max(1, round(params.out_depth_um / dz))
    tissue, agarose_share = choose_tissue(below, water.floor)
    agarose = choose_agarose(below - water.floor, brightest - water.floor, tissue)
    sums = {name: DepthSums(nz, water.floor) for name in ("tissue", "agarose")}
    for done, block in enumerate(blocks):
        here = (block.rows, block.columns)
        data = volume.read(None, block[:2], block[2:])
        for name, mask in (("tissue", tissue), ("agarose", agarose)):
            if mask[here].any():
                sums[name].add(data, surface.depth_px[here], valid=valid[:, *here], mask=mask[here])
        context.progress(0.7 + 0.3 * (done + 1) / len(blocks))
    write_npz(
        context.output("surface"),
        surface=(surface.depth_px * dz).astype(np.float32),
        depth_px=surface.depth_px,
        crop_px=np.int64(max(crop, 0)),
        planes=np.int64(planes),
        margin_px=np.float64(params.margin_um / dz),
        flatten=np.bool_(params.mode == "surface"),
        floor=np.float64(water.floor),
        noise=np.float64(water.noise),
        agarose_share=np.float64(agarose_share),
        tissue_sums=sums["tissue"].to_array(),
        agarose_sums=sums["agarose"].to_array(),
        coefficients=surface.coefficients,
        voxel_um=np.array(volume.voxel_um),
    )
    tilt = np.hypot(
        surface.coefficients[1] * dz / volume.voxel_um.y,
        surface.coefficients[2] * dz / volume.voxel_um.x,
    )
    warnings = () if surface.measured_fraction >= 0.02 else (surface.reason,)
    return Result(
        metrics=(
            Metric(
                "interface_depth_um",
                float(np.median(used)) * dz if used.size else None,
                "um",
                "median depth of the interface",
            ),
            Metric(
                "interface_tilt_deg",
                float(np.degrees(np.arctan(tilt))),
                "deg",
                "tilt of the interface at the slice's corner",
            ),
            Metric(
                "interface_spread_um",
                surface.residual_px * dz,
                "um",
                "spread of measured depths about the surface",
            ),
            Metric(
                "interface_measured",
                surface.measured_fraction,
                "",
                "share of A-lines that show an interface",
            ),
            Metric("agarose_share", agarose_share, "", "share of A-lines that are agarose"),
            Metric("crop_depth_um", max(crop, 0) * dz, "um", "depth at which the slice begins"),
        ),
        warnings=warnings,
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import largest, measure_slices

    return largest(
        [
            # Maps of the slice, and one block while it is smoothed.
            Need(16 * size.plane, 60 * size.plane + 10 * size.block_bytes(HALO_PX))
            for size in measure_slices(acquisition, slices, params)
        ]
    )


STEP = Step(
    id="crop_interface",
    version=3,
    scope=Scope.SLICE,
    params=CropInterfaceParams,
    run=run,
    cost=Cost(unit=0.17, mvoxel=0.049, serial=0.4),
    estimate=estimate,
    summary="Map the tissue surface and choose the depth range that is kept.",
    inputs=(Input("stitch_3d_with_refinement"),),
    outputs=(Output("surface", "figures_z{slice:02d}.npz"),),
)
