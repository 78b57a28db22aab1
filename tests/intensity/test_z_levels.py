"""Sections that differ by a known gain or curve come to one level."""

from __future__ import annotations

import numpy as np
import pytest

from soct.errors import InputError
from soct.intensity.normalization import IntensityHistogram
from soct.intensity.z_levels import LevelMap, level_scatter, solve_z_levels
from soct.space import Array


def tissue(seed: int = 0, n: int = 40_000) -> Array:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.6, 100, 200) * rng.standard_gamma(20, n) / 20


def histogram(values: Array) -> IntensityHistogram:
    made = IntensityHistogram()
    made.add(values)
    return made


def test_one_gain_per_section_is_found_and_taken_out() -> None:
    gains = np.array([1.0, 1.3, 0.8, 1.1, 0.7, 1.2, 0.9, 1.0])
    sections = [tissue(k) * g for k, g in enumerate(gains)]
    solved = solve_z_levels(
        [histogram(s) for s in sections], strength=1, percentile=50, kept_sections=50
    )
    left = gains * [m.gain for m in solved.maps]
    trend = np.polyval(np.polyfit(np.arange(8), np.log(gains), 1), np.arange(8))
    np.testing.assert_allclose(np.log(left) - np.log(left).mean(), trend - trend.mean(), atol=0.02)
    assert level_scatter(solved.after, 50) < 0.1 * level_scatter(solved.before, 50)


def test_half_strength_goes_half_of_the_way() -> None:
    gains = [1.0, 1.0, 1.44, 1.0, 1.0]
    data = [histogram(tissue(k) * g) for k, g in enumerate(gains)]
    whole, half = (
        solve_z_levels(data, strength=s, kept_sections=2).maps[2].gain for s in (1.0, 0.5)
    )
    assert half == pytest.approx(np.sqrt(whole), rel=1e-3)


def test_matching_histograms_undoes_a_curve_that_no_gain_undoes() -> None:
    sections = [tissue(k) for k in range(7)]
    sections[3] = 100 * (sections[3] / 100) ** 1.4
    data = [histogram(s) for s in sections]
    undone = {}
    for method in ("percentile", "histogram"):
        found = solve_z_levels(data, method=method, strength=1, kept_sections=100)  # type: ignore[arg-type]
        moved = found.maps[3].apply(sections[3])
        ranks = np.percentile(moved, [10, 25, 50, 75, 90])
        undone[method] = np.abs(ranks / np.percentile(tissue(9), [10, 25, 50, 75, 90]) - 1).max()
    assert undone["histogram"] < 0.08
    assert undone["histogram"] < 0.5 * undone["percentile"]


def test_slow_changes_of_the_tissue_stay() -> None:
    slow = np.exp(np.linspace(-0.3, 0.3, 12))
    solved = solve_z_levels(
        [histogram(tissue(k) * g) for k, g in enumerate(slow)], strength=1, kept_sections=2
    )
    np.testing.assert_allclose([m.gain for m in solved.maps], 1, atol=0.03)


def test_background_has_no_vote_and_an_empty_section_stays() -> None:
    rng = np.random.default_rng(3)
    dim = [rng.standard_gamma(20, n) / 20 for n in (10_000, 200_000, 50_000)]
    sections = [np.concatenate([tissue(k), d]) for k, d in enumerate(dim)]
    sections.append(np.zeros(100))
    solved = solve_z_levels([histogram(s) for s in sections], strength=1)
    assert solved.measured.tolist() == [True, True, True, False]
    np.testing.assert_allclose([m.gain for m in solved.maps], 1, atol=0.04)
    assert solved.maps[3].gain == 1


def test_a_map_is_monotone_and_leaves_what_is_not_positive() -> None:
    level = LevelMap(np.log([1.0, 10.0, 100.0]), np.log([2.0, 10.0, 50.0]))
    values = np.geomspace(0.01, 1e4, 200)
    mapped = level.apply(values)
    assert (np.diff(mapped) > 0).all()
    np.testing.assert_allclose(mapped[[0, -1]] / values[[0, -1]], [2, 0.5], rtol=1e-5)
    np.testing.assert_array_equal(level.apply(np.array([0.0, -1.0])), [0, -1])


def test_no_section_or_an_unknown_method_is_an_error() -> None:
    with pytest.raises(InputError):
        solve_z_levels([])
    with pytest.raises(InputError):
        solve_z_levels([histogram(tissue())], method="magic")  # type: ignore[arg-type]
