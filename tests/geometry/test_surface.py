"""Promises of the interface's detection and of the curvature that tiles share."""

from __future__ import annotations

import numpy as np
import pytest

from soct.errors import InputError
from soct.geometry.focal_curvature import (
    estimate_focal_curvature,
    shift_a_lines,
    shift_valid_range,
)
from soct.geometry.surface import (
    InterfaceMap,
    detect_interface,
    evaluate_quadratic,
    fit_quadratic,
    fit_surface,
)
from soct.space import Array, FloatArray

NZ, N = 64, 60


def _sample(
    depth: Array, *, level: Array | float = 100.0, seed: int = 0, looks: float = 6
) -> FloatArray:
    """Speckled sample below a given depth, blurred by one sample, under water with noise."""
    rng = np.random.default_rng(seed)
    z = np.arange(NZ)[:, None, None]
    step = np.clip(z - depth[None] + 0.5, 0, 1)
    clean = level * step * np.exp(-0.02 * np.clip(z - depth[None], 0, None))
    clean = clean * rng.gamma(looks, 1 / looks, clean.shape)
    return (clean + np.abs(rng.normal(0, 3, clean.shape))).astype(np.float32)


def _tilted(shape: tuple[int, int] = (N, N)) -> Array:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return 14 + 0.08 * y - 0.05 * x


@pytest.mark.parametrize("mode", ["plane", "quadratic", "surface"])
def test_a_tilted_surface_comes_back_below_half_a_sample(mode: str) -> None:
    found = detect_interface(_sample(_tilted()))
    surface = fit_surface(found.depth_px, found.confidence, mode=mode)  # type: ignore[arg-type]
    assert np.abs(surface.depth_px - _tilted()).max() < 0.5
    assert abs(np.median(surface.depth_px - _tilted())) < 0.2
    assert surface.measured_fraction > 0.99


def test_the_plane_gives_tilt_in_pixels() -> None:
    found = detect_interface(_sample(_tilted()))
    surface = fit_surface(found.depth_px, found.confidence, mode="plane")
    assert surface.coefficients[1] == pytest.approx(0.08, abs=0.004)
    assert surface.coefficients[2] == pytest.approx(-0.05, abs=0.004)
    np.testing.assert_array_equal(surface.coefficients[3:], 0)


def test_a_surface_map_follows_a_local_dent() -> None:
    y, x = np.mgrid[:120, :120]
    depth = 15 + 6 * np.exp(-((y - 60) ** 2 + (x - 50) ** 2) / (2 * 15**2))
    found = detect_interface(_sample(depth))
    surface = fit_surface(found.depth_px, found.confidence, mode="surface", smoothing_px=4)
    assert np.abs(surface.depth_px - depth)[8:-8, 8:-8].max() < 1.0


def test_the_surface_of_dim_agarose_wins_over_brighter_tissue_below() -> None:
    z = np.arange(NZ)[:, None, None]
    brightness = np.where(z < 35, 25.0, 200.0) * np.ones((NZ, N, N))
    found = detect_interface(_sample(_tilted(), level=brightness))
    surface = fit_surface(found.depth_px, found.confidence)
    assert np.abs(surface.depth_px - _tilted()).max() < 0.7


def test_a_sample_without_water_above_starts_at_the_first_sample() -> None:
    found = detect_interface(_sample(np.full((N, N), -5.0)))
    assert np.median(found.depth_px) == 0
    assert fit_surface(found.depth_px, found.confidence).depth_px.max() < 0.5


@pytest.mark.parametrize("fill", [0.0, 5.0, np.nan])
def test_blank_blocks_have_no_interface(fill: float) -> None:
    found = detect_interface(np.full((NZ, 20, 20), fill, np.float32))
    assert not found.confidence.any()
    surface = fit_surface(found.depth_px, found.confidence)
    assert not surface.depth_px.any()
    assert "depth 0" in surface.reason


def test_noise_alone_is_no_interface() -> None:
    rng = np.random.default_rng(1)
    noise = np.abs(rng.normal(0, 8, (NZ, 40, 40))).astype(np.float32)
    found = detect_interface(noise)
    assert np.isfinite(found.depth_px).mean() < 0.02


def test_a_lines_without_data_stay_unknown_and_do_not_bend_the_fit() -> None:
    block = _sample(_tilted())
    valid = np.zeros((2, N, N), np.int16)
    valid[1] = NZ
    valid[:, :, :15] = 0
    block[:, :, :15] = 1e6
    found = detect_interface(block, valid)
    assert np.isnan(found.depth_px[:, :8]).all()
    surface = fit_surface(found.depth_px, found.confidence, mode="plane")
    assert np.abs(surface.depth_px - _tilted()).max() < 0.5


def test_saturated_voxels_do_not_move_the_fitted_surface() -> None:
    block = _sample(_tilted())
    block[3, 10:13, 10:13] = 1e4
    found = detect_interface(block)
    surface = fit_surface(found.depth_px, found.confidence)
    assert np.abs(surface.depth_px - _tilted()).max() < 0.7


def test_binned_a_lines_give_the_same_plane() -> None:
    block = _sample(_tilted())
    found = detect_interface(block, bin_px=4, sigma_px=(0.8, 0.5, 0.5))
    assert found.depth_px.shape == (N, N)
    surface = fit_surface(found.depth_px, found.confidence, mode="plane")
    assert np.abs(surface.depth_px - _tilted()).max() < 0.5


def test_a_quadratic_is_fitted_through_outliers() -> None:
    wanted = np.array([3.0, 0.02, -0.01, 5e-4, 2e-4, -3e-4])
    values = evaluate_quadratic(wanted, (50, 70)) + np.random.default_rng(0).normal(
        0, 0.1, (50, 70)
    )
    values[:12, :30] += 20
    np.testing.assert_allclose(
        evaluate_quadratic(fit_quadratic(values, np.ones((50, 70))), (50, 70)),
        evaluate_quadratic(wanted, (50, 70)),
        atol=0.1,
    )


def _bowl() -> FloatArray:
    y, x = np.mgrid[-1 : 1 : N * 1j, -1 : 1 : N * 1j]
    bowl = 2.0 * (x**2 + 0.6 * y**2) + 0.4 * x * y
    return (bowl - bowl.mean()).astype(np.float32)


def test_a_surface_fitted_to_squares_of_pixels_is_evaluated_on_every_pixel() -> None:
    wanted = evaluate_quadratic(np.array([5, 0.1, -0.05, 0.002, 0.001, -0.003]), (48, 64))
    squares = wanted.reshape(12, 4, 16, 4).mean(axis=(1, 3))
    found = fit_quadratic(squares, np.ones(squares.shape))
    # The mean of a parabola over a square is above its centre by a constant.
    np.testing.assert_allclose(evaluate_quadratic(found, (48, 64), bin_px=4), wanted, atol=5e-3)


def test_the_curvature_that_tiles_share_is_found_under_their_own_tilts() -> None:
    y, x = np.mgrid[:N, :N]
    interfaces = []
    for k, (a, b) in enumerate([(0.05, 0.0), (-0.04, 0.03), (0.0, -0.05), (0.02, 0.02)]):
        interfaces.append(detect_interface(_sample(18 + a * y + b * x + _bowl(), seed=k)))
    interfaces.append(detect_interface(np.zeros((NZ, N, N), np.float32)))
    found = estimate_focal_curvature(interfaces)
    assert found.tiles == 4
    assert np.abs(found.depth_px - _bowl()).max() < 0.25


@pytest.mark.parametrize("shape", [(64, 64), (61, 75)])
def test_the_curvature_found_in_squares_of_a_lines_is_that_of_every_a_line(
    shape: tuple[int, int],
) -> None:
    y, x = np.indices(shape)
    bowl = 3e-3 * (y - 30) ** 2 + 2e-3 * (x - 33) ** 2 + 5e-4 * (y - 30) * (x - 33)
    y0, x0 = y[::4, ::4], x[::4, ::4]
    means = [[(20 + 0.03 * y + bowl)[r : r + 4, c : c + 4].mean() for c in x0[0]] for r in y0[:, 0]]
    squares = np.array(means, np.float32)
    found = estimate_focal_curvature(
        [InterfaceMap(squares, np.ones_like(squares))], bin_px=4, tile_shape=shape
    )
    terms = np.stack([np.ones(bowl.size), y.ravel(), x.ravel()], 1)
    plane = (terms @ np.linalg.lstsq(terms, bowl.ravel(), rcond=None)[0]).reshape(shape)
    np.testing.assert_allclose(found.depth_px, bowl - plane, atol=5e-3)
    np.testing.assert_allclose(found.coefficients[3:], [3e-3, 5e-4, 2e-3], atol=1e-5)


def test_without_any_interface_the_curvature_is_zero() -> None:
    found = estimate_focal_curvature([detect_interface(np.zeros((NZ, N, N), np.float32))])
    assert not found.depth_px.any()
    with pytest.raises(InputError):
        estimate_focal_curvature([])


def test_shifted_a_lines_flatten_the_tile_and_leave_no_data_behind() -> None:
    depth = 20 + _bowl()
    z = np.arange(NZ)[:, None, None]
    smooth = (100 / (1 + np.exp(-(z - depth[None])))).astype(np.float32)
    flat = shift_a_lines(smooth, _bowl())
    np.testing.assert_allclose(flat[20], 50, atol=0.5)
    moved_in = np.isnan(flat)
    assert moved_in[-1][_bowl() > 0.01].all()
    assert not moved_in[3:-3].any()
    valid = np.zeros((2, N, N), np.int16)
    valid[1] = NZ
    new = shift_valid_range(valid, _bowl(), NZ)
    for y, x in ((0, 0), (N // 2, N // 2), (5, 50)):
        known = np.flatnonzero(~moved_in[:, y, x])
        assert (new[0, y, x], new[1, y, x]) == (known[0], known[-1] + 1)


def test_whole_shifts_move_samples_untouched() -> None:
    tile = np.random.default_rng(0).random((10, 3, 3)).astype(np.float32)
    moved = shift_a_lines(tile, np.full((3, 3), 2.0))
    np.testing.assert_array_equal(moved[:8], tile[2:])
    assert np.isnan(moved[8:]).all()
