import math
from dataclasses import replace

import numpy as np
import pytest

from soct.registration.slice_poses import (
    PairMeasurement,
    StagePosition,
    limit_corrections,
    relative_transform,
    solve_slice_poses,
)
from soct.registration.transforms import RigidTransform2D
from soct.space import Voxel

VOXEL = Voxel(10.0, 25.0, 25.0)
SIGMA_PX, SIGMA_DEG = 0.1, 0.01
COVARIANCE = np.diag([SIGMA_PX**2, SIGMA_PX**2, SIGMA_DEG**2])


class Run:
    """Slices whose true poses drift away from the stage, and pairs measured with noise."""

    def __init__(self, n=60, seed=0, lags=(1, 2), noise=1.0, drift=1.5):
        rng = np.random.default_rng(seed)
        self.n = n
        self.centres = rng.uniform(90, 130, (n, 2))
        self.stage = np.column_stack([20.0 * np.arange(n), rng.integers(-12, 12, (n, 2))])
        self.move = np.cumsum(rng.normal(0, drift, (n, 2)), axis=0)
        self.turn = rng.normal(0, 0.1, n)
        self.z = self.stage[:, 0] + rng.normal(0, 0.5, n)
        self.truth = [
            RigidTransform2D(
                float(self.turn[k]),
                tuple(map(float, self.stage[k, 1:] + self.move[k])),
                tuple(self.centres[k]),
            )
            for k in range(n)
        ]
        self.stages = [
            StagePosition(k, tuple(self.stage[k]), tuple(self.centres[k])) for k in range(n)
        ]
        self.pairs = []
        for lag in lags:
            for k in range(n - lag):
                exact = relative_transform(self.truth[k], self.truth[k + lag], (110.0, 100.0))
                dy, dx = rng.normal(0, SIGMA_PX * noise, 2) + exact.shift
                angle = exact.rotation_deg + rng.normal(0, SIGMA_DEG * noise)
                self.pairs.append(
                    PairMeasurement(
                        k,
                        k + lag,
                        RigidTransform2D(angle, (dy, dx), exact.centre),
                        0.9,
                        COVARIANCE,
                        float(self.z[k + lag] - self.z[k]),
                        0.2,
                    )
                )

    def step_errors(self, poses):
        """Distance, at the slice's centre and a corner, by which each step differs from the truth."""
        out = []
        for k in range(self.n - 1):
            true = relative_transform(self.truth[k], self.truth[k + 1], (110.0, 100.0))
            found = relative_transform(
                poses.poses[k].transform, poses.poses[k + 1].transform, (110.0, 100.0)
            )
            points = np.array([[110.0, 100.0], [0.0, 0.0]])
            out.append(np.hypot(*(true.apply(points) - found.apply(points)).T).max())
        return np.array(out)

    def drift(self, poses):
        """In-plane error of each slice's centre after the best common motion of the canvas."""
        true = np.array([t.inverse().apply(t.centre) for t in self.truth])
        found = np.array(
            [p.transform.inverse().apply(p.transform.centre) for p in poses.poses.values()]
        )
        turn = np.mean([p.rotation_deg for p in poses.poses.values()]) - self.turn.mean()
        c, s = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        true = (true - true.mean(0)) @ np.array([[c, s], [-s, c]])
        return np.hypot(*(found - found.mean(0) - true).T)


def test_exact_pairs_give_back_the_poses_whatever_the_levers():
    run = Run(12, noise=0.0)
    poses = solve_slice_poses(run.stages, run.pairs, VOXEL)
    assert run.step_errors(poses).max() < 0.02
    assert poses.stage_only == ()
    assert poses.groups == (tuple(range(12)),)


def test_sixty_slices_drift_no_more_than_the_pair_errors_allow():
    drifts, steps = [], []
    for seed in range(5):
        run = Run(60, seed)
        poses = solve_slice_poses(run.stages, run.pairs, VOXEL)
        drifts.append(run.drift(poses).max())
        steps.append(run.step_errors(poses).mean())
    # A chain of 59 pairs alone would walk 0.1 px * sqrt(2 * 59) = 1.1 px from end to end.
    assert np.mean(drifts) < 0.7
    assert np.mean(steps) < 0.13


def test_wrong_pairs_lose_their_weight():
    run = Run(20, 3)
    bad = {2: (14.0, -9.0), 11: (-20.0, 5.0), 25: (6.0, 17.0)}
    pairs = list(run.pairs)
    for k, (dy, dx) in bad.items():
        p = pairs[k]
        wrong = RigidTransform2D(
            p.transform.rotation_deg + 1.0,
            (p.transform.shift[0] + dy, p.transform.shift[1] + dx),
            p.transform.centre,
        )
        pairs[k] = PairMeasurement(p.fixed, p.moving, wrong, 0.9, COVARIANCE)
    poses = solve_slice_poses(run.stages, pairs, VOXEL)
    assert run.step_errors(poses).max() < 0.5
    for k in bad:
        assert poses.pairs[k].weight < 0.1
        assert poses.pairs[k].residual_px > 10


def test_a_slice_without_pairs_follows_its_neighbours_and_is_named():
    run = Run(9, 4)
    pairs = [p for p in run.pairs if 4 not in (p.fixed, p.moving)]
    poses = solve_slice_poses(run.stages, pairs, VOXEL)
    assert poses.stage_only == (4,)
    between = np.mean([poses.poses[k].correction for k in (3, 5)], axis=0)
    assert poses.poses[4].correction[1:] == pytest.approx(between[1:], abs=0.02)
    assert poses.poses[4].confidence == 0.0


def test_an_encoder_glitch_of_the_stage_does_not_move_the_slice():
    run = Run(15, 5)
    stages = list(run.stages)
    z, y, x = stages[7].position
    stages[7] = StagePosition(7, (z, y + 40.0, x), stages[7].centre)
    poses = solve_slice_poses(stages, run.pairs, VOXEL)
    assert run.step_errors(poses).max() < 0.5


def test_two_halves_without_a_link_are_told_apart():
    run = Run(8, 6)
    pairs = [p for p in run.pairs if (p.fixed < 4) == (p.moving < 4)]
    poses = solve_slice_poses(run.stages, pairs, VOXEL)
    assert poses.groups == ((0, 1, 2, 3), (4, 5, 6, 7))


def test_depth_comes_from_the_images_where_they_know_it():
    run = Run(12, 7)
    poses = solve_slice_poses(run.stages, run.pairs, VOXEL)
    found = np.array([poses.poses[k].z for k in range(12)])
    assert np.std(np.diff(found) - np.diff(run.z)) < 0.2
    none = [PairMeasurement(p.fixed, p.moving, p.transform, 0.9, COVARIANCE) for p in run.pairs]
    stage = solve_slice_poses(run.stages, none, VOXEL)
    assert [p.z for p in stage.poses.values()] == pytest.approx(run.stage[:, 0])


def test_low_confidence_and_no_pairs_leave_the_stage():
    run = Run(5, 8)
    poses = solve_slice_poses(run.stages, run.pairs, VOXEL, min_confidence=0.95)
    assert poses.stage_only == (0, 1, 2, 3, 4)
    for k, p in poses.poses.items():
        assert p.position[1:] == pytest.approx(tuple(run.stage[k, 1:]))
        assert p.rotation_deg == pytest.approx(0.0)


def test_the_gauge_is_the_mean_or_the_middle_slice():
    run = Run(9, 9)
    mean = solve_slice_poses(run.stages, run.pairs, VOXEL)
    assert np.mean([p.correction for p in mean.poses.values()], axis=0) == pytest.approx(
        [0, 0, 0], abs=1e-9
    )
    middle = solve_slice_poses(run.stages, run.pairs, VOXEL, gauge="middle")
    assert middle.poses[4].correction == pytest.approx((0, 0, 0), abs=1e-9)
    assert middle.poses[4].rotation_deg == pytest.approx(0.0, abs=1e-12)
    assert run.step_errors(middle) == pytest.approx(run.step_errors(mean), abs=1e-9)


def test_rotation_only_keeps_the_stage_positions():
    run = Run(6, 10)
    poses = solve_slice_poses(run.stages, run.pairs, VOXEL, apply_rotation_only=True)
    assert [p.transform.shift for p in poses.poses.values()] == [tuple(p) for p in run.stage[:, 1:]]
    assert np.std([p.rotation_deg for p in poses.poses.values()]) > 0.02


def test_limits_of_other_pipelines_can_be_applied_afterwards():
    run = Run(20, 11)
    poses = solve_slice_poses(run.stages, run.pairs, VOXEL)
    capped = limit_corrections(poses, VOXEL, stack_max_cumulative_drift_um=30.0)
    moves = np.array([p.correction[1:] for p in capped.poses.values()])
    assert np.hypot(*moves.T).max() * 25.0 <= 30.0 + 1e-9
    smooth = limit_corrections(
        poses, VOXEL, stack_smooth_window=5, stack_translation_smooth_sigma=2
    )
    rough = np.diff([p.correction[1] for p in poses.poses.values()])
    assert np.std(np.diff([p.correction[1] for p in smooth.poses.values()])) < 0.7 * np.std(rough)
    own = limit_corrections(poses, VOXEL, accumulate_translations=False)
    assert own.poses[5].correction[1] == pytest.approx(
        poses.poses[5].correction[1] - poses.poses[4].correction[1]
    )
    same = limit_corrections(poses, VOXEL)
    assert same.poses[3].transform == pytest.approx(poses.poses[3].transform) or np.allclose(
        same.poses[3].transform.shift, poses.poses[3].transform.shift
    )


def test_slices_must_be_known_and_pixels_square():
    run = Run(3, 12)
    with pytest.raises(ValueError, match="unknown"):
        solve_slice_poses(run.stages[:2], run.pairs, VOXEL)
    with pytest.raises(ValueError, match="square"):
        solve_slice_poses(run.stages, run.pairs, Voxel(10.0, 25.0, 20.0))
    with pytest.raises(ValueError, match="once"):
        solve_slice_poses([], [], VOXEL)


def test_errors_of_measured_rotations_do_not_add_up_over_sixty_slices():
    spread = []
    for seed in range(4):
        run = Run(seed=seed, noise=4.0)
        noisy = [replace(pair, covariance=16 * COVARIANCE) for pair in run.pairs]
        found = solve_slice_poses(run.stages, noisy, VOXEL)
        error = np.array([p.rotation_deg for p in found.poses.values()]) - run.turn
        spread.append(np.percentile(np.abs(error - error.mean()), 95))
    # Chained errors of 0.04 degrees would reach 0.2.
    assert np.median(spread) < 0.09


def test_slices_that_turn_by_many_degrees_are_not_pulled_back_to_the_stage():
    run = Run(n=8, seed=3, noise=0.0)
    run.turn[:] = np.random.default_rng(1).uniform(-30, 30, 8)
    run.truth = [
        RigidTransform2D(float(t), one.shift, one.centre)
        for t, one in zip(run.turn, run.truth, strict=True)
    ]
    run.pairs = [
        PairMeasurement(
            k, k + 1, relative_transform(run.truth[k], run.truth[k + 1], (110.0, 100.0)), 0.9, COVARIANCE
        )
        for k in range(7)
    ]  # fmt: skip
    found = solve_slice_poses(run.stages, run.pairs, VOXEL)
    error = np.array([p.rotation_deg for p in found.poses.values()]) - run.turn
    assert np.ptp(error) < 0.005


def test_pairs_that_skip_a_slice_count_for_the_rotation_of_a_small_field():
    stages = [StagePosition(k, (20.0 * k, 0.0, 0.0), (42.0, 42.0)) for k in range(3)]

    def measured(i, j, angle, sigma_px, sigma_deg):
        covariance = np.diag([sigma_px**2, sigma_px**2, sigma_deg**2])
        transform = RigidTransform2D(angle, (0.0, 0.0), (42.0, 42.0))
        return PairMeasurement(i, j, transform, 1.0, covariance)

    # At the edge of the field 0.05 degrees are a micrometre: neighbours cannot know them as well as they believe.
    pairs = [
        measured(0, 1, 0.1, 0.01, 0.015),
        measured(1, 2, 0.1, 0.01, 0.015),
        measured(0, 2, 0.0, 0.04, 0.06),
    ]
    left = [r.residual_deg for r in solve_slice_poses(stages, pairs, VOXEL).pairs]
    assert abs(left[2]) < 2 * abs(left[0] + left[1])
