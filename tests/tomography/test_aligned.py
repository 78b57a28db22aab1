"""Stacks and sinograms are shifted plane by plane as single images are, in place and from files as well."""

import numba
import numpy as np
import pytest

from soct.tomography import (
    ShiftFunc,
    compute_aligned_horizontal,
    compute_aligned_sino,
    compute_aligned_stack,
)

METHODS = ("linear", "fourier", "spline")


@pytest.fixture
def stack():
    return np.random.default_rng(0).random((5, 20, 26)).astype(np.float32)


@pytest.fixture
def shifts():
    return np.array([[0, 1.5, -2, 3.25, 0], [0, -0.5, 4, 0, -7.3]])


@pytest.mark.parametrize("method", METHODS)
def test_a_stack_is_shifted_as_its_projections_are(stack, shifts, method):
    aligned = compute_aligned_stack(stack, shifts, shift_method=method)
    assert aligned.dtype == np.float32
    for k in range(5):
        np.testing.assert_array_equal(aligned[k], ShiftFunc(method)(stack[k], shifts[:, k]))


@pytest.mark.parametrize("method", METHODS)
def test_a_sinogram_is_shifted_as_its_columns_are(stack, shifts, method):
    sinogram = np.ascontiguousarray(stack[:, 3].T)
    aligned = compute_aligned_sino(sinogram, shifts[1], shift_method=method)
    assert aligned.dtype == np.float32
    assert aligned.flags.c_contiguous
    for k in range(5):
        expected = ShiftFunc(method)(sinogram[:, k], shifts[1, k])
        np.testing.assert_allclose(aligned[:, k], expected, atol=2e-6)


def test_the_shifts_of_a_sinogram_are_taken_in_every_documented_shape(stack, shifts):
    sinogram = stack[:, 0].T
    expected = compute_aligned_sino(sinogram, shifts[1])
    for given in (shifts, shifts[1:], shifts[1].tolist()):
        np.testing.assert_array_equal(compute_aligned_sino(sinogram, given), expected)


def test_the_horizontal_alignment_leaves_the_rows_where_they_are(stack, shifts):
    only = shifts * [[0], [1]]
    np.testing.assert_array_equal(
        compute_aligned_horizontal(stack, shifts), compute_aligned_stack(stack, only)
    )


@pytest.mark.parametrize("method", METHODS)
def test_the_result_may_take_the_place_of_the_stack(stack, shifts, method):
    expected = compute_aligned_stack(stack, shifts, method)
    out = compute_aligned_stack(stack, shifts, method, out=stack)
    assert out is stack
    np.testing.assert_array_equal(stack, expected)


def test_planes_are_read_one_by_one(stack, shifts):
    class Lazy:
        shape, dtype, read = stack.shape, stack.dtype, []

        def __getitem__(self, k):
            self.read.append(k)
            return stack[k]

        def __len__(self):
            return 5

    lazy = Lazy()
    np.testing.assert_array_equal(
        compute_aligned_stack(lazy, shifts), compute_aligned_stack(stack, shifts)
    )
    assert sorted(lazy.read) == [0, 1, 2, 3, 4]


def test_the_number_of_threads_does_not_show(stack, shifts):
    expected = compute_aligned_stack(stack, shifts)
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        np.testing.assert_array_equal(compute_aligned_stack(stack, shifts), expected)
    finally:
        numba.set_num_threads(before)


def test_progress_is_told(stack, shifts):
    told = []
    compute_aligned_stack(stack, shifts, progress=lambda *at: told.append(at))
    assert told == [(k, 5) for k in range(1, 6)]


def test_whole_numbers_and_lists_become_floats():
    assert compute_aligned_stack([[[1, 2], [3, 4]]], [[1], [0]]).tolist() == [[[3, 4], [1, 2]]]
    assert compute_aligned_stack(np.ones((1, 2, 2), np.uint16), [[0], [0]]).dtype == np.float32


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s, m: (s[0], m), r"three dimensions, .* shape \(20, 26\)"),
        (lambda s, m: (s, m[:, :4]), r"shape \(2, 5\).*has the shape \(2, 4\)"),
        (lambda s, m: (s, m.T), r"has the shape \(5, 2\)"),
        (lambda s, m: (s, m * [[1, 1, 1, np.nan, 1]]), "projection 3 is not"),
        (
            lambda s, m: (np.where(np.arange(5)[:, None, None] == 2, np.nan, s), m),
            "projection 2 has 520 NaN",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_what_was_found(stack, shifts, change, said):
    with pytest.raises(ValueError, match=said):
        compute_aligned_stack(*change(stack, shifts))


def test_an_unknown_method_and_a_wrong_place_for_the_result_are_refused(stack, shifts):
    with pytest.raises(ValueError, match="shift_method must be one of linear"):
        compute_aligned_stack(stack, shifts, "nearest")
    with pytest.raises(ValueError, match=r"out must be an array of float32 .*int16"):
        compute_aligned_stack(stack, shifts, out=np.zeros(stack.shape, np.int16))
    with pytest.raises(ValueError, match=r"shape \(5,\) or \(1, 5\)"):
        compute_aligned_sino(stack[:, 0].T, shifts[:, :3])
