"""Placement of real microscope tiles whose positions are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from skimage import io

from soct.mosaic.tile_placement import place_tiles

pytestmark = pytest.mark.data
LISTED = re.compile(r"^(\S+\.tif).*\(([\d.-]+), *([\d.-]+)\)", re.MULTILINE)


def folder_of(shared: Path, name: str) -> Path:
    folder = shared / "data" / name
    if not folder.is_dir():
        pytest.skip("the real tiles are not on this machine")
    return folder


def test_every_tile_of_a_cut_up_image_is_exact_in_whole_pixels(shared: Path) -> None:
    folder = folder_of(shared, "tiles_mist_exact")
    truth = json.loads((folder / "derived_exact_truth.json").read_text())
    tiles = np.stack([io.imread(folder / name) for name in truth]).astype(np.float32)
    index = np.array([(t["row"], t["col"]) for t in truth.values()], float)
    true = np.array([(t["y"], t["x"]) for t in truth.values()], float)
    # The stage knows the regular grid of 6 % overlap; tiles are up to 13 px off it.
    nominal = np.rint(index * np.array(tiles.shape[1:]) * 0.94)
    assert np.abs((nominal - true) - np.median(nominal - true, axis=0)).max() > 8
    found = place_tiles(tiles.__getitem__, nominal, tiles.shape[1:])
    error = found.positions_px - true
    assert np.abs(error - np.median(error, axis=0)).max() < 0.01
    assert found.measured.all()


def test_a_half_blank_brain_section_keeps_its_grid_everywhere(shared: Path) -> None:
    folder = folder_of(shared, "tiles_brain_wsi")
    listed = LISTED.findall((folder / "TileConfiguration.txt").read_text())
    tiles = np.stack([io.imread(folder / name) for name, _, _ in listed]).astype(np.float32)
    nominal = np.array([(float(y), float(x)) for _, x, y in listed])
    found = place_tiles(tiles.__getitem__, nominal, tiles.shape[1:])
    index = {name: i for i, (name, _, _) in enumerate(listed)}
    # The camera is turned by one degree against the stage (SOURCE.txt of the data).
    vector = {"h": np.array([8.0, 461.0]), "v": np.array([461.0, -8.0])}
    pairs = json.loads((folder / "derived_pairwise_reference.json").read_text())
    for pair in pairs:
        offset = found.positions_px[index[pair["b"]]] - found.positions_px[index[pair["a"]]]
        allowed = 1.0 if pair["ncc"] > 0.7 else 5.0
        assert np.abs(offset - vector[pair["kind"]]).max() <= allowed, pair
    # Tiles without texture say so rather than being measured on shading.
    assert 0 < np.count_nonzero(~found.measured) < len(tiles) / 2
