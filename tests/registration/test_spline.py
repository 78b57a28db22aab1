import numpy as np
from scipy import ndimage as ndi

from soct.registration.spline import spline_coefficients


def test_coefficients_are_those_of_the_spline_through_the_pixels():
    images = np.random.default_rng(0).standard_normal((2, 25, 33)).astype(np.float32)
    expected = [ndi.spline_filter(plane, 3, output=np.float64, mode="mirror") for plane in images]
    np.testing.assert_allclose(spline_coefficients(images), expected, atol=2e-5)
