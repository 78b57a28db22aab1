"""The verdict on stitching follows its rule, and the worst places are named."""

from __future__ import annotations

import numpy as np

from soct.mosaic.stitch_comparison import compare_overlaps


def test_most_overlaps_rising_is_better_and_falling_is_worse():
    before = np.array([0.5, 0.6, 0.7, 0.6])
    assert compare_overlaps(before, before + 0.1).verdict == "better"
    assert compare_overlaps(before, before - 0.1).verdict == "worse"
    assert compare_overlaps(before, before + 0.001).verdict == "same"


def test_one_overlap_that_lost_is_named_first():
    before = np.array([0.5, 0.6, 0.7, 0.6, np.nan])
    after = np.array([0.8, 0.9, 0.4, 0.7, np.nan])
    found = compare_overlaps(before, after)
    assert found.verdict == "better"
    assert found.worst[:2] == (2, 3)
    assert found.n == 4


def test_nothing_to_compare_is_no_verdict():
    nothing = np.full(3, np.nan)
    assert compare_overlaps(nothing, nothing).verdict == "unknown"
