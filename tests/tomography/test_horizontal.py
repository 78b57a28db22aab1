"""Horizontal alignment: known shifts put in, got back within a stated error."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from soct.tomography import align_horizontal, alignprojections_horizontal
from soct.tomography.bow_tie import bessel
from soct.tomography.gauge import remove_gauge, shift_error
from soct.tomography.notices import TruncationWarning
from tests.tomography.phantoms import noisy
from tests.tomography.phantoms import sinogram as closed_form

HALF_TURN = np.arange(90) * np.pi / 90


def sinogram(angles: np.ndarray, shifts: np.ndarray | None = None, **given: float) -> np.ndarray:
    return closed_form(angles, shifts, **{"detectors": 128, "field": 104.0, **given})  # type: ignore[arg-type]


def jitter(n: int, most: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-most, most, n)


@pytest.mark.parametrize("most", [3.0, 10.0])
def test_random_shifts_are_found_to_a_hundredth_of_a_pixel(most: float) -> None:
    truth = jitter(90, most)
    found = align_horizontal(sinogram(HALF_TURN, truth), HALF_TURN)
    assert shift_error(found.shifts[1], truth, HALF_TURN) < 0.01
    assert found.converged
    assert found.notices == ()
    assert not found.truncation.truncated


def test_a_slow_drift_is_found_to_a_hundredth_of_a_pixel() -> None:
    truth = 4 * np.sin(3 * HALF_TURN) + 0.5 * np.random.default_rng(1).standard_normal(90)
    found = align_horizontal(sinogram(HALF_TURN, truth), HALF_TURN)
    assert shift_error(found.shifts[1], truth, HALF_TURN) < 0.01


def test_an_aligned_sinogram_stays_where_it_is() -> None:
    found = align_horizontal(sinogram(HALF_TURN), HALF_TURN)
    assert np.sqrt(np.mean(found.shifts[1] ** 2)) < 0.005


def test_noise_of_two_percent_costs_less_than_six_hundredths_of_a_pixel() -> None:
    angles = np.arange(180) * np.pi / 180
    truth = jitter(180, 3.0)
    values = sinogram(angles, truth, detectors=256, field=256.0)
    found = align_horizontal(noisy(values, 0.02, 1), angles)
    assert shift_error(found.shifts[1], truth, angles) < 0.06
    assert 0.02 < found.uncertainties.mean() < 0.06
    assert found.method == "likelihood and reprojection"


def test_the_axis_comes_to_where_it_is_wanted_and_its_place_before_is_told() -> None:
    values = sinogram(HALF_TURN, field=110, axis=71.4)
    found = align_horizontal(values, HALF_TURN)
    assert found.axis_before == pytest.approx(71.4, abs=0.01)
    assert found.shifts[1] == pytest.approx(np.full(90, 7.4), abs=0.01)
    assert "71.4" in str(found.notices[0])
    kept = align_horizontal(values, HALF_TURN, axis=71.4)
    assert np.abs(kept.shifts[1]).max() < 0.01
    assert kept.notices == ()


def test_the_object_stays_where_the_given_shifts_put_it() -> None:
    start = np.stack([np.arange(90.0), 3 * np.cos(HALF_TURN) - 2 * np.sin(HALF_TURN)])
    truth = jitter(90, 2.0)
    found = align_horizontal(sinogram(HALF_TURN, truth), HALF_TURN, start)
    assert found.shifts[0] == pytest.approx(start[0])
    change = found.shifts[1] - start[1]
    assert change - remove_gauge(change, HALF_TURN) == pytest.approx(
        np.full(90, found.axis_before - found.axis), abs=1e-6
    )


def test_the_documented_call_returns_shifts_and_passes_over_keywords_of_others() -> None:
    truth = jitter(90, 2.0)
    values = sinogram(HALF_TURN, truth)
    shifts = alignprojections_horizontal(
        values,
        np.rad2deg(HALF_TURN),
        np.zeros((2, 90)),
        maxit=20,
        pixtol=0.01,
        silent=True,
        limsy=None,
        shiftmeth="fourier",
        freqcutoff=0.5,
        circle=True,
        cliplow=0,
        filtertype="hann",
    )
    assert shifts.shape == (2, 90)
    assert shift_error(shifts[1], truth, HALF_TURN) < 0.01


@pytest.mark.parametrize(
    ("detectors", "drift", "left"),
    [(80, False, 0.5), (80, True, 1.0), (108, False, 0.25), (108, True, 0.5)],
)
def test_a_truncated_object_is_told_and_its_shifts_are_found_in_part(
    detectors: int, drift: bool, left: float
) -> None:
    truth = jitter(90, 3.0)
    if drift:
        truth = 4 * np.sin(3 * HALF_TURN) + truth / 6
    values = sinogram(HALF_TURN, truth, detectors=detectors, field=128.0, axis=40.0)
    found = align_horizontal(values, HALF_TURN, axis=40.0)
    assert found.truncation.truncated
    assert any(isinstance(notice, TruncationWarning) for notice in found.notices)
    before = shift_error(np.zeros(90), truth, HALF_TURN)
    assert shift_error(found.shifts[1], truth, HALF_TURN) < left * before
    assert np.sum(found.residuals_after**2) < 0.5 * np.sum(found.residuals_before**2)


def test_a_wide_slice_is_fitted_in_groups_of_pixels_as_in_pixels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    truth = jitter(90, 3.0)
    values = sinogram(HALF_TURN, truth, detectors=208, field=256.0, axis=80.0)
    monkeypatch.setattr("soct.tomography.wide_slice._WIDEST", 104)
    found = align_horizontal(values, HALF_TURN, axis=80.0)
    assert shift_error(found.shifts[1], truth, HALF_TURN) < 0.4


def test_an_aligned_truncated_object_stays_where_it_is() -> None:
    found = align_horizontal(sinogram(HALF_TURN, detectors=80, field=128.0), HALF_TURN, maxit=5)
    assert np.sqrt(np.mean(found.shifts[1] ** 2)) < 0.1


@pytest.mark.parametrize("computed", [False, True])
def test_derivatives_are_aligned_to_a_twentieth_of_a_pixel(computed: bool) -> None:
    truth = jitter(90, 3.0)
    values = sinogram(HALF_TURN, truth, detectors=256, field=240.0, derivatives=not computed)
    found = align_horizontal(values, HALF_TURN, derivatives=not computed, calc_derivatives=computed)
    assert shift_error(found.shifts[1], truth, HALF_TURN) < 0.05


@pytest.mark.parametrize(
    "angles",
    [
        np.arange(120) * np.pi / 60,
        np.sort(np.random.default_rng(5).uniform(0, np.pi, 90)),
        np.random.default_rng(6).permutation(np.arange(90) * np.pi / 90),
        np.arange(70) * np.pi / 90,
        np.arange(30) * np.pi / 30,
    ],
    ids=["full turn", "uneven", "unsorted", "140 degrees", "few"],
)
def test_any_angles_will_do(angles: np.ndarray) -> None:
    truth = jitter(len(angles), 3.0)
    found = align_horizontal(sinogram(angles, truth), angles)
    assert shift_error(found.shifts[1], truth, angles) < 0.01


def test_dead_columns_are_named_and_do_no_harm() -> None:
    truth = jitter(90, 3.0)
    values = sinogram(HALF_TURN, truth)
    values[[40, 77]] = 0.0
    found = align_horizontal(values, HALF_TURN)
    assert "40, 77" in str(found.notices[0])
    assert shift_error(found.shifts[1], truth, HALF_TURN) < 0.05


@pytest.mark.parametrize("level", [0.02, 0.1, 0.6, -0.3])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_an_even_background_however_bright_is_told_and_does_no_harm(
    level: float, noise: float
) -> None:
    truth = jitter(90, 3.0)
    values = sinogram(HALF_TURN, truth)
    found = align_horizontal(noisy(values, noise, 3) + level * values.max(), HALF_TURN)
    assert "background" in str(found.notices[0])
    assert not found.truncation.truncated
    limit = 0.15 if noise else 0.01
    assert shift_error(found.shifts[1], truth, HALF_TURN) < limit


def test_an_object_that_fills_the_field_is_not_taken_for_a_background() -> None:
    values = sinogram(HALF_TURN, detectors=64, field=128.0)
    assert align_horizontal(values, HALF_TURN, maxit=2).truncation.truncated


@pytest.mark.parametrize("given", [{}, {"derivatives": True}])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_residuals_of_aligned_projections_are_about_those_expected(
    given: dict[str, bool], noise: float
) -> None:
    truth = jitter(90, 3.0)
    values = sinogram(HALF_TURN, truth, derivatives=bool(given))
    found = align_horizontal(noisy(values, noise, 4), HALF_TURN, **given)
    ratio = np.mean(found.residuals_after**2) / np.mean(found.residuals_expected**2)
    assert 0.5 < np.sqrt(ratio) < 1.6
    assert np.mean(found.residuals_before**2) > 4 * np.mean(found.residuals_expected**2)


def test_a_good_start_is_used_where_noise_spoils_centres_of_mass() -> None:
    truth = jitter(90, 3.0)
    values = noisy(sinogram(HALF_TURN, truth), 0.3, 2)
    start = np.stack([np.zeros(90), truth])
    found = align_horizontal(values, HALF_TURN, start)
    assert shift_error(found.shifts[1], truth, HALF_TURN) < 1.5


def test_bessel_functions_are_those_of_scipy() -> None:
    x = np.array([0.3, 1.0, 7.5, 60.0, 200.0])
    expected = scipy.special.jv(np.arange(121)[:, None], x)
    assert bessel(120, x) == pytest.approx(expected, abs=1e-12)


def test_an_unknown_keyword_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(TypeError, match="freqcutoff"):
        alignprojections_horizontal(
            sinogram(HALF_TURN), HALF_TURN, np.zeros((2, 90)), freqcutof=0.5
        )


@pytest.mark.parametrize(
    ("given", "told"),
    [({"maxit": -1}, "maxit"), ({"method": "magic"}, "method"), ({"axis": 400.0}, "axis")],
)
def test_settings_out_of_range_are_named(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        align_horizontal(sinogram(HALF_TURN), HALF_TURN, **given)  # type: ignore[arg-type]
