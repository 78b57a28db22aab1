"""The surface of real skin under real fixed-pattern lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.geometry.surface import detect_interface, fit_surface, smooth_a_lines

pytestmark = pytest.mark.data


@pytest.mark.parametrize("name", ["relaxed_276", "relaxed_277"])
def test_the_skin_is_found_under_fixed_lines(shared: Path, name: str) -> None:
    file = shared / "data" / "oct_skin" / "Thumb" / name
    if not file.is_file():
        pytest.skip("the real B-scans are not on this machine")
    scan = np.fromfile(file, np.uint8).reshape(-1, 1024).T.astype(np.float32)
    linear = 10 ** (scan[:, None] / 255 * 4)
    lines = np.percentile(smooth_a_lines(linear, sigma_px=(2, 0, 4)), 20, axis=(1, 2))
    found = detect_interface(linear, sigma_px=(2, 0, 4), background=lines, first_sample=10)
    # Read off the B-scan by eye: the fingertip's crest is at 455 px and falls to about 525 px at the sides.
    surface = fit_surface(found.depth_px, found.confidence, mode="quadratic")
    assert abs(surface.depth_px[0, 636] - 455) < 15
    assert abs(surface.depth_px[0, 180] - 522) < 25
    assert abs(surface.depth_px[0, 1060] - 510) < 25
    assert found.confidence.mean() > 0.8
