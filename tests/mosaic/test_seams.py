"""Seam metrics of images whose agreement is known."""

from __future__ import annotations

import numpy as np
import pytest

from soct.mosaic.seams import compare_with_nominal, measure_seams, seam_metrics
from soct.mosaic.strips import collect_strips, find_neighbours, overlap_boxes
from soct.mosaic.tile_placement import place_strips
from tests.mosaic.test_tile_placement import TILE, mosaic


def test_equal_images_agree_perfectly_and_a_tenth_brighter_differs_by_a_tenth():
    image = np.random.default_rng(0).random((20, 30)).astype(np.float32) + 1
    same = seam_metrics(image, image)
    assert (same.l1, same.pixels) == (0.0, 600)
    assert same.pearson == pytest.approx(1.0)
    brighter = seam_metrics(image, image * np.float32(1.1))
    assert brighter.l1 == pytest.approx(0.1 / 1.05, rel=1e-5)
    assert brighter.pearson == pytest.approx(1.0)


def test_pixels_without_data_do_not_count():
    a = np.array([1.0, 2.0, np.nan, 4.0], np.float32)
    b = np.array([1.0, 2.0, 100.0, np.nan], np.float32)
    assert seam_metrics(a, b).pixels == 2
    assert seam_metrics(a, b).l1 == 0.0
    assert np.isnan(seam_metrics(a[2:3], b[2:3]).l1)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="differ in shape"):
        seam_metrics(np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32))


def test_placement_improves_the_seams():
    tiles, nominal, true = mosaic(noise=0.1)
    pairs = find_neighbours(nominal, TILE)
    steps = nominal[pairs[:, 1]] - nominal[pairs[:, 0]]
    boxes = [overlap_boxes(tuple(s), TILE, 8.0) for s in steps]
    store = collect_strips(lambda i: tiles[i], range(len(tiles)), pairs, boxes, TILE)
    placement = place_strips(store, nominal, steps, 8.0)
    before, after = compare_with_nominal(store, placement, nominal)
    exact = measure_seams(store, true)
    assert after.median_pearson > 0.95 > before.median_pearson
    assert after.median_l1 < 0.5 * before.median_l1
    assert after.median_pearson == pytest.approx(exact.median_pearson, abs=0.01)
