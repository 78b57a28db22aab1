"""Quality measures against cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from soct.quality.metrics import (
    masked_ncc,
    measure_banding,
    measure_seam,
    measure_sharpness,
)


@pytest.fixture
def texture() -> np.ndarray:
    return np.random.default_rng(1).gamma(9.0, 1.0, (40, 12))


def test_equal_overlaps_have_no_seam(texture):
    seam = measure_seam(texture, texture)
    assert (seam.l1, seam.pearson, seam.step_percent) == (0.0, pytest.approx(1.0), 0.0)


def test_a_brightness_step_is_measured_in_percent(texture):
    seam = measure_seam(texture, 1.1 * texture)
    assert seam.step_percent == pytest.approx(100 * 0.1 / 1.05, rel=1e-6)
    assert seam.l1 == pytest.approx(0.1 / 1.05, rel=1e-6)
    assert seam.pearson == pytest.approx(1.0)


def test_no_data_does_not_vote(texture):
    other = texture.copy()
    other[:5] = np.nan
    mask = np.ones(texture.shape, bool)
    mask[-5:] = False
    other[-5:] = 1e9
    seam = measure_seam(texture, other, mask)
    assert seam.l1 == 0.0
    assert seam.samples == 30 * 12


def test_too_small_an_overlap_gives_no_number():
    assert np.isnan(measure_seam(np.ones((2, 2)), np.ones((2, 2))).l1)
    assert np.isnan(measure_seam(np.zeros((9, 9)), np.zeros((9, 9))).l1)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        measure_seam(np.ones((2, 2)), np.ones((2, 3)))


def test_ncc_ignores_gain_and_offset(texture):
    assert masked_ncc(texture, 3 * texture + 7) == pytest.approx(1.0)
    assert masked_ncc(texture, -texture) == pytest.approx(-1.0)
    assert np.isnan(masked_ncc(texture, np.ones_like(texture)))


@pytest.mark.parametrize("step", [0.02, 0.05, 0.2])
def test_a_gain_step_at_every_slice_is_the_banding_index(step):
    starts = np.arange(0, 400, 20)
    gain = np.where(np.arange(400) // 20 % 2, 1 + step, 1.0)
    assert measure_banding(100 * gain, starts) == pytest.approx(np.log1p(step), abs=1e-9)


def test_a_smooth_anatomical_trend_is_no_banding():
    z = np.arange(400)
    assert measure_banding(100 + 40 * np.sin(z / 60), np.arange(0, 400, 20)) < 0.004


def test_a_saw_tooth_from_attenuation_is_banding():
    z = np.arange(400)
    assert measure_banding(np.exp(-0.01 * (z % 20)), np.arange(0, 400, 20)) > 0.08


def test_noise_between_planes_is_not_banding():
    noise = np.random.default_rng(3).normal(1.0, 0.05, 2000)
    assert measure_banding(noise, np.arange(0, 2000, 20)) < 0.02


def test_banding_needs_two_slices_and_ignores_empty_planes():
    assert np.isnan(measure_banding(np.ones(50), [0]))
    brightness = np.ones(100)
    brightness[40:60] = np.nan
    assert measure_banding(brightness, np.arange(0, 100, 20)) == 0.0
    assert np.isnan(measure_banding(np.ones(100), [0, 50], valid_fraction=np.zeros(100)))


def test_blur_lowers_sharpness_and_gain_does_not(texture):
    image = np.random.default_rng(2).gamma(9.0, 1.0, (64, 64))
    sharp = measure_sharpness(image)
    assert measure_sharpness(5 * image) == pytest.approx(sharp)
    blurred = (image + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / 3
    assert measure_sharpness(blurred) < sharp
    assert np.isnan(measure_sharpness(np.full((8, 8), np.nan)))
