"""The centre of mass and the mass per row of ellipsoids, which are known in closed form."""

import numpy as np
import pytest

from soct.tomography import center_of_mass_stack, compute_aligned_stack, vertical_fluctuations
from tests.tomography.ellipsoids import HEAD, grains, project

ANGLES = np.arange(6) * np.pi / 6
SHIFTS = np.array([[0, 1.5, -2, 3.25, 0.4, -1], [0, -0.5, 4, 0, -3.3, 2]])
BALL = ((1.0, 0.3, 0.4, 0.5, 0.2, -0.1, 0.15, 30),)


def test_the_centre_of_an_ellipsoid_lies_where_it_turns():
    stack = project(BALL, ANGLES, (80, 96), size=(40, 40))
    found = center_of_mass_stack(stack, None, np.zeros((2, 6)))
    np.testing.assert_allclose(found[0], 40 + 0.15 * 40, atol=0.01)
    np.testing.assert_allclose(
        found[1], 48 + 40 * (0.2 * np.cos(ANGLES) - 0.1 * np.sin(ANGLES)), atol=0.02
    )


@pytest.mark.parametrize("method", ["linear", "fourier", "spline"])
def test_shifts_move_the_centre_back(method):
    displaced = project(BALL, ANGLES, (80, 96), SHIFTS, size=(40, 40))
    still = project(BALL, ANGLES, (80, 96), size=(40, 40))
    np.testing.assert_allclose(
        center_of_mass_stack(displaced, None, SHIFTS, method),
        center_of_mass_stack(still, None, np.zeros((2, 6))),
        atol=0.02,
    )


def test_the_centre_within_limits_is_that_of_the_shifted_projection_there():
    stack = project(HEAD, ANGLES, (64, 72), SHIFTS, size=(30, 30))
    lims = ((20, 50), (15, 60))
    aligned = compute_aligned_stack(stack, SHIFTS)[:, 20:50, 15:60]
    mass = aligned.sum(axis=(1, 2))
    expected = [
        (aligned.sum(2) @ np.arange(20, 50)) / mass,
        (aligned.sum(1) @ np.arange(15, 60)) / mass,
    ]
    np.testing.assert_allclose(center_of_mass_stack(stack, lims, SHIFTS), expected, atol=0.02)


@pytest.mark.parametrize("method", ["linear", "fourier", "spline"])
def test_fluctuations_are_the_sums_of_the_shifted_projections(method):
    stack = project(grains(8), ANGLES, (64, 72), SHIFTS, size=(30, 30))
    found = vertical_fluctuations(stack, (10, 50), SHIFTS, shift_method=method, polyorder=0)
    vertical = SHIFTS * [[1], [0]]
    aligned = compute_aligned_stack(stack.astype(float), vertical, method)
    sums = aligned[:, 10:50].sum(axis=2)
    np.testing.assert_allclose(found, sums - sums.mean(axis=1, keepdims=True), atol=1e-2)
    assert found.shape == (6, 40)


@pytest.mark.parametrize("order", [0, 1, 2, 4])
def test_polynomials_up_to_the_order_leave_nothing(order):
    y = np.arange(30.0)
    stack = np.zeros((2, 30, 5))
    stack[0] += sum((y[:, None] / 30) ** k for k in range(order + 1))
    stack[1] += (y[:, None] / 30) ** (order + 1)
    found = vertical_fluctuations(stack, None, np.zeros((2, 2)), polyorder=order)
    np.testing.assert_allclose(found[0], 0, atol=1e-11)
    assert np.abs(found[1]).max() > 1e-3


def test_aligned_projections_fluctuate_alike_and_displaced_ones_do_not():
    stack = project(grains(12), ANGLES, (80, 96), SHIFTS, size=(45, 45), fine=2)
    apart = vertical_fluctuations(stack, None, np.zeros((2, 6)))
    together = vertical_fluctuations(stack, None, SHIFTS)
    assert np.ptp(together, axis=0).max() < 0.05 * np.ptp(apart, axis=0).max()


@pytest.mark.parametrize(
    ("lims", "said"),
    [
        ((5, 90), "rows must rise within 0 to 64, not 5 to 90"),
        ((9, 9), "not 9 to 9"),
        (((0, 64), (-1, 9)), "columns must rise within 0 to 72, not -1 to 9"),
        ((1.5, 9), "in whole pixels"),
        ("all", "not 'all'"),
    ],
)
def test_limits_beyond_the_projection_are_refused(lims, said):
    with pytest.raises(ValueError, match=said):
        center_of_mass_stack(np.ones((2, 64, 72)), lims, np.zeros((2, 2)))


def test_projections_without_mass_or_with_complex_values_are_refused():
    with pytest.raises(ValueError, match="Projection 1 has no centre of mass"):
        center_of_mass_stack(np.ones((2, 8, 8)) * [[[1]], [[0]]], None, np.zeros((2, 2)))
    with pytest.raises(ValueError, match="give the phase"):
        vertical_fluctuations(np.ones((2, 8, 8), complex), None, np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"polyorder .* not -1"):
        vertical_fluctuations(np.ones((2, 8, 8)), None, np.zeros((2, 2)), polyorder=-1)
