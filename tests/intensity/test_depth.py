"""Promises of everything that corrects brightness over depth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.errors import InputError
from soct.intensity.attenuation import (
    StrengthSums,
    choose_strength,
    correct_attenuation,
    estimate_attenuation,
)
from soct.intensity.axial_profile import (
    apply_depth_gain,
    confocal_response,
    divide_axial_profile,
    estimate_axial_profile,
)
from soct.intensity.depth_profiles import (
    DepthProfile,
    DepthSums,
    choose_tissue_a_lines,
    project_below_surface,
)
from soct.intensity.depth_sensitivity import (
    solve_depth_sensitivity,
)
from soct.space import Array, FloatArray

NZ, N, DZ_UM = 80, 40, 5.0
TOP = 10


def _tissue(
    mu_per_mm: Array, scatter: Array | float = 1.0, *, looks: float = 8, seed: int = 0
) -> FloatArray:
    """Single-scattering A-lines: I = scatter * exp(-2 integral of mu), speckled, on noise."""
    rng = np.random.default_rng(seed)
    dz = DZ_UM / 1000
    mu = np.broadcast_to(np.asarray(mu_per_mm, float), (NZ, N, N)).copy()
    mu[:TOP] = 0
    depth = np.cumsum(mu, axis=0) * dz - mu * dz / 2
    clean = 1000 * np.asarray(scatter) * np.exp(-2 * depth)
    clean = clean * (np.arange(NZ)[:, None, None] >= TOP)
    return (clean * rng.gamma(looks, 1 / looks, clean.shape)).astype(np.float32)


def _surface() -> FloatArray:
    return np.full((N, N), float(TOP), np.float32)


@pytest.mark.parametrize("method", ["smith", "liu", "li"])
@pytest.mark.parametrize("mu", [2.0, 6.0])
def test_the_attenuation_of_uniform_tissue_is_recovered(method: str, mu: float) -> None:
    found = estimate_attenuation(_tissue(mu), _surface(), DZ_UM, method=method)  # type: ignore[arg-type]
    inside = found.mu_per_mm[TOP + 3 : NZ - 12]
    assert np.median(inside) == pytest.approx(mu, rel=0.08)
    np.testing.assert_allclose(np.median(inside, axis=(1, 2)), mu, rtol=0.25)


def test_without_a_tail_the_estimate_rises_towards_the_end() -> None:
    found = estimate_attenuation(_tissue(6.0), _surface(), DZ_UM, method="vermeer")
    profile = np.median(found.mu_per_mm, axis=(1, 2))
    assert profile[NZ - 8] > 2 * profile[TOP + 5]


def test_both_layers_of_a_layered_sample_are_recovered() -> None:
    z = np.arange(NZ)[:, None, None]
    mu = np.where(z < 40, 3.0, 8.0)
    # In a layered sample of one composition, what scatters more also returns more.
    block = _tissue(mu, scatter=np.where(z < 40, 3.0, 8.0) / 8)
    found = estimate_attenuation(block, _surface(), DZ_UM, method="li")
    assert np.median(found.mu_per_mm[TOP + 4 : 34]) == pytest.approx(3.0, rel=0.15)
    assert np.median(found.mu_per_mm[46:64]) == pytest.approx(8.0, rel=0.15)


def test_corrected_tissue_has_no_trend_and_keeps_its_speckle_unscaled() -> None:
    block = _tissue(3.5)
    found = estimate_attenuation(block, _surface(), DZ_UM)
    sums = StrengthSums(NZ)
    sums.add(block, found.optical_depth, _surface())
    strength = choose_strength(sums)
    assert strength == pytest.approx(1.0, abs=0.1)
    corrected = correct_attenuation(block, found.optical_depth, strength)
    profile = corrected[TOP + 2 : NZ - 4].mean((1, 2))
    assert profile.std() / profile.mean() < 0.03
    # Speckle contrast of 8 looks; a correction that followed the speckle would change it.
    contrast = corrected[20:60].std() / corrected[20:60].mean()
    assert contrast == pytest.approx(1 / np.sqrt(8), rel=0.1)


def test_the_correction_brings_the_image_nearer_to_the_truth() -> None:
    rng = np.random.default_rng(3)
    scatter = np.exp(0.4 * ndi.zoom(rng.standard_normal((8, 3, 3)), (10, 40 / 3, 40 / 3), order=1))
    block = _tissue(3.0 * scatter, scatter, looks=4)
    found = estimate_attenuation(block, _surface(), DZ_UM)
    sums = StrengthSums(NZ)
    sums.add(block, found.optical_depth, _surface())
    corrected = correct_attenuation(block, found.optical_depth, choose_strength(sums))
    inside = np.s_[TOP + 2 : NZ - 4]
    perfect = scatter * rng.gamma(4, 0.25, scatter.shape)
    before, after, reachable = (
        np.corrcoef(v[inside].ravel(), scatter[inside].ravel())[0, 1]
        for v in (block, corrected, perfect)
    )
    assert after > before + 0.6 * (reachable - before)


def test_the_divisor_is_limited_and_strength_zero_changes_nothing() -> None:
    block = np.ones((5, 2, 2), np.float32)
    optical = np.full((5, 2, 2), 50, np.float32)
    assert correct_attenuation(block, optical, 1.0).max() == pytest.approx(20)
    np.testing.assert_array_equal(correct_attenuation(block, optical, 0.0), block)
    assert choose_strength(StrengthSums(10)) == 0


@pytest.mark.parametrize("fill", [0.0, 1e30, np.nan])
def test_a_lines_without_sense_give_no_nonsense(fill: float) -> None:
    block = _tissue(4.0)
    block[:, 5, 5] = fill
    found = estimate_attenuation(block, _surface(), DZ_UM, smoothing_px=(0, 0, 0))
    assert np.isfinite(found.optical_depth).all()
    assert np.isfinite(found.mu_per_mm[TOP : NZ // 2, 20:]).all()


def test_a_wrong_request_for_attenuation_is_refused() -> None:
    with pytest.raises(InputError, match="Unknown"):
        estimate_attenuation(_tissue(1.0), _surface(), DZ_UM, method="magic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one depth per A-line"):
        estimate_attenuation(_tissue(1.0), np.zeros((2, 2)), DZ_UM)


def test_depth_sums_do_not_depend_on_how_a_slice_is_cut_into_blocks() -> None:
    block = _tissue(3.0)
    surface = _surface() + np.linspace(0, 5, N, dtype=np.float32)[None]
    whole, parts = DepthSums(NZ, 2.0), DepthSums(NZ, 2.0)
    whole.add(block, surface)
    for part in (np.s_[:, :13], np.s_[:, 13:]):
        other = DepthSums(NZ, 2.0)
        other.add(block[:, *part], surface[*part])
        parts.merge(DepthSums.from_array(other.to_array(), 2.0))
    np.testing.assert_allclose(parts.to_array(), whole.to_array(), rtol=1e-10)


def test_a_tilted_surface_does_not_smear_the_profile_below_it() -> None:
    z = np.arange(NZ)[:, None, None]
    surface = np.broadcast_to(np.linspace(5.3, 20.7, N), (N, N))
    block = np.where(z >= surface, 100 * np.exp(-0.03 * (z - surface)), 0).astype(np.float32)
    sums = DepthSums(NZ)
    sums.add(block, surface)
    profile = sums.below_surface()
    np.testing.assert_allclose(
        profile.mean[4:50], 100 * np.exp(-0.03 * np.arange(4, 50)), rtol=0.002
    )
    projected = project_below_surface(block, surface)
    assert projected.std() / projected.mean() < 0.005


def test_no_data_and_masked_a_lines_do_not_count() -> None:
    block = np.full((NZ, 4, 4), 7.0, np.float32)
    block[:, 0] = np.nan
    mask = np.ones((4, 4), bool)
    mask[1] = False
    block[:, 1] = 1e9
    valid = np.zeros((2, 4, 4), int)
    valid[1] = 50
    sums = DepthSums(NZ)
    sums.add(block, np.zeros((4, 4)), mask=mask, valid=valid)
    mean = sums.over_frame().mean
    assert np.nanmax(mean) == np.nanmin(mean) == 7
    assert np.isnan(mean[50:]).all()
    with pytest.raises(InputError):
        sums.add(block[:10], np.zeros((4, 4)))


def test_tissue_a_lines_are_told_from_agarose() -> None:
    block = np.full((NZ, 4, 4), 5.0, np.float32)
    block[TOP:, 2:] = 300
    chosen = choose_tissue_a_lines(block, np.full((4, 4), TOP), floor=5, level=100)
    np.testing.assert_array_equal(chosen.any(1), [False, False, True, True])


def _profile(values: Array) -> DepthProfile:
    return DepthProfile(values, np.full(len(values), 5000.0))


def test_the_confocal_function_is_fitted_through_noise_and_attenuation() -> None:
    z = np.arange(NZ, dtype=float)
    rng = np.random.default_rng(0)
    clean = 500 * confocal_response(z, 35, 28) * np.exp(-0.02 * z)
    found = estimate_axial_profile(
        _profile(clean * np.exp(rng.normal(0, 0.01, NZ))), None, method="model", rayleigh_px=24
    )
    assert found.focus_px == pytest.approx(35, abs=3)
    assert found.rayleigh_px == pytest.approx(28, rel=0.15)
    product = found.sensitivity * np.exp(-found.attenuation_per_px * z)
    np.testing.assert_allclose(product / product[20], clean / clean[20], rtol=0.04)


def test_the_model_free_profile_flattens_agarose() -> None:
    z = np.arange(NZ, dtype=float)
    response = confocal_response(z, 30, 40)
    found = estimate_axial_profile(_profile(80 * response), None, rayleigh_px=40)
    assert found.measured_on == "agarose"
    block = np.broadcast_to((80 * response)[:, None, None], (NZ, 3, 3)) + 6
    flat = divide_axial_profile(block, found, floor=6)[5:-5]
    assert flat.std() / flat.mean() < 0.02


def test_too_little_agarose_is_said_and_tissue_is_used() -> None:
    z = np.arange(NZ, dtype=float)
    little = DepthProfile(np.full(NZ, 3.0), np.full(NZ, 5.0))
    tissue = _profile(400 * confocal_response(z, 30, 40) * np.exp(-0.03 * z))
    found = estimate_axial_profile(little, tissue, rayleigh_px=40, focus_px=30)
    assert found.measured_on == "tissue"
    nothing = estimate_axial_profile(
        DepthProfile(np.full(NZ, np.nan), np.zeros(NZ)), None, rayleigh_px=40
    )
    assert nothing.method == "none"
    assert nothing.reason
    np.testing.assert_array_equal(nothing.sensitivity, 1)
    with pytest.raises(InputError):
        estimate_axial_profile(None, None, rayleigh_px=40)


def _slices(n: int = 12, *, seed: int = 0, step: float = 20.4) -> tuple[Array, Array, Array, Array]:
    """Depth profiles of n slices of one tissue: (profiles, offsets, true log sensitivity, true log gain)."""
    rng = np.random.default_rng(seed)
    depth = 55
    d = np.arange(depth)
    sensitivity = -0.026 * d + np.log(confocal_response(d + 12.0, 30, 42))
    gain = rng.normal(0, 0.15, n)
    gain -= gain.mean()
    z = np.arange(int(n * step) + depth + 3)
    tissue = 0.25 * np.sin(z / 17) + 0.1 * np.sin(z / 5)
    offsets = step * np.arange(n) + rng.uniform(-1, 1, n)
    logs = gain[:, None] + sensitivity + np.interp(offsets[:, None] + d, z, tissue)
    return 200 * np.exp(logs + rng.normal(0, 0.004, logs.shape)), offsets, sensitivity, gain


def test_sensitivity_gains_and_anatomy_are_told_apart() -> None:
    profiles, offsets, sensitivity, gain = _slices()
    found = solve_depth_sensitivity(profiles, offsets)
    error = found.log_sensitivity - sensitivity
    assert (error - error.mean()).std() < 0.03
    assert (found.log_gain - gain).std() < 0.05
    assert found.measured.all()


def test_missing_depths_and_an_empty_slice_do_not_disturb_the_rest() -> None:
    profiles, offsets, sensitivity, _ = _slices()
    profiles[3] = np.nan
    profiles[5, 40:] = 0
    profiles[:, :2] = np.nan
    found = solve_depth_sensitivity(profiles, offsets)
    error = (found.log_sensitivity - sensitivity)[2:]
    assert (error - error.mean()).std() < 0.03
    assert np.isfinite(found.log_sensitivity).all()
    assert abs(found.log_gain[3]) < 0.1
    assert not found.measured[:2].any()


def test_a_long_fine_stack_is_solved_on_coarser_knots() -> None:
    profiles, offsets, sensitivity, gain = _slices(65)
    found = solve_depth_sensitivity(profiles, offsets)
    error = found.log_sensitivity - sensitivity
    assert (error - error.mean()).std() < 0.02
    assert (found.log_gain - gain).std() < 0.03
    assert len(found.tissue_level) > 1300


def test_nothing_seen_is_a_constant_sensitivity() -> None:
    found = solve_depth_sensitivity(np.zeros((3, 20)), np.arange(3.0))
    assert not found.log_sensitivity.any()
    assert not found.log_gain.any()
    assert "constant" in found.reason
    with pytest.raises(InputError):
        solve_depth_sensitivity(np.ones((3, 20)), np.arange(2.0))


def test_the_depth_gain_makes_every_a_line_flat_from_its_own_surface() -> None:
    z = np.arange(NZ)[:, None, None]
    surface = np.broadcast_to(np.linspace(4.2, 19.8, N), (N, N))
    below = np.clip(z - surface, 0, None)
    block = (50 * np.exp(-0.03 * below) + 4).astype(np.float32)
    flat = apply_depth_gain(block, surface, -0.03 * np.arange(NZ), floor=4, skip_px=1)
    seen = np.isfinite(flat)
    np.testing.assert_allclose(flat[seen], 50, rtol=1e-3)
    np.testing.assert_array_equal(seen, z - surface >= 1)
