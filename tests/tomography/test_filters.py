"""Filters along the detector."""

import numpy as np
import pytest

from soct.simulate.ellipses import Ellipse, sinogram
from soct.tomography.filters import (
    FILTERS,
    filter_name,
    filter_sinogram,
    integrate_derivatives,
    low_pass,
)


def test_filtered_projections_are_the_sum_with_the_ramp_in_space():
    p = np.random.default_rng(0).random((20, 3))
    q = filter_sinogram(p)
    n = np.arange(20)[:, None] - np.arange(20)[None]
    odd = n % 2 != 0
    ramp = np.where(odd, -1 / (np.pi * np.where(odd, n, 1)) ** 2, 0) + 0.25 * (n == 0)
    np.testing.assert_allclose(q, ramp @ p, atol=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("ram-lak", "ramp")] + [(f, f) for f in FILTERS[1:5]])
def test_windows_are_those_of_scikit_image(ours, theirs):
    from skimage.transform import iradon

    from soct.tomography.radon import back_project

    theta = np.arange(40) * np.pi / 40
    sino = sinogram([Ellipse(1, 5, -8, 20, 11, 0.4)], theta, 96)
    filtered = filter_sinogram(sino, filtertype=ours) * np.pi / 40
    slice_ = back_project(filtered, theta, radius=48, interpolation="linear")
    other = iradon(sino, np.rad2deg(theta), filter_name=theirs)
    # scikit-image samples its windows half a step off (hamming, hann).
    assert np.abs(slice_ - other).max() < 0.02


def test_a_derivative_sinogram_filters_to_the_same_projections():
    theta = np.linspace(0, np.pi, 9)
    smooth = np.exp(-0.5 * ((np.arange(200)[:, None] - 100 - 20 * np.cos(theta)) / 8) ** 2)
    slopes = -smooth * (np.arange(200)[:, None] - 100 - 20 * np.cos(theta)) / 64
    for name in FILTERS[:-1]:
        for cutoff in (1.0, 0.4):
            a = filter_sinogram(smooth, filtertype=name, freqcutoff=cutoff)
            b = filter_sinogram(slopes, filtertype=name, freqcutoff=cutoff, derivatives=True)
            np.testing.assert_allclose(a, b, atol=1e-4 * np.abs(a).max())
    np.testing.assert_allclose(integrate_derivatives(slopes), smooth, atol=2e-3)
    unfiltered = filter_sinogram(slopes, filtertype="none", derivatives=True)
    np.testing.assert_allclose(unfiltered, smooth, atol=2e-3)


def test_the_low_pass_acts_along_the_detector_and_keeps_what_is_slow():
    t = np.arange(256)[:, None]
    slow = np.exp(-0.5 * ((t - 128) / 30) ** 2) * np.ones(6)
    fast = slow * np.cos(np.pi * 0.6 * t)
    # Neighbouring projections may differ as they like: nothing is mixed across angles.
    mixed = (slow + fast) * np.array([1, -3, 2, 0, 5, 1.0])
    np.testing.assert_allclose(
        low_pass(mixed, 0.3), slow * np.array([1, -3, 2, 0, 5, 1.0]), atol=1e-2
    )
    np.testing.assert_allclose(low_pass(mixed.T, 0.3, axis=-1), low_pass(mixed, 0.3).T, atol=1e-12)
    assert low_pass(mixed, 1.0) is mixed
    q = filter_sinogram(mixed, filtertype="none", freqcutoff=0.3)
    np.testing.assert_allclose(q, slow * np.array([1, -3, 2, 0, 5, 1.0]), atol=2e-2)


def test_names_are_understood_and_unknown_ones_refused():
    assert filter_name("Ramp") == "ram-lak"
    assert filter_name("Ram-Lak") == "ram-lak"
    assert filter_name("shepp_logan") == "shepp-logan"
    assert filter_name(None) == "none"
    with pytest.raises(ValueError, match="did you mean 'hamming'"):
        filter_name("haming")
    for cutoff in (0.0, 1.5, np.nan):
        with pytest.raises(ValueError, match="Nyquist"):
            filter_sinogram(np.zeros((8, 2)), freqcutoff=cutoff)


def test_single_precision_is_kept_where_it_holds_all_values():
    assert filter_sinogram(np.zeros((8, 2), np.float32)).dtype == np.float32
    assert low_pass(np.zeros((8, 2), np.float32), 0.5).dtype == np.float32
    assert filter_sinogram(np.zeros((8, 2), np.uint16)).dtype == np.float32
    assert filter_sinogram(np.zeros((8, 2), np.int32)).dtype == np.float64
