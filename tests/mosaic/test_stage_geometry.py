"""The angle and scale between stage and camera come out as they were put in."""

from __future__ import annotations

import numpy as np
import pytest

from soct.mosaic.stage_geometry import largest_group, measure_stage_geometry, pool_slices
from soct.registration.transforms import rotation_matrix


def grid(rows: int, cols: int, pitch: float = 100.0) -> np.ndarray:
    return pitch * np.array([(r, c) for r in range(rows) for c in range(cols)], float)


def test_rotation_shear_and_scale_are_found_exactly_without_noise():
    nominal = grid(4, 5)
    shear = np.array([[1.0, np.tan(np.radians(0.3))], [0.0, 1.0]])
    matrix = rotation_matrix(0.8) @ shear @ np.diag([1.01, 0.99])
    found = measure_stage_geometry(nominal, nominal @ matrix.T + (7.0, -3.0))
    y, x = found.axis_angles_deg
    assert y == pytest.approx(0.8, abs=1e-6)
    assert x - y == pytest.approx(found.shear_deg)
    assert abs(found.shear_deg) == pytest.approx(0.3, abs=0.01)
    assert found.scale[0] == pytest.approx(1.01, abs=1e-6)
    assert found.scatter_px == pytest.approx(0.0, abs=1e-6)


def test_the_standard_errors_cover_the_truth_nineteen_times_in_twenty():
    nominal = grid(5, 5)
    inside = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        positions = nominal @ rotation_matrix(1.0).T + 0.8 * rng.standard_normal(nominal.shape)
        found = measure_stage_geometry(nominal, positions)
        inside.append(abs(found.rotation_deg - 1.0) < 2 * found.rotation_error_deg)
    assert 0.88 < np.mean(inside) < 0.99


def test_a_few_wrong_tiles_do_not_turn_the_answer():
    nominal = grid(5, 5)
    positions = nominal @ rotation_matrix(1.0).T
    positions[[3, 17]] += (25.0, -40.0)
    assert measure_stage_geometry(nominal, positions).rotation_deg == pytest.approx(1.0, abs=1e-3)


def test_a_single_row_tells_one_axis_and_a_single_tile_none():
    nominal = grid(1, 4)
    found = measure_stage_geometry(nominal, nominal @ (1.02 * rotation_matrix(-0.5)).T)
    assert found.rotation_deg == pytest.approx(-0.5)
    assert found.scale[1] == pytest.approx(1.02)
    assert np.isnan(found.scale[0])
    assert np.isnan(found.shear_deg)
    alone = measure_stage_geometry(nominal[:1], nominal[:1])
    assert np.isnan(alone.rotation_deg)


def test_what_a_rotation_costs_at_the_corners_is_its_angle_times_half_the_diagonal():
    nominal = grid(3, 3)
    found = measure_stage_geometry(nominal, nominal @ rotation_matrix(1.0).T)
    assert found.corner_error_px((600.0, 800.0)) == pytest.approx(500 * np.radians(1), rel=1e-3)


def test_only_tiles_of_the_largest_joined_group_count():
    pairs = np.array([(0, 1), (1, 2), (3, 4)])
    used = largest_group(6, pairs, np.array([True, True, True]))
    assert used.tolist() == [True, True, True, False, False, False]
    assert not largest_group(6, pairs, np.zeros(3, bool)).any()


def test_slices_that_differ_by_more_than_their_errors_are_told_from_those_that_do_not():
    errors = np.full(8, 0.1)
    rng = np.random.default_rng(0)
    steady = pool_slices(1.0 + 0.1 * rng.standard_normal(8), errors)
    loose = pool_slices(1.0 + 0.8 * rng.standard_normal(8), errors)
    assert steady.is_stable
    assert steady.is_significant
    assert not loose.is_stable
    assert pool_slices(np.array([np.nan]), np.array([np.nan])).n == 0
