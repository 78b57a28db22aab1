"""Promises of the tile resampling."""

from __future__ import annotations

import numpy as np
import pytest

from soct.errors import ConfigurationError
from soct.geometry.resampling import average_boxes, plan_resampling, resample_tile
from soct.space import Voxel


@pytest.mark.parametrize(
    ("shape", "voxel", "target"),
    [((40, 31, 29), Voxel(3.5, 3.0, 3.0), 10.0), ((72, 80, 80), Voxel(10.0, 7.3, 6.1), 25.0)],
)
def test_constants_and_means_are_kept_exactly(
    shape: tuple[int, int, int], voxel: Voxel, target: float
) -> None:
    plan = plan_resampling(shape, voxel, target)
    constant = resample_tile(np.full(shape, 7.25, np.float32), plan)
    np.testing.assert_allclose(constant, 7.25, rtol=1e-6)
    noise = np.random.default_rng(0).gamma(2, 1, shape).astype(np.float32)
    resampled = resample_tile(noise, plan)
    assert resampled.shape == plan.shape
    assert resampled.mean(dtype=float) == pytest.approx(noise.mean(dtype=float), rel=1e-6)


def test_the_extent_of_a_tile_never_changes() -> None:
    plan = plan_resampling((101, 333, 97), Voxel(3.5, 3.0, 3.0), 10.0)
    for n, size, m, after in zip(
        plan.source_shape, plan.source_voxel_um, plan.shape, plan.voxel_um, strict=True
    ):
        assert m * after == pytest.approx(n * size, rel=1e-12)


def test_a_linear_ramp_stays_that_ramp_in_position() -> None:
    plan = plan_resampling((4, 4, 50), Voxel(1.0, 1.0, 1.0), 1.7)
    ramp = np.broadcast_to(np.arange(50, dtype=np.float32), (4, 4, 50))
    x = np.arange(plan.shape[2])
    back = (x + 0.5) * plan.voxel_um.x - 0.5
    np.testing.assert_allclose(resample_tile(ramp, plan)[0, 0], back, atol=0.1)
    np.testing.assert_allclose(plan.scale_position(np.stack([back] * 2, 1))[:, 1], x, atol=1e-9)


def test_an_axis_coarser_than_the_target_keeps_its_sampling() -> None:
    plan = plan_resampling((72, 80, 80), Voxel(5.0, 25.0, 25.0), 10.0)
    assert plan.shape == (36, 80, 80)
    assert plan.voxel_um == Voxel(10.0, 25.0, 25.0)
    wider = plan_resampling((72, 80, 80), Voxel(5.0, 25.0, 25.0), 10.0, allow_upsampling=True)
    assert wider.shape == (36, 200, 200)
    tile = np.full((72, 80, 80), 3.0, np.float32)
    np.testing.assert_allclose(resample_tile(tile, wider), 3.0)


def test_nothing_changes_at_native_or_equal_resolution() -> None:
    shape, voxel = (10, 10, 10), Voxel(10.0, 10.0, 10.0)
    assert plan_resampling(shape, voxel, -1).is_identity
    assert plan_resampling(shape, voxel, 10.0).is_identity
    with pytest.raises(ConfigurationError):
        plan_resampling(shape, voxel, 0)
    with pytest.raises(ConfigurationError):
        resample_tile(np.zeros((2, 2, 2)), plan_resampling(shape, voxel, 20.0))


def test_an_image_averages_to_boxes() -> None:
    image = np.arange(36, dtype=np.float32).reshape(6, 6)
    np.testing.assert_allclose(average_boxes(image, (3, 3)), image.reshape(3, 2, 3, 2).mean((1, 3)))
    with pytest.raises(ConfigurationError):
        average_boxes(image, (7, 3))
