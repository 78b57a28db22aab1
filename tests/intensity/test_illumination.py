"""Promises of the flat field's estimate."""

from __future__ import annotations

import importlib.machinery
import sys
import types

import numpy as np
import pytest
from scipy import fft
from scipy import ndimage as ndi

from soct.errors import ConfigurationError, InputError
from soct.intensity.illumination import (
    choose_samples,
    correct_illumination,
    estimate_illumination,
    reduce_projection,
)
from soct.intensity.overlap_equations import OverlapEquations
from soct.quality.seams import measure_seams
from soct.space import Array, FloatArray

TILE = 64
STEP = 52


def _flat(n: int = TILE) -> FloatArray:
    y, x = np.mgrid[-1 : 1 : n * 1j, -1 : 1 : n * 1j]
    flat = 1 - 0.35 * ((y - 0.15) ** 2 + (x + 0.2) ** 2) / 2
    return (flat / flat.mean()).astype(np.float32)


def _mosaic(
    rows: int = 4, cols: int = 4, *, seed: int = 0, dark: float = 0.0, background: bool = False
) -> tuple[FloatArray, Array]:
    """Speckled, textured tissue seen through the flat field, with its rough positions."""
    rng = np.random.default_rng(seed)
    shape = (STEP * (rows - 1) + TILE, STEP * (cols - 1) + TILE)
    canvas = sum(
        a * ndi.gaussian_filter(rng.standard_normal(shape), s) * s
        for s, a in ((2, 0.5), (7, 0.8), (25, 1.2))
    )
    canvas = 300 * np.exp(canvas)
    if background:
        canvas[:, : shape[1] // 2] = 8
    tiles, positions = [], []
    for r in range(rows):
        for c in range(cols):
            part = canvas[r * STEP : r * STEP + TILE, c * STEP : c * STEP + TILE]
            tiles.append(part * rng.gamma(10, 0.1, part.shape) * _flat() + dark)
            positions.append((r * STEP, c * STEP))
    return np.array(tiles, np.float32), np.array(positions, float)


def _error(flat: Array) -> float:
    ratio = flat / _flat(flat.shape[0])
    return float((ratio / ratio.mean()).std())


def test_the_flat_field_comes_back_from_few_textured_tiles() -> None:
    tiles, positions = _mosaic()
    found = estimate_illumination(tiles, positions_px=positions)
    assert _error(np.ones((TILE, TILE))) > 0.1
    assert _error(found.flat) < 0.035
    assert found.flat.mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("shape", ["deep bowl", "coma", "ripple", "ripple along both axes"])
def test_plain_tiles_give_the_flat_field_to_half_a_percent_whatever_its_shape(shape: str) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : TILE * 1j, -1 : 1 : TILE * 1j]
    bowl = x * x + y * y
    wave = [np.cos(np.pi * k * (np.arange(TILE) + 0.5) / TILE) for k in (3, 4, 5)]
    flat = {
        "deep bowl": (1 + 0.8 * bowl) ** -1.5,
        "coma": np.exp(-0.6 * bowl + 0.15 * bowl * x),
        "ripple": np.exp(-0.3 * bowl) * (1 + 0.04 * wave[2]),
        "ripple along both axes": np.exp(-0.3 * bowl) * (1 + 0.04 * wave[1][:, None] * wave[0]),
    }[shape]
    tiles = rng.uniform(300, 1000, (30, 1, 1)) * flat * rng.gamma(20, 0.05, (30, TILE, TILE))
    ratio = estimate_illumination(tiles).flat / (flat / flat.mean())
    assert float(np.std(ratio)) < 0.005


def test_overlap_equations_say_by_how_much_the_flat_field_differs_between_two_places() -> None:
    rng = np.random.default_rng(1)
    coefficients = np.zeros((TILE, TILE))
    coefficients[:4, :5] = rng.normal(0, 3, (4, 5))
    log_flat = fft.idctn(coefficients, norm="ortho")
    places = rng.integers(0, TILE, (2, 500, 2))
    ratio = log_flat[tuple(places[0].T)] - log_flat[tuple(places[1].T)]
    equations = OverlapEquations(ratio, *places.astype(float), np.arange(500) // 50)
    design = equations.design((4, 5), (TILE, TILE))
    wanted = coefficients[:4, :5].ravel()[1:]
    np.testing.assert_allclose(design @ wanted, ratio, atol=1e-12)
    matrix, right = equations.normal_equations(design, np.zeros(19))
    np.testing.assert_allclose(np.linalg.solve(matrix, right), wanted, rtol=1e-8)


def test_overlaps_keep_anatomy_out_of_the_flat_field() -> None:
    with_overlaps, alone = [], []
    for seed in range(4):
        tiles, positions = _mosaic(3, 3, seed=seed)
        with_overlaps.append(_error(estimate_illumination(tiles, positions_px=positions).flat))
        alone.append(_error(estimate_illumination(tiles).flat))
    assert np.mean(with_overlaps) < 0.6 * np.mean(alone)
    assert np.mean(with_overlaps) < 0.04


def test_background_tiles_do_not_vote() -> None:
    tiles, positions = _mosaic(4, 6, background=True)
    found = estimate_illumination(tiles, positions_px=positions)
    background = np.array([t.mean() < 20 for t in tiles])
    assert background.any()
    assert not found.weights[background].any()
    assert np.isnan(found.baseline[background]).all()
    assert _error(found.flat) < 0.06


def test_the_same_anatomy_in_many_slices_counts_once() -> None:
    tiles, positions = _mosaic(3, 3, seed=2)
    once = estimate_illumination(tiles, positions_px=positions)
    repeated = estimate_illumination(
        np.concatenate([tiles] * 4),
        positions_px=np.concatenate([positions] * 4),
        groups=np.repeat(np.arange(4), 9),
    )
    assert _error(repeated.flat) < _error(once.flat) + 0.01


def test_seams_fall_below_a_third() -> None:
    tiles, positions = _mosaic()
    found = estimate_illumination(tiles, positions_px=positions)
    before = measure_seams(tiles, positions, smoothing_px=2)
    after = measure_seams(correct_illumination(tiles, found), positions, smoothing_px=2)
    assert after.shading < before.shading / 3
    assert after.l1 < before.l1
    assert after.pearson >= before.pearson - 0.02


def test_a_dark_field_is_told_from_the_flat_field_where_tiles_are_plain() -> None:
    rng = np.random.default_rng(0)
    brightness = rng.uniform(100, 2000, 40)[:, None, None]
    tiles = brightness * _flat() * rng.gamma(20, 0.05, (40, TILE, TILE)) + 60
    found = estimate_illumination(tiles, darkfield=True)
    assert found.dark.mean() == pytest.approx(60, rel=0.2)
    assert _error(found.flat) < 0.8 * _error(estimate_illumination(tiles).flat)


def test_a_dark_field_that_anatomy_hides_is_not_invented() -> None:
    tiles, positions = _mosaic(5, 5)
    found = estimate_illumination(tiles, positions_px=positions, darkfield=True)
    assert not found.dark.any()
    assert "no significant dark field" in found.reason


@pytest.mark.parametrize("method", ["median", "mean"])
def test_the_simple_methods_answer_the_same_question(method: str) -> None:
    tiles, _ = _mosaic(6, 6)
    found = estimate_illumination(tiles, method=method)  # type: ignore[arg-type]
    assert _error(found.flat) < 0.09


def test_reduced_projections_give_the_full_field() -> None:
    tiles, positions = _mosaic()
    reduced = np.stack([reduce_projection(t, 32) for t in tiles])
    found = estimate_illumination(reduced, positions_px=positions / 2, output_shape=(TILE, TILE))
    assert found.flat.shape == (TILE, TILE)
    assert _error(found.flat) < 0.045


@pytest.mark.parametrize("fill", [0.0, np.nan, np.inf, -1.0])
def test_tiles_without_signal_leave_the_flat_field_at_one(fill: float) -> None:
    found = estimate_illumination(np.full((5, 32, 32), fill, np.float32))
    np.testing.assert_array_equal(found.flat, 1)
    assert "flat field is 1" in found.reason


def test_constant_and_single_tiles_give_a_flat_field_of_one() -> None:
    np.testing.assert_allclose(estimate_illumination(np.full((6, 32, 32), 9.0)).flat, 1, atol=1e-4)
    one = estimate_illumination(_mosaic()[0][:1])
    assert np.isfinite(one.flat).all()
    assert np.abs(one.flat - 1).max() < 0.5


def test_nan_and_saturated_pixels_spread_nowhere() -> None:
    tiles, positions = _mosaic()
    tiles[3, 10:14, 20:30] = np.nan
    tiles[5, 40:50, 5:15] = 65535
    found = estimate_illumination(tiles, positions_px=positions)
    assert np.isfinite(found.flat).all()
    assert _error(found.flat) < 0.05


def test_a_tile_of_another_shape_is_refused() -> None:
    found = estimate_illumination(_mosaic()[0])
    with pytest.raises(InputError, match="another shape"):
        correct_illumination(np.ones((10, 10)), found)
    with pytest.raises(InputError, match="stack"):
        estimate_illumination(np.ones((10, 10)))


def test_samples_are_spread_over_the_run() -> None:
    assert choose_samples(5, 10) == [0, 1, 2, 3, 4]
    chosen = choose_samples(1000, 10)
    assert len(chosen) == 10
    assert set(np.diff(chosen)) == {100}


def test_basicpy_fits_the_tiles_that_vote_with_the_options_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A module in place of the library, which is too large for the tests, records what it is given."""
    calls: dict[str, object] = {}

    class BaSiC:
        def __init__(self, **options: object) -> None:
            calls.update(options)

        def fit(self, images: Array) -> None:
            calls["tiles"] = len(images)
            self.flatfield = images.mean(0) / images.mean()
            self.darkfield = np.full(images.shape[1:], 3.0)
            self.baseline = images.mean((1, 2))[:, None]

    module = types.ModuleType("basicpy")
    module.__spec__ = importlib.machinery.ModuleSpec("basicpy", None)
    module.BaSiC = BaSiC  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "basicpy", module)
    tiles, _ = _mosaic()
    tiles[0] = 0.01
    found = estimate_illumination(
        tiles, method="basicpy", darkfield=True, smoothness=0.5, max_iterations=7
    )
    assert calls == {
        "get_darkfield": True, "max_iterations": 7, "smoothness_flatfield": 0.5,
        "tiles": int((found.weights > 0).sum()),
    }  # fmt: skip
    assert np.isnan(found.baseline[0])
    assert found.flat.mean() == pytest.approx(1)
    np.testing.assert_allclose(found.dark, 3, rtol=1e-5)
    assert found.method == "basicpy"


def test_without_the_library_basicpy_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"soct\[basicpy\]"):
        estimate_illumination(_mosaic()[0], method="basicpy")
