"""Promises of the slices' common scale."""

from __future__ import annotations

import numpy as np
import pytest

from soct.intensity.normalization import (
    IntensityHistogram,
    measure_levels,
    measure_overlap_ratio,
    split_tissue,
)
from soct.space import Array


def _histogram(values: Array) -> IntensityHistogram:
    histogram = IntensityHistogram()
    histogram.add(values)
    return histogram


@pytest.mark.parametrize("scale", [1e-4, 1.0, 6e4])
def test_percentiles_are_right_to_a_few_percent_in_any_unit(scale: float) -> None:
    values = scale * np.random.default_rng(0).gamma(3, 1, 50_000)
    histogram = _histogram(values)
    for percent in (1, 25, 50, 99, 99.9):
        assert histogram.percentile(percent) == pytest.approx(
            np.percentile(values, percent), rel=0.02
        )


def test_histograms_add_up_over_blocks_and_survive_storage() -> None:
    values = np.random.default_rng(0).gamma(3, 1, 1000)
    parts = _histogram(values[:300])
    parts.merge(IntensityHistogram.from_array(_histogram(values[300:]).to_array()))
    np.testing.assert_array_equal(parts.to_array(), _histogram(values).to_array())


def test_values_that_are_no_numbers_are_no_data() -> None:
    histogram = _histogram(np.array([np.nan, np.inf, 0, -3, 5, 5]))
    assert histogram.total == 4
    assert histogram.dark == 2
    assert histogram.percentile(90) == pytest.approx(5, rel=0.03)
    assert IntensityHistogram().percentile(50) == 0


def test_tissue_is_split_from_agarose() -> None:
    rng = np.random.default_rng(0)
    both = np.concatenate([5 * rng.gamma(20, 0.05, 9000), 200 * rng.gamma(20, 0.05, 3000)])
    assert 10 < split_tissue(_histogram(both)) < 110
    assert split_tissue(_histogram(np.full(10, 3.0))) == 0


def test_levels_are_above_the_floor_and_empty_slices_are_known() -> None:
    rng = np.random.default_rng(0)
    water = _histogram(np.abs(rng.normal(0, 8, 5000)))
    tissue = _histogram(300 * rng.gamma(10, 0.1, 20_000) + 5)
    levels = measure_levels(tissue, background=water)
    assert levels.floor == pytest.approx(5.4, rel=0.1)
    assert 250 < levels.tissue < 400
    assert levels.cap > levels.tissue
    assert not levels.empty
    assert measure_levels(_histogram(np.zeros(100))).empty
    assert measure_levels(IntensityHistogram()).empty


def test_the_ratio_of_two_views_of_one_tissue_is_measured_through_speckle() -> None:
    rng = np.random.default_rng(0)
    tissue = rng.gamma(4, 25, (3, 60, 60))
    first = 1.3 * tissue * rng.gamma(4, 0.25, tissue.shape)
    second = tissue * rng.gamma(4, 0.25, tissue.shape)
    second[:, :5] = np.nan
    ratio, sigma = measure_overlap_ratio(first, second)
    assert ratio == pytest.approx(np.log(1.3), abs=0.02)
    assert 0 < sigma < 0.02
    nothing, unsure = measure_overlap_ratio(first, np.full_like(first, np.nan))
    assert np.isnan(nothing)
    assert np.isinf(unsure)
