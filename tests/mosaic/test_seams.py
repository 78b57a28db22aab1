"""Both sides of an overlap on common pixels."""

from __future__ import annotations

import numpy as np

from soct.mosaic.seams import aligned_sides
from soct.mosaic.strips import collect_strips, find_neighbours, overlap_boxes
from tests.mosaic.test_tile_placement import TILE, mosaic


def test_both_sides_show_the_same_tissue_where_tiles_lie_truly():
    tiles, nominal, true = mosaic(noise=0.1)
    pairs = find_neighbours(nominal, TILE)
    boxes = [overlap_boxes(tuple(nominal[j] - nominal[i]), TILE, 8.0) for i, j in pairs]
    store = collect_strips(lambda i: tiles[i], range(len(tiles)), pairs, boxes, TILE)
    agreement = {}
    for name, positions in (("true", true), ("nominal", nominal)):
        sides = [
            aligned_sides(store, p, positions[j] - positions[i], 1.5)
            for p, (i, j) in enumerate(pairs)
        ]
        found = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in filter(None, sides)]
        agreement[name] = np.median(found)
    assert agreement["true"] > 0.95 > agreement["nominal"]
