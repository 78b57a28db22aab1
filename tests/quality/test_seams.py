"""Seams of mosaics whose shading and placement are known."""

from __future__ import annotations

import numpy as np
import pytest

from soct.quality.seams import measure_seams
from soct.space import Array

TILE = 40


def mosaic(gain: float = 1.0) -> tuple[Array, Array]:
    """Two rows and three columns cut from one texture; every second tile is brighter by `gain`."""
    texture = np.random.default_rng(0).random((75, 110)) + 1
    positions = np.array([(y, x) for y in (0, 33) for x in (0, 33, 66)], float)
    tiles = [
        texture[int(y) : int(y) + TILE, int(x) : int(x) + TILE] * (gain if k % 2 else 1)
        for k, (y, x) in enumerate(positions)
    ]
    return np.stack(tiles), positions


def test_tiles_of_one_texture_agree_and_a_gain_of_ten_percent_is_a_step_of_ten_percent() -> None:
    same = measure_seams(*mosaic())
    assert same.pairs == 7
    assert same.l1 == 0
    assert same.pearson == pytest.approx(1)
    stepped = measure_seams(*mosaic(1.1))
    assert stepped.shading == pytest.approx(np.log(1.1), rel=0.01)
    assert stepped.step_percent == pytest.approx(100 * 0.1 / 1.05, rel=0.01)


def test_misplaced_tiles_do_not_correlate() -> None:
    tiles, positions = mosaic()
    assert measure_seams(tiles, positions + [[0, 0], [0, 3], [0, 0]] * 2).pearson < 0.5


def test_tiles_of_other_slices_and_dark_overlaps_do_not_count() -> None:
    tiles, positions = mosaic()
    assert measure_seams(tiles, positions, groups=np.array([0, 0, 0, 1, 1, 1])).pairs == 4
    assert measure_seams(tiles, positions, min_level=5.0).pairs == 0
    assert np.isnan(measure_seams(tiles[:1], positions[:1]).l1)
    tiles[0] = np.nan
    assert measure_seams(tiles, positions).pairs == 5
