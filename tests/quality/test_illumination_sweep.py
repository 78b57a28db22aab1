"""The sweep ranks settings by seams that they did not see, and prefers a correction where there is shading."""

from __future__ import annotations

import numpy as np
import pytest

from soct.quality.illumination_sweep import (
    FlatFieldSetting,
    make_settings,
    sweep_illumination,
)


def test_only_combinations_that_differ_are_tried():
    settings = make_settings(["basic", "median"], [False, True], [None, 2.0])
    assert len(settings) == 6
    assert FlatFieldSetting("median", False, None) in settings


def test_shaded_tiles_are_better_corrected_than_not():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    flat = np.exp(-0.35 * (y**2 + x**2))
    anatomy = 5 + np.sin(np.arange(260) / 9)[:, None] + np.cos(np.arange(260) / 11)[None]
    tiles, places, groups = [], [], []
    for group in range(4):
        for row in range(3):
            for col in range(3):
                at = (36 * row + 20 * group, 36 * col + 10 * group)
                cut = anatomy[at[0] : at[0] + 48, at[1] : at[1] + 48]
                tiles.append(cut * flat * (1 + 0.02 * rng.standard_normal((48, 48))))
                places.append((36 * row, 36 * col))
                groups.append(group)
    rows = sweep_illumination(
        np.array(tiles, np.float32),
        np.array(places, float),
        np.array(groups),
        make_settings(["basic", "median"], [False], [None]),
    )
    assert rows[0].setting is None
    assert rows[1].l1 < 0.5 * rows[0].l1
    assert rows[1].l1 <= rows[2].l1
    assert rows[1].flat.min() == pytest.approx((flat / flat.mean()).min(), rel=0.1)
