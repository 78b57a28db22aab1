"""Gains along a stack come from tissue seen twice and from agarose, and their errors do not add up."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.intensity.depth_profiles import DepthProfile
from soct.intensity.slice_gains import (
    CutTissue,
    OverlapRatio,
    common_decay,
    measure_agarose_level,
    measure_cut_decay,
    refine_log_gains,
)

DECAY, CUT = 0.009, 20.0


def wiggle(error: np.ndarray) -> float:
    at = np.arange(len(error))
    return float(np.std(error - np.polyval(np.polyfit(at, error, 1), at)))


def stack(
    n: int = 60, decay: float = DECAY, seed: int = 3
) -> tuple[np.ndarray, list[OverlapRatio]]:
    """True gains, and ratios biased by tissue whose brightness waxes and wanes along the stack."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 0.15, n)
    bright = np.exp(0.2 * np.sin(2 * np.pi * np.arange(n) / 40))
    bright /= bright.mean()
    ratios = [
        OverlapRatio(
            i,
            i + 1,
            true[i] - true[i + 1] - decay * CUT * (bright[i] - 1) + rng.normal(0, 0.004),
            0.006,
            CutTissue(500 * bright[i] * np.exp(true[i]), CUT, decay * bright[i]),
        )
        for i in range(n - 1)
    ]
    return true - true.mean(), ratios


def plain(ratios: list[OverlapRatio]) -> list[OverlapRatio]:
    return [OverlapRatio(r.first, r.second, r.log_ratio, r.sigma) for r in ratios]


def test_single_gains_are_corrected_and_the_course_over_the_stack_is_left() -> None:
    rng = np.random.default_rng(4)
    true = rng.normal(0, 0.15, 12)
    wrong = true + rng.normal(0, 0.04, 12)
    position = np.arange(12) * 20.0
    bias = 0.03  # an error of the depth sensitivity's slope: the same in all pairs, per slice apart
    ratios = [
        OverlapRatio(i, i + k, true[i] - true[i + k] + bias * k + rng.normal(0, 0.004), 0.006)
        for k in (1, 2)
        for i in range(12 - k)
    ]
    found = refine_log_gains(wrong, position, ratios)
    assert wiggle(found - true) < 0.01
    assert wiggle(wrong - true) > 0.02
    slope = np.polyfit(np.arange(12), found - wrong, 1)[0]
    assert abs(slope) < 0.01
    np.testing.assert_array_equal(refine_log_gains(wrong, position, []), wrong)


def test_bright_tissue_that_attenuates_more_makes_no_waves_of_gain() -> None:
    true, ratios = stack()
    start = true + np.random.default_rng(5).normal(0, 0.05, len(true))
    position = np.arange(len(true)) * 20.0
    assert common_decay(ratios, start) == pytest.approx(DECAY, rel=0.1)
    assert wiggle(refine_log_gains(start, position, plain(ratios)) - true) > 0.08
    assert wiggle(refine_log_gains(start, position, ratios) - true) < 0.02


def test_agarose_holds_the_ends_of_the_stack_even_where_tissue_passed_for_it() -> None:
    true, ratios = stack()
    n = len(true)
    start = true + 0.6 * np.linspace(-1, 1, n) ** 2
    level, sigma = np.full(n, np.nan), np.full(n, np.inf)
    for k in (0, 1, 2, 3, 56, 57, 58, 59):
        level[k], sigma[k] = 3.2 + true[k], 0.02
    level[30], sigma[30] = 3.5 + true[30], 0.03
    found = refine_log_gains(start, np.arange(n) * 20.0, ratios, agarose=(level, sigma))
    assert np.std(found - true) < 0.03


def test_the_decay_is_read_from_tissue_of_unequal_brightness() -> None:
    rng = np.random.default_rng(0)
    cut = 500 * np.exp(0.25 * ndi.gaussian_filter(rng.standard_normal((90, 90)), 6) * 20)
    tissue = 500 * np.exp(0.2 * ndi.gaussian_filter(rng.standard_normal((90, 90)), 6) * 20)
    lower = tissue * rng.gamma(20, 1 / 20, tissue.shape)
    fade = np.exp(-DECAY * CUT * (cut / cut.mean() - 1))
    upper = 1.4 * tissue * fade * rng.gamma(20, 1 / 20, tissue.shape)
    assert measure_cut_decay(upper, lower, cut, CUT) == pytest.approx(DECAY, rel=0.2)
    assert measure_cut_decay(upper, lower, np.full_like(cut, 500.0), CUT) is None
    assert measure_cut_decay(upper[:9], lower[:9], cut[:9] * np.nan, CUT) is None


def test_agarose_counts_where_there_is_enough_and_it_stands_out_of_the_noise() -> None:
    depth = np.arange(40)
    log_instrument = -0.01 * depth
    profile = DepthProfile(25.0 * np.exp(log_instrument), np.full(40, 900.0))
    level, sigma = measure_agarose_level(profile, log_instrument, (3, 16), 6.0)
    assert level == pytest.approx(np.log(25.0))
    assert 0.02 < sigma < 0.04
    assert measure_agarose_level(profile, log_instrument, (3, 16), 600.0)[1] > 0.5
    few = DepthProfile(profile.mean, np.full(40, 20.0))
    assert np.isinf(measure_agarose_level(few, log_instrument, (3, 16), 6.0)[1])
