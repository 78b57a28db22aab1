"""From shifts to offsets: signs, growth, excluded slices."""

from __future__ import annotations

import pytest

from soct.errors import ConfigurationError, InputError
from soct.registration.stage import (
    StageAxes,
    StageShift,
    StageSlice,
    estimate_xy_shifts,
    measure_stage_axes,
)
from soct.registration.stage_offsets import common_space_offsets, measure_origins
from soct.registration.stage_rehoming import CleanShift, RehomingLimits, detect_rehoming_events
from tests.registration.test_stage import mosaic


def clean(*steps: tuple[float, float]) -> tuple[CleanShift, ...]:
    rows = [StageShift(i, i + 1, s, (s[0] * 40, s[1] * 40)) for i, s in enumerate(steps)]
    return detect_rehoming_events(rows).shifts


def offsets_of(slices: dict[int, StageSlice]) -> dict[int, tuple[float, float]]:
    shifts = detect_rehoming_events(
        estimate_xy_shifts(slices), RehomingLimits(tile_fov_mm=(2.0, 2.0))
    ).shifts
    return common_space_offsets(
        shifts,
        list(slices),
        axes=measure_stage_axes(slices),
        origins_mm=measure_origins(slices),
    ).offset_um


def test_the_moving_slice_lies_at_minus_the_shift() -> None:
    space = common_space_offsets(clean((-0.1, 0.25)), [0, 1])
    assert space.centre_id == 1
    assert space.offset_um == {0: pytest.approx((-100.0, 250.0)), 1: (0.0, 0.0)}


def test_where_index_falls_with_stage_the_sign_turns() -> None:
    space = common_space_offsets(clean((-0.1, 0.25)), [0, 1], axes=StageAxes(direction=(1, -1)))
    assert space.offset_um[0] == pytest.approx((-100.0, -250.0))


def test_offsets_from_stage_positions_are_where_the_first_tile_stood() -> None:
    slices = {0: mosaic(0), 1: mosaic(1, origin=(13.1, 7.75)), 2: mosaic(2, origin=(12.9, 8.0))}
    space = offsets_of(slices)
    assert space[0] == pytest.approx((-100.0, 250.0))
    assert space[2] == pytest.approx((-200.0, 250.0))


@pytest.mark.parametrize("pitch", [1.6, 1.95])
@pytest.mark.parametrize("both_sides", [False, True])
def test_a_mosaic_that_grew_on_its_low_side_begins_one_column_earlier(
    pitch: float, both_sides: bool
) -> None:
    step = (1.6, pitch)
    slices = {
        0: mosaic(0, pitch=step),
        1: mosaic(1, cols=5 if both_sides else 4, pitch=step, origin=(13.0, 8.0 - pitch)),
        2: mosaic(2, cols=5 if both_sides else 4, pitch=step, origin=(13.0, 8.0 - pitch)),
    }
    space = offsets_of(slices)
    assert space[0] == pytest.approx((0.0, 1000 * pitch))
    assert space[2] == pytest.approx((0.0, 0.0))


def test_a_glitched_slice_lies_midway_between_its_neighbours() -> None:
    slices = {
        0: mosaic(0),
        1: mosaic(1, origin=(13.0, 11.1)),
        2: mosaic(2, origin=(13.2, 8.1)),
        3: mosaic(3, origin=(13.2, 8.1)),
        4: mosaic(4, origin=(13.2, 8.1)),
    }
    space = offsets_of(slices)
    assert space[0] == pytest.approx((-200.0, -100.0))
    assert space[1][1] == pytest.approx(-50.0)
    assert space[3] == pytest.approx((0.0, 0.0))


def test_sums_run_over_excluded_slices_too() -> None:
    shifts = clean((0.0, 0.1), (0.0, 0.2), (0.0, -0.05))
    space = common_space_offsets(shifts, [0, 2, 3])
    assert sorted(space.offset_um) == [0, 2, 3]
    assert space.offset_um[0] == pytest.approx((0.0, 300.0))
    assert space.offset_um[3] == pytest.approx((0.0, 50.0))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("keep", -700.0), ("zero", -100.0 * 5), ("median", -700.0), ("local_median", -700.0)],
)
def test_steps_of_an_excluded_slice_are_replaced_as_asked(mode: str, expected: float) -> None:
    steps = [(0.0, 0.1)] * 7
    if mode in ("median", "local_median"):
        steps[3] = (0.0, 0.4)
    space = common_space_offsets(clean(*steps), [0, 1, 2, 3, 5, 6, 7], excluded_slice_mode=mode)
    assert space.offset_um[7][1] - space.offset_um[0][1] == pytest.approx(expected)


def test_a_slice_behind_an_unreliable_step_is_unreliable() -> None:
    shifts = clean((0.0, 0.1), (0.0, 0.9), (0.0, 0.1))
    space = common_space_offsets(shifts, [0, 1, 3])
    assert space.reliable == {0: True, 1: True, 3: False}


def test_a_single_slice_needs_no_table() -> None:
    assert common_space_offsets([], [5]).offset_um == {5: (0.0, 0.0)}


def test_what_cannot_be_placed_is_an_error_that_says_so() -> None:
    with pytest.raises(InputError, match="no row"):
        common_space_offsets(clean((0.0, 0.1)), [0, 9])
    with pytest.raises(InputError, match="not a chain"):
        common_space_offsets([*clean((0.0, 0.1)), *clean((0.0, 0.1))], [0, 1])
    with pytest.raises(ConfigurationError):
        common_space_offsets(clean((0.0, 0.1)), [0], excluded_slice_mode="drop")
