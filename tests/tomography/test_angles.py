"""Angles in either unit become radians, and every projection counts as much as the angle that it stands for."""

import doctest

import numpy as np
import pytest

import soct.tomography.angles
from soct.tomography.angles import angular_weights, covers_full_turn, radians


@pytest.mark.parametrize("turn", [180.0, 360.0])
@pytest.mark.parametrize("endpoint", [False, True])
def test_degrees_and_radians_are_told_apart_by_their_span(turn, endpoint):
    degrees = np.linspace(0, turn, 181, endpoint=endpoint)
    np.testing.assert_allclose(radians(degrees), np.deg2rad(degrees))
    np.testing.assert_allclose(radians(np.deg2rad(degrees)), np.deg2rad(degrees))


def test_the_unit_can_be_said():
    np.testing.assert_allclose(radians([0, 2, 4], "deg"), np.deg2rad([0, 2, 4]))
    np.testing.assert_allclose(radians([0, 6, 12], "rad"), [0, 6, 12])


def test_angles_keep_their_order_and_are_a_copy():
    theta = np.array([2.0, 0.5, 1.0])
    found = radians(theta)
    assert found.tolist() == [2.0, 0.5, 1.0]
    found[0] = 9
    assert theta[0] == 2.0


@pytest.mark.parametrize(
    ("theta", "unit", "count", "said"),
    [
        ([0, np.nan, 2], "auto", None, "angle 1 is nan"),
        ([0, 1, 2], "auto", 4, "4 projections, 3 angles"),
        ([[0, 1], [2, 3]], "auto", None, r"shape \(2, 2\)"),
        ([], "auto", None, r"shape \(0,\)"),
        ([0, 1], "grad", None, "not 'grad'"),
    ],
)
def test_wrong_angles_are_refused_with_what_was_found(theta, unit, count, said):
    with pytest.raises(ValueError, match=said):
        radians(theta, unit, count)


def test_evenly_spaced_angles_weigh_the_same_whatever_the_turn():
    for turn, n in ((np.pi, 180), (2 * np.pi, 180), (2 * np.pi, 181), (4 * np.pi, 90)):
        weights = angular_weights(np.arange(n) * turn / n)
        np.testing.assert_allclose(weights, np.pi / n)


def test_both_ends_of_a_half_turn_share_one_weight():
    weights = angular_weights(np.linspace(0, np.pi, 181))
    np.testing.assert_allclose(weights[1:-1], np.pi / 180)
    np.testing.assert_allclose(weights[[0, -1]], np.pi / 360)


def test_uneven_unsorted_angles_weigh_as_the_angle_between_their_neighbours():
    theta = np.deg2rad([90, 0, 10, 30, 120, 150, 60])
    np.testing.assert_allclose(np.rad2deg(angular_weights(theta)), [30, 20, 15, 25, 30, 30, 30])


def test_any_angles_share_out_the_half_turn():
    theta = np.arange(300) * np.pi * (np.sqrt(5) - 1) / 2
    weights = angular_weights(theta)
    assert weights.sum() == pytest.approx(np.pi)
    assert weights.max() / weights.min() < 3


def test_weights_integrate_a_smooth_function_of_uneven_angles():
    rng = np.random.default_rng(3)
    theta = np.sort(np.arange(120) * np.pi / 120 + rng.uniform(-0.01, 0.01, 120))
    integral = (angular_weights(theta) * np.cos(theta) ** 2).sum()
    assert integral == pytest.approx(np.pi / 2, rel=1e-3)


def test_a_missing_wedge_is_not_given_to_the_projections_beside_it():
    theta = np.deg2rad(np.arange(0, 120.0))
    np.testing.assert_allclose(angular_weights(theta), np.pi / 180, rtol=0.3)
    assert angular_weights(theta).sum() < np.deg2rad(121)


def test_sparse_angles_beside_dense_ones_are_no_missing_wedge():
    theta = np.deg2rad(np.concatenate([np.arange(0, 90, 0.5), np.arange(90, 180, 6)]))
    assert angular_weights(theta).sum() == pytest.approx(np.pi)


def test_one_projection_stands_for_all():
    assert angular_weights(np.array([1.0])) == pytest.approx([np.pi])


def test_a_full_turn_is_told_from_half_a_turn():
    assert covers_full_turn(np.deg2rad(np.arange(0, 360, 2.0)))
    assert covers_full_turn(np.deg2rad([0, 90, 180, 270]))
    assert not covers_full_turn(np.deg2rad(np.arange(0, 190, 1.0)))
    assert not covers_full_turn(np.deg2rad(np.arange(0, 290, 1.0)))


def test_the_examples_hold():
    assert doctest.testmod(soct.tomography.angles).failed == 0
