import math

import numpy as np
import pytest
import SimpleITK as sitk

from soct.registration.transforms import (
    RigidTransform2D,
    affine_from_matrix,
    rigid_from_euler,
    rigid_from_matrix,
)

POINTS = np.array([[0.0, 0.0], [10.0, -3.0], [4.5, 20.0]])
TURNED = RigidTransform2D(12.0, (3.0, -5.0), (7.0, 9.0))


def test_a_shift_is_where_the_moving_origin_lands_in_the_fixed_image():
    t = RigidTransform2D(shift=(3.0, -5.0))
    assert np.allclose(t.apply([3.0, -5.0]), [0.0, 0.0])


def test_the_centre_of_the_moving_image_lands_at_centre_plus_shift():
    assert np.allclose(TURNED.apply([10.0, 4.0]), TURNED.centre)


def test_a_positive_angle_turns_from_x_towards_y():
    assert np.allclose(RigidTransform2D(90.0).apply([0.0, 1.0]), [1.0, 0.0])


def test_the_inverse_undoes_the_transform():
    assert np.allclose(TURNED.inverse().apply(TURNED.apply(POINTS)), POINTS)


def test_composition_applies_the_inner_transform_first():
    inner = RigidTransform2D(-4.0, (1.0, 2.0), (50.0, -6.0))
    both = TURNED.compose(inner)
    assert np.allclose(both.apply(POINTS), TURNED.apply(inner.apply(POINTS)))


def test_another_centre_describes_the_same_mapping():
    moved = TURNED.about((-30.0, 100.0))
    assert moved.centre == (-30.0, 100.0)
    assert np.allclose(moved.apply(POINTS), TURNED.apply(POINTS))


def test_matrix_and_apply_agree():
    homogeneous = np.column_stack([POINTS, np.ones(3)])
    assert np.allclose((homogeneous @ TURNED.matrix().T)[:, :2], TURNED.apply(POINTS))
    assert np.allclose(rigid_from_matrix(TURNED.matrix(), TURNED.centre).shift, TURNED.shift)


def test_simpleitk_maps_points_alike():
    angle, (ty, tx), (cy, cx) = TURNED.euler_parameters()
    e = sitk.Euler2DTransform((cx, cy), angle, (tx, ty))
    for y, x in POINTS:
        qx, qy = e.TransformPoint((x, y))
        assert np.allclose(TURNED.apply([y, x]), [qy, qx])
    back = rigid_from_euler(angle, (ty, tx), (cy, cx))
    assert back.shift == pytest.approx(TURNED.shift)
    assert back.rotation_deg == pytest.approx(TURNED.rotation_deg)


def test_an_affine_transform_inverts_and_knows_its_rotation():
    affine = affine_from_matrix(TURNED.matrix(), (1.0, 2.0))
    assert affine.rotation_deg == pytest.approx(12.0)
    assert np.allclose(affine.inverse().apply(affine.apply(POINTS)), POINTS)
    assert np.allclose(affine.about((0.0, 5.0)).apply(POINTS), TURNED.apply(POINTS))
    assert math.isclose(np.linalg.det(np.array(affine.linear)), 1.0)
