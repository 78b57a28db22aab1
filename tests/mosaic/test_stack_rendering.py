"""Slices on the output: interpolation and weights with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.mosaic.stack_rendering import SlicePlacement, add_slice, finish, lateral_weights

SHAPE = (6, 50, 60)


def turned(degrees, y, x):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, s, y], [-s, c, x]])


def render(block, valid, placement, *, planes=SHAPE[0], ramp_px=0.0, cubic=False):
    sums = [np.zeros((planes, *SHAPE[1:]), np.float32) for _ in range(2)]
    add_slice(
        *sums,
        block,
        valid,
        lateral_weights(valid, 0.0),
        placement,
        np.ones(block.shape[0], np.float32),
        block_z0=0,
        row0=0,
        z0=0,
        y0=0,
        ramp_px=ramp_px,
        cubic=cubic,
    )
    return (*finish(*sums), sums[1])


def whole(shape=SHAPE):
    valid = np.zeros((2, *shape[1:]), np.int16)
    valid[1] = shape[0]
    return valid


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("z_px", [0.0, 0.4])
def test_a_linear_field_is_carried_exactly_wherever_the_slice_lies(cubic, z_px):
    """Linear and cubic interpolation both reproduce it, turned and between planes."""
    z, y, x = np.mgrid[:6, :50, :60].astype(np.float64)
    block = (10 + 0.2 * y - 0.1 * x + 0.5 * z).astype(np.float32)
    matrix = turned(3.0, 1.3, -2.6)
    values, valid, _ = render(block, whole(), SlicePlacement(matrix, z_px, SHAPE), cubic=cubic)
    sy, sx = np.tensordot(matrix[:, :2], np.stack([y[0], x[0]]), 1) + matrix[:, 2, None, None]
    inside = (sy >= 0) & (sx >= 0) & (sy <= 49) & (sx <= 59)
    assert valid[1:5][:, inside].all()
    expected = 10 + 0.2 * sy - 0.1 * sx + 0.5 * (z - z_px)
    np.testing.assert_allclose(values[1:5][:, inside], expected[1:5][:, inside], rtol=2e-6)


def test_voxels_without_data_do_not_darken_their_neighbours():
    block = np.full(SHAPE, 7.0, np.float32)
    valid = whole()
    valid[1, :, 40:] = 3
    valid[:, 20:, :] = 0
    block[:, 20:] = -1000
    block[3:, :, 40:] = -1000
    values, seen, _ = render(block, valid, SlicePlacement(turned(0.0, 0.3, 0.3), 0.0, SHAPE))
    assert set(values[seen]) == {np.float32(7.0)}
    # Where a third of the weight is missing a voxel still counts.
    assert seen[0, :, 10].nonzero()[0].max() == 19
    assert seen[:, 10, 45].nonzero()[0].max() == 2


@pytest.mark.parametrize("length", [1.0, 2.5])
def test_a_slice_comes_in_and_goes_out_over_the_ramp(length):
    block = np.ones(SHAPE, np.float32)
    _, _, weight = render(
        block, whole(), SlicePlacement(turned(0, 0, 0), 0.0, SHAPE), ramp_px=length
    )
    depth = np.arange(1, 7)
    top, bottom = (np.clip(d / (length + 1), 0, 1) for d in (depth, depth[::-1]))
    expected = (0.5 - 0.5 * np.cos(np.pi * top)) * (0.5 - 0.5 * np.cos(np.pi * bottom))
    np.testing.assert_allclose(weight[:, 25, 30], expected, rtol=1e-6)


@pytest.mark.parametrize("ramp_px", [0.0, 1.0, 7.3, 40.0])
def test_the_lateral_ramp_follows_the_distance_from_the_border(ramp_px):
    footprint = ndi.binary_opening(np.random.default_rng(5).random((61, 83)) > 0.3, iterations=2)
    footprint[20:50, 30:83] = True
    valid = np.stack([np.zeros_like(footprint), footprint]).astype(np.int16)
    distance = ndi.distance_transform_edt(np.pad(footprint, 1))[1:-1, 1:-1]
    t = np.clip(distance / (ramp_px + 1), 0, 1)
    expected = np.where(footprint, np.maximum(0.5 - 0.5 * np.cos(np.pi * t), 1e-3), 0)
    if ramp_px == 0:
        expected = footprint
    np.testing.assert_allclose(lateral_weights(valid, ramp_px), expected, rtol=1e-6)
