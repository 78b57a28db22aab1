"""The overlap of tiles is measured where nothing tells it."""

from __future__ import annotations

import numpy as np
import pytest

from soct.mosaic.overlap import grid_neighbours, measure_overlap
from tests.mosaic.test_tile_placement import TILE, mosaic


def grid_index(rows, cols):
    r, c = np.divmod(np.arange(rows * cols), cols)
    return np.stack([np.zeros_like(r), r, c], axis=1)


@pytest.mark.parametrize("fractions", [(0.08, 0.1), (0.2, 0.2), (0.25, 0.4)])
def test_the_overlap_along_both_axes_comes_back_within_a_pixel(fractions):
    step = tuple(round(n * (1 - f)) for n, f in zip(TILE, fractions, strict=True))
    tiles, _, _ = mosaic(3, 3, jitter=1.5, step=step, noise=0.4)
    found = measure_overlap(lambda i: tiles[i], grid_index(3, 3), TILE)
    for axis in (0, 1):
        assert found[axis].fraction == pytest.approx(
            1 - step[axis] / TILE[axis], abs=1.5 / TILE[axis]
        )


def test_blank_tiles_do_not_decide():
    tiles, _, _ = mosaic(4, 4, jitter=1.5)
    rng = np.random.default_rng(3)
    for k in (0, 1, 2, 3, 4, 8, 12, 13):
        tiles[k] = rng.gamma(3.0, 0.1, tiles[k].shape).astype(np.float32)
    found = measure_overlap(lambda i: tiles[i], grid_index(4, 4), TILE)
    assert found[0].fraction == pytest.approx(1 - 76 / 96, abs=0.015)
    assert found[1].fraction == pytest.approx(1 - 90 / 112, abs=0.015)


def test_noise_alone_gives_no_overlap():
    rng = np.random.default_rng(0)
    tiles = [rng.gamma(3.0, 0.3, TILE).astype(np.float32) for _ in range(12)]
    found = measure_overlap(lambda i: tiles[i], grid_index(3, 4), TILE)
    assert [a.fraction for a in found] == [None, None]


def test_one_row_of_tiles_tells_one_axis_only():
    tiles, _, _ = mosaic(1, 3, jitter=1.0)
    down, along = measure_overlap(lambda i: tiles[i], grid_index(1, 3), TILE)
    assert (down.fraction, down.pairs) == (None, 0)
    assert along.fraction == pytest.approx(1 - 90 / 112, abs=0.015)


def test_neighbours_are_of_one_slice():
    index = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 2], [1, 1, 2]])
    assert grid_neighbours(index, 1).tolist() == [[0, 1]]
    assert grid_neighbours(index, 0).tolist() == [[2, 3]]
