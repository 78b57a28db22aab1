"""Frames that were read from a wrong A-line on are rolled back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.geometry.camera_shift import apply_camera_shift, detect_camera_shift


def tiles(count=5, seed=0, band=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        tissue = np.exp(4 * ndi.gaussian_filter(rng.standard_normal((6, 40, 60)), (0, 4, 4)))
        tissue[..., 60 - band :] *= 0.3
        yield (tissue * rng.gamma(9, 1 / 9, tissue.shape)).astype(np.float32)


def record(tile, shift, gain=1.25):
    """What the camera writes: the first A-line brighter, the very first one without image, rolled."""
    frame = tile.copy()
    frame[..., 0] *= gain
    frame[..., 0, 0] = 0
    return np.roll(frame, shift, axis=-1)


@pytest.mark.parametrize("shift", [0, 1, 17, 59])
@pytest.mark.parametrize("band", [0, 8])
def test_a_planted_shift_is_found_and_taken_back(shift, band):
    made = list(tiles(band=band))
    recorded = [record(tile, shift) for tile in made]
    found = detect_camera_shift([r.mean(axis=0) for r in recorded])
    assert found.position == shift
    assert found.gain == pytest.approx(1.25, abs=0.12)
    fixed = apply_camera_shift(recorded[0], found)
    np.testing.assert_array_equal(fixed[..., 1:], made[0][..., 1:])
    np.testing.assert_allclose(fixed[:, 1:, 0], made[0][:, 1:, 0], rtol=0.12)
    np.testing.assert_array_equal(fixed[:, 0, 0], fixed[:, 1, 0])


def test_frames_in_which_no_line_stands_out_are_left_as_they_are():
    made = list(tiles(band=8))
    found = detect_camera_shift([t.mean(axis=0) for t in made])
    assert found.position is None
    assert apply_camera_shift(made[0], found) is made[0]
    assert detect_camera_shift([np.zeros((5, 60))]).position is None
