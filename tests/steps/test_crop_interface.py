"""The surface of the tissue, and what is cut off above it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.formats.ome_zarr import open_volume
from tests.steps.chain import Chain, Made, copy_raw, rewrite, slice_origin


@pytest.mark.parametrize("slice_id", [0, 1, 3, 4, 5])
def test_the_surface_is_found_within_half_a_sample_with_its_tilt(
    faulty: Made, slice_id: int
) -> None:
    spec, truth = faulty.truth["spec"], faulty.truth["slices"][str(slice_id)]
    found = faulty.chain.arrays("crop_interface", "surface", slice_id)["depth_px"]
    tilt = np.tan(np.deg2rad(spec["faults"]["surface_tilt_deg"]))
    origin = slice_origin(faulty, slice_id) - faulty.truth["centre_yx_px"]
    y, x = np.indices(found.shape)
    rise = (y + origin[0]) * tilt[0] + (x + origin[1]) * tilt[1]
    true = truth["surface_sample"] + rise * spec["pixel_um"] / spec["axial_um"]
    valid = open_volume(
        faulty.chain.path("stitch_3d_with_refinement", "slice", slice_id)
    ).read_valid()
    error = (found - true)[valid[1] > valid[0]]
    assert abs(np.median(error)) < 0.15
    assert np.std(error) < 0.15


def test_the_crop_lies_at_the_surface(faulty: Made) -> None:
    for slice_id in faulty.slice_ids:
        surface = faulty.truth["slices"][str(slice_id)]["surface_sample"]
        crop = int(faulty.chain.arrays("crop_interface", "surface", slice_id)["crop_px"])
        assert surface - 1.6 < crop <= surface + 0.5


def test_an_empty_slice_has_its_surface_at_the_top_and_says_so(plain: Made, tmp_path: Path) -> None:
    raw = copy_raw(plain.simulation.raw, tmp_path / "raw")
    for folder in raw.glob("*_z01"):
        rewrite(folder, np.zeros_like)
    chain = Chain(raw, tmp_path / "steps")
    assert "0.0% of the A-lines show an interface" in chain.warnings("crop_interface")
    saved = chain.arrays("crop_interface", "surface", 1)
    assert int(saved["crop_px"]) == 0
    assert np.isfinite(saved["depth_px"]).all()
