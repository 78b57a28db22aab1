"""Poses of all slices against the truth."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.registration.transforms import RigidTransform2D
from tests.steps.chain import Chain, Made, slice_origin, tissue_of


def pose_errors(made: Made, chain: Chain) -> Any:
    """Distance (px, RMS over its corners) of every slice from its place, after one rigid motion of the stack."""
    found, true = [], []
    for i, row in chain.document("estimate_slice_poses", "poses")["slices"].items():
        transform = RigidTransform2D(
            row["rotation_deg"], tuple(row["shift_px"]), tuple(row["centre_px"])
        )
        h, w = row["shape"][1:]
        corners = np.array([(y, x) for y in (0.0, h - 1) for x in (0.0, w - 1)])
        found.append(transform.inverse().apply(corners))
        true.append(tissue_of(made, int(i), corners + slice_origin(made, int(i))))
    a, b = np.array(found), np.array(true)
    middle = a.mean(axis=(0, 1)), b.mean(axis=(0, 1))
    u, _, v = np.linalg.svd((a - middle[0]).reshape(-1, 2).T @ (b - middle[1]).reshape(-1, 2))
    left = (a - middle[0]) @ (u @ v) + middle[1] - b
    return np.sqrt((left**2).sum(axis=2).mean(axis=1))


def test_slices_are_within_a_fifth_of_a_pixel_of_their_true_pose(plain: Made) -> None:
    """The slices drift by 1.6 px (sd per axis and slice) and turn by 0.1 degree, which the stage does not see."""
    assert pose_errors(plain, plain.chain).max() < 0.2


def test_a_missing_slice_is_bridged_and_a_misread_one_is_put_back(faulty: Made) -> None:
    assert pose_errors(faulty, faulty.chain).max() < 0.25
    assert faulty.chain.metric("estimate_slice_poses", "slices_stage_only") == 0
    assert faulty.chain.warnings("estimate_slice_poses") == ""


def test_depths_are_true_within_a_voxel(faulty: Made) -> None:
    rows = faulty.chain.document("estimate_slice_poses", "poses")["slices"]
    errors = []
    for i, row in rows.items():
        truth = faulty.truth["slices"][i]
        crop = int(faulty.chain.arrays("crop_interface", "surface", int(i))["crop_px"])
        top = truth["z_um"] / faulty.truth["dz_um"] + crop - truth["surface_sample"]
        errors.append(row["z_px"] - top)
    assert np.abs(np.array(errors) - np.median(errors)).max() < 1.0


def test_the_stage_alone_is_much_worse(plain: Made, tmp_path: Path) -> None:
    chain = Chain(plain.simulation.raw, tmp_path, {"estimate_slice_poses": {"motor_only": True}})
    assert pose_errors(plain, chain).max() > 5 * pose_errors(plain, plain.chain).max()
    assert "placed by the stage alone" in chain.warnings("estimate_slice_poses")


def test_slices_that_no_pair_holds_are_told_and_noted_in_the_ledger(
    plain: Made, tmp_path: Path
) -> None:
    sets = {"generate_slice_config": {"exclude": (1,)}, "register_pairwise": {"max_gap_um": 0.0}}
    chain = Chain(plain.simulation.raw, tmp_path, sets)
    result = chain.run("estimate_slice_poses")[()].result
    assert [d.slice_id for d in result.decisions] == [0, 2]
    assert any("[[0], [2]]" in w for w in result.warnings)


def test_a_single_slice_stays_where_the_stage_puts_it(single: Made) -> None:
    (row,) = single.chain.document("estimate_slice_poses", "poses")["slices"].values()
    assert row["rotation_deg"] == 0.0
    assert row["shift_px"] == row["stage_px"][1:] == [0.0, 0.0]


def again(made: Made, folder: Path, **options: Any) -> Chain:
    """The solve with other options, on the pairs that are there."""
    made.chain.run("estimate_slice_poses")
    chain = Chain(made.simulation.raw, folder, {"estimate_slice_poses": options})
    chain.done |= {n: d for n, d in made.chain.done.items() if n != "estimate_slice_poses"}
    return chain


def test_the_cap_on_drift_holds(plain: Made, tmp_path: Path) -> None:
    chain = again(plain, tmp_path, stack_max_cumulative_drift_um=10.0)
    assert plain.chain.metric("estimate_slice_poses", "cumulative_drift_um") > 15
    assert chain.metric("estimate_slice_poses", "cumulative_drift_um") <= 10 + 1e-6


def test_smoothing_over_all_slices_leaves_no_steps_but_the_stage_s(
    plain: Made, tmp_path: Path
) -> None:
    chain = again(plain, tmp_path, stack_translation_smooth_sigma=50.0)
    assert chain.metric("estimate_slice_poses", "slice_shift_p95_um") < 1.0


def test_expected_overlaps_are_the_stage_s(plain: Made, tmp_path: Path) -> None:
    chain = again(plain, tmp_path, overlap_source="expected")
    content = chain.document("estimate_slice_poses", "poses")
    rows = list(content["slices"].values())
    steps = [b["z_px"] - a["z_px"] for a, b in itertools.pairwise(rows)]
    stage = [b["stage_px"][0] - a["stage_px"][0] for a, b in itertools.pairwise(rows)]
    assert steps == pytest.approx(stage)


def test_measured_overlaps_are_the_pairs_own(plain: Made, tmp_path: Path) -> None:
    chain = again(plain, tmp_path, overlap_source="measured", enforce_z_consistency=False)
    content = chain.document("estimate_slice_poses", "poses")
    measured = {(d["fixed_id"], d["moving_id"]): d["z_step_px"] for d in content["depths"]}
    rows = content["slices"]
    for a, b in (("0", "1"), ("1", "2")):
        assert rows[b]["z_px"] - rows[a]["z_px"] == pytest.approx(measured[int(a), int(b)])


def test_tentative_pairs_give_their_rotation_alone(plain: Made, tmp_path: Path) -> None:
    chain = again(plain, tmp_path, transform_confidence_high=1.0)
    both, alone = (
        c.document("estimate_slice_poses", "poses")["slices"] for c in (plain.chain, chain)
    )
    for i, row in alone.items():
        assert row["shift_px"] == pytest.approx(row["stage_px"][1:], abs=0.05)
        assert row["rotation_deg"] == pytest.approx(both[i]["rotation_deg"], abs=0.1)
