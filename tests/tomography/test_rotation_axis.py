"""The rotation axis is where phantoms have it, and doubtful answers say so."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from soct.tomography import RotationAxis, TomographyWarning, estimate_rot_axis, find_rotation_axis
from tests.tomography.ellipses import noisy, sinogram

COLS = 160
TOOTH = Path("../shared/data/tomo_tooth/tooth.h5")


def half_turn(n=120):
    return np.arange(n) * np.pi / n


def full_turn(n=240):
    return np.arange(n) * 2 * np.pi / n


def found(sino, angles, **options) -> RotationAxis:
    return find_rotation_axis(sino, angles, theta_unit="rad", **options)


@pytest.mark.parametrize("axis", [79.5, 67.3, 48.0, 25.4, 131.8])
def test_the_axis_is_found_wherever_it_lies(axis):
    sino = sinogram(COLS, half_turn(), axis, min(axis, COLS - 1 - axis) - 3)
    assert found(sino, half_turn()).axis == pytest.approx(axis, abs=0.005)
    result = found(noisy(sino, 0.02), half_turn())
    assert result.axis == pytest.approx(axis, abs=0.1)
    assert result.uncertainty < 0.1
    assert result.notices == ()
    assert result.candidates[np.argmin(result.score)] == pytest.approx(axis, abs=1)


def test_degrees_and_radians_and_any_order_are_the_same():
    angles = half_turn()
    sino = sinogram(COLS, angles, 70.2, 60)
    wanted = estimate_rot_axis(sino, angles)
    assert estimate_rot_axis(sino, np.rad2deg(angles)) == pytest.approx(wanted, abs=1e-9)
    order = np.random.default_rng(0).permutation(len(angles))
    assert estimate_rot_axis(sino[:, order], angles[order]) == pytest.approx(wanted, abs=1e-4)
    assert estimate_rot_axis(sino, angles + 5 * np.pi) == pytest.approx(wanted, abs=1e-4)


def test_uneven_angles_cost_nothing():
    angles = np.sort(np.random.default_rng(5).uniform(0, np.pi, 120))
    sino = sinogram(COLS, angles, 75.3, 65)
    assert found(sino, angles).axis == pytest.approx(75.3, abs=0.005)
    assert found(noisy(sino, 0.02), angles).axis == pytest.approx(75.3, abs=0.1)


def test_a_full_turn_is_used_whole():
    sino = noisy(sinogram(COLS, full_turn(), 70.6, 60), 0.02)
    whole, half = found(sino, full_turn()), found(sino[:, :120], full_turn()[:120])
    assert whole.axis == pytest.approx(70.6, abs=0.03)
    assert whole.uncertainty < half.uncertainty / 2


def test_the_uncertainty_is_that_of_repeated_scans():
    sino = sinogram(COLS, half_turn(), 70.6, 60)
    results = [found(noisy(sino, 0.03, seed), half_turn()) for seed in range(8)]
    scatter = np.sqrt(np.mean([(r.axis - 70.6) ** 2 for r in results]))
    told = np.median([r.uncertainty for r in results])
    assert 0.4 < scatter / told < 1.8


def test_rows_that_differ_by_more_than_noise_are_a_leaning_axis():
    angles = half_turn(60)
    axes = np.linspace(69, 72, 20)
    stack = np.stack([sinogram(COLS, angles, axis, 60).T for axis in axes], axis=1)
    result = found(noisy(stack, 0.01), angles)
    assert result.axis == pytest.approx(70.5, abs=0.1)
    np.testing.assert_allclose(result.row_axes, np.interp(result.rows, range(20), axes), atol=0.15)
    (notice,) = result.notices
    assert "leans" in notice
    assert re.search(r"\+2\.[789]\d px", notice)


def test_rows_without_an_object_have_no_say():
    angles = half_turn(60)
    stack = np.zeros((60, 12, COLS))
    stack[:, 8:] = sinogram(COLS, angles, 70.5, 60).T[:, None]
    assert found(noisy(stack, 0.02), angles).axis == pytest.approx(70.5, abs=0.1)


def test_rings_do_not_draw_the_axis_to_themselves():
    sino = sinogram(COLS, half_turn(), 70.6, 60)
    rings = np.random.default_rng(9).standard_normal((COLS, 1)) * 0.01 * sino.max()
    assert found(noisy(sino + rings, 0.01), half_turn()).axis == pytest.approx(70.6, abs=0.15)
    slope = np.linspace(0, 0.05 * sino.max(), COLS)[:, None]
    assert found(noisy(sino + slope, 0.01), half_turn()).axis == pytest.approx(70.6, abs=0.15)


@pytest.mark.parametrize("axis", [79.5, 40.3, 18.2, 143.6])
def test_with_a_full_turn_the_axis_may_lie_near_the_edge_of_a_cut_object(axis):
    sino = sinogram(COLS, full_turn(), axis, 140)
    assert found(sino, full_turn()).axis == pytest.approx(axis, abs=0.01)
    result = found(noisy(sino, 0.01), full_turn())
    assert result.axis == pytest.approx(axis, abs=0.1)
    assert result.method == "opposite projections"
    assert "beyond the detector" in result.notices[0]


def test_with_half_a_turn_a_cut_object_still_tells_its_axis_and_that_it_is_cut():
    angles = half_turn(180)
    sino = sinogram(COLS, angles, 68.4, 110)
    result = found(sino, angles)
    assert result.axis == pytest.approx(68.4, abs=0.02)
    assert any("beyond the detector" in n for n in result.notices)
    rough = found(noisy(sino, 0.01), angles)
    assert abs(rough.axis - 68.4) < 4 * rough.uncertainty < 2


def test_a_stray_projection_of_a_full_turn_has_no_vote():
    sino = sinogram(COLS, full_turn(), 40.3, 140)
    sino[:, 30:34] = np.roll(sino[:, 30:34], 9, axis=0)
    assert found(sino, full_turn()).axis == pytest.approx(40.3, abs=0.02)


def test_derivatives_along_the_detector_are_understood():
    sino = sinogram(COLS + 1, half_turn(), 70.8, 60)
    slopes = np.diff(sino, axis=0)
    assert found(slopes, half_turn(), derivatives=True).axis == pytest.approx(70.3, abs=0.02)
    rough = found(noisy(slopes, 0.02), half_turn(), derivatives=True)
    assert rough.axis == pytest.approx(70.3, abs=0.15)


@pytest.mark.parametrize("span", [150, 120])
def test_a_part_of_half_a_turn_is_less_certain_and_says_so(span):
    angles = np.linspace(0, np.deg2rad(span), 120)
    sino = sinogram(COLS, angles, 75.2, 68)
    with pytest.warns(TomographyWarning, match=f"{span + 1} degrees of the 180"):
        axis = estimate_rot_axis(sino, angles)
    assert axis == pytest.approx(75.2, abs=0.2)
    rough = found(noisy(sino, 0.02), angles)
    whole = found(noisy(sinogram(COLS, half_turn(), 75.2, 68), 0.02), half_turn())
    assert rough.uncertainty > 2 * whole.uncertainty
    assert abs(rough.axis - 75.2) < 4 * rough.uncertainty


def test_too_few_degrees_are_refused_with_what_they_span():
    angles = np.linspace(0, np.deg2rad(60), 60)
    with pytest.raises(ValueError, match=r"span 60\.0 degrees"):
        estimate_rot_axis(sinogram(COLS, angles, 80, 60), angles)
    angles = np.linspace(0, np.deg2rad(130), 60)
    with pytest.raises(ValueError, match="beyond the detector"):
        estimate_rot_axis(sinogram(COLS, angles, 80, 150), angles)


def test_what_shows_nothing_is_refused():
    with pytest.raises(ValueError, match="one brightness"):
        estimate_rot_axis(np.ones((20, 4, 30)), half_turn(20))
    with pytest.raises(ValueError, match="at least 8"):
        estimate_rot_axis(np.ones((5, 4, 30)), half_turn(5))
    with pytest.raises(ValueError, match="one angle per projection"):
        estimate_rot_axis(np.ones((20, 4, 30)), half_turn(21))
    with pytest.raises(ValueError, match="finite"):
        estimate_rot_axis(np.full((20, 4, 30), np.nan), half_turn(20))
    with pytest.raises(ValueError, match="complex"):
        estimate_rot_axis(np.ones((20, 4, 30), complex), half_turn(20))


def test_a_picker_starts_from_the_estimate_and_has_the_last_word():
    sino, given = sinogram(COLS, half_turn(), 70.2, 60), []

    def picker(stack, theta, start):
        given.append((stack, theta, start))
        return start + 1.5

    axis = estimate_rot_axis(sino, np.rad2deg(half_turn()), picker=picker)
    ((stack, theta, start),) = given
    assert axis == start + 1.5
    assert stack is sino
    np.testing.assert_allclose(theta, half_turn())


def test_documented_parameters_of_others_are_passed_over_and_wrong_ones_named():
    sino = sinogram(COLS, half_turn(60), 70.2, 60)
    estimate_rot_axis(sino, half_turn(60), silent=True, slicenum=3, circle=True)
    with pytest.raises(TypeError, match="derivatives"):
        estimate_rot_axis(sino, half_turn(60), derivative=True)
    assert list(inspect.signature(estimate_rot_axis).parameters)[:2] == ["stack", "theta"]


@pytest.mark.data
def test_the_axis_of_a_tooth_is_found():
    if not TOOTH.exists():
        pytest.skip("the shared data are not here")
    h5py = pytest.importorskip("h5py")
    with h5py.File(TOOTH) as file:
        data, white, dark = (file[f"exchange/data{s}"][:] for s in ("", "_white", "_dark"))
        theta = file["exchange/theta"][:]
    lines = -np.log((data - dark.mean(axis=0)) / (white.mean(axis=0) - dark.mean(axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert estimate_rot_axis(lines, theta) == pytest.approx(296.0, abs=0.5)
        assert estimate_rot_axis(lines[:, 0].T, theta) == pytest.approx(296.0, abs=0.5)
