"""Limits from data: what is usual stays within, outliers do not move them."""

from __future__ import annotations

import numpy as np
import pytest

from soct.quality.robust_limits import robust_limit


def test_gaussian_values_are_cut_near_three_standard_deviations():
    values = np.random.default_rng(0).normal(0, 10, 20_000) + 100
    found = robust_limit(list(values), higher_is_better=False)
    assert found is not None
    assert found.warning == pytest.approx(130, abs=1)
    assert found.error == pytest.approx(160, abs=2)
    below = robust_limit(list(values), higher_is_better=True)
    assert below is not None
    assert below.warning == pytest.approx(70, abs=1)


def test_a_fifth_of_wild_values_hardly_moves_a_limit():
    values = np.random.default_rng(0).normal(100, 10, 1000)
    clean = robust_limit(list(values), higher_is_better=False)
    values[:200] = 1e6
    dirty = robust_limit([*values, float("nan")], higher_is_better=False)
    assert clean is not None
    assert dirty is not None
    assert dirty.warning < 1.3 * clean.warning


def test_a_process_without_scatter_leaves_some_room():
    found = robust_limit([50.0] * 10, higher_is_better=False)
    assert found is not None
    assert found.warning == pytest.approx(57.5)


def test_few_values_say_nothing():
    assert robust_limit([1.0, 2.0, 3.0, 4.0, float("inf")], higher_is_better=False) is None
