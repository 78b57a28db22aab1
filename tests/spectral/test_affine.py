"""Affine maps: known answers, and errors that name the map."""

from __future__ import annotations

import numpy as np
import pytest

from soct.spectral import Affine, Image

TURN = Affine.rotator(0.3, (5.0, 7.0))
SHEAR = Affine([[1.2, 0.1, 3.0], [-0.05, 0.9, -4.0]])


def test_a_map_takes_one_point_and_many_points():
    shift = Affine.translator((2, -1))
    assert (shift * (3, 4)).tolist() == [5, 3]
    assert (shift * [(0, 0), (1, 1)]).tolist() == [[2, -1], [3, 0]]
    assert (shift * np.empty((0, 2))).shape == (0, 2)


def test_a_quarter_turn_takes_x_to_y_about_its_centre():
    turn = Affine.rotator(np.pi / 2, (1, 1))
    np.testing.assert_allclose(turn * [(2, 1), (1, 1)], [(1, 2), (1, 1)], atol=1e-12)
    assert turn.angle() == pytest.approx(np.pi / 2)


def test_scaling_leaves_its_centre():
    np.testing.assert_allclose(Affine.scaler(3, (2, 1)) * [(2, 1), (3, 1)], [(2, 1), (5, 1)])
    np.testing.assert_allclose(Affine.scaler((2, 4)) * (1, 1), (2, 4))


def test_a_product_of_maps_does_the_right_one_first():
    point = (1.5, -2.5)
    np.testing.assert_allclose((TURN @ SHEAR) * point, TURN * (SHEAR * point))


def test_a_map_and_its_inverse_cancel():
    np.testing.assert_allclose((SHEAR @ SHEAR.inverse()).matrix, np.eye(2, 3), atol=1e-12)
    undone = Affine(SHEAR)
    undone.invert()
    assert undone == SHEAR.inverse()
    assert undone != SHEAR


def test_shifting_in_place_and_in_a_copy_give_the_same():
    moved = Affine(TURN)
    moved.shift((1, 2))
    assert moved == TURN.shifted((1, 2))
    np.testing.assert_allclose(moved * (0, 0), np.add(TURN * (0, 0), (1, 2)))
    np.testing.assert_allclose(moved.translation(), TURN.shifted((1, 2)) * (0, 0))


def test_a_rotation_tells_its_angle_and_centre():
    for phi in (-3.0, -0.4, 1e-6, 2.2):
        turn = Affine.rotator(phi, (30.0, -20.0))
        assert turn.angle() == pytest.approx(phi, abs=1e-12)
        assert turn.angle(refine=True) == pytest.approx(phi, abs=1e-12)
        if abs(phi) > 0.1:
            np.testing.assert_allclose(turn.centerofrotation(), (30, -20), atol=1e-9)
    assert (Affine.scaler(1.7) @ TURN).magnification() == pytest.approx(1.7)


def test_the_refined_angle_is_that_of_the_polar_decomposition():
    u, _, vt = np.linalg.svd(SHEAR.matrix[:, :2])
    rotation = u @ vt
    expected = np.arctan2(rotation[1, 0], rotation[0, 0])
    assert SHEAR.angle(refine=True) == pytest.approx(expected, abs=1e-12)
    assert SHEAR.angle() == pytest.approx(expected, abs=0.02)


def test_a_map_shares_no_memory_with_anything():
    given = np.eye(2, 3)
    made = Affine(given)
    given[:] = 7
    np.asarray(made)[:] = 5
    assert made == Affine()
    with pytest.raises(ValueError, match="read-only"):
        made.matrix[0, 0] = 2
    assert np.array(made).shape == made.shape
    assert made[0, 0] == 1


@pytest.mark.parametrize("linear", [np.zeros((2, 2)), [[1, 2], [2, 4]]])
def test_a_degenerate_map_is_named_when_it_is_inverted(linear):
    flat = Affine(linear)
    for ask in (flat.inverse, flat.invert, flat.angle):
        with pytest.raises(ValueError, match=r"degenerate.*Affine\(\[\["):
            ask()


def test_tiny_scales_are_not_degenerate():
    small = Affine.scaler(1e-9)
    np.testing.assert_allclose(small.inverse() * (small * (3, 4)), (3, 4))


def test_questions_without_an_answer_are_errors():
    with pytest.raises(ValueError, match="no centre of rotation"):
        Affine.translator((1, 1)).centerofrotation()
    with pytest.raises(ValueError, match="mirrors"):
        Affine.scaler((1, -1)).angle()
    with pytest.raises(ValueError, match="shape"):
        Affine(np.eye(4))
    with pytest.raises(ValueError, match="finite"):
        Affine([[1, 0, np.nan], [0, 1, 0]])
    with pytest.raises(ValueError, match="point"):
        Affine.translator((1, 2, 3))
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        _ = TURN * np.zeros((2, 3))
    with pytest.raises(TypeError, match="@"):
        _ = TURN * TURN
    with pytest.raises(TypeError):
        _ = np.zeros((3, 2)) * TURN


def test_an_image_shows_at_the_mapped_point_what_it_showed_before():
    yy, xx = np.mgrid[:60, :80] + 0.5
    field = Image(0.01 * xx + 0.02 * yy)
    turned = SHEAR.apply(field)
    points = SHEAR.inverse() * np.stack(
        [xx[20:40, 30:50].ravel(), yy[20:40, 30:50].ravel()], axis=1
    )
    expected = 0.01 * points[:, 0] + 0.02 * points[:, 1]
    np.testing.assert_allclose(turned[20:40, 30:50].ravel(), expected, atol=1e-5)


def test_a_rectangle_asks_for_a_part_of_the_transformed_image():
    field = Image(np.arange(48.0).reshape(6, 8))
    moved = Affine.translator((10, 20)).apply(field, (8, 19, 5, 4))
    assert moved.shape == (4, 5)
    assert moved[1, 2] == field[0, 0]
    assert moved[0, 0] == 0
    with pytest.raises(ValueError, match="rect"):
        TURN.apply(field, (0, 0, 2.5, 3))
