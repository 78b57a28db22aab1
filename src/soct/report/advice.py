"""From a symptom to its cause and to the profile line that changes it.

One entry per metric that has a limit. Parameters are tried in order and only those that the run's own profile
holds are named, so the advice never points at a key that does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """What a metric beyond its limit means.

    Attributes
    ----------
    title : str
        The problem in a few words.
    symptom : str
        What one sees in the volume.
    cause : str
        What usually lies behind it, and what to look at.
    action : str
        What soct did about it.
    settings : tuple of (key, example)
        ``step.parameter`` and a value to try, or what to decide there.
    """

    title: str
    symptom: str
    cause: str
    action: str
    settings: tuple[tuple[str, str], ...] = ()


_REGISTRATION = (
    ("register_pairwise.max_translation_um", "a larger bound"),
    ("register_pairwise.max_rotation_deg", "a larger bound"),
)
_CONFIDENCE = (
    ("estimate_slice_poses.min_confidence", "a higher value, to trust the stage more"),
    ("estimate_slice_poses.stage_step_um", "a smaller value, to trust the stage more"),
    *_REGISTRATION,
)
_STAGE = (
    ("estimate_slice_poses.stage_position_um", "a smaller value, to trust the stage more"),
    ("estimate_slice_poses.apply_rotation_only", "true, to keep the stage's positions"),
)
_STITCH = (
    ("stitch_3d_with_refinement.max_tile_shift_um", "a larger bound"),
    ("stitch_3d_with_refinement.overlap_fraction", "the true overlap, if known"),
)
_FLAT = (
    ("fix_illumination.method", "median"),
    ("fix_illumination.darkfield", "true"),
    ("fix_illumination.max_samples", "a larger number of tiles"),
)
_GAIN = (
    ("normalize.max_scale", "a wider range"),
    ("normalize.min_scale", "a wider range"),
)
_DEPTH = (
    ("compensate_attenuation.strength", "a larger value"),
    ("beam_profile_correction.method", "the other method"),
)
_SOLVE = "The pair has little weight in the global solve; its neighbours and the stage decide."

REFUSALS: dict[str, Advice] = {
    "translation beyond the bound": Advice(
        "Slice displaced further than the registration looks",
        "A jump in the reslices, as far as the stage is wrong.",
        "The stage reported a wrong place (an encoder glitch that was not recognised), or the block moved.",
        "The slice lies where the stage puts it, unless another pair holds it.",
        (
            (
                "detect_rehoming_events.rehoming_max_shift_mm",
                "a value below the stage’s own step there (stage path, section Acquisition), if the next step takes it back",
            ),
            ("register_pairwise.max_translation_um", "a larger bound"),
        ),
    ),
    "rotation beyond the bound": Advice(
        "Slice turned further than the registration looks",
        "Structures far from the centre jump between slices.",
        "The block turned on its mount.",
        "The slice lies as the stage says, unless another pair holds it.",
        (("register_pairwise.max_rotation_deg", "a larger bound"),),
    ),
}
"""Advice by how the reason begins for which a pair of slices was refused (its metric ``registration``)."""

ADVICE: dict[str, Advice] = {
    "translation_um": Advice(
        "Slice displaced against its neighbour",
        "Nothing, where the images are right: they put the slice in its place. A jump in the reslices, where they are wrong.",
        "The stage moved or reported wrongly, or the pair was matched wrongly: look at the pair's NCC and confidence, "
        "and at the reslices by stage only and final.",
        "The slice lies where the images put it, each pair weighted by its confidence.",
        (
            (
                "detect_rehoming_events.rehoming_max_shift_mm",
                "a value below the stage’s own step there (stage path, section Acquisition), if the next step takes it back",
            ),
            _REGISTRATION[0],
        ),
    ),
    "rotation_deg": Advice(
        "Slice rotated against its neighbour",
        "Structures far from the centre jump between slices.",
        "The block turned on its mount, or the pair was matched wrongly.",
        "The global solve weighs the measured rotation by its confidence.",
        (_REGISTRATION[1],),
    ),
    "ncc": Advice(
        "Neighbouring slices do not match",
        "Double edges where the two slices blend.",
        "A damaged or badly cut slice, a wrong depth of overlap, or too little tissue.",
        _SOLVE,
        _CONFIDENCE,
    ),
    "confidence": Advice(
        "Uncertain slice alignment",
        "A small step in the reslices, or none.",
        "Little common texture, or several places that fit equally well.",
        _SOLVE,
        _CONFIDENCE,
    ),
    "z_offset_std_um": Advice(
        "Cut thickness varies",
        "Uneven spacing of slices; stretched or compressed bands.",
        "The vibratome cut unevenly, or depth matching failed on some pairs.",
        "The global solve keeps the measured depth where it is confident.",
        (("register_pairwise.allowed_drifting_mm", "a smaller value"),),
    ),
    "z_offset_range_um": Advice(
        "One slice lies at an unusual depth",
        "A gap or a repeated band of tissue.",
        "A missed cut, a double cut, or depth matching that failed.",
        "The global solve keeps the measured depth where it is confident.",
        (("register_pairwise.allowed_drifting_mm", "a smaller value"),),
    ),
    "tile_residual_rms_um": Advice(
        "Tiles disagree with their placement",
        "Double edges along seams.",
        "A tile moved during its scan, or wrong pairs outvoted right ones.",
        "Pairs that disagree were given little weight; see the residual graph.",
        _STITCH,
    ),
    "tile_residual_p95_um": Advice(
        "Tiles disagree with their placement",
        "Double edges along some seams, ghost copies of fibres.",
        "Distorted tiles, wrong overlap, or wrong pairs that were accepted: see the residual graph.",
        "Pairs that disagree were given little weight; see the residual graph.",
        _STITCH,
    ),
    "seam_l1": Advice(
        "Tiles differ where they overlap",
        "A waffle pattern in plane.",
        "The flat field does not fit this slice, or the tiles are misplaced.",
        "Overlaps were blended as they are.",
        _FLAT,
    ),
    "seam_pearson": Advice(
        "Tile overlaps do not correlate",
        "Blurred or doubled texture along seams.",
        "Misplaced tiles, or overlaps without tissue.",
        "Overlaps were blended as they are.",
        _STITCH,
    ),
    "seam_step_percent": Advice(
        "Visible seams between tiles",
        "A waffle pattern in plane.",
        "The flat field does not fit, or brightness drifted while the slice was scanned.",
        "Overlaps were blended as they are.",
        _FLAT,
    ),
    "galvo_confidence": Advice(
        "Uncertain galvo return",
        "A vertical band that repeats in every tile, or tiles cut at a wrong column.",
        "The return lines look like tissue, or the frames hold none.",
        "Below the threshold the frames are cropped without rolling them.",
        (
            ("create_mosaic_grid.galvo_confidence_threshold", "a lower value trusts it more"),
            ("create_mosaic_grid.fix_galvo_shift", "false"),
        ),
    ),
    "saturated_percent": Advice(
        "Saturated tiles: the detector was at its ceiling",
        "Bright structures are flat and have no texture; brightness there is no measurement.",
        "Too much light or gain, or a reflection of the cut surface. Only another acquisition brings it back.",
        "The samples were used as recorded; the map of section Intensity names the tiles.",
    ),
    "interface_tilt_deg": Advice(
        "Tilted cut surface",
        "One side of every slice is seen to a smaller depth, and slices meet at a slant.",
        "The blade or the block is not level with the stage.",
        "Every A-line is used from its own surface on; the depth kept is counted from the shallow end.",
        (("crop_interface.out_depth_um", "a larger depth, where the deep end runs out"),),
    ),
    "tissue_snr": Advice(
        "Low contrast: the signal of tissue is near the noise",
        "Grain that hides fine texture, most of all deep in each slice.",
        "Weak light, a focus beside the tissue, or strong attenuation.",
        "Registration averages over depth; planes are weighted by their signal-to-noise ratio.",
        (
            ("stack.max_depth_um", "a smaller depth, to leave the noisiest planes out"),
            ("crop_interface.out_depth_um", "a smaller depth"),
        ),
    ),
    "agarose_coverage": Advice(
        "Little agarose for the axial profile",
        "Brightness that depends on depth within each slice.",
        "The tissue fills the field, so the profile was measured on tissue.",
        "The profile was measured over tissue instead.",
        (("beam_profile_correction.method", "model"),),
    ),
    "background_std": Advice(
        "Uneven background after the flat field",
        "A waffle pattern outside the tissue.",
        "Too few tiles voted for the flat field, or it changed during the run.",
        "The pooled flat field was used.",
        _FLAT,
    ),
    "slice_shift_p95_um": Advice(
        "Slices shifted far from where the stage says",
        "Nothing, where the images are right. A curved or sheared brain, where they are wrong.",
        "The block drifted on its mount, or the stage lost steps.",
        "The shifts that the images showed were applied.",
        (("detect_rehoming_events.rehoming_max_shift_mm", "a smaller value"), *_REGISTRATION),
    ),
    "slice_residual_p95_um": Advice(
        "Slices do not lie where the pairs of images put them",
        "Jumps in the reslices.",
        "A profile that keeps the stage's positions (apply_rotation_only) although the images agree, or wrong "
        "pairs that were trusted: the table of pairs shows which.",
        "The pairs and the weight that each was given are in the table of slice alignment.",
        (("estimate_slice_poses.apply_rotation_only", "false, where it is true"), *_CONFIDENCE),
    ),
    "cumulative_drift_um": Advice(
        "Curved brain: the solved poses leave the stage far behind",
        "The midline bends in the reslices.",
        "A small error of each pair that adds up, or a block that really drifted: compare the reslices.",
        "The stage acts as a weak prior in the solve.",
        _STAGE,
    ),
    "cumulative_rotation_deg": Advice(
        "Twisted brain: rotations add up",
        "The brain turns about the depth axis through the stack.",
        "A small error of each pair that adds up, or a block that really turned.",
        "The stage acts as a weak prior in the solve.",
        (("register_pairwise.max_rotation_deg", "a smaller bound"),),
    ),
    "banding_index": Advice(
        "Banding: brightness jumps where slices meet",
        "Stripes in both reslices at the slice interval.",
        "Attenuation is not fully compensated, or gains of neighbouring slices differ.",
        "One smooth gain per slice was applied.",
        (*_GAIN, *_DEPTH),
    ),
    "slice_step": Advice(
        "Banding: one slice is brighter than the next",
        "A stripe in both reslices, over the depth of that slice.",
        "The gain of the slice reached its limit, or too little of its tissue could be compared.",
        "One gain per slice was applied, within the limits of normalize.",
        (*_GAIN, *_DEPTH),
    ),
    "contrast_kept": Advice(
        "The bias field took anatomy with it",
        "Structures are paler after the correction than before.",
        "The field follows tissue instead of shading: its splines are too fine, or its strength too high.",
        "The corrected volume was written as it is; the stacked one is beside it.",
        (("correct_bias_field.bias_strength", "a smaller value"),),
    ),
    "atlas_dice": Advice(
        "The brain does not fill the atlas's outline",
        "Regions of the atlas reach beyond the tissue, or leave some of it out.",
        "Wrong orientation, part of a brain, or tissue that is deformed beyond the transform.",
        "The fit was kept and its overlap reported.",
        (("align_to_ras.enabled", "false, to leave the atlas out"),),
    ),
    "atlas_edge_um": Advice(
        "The surface of the brain lies off the atlas's",
        "The outline of the atlas runs beside that of the tissue.",
        "Deformation that the transform cannot follow, or a fit that stopped early.",
        "The fit was kept and its distance reported.",
        (("align_to_ras.enabled", "false, to leave the atlas out"),),
    ),
    "atlas_orientation_margin": Advice(
        "Uncertain orientation of the brain",
        "Left and right, or front and back, may be exchanged in the atlas's space.",
        "Two orientations fit nearly as well: a symmetric piece, or poor contrast.",
        "The best one was taken.",
        (("align_to_ras.orientation", "the true one, three letters such as PIR"),),
    ),
    "filled": Advice(
        "Holes in the volume",
        "Black bands or patches.",
        "Missing slices or tiles, or slices thinner than the cut.",
        "The holes are marked as no data in the validity mask.",
        (("crop_interface.out_depth_um", "a larger value"), ("stack.max_depth_um", "0")),
    ),
}
