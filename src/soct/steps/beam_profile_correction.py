"""How sensitivity falls with depth: focus, roll-off and attenuation, solved for the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from soct.formats.npz import write_npz
from soct.steps.declaration import (
    Context,
    Cost,
    Input,
    Metric,
    Output,
    Params,
    Result,
    Scope,
    Step,
    parameter,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.intensity.depth_profiles import DepthProfile

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]


class BeamProfileCorrectionParams(Params):
    """Parameters of `beam_profile_correction`."""

    method: Literal["model_free", "model"] = parameter(
        "model_free", "Axial profile: measured and smoothed, or a confocal function that is fitted."
    )
    rayleigh_um: float = parameter(
        610.0,
        "Expected Rayleigh length: 610 um for a 3x, 1060 um for a 10x objective.",
        unit="um",
        gt=0,
    )
    slicing_interval_mm: float = parameter(
        0.2, "Cut thickness where the stage does not tell it.", unit="mm", gt=0, le=10
    )
    gain_sigma: float = parameter(
        0.2, "Expected scatter of the slices' log gains; ties the solution down.", gt=0, le=5
    )


def _without_tissue(profiles: FloatArray, trust: FloatArray, agarose: list[float]) -> BoolArray:
    """Slices of one class that are far darker below the surface than the others: all agarose."""
    import numpy as np

    from soct.intensity.agarose_cover import LEAST_CONTRAST, NEAR_PX

    near = slice(*NEAR_PX)
    level = np.array(
        [np.median(p[near][t[near] > 0]) if (t[near] > 0).any() else np.nan
         for p, t in zip(profiles, trust, strict=True)]
    )  # fmt: skip
    typical = np.nanpercentile(level, 75) if np.isfinite(level).any() else 0.0
    return (np.array(agarose) <= 0) & (level * LEAST_CONTRAST < typical)


def _tissue_level(
    profiles: FloatArray, trust: FloatArray, gain: FloatArray, log_sensitivity: FloatArray
) -> float:
    """Median brightness of tissue just below the surface, freed of gain and sensitivity."""
    import numpy as np

    from soct.intensity.agarose_cover import NEAR_PX

    near = slice(*NEAR_PX)
    freed = (profiles / np.exp(gain[:, None] + log_sensitivity[None]))[:, near]
    used = (trust[:, near] > 0) & (freed > 0)
    return float(np.median(freed[used])) if used.any() else 0.0


def run(context: Context, params: BeamProfileCorrectionParams) -> Result:
    """Solve the sensitivity that all slices share, from tissue that is seen at two depths."""
    import numpy as np

    from soct.intensity.agarose_cover import NEAR_PX, measure_agarose_cover
    from soct.intensity.axial_profile import estimate_axial_profile
    from soct.intensity.depth_profiles import DepthSums
    from soct.intensity.depth_sensitivity import solve_depth_sensitivity
    from soct.intensity.slice_gains import measure_agarose_level
    from soct.registration.stage import measure_cut_thickness
    from soct.steps.stage_tables import read_stage

    stage = read_stage(context.run("estimate_xy_shifts", "stage_positions"))
    thickness = measure_cut_thickness(stage, nominal_um=params.slicing_interval_mm * 1000)
    ids, profiles, weights, offsets, agarose = [], [], [], [], []
    pooled: dict[str, DepthSums] = {}
    bare_agarose: list[tuple[DepthProfile, float]] = []
    dz = 1.0
    for (slice_id,), path in sorted(context.all("crop_interface", "surface").items()):
        with np.load(path) as saved:
            dz = float(saved["voxel_um"][0])
            agarose.append(float(saved["agarose_share"]))
            floor = float(saved["floor"])
            sums = {
                name: DepthSums.from_array(saved[f"{name}_sums"], floor)
                for name in ("tissue", "agarose")
            }
        for name, one in sums.items():
            if name in pooled and pooled[name].n_z == one.n_z:
                pooled[name].merge(one)
            else:
                pooled.setdefault(name, one)
        bare_agarose.append((sums["agarose"].below_surface(), floor))
        below = sums["tissue"].below_surface()
        ids.append(slice_id)
        profiles.append(np.nan_to_num(below.mean))
        weights.append(below.weight / max(float(below.weight.max()), 1.0))
        # Profiles begin at the cut surface, which lies where the stage had the block cut.
        offsets.append(thickness.depth_um.get(slice_id, 0.0) / dz)
    depth = max(len(p) for p in profiles)
    padded = np.array([np.pad(p, (0, depth - len(p))) for p in profiles])
    trust = np.array([np.pad(w, (0, depth - len(w))) for w in weights])
    bare = _without_tissue(padded, trust, agarose)
    trust[bare] = 0.0
    solved = solve_depth_sensitivity(
        padded, np.array(offsets), weights=trust, gain_sigma=params.gain_sigma
    )
    axial = estimate_axial_profile(
        pooled["agarose"].over_frame(),
        pooled["tissue"].over_frame(),
        method=params.method,
        rayleigh_px=params.rayleigh_um / dz,
    )
    log_gain = np.where(bare, 0.0, solved.log_gain)
    cover = measure_agarose_cover(
        solved.log_sensitivity,
        _tissue_level(padded, trust, log_gain, solved.log_sensitivity),
        pooled["agarose"].below_surface(),
    )
    levels = [
        measure_agarose_level(one, cover.log_instrument, NEAR_PX, dark)
        if cover.decay_per_px > 0
        else (np.nan, np.inf)
        for one, dark in bare_agarose
    ]
    write_npz(
        context.output("profile"),
        depth_um=np.arange(depth) * dz,
        profile=np.exp(solved.log_sensitivity).astype(np.float32),
        log_sensitivity=solved.log_sensitivity,
        axial_sensitivity=axial.sensitivity,
        slice_ids=np.array(ids, np.int64),
        log_gain=log_gain,
        # A slice needs no look for agarose where none begins with it.
        covered=bare | (np.array(agarose) > 0),
        log_instrument=cover.log_instrument,
        cover_decay_per_px=np.float64(cover.decay_per_px),
        cover_level=np.float64(cover.level),
        agarose_level=np.array([level for level, _ in levels]),
        agarose_sigma=np.array([sigma for _, sigma in levels]),
        mean_profiles=padded.astype(np.float32),
        before=padded.astype(np.float32),
        after=(padded / np.exp(solved.log_sensitivity)[None]).astype(np.float32),
        voxel_z_um=np.float64(dz),
    )
    useful = solved.log_sensitivity[solved.measured]

    def finite(value: float) -> float | None:
        return value if np.isfinite(value) else None

    return Result(
        metrics=(
            Metric(
                "axial_decay_db",
                float(-10 / np.log(10) * useful.min()) if useful.size else None,
                "dB",
                "loss of sensitivity from the best depth to the deepest measured one",
            ),
            Metric(
                "axial_residual",
                solved.residual,
                "",
                "spread of log brightness that the common profile leaves",
            ),
            Metric(
                "axial_focus_um",
                finite(axial.focus_px * dz),
                "um",
                "fitted depth of the focus in the frame (method model)",
            ),
            Metric(
                "axial_rayleigh_um",
                finite(axial.rayleigh_px * dz),
                "um",
                "fitted Rayleigh length (method model)",
            ),
            Metric(
                "axial_measured_on", axial.measured_on, "", "material whose profile was measured"
            ),
            Metric(
                "tissue_attenuation_per_mm",
                500 * cover.decay_per_px / dz if cover.decay_per_px else None,
                "1/mm",
                f"attenuation of tissue beyond that of agarose ({cover.reason})",
            ),
            Metric("axial_method", f"{solved.reason}; {axial.reason}", "", "what was done"),
        )
    )


STEP = Step(
    id="beam_profile_correction",
    version=4,
    scope=Scope.RUN,
    params=BeamProfileCorrectionParams,
    run=run,
    cost=Cost(slice=0.025),
    summary="Solve how sensitivity falls with depth, shared by all slices.",
    inputs=(Input("crop_interface"), Input("estimate_xy_shifts")),
    outputs=(Output("profile", "figures.npz"),),
)
