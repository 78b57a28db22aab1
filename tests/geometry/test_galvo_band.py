"""Return lines inside assembled mosaics are found, and their columns put where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.geometry.galvo_band import detect_band

NX, EXTRA, NY = 80, 10, 60


def frames(s, level=0.35, looks=4.0, count=6, seed=0):
    """Frames f[i] = true[(i + s) mod N] of tissue with edges, return lines last in `true`."""
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        tissue = np.exp(0.5 * ndi.gaussian_filter(rng.standard_normal((NY, NX)), 5) * 10)
        flyback = level * tissue[:, :: NX // EXTRA][:, ::-1][:, :EXTRA]
        frame = np.concatenate([tissue, flyback], axis=1)
        noisy = frame * rng.gamma(looks, 1 / looks, frame.shape)
        out.append((tissue, np.roll(noisy, -s, axis=1), np.roll(frame, -s, axis=1)))
    return out


@pytest.mark.parametrize("s", [25, 40, 66])
@pytest.mark.parametrize("level", [0.35, 2.2])
def test_whole_frames_are_rolled_until_the_band_is_last(s, level):
    made = frames(s, level)
    fix = detect_band([noisy for _, noisy, _ in made])
    assert fix is not None
    assert (fix.frames, fix.bright) == ("whole", level > 1)
    assert abs(fix.start - (NX - s)) <= 1
    assert abs(fix.width - EXTRA) <= 1
    assert fix.confidence > 0.6
    assert fix.kept[0] == 0
    tissue, _, clean = made[0]
    kept = fix.apply(clean)[:, : fix.kept[1]]
    # A column at the edge of the band may go either way.
    errors = [
        np.abs(kept[:, i : i + NX - 2] - tissue[:, 1:-1]).max()
        for i in (0, 1, 2)
        if i + NX - 2 <= kept.shape[1]
    ]
    assert min(errors) < 1e-6


@pytest.mark.parametrize("s", [25, 40, 66])
def test_in_cut_frames_every_column_comes_to_its_own_place(s):
    made = frames(s)
    fix = detect_band([noisy[:, :NX] for _, noisy, _ in made])
    assert fix is not None
    assert fix.frames == "cropped"
    first, stop = fix.band
    tissue, _, clean = made[1]
    fixed = fix.apply(clean[:, :NX])
    right = np.isclose(fixed, tissue).all(axis=0)
    assert right.sum() >= NX - EXTRA - 2
    assert right[: first - 1].all()
    assert right[stop + 1 :].all()


def test_a_fix_is_undone_bit_for_bit():
    rng = np.random.default_rng(0)
    for s in (25, 3):
        for width in (NX, NX + EXTRA):
            fix = detect_band([noisy[:, :width] for _, noisy, _ in frames(s)])
            assert fix is not None
            tile = rng.random((7, 5, width), dtype=np.float32)
            np.testing.assert_array_equal(fix.undo(fix.apply(tile)), tile)


def test_a_band_that_wraps_around_the_tiles_end_is_found():
    fix = detect_band([noisy for _, noisy, _ in frames(NX + 4)])
    assert fix is not None
    assert fix.frames == "whole"
    assert abs(fix.start - (NX + EXTRA - 4)) <= 1
    assert fix.kept[1] - fix.kept[0] == pytest.approx(NX, abs=2)


def test_tiles_without_a_band_are_left_alone():
    assert detect_band([tissue for tissue, _, _ in frames(0, count=12)]) is None
    assert detect_band([np.zeros((NY, NX))]) is None
    assert detect_band([]) is None


def test_a_wide_dark_run_is_tissue_and_not_the_return():
    tiles = [noisy[:, :NX].copy() for _, noisy, _ in frames(0, count=12)]
    for tile in tiles:
        tile[:, 20:40] *= 0.3
    assert detect_band(tiles) is None
