"""Several slices vote on the shift of each projection."""

from __future__ import annotations

import numpy as np
import pytest

from soct.tomography import (
    align_horizontal_slices,
    refine_horizontalalignment,
    tomoconsistency_multiple,
)
from soct.tomography.gauge import shift_error
from tests.tomography.phantoms import sinogram

ANGLES = np.arange(60) * np.pi / 60
TRUTH = np.random.default_rng(0).uniform(-3, 3, 60)


def make_stack(rows: int = 7, noise: float = 0.5, spoilt: int | None = None) -> np.ndarray:
    """Slices of one object that shrinks towards the bottom; `spoilt` has other shifts."""
    stack = np.empty((60, rows, 96))
    for row in range(rows):
        shifts = np.roll(TRUTH, 7) if row == spoilt else TRUTH
        field = 80.0 * (1 - 0.01 * row)
        stack[:, row] = sinogram(ANGLES, shifts, detectors=96, field=field).T
    return stack + noise * np.random.default_rng(1).standard_normal(stack.shape)


def test_seven_slices_tell_more_than_one() -> None:
    stack = make_stack()
    one = align_horizontal_slices(stack, ANGLES, n_slices_tc=1)
    all_of_them = align_horizontal_slices(stack, ANGLES, n_slices_tc=7)
    errors = [shift_error(found.shifts[1], TRUTH, ANGLES) for found in (one, all_of_them)]
    assert errors[1] < 0.6 * errors[0]
    assert all_of_them.rows == (0, 1, 2, 3, 4, 5, 6)
    assert np.median(all_of_them.uncertainties) == pytest.approx(errors[1], rel=0.6)


@pytest.mark.parametrize("spoilt", [0, 3, 6])
def test_a_slice_that_disagrees_has_no_say_wherever_it_is(spoilt: int) -> None:
    stack = make_stack(spoilt=spoilt)
    found = align_horizontal_slices(stack, ANGLES, n_slices_tc=7)
    assert shift_error(found.shifts[1], TRUTH, ANGLES) < 0.1
    assert not found.weights[spoilt].any()
    assert any(f"Rows {spoilt} disagree" in str(notice) for notice in found.notices)


def test_the_result_does_not_depend_on_the_number_of_threads() -> None:
    stack = make_stack(rows=3)
    one, two = (
        tomoconsistency_multiple(
            stack, ANGLES, np.zeros((2, 60)), n_slices_tc=3, n_workers_tc=workers
        )
        for workers in (1, 2)
    )
    assert np.array_equal(one, two)


def test_vertical_shifts_are_applied_and_kept() -> None:
    stack = make_stack(rows=9, noise=0.0)
    vertical = np.random.default_rng(3).integers(-2, 3, 60).astype(float)
    for k in range(60):
        stack[k] = np.roll(stack[k], int(vertical[k]), axis=0)
    found = tomoconsistency_multiple(
        stack, ANGLES, np.stack([vertical, np.zeros(60)]), slicenum=4, n_slices_tc=3
    )
    assert np.array_equal(found[0], vertical)
    assert shift_error(found[1], TRUTH, ANGLES) < 0.01


def test_refinement_returns_what_it_was_done_with() -> None:
    stack = make_stack(rows=3)
    shifts, params = refine_horizontalalignment(
        stack, ANGLES, np.zeros((2, 60)), freqcutoff=0.5, silent=True
    )
    assert shift_error(shifts[1], TRUTH, ANGLES) < 0.2
    assert params["freqcutoff"] == 0.5
    assert params["slicenum"] == 1
    assert params["silent"] is True
    again, _ = refine_horizontalalignment(stack, ANGLES, shifts, **params)
    assert shift_error(again[1], shifts[1], ANGLES) < 0.01


def test_a_row_beyond_the_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="slicenum"):
        tomoconsistency_multiple(make_stack(rows=3), ANGLES, np.zeros((2, 60)), slicenum=3)
