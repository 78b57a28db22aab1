"""Every method gives back ``out[k] = in[k + s]``: whole pixels exactly, parts of a pixel as a continuous signal would be."""

import doctest

import numpy as np
import pytest

import soct.tomography.shifts
from soct.tomography import ShiftFunc

METHODS = ("linear", "fourier", "spline")
# A third of a pixel beside the true value, of a signal of amplitude 1: what each method may cost.
TOLERANCE = {"linear": 0.02, "fourier": 1e-4, "spline": 1e-4}


def blob(shape, shift, radius=4.5):
    """A Gaussian in the middle, displaced so that ``out[k] = blob[k + shift]``."""
    grids = np.meshgrid(
        *(np.arange(n) - n // 2 + s for n, s in zip(shape, shift, strict=True)), indexing="ij"
    )
    return np.exp(-0.5 * sum(g**2 for g in grids) / radius**2)


@pytest.mark.parametrize("method", METHODS)
def test_a_sine_of_5_hz_shifted_by_5_samples(method):
    t = np.arange(150) / 150
    shifted = ShiftFunc(shiftmeth=method)(np.sin(2 * np.pi * 5 * t), 5)
    expected = np.sin(2 * np.pi * 5 * (t + 5 / 150))
    inside = slice(None) if method != "spline" else slice(None, -5)
    np.testing.assert_allclose(shifted[inside], expected[inside], atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_a_box_of_1025_x_801_shifted_by_150_2_and_minus_50(method):
    image = np.zeros((1025, 801), np.float32)
    image[400:600, 300:500] = 1
    shifted = ShiftFunc(shiftmeth=method)(image, (150.2, -50))
    assert shifted.dtype == np.float32
    # The edges lie between pixels now, where half the height is passed.
    column, row = shifted[:, 450], shifted[350]
    for line, edges in ((column, (249.3, 449.3)), (row, (349.5, 549.5))):
        above = np.flatnonzero(line > 0.5)
        for k, edge in ((above[0], edges[0]), (above[-1] + 1, edges[1])):
            crossing = k - 1 + (0.5 - line[k - 1]) / (line[k] - line[k - 1])
            assert crossing == pytest.approx(edge, abs=0.13)
    assert shifted.sum() == pytest.approx(image.sum(), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_smooth_image_is_moved_by_parts_of_a_pixel(method):
    shift = ShiftFunc(shiftmeth=method)
    for move in ((0.3, -0.4), (3.5, 2.25), (-7.2, 0.0), (0, 0.5)):
        moved = shift(blob((64, 81), (0, 0)), move)
        np.testing.assert_allclose(moved, blob((64, 81), move), atol=TOLERANCE[method])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("move", [(3, -4), (-70, 200), (0, 1)])
def test_whole_pixels_are_exact(method, move):
    image = np.random.default_rng(0).random((24, 31))
    shifted = ShiftFunc(method)(image, move)
    if method == "spline":
        rows, columns = (np.arange(n) + s for n, s in zip(image.shape, move, strict=True))
        inside = np.ix_((rows >= 0) & (rows < 24), (columns >= 0) & (columns < 31))
        np.testing.assert_array_equal(
            shifted[inside], np.roll(image, (-move[0], -move[1]), (0, 1))[inside]
        )
    else:
        np.testing.assert_array_equal(shifted, np.roll(image, (-move[0], -move[1]), (0, 1)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_no_shift_returns_the_input_as_a_copy(method, dtype):
    image = np.random.default_rng(1).random((9, 8)).astype(dtype)
    shifted = ShiftFunc(method)(image, (0, 0))
    np.testing.assert_array_equal(shifted, image)
    assert shifted.dtype == dtype
    assert not np.shares_memory(shifted, image)


@pytest.mark.parametrize("method", METHODS)
def test_there_and_back_again(method):
    shift = ShiftFunc(method)
    image = blob((60, 64), (0.2, -0.3))
    np.testing.assert_allclose(
        shift(shift(image, (2.3, -1.6)), (-2.3, 1.6)), image, atol=2 * TOLERANCE[method]
    )


def test_a_jump_between_the_ends_does_not_ring_through_a_fourier_shift():
    ramp = np.linspace(0, 10, 200)
    shifted = ShiftFunc("fourier")(ramp, 0.4)
    np.testing.assert_allclose(shifted[20:-20], ramp[20:-20] + 0.4 * ramp[1], atol=6e-4)
    np.testing.assert_allclose(shifted[:-1], ramp[:-1] + 0.4 * ramp[1], atol=0.04)


def test_a_periodic_signal_is_shifted_exactly_where_the_mode_is_wrap():
    t = np.arange(97) / 97
    shifted = ShiftFunc("fourier")(np.cos(2 * np.pi * 8 * t), 13.7, "wrap")
    np.testing.assert_allclose(shifted, np.cos(2 * np.pi * 8 * (t + 13.7 / 97)), atol=1e-12)


@pytest.mark.parametrize("mode", soct.tomography.shifts.PAD_MODES)
def test_every_mode_of_padding_leaves_the_middle_alone(mode):
    for method in METHODS:
        moved = ShiftFunc(method)(blob((64, 64), (0, 0)), (0.5, -3.5), mode)
        middle = (slice(12, 52), slice(12, 52))
        np.testing.assert_allclose(moved[middle], blob((64, 64), (0.5, -3.5))[middle], atol=0.02)


def test_the_spline_looks_at_what_the_mode_lays_beyond_the_ends():
    assert ShiftFunc("spline")(np.arange(5.0), 2, "edge").tolist() == [2, 3, 4, 4, 4]
    assert ShiftFunc("spline")(np.arange(5.0), 2, "constant").tolist() == [2, 3, 4, 0, 0]


@pytest.mark.parametrize("method", METHODS)
def test_complex_arrays_stay_complex_unless_told_otherwise(method):
    wave = np.exp(2j * np.pi * 3 * np.arange(90) / 90)
    shift = ShiftFunc(method)
    moved = shift(wave, 4.3)
    assert np.iscomplexobj(moved)
    np.testing.assert_allclose(moved[10:-10].imag, shift(wave.imag.copy(), 4.3)[10:-10], atol=1e-3)
    assert not np.iscomplexobj(shift(wave, 4.3, "reflect", False))
    assert shift(np.ones(7, np.float32), 0.5, complex=True).dtype == np.complex64


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("dtype", "becomes"), [(np.uint8, np.float32), (np.uint16, np.float32), (np.int64, np.float64)]
)
def test_whole_numbers_become_floats(method, dtype, becomes):
    moved = ShiftFunc(method)(np.full(40, 7, dtype), 0.5)
    assert moved.dtype == becomes
    np.testing.assert_allclose(moved, 7, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_inputs_of_one_sample_and_views_are_shifted_and_left_alone(method):
    assert ShiftFunc(method)([3.0], [0.5]) == pytest.approx([3.0])
    image = np.random.default_rng(2).random((12, 20))
    before = image.copy()
    view = ShiftFunc(method)(image.T[::2], (1.5, 0.5))
    np.testing.assert_allclose(view, ShiftFunc(method)(image.T[::2].copy(), (1.5, 0.5)), atol=1e-12)
    np.testing.assert_array_equal(image, before)


def test_more_than_two_dimensions_are_refused_with_the_function_that_takes_them():
    with pytest.raises(ValueError, match=r"\(2, 3, 4\).*compute_aligned_stack"):
        ShiftFunc()(np.zeros((2, 3, 4)), (1, 1))


def test_an_unknown_method_is_refused_with_those_that_there_are():
    with pytest.raises(ValueError, match="linear, fourier, spline; not 'cubic'"):
        ShiftFunc(shiftmeth="cubic")
    with pytest.raises(ValueError, match=r"reflect, .*not 'mirror'"):
        ShiftFunc()(np.zeros(4), 1, "mirror")


@pytest.mark.parametrize(
    ("array", "shift"),
    [(np.zeros(4), (1, 2)), (np.zeros((4, 4)), 1), (np.zeros((4, 4)), (np.nan, 0))],
)
def test_a_shift_that_does_not_fit_the_array_is_refused(array, shift):
    with pytest.raises(ValueError, match=r"must be .* finite number"):
        ShiftFunc()(array, shift)


def test_the_examples_hold():
    assert doctest.testmod(soct.tomography.shifts).failed == 0
