"""Horizontal alignment: known shifts put in, got back within a stated error."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

from soct.tomography import align_horizontal, alignprojections_horizontal
from soct.tomography.bow_tie import bessel
from soct.tomography.gauge import remove_gauge, shift_error
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
