"""Smoothing that counts only what is known."""

from __future__ import annotations

import numpy as np
import pytest
from numba import set_num_threads
from scipy import ndimage as ndi

from soct.geometry.smoothing import gaussian_taps, smooth_block

SIGMA = (0.8, 2.0, 1.5)


@pytest.fixture
def block() -> np.ndarray:
    return np.random.default_rng(1).gamma(3.0, 1.0, (9, 14, 11)).astype(np.float32)


def test_a_whole_block_is_smoothed_as_scipy_does(block: np.ndarray) -> None:
    expected = ndi.gaussian_filter(block, SIGMA, mode="nearest", truncate=3)
    found = smooth_block(block, np.ones(block.shape, bool), SIGMA)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_with_gaps_it_is_the_weighted_mean_of_what_is_known(block: np.ndarray) -> None:
    known = np.random.default_rng(2).random(block.shape) > 0.3
    known[:, :8, :6] = False
    weight = ndi.gaussian_filter(known.astype(np.float64), SIGMA, mode="nearest", truncate=3)
    total = ndi.gaussian_filter(
        np.where(known, block, 0.0).astype(np.float64), SIGMA, mode="nearest", truncate=3
    )
    block[~known] = np.nan
    found = smooth_block(block, known, SIGMA)
    sure = weight > 0.0501
    np.testing.assert_allclose(found[sure], (total / np.maximum(weight, 1e-9))[sure], rtol=1e-5)
    assert np.isnan(found[weight < 0.0499]).all()


def test_a_constant_stays_and_threads_do_not_show(block: np.ndarray) -> None:
    known = block > 1.0
    constant = smooth_block(np.full_like(block, 7.0), known, SIGMA)
    np.testing.assert_allclose(constant[np.isfinite(constant)], 7.0, rtol=1e-6)
    set_num_threads(1)
    one = smooth_block(block, known, SIGMA)
    set_num_threads(2)
    np.testing.assert_array_equal(smooth_block(block, known, SIGMA), one)


def test_taps_sum_to_one_and_no_sigma_is_one_tap() -> None:
    assert gaussian_taps(2.0).size == 13
    assert gaussian_taps(2.0).sum() == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(gaussian_taps(0.0), [1.0])
