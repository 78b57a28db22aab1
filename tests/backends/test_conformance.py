"""One suite for all backends: compiled kernels, numpy and CuPy give the same numbers on the same inputs."""

import itertools

import numpy as np
import pytest

from soct.formats.block_mean_arrays import block_means
from soct.formats.block_means import reduce_planes
from soct.geometry import column_arrays
from soct.geometry.focal_curvature import shift_a_lines
from soct.intensity import attenuation_arrays
from soct.intensity.attenuation import FIT_PX, METHODS, correct_attenuation, estimate_attenuation
from soct.mosaic import rendering_arrays, spectra_arrays
from soct.mosaic.rendering import BandRenderer, Shading, plan_bands
from soct.mosaic.spectra import cross_correlate, low_pass, transform
from soct.mosaic.stack_rendering import SlicePlacement, add_slice, lateral_weights


def rng(seed=0):
    return np.random.default_rng(seed)


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    scale = float(np.nanmax(np.abs(expected)))
    assert np.nanmax(np.abs(found - expected)) <= tolerance * scale


def mosaic(gaps):
    r = rng(1)
    tiles = r.gamma(4.0, 1.0, (5, 6, 30, 34)).astype(np.float32)
    if gaps:
        tiles[1, :3, 8:12, 5:9] = np.nan
        tiles[2, 4:] = np.nan
    at = np.array([[0.0, 0.0], [0.37, 27.4], [24.6, 0.8], [25.0, 28.0], [48.2, 3.7]])
    flat = (1.0 + 0.2 * r.random((30, 34))).astype(np.float32)
    return tiles, plan_bands(at, (30, 34)), Shading(flat, np.full((30, 34), 0.1, np.float32))


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("interpolation", ["cubic", "linear", "nearest"])
def test_mosaics_are_rendered_alike(backend, gaps, interpolation):
    tiles, plan, shading = mosaic(gaps)

    def render(**options):
        renderer = BandRenderer(
            plan,
            tiles.__getitem__,
            interpolation=interpolation,
            shading=shading,
            gains=np.array([1.0, 0.8, 1.2, 1.0, 0.9]),
            **options,
        )
        stops = [0, 13, 40, plan.shape[0]]
        return np.concatenate([renderer.render(a, b) for a, b in itertools.pairwise(stops)], axis=1)

    close(render(backend=backend), render(), 2e-5)


def test_shading_is_applied_alike(backend):
    tiles, _, shading = mosaic(gaps=False)
    scale = 1 / shading.flat
    found = rendering_arrays.correct_shading(
        backend.xp, *(backend.up(a) for a in (tiles[0], shading.dark, scale)), 1.5
    )
    close(backend.down(found), (tiles[0] - shading.dark) / shading.flat * np.float32(1.5), 2e-6)


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("ramp", [0.0, 5.0])
def test_slices_are_stacked_alike(backend, cubic, ramp):
    r = rng(2)
    block = r.gamma(3.0, 1.0, (20, 40, 44)).astype(np.float32)
    valid = np.zeros((2, 40, 44), np.int16)
    valid[0] = r.integers(0, 4, (40, 44))
    valid[1] = 20 - r.integers(0, 5, (40, 44))
    valid[:, :6, :9] = 0
    lateral = lateral_weights(valid, 6.0)
    c, s = np.cos(0.05), np.sin(0.05)
    matrix = np.array([[c, s, -1.3], [-s, c, 2.6]])
    placement = SlicePlacement(matrix, 2.4, (20, 40, 44), gain=1.3, floor=0.2, cap=6.0)
    snr = np.linspace(1.0, 0.3, 20).astype(np.float32)

    def add(numerator, denominator, **options):
        add_slice(
            numerator,
            denominator,
            block,
            valid,
            lateral,
            placement,
            snr,
            block_z0=0,
            row0=0,
            z0=1,
            y0=3,
            ramp_px=ramp,
            cubic=cubic,
            **options,
        )
        return numerator, denominator

    shape = (16, 36, 46)
    expected = add(np.zeros(shape, np.float32), np.zeros(shape, np.float32))
    empty = [backend.up(np.zeros(shape, np.float32)) for _ in range(2)]
    found = add(*empty, backend=backend)
    for a, b in zip(found, expected, strict=True):
        close(backend.down(a), b, 2e-5)


@pytest.mark.parametrize("factors", [(2, 2, 2), (3, 2, 5), (1, 4, 4)])
def test_block_means_are_alike(backend, factors):
    r = rng(3)
    mask = (r.random((7, 19, 23)) > 0.3).astype(np.uint8)
    mask[:, :6, :6] = 0
    data = (r.gamma(2.0, 1.0, mask.shape) * mask).astype(np.float32)
    shape = tuple(-(-n // f) for n, f in zip(data.shape, factors, strict=True))
    means, seen = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    total, count = np.zeros(shape[1:]), np.zeros(shape[1:], np.int32)
    reduce_planes(data, mask, factors, 0, total, count, means, seen)
    found, found_seen = block_means(backend.xp, backend.up(data), backend.up(mask), factors)
    assert np.array_equal(backend.down(found_seen), seen)
    close(backend.down(found), means, 1.2e-7)


def test_a_lines_are_shifted_alike(backend):
    r = rng(4)
    data = r.gamma(2.0, 1.0, (24, 15, 17)).astype(np.float32)
    data[20:, 3, 4] = np.nan
    shift = r.uniform(-4, 4, (15, 17)).astype(np.float32)
    shift[:2] = np.round(shift[:2])
    found = column_arrays.shift_a_lines(backend.xp, backend.up(data), backend.up(shift))
    close(backend.down(found), shift_a_lines(data, shift), 2e-6)


def test_projections_are_alike(backend):
    tile = rng(5).gamma(2.0, 1.0, (24, 15, 17)).astype(np.float32)
    found = column_arrays.mean_projection(backend.xp, backend.up(tile), 3, 20)
    close(backend.down(found), tile[3:20].mean(axis=0, dtype=np.float64).astype(np.float32), 1e-6)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_attenuation_is_alike(backend, method):
    r = rng(6)
    surface = r.uniform(2, 9, (12, 14))
    z = np.arange(60)[:, None, None]
    block = np.where(z >= surface, np.exp(-0.05 * (z - surface)), 0.01)
    block = (block * r.gamma(8.0, 1 / 8, block.shape)).astype(np.float32)
    block[50:, 2, 3] = np.nan
    valid = np.zeros((2, 12, 14), np.int64)
    valid[1] = r.integers(10, 61, (12, 14))
    valid[1, 0, :3] = (0, 4, 9)
    expected = estimate_attenuation(
        block, surface, 10.0, method=method, valid=valid, floor=0.002, noise=0.01,
        smoothing_px=(0, 0, 0),
    )  # fmt: skip
    up = [backend.up(a) for a in (block, surface, valid)]
    mu, depth = attenuation_arrays.integrate(
        backend.xp, *up, METHODS[method], 0.002, 0.04, 0.01, 30.0
    )
    assert attenuation_arrays.FIT_PX == FIT_PX
    close(backend.down(mu), expected.mu_per_mm, 1e-5)
    close(backend.down(depth), expected.optical_depth, 1e-5)
    found = attenuation_arrays.correct_attenuation(backend.xp, up[0], depth, 0.7, 0.05)
    close(backend.down(found), correct_attenuation(block, expected.optical_depth, 0.7), 1e-5)


def test_strips_are_correlated_alike(backend):
    windows = rng(7).standard_normal((2, 3, 2, 40, 48)).astype(np.float32)
    first, second = transform(windows[0].copy()), transform(windows[1].copy())
    gain = low_pass((40, 48), 1.5)
    found = spectra_arrays.cross_correlate(
        backend.xp, *(backend.up(a) for a in (first, second)), (40, 48), backend.up(gain), 0.5
    )
    close(backend.down(found), cross_correlate(first, second, (40, 48), gain, 0.5), 1e-4)
