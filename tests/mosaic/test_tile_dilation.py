"""Tile distances against what the stage says: a common stretch and one that depends on the place."""

from __future__ import annotations

import numpy as np
import pytest

from soct.mosaic.tile_dilation import fit_trends, measure_pitch_ratios

INDEX = np.array([(r, c) for r in range(6) for c in range(6)], np.int64)
NOMINAL = 100.0 * INDEX.astype(float)
ALL = np.ones(len(INDEX), bool)


def test_a_stretch_of_one_percent_is_in_every_ratio_whatever_the_rotation():
    turn = np.array([[np.cos(0.02), np.sin(0.02)], [-np.sin(0.02), np.cos(0.02)]])
    ratios = measure_pitch_ratios(INDEX, NOMINAL, 1.01 * NOMINAL @ turn.T, ALL)
    assert len(ratios) == 60
    assert all(r.ratio == pytest.approx(1.01) for r in ratios)
    assert not any(t.is_significant for t in fit_trends(ratios))


def test_a_stretch_that_grows_from_row_to_row_is_found_along_rows_only():
    rng = np.random.default_rng(1)
    positions = NOMINAL.copy()
    positions[:, 1] *= 1 + 0.002 * INDEX[:, 0]
    positions += 0.05 * rng.standard_normal(positions.shape)
    trends = {(t.axis, t.along): t for t in fit_trends(measure_pitch_ratios(INDEX, NOMINAL, positions, ALL))}  # fmt: skip
    assert trends["x", "row"].is_significant
    assert trends["x", "row"].slope == pytest.approx(0.002, abs=3e-4)
    assert not trends["x", "column"].is_significant
    assert not trends["y", "row"].is_significant


def test_tiles_that_were_not_measured_have_no_ratio():
    used = ALL.copy()
    used[7] = False
    assert len(measure_pitch_ratios(INDEX, NOMINAL, NOMINAL, used)) == 56
    assert all(np.isnan(t.slope) for t in fit_trends(()))
