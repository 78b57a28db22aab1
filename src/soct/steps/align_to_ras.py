"""The whole brain in the space of an atlas: aligned to a template, resampled once, its regions measured.

The finished volume is turned and fitted to a template, such as that of the Allen mouse brain: first every
orientation and tilt that is possible is searched, then a rigid fit, an affine one and, where asked for, a
B-spline are found, each kept only where it is better than what came before. The volume is then written once,
from its finest level, with axes that grow to the right, anterior and superior.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import field_validator

from soct.errors import ConfigurationError, InputError, StepError
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
from soct.steps.finished_volume import inputs_before, latest_volume

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition
    from soct.formats.atlases import Atlas
    from soct.registration.atlas_fit import AtlasFit
    from soct.registration.atlas_search import Scene
    from soct.steps.atlas_outputs import Aligned

SEARCH = "search"
_LITTLE = 0.1


class AlignToRasParams(Params):
    """Parameters of `align_to_ras`."""

    enabled: bool = parameter(False, "Align the volume to an atlas.")
    template: str = parameter(
        "",
        "What to align to: a NIfTI, NRRD or TIFF file, an atlas folder in BrainGlobe's layout, or the name of "
        "an atlas that was fetched, such as allen_mouse_25um.",
        keyed=False,
    )
    orientation: str = parameter(
        "",
        "What z, y and x of the volume grow towards, three letters such as PIR; empty: as stack.orientation "
        "says; search: all 24 orientations are tried.",
    )
    mirrored: bool = parameter(
        False,
        "With orientation search: x, y and z of the microscope form a left-handed frame. No image of a "
        "symmetric brain tells left from right.",
    )
    transform: Literal["rigid", "affine", "bspline"] = parameter(
        "affine", "The last stage of the fit: rigid, affine, or bspline after both."
    )
    metric: Literal["mutual_information", "correlation"] = parameter(
        "mutual_information",
        "Mutual information, or correlation for a template of the same contrast.",
    )
    resolution_um: float = parameter(
        50.0, "Voxel size of the pyramid level that is fitted.", unit="um", ge=10, le=400
    )
    max_rotation_deg: float = parameter(
        45.0, "How far the brain may be turned from its orientation.", unit="deg", ge=0, le=60
    )
    bspline_spacing_mm: float = parameter(
        1.5, "Distance of the B-spline's control points.", unit="mm", ge=0.3, le=10
    )
    output_resolution_um: float = parameter(
        0.0, "Voxel size of the output; 0 is the coarsest axis of the volume.", unit="um", ge=0
    )
    pyramid_levels_um: tuple[float, ...] = parameter(
        (10.0, 25.0, 50.0, 100.0), "Voxel sizes of the output's pyramid.", unit="um"
    )
    template_sha256: str = parameter(
        "", "Checksum that the template file must have; empty: an atlas folder's own SHA256SUMS."
    )
    template_orientation: str = parameter(
        "",
        "What z, y and x of a template file grow towards, where it doesn't say it (or says it wrongly).",
    )
    template_voxel_um: tuple[float, ...] = parameter(
        (), "Voxel size (z, y, x) of a template file that doesn't say it.", unit="um"
    )
    annotation: str = parameter(
        "", "For a template file: the volume of region numbers.", keyed=False
    )
    structures: str = parameter(
        "", "For a template file: the regions' names, CSV or BrainGlobe's JSON.", keyed=False
    )

    @field_validator("orientation", "template_orientation")
    @classmethod
    def _a_possible_code(cls, value: str) -> str:
        from soct.geometry.orientation import parse_orientation

        text = value.strip()
        return text if text.lower() in ("", SEARCH) else parse_orientation(text)

    @field_validator("template_voxel_um")
    @classmethod
    def _three_sizes(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value and (len(value) != 3 or min(value) <= 0):
            raise ValueError("three positive sizes are needed, along z, y and x")
        return value


def _open(params: AlignToRasParams, *, verify: bool = True) -> Atlas:
    """Open the template, and verify it.

    Raises
    ------
    ConfigurationError
        None is named, or it lies obliquely.
    InputError
        It is missing or broken.
    """
    from soct.formats.atlases import find_atlas, open_atlas, verify_atlas
    from soct.geometry.orientation import is_oblique

    if not params.template:
        raise ConfigurationError(
            "align_to_ras has no template to align to",
            expected="align_to_ras.template: a file, an atlas folder, or the name of an atlas that was fetched",
            hint="`soct atlas fetch allen_mouse_25um` downloads one; `soct atlas list` shows what is here.",
        )
    atlas = open_atlas(
        find_atlas(params.template),
        voxel_um=params.template_voxel_um or None,
        orientation=params.template_orientation or None,
        annotation=Path(params.annotation).expanduser() if params.annotation else None,
        structures=Path(params.structures).expanduser() if params.structures else None,
    )
    if verify:
        verify_atlas(atlas, params.template_sha256)
    if is_oblique(atlas.header.affine):
        raise ConfigurationError(
            "The template's axes are not those of the body",
            file=atlas.template.path,
            expected="axes along left-right, posterior-anterior and inferior-superior",
            hint="Resample it, or say with align_to_ras.template_orientation how it lies.",
        )
    return atlas


def check(params: AlignToRasParams, others: Mapping[str, Any]) -> None:
    """Find what would only fail after hours: no orientation, no template, a damaged template.

    Raises
    ------
    ConfigurationError, InputError
        As `soct run` should end before anything is computed.
    """
    stack = others.get("stack")
    if stack is not None and not (params.orientation or stack.orientation):
        raise ConfigurationError(
            "align_to_ras does not know how the brain lies in the volume",
            expected="align_to_ras.orientation or stack.orientation: three letters, what z, y and x grow "
            "towards, such as PIR",
            found="neither is set",
            hint="Set one of them, or align_to_ras.orientation: search.",
        )
    _open(params)


def files(params: AlignToRasParams) -> tuple[Path, ...]:
    """Return the files outside of the run that the result depends on."""
    return _open(params, verify=False).files


def run(context: Context, params: AlignToRasParams) -> Result:
    """Fit the newest volume to the template, and write it in the template's space."""
    from soct.formats.ngff import image_orientation
    from soct.registration.atlas_fit import fit_atlas
    from soct.steps import atlas_outputs as outputs

    atlas = _open(params)
    source = latest_volume(context)
    wanted = params.orientation or image_orientation(source) or ""
    if not wanted:
        raise ConfigurationError(
            "The volume does not say how the brain lies in it",
            file=source,
            expected="three letters, what z, y and x grow towards, such as PIR",
            hint="Set align_to_ras.orientation, or align_to_ras.orientation: search.",
        )
    fixed = _template_scene(atlas, params.resolution_um)
    orientations, code = _candidates(wanted, params.mirrored)
    moving = _volume_scene(source, code, params.resolution_um, context.threads)
    context.progress(0.05)
    fit = fit_atlas(
        fixed,
        moving,
        model=params.transform,
        metric=params.metric,
        orientations=orientations,
        max_rotation_deg=params.max_rotation_deg,
        bspline_mm=params.bspline_spacing_mm,
        progress=lambda f: context.progress(0.05 + 0.45 * f),
    )
    fit = _in_frame_of(fit, code, moving)
    aligned = outputs.Aligned(context, atlas, source, fit, fit.orientation)
    outputs.write_volume(
        aligned, params.output_resolution_um, params.pyramid_levels_um, context.output("volume")
    )
    context.progress(0.85)
    outputs.write_fit(aligned, context.output("transform"))
    moved = _volume_scene(source, fit.orientation, params.resolution_um, context.threads)
    views = outputs.compare(aligned, fixed, moved)
    regions = outputs.write_regions(aligned, context.output("volume"), context.output("regions"))
    outputs.write_preview(aligned, views, context.output("preview"))
    outputs.write_figures(aligned, views, regions, context.output("figures"))
    return _result(aligned, views, params, wanted, len(regions))


def _template_scene(atlas: Atlas, resolution_um: float) -> Scene:
    from soct.registration.atlas_search import make_scene

    factors = [max(1, round(resolution_um / v)) for v in atlas.voxel_um]
    volume = atlas.template.read(factors)
    scene = make_scene(volume)
    if not scene.brain.any():
        raise InputError("The template is empty", file=atlas.template.path)
    return scene


def _volume_scene(source: Path, code: str, resolution_um: float, threads: int) -> Scene:
    """Read the coarsest level that is as fine as asked for, or the finest there is."""
    import numpy as np

    from soct.formats.ngff import parse_image
    from soct.formats.ome_zarr import open_volume
    from soct.geometry.orientation import OrientedVolume, make_affine
    from soct.registration.atlas_search import Scene, make_scene

    levels = parse_image(source).levels
    fine = [i for i, level in enumerate(levels) if max(level.voxel_um) <= 1.2 * resolution_um]
    reader = open_volume(source, fine[-1] if fine else 0, threads=threads)
    data = reader.read().astype(np.float32, copy=False)
    valid = (data > 0) & np.isfinite(data)
    if not valid.any():
        raise StepError("the volume holds no data: there is nothing to align", file=source)
    affine = make_affine(code, reader.voxel_um, reader.translation_um)
    coarse = Scene(OrientedVolume(data, affine), valid, valid).coarser(resolution_um)
    return make_scene(coarse.volume, coarse.valid)


def _candidates(wanted: str, mirrored: bool) -> tuple[tuple[str, ...] | None, str]:
    """Return the codes to try (None: the one that is known) and the one to begin with."""
    from soct.geometry.orientation import all_orientations, parse_orientation

    if wanted.lower() != SEARCH:
        return None, parse_orientation(wanted)
    codes = all_orientations(right_handed=not mirrored)
    return codes, codes[0]


def _in_frame_of(fit: AtlasFit, code: str, moving: Scene) -> AtlasFit:
    """Express a fit in the frame of the orientation that was found: what is left is a tilt and a shift."""
    from soct.registration.atlas_fit import in_other_frame

    if fit.orientation == code:
        return fit
    from soct.geometry.orientation import direction_matrix

    turn = direction_matrix(fit.orientation) @ direction_matrix(code).T
    return in_other_frame(fit, turn)


def _result(
    aligned: Aligned, views: Any, params: AlignToRasParams, wanted: str, regions: int
) -> Result:
    """Say how good the fit is, and what was not used."""
    import math

    from soct.formats.atlases import verify_atlas
    from soct.geometry.orientation import is_right_handed

    fit = aligned.fit
    warnings = [
        f"the {stage.name} stage of the atlas fit was not used: {stage.reason}"
        for stage in fit.stages
        if not stage.accepted
    ]
    warnings += [f"the template: {note}" for note in aligned.atlas.header.notes]
    if views.covered < _LITTLE:
        warnings.append(
            f"only {100 * views.covered:.2g} % of the template's brain holds data: the fit rests on little"
        )
    if wanted.lower() == SEARCH:
        hand = "left" if params.mirrored else "right"
        warnings.append(
            f"orientation {fit.orientation} was found by search among those of a {hand}-handed microscope: "
            "left and right of the brain rest on that (align_to_ras.mirrored)"
        )
    start = fit.start
    margin = start.information / start.runner_up if start.runner_up > 0 else None

    def known(value: float) -> float | None:
        return value if math.isfinite(value) else None

    metrics = (
        Metric("atlas_dice", views.dice, "", "overlap of the brain with the template's"),
        Metric(
            "atlas_edge_um", known(views.edge_um), "um", "median distance of the brain's surfaces"
        ),
        Metric("atlas_edge_p95_um", known(views.edge_p95_um), "um", "95th percentile of it"),
        Metric("atlas_metric", fit.stages_score, "", f"final {params.metric.replace('_', ' ')}"),
        Metric("atlas_metric_start", fit.stages[0].score, "", "the same at the start of the fit"),
        Metric("atlas_rotation_deg", fit.rotation_deg, "deg", "tilt against the template's axes"),
        Metric("atlas_scale", fit.scale, "", "size of the brain over that of the template"),
        Metric(
            "atlas_orientation", fit.orientation, "", "what z, y and x of the volume grow towards"
        ),
        Metric(
            "atlas_orientation_margin", margin, "", "score of the orientation over the next one"
        ),
        Metric("atlas_right_handed", is_right_handed(fit.orientation), "", "hand of x, y and z"),
        Metric("atlas_transform", fit.model, "", "last stage that was accepted"),
        Metric("atlas_covered", views.covered, "", "share of the template's brain that holds data"),
        Metric("atlas_regions", regions, "", "regions measured"),
        Metric("atlas_name", f"{aligned.atlas.name} {aligned.atlas.version}".strip(), "", "atlas"),
        Metric(
            "atlas_checksum", verify_atlas(aligned.atlas, params.template_sha256), "", "verified"
        ),
    )
    return Result(metrics=metrics, warnings=tuple(warnings))


def estimate(acquisition: Acquisition, slices: tuple[int, ...], params: Mapping[str, Any]) -> Need:
    """Size of the output (as large as the stack, in a box as large as the template's), and working memory."""
    from soct.steps.stack import estimate as estimate_stack

    need = estimate_stack(acquisition, slices, params)
    return Need(2 * need.disk_bytes, max(need.memory_bytes, 1 << 30))


STEP = Step(
    id="align_to_ras",
    version=1,
    scope=Scope.RUN,
    params=AlignToRasParams,
    run=run,
    cost=Cost(mvoxel=0.3, serial=0.6),
    check=check,
    files=files,
    estimate=estimate,
    example="--template ATLAS --orientation search --output-resolution-um 100",
    summary="Align the volume to an atlas and measure its regions.",
    inputs=inputs_before("align_to_ras"),
    outputs=(
        Output("volume", "{subject}_ras.ome.zarr"),
        Output("transform", "{subject}_ras_transform.tfm"),
        Output("preview", "{subject}_ras_preview.png"),
        Output("regions", "{subject}_ras_regions.csv", optional=True),
        Output("figures", "figures.npz", optional=True),
    ),
)
