"""Ellipses and their closed-form projections."""

import numpy as np

from soct.simulate.ellipses import Ellipse, draw, shepp_logan, sinogram


def test_an_ellipse_is_drawn_where_it_lies_with_its_area():
    e = Ellipse(2.0, -11.5, 22.25, 5.0, 3.0, 0.4)
    image = draw([e], 128, parts=32)
    assert abs(image.sum() / (2.0 * np.pi * 15.0) - 1) < 4e-4
    at = np.arange(128) - 64
    assert abs((image.sum(axis=0) * at).sum() / image.sum() - e.x) < 0.01
    assert abs((image.sum(axis=1) * at).sum() / image.sum() - e.y) < 0.01


def test_closed_forms_agree_with_each_other_and_with_the_drawing():
    head = shepp_logan(128)
    sums = sinogram(head, [0.0], 128)
    np.testing.assert_allclose(sums[:, 0], draw(head, 128, parts=32).sum(axis=0), atol=0.05)
    fine = 1e-4
    theta = np.linspace(0, 3, 7)
    for width in (0.0, 1.0):
        there = sinogram(head, theta, 128, width=width, axis=64 - fine)
        back = sinogram(head, theta, 128, width=width, axis=64 + fine)
        slopes = sinogram(head, theta, 128, width=width, derivative=True)
        numeric = (there - back) / (2 * fine)
        assert np.median(np.abs(slopes - numeric)) < 1e-6
        assert np.mean(np.abs(slopes - numeric) < 1e-2) > 0.98
