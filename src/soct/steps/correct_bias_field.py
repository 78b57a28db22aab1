"""Slow changes of brightness that belong to the instrument, taken out of the stacked volume by N4.

Switch it on where the volume shows shading or stripes that `fix_illumination` and `normalize` left. `two_pass` corrects
each section by a field of its own, levels the planes by the steps between facing planes, and then takes one
field over the whole volume. The volume is read twice and never held in memory; the field is fitted on block means.

N4 cannot tell a slow change of the tissue itself from shading. `contrast_kept` says how much of the contrast within
planes is left; where it falls far below 1, use a lower `bias_strength`, fewer levels or a greater `spline_distance_mm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Cost,
    Metric,
    Need,
    Output,
    Params,
    Result,
    Scope,
    Step,
    finite,
    parameter,
)
from soct.steps.finished_volume import inputs_before
from soct.steps.volume_pass import estimate_pass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soct.formats.acquisition import Acquisition
    from soct.formats.ome_zarr import VolumeReader
    from soct.intensity.volume_bias import BiasOptions, ShrunkVolume, VolumeBias
    from soct.space import FloatArray


class CorrectBiasFieldParams(Params):
    """Parameters of `correct_bias_field`."""

    enabled: bool = parameter(False, "Take slow shading and stripes out of the stacked volume.")
    bias_mode: Literal["per_section", "global", "two_pass"] = parameter(
        "two_pass", "A field for each section, one for the whole volume, or one after the other."
    )
    bias_strength: float = parameter(
        1.0, "Share of the estimated field (of its logarithm) that is taken out.", ge=0, le=1
    )
    backend: Literal["own", "simpleitk"] = parameter(
        "own", "Who iterates: soct's N4 (on the GPU where one is used), or SimpleITK's, far slower."
    )
    shrink_factor: int = parameter(
        4, "Voxels along each axis of the blocks whose means are fitted.", unit="px", ge=1, le=32
    )
    levels: int = parameter(
        4, "Levels of the fit; the mesh of the field doubles from one to the next.", ge=1, le=8
    )
    iterations: int = parameter(50, "Most iterations of each level.", ge=1, le=1000)
    spline_distance_mm: float = parameter(
        10.0, "Element of the coarsest mesh of the field over the volume.", unit="mm", gt=0, le=1000
    )
    section_spline_distance_mm: float = parameter(
        2.0, "The same for the fields of single sections.", unit="mm", gt=0, le=1000
    )
    kept_sections: float = parameter(
        4.0,
        "Changes of brightness along depth over more sections than this are tissue and stay.",
        ge=0.5,
        le=1000,
    )
    mask_smoothing_um: float = parameter(
        20.0, "Gaussian sigma of the volume from which the tissue mask is made.", unit="um", ge=0
    )
    mask_closing_um: float = parameter(
        40.0, "Clefts of the tissue mask up to this radius are closed.", unit="um", ge=0
    )
    codec: Literal["none", "zstd"] = parameter("zstd", "Compression of the corrected volume.")


def _shrink(
    context: Context, volume: VolumeReader, boundaries: list[float], factor: int
) -> ShrunkVolume:
    """Read the volume once into its small copies."""
    import numpy as np

    from soct.intensity.volume_bias import ShrunkVolume, cut_sections

    nz = volume.shape[0]
    small = ShrunkVolume(volume.shape, cut_sections(nz, boundaries), factor)
    # Chunk by chunk, whatever the memory: sums over other bands would be rounded differently.
    for z0 in range(0, nz, volume.chunks[0]):
        z1 = min(z0 + volume.chunks[0], nz)
        small.add(z0, volume.read((z0, z1)).astype(np.float32, copy=False))
        context.progress(0.35 * z1 / nz)
    return small


def _fitting_factor(context: Context, volume: VolumeReader, wanted: int) -> int:
    """Return the factor that was asked for, or the first whose copies fit into half of the memory."""
    from soct.intensity.volume_bias import ShrunkVolume

    factor = wanted
    while ShrunkVolume.bytes_needed(volume.shape, factor) > context.memory_bytes // 2:
        factor += 1
    return factor


def _options(
    context: Context, params: CorrectBiasFieldParams, block_um: tuple[float, float, float]
) -> BiasOptions:
    from soct.intensity.bias_field import resolve_backend
    from soct.intensity.volume_bias import BiasOptions

    device = {"auto": "auto", "require": "gpu", "off": "numba"}[context.gpu]
    lateral = min(block_um[1:])
    return BiasOptions(
        mode=params.bias_mode,
        strength=params.bias_strength,
        iterations=(params.iterations,) * params.levels,
        spline_mm=params.spline_distance_mm,
        section_spline_mm=params.section_spline_distance_mm,
        kept_sections=params.kept_sections,
        mask_smoothing_px=params.mask_smoothing_um / lateral,
        mask_closing_px=params.mask_closing_um / lateral,
        backend="cpu" if params.backend == "simpleitk" else resolve_backend(device),
    )


def run(context: Context, params: CorrectBiasFieldParams) -> Result:
    """Fit the field on a small copy, then write the corrected volume in one pass."""
    import numpy as np

    from soct.formats.ome_zarr import open_volume
    from soct.intensity.volume_bias import estimate_volume_bias
    from soct.steps.finished_volume import latest_volume
    from soct.steps.volume_pass import Views, rewrite_volume, slice_boundaries

    volume = open_volume(latest_volume(context), threads=context.threads)
    boundaries = slice_boundaries(context)
    factor = _fitting_factor(context, volume, params.shrink_factor)
    voxel = volume.voxel_um
    options = _options(context, params, (voxel.z * factor, voxel.y * factor, voxel.x * factor))
    small = _shrink(context, volume, boundaries, factor)
    bias = estimate_volume_bias(small, voxel, options)
    context.progress(0.5)
    _, ny, nx = volume.shape
    views = Views(volume.shape)

    def correct(z0: int, planes: FloatArray) -> FloatArray:
        field = bias.log_field((z0, z0 + len(planes)), (0, ny), (0, nx))
        np.negative(field, out=field)
        np.exp(field, out=field)
        field *= planes
        return field

    rewrite_volume(
        context, volume, correct, codec=params.codec, watch=views.add, progress=(0.5, 1.0)
    )
    write_npz(
        context.output("figures"),
        **views.arrays(),
        **_field_views(bias, volume, views.at),
        steps_before=bias.steps_before,
        steps_after=bias.steps_after,
        log_gain=bias.log_gain,
        z_boundaries=np.array([start for start, _ in small.sections]),
        voxel_um=np.array(voxel),
    )
    return _report(bias, options.backend, factor, params, boundaries, len(small.sections))


def _field_views(
    bias: VolumeBias, volume: VolumeReader, at: tuple[int, int, int]
) -> dict[str, Any]:
    """Return the field on the planes that the views show."""
    import numpy as np

    nz, ny, nx = volume.shape
    middle = bias.log_field((at[0], at[0] + 1), (0, ny), (0, nx))[0]
    reslice = bias.log_field((0, nz), (at[1], at[1] + 1), (0, nx))[:, 0]
    return {"field": np.exp(middle), "reslice_field": np.exp(reslice)}


def _report(
    bias: VolumeBias,
    backend: str,
    factor: int,
    params: CorrectBiasFieldParams,
    boundaries: list[float],
    sections: int,
) -> Result:

    warnings, fallbacks = [], []
    if bias.tissue_share == 0:
        warnings.append("no tissue was found in the volume: nothing was corrected")
    if not boundaries and params.bias_mode != "global":
        warnings.append("the stack tells no slice boundaries: the volume counts as one section")
    if factor != params.shrink_factor:
        fallbacks.append(
            f"the field was fitted on blocks of {factor} voxels instead of {params.shrink_factor}: memory is short"
        )
    return Result(
        metrics=(
            Metric("bias_low", bias.low, "", "1st percentile of the field in tissue"),
            Metric("bias_high", bias.high, "", "99th percentile of the field in tissue"),
            Metric(
                "plane_step_before",
                finite(bias.step_before),
                "",
                "relative step of brightness from plane to plane, RMS, before",
            ),
            Metric("plane_step_after", finite(bias.step_after), "", "the same after"),
            Metric(
                "contrast_kept",
                bias.contrast_kept,
                "",
                "contrast of tissue within planes, after over before",
            ),
            Metric("tissue_share", bias.tissue_share, "", "share of the data that is tissue"),
            Metric("ngff_valid", True, "", "the volume passes the OME-NGFF check"),
            Metric("sections", sections, "", "sections that got a field of their own"),
        ),
        warnings=tuple(warnings),
        fallbacks=tuple(fallbacks),
        backend="gpu" if backend == "gpu" else "cpu",
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    return estimate_pass(acquisition, slices, params)


STEP = Step(
    id="correct_bias_field",
    version=2,
    scope=Scope.RUN,
    params=CorrectBiasFieldParams,
    run=run,
    cost=Cost(mvoxel=0.3, serial=0.4),
    estimate=estimate,
    uses_gpu=True,
    summary="Take slow shading and stripes out of the stacked volume (N4).",
    inputs=inputs_before("correct_bias_field"),
    outputs=(
        Output("volume", "{subject}_corrected.ome.zarr"),
        Output("figures", "figures.npz", optional=True),
    ),
)
