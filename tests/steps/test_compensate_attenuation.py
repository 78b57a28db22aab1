"""Slices without the loss of light over depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from soct.formats.ome_zarr import open_volume
from tests.steps.chain import Chain, Made, read_whole


def test_compensated_slices_are_as_bright_below_as_above(faulty: Made) -> None:
    for slice_id in faulty.slice_ids:
        data = read_whole(faulty.chain.path("compensate_attenuation", "slice", slice_id))
        plane = np.nanmedian(data[2:26].reshape(24, -1), axis=1)
        trend = np.polyfit(np.arange(24), np.log(plane), 1)[0] * 24
        raw = read_whole(faulty.chain.path("stitch_3d_with_refinement", "slice", slice_id))[10:34]
        before = np.nanmedian(raw.reshape(24, -1), axis=1)
        was = np.polyfit(np.arange(24), np.log(before), 1)[0] * 24
        assert abs(trend) < 0.35
        assert abs(trend) < 0.6 * abs(was)


def test_nothing_above_the_surface_is_kept(faulty: Made) -> None:
    surface = faulty.chain.arrays("crop_interface", "surface", 3)
    valid = open_volume(faulty.chain.path("compensate_attenuation", "slice", 3)).read_valid()
    seen = valid[1] > valid[0]
    above = valid[0] + int(surface["crop_px"]) < surface["depth_px"] + surface["margin_px"] - 1e-3
    assert not (above & seen).any()


@pytest.mark.parametrize("method", ["vermeer", "smith", "liu", "li"])
def test_every_attenuation_method_gives_finite_data_and_less_trend(
    single: Made, tmp_path: Path, method: str
) -> None:
    chain = Chain(single.simulation.raw, tmp_path, {"compensate_attenuation": {"method": method}})
    data = read_whole(chain.path("compensate_attenuation", "slice", 0))
    kept = data[np.isfinite(data)]
    assert kept.size > 0.5 * data[:31].size
    plane = np.nanmedian(data[2:26].reshape(24, -1), axis=1)
    first = int(chain.arrays("crop_interface", "surface", 0)["crop_px"]) + 2
    raw = read_whole(chain.path("stitch_3d_with_refinement", "slice", 0))[first : first + 24]
    before = np.nanmedian(raw.reshape(24, -1), axis=1)
    fit = [np.polyfit(np.arange(24), np.log(p), 1)[0] for p in (plane, before)]
    assert abs(fit[0]) < 0.8 * abs(fit[1])
