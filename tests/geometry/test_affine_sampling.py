"""Windows through affine maps: a shift alone, which has a kernel of its own, gives what the general kernel gives."""

from __future__ import annotations

import numpy as np
import pytest

from soct.geometry.affine_sampling import sample_affine


@pytest.mark.parametrize(
    "shift",
    [(0, 0), (3, -2), (2.25, 1.5), (-4.6, -0.4), (26.5, 17.3), (-0.5, 29.5), (-60, 0), (0, 35)],
)
def test_a_shift_gives_the_same_by_both_kernels(shift):
    image = np.random.default_rng(0).random((20, 30), np.float32)
    image[7, 9] = np.nan
    matrix = np.array([[1.0, 0.0, shift[0]], [0.0, 1.0, shift[1]]])
    # So little shear that nothing moves, but enough to be no shift.
    sheared = np.array([[1.0, 1e-300, shift[0]], [0.0, 1.0, shift[1]]])
    plain, seen = sample_affine(image, matrix, (18, 33))
    general, also_seen = sample_affine(image, sheared, (18, 33))
    assert seen == also_seen
    np.testing.assert_allclose(plain, general, rtol=1e-5)


def test_half_a_pixel_beyond_the_outer_centres_the_image_goes_on_and_then_ends():
    image = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    for linear in (np.eye(2), np.array([[1, 1e-300], [0, 1]])):
        at = np.column_stack([linear, (-0.5, -0.5)])
        values, seen = sample_affine(image, at, (3, 3), outside=9)
        assert seen == 9
        np.testing.assert_allclose(values, [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]])
        beyond, seen = sample_affine(image, np.column_stack([linear, (-0.51, 0)]), (2, 3), 9)
        assert seen == 4
        np.testing.assert_allclose(beyond, [[9, 1.49, 2], [9, 3.49, 4]], rtol=1e-6)
