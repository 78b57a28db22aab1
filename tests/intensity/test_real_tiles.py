"""Shading of real fluorescence tiles, most of them nearly blank."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from skimage import io

from soct.intensity.illumination import correct_illumination, estimate_illumination
from soct.quality.seams import measure_seams

pytestmark = pytest.mark.data
LINE = re.compile(r"^(\S+\.tif).*\(([\d.-]+), *([\d.-]+)\)", re.MULTILINE)


def test_shading_of_real_tissue_falls_below_a_third(shared: Path) -> None:
    folder = shared / "data" / "tiles_brain_wsi"
    if not folder.is_dir():
        pytest.skip("the real tiles are not on this machine")
    listed = LINE.findall((folder / "TileConfiguration.txt").read_text())
    tiles = np.stack([io.imread(folder / name) for name, _, _ in listed]).astype(np.float32)
    column = np.array([round(float(x) / 460) for _, x, _ in listed])
    row = np.array([round(float(y) / 460) for _, _, y in listed])
    # The camera is turned by one degree against the stage (SOURCE.txt of the data).
    positions = np.stack([461 * row + 8 * column, 461 * column - 8 * row], axis=1).astype(float)
    found = estimate_illumination(tiles, positions_px=positions)
    assert np.count_nonzero(found.weights) < 0.7 * len(tiles)
    tissue = found.weights > 0
    before = measure_seams(tiles[tissue], positions[tissue], smoothing_px=2)
    after = measure_seams(
        correct_illumination(tiles, found)[tissue], positions[tissue], smoothing_px=2
    )
    assert before.pairs > 20
    assert after.shading < before.shading / 3
    assert after.l1 < before.l1 / 2
    assert after.pearson > before.pearson
