"""The matcher gives back shifts that were put in, says how sure it is, and leaves its inputs alone."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

import soct.spectral.matcher
from soct.spectral import Image, Matcher
from tests.spectral.scenes import band_limited_pair

SHIFTS = ((2.37, -1.61), (-0.5, 0.25), (7.1, 5.9))


def errors(size, noise=0.0, fit="centroid", shifts=SHIFTS):
    found = []
    for seed, shift in enumerate(shifts):
        first, second = band_limited_pair(seed, 320, shift, noise)
        matcher = Matcher(first, second)
        matcher.setpeakfit(fit)
        p1, p2 = matcher.refine(first.center, second.center, size, iters=4)
        found.append(np.hypot(*(p2 - p1 - shift)))
    return np.array(found)


@pytest.mark.parametrize("size", [192, (160, 192), (151, 203)])
def test_known_shifts_are_found_within_three_hundredths_of_a_pixel(size):
    assert errors(size).max() < 0.03


def test_noise_of_half_the_signal_costs_less_than_a_twelfth_of_a_pixel():
    assert errors(192, noise=0.5).max() < 0.08


def test_the_likelihood_finds_clean_shifts_within_a_thousandth_of_a_pixel():
    assert errors(192, fit="likelihood").max() < 0.001


def test_the_likelihood_is_the_more_exact_in_noise_and_knows_how_exact():
    shifts = [(0.1 * k - 0.8, 0.07 * k) for k in range(16)]
    misses = []
    for seed, shift in enumerate(shifts):
        first, second = band_limited_pair(seed, 224, shift, 0.5)
        matcher = Matcher(first, second)
        matcher.setpeakfit("likelihood")
        p1, p2 = matcher.refine((112, 112), (112, 112), 128, iters=2)
        miss = p2 - p1 - shift
        misses.append(miss @ np.linalg.solve(matcher.covariance, miss))
    # The sum of 32 squares of unit variance is between these in 99.9 % of all cases.
    assert 11 < sum(misses) < 63


def test_points_move_symmetrically_and_keep_their_mean():
    first, second = band_limited_pair(5, 256, (3.0, -2.0))
    matcher = Matcher(first, second)
    p1, p2 = matcher.refine((120.25, 130.5), (122, 128), 128, iters=4)
    np.testing.assert_allclose((p1 + p2) / 2, (121.125, 129.25), atol=1e-9)
    np.testing.assert_allclose(p2 - p1, (3, -2), atol=0.02)


def test_both_images_show_the_same_at_the_points_found():
    first, second = band_limited_pair(6, 256, (4.4, -3.3))
    p1, p2 = Matcher(first, second).refine((128, 128), (128, 128), 160, iters=3)
    a, b = first.straightwindow(p1, 100), second.straightwindow(p2, 100)
    assert a.rmsdelta(b) < 0.3 * a.std()


def test_matching_modifies_neither_images_nor_points():
    first, second = band_limited_pair(7, 200, (1.5, 0.5))
    before = first.copy(), second.copy()
    p1, p2 = np.array([100.0, 100.0]), np.array([100.0, 100.0])
    Matcher(first, second).refine(p1, p2, 128, iters=2)
    assert p1.tolist() == p2.tolist() == [100, 100]
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(second, before[1])


def test_the_last_call_is_told_in_attributes_and_on_request_in_the_result():
    first, second = band_limited_pair(8, 256, (6.0, 2.0))
    matcher = Matcher(first, second, stats=True)
    with pytest.raises(AttributeError, match="refine"):
        _ = matcher.snr
    p1, p2, stats = matcher.refine((128, 128), (128, 128), 128, iters=3)
    assert matcher.niters == stats.niters == 3
    assert len(matcher.shifts) == len(matcher.snrs) == len(matcher.peakwidths) == 3
    np.testing.assert_allclose(matcher.shifts.sum(axis=0), p2 - p1)
    np.testing.assert_array_equal(matcher.shift, stats.shifts[-1])
    assert matcher.snr == stats.snrs[-1] > 30
    assert 0.3 < matcher.peakwidth < 3
    with pytest.raises(AttributeError, match="colour"):
        _ = matcher.colour


def test_iterations_end_once_the_shift_is_within_the_tolerance():
    first, second = band_limited_pair(9, 256, (6.0, 2.0))
    matcher = Matcher(first, second)
    matcher.refine((128, 128), (131, 129), 128, iters=20, tolerance=0.05)
    assert matcher.niters < 6
    assert np.hypot(*matcher.shift) < 0.05


def test_unrelated_images_have_a_far_lower_snr():
    first, second = band_limited_pair(10, 256, (2.0, 2.0), 0.5)
    other, _ = band_limited_pair(11, 256, (0.0, 0.0), 0.5)
    snrs = []
    for image in (second, other):
        matcher = Matcher(first, image)
        matcher.refine((128, 128), (128, 128), 128)
        snrs.append(matcher.snr)
    assert snrs[0] > 3 * snrs[1]


def test_brightness_and_contrast_do_not_matter():
    first, second = band_limited_pair(12, 256, (2.3, 1.1))
    points = [
        Matcher(first, image).refine((128, 128), (128, 128), 128, iters=2)
        for image in (second, 3 * second + 7, 1e6 * second)
    ]
    for found in points[1:]:
        np.testing.assert_allclose(found, points[0], atol=1e-3)


def test_windows_may_reach_beyond_the_edge_and_hold_missing_pixels():
    first, second = band_limited_pair(13, 256, (2.3, -1.2))
    first[100:110, 60:90] = np.nan
    p1, p2 = Matcher(first, second).refine((70, 90), (70, 90), 192, iters=4)
    np.testing.assert_allclose(p2 - p1, (2.3, -1.2), atol=0.1)


def test_without_texture_there_is_no_match_and_points_stay():
    first, _ = band_limited_pair(14, 128, (0.0, 0.0))
    flat = Image(np.full((128, 128), 0.1))
    for pair in ((first, flat), (flat, first), (flat, flat)):
        matcher = Matcher(*pair)
        matcher.setpeakfit("likelihood")
        p1, p2 = matcher.refine((64, 64), (60, 64), 64, iters=3)
        assert (p1.tolist(), p2.tolist()) == ([64, 64], [60, 64])
        assert matcher.snr == 0


def test_a_window_that_shows_nothing_is_named():
    first, second = band_limited_pair(15, 128, (0.0, 0.0))
    with pytest.raises(ValueError, match=r"64 x 64.*\(500, 0\).*image 2.*128 x 128"):
        Matcher(first, second).refine((64, 64), (500, 0), 64)


def test_points_that_wander_off_an_image_stop_there_with_a_warning():
    scene, _ = band_limited_pair(16, 128, (0.0, 0.0))
    # The second window shows 6 columns, which the first has 26 columns away: the next one shows nothing.
    matcher = Matcher(scene, scene[:, :32])
    with pytest.warns(UserWarning, match="shows nothing of image 2"):
        p1, p2 = matcher.refine((12, 64), (-26, 64), 64, iters=8)
    assert matcher.snr == 0
    assert matcher.niters == 2
    assert (p1.tolist(), p2.tolist()) == ([12, 64], [-26, 64])


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda m: m.refine((1, 2, 3), (1, 2), 64), "p1"),
        (lambda m: m.refine((64, 64), (np.nan, 2), 64), "p2"),
        (lambda m: m.refine((64, 64), (64, 64), 4), "at least 8"),
        (lambda m: m.refine((64, 64), (64, 64), 64.5), "size"),
        (lambda m: m.refine((64, 64), (64, 64), 64, iters=0), "iters"),
        (lambda m: m.setpeakradius(0), "radius"),
        (lambda m: m.setprewhiten(0.65), "-1 to 0"),
        (lambda m: m.setpeakfit("parabola"), "likelihood"),
    ],
)
def test_what_cannot_be_done_is_named(call, told):
    matcher = Matcher(np.eye(128), np.eye(128))
    with pytest.raises(ValueError, match=told):
        call(matcher)


def test_files_are_matched_as_arrays_are(tmp_path):
    first, second = band_limited_pair(17, 160, (1.5, 0.5))
    first.save(tmp_path / "a.tif")
    second.save(tmp_path / "b.tif")
    expected = Matcher(first, second).refine((80, 80), (80, 80), 96)
    found = Matcher(tmp_path / "a.tif", str(tmp_path / "b.tif")).refine((80, 80), (80, 80), 96)
    np.testing.assert_array_equal(found, expected)


def test_the_example_in_the_docstring_is_true():
    assert doctest.testmod(soct.spectral.matcher, extraglobs={"np": np}).failed == 0


def test_two_tiles_are_matched_and_cut_as_the_documented_flow_does():
    """The README's first flow: two overlapping tiles, rigid."""
    scene, _ = band_limited_pair(18, 400, (0.0, 0.0))
    tile1, tile2 = scene.roi((0, 20, 280, 360)), scene.roi((150.4, 13.25, 240, 360))
    # The right part of tile 1 is the left part of tile 2.
    p1, p2 = (215.0, 180.0), (65.0, 180.0)
    matcher = Matcher(tile1, tile2)
    p1, p2 = matcher.refine(p1, p2, (112, 256), iters=3, tolerance=0.1)
    p1, p2 = matcher.refine(p1, p2, (112, 256), iters=3)
    np.testing.assert_allclose(p1 - p2, (150.4, -6.75), atol=0.05)
    assert matcher.snr > 20
    left = tile1.straightwindow(p1, (100, 200))
    right = tile2.straightwindow(p2, (100, 200))
    assert left.rmsdelta(right) < 0.3 * left.std()
