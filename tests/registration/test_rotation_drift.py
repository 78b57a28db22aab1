"""A steady turn, a slice that stands out, and what adding up pairs costs."""

from __future__ import annotations

import numpy as np
import pytest

from soct.registration.rotation_drift import PairRotation, analyze_rotation_drift


def pairs_of(rotation: np.ndarray, noise: float = 0.0, seed: int = 0) -> list[PairRotation]:
    rng = np.random.default_rng(seed)
    return [
        PairRotation(k, k + s, float(rotation[k + s] - rotation[k] + noise * rng.standard_normal()), True)
        for s in (1, 2)
        for k in range(len(rotation) - s)
    ]  # fmt: skip


def test_a_planted_drift_is_found_within_its_interval():
    rng = np.random.default_rng(3)
    rotation = 0.12 * np.arange(20) + 0.05 * rng.standard_normal(20)
    drift = analyze_rotation_drift(pairs_of(rotation), dict(enumerate(rotation)))
    low, high = drift.trend_range_deg
    assert drift.has_trend
    assert low < 0.12 < high
    assert drift.trend_deg == pytest.approx(0.12, abs=0.01)
    assert drift.disagreement_deg < 1e-9


def test_independent_rotations_are_no_drift():
    rng = np.random.default_rng(4)
    rotation = 0.1 * rng.standard_normal(20)
    assert not analyze_rotation_drift(pairs_of(rotation), dict(enumerate(rotation))).has_trend


def test_the_slice_that_was_lifted_stands_out():
    rng = np.random.default_rng(5)
    rotation = np.cumsum(0.02 * rng.standard_normal(15))
    rotation[8] += 1.5
    drift = analyze_rotation_drift(pairs_of(rotation), dict(enumerate(rotation)))
    assert drift.outliers == (8, 9)


def test_noise_of_single_pairs_adds_up_and_is_told():
    rotation = np.zeros(30)
    drift = analyze_rotation_drift(pairs_of(rotation, 0.05), dict(enumerate(rotation)))
    assert drift.disagreement_deg > 0.05
    assert 0.02 < drift.closure_deg < 0.2


def test_a_pair_that_was_not_accepted_is_bridged_by_the_solution():
    rotation = np.array([0.0, 0.1, 0.3, 0.2])
    pairs = [p for p in pairs_of(rotation) if (p.fixed, p.moving) != (1, 2)]
    pairs.append(PairRotation(1, 2, 44.0, False))
    drift = analyze_rotation_drift(pairs, dict(enumerate(rotation)))
    assert drift.bridged == (2,)
    assert drift.cumulative_deg == pytest.approx(rotation)


def test_one_slice_or_none_is_no_error():
    assert analyze_rotation_drift([], {4: 1.0}).range_deg == 0.0
    assert analyze_rotation_drift([], {}).slice_ids == ()
