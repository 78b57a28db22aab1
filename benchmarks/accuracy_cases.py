"""The cases of `accuracy.py`: one fault each, beside the everyday ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from soct.simulate.faults import Glitch, Growth

EVERYDAY: dict[str, Any] = {
    "speckle_looks": 10.0,
    "galvo_return_px": 23,
    "focal_curvature_samples": 3.0,
    "slice_drift_um": 60.0,
    "gain_drift": 0.15,
}
SIZE: dict[str, Any] = {"slices": 4, "rows": 3, "cols": 3, "tile_px": (72, 72), "n_z": 70}


@dataclass(frozen=True)
class Case:
    """An acquisition, what is set for its run, and what the report must name.

    ``told`` lists faults whose report is checked (see `accuracy_told.CHECKS`); those of single tiles and
    slices are always checked against ``truth.json``.
    """

    size: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


_SMALL = {"rows": 2, "cols": 2, "tile_px": (48, 48), "n_z": 62, "overlap": 0.25}

CASES: dict[str, Case] = {
    "plain": Case(),
    "jitter 2 px, stage turned 1 deg": Case(
        faults={"tile_jitter_px": 2.0, "stage_rotation_deg": 1.0, "stage_scale": 1.01},
        told=("stage turned",),
    ),
    "half of the tiles blank": Case(
        {"rows": 4, "cols": 4, "tile_px": (56, 56)}, {"blank_fraction": 0.5}
    ),
    "galvo band dark, at the start": Case(
        faults={"galvo_return_px": 2, "galvo_return_level": 0.2}, told=("galvo band",)
    ),
    "galvo band bright, in the middle": Case(
        faults={"galvo_return_px": 33, "galvo_return_level": 1.6}, told=("galvo band",)
    ),
    "galvo band at the end": Case(faults={"galvo_return_px": None}, told=("galvo band",)),
    "no galvo band": Case({"n_extra": 0}, {"galvo_return_px": None}, told=("no galvo band",)),
    "focal curvature 8 samples": Case(
        faults={"focal_curvature_samples": 8.0}, told=("focal curvature",)
    ),
    "surface tilted 3 deg": Case(
        {"n_z": 84, "surface_sample": 24.0}, {"surface_tilt_deg": (3.0, 0.0)}, told=("tilt",)
    ),
    "attenuation 0.5 per mm": Case(faults={"attenuation_per_mm": 0.5}),
    "attenuation 3 per mm": Case(faults={"attenuation_per_mm": 3.0}),
    "encoder glitch": Case({"slices": 5}, {"glitches": (Glitch(slice_id=2, y_mm=2.0, x_mm=-1.0),)}),
    "mosaic grows": Case(
        {"rows": 3, "cols": 2},
        {"growth": (Growth(slice_id=2, axis="x", side="low"),)},
        told=("growth",),
    ),
    "a slice is missing": Case({"slices": 5}, {"missing_slices": (2,)}),
    "two slices are missing": Case({"slices": 6}, {"missing_slices": (2, 3)}),
    "1 % of tiles truncated": Case(
        {"slices": 4, "rows": 5, "cols": 5, "tile_px": (48, 48), "overlap": 0.25},
        {"truncated_fraction": 0.01},
    ),
    "slices turned up to 3 deg": Case(faults={"slice_rotation_range_deg": 3.0}, told=("turns",)),
    "oblique cut, turned up to 30 deg": Case(
        {"brain_tilt_deg": 25.0},
        {"slice_rotation_range_deg": 30.0},
        ("register_pairwise.max_rotation_deg=65",),
        told=("turns",),
    ),
    "oblique cut, as shipped": Case(
        {"brain_tilt_deg": 25.0}, {"slice_rotation_range_deg": 30.0}, told=("turns",)
    ),
    "SNR 1": Case(faults={"noise_floor": 0.3, "speckle_looks": 3.0}, told=("low contrast",)),
    "no stage positions": Case(
        faults={"stage_xy_absent": True, "roi_move_px": 0.0}, told=("no stage",)
    ),
    "60 slices": Case({"slices": 60, **_SMALL}),
}
