"""Sections of the stacked volume on one level of brightness, by a percentile or by their whole histograms.

Switch it on where sections still differ after `normalize` and `correct_bias_field`. A section moves towards what its
neighbours show (`strength` of the way), so a change of the tissue over the whole brain stays. `percentile` gives each
section one gain; `histogram` brings every quantile of its tissue to that of its neighbours, which also mends
contrast that differs from section to section. The volume is read twice and never held in memory.
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
    parameter,
)
from soct.steps.finished_volume import inputs_before
from soct.steps.volume_pass import estimate_pass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soct.formats.acquisition import Acquisition
    from soct.formats.ome_zarr import VolumeReader
    from soct.intensity.normalization import IntensityHistogram
    from soct.space import FloatArray


class NormalizeZIntensityParams(Params):
    """Parameters of `normalize_z_intensity`."""

    enabled: bool = parameter(False, "Bring the sections of the volume to one level.")
    method: Literal["percentile", "histogram"] = parameter(
        "percentile", "One gain per section, or a curve that matches the section's histogram."
    )
    strength: float = parameter(0.5, "Share of the way to the neighbours' level.", ge=0, le=1)
    percentile: float = parameter(
        75.0, "Percentile of the tissue that counts as a section's level.", unit="%", gt=0, lt=100
    )
    kept_sections: float = parameter(
        3.0, "Changes over more sections than this are tissue and stay.", ge=0.5, le=1000
    )
    codec: Literal["none", "zstd"] = parameter("zstd", "Compression of the volume.")


def _count(
    context: Context, volume: VolumeReader, sections: list[tuple[int, int]]
) -> list[IntensityHistogram]:
    """Histograms of all sections, from every second row and column."""
    import numpy as np

    from soct.intensity.normalization import IntensityHistogram

    found = [IntensityHistogram() for _ in sections]
    nz = volume.shape[0]
    for z0 in range(0, nz, volume.chunks[0]):
        z1 = min(z0 + volume.chunks[0], nz)
        planes = volume.read((z0, z1))[:, ::2, ::2].astype(np.float32)
        for histogram, (start, stop) in zip(found, sections, strict=True):
            low, high = max(start, z0), min(stop, z1)
            if low < high:
                part = planes[low - z0 : high - z0]
                histogram.add(part, part > 0)
        context.progress(0.35 * z1 / nz)
    return found


def run(context: Context, params: NormalizeZIntensityParams) -> Result:
    """Solve the levels from histograms, then write the changed volume in one pass."""
    import numpy as np

    from soct.formats.ome_zarr import open_volume
    from soct.intensity.volume_bias import cut_sections
    from soct.intensity.z_levels import level_scatter, solve_z_levels
    from soct.steps.finished_volume import latest_volume
    from soct.steps.volume_pass import Views, rewrite_volume, slice_boundaries

    volume = open_volume(latest_volume(context), threads=context.threads)
    boundaries = slice_boundaries(context)
    sections = cut_sections(volume.shape[0], boundaries)
    solved = solve_z_levels(
        _count(context, volume, sections),
        method=params.method,
        strength=params.strength,
        percentile=params.percentile,
        kept_sections=params.kept_sections,
    )
    views = Views(volume.shape)

    def change(z0: int, planes: FloatArray) -> FloatArray:
        out = planes.copy()
        for level_map, (start, stop) in zip(solved.maps, sections, strict=True):
            low, high = max(start - z0, 0), min(stop - z0, len(planes))
            if low < high:
                out[low:high] = level_map.apply(planes[low:high])
        return out

    rewrite_volume(
        context, volume, change, codec=params.codec, watch=views.add, progress=(0.4, 1.0)
    )
    write_npz(
        context.output("figures"),
        **views.arrays(),
        level_before=solved.before,
        level_after=solved.after,
        gain=np.array([m.gain for m in solved.maps]),
        z_boundaries=np.array([start for start, _ in sections]),
        voxel_um=np.array(volume.voxel_um),
    )
    scatter = [level_scatter(v, params.kept_sections) for v in (solved.before, solved.after)]
    before, after = (s if np.isfinite(s) else None for s in scatter)
    warnings = []
    if not boundaries:
        warnings.append("the stack tells no slice boundaries: the volume counts as one section")
    if not solved.measured.all():
        few = np.flatnonzero(~solved.measured).tolist()
        warnings.append(f"sections {few} hold too little tissue and stay as they are")
    return Result(
        metrics=(
            Metric("z_scatter_before", before, "", "scatter of the sections' log levels, before"),
            Metric("z_scatter_after", after, "", "the same after"),
            Metric("ngff_valid", True, "", "the volume passes the OME-NGFF check"),
            Metric("sections", len(sections), "", "sections of the volume"),
            Metric(
                "sections_measured", int(solved.measured.sum()), "", "sections with enough tissue"
            ),
        ),
        warnings=tuple(warnings),
    )


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    return estimate_pass(acquisition, slices, params)


STEP = Step(
    id="normalize_z_intensity",
    version=2,
    scope=Scope.RUN,
    params=NormalizeZIntensityParams,
    run=run,
    cost=Cost(mvoxel=0.1, serial=0.4),
    estimate=estimate,
    summary="Bring the sections of the stacked volume to one level of brightness.",
    inputs=inputs_before("normalize_z_intensity"),
    outputs=(
        Output("volume", "{subject}_normalized.ome.zarr"),
        Output("figures", "figures.npz", optional=True),
    ),
)
