"""Glitches, growth and real moves of the stage, and the drift report."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soct.registration.stage import StageShift
from soct.registration.stage_drift import analyze_shifts
from soct.registration.stage_rehoming import (
    RehomingLimits,
    RehomingReport,
    detect_rehoming_events,
)

FOV = RehomingLimits(tile_fov_mm=(2.0, 2.0))


def chain(*steps: tuple[float, float], reliable: bool = True) -> list[StageShift]:
    return [StageShift(i, i + 1, s, (s[0] * 40, s[1] * 50), reliable) for i, s in enumerate(steps)]


def kinds(report: RehomingReport) -> list[str]:
    return [e.kind for e in report.events]


def test_small_steps_pass_unchanged() -> None:
    shifts = chain((0.1, -0.2), (0.3, 0.3))
    report = detect_rehoming_events(shifts)
    assert [(c.shift_mm, c.shift_px, c.reliable, c.corrected) for c in report.shifts] == [
        (s.shift_mm, s.shift_px, True, "") for s in shifts
    ]
    assert report.events == ()


def test_a_step_that_the_next_one_takes_back_is_a_glitch_and_the_net_displacement_is_kept() -> None:
    report = detect_rehoming_events(chain((0.0, 0.1), (0.05, 3.0), (0.05, -2.9), (0.0, 0.1)))
    assert kinds(report) == ["glitch"]
    assert report.glitched_ids == (2,)
    clean = np.array([c.shift_mm for c in report.shifts])
    assert clean[1:3] == pytest.approx(np.array([[0.05, 0.05], [0.05, 0.05]]))
    assert clean.sum(axis=0) == pytest.approx([0.1, 0.3])
    assert [c.reliable for c in report.shifts] == [True, False, False, True]
    assert [c.corrected for c in report.shifts] == ["", "glitch", "glitch", ""]
    assert report.shifts[1].shift_px == pytest.approx((2.0, 2.5))
    assert report.shifts[1].raw_mm == (0.05, 3.0)


def test_a_small_move_along_the_other_axis_survives_a_glitch() -> None:
    report = detect_rehoming_events(chain((0.2, 3.0), (-0.05, -3.0)))
    assert [c.shift_mm[0] for c in report.shifts] == [0.2, -0.05]


def test_a_big_step_that_nobody_takes_back_is_real_and_stays_but_is_marked() -> None:
    report = detect_rehoming_events(chain((0.0, 0.0), (0.0, 1.3), (0.0, 0.1)), FOV)
    assert kinds(report) == ["real"]
    assert report.shifts[1].shift_mm == (0.0, 1.3)
    assert report.shifts[1].corrected == ""
    assert not report.shifts[1].reliable
    assert report.shifts[1].reliable_in


def test_a_step_taken_back_only_in_part_is_no_glitch() -> None:
    assert kinds(detect_rehoming_events(chain((0.0, 1.0), (0.0, -0.5)))) == ["real"]
    assert kinds(detect_rehoming_events(chain((0.0, 1.0), (0.0, -0.65)))) == ["glitch"]


def test_two_jumps_in_different_places_are_not_paired() -> None:
    report = detect_rehoming_events(chain((0.0, 3.0), (0.0, 0.0), (0.0, -3.0)))
    assert kinds(report) == ["real", "real"]


def test_every_second_position_wrong_is_two_glitches_not_one() -> None:
    report = detect_rehoming_events(
        chain((0.0, 3.0), (0.0, -3.01), (0.0, 3.01), (0.0, -3.0)), RehomingLimits()
    )
    assert report.glitched_ids == (1, 3)


@pytest.mark.parametrize("tiles", [1, -1, 2])
def test_whole_fields_of_view_are_growth_and_leave_the_rest_of_the_step(tiles: int) -> None:
    report = detect_rehoming_events(chain((0.0, 0.1), (0.02, tiles * 2.0 + 0.06)), FOV)
    assert kinds(report) == ["growth"]
    assert report.shifts[1].shift_mm == pytest.approx((0.02, 0.06))
    assert report.shifts[1].corrected == "growth"


def test_growth_needs_the_field_of_view_and_its_tolerance() -> None:
    step = chain((0.0, 2.06))
    assert kinds(detect_rehoming_events(step)) == ["real"]
    assert kinds(detect_rehoming_events(chain((0.0, 2.12)), FOV)) == ["real"]


def test_a_glitch_of_one_field_of_view_is_a_glitch() -> None:
    assert kinds(detect_rehoming_events(chain((0.0, 2.0), (0.0, -2.0)), FOV)) == ["glitch"]


def test_rows_that_do_not_touch_are_never_paired() -> None:
    a, b = chain((0.0, 3.0), (0.0, -3.0))
    apart = StageShift(7, 8, b.shift_mm, b.shift_px)
    assert kinds(detect_rehoming_events([a, apart])) == ["real", "real"]


def test_an_unreliable_row_stays_unreliable() -> None:
    (row,) = detect_rehoming_events(chain((0.0, 0.1), reliable=False)).shifts
    assert not row.reliable
    assert not row.reliable_in


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(-4, 4).map(float), st.floats(-4, 4).map(float)), min_size=0, max_size=9
    )
)
def test_without_growth_the_last_slice_never_moves(steps: list[tuple[float, float]]) -> None:
    report = detect_rehoming_events(chain(*steps))
    before = np.array(steps, float).reshape(-1, 2).sum(axis=0)
    after = np.array([c.shift_mm for c in report.shifts], float).reshape(-1, 2).sum(axis=0)
    assert after == pytest.approx(before, abs=1e-9)


def test_the_drift_report_finds_the_outlier_and_the_total() -> None:
    steps = [(0.01 * (i % 3), 0.02) for i in range(12)]
    steps[7] = (0.0, -0.9)
    report = analyze_shifts(chain(*steps))
    assert report.outliers == ((7, 8),)
    assert report.max_step_pair == (7, 8)
    assert report.x.total_mm == pytest.approx(11 * 0.02 - 0.9)
    assert report.y.outliers == ()


def test_a_run_of_one_slice_has_an_empty_drift_report() -> None:
    report = analyze_shifts([])
    assert (report.n_pairs, report.max_step_pair, report.outliers) == (0, None, ())
