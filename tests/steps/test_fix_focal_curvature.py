"""The bowl that the scan optics make of a flat surface."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from soct.simulate.optics import curve
from soct.simulate.spec import AcquisitionSpec
from tests.steps.chain import Chain, Made
from tests.steps.conftest import make


def test_the_curvature_of_the_tiles_is_measured_within_a_twentieth_of_a_sample(
    faulty: Made,
) -> None:
    found = faulty.chain.arrays("fix_focal_curvature", "curvature")["depth_px"]
    true = curve(AcquisitionSpec.model_validate(faulty.truth["spec"]))
    error = (found - found.mean()) - (true - true.mean())
    assert np.abs(error).max() < 0.05
    assert np.ptp(true) > 0.99


def test_a_curvature_below_the_limit_leaves_tiles_as_they_are(faulty: Made, tmp_path: Path) -> None:
    strict = {"fix_focal_curvature": {"min_curvature_um": 50.0}}
    chain = Chain(faulty.simulation.raw, tmp_path, strict)
    assert not chain.arrays("fix_focal_curvature", "curvature")["depth_px"].any()
    assert chain.metric("fix_focal_curvature", "focal_curvature_applied") is False
    assert abs(chain.metric("fix_focal_curvature", "focal_curvature_um") - 10.0) < 1.0


def test_flat_optics_show_no_curvature(tmp_path: Path) -> None:
    made = make(tmp_path, seed=5, slices=2, faults={"focal_curvature_samples": 0.0})
    assert made.chain.metric("fix_focal_curvature", "focal_curvature_applied") is False


def test_a_bowl_of_eight_samples_is_measured_within_a_few_percent(tmp_path: Path) -> None:
    made = make(
        tmp_path,
        seed=3,
        slices=2,
        tile_px=(60, 60),
        n_z=56,
        surface_sample=12.5,
        faults={"focal_curvature_samples": 8.0, "surface_tilt_deg": (0.4, -0.3)},
    )
    found = made.chain.arrays("fix_focal_curvature", "curvature")["depth_px"]
    true = curve(AcquisitionSpec.model_validate(made.truth["spec"]))
    error = (found - found.mean()) - (true - true.mean())
    assert np.abs(error).max() < 0.3
    assert abs(np.ptp(found) / np.ptp(true) - 1) < 0.04
