"""One sentence and the sources of every step, for the methods text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Citation:
    """A paper."""

    authors: str
    title: str
    journal: str
    year: int
    doi: str
    volume: str = ""
    pages: str = ""

    @property
    def text(self) -> str:
        """The reference as a line of text."""
        place = f"{self.volume}:{self.pages}" if self.pages else self.volume
        return f"{self.authors}. {self.title}. {self.journal} {place} ({self.year})"

    def bibtex(self, key: str) -> str:
        """Return the reference as a BibTeX entry."""
        fields = {
            "author": self.authors.replace(", ", " and "),
            "title": f"{{{self.title}}}",
            "journal": self.journal,
            "year": str(self.year),
            "volume": self.volume,
            "pages": self.pages.replace("–", "--"),
            "doi": self.doi,
        }
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items() if value)
        return f"@article{{{key},\n{body}\n}}"


CITATIONS: dict[str, Citation] = {
    "lefebvre2017": Citation(
        "Lefebvre J, Castonguay A, Pouliot P, Descoteaux M, Lesage F",
        "Whole mouse brain imaging using optical coherence tomography: reconstruction, normalization, "
        "segmentation, and comparison with diffusion MRI",
        "Neurophotonics", 2017, "10.1117/1.NPh.4.4.041501", "4(4)", "041501",
    ),
    "peng2017": Citation(
        "Peng T, Thorn K, Schroeder T, Wang L, Theis FJ, Marr C, Navab N",
        "A BaSiC tool for background and shading correction of optical microscopy images",
        "Nature Communications", 2017, "10.1038/ncomms14836", "8", "14836",
    ),
    "guizar2008": Citation(
        "Guizar-Sicairos M, Thurman ST, Fienup JR",
        "Efficient subpixel image registration algorithms",
        "Optics Letters", 2008, "10.1364/OL.33.000156", "33", "156–158",
    ),
    "preibisch2009": Citation(
        "Preibisch S, Saalfeld S, Tomancak P",
        "Globally optimal stitching of tiled 3D microscopic image acquisitions",
        "Bioinformatics", 2009, "10.1093/bioinformatics/btp184", "25", "1463–1465",
    ),
    "vermeer2014": Citation(
        "Vermeer KA, Mo J, Weda JJA, Lemij HG, de Boer JF",
        "Depth-resolved model-based reconstruction of attenuation coefficients in optical coherence tomography",
        "Biomedical Optics Express", 2014, "10.1364/BOE.5.000322", "5", "322–337",
    ),
    "lowekamp2013": Citation(
        "Lowekamp BC, Chen DT, Ibáñez L, Blezek D",
        "The design of SimpleITK",
        "Frontiers in Neuroinformatics", 2013, "10.3389/fninf.2013.00045", "7", "45",
    ),
    "tustison2010": Citation(
        "Tustison NJ, Avants BB, Cook PA, Zheng Y, Egan A, Yushkevich PA, Gee JC",
        "N4ITK: improved N3 bias correction",
        "IEEE Transactions on Medical Imaging", 2010, "10.1109/TMI.2010.2046908", "29", "1310–1320",
    ),
    "sled1998": Citation(
        "Sled JG, Zijdenbos AP, Evans AC",
        "A nonparametric method for automatic correction of intensity nonuniformity in MRI data",
        "IEEE Transactions on Medical Imaging", 1998, "10.1109/42.668698", "17", "87–97",
    ),
    "wang2004": Citation(
        "Wang Z, Bovik AC, Sheikh HR, Simoncelli EP",
        "Image quality assessment: from error visibility to structural similarity",
        "IEEE Transactions on Image Processing", 2004, "10.1109/TIP.2003.819861", "13", "600–612",
    ),
    "mattes2003": Citation(
        "Mattes D, Haynor DR, Vesselle H, Lewellen TK, Eubank W",
        "PET-CT image registration in the chest using free-form deformations",
        "IEEE Transactions on Medical Imaging", 2003, "10.1109/TMI.2003.809072", "22", "120–128",
    ),
    "moore2021": Citation(
        "Moore J, Allan C, Besson S, et al",
        "OME-NGFF: a next-generation file format for expanding bioimaging data-access strategies",
        "Nature Methods", 2021, "10.1038/s41592-021-01326-w", "18", "1496–1498",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Method:
    """What a step did, in the past tense, without the full stop."""

    sentence: str
    cites: tuple[str, ...] = ()
    parameters: tuple[tuple[str, str], ...] = ()
    """``(parameter, words before its value)``; those that the profile lacks are left out."""


METHODS: dict[str, Method] = {
    "create_mosaic_grid": Method(
        "Raw tiles of each slice were assembled into mosaic grids after the lines recorded during the galvo’s return had been found and removed",
        ("lefebvre2017",),
        (("galvo_confidence_threshold", "confidence at least"),),
    ),
    "resample_mosaic_grid": Method(
        "Tiles were resampled with anti-aliasing", (), (("resolution_um", "to"),)
    ),
    "fix_focal_curvature": Method(
        "The curvature of the focal surface within a tile was measured over the run and removed where it was significant"
    ),
    "fix_illumination": Method(
        "Illumination was corrected by a flat field estimated over the tiles by a low-rank and sparse decomposition",
        ("peng2017",),
        (("max_samples", "at most this many tiles:"),),
    ),
    "stitch_3d_with_refinement": Method(
        "Neighbouring tiles were matched with sub-pixel phase correlation, placed by a robust global least-squares solution with the stage positions as priors, and blended",
        ("guizar2008", "preibisch2009"),
        (("stitch_blending_method", "blending"),),
    ),
    "beam_profile_correction": Method(
        "The sensitivity over depth was solved for the whole run, from tissue that overlapping slices see at two depths",
        (),
        (("method", "method"),),
    ),
    "crop_interface": Method(
        "The tissue surface was found in each slice and depth was counted from it",
        (),
        (("out_depth_um", "depth kept"),),
    ),
    "compensate_attenuation": Method(
        "The loss of light over depth was compensated",
        (),
        (("method", "method"),),
    ),
    "normalize": Method(
        "Brightness was matched between slices by one gain per slice, from tissue that two slices see"
    ),
    "detect_rehoming_events": Method(
        "The record of the stage was searched for glitches, steps that the next step takes back",
        (),
        (("rehoming_max_shift_mm", "steps beyond"),),
    ),
    "register_pairwise": Method(
        "Each slice was registered to the two before it, in depth and by a rigid transform in the plane",
        ("lowekamp2013",),
        (("max_rotation_deg", "rotation at most"), ("max_translation_um", "translation at most")),
    ),
    "auto_assess_quality": Method(
        "Each slice was scored by how well its image agrees with the slices that face it (structural similarity, edges, variance), and those below the limit were left out of the poses",
        ("wang2004",),
        (("min_quality", "score at least"),),
    ),
    "auto_exclude_slices": Method(
        "Slices whose registration stands apart from that of all others were found by clustering the pairs’ correlation and distance, and have no vote in the poses"
    ),
    "estimate_slice_poses": Method(
        "The poses of all slices were solved together from all pairs, robustly weighted, and the stage's positions",
        (),
        (("apply_rotation_only", "rotations alone from the images"),),
    ),
    "interpolate_missing_slice": Method(
        "Gaps that single missing slices leave were filled from the surfaces above and below, where these agree, and are marked in the volume",
        (),
        (("method", "method"), ("min_overlap_ncc", "correlation at least")),
    ),
    "stack": Method(
        "Slices were interpolated once into the final volume, blended where they overlap, and written as OME-Zarr with a pyramid",
        ("moore2021",),
        (("blend_depth_um", "ramp in depth"),),
    ),
    "correct_bias_field": Method(
        "Slow shading and stripes were taken out of the volume by the N4 algorithm, fitted on a shrunken copy",
        ("tustison2010", "sled1998"),
        (
            ("bias_mode", "mode"),
            ("bias_strength", "strength"),
            ("spline_distance_mm", "distance of knots"),
        ),
    ),
    "normalize_z_intensity": Method(
        "Sections of the volume were brought towards the brightness of their neighbours",
        (),
        (("method", "method"), ("strength", "strength")),
    ),
    "align_to_ras": Method(
        "The volume was aligned to an atlas: an exhaustive search of orientations by mutual information, then rigid, affine and B-spline fits, each kept where it was better, and one interpolation from the finest level",
        ("lowekamp2013", "mattes2003"),
        (("transform", "last stage"), ("metric", "metric")),
    ),
}
