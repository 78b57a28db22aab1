"""Tissue under agarose is neither brightened by attenuation that was not there nor confused with agarose."""

from __future__ import annotations

import numpy as np
import pytest

from soct.intensity.agarose_cover import (
    find_brightest,
    find_tissue_start,
    measure_agarose_cover,
    uncover,
)
from soct.intensity.axial_profile import apply_depth_gain
from soct.intensity.depth_profiles import DepthProfile

NZ, SHAPE, FLOOR, DECAY = 60, (24, 24), 30.0, 0.027
DEPTH = np.arange(NZ)
INSTRUMENT = 1 / (1 + ((DEPTH - 18) / 61.0) ** 2)
LOG_S = np.log(INSTRUMENT) - DECAY * DEPTH


def agarose(level: float = 30.0, lines: float = 500.0) -> DepthProfile:
    return DepthProfile(level * INSTRUMENT, np.full(NZ, lines))


def specimen(start: int, seed: int = 0) -> np.ndarray:
    """Tissue of brightness 600 below `start` samples of agarose, with speckle, its surface at sample 0."""
    covered = np.minimum(DEPTH, start)
    light = np.where(start > DEPTH, 30.0, 600.0) * np.exp(-DECAY * (DEPTH - covered)) * INSTRUMENT
    looks = np.random.default_rng(seed).gamma(8.0, 1 / 8.0, (NZ, *SHAPE))
    return (light[:, None, None] * looks + FLOOR).astype(np.float32)


def corrected(block: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cover = measure_agarose_cover(LOG_S, 600.0, agarose())
    surface = np.zeros(SHAPE)
    valid = np.stack([np.zeros(SHAPE), np.full(SHAPE, NZ)])
    start = find_tissue_start(block, surface, valid, cover, floor=FLOOR, gain=1.0)
    out = apply_depth_gain(block, surface, LOG_S, floor=FLOOR, max_gain=50.0)
    uncover(out, surface, start, cover.decay_per_px)
    return out, start


def test_agarose_tells_the_attenuation_of_tissue_from_the_instrument() -> None:
    cover = measure_agarose_cover(LOG_S, 600.0, agarose())
    assert cover.decay_per_px == pytest.approx(DECAY, rel=0.01)
    np.testing.assert_allclose(cover.log_instrument, np.log(INSTRUMENT), atol=0.02)
    assert 100 < cover.level < 180


@pytest.mark.parametrize("start", [10, 25, 40])
def test_tissue_below_agarose_has_its_own_brightness(start: int) -> None:
    out, found = corrected(specimen(start))
    assert np.abs(found - start).max() < 2.5
    tissue = out[start + 3 : NZ].mean(axis=(1, 2))
    np.testing.assert_allclose(tissue, 600.0, rtol=0.1)


def test_tissue_that_begins_at_the_surface_is_left_as_it_was() -> None:
    out, start = corrected(specimen(0))
    assert not start.any()
    plain = apply_depth_gain(specimen(0), np.zeros(SHAPE), LOG_S, floor=FLOOR, max_gain=50.0)
    np.testing.assert_array_equal(out, plain)


def test_a_vessel_at_the_surface_is_no_agarose() -> None:
    block = specimen(0)
    block[:12, 10:12, 10:12] = FLOOR
    _, start = corrected(block)
    assert start.max() < 1


@pytest.mark.parametrize("profile", [None, agarose(lines=20.0), agarose(level=400.0)])
def test_without_agarose_that_is_dark_nothing_is_changed(profile: DepthProfile | None) -> None:
    assert measure_agarose_cover(LOG_S, 600.0, profile).decay_per_px == 0


def test_the_brightest_window_below_the_surface_is_found() -> None:
    block = np.random.default_rng(1).gamma(2.0, 50.0, (30, 6, 7)).astype(np.float32)
    block[20:, 2, 3] = np.nan
    surface = np.full((6, 7), 8.3)
    surface[0, 0] = np.nan
    filled = np.nan_to_num(block[10:])
    windows = np.lib.stride_tricks.sliding_window_view(filled, 5, axis=0).mean(axis=-1)
    expected = windows.max(axis=0)
    expected[0, 0] = 0.0
    np.testing.assert_allclose(find_brightest(block, surface), expected, rtol=1e-4)
