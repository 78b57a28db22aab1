"""Clipped samples are told from a brightest one."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from soct.quality.saturation import clipped_share


def speckle(seed: int, size: int = 200_000) -> NDArray[np.float32]:
    """Fully developed speckle, as float samples of a tile."""
    return np.random.default_rng(seed).rayleigh(100.0, size).astype(np.float32)


@pytest.mark.parametrize("share", [0.2, 0.01, 1e-3, 1e-4])
@pytest.mark.parametrize("step", [0.0, 1.0, 4.0], ids=["float", "fine steps", "coarse steps"])
def test_the_share_of_clipped_samples_is_found(share: float, step: float) -> None:
    tile = speckle(1)
    tile = np.round(tile / step) * np.float32(step) if step else tile
    ceiling = np.quantile(tile, 1 - share, method="higher")
    expected = np.mean(tile >= ceiling)
    assert clipped_share(np.minimum(tile, ceiling)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("step", [0.0, 0.5, 1.0, 2.0, 8.0])
def test_clean_speckle_is_never_clipped_whatever_its_rounding(step: float) -> None:
    for seed in range(20):
        tile = speckle(seed)
        rounded = np.round(tile / step) * np.float32(step) if step else tile
        assert clipped_share(rounded) == 0.0


def test_logarithmic_samples_below_zero_are_judged_alike() -> None:
    decibel = 20 * np.log10(speckle(2) / 1e4)
    assert decibel.max() < 0
    assert clipped_share(decibel) == 0.0
    assert clipped_share(np.minimum(decibel, np.quantile(decibel, 0.999))) > 5e-4


def test_a_tile_of_one_value_or_none_has_no_ceiling() -> None:
    assert clipped_share(np.full(100, 7.0)) == 0.0
    assert clipped_share(np.zeros(0)) == 0.0
