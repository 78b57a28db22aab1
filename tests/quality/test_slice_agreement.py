"""The score of a slice against its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.quality.slice_agreement import central_roi, measure_agreement, score_slices

ALL = np.ones((160, 160), bool)


def anatomy(seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    coarse = ndi.gaussian_filter(rng.normal(size=ALL.shape), 6)
    return 1.0 + 0.5 * coarse / coarse.std() * 0.5


def speckle(image: Any, seed: int, looks: float = 20.0) -> Any:
    return image * np.random.default_rng(seed).gamma(looks, 1 / looks, image.shape)


def test_an_image_agrees_fully_with_itself() -> None:
    found = measure_agreement(anatomy(), anatomy(), ALL)
    assert found is not None
    assert found.score == pytest.approx(1.0, abs=1e-4)


def test_brightness_does_not_count() -> None:
    found = measure_agreement(anatomy(), 7 * anatomy(), ALL)
    assert found is not None
    assert found.score == pytest.approx(1.0, abs=1e-4)


def test_each_of_the_three_falls_with_what_it_measures() -> None:
    """Blur loses edges and variance, noise loses structure, other tissue loses both."""
    whole = measure_agreement(speckle(anatomy(), 1), speckle(anatomy(), 2), ALL)
    blurred = measure_agreement(
        speckle(anatomy(), 1), ndi.gaussian_filter(speckle(anatomy(), 2), 8), ALL
    )
    noise = measure_agreement(speckle(anatomy(), 1), speckle(np.ones(ALL.shape), 2, 2), ALL)
    other = measure_agreement(speckle(anatomy(), 1), speckle(anatomy(5), 2), ALL)
    assert whole is not None
    assert blurred is not None
    assert noise is not None
    assert other is not None
    assert whole.score > 0.75
    assert blurred.variance_ratio < 0.6 * whole.variance_ratio
    assert blurred.edges < whole.edges - 0.03
    assert max(noise.score, other.score) < 0.4
    assert max(noise.ssim, other.ssim) < 0.2
    assert max(noise.edges, other.edges) < 0.25


def test_an_empty_image_scores_nothing() -> None:
    found = measure_agreement(anatomy(), np.zeros(ALL.shape), ALL)
    assert found is not None
    assert found.score < 0.05


def test_only_pixels_that_hold_data_in_both_count() -> None:
    spoiled = anatomy()
    spoiled[:, :50] = np.nan
    found = measure_agreement(anatomy(), spoiled, ALL)
    assert found is not None
    assert found.score == pytest.approx(1.0, abs=0.01)
    assert measure_agreement(anatomy(), spoiled, ALL & (np.arange(160) < 50)) is None


def test_a_good_slice_beside_a_bad_one_keeps_its_score() -> None:
    good = measure_agreement(speckle(anatomy(), 1), speckle(anatomy(), 2), ALL)
    bad = measure_agreement(speckle(anatomy(), 1), np.zeros(ALL.shape), ALL)
    scores = score_slices([1, 2, 3, 4], {(1, 2): good, (2, 3): bad, (3, 4): bad})
    assert good is not None
    assert bad is not None
    assert [scores[i].score for i in (1, 2, 3, 4)] == [good.score, good.score, bad.score, bad.score]
    assert scores[2].neighbour == 1
    assert score_slices([1, 2], {(1, 2): None})[1].score is None


def test_the_window_is_central() -> None:
    assert central_roi((100, 40), 60) == (slice(20, 80), slice(0, 40))
