"""Two slices that see the same tissue: shift, rotation and depth of the one in the other."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

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
from soct.steps.slice_planes import SliceSide, depth_range, facing_slabs, open_side, slab_starts

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.acquisition import Acquisition
    from soct.registration.depth_match import DepthMatchResult
    from soct.registration.slice_pair import SlicePairResult
    from soct.registration.transforms import AffineTransform2D, RigidTransform2D
    from soct.space import FloatArray

    BoolArray = NDArray[np.bool_]


class RegisterPairwiseParams(Params):
    """Parameters of `register_pairwise`."""

    transform: Literal["euler", "translation"] = parameter(
        "euler", "Model in the plane: rotation and shift, or shift alone."
    )
    max_translation_um: float = parameter(
        500.0,
        "Greatest shift against the stage from one slice to the next that is looked for.",
        unit="um",
        gt=0,
        le=20_000,
    )
    max_rotation_deg: float | None = parameter(
        None,
        "Greatest rotation that is looked for; empty: 5, and up to 90 for a pair that shows nothing sure within 5.",
        unit="deg",
        ge=0,
        le=90,
    )
    allowed_drifting_mm: float = parameter(
        0.1, "How far the depth may differ from the expected one.", unit="mm", ge=0, le=10
    )
    slab_um: float = parameter(
        20.0,
        "Thickness over which planes are averaged before they are compared.",
        unit="um",
        gt=0,
        le=500,
    )
    max_slabs: int = parameter(12, "Slabs that are compared together.", ge=1, le=64)
    margin_um: float = parameter(
        20.0,
        "Depth below the interface and above the end of the data that is left out.",
        unit="um",
        ge=0,
    )
    max_gap_um: float = parameter(
        500.0,
        "Slices that see no common depth are registered where they face each other, across at most this.",
        unit="um",
        ge=0,
        le=10_000,
    )


SLAB_BYTES = 1 << 30
"""What the slabs of a pair may take. A constant: the number of slabs must not follow the memory at hand."""
BYTES_PER_PIXEL = 24


BRIGHTNESS_SLABS = 6
CUT_PLANES = 12
OBLIQUE = 0.03
"""How far the anatomy as a whole moves sideways over a gap, as a share of it."""
USUAL_ROTATION_DEG = 5.0
WIDE_ROTATION_DEG = 90.0
SURE = 0.6
"""Confidence below which the usual range of rotations is left, and that a rotation beyond it must reach."""


def _register(
    params: RegisterPairwiseParams,
    sides: tuple[SliceSide, SliceSide],
    offset: float,
    shift: tuple[float, float],
) -> SlicePairResult | None:
    """Register in the plane with the moving slice `offset` planes down in the fixed one."""
    fixed, moving = sides
    voxel = fixed.volume.voxel_um
    thickness = max(1, round(params.slab_um / voxel.z))
    margin = round(params.margin_um / voxel.z)
    pixels = fixed.valid[0].size + moving.valid[0].size
    affordable = max(1, SLAB_BYTES // (pixels * BYTES_PER_PIXEL))
    starts = slab_starts(
        depth_range(fixed),
        depth_range(moving),
        offset,
        thickness,
        margin,
        min(params.max_slabs, affordable),
    )
    if not starts:
        return None
    f = [fixed.slab(z + offset, thickness) for z in starts]
    m = [moving.slab(z, thickness) for z in starts]
    return _register_slabs(params, f, m, shift, voxel.x)


def _register_slabs(
    params: RegisterPairwiseParams,
    fixed: list[tuple[FloatArray, BoolArray]],
    moving: list[tuple[FloatArray, BoolArray]],
    shift: tuple[float, float],
    pixel_um: float,
    *,
    wide: bool = True,
) -> SlicePairResult:
    import numpy as np

    from soct.registration.slice_pair import register_slice_pair

    register = functools.partial(
        register_slice_pair,
        np.stack([s[0] for s in fixed]),
        np.stack([s[0] for s in moving]),
        fixed_valid=np.stack([s[1] for s in fixed]),
        moving_valid=np.stack([s[1] for s in moving]),
        initial_shift=shift,
        max_translation_px=params.max_translation_um / pixel_um,
        transform=params.transform,
    )
    if params.max_rotation_deg is not None:
        return register(max_rotation_deg=params.max_rotation_deg)
    found = register(max_rotation_deg=USUAL_ROTATION_DEG)
    if found.confidence >= SURE or params.transform == "translation" or not wide:
        return found
    # A wide search meets more chance peaks, so it is left for pairs that need it and must convince.
    turned = register(max_rotation_deg=WIDE_ROTATION_DEG)
    better = turned.confidence >= SURE and turned.confidence > found.confidence
    return turned if better else found


def _register_across(
    params: RegisterPairwiseParams,
    sides: tuple[SliceSide, SliceSide],
    offset: float,
    shift: tuple[float, float],
) -> tuple[SlicePairResult, float] | None:
    """Register the last slab of the fixed slice with the first of the moving one; also return the gap in um.

    None where the gap is too wide, or a slice is thinner than a slab.
    """
    from dataclasses import replace

    import numpy as np

    fixed, moving = sides
    voxel = fixed.volume.voxel_um
    thickness = max(1, round(params.slab_um / voxel.z))
    faces = facing_slabs(fixed, moving, offset, thickness, 0, 1)
    if not faces:
        return None
    ((at_fixed, at_moving),) = faces
    gap_um = (at_moving + offset - at_fixed - thickness) * voxel.z
    if gap_um > params.max_gap_um:
        return None
    found = _register_slabs(
        params,
        [fixed.slab(at_fixed, thickness)],
        [moving.slab(at_moving, thickness)],
        shift,
        voxel.x,
        # Slices that only face each other show too little in common to find any angle.
        wide=False,
    )
    # Tissue that runs obliquely moves on the way: a share of the gap by which the pair may be wrong.
    drift = OBLIQUE * max(gap_um, 0.0) / voxel.x
    covariance = np.asarray(found.covariance, float) + np.diag([drift**2, drift**2, 0.0])
    return replace(found, covariance=covariance), max(gap_um, 0.0)


def _measure_brightness(
    params: RegisterPairwiseParams,
    sides: tuple[SliceSide, SliceSide],
    offset: float,
    transform: RigidTransform2D | AffineTransform2D,
) -> dict[str, float | None] | None:
    """How bright the same tissue is in the fixed slice over the moving one, and what the fixed one sees it through."""
    import numpy as np
    from scipy import ndimage as ndi

    from soct.intensity.normalization import measure_overlap_ratio
    from soct.intensity.slice_gains import LEAST_PIXELS, find_cut_tissue, measure_cut_decay

    fixed, moving = sides
    voxel = fixed.volume.voxel_um
    thickness = max(1, round(params.slab_um / voxel.z))
    starts = slab_starts(
        depth_range(fixed),
        depth_range(moving),
        offset,
        thickness,
        round(params.margin_um / voxel.z),
        BRIGHTNESS_SLABS,
    )
    matrix = transform.matrix()
    cut = _mean_above(fixed, offset)
    tissue = find_cut_tissue(cut)
    enough = int(tissue.sum()) >= LEAST_PIXELS
    found, decays = [], []
    for z in starts:
        (f, f_valid), (m, m_valid) = fixed.slab(z + offset, thickness), moving.slab(z, thickness)
        m, m_valid = (
            ndi.affine_transform(
                np.where(m_valid, image, 0).astype(np.float32),
                matrix[:2, :2],
                matrix[:2, 2],
                output_shape=f.shape,
                order=1,
            )
            for image in (m, m_valid)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            m = np.where(m_valid > 0.99, m / m_valid, np.nan)
        f = np.where(f_valid, f, np.nan)
        ratio, sigma = measure_overlap_ratio(f, m, mask=tissue if enough else None)
        if np.isfinite(ratio) and np.isfinite(sigma):
            found.append((ratio, sigma))
        decay = measure_cut_decay(f, m, cut, offset)
        if decay is not None:
            decays.append(decay)
    if not found:
        return None
    ratios, sigmas = np.array(found).T
    # Slabs share what the depth correction leaves, so more of them do not make the mean much surer.
    return {
        "log_ratio": float(np.mean(ratios)),
        "sigma": float(max(sigmas.mean(), 0.005)),
        "cut_level": float(cut[tissue].mean()) if enough else None,
        "cut_px": float(offset),
        "cut_decay": float(np.mean(decays)) if decays else None,
    }


def _mean_above(side: SliceSide, stop: float) -> FloatArray:
    """Mean of some planes from the slice's surface to `stop`; NaN where most hold no data."""
    import numpy as np

    first, end = depth_range(side)[0], min(int(stop), side.volume.shape[0])
    planes = np.unique(np.linspace(first, max(end - 1, first), CUT_PLANES).round().astype(int))
    total = np.zeros(side.valid.shape[1:], np.float32)
    count = np.zeros(side.valid.shape[1:], np.float32)
    for z in planes.tolist():
        image, good = side.plane(z)
        total += np.where(good, image, 0)
        count += good
    known = count > 0.7 * len(planes)
    return np.where(known, total / np.maximum(count, 1), np.nan).astype(np.float32)


def _match_depth(
    params: RegisterPairwiseParams,
    sides: tuple[SliceSide, SliceSide],
    offset: float,
    found: SlicePairResult,
) -> DepthMatchResult:
    from soct.registration.depth_match import match_depth

    fixed, moving = sides
    return match_depth(
        fixed.plane,
        moving.plane,
        fixed.volume.shape[0],
        moving.volume.shape[0],
        offset,
        params.allowed_drifting_mm * 1000 / fixed.volume.voxel_um.z,
        transform=found.transform,
        fixed_range=depth_range(fixed),
        moving_range=depth_range(moving),
    )


def _write(context: Context, content: dict[str, Any]) -> None:
    """Write the pair's folder: transform.tfm, offsets.txt and the numbers."""
    from soct.formats.documents import write_document
    from soct.formats.transforms import (
        DepthOffsets,
        EulerTransform,
        write_offsets,
        write_transform,
    )
    from soct.registration.transforms import RigidTransform2D

    folder = context.output("pair")
    folder.mkdir(parents=True, exist_ok=True)
    transform = content["transform"]
    rigid = RigidTransform2D(
        transform["rotation_deg"], tuple(transform["shift_px"]), tuple(transform["centre_px"])
    )
    _, translation, centre = rigid.euler_parameters()
    write_transform(
        folder / "transform.tfm",
        EulerTransform(rigid.rotation_deg, (0.0, *translation), (0.0, *centre)),
    )
    write_offsets(folder / "offsets.txt", DepthOffsets(round(content["depth"]["offset_px"]), 0))
    write_document(folder / "pairwise_registration_metrics.json", content)


def _skipped(
    context: Context, reason: str, content: dict[str, Any] | None = None, *, warn: bool = True
) -> Result:
    _write(
        context,
        {
            "accepted": False,
            "reason": reason,
            "confidence": 0.0,
            "transform": {"rotation_deg": 0.0, "shift_px": [0.0, 0.0], "centre_px": [0.0, 0.0]},
            "depth": {"offset_px": 0.0, "sigma_px": None, "measured": False},
            **(content or {}),
        },
    )
    f, m = context.unit.slices
    return Result(
        metrics=(Metric("reason", reason, "", "why the pair was not measured"),),
        warnings=(f"slices {f} and {m}: {reason}",) if warn else (),
    )


def run(context: Context, params: RegisterPairwiseParams) -> Result:
    """Register one pair of slices."""
    import numpy as np

    from soct.formats.documents import read_document

    expected = read_document(context.run("bring_to_common_space", "offsets"))["slices"]
    f, m = context.unit.slices
    # What the stage does not see adds up from slice to slice.
    reach = params.max_translation_um * (m - f)
    params = params.model_copy(update={"max_translation_um": reach})
    if str(f) not in expected or str(m) not in expected:
        return _skipped(context, "one of the slices is excluded")
    a, b = expected[str(f)], expected[str(m)]
    offset = b["z_px"] - a["z_px"]
    shift = (b["y_px"] - a["y_px"], b["x_px"] - a["x_px"])
    start = {
        "transform": {
            "rotation_deg": 0.0,
            "shift_px": list(shift),
            "centre_px": [(n - 1) / 2 for n in a["shape"][1:]],
        },
        "depth": {"offset_px": offset, "sigma_px": None, "measured": False},
    }
    sides = (open_side(context, f), open_side(context, m))
    found = _register(params, sides, offset, shift)
    context.progress(0.5)
    gap_um = None
    if found is None:
        # Thick cuts leave nothing in common to slices that skip one: that is no fault.
        skips = any(f < int(between) < m for between in expected)
        across = None if skips else _register_across(params, sides, offset, shift)
        if across is None:
            return _skipped(context, "the slices do not overlap in depth", start, warn=not skips)
        found, gap_um = across
    depth = None
    if found.accepted and gap_um is None:
        depth = _match_depth(params, sides, offset, found)
        if not depth.fallback_used and abs(depth.offset - offset) > 0.5:
            again = _register(params, sides, depth.offset, shift)
            if again is not None and again.accepted and again.ncc_after >= found.ncc_after:
                found, offset = again, depth.offset
    measured = depth is not None and not depth.fallback_used
    voxel = sides[0].volume.voxel_um
    covariance = np.asarray(found.covariance, float)
    depth_px = float(depth.offset) if measured and depth is not None else float(offset)
    content = {
        "accepted": bool(found.accepted),
        "reason": found.reason,
        "confidence": float(found.confidence),
        "ncc_before": _number(found.ncc_before),
        "ncc": _number(found.ncc_after),
        "inverse_error_px": _number(found.inverse_error_px),
        "overlap": _number(found.overlap),
        "expected_shift_px": list(shift),
        "transform": {
            "rotation_deg": float(found.rotation_deg),
            "shift_px": [float(v) for v in found.shift],
            "centre_px": [float(v) for v in found.centre],
        },
        "brightness": _measure_brightness(params, sides, offset, found.transform)
        if found.accepted and gap_um is None
        else None,
        "gap_um": gap_um,
        "covariance": covariance.tolist() if np.isfinite(covariance).all() else None,
        "depth": {
            "offset_px": depth_px,
            "sigma_px": _number(depth.sigma) if measured and depth is not None else None,
            "measured": measured,
            "expected_px": float(b["z_px"] - a["z_px"]),
            "ncc": _number(depth.ncc) if depth is not None else None,
        },
    }
    _write(context, content)
    moved = np.subtract(found.shift, shift) * (voxel.y, voxel.x)
    warnings = (
        ()
        if found.accepted
        else (f"slices {f} and {m} keep the stage's positions: {found.reason}",)
    )
    return Result(
        metrics=(
            Metric(
                "translation_um",
                float(np.hypot(*moved)) / (m - f),
                "um",
                "shift that the stage did not report, from one slice to the next",
            ),
            Metric(
                "rotation_deg", float(found.rotation_deg), "deg", "rotation of the moving slice"
            ),
            Metric("ncc", _number(found.ncc_after), "", "correlation once aligned"),
            Metric(
                "ncc_before", _number(found.ncc_before), "", "correlation at the stage's positions"
            ),
            Metric(
                "confidence",
                float(found.confidence),
                "",
                "calibrated probability that the transform is right",
            ),
            Metric(
                "depth_offset_um",
                depth_px * voxel.z,
                "um",
                "depth of the moving slice in the fixed one",
            ),
            Metric("registration", found.reason, "", "what was decided"),
        ),
        warnings=warnings,
    )


def _number(value: float) -> float | None:
    return float(value) if value == value and abs(value) != float("inf") else None


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the outputs, and the memory that the unit cannot do without."""
    from soct.steps.sizes import largest, measure_slices

    most = params["register_pairwise"].max_slabs
    needs = []
    for size in measure_slices(acquisition, slices, params):
        slab = 2 * size.plane * BYTES_PER_PIXEL
        needs.append(Need(64 << 10, max(slab, min(SLAB_BYTES, most * slab)) + 16 * size.plane))
    return largest(needs)


STEP = Step(
    id="register_pairwise",
    version=7,
    scope=Scope.PAIR,
    params=RegisterPairwiseParams,
    run=run,
    cost=Cost(unit=0.28, kept_mvoxel=0.051, serial=0.85),
    estimate=estimate,
    summary="Measure shift, rotation and depth between two slices.",
    inputs=(Input("compensate_attenuation"), Input("bring_to_common_space")),
    outputs=(Output("pair", "slice_z{moving:02d}_on_z{fixed:02d}"),),
)
