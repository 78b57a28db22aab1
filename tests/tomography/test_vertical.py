"""Known vertical displacements of ellipsoids, whose projections are known in closed form, are found again."""

import warnings
from functools import lru_cache

import numpy as np
import pytest

from soct.tomography import (
    ConvergenceWarning,
    TomographyWarning,
    TruncationWarning,
    align_vertical,
    alignprojections_vertical,
    vertical_fluctuations,
    vertical_shift,
)
from soct.tomography.mass import Region
from soct.tomography.object_columns import without_empty_columns
from tests.tomography.ellipsoids import HEAD, grains, project

N = 40
ANGLES = np.arange(N) * np.pi / N
SHAPE = (128, 120)


def draw(spread, seed=0):
    shifts = np.zeros((2, N))
    shifts[0] = np.random.default_rng(seed).normal(0, spread, N)
    return shifts - shifts.mean(axis=1, keepdims=True)


@lru_cache
def displaced(name="grains", spread=1.8, size=(50, 50)):
    objects = HEAD if name == "head" else grains(15)
    shifts = draw(spread)
    return project(objects, ANGLES, SHAPE, shifts, size, fine=2), shifts


def error(found, shifts):
    miss = found[0] - shifts[0]
    return np.sqrt(((miss - miss.mean()) ** 2).mean())


@pytest.mark.parametrize("name", ["grains", "head"])
def test_displacements_of_1_8_pixels_are_found_within_5_thousandths(name):
    stack, shifts = displaced(name)
    found = align_vertical(stack)
    assert error(found.shifts, shifts) < 0.005
    assert found.converged
    assert found.notices == ()
    assert found.shifts[0].mean() == pytest.approx(0, abs=1e-9)


def test_noise_of_2_percent_costs_as_much_as_is_told():
    stack, shifts = displaced()
    errors, told = [], []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(0, 0.02 * stack.max(), stack.shape)
        found = align_vertical(stack + noise)
        errors.append(error(found.shifts, shifts) ** 2)
        told.append((found.uncertainties**2).mean())
    # The sum of 156 squares of unit variance is between these in 99.9 % of all cases.
    assert 0.66 < np.mean(errors) / np.mean(told) < 1.41
    assert np.sqrt(np.mean(errors)) < 0.03


def test_backgrounds_that_rise_over_the_rows_change_nothing():
    stack, _ = displaced()
    rng = np.random.default_rng(2)
    rise = rng.normal(0, stack.max() / SHAPE[0], N)[:, None] * np.arange(SHAPE[0])
    level = rng.normal(0, stack.max(), N)[:, None]
    found = align_vertical(stack + (rise + level)[:, :, None])
    np.testing.assert_allclose(found.shifts, align_vertical(stack).shifts, atol=2e-4)


def test_noise_beside_the_object_costs_nothing():
    stack, shifts = displaced()
    wide = np.pad(stack, [(0, 0), (0, 0), (0, 200)])
    noise = np.random.default_rng(1).normal(0, 0.02 * stack.max(), wide.shape)
    narrow_error = error(align_vertical(stack + noise[:, :, : SHAPE[1]]).shifts, shifts)
    assert error(align_vertical(wide + noise).shifts, shifts) == pytest.approx(
        narrow_error, rel=0.1
    )
    # A faint part of the object far out is the object's, too.
    wide[:, 30:60, 250:280] += 0.03 * stack.max() * np.hanning(30)[:, None]
    kept = without_empty_columns(wide + noise, Region(0, 128, 0, 320), 0 * shifts, 2)
    assert 280 <= kept.right < 310
    assert without_empty_columns(stack, Region(5, 90, 3, 70), 0 * shifts, 2)[:2] == (5, 90)


def test_an_aligned_stack_stays_where_it_is():
    stack = project(grains(15), ANGLES, SHAPE, size=(50, 50))
    assert np.abs(align_vertical(stack).shifts).max() < 0.003


@pytest.mark.parametrize("size", [(40, 40), (50, 110)])
def test_displacements_of_up_to_30_pixels_are_found_of_whole_and_of_cut_objects(size):
    shifts = np.zeros((2, N))
    shifts[0] = np.random.default_rng(3).uniform(-30, 30, N)
    shape = (200, 120)
    stack = project(grains(25), ANGLES, shape, shifts, size)
    found = align_vertical(stack)
    assert error(found.shifts, shifts) < 0.02
    assert np.abs(found.shifts[0] - shifts[0] + shifts[0].mean()).max() < 0.08


def test_the_start_is_taken_over_and_its_mean_is_kept():
    stack, shifts = displaced()
    start = shifts + np.array([[3.0], [7.0]]) + draw(0.5, seed=5)
    before = start.copy()
    found = align_vertical(stack, start)
    assert error(found.shifts, shifts) < 0.005
    assert found.shifts[0].mean() == pytest.approx(3)
    np.testing.assert_array_equal(found.shifts[1], start[1])
    np.testing.assert_array_equal(start, before)


def test_limits_of_rows_and_a_margin_of_columns_are_kept_to():
    stack, shifts = displaced(size=(40, 110))
    spoilt = stack.copy()
    spoilt[:, :20] += np.random.default_rng(0).normal(0, 40, (N, 20, SHAPE[1]))
    spoilt[:, :, :8] += np.arange(N)[:, None, None] * np.random.default_rng(0).random((SHAPE[0], 8))
    found = align_vertical(spoilt, limsy=(30, 120), deltax=8)
    assert error(found.shifts, shifts) < 0.02
    unspoilt = align_vertical(stack, limsy=(30, 120), deltax=8)
    np.testing.assert_allclose(found.shifts, unspoilt.shifts, atol=1e-3)
    assert found.mean_fluctuation.shape == (90,)


def test_the_documented_call_gives_new_shifts_and_the_aligned_stack():
    stack, shifts = displaced()
    start = np.zeros((2, N))
    params = {"maxit": 30, "pixtol": 1e-3, "deltax": 4, "limsy": None, "shiftmeth": "fourier"}
    params |= {"polyorder": 2, "alignx": False, "subpixel": True, "freqcutoff": 0.2, "silent": True}
    found, aligned = alignprojections_vertical(stack, start, **params)
    assert error(found, shifts) < 0.005
    assert not start.any()
    assert aligned.shape == stack.shape
    assert aligned.dtype == np.float32
    signals = vertical_fluctuations(aligned, None, np.zeros((2, N)))
    assert np.ptp(signals, axis=0).max() < 0.03 * np.ptp(signals)


def test_the_centre_of_mass_comes_to_the_middle_column_with_alignx():
    shifts = draw(1.0)
    shifts[1] = np.random.default_rng(8).normal(0, 3, N)
    ball = ((1.0, 0.5, 0.5, 0.6, 0, 0, 0, 0), (0.5, 0.2, 0.1, 0.1, 0, 0, 0.3, 0))
    stack = project(ball, ANGLES, SHAPE, shifts, (60, 60))
    for more in ({}, {"limsy": (10, 110), "deltax": 5}):
        found = align_vertical(stack, alignx=True, **more)
        np.testing.assert_allclose(found.shifts[1], shifts[1], atol=0.02)
        assert error(found.shifts, shifts) < 0.005


def test_whole_pixels_are_given_on_request():
    stack, _ = displaced()
    found = align_vertical(stack, subpixel=False)
    np.testing.assert_array_equal(found.shifts[0], np.round(align_vertical(stack).shifts[0]))
    assert found.residuals_after.mean() > align_vertical(stack).residuals_after.mean()


def test_residuals_tell_the_gain():
    stack, _ = displaced()
    found = align_vertical(stack)
    assert found.residuals_after.max() < 0.01
    assert found.residuals_before.mean() > 10 * found.residuals_after.mean()


def test_an_object_that_leaves_the_field_of_view_sideways_is_told():
    stack = project(grains(15), ANGLES, SHAPE, draw(1.8), (50, 50), centre=(64, 115))
    found = align_vertical(stack)
    assert any(isinstance(n, TruncationWarning) for n in found.notices)
    with pytest.warns(TruncationWarning, match="leaves the field of view sideways"):
        alignprojections_vertical(stack, np.zeros((2, N)))


def test_projections_that_do_not_fit_are_named_and_do_not_draw_the_others():
    stack, shifts = displaced()
    spoilt = stack.copy()
    spoilt[7] = np.random.default_rng(0).random(SHAPE) * stack.max()
    spoilt[11] = 0
    spoilt[23, 60] += 100 * stack.max()
    spoilt[30] *= 3
    found = align_vertical(spoilt)
    assert [str(n).rsplit(": ", 1)[1] for n in found.notices] == ["7, 11, 23, 30"]
    rest = ~np.isin(np.arange(N), [7, 11, 23, 30])
    assert error(found.shifts[:, rest], shifts[:, rest]) < 0.005
    assert found.converged


def test_noise_alone_is_told_from_a_signal():
    noise = np.random.default_rng(0).normal(size=(30, 120, 1))
    told = [str(n) for n in align_vertical(noise).notices]
    assert any("hardly more than noise" in t for t in told)


def test_too_few_iterations_are_told():
    stack, _ = displaced()
    with pytest.warns(ConvergenceWarning, match="did not settle within 1 iterations"):
        alignprojections_vertical(stack, np.zeros((2, N)), maxit=1)


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_stack_keeps_its_shifts_and_says_that_nothing_tells_them(value):
    stack = np.full((5, 40, 30), value, np.float32)
    start = np.arange(10.0).reshape(2, 5)
    found = align_vertical(stack, start)
    np.testing.assert_array_equal(found.shifts, start)
    assert not found.residuals_after.any()
    assert "cannot tell vertical shifts" in str(found.notices[0])


def test_one_projection_keeps_its_shift_and_two_are_aligned_half_way_each():
    stack, shifts = displaced()
    one = align_vertical(stack[:1], [[2.5], [1]])
    assert one.shifts.tolist() == [[2.5], [1]]
    assert "nothing to be aligned with" in str(one.notices[0])
    two = align_vertical(stack[:2])
    assert error(two.shifts, shifts[:, :2]) < 0.005


def test_whole_numbers_and_lazy_stacks_are_taken():
    stack, shifts = displaced()
    counts = np.round(50 * (stack - stack.min())).astype(np.uint16)
    assert error(align_vertical(counts).shifts, shifts) < 0.005

    class Lazy:
        shape, dtype = stack.shape, stack.dtype

        def __getitem__(self, k):
            return stack[k]

        def __len__(self):
            return N

    told = []
    found = align_vertical(Lazy(), progress=lambda *at: told.append(at))
    np.testing.assert_array_equal(found.shifts, align_vertical(stack).shifts)
    assert told[-1] == (N, N)


def test_tall_projections_are_searched_by_means_of_rows():
    shifts = np.zeros((2, 12))
    shifts[0] = np.random.default_rng(3).uniform(-60, 60, 12)
    stack = project(grains(25), np.arange(12) * np.pi / 12, (900, 30), shifts, (20, 300))
    assert error(align_vertical(stack).shifts, shifts) < 0.05


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"limsy": (0, 300)}, "limsy: limits of rows must rise within 0 to 128"),
        ({"limsy": (10, 15)}, "At least 10 rows are needed"),
        ({"deltax": 60}, "less than half of 120; it is 60"),
        ({"maxit": 0}, "maxit must be .* not 0"),
        ({"pixtol": 0}, "pixtol must be .* not 0"),
        ({"shiftstack": np.zeros((2, 7))}, r"shape \(2, 40\).*\(2, 7\)"),
        ({"shiftstack": np.full((2, N), np.nan)}, "projection 0 is not"),
    ],
)
def test_wrong_parameters_are_refused_with_what_was_found(params, said):
    with pytest.raises(ValueError, match=said):
        align_vertical(displaced()[0], **params)


def test_nan_and_misspelt_parameters_are_refused():
    stack = displaced()[0].copy()
    stack[3, 0, 0] = np.nan
    with pytest.raises(ValueError, match="projection 3 has 1 NaN"):
        align_vertical(stack)
    with pytest.raises(TypeError, match="did you mean 'limsy'"):
        alignprojections_vertical(stack, np.zeros((2, N)), limy=None)
    with pytest.raises(ValueError, match="shiftmeth must be one of"):
        alignprojections_vertical(stack, np.zeros((2, N)), shiftmeth="cubic")


def test_one_signal_is_shifted_as_in_the_alignment():
    stack, shifts = displaced()
    # Away from the edges, a displaced projection shifted back has the signal of one that was never displaced.
    still = project(grains(15), ANGLES[:1], SHAPE, size=(50, 50), fine=2)[0]
    expected = vertical_shift(still, None, 0, 6, "fourier")
    found = vertical_shift(stack[0], None, shifts[0, 0], 6, "fourier")
    assert found.shape == (SHAPE[0] - 12,)
    np.testing.assert_allclose(found, expected, atol=0.01 * np.ptp(expected))
    with pytest.raises(ValueError, match="within maxshift, 6 pixels; it is 7"):
        vertical_shift(still, None, 7, 6)
    with pytest.raises(ValueError, match="No rows are left"):
        vertical_shift(still, (0, 20), 1, 18)


def test_nothing_is_told_where_nothing_is_amiss():
    stack, _ = displaced("head")
    with warnings.catch_warnings():
        warnings.simplefilter("error", TomographyWarning)
        alignprojections_vertical(stack, np.zeros((2, N)))
