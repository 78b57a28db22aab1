"""What the diagnostic steps say of acquisitions whose faults are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.formats.ome_zarr import open_volume
from soct.formats.validation import validate_volume
from soct.registration.rotation_drift import RotationDrift
from soct.steps.analyze_rotation_drift import describe
from tests.steps.chain import Chain, Made
from tests.steps.conftest import make

CAMERA, DILATION = "analyze_acquisition_rotation", "analyze_tile_dilation"
COMPARE, ROTATION = "compare_stitching", "analyze_rotation_drift"


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A stage that is turned by 1 degree against the camera and tells distances 1 % too short."""
    return make(
        tmp_path_factory.mktemp("turned"),
        seed=3,
        slices=1,
        tile_px=(160, 160),
        n_z=28,
        faults={"stage_rotation_deg": 1.0, "stage_scale": 1.01, "tile_jitter_px": 0.0},
    )


def test_a_stage_turned_by_one_degree_is_found_within_a_fiftieth(turned: Made) -> None:
    assert turned.chain.metric(CAMERA, "acquisition_rotation_deg") == pytest.approx(1.0, abs=0.02)
    assert abs(turned.chain.metric(CAMERA, "acquisition_shear_deg")) < 0.03
    assert "turned by +" in turned.chain.metric(CAMERA, "acquisition_rotation_verdict")


def test_what_it_costs_at_the_corners_is_told_in_micrometres(turned: Made) -> None:
    half_diagonal = 0.5 * np.hypot(280, 280) * 25
    expected = half_diagonal * np.hypot(np.radians(1), 0.01)
    assert turned.chain.metric(CAMERA, "acquisition_corner_um") == pytest.approx(expected, rel=0.03)


def test_a_stretch_of_one_percent_is_found_within_a_twentieth(turned: Made) -> None:
    for axis in ("y", "x"):
        found = turned.chain.metric(DILATION, f"tile_dilation_{axis}_percent")
        assert found == pytest.approx(1.0, abs=0.05)
    report = turned.chain.document(DILATION, "report")
    assert "working pixel is 24.7" in report["suggestion"]


def test_without_stage_positions_the_overlap_is_suggested(tmp_path: Path) -> None:
    made = make(tmp_path, seed=3, slices=1, faults={"stage_xy_absent": True, "tile_jitter_px": 0.0})
    made.chain.sets = {"stitch_3d_with_refinement": {"overlap_fraction": 0.22}}
    line = made.chain.document(DILATION, "report")["suggestion"]
    key, value = line.split(": ")
    assert key == "stitch_3d_with_refinement.overlap_fraction"
    assert float(value) == pytest.approx(0.25, abs=0.01)


def test_stitching_a_turned_stage_helped_and_the_report_says_so(turned: Made) -> None:
    assert turned.chain.metric(COMPARE, "stitching_helped", 0) == "better"
    before = turned.chain.metric(COMPARE, "overlap_ncc_motor", 0)
    assert turned.chain.metric(COMPARE, "overlap_ncc", 0) > before + 0.05
    overlaps = turned.chain.document(COMPARE, "report", 0)["overlaps"]
    assert len(overlaps) == 4
    assert all(o["l1_after"] < o["l1_before"] for o in overlaps)


def test_a_motor_only_run_has_nothing_to_compare_but_itself(plain: Made, tmp_path: Path) -> None:
    chain = Chain(
        plain.simulation.raw,
        tmp_path,
        {"stitch_3d_with_refinement": {"motor_only_stitch": True}},
    )
    assert chain.metric(COMPARE, "stitching_helped", 1) == "same"
    assert chain.metric(CAMERA, "acquisition_rotation_deg") is None


def test_the_motor_only_stack_is_a_valid_volume_of_all_slices(faulty: Made) -> None:
    path = faulty.chain.path("motor_only_stack", "volume")
    assert not validate_volume(path)
    assert faulty.chain.metric("motor_only_stack", "motor_stack_slices") == 5
    volume = open_volume(path)
    thick = volume.shape[0] * volume.voxel_um.z
    assert thick == pytest.approx(600, abs=3 * volume.voxel_um.z + 30)
    views = faulty.chain.arrays("motor_only_stack", "figures")
    assert np.isfinite(views["ortho_y"]).mean() > 0.5


def test_the_motor_only_stack_is_the_same_with_and_without_the_step_that_stitches(
    plain: Made, tmp_path: Path
) -> None:
    alone = Chain(plain.simulation.raw, tmp_path, {"motor_only_stitch": {"enabled": False}})
    alone.done |= {k: v for k, v in plain.chain.done.items() if not k.startswith("motor")}
    for name, sets in (("with", plain.chain), ("without", alone)):
        volume = open_volume(sets.path("motor_only_stack", "volume"))
        if name == "with":
            expected = volume.read()
    np.testing.assert_allclose(volume.read(), expected, atol=1e-6)


def test_rotations_that_are_added_up_agree_with_those_that_are_solved(plain: Made) -> None:
    assert plain.chain.metric(ROTATION, "rotation_disagreement_deg") < 0.1
    found = plain.chain.arrays(ROTATION, "figures")
    assert np.sign(found["cumulative_deg"][-1]) == np.sign(found["solved_deg"][-1])


def test_a_field_that_turns_over_the_tissue_turns_the_tissue_back_in_the_images(
    tmp_path: Path,
) -> None:
    made = make(
        tmp_path,
        seed=5,
        slices=4,
        faults={"slice_rotation_deg": 0.0, "slice_rotation_drift_deg": 0.4},
    )
    assert made.chain.metric(ROTATION, "rotation_trend_deg") == pytest.approx(-0.4, abs=0.06)


def test_a_drift_is_told_in_words() -> None:
    steps = 0.2 * np.arange(4)
    drift = RotationDrift((0, 1, 2, 3), steps, steps, steps, 0.2, (0.15, 0.25), (2,), (), 0.1)
    text = describe(drift, 1000.0)
    assert "+0.200° each" in text
    assert "slice 2 stands out" in text
