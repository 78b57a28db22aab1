"""What is rendered equals what analysis says it must."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from soct.mosaic.blending import tile_weight
from soct.mosaic.rendering import BandRenderer, Shading, plan_bands
from soct.mosaic.shift_kernels import interpolation_taps

TILE = (40, 48)
POSITIONS = np.array([[0.0, 0.0], [0.37, 38.61], [31.52, -0.8], [32.05, 37.9]], np.float64)
METHODS = ("diffusion", "feather", "average", "none")


def render(tiles, positions=POSITIONS, rows=13, **options):
    plan = plan_bands(positions, TILE)
    renderer = BandRenderer(plan, lambda i: tiles[i], **options)
    bands = [
        renderer.render(y, min(y + rows, plan.shape[0])) for y in range(0, plan.shape[0], rows)
    ]
    return plan, np.concatenate(bands, axis=1)


def ramp_tiles(positions=POSITIONS, planes=2):
    y = np.arange(TILE[0])[:, None]
    x = np.arange(TILE[1])[None, :]
    tiles = []
    for p in positions:
        plane = 2.0 * (y + p[0]) + 3.0 * (x + p[1])
        tiles.append(np.stack([plane + 100 * z for z in range(planes)]).astype(np.float32))
    return tiles


@pytest.mark.parametrize("blending", METHODS)
def test_constant_tiles_give_a_constant(blending):
    tiles = [np.full((2, *TILE), 7.0, np.float32)] * 4
    plan, out = render(tiles, blending=blending)
    covered = np.zeros(plan.shape, bool)
    for a, b, c, d in plan.rects:
        covered[a:b, c:d] = True
    np.testing.assert_array_equal(np.isfinite(out), np.broadcast_to(covered, out.shape))
    np.testing.assert_allclose(out[:, covered], 7.0, rtol=1e-5)


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
@pytest.mark.parametrize("blending", METHODS)
def test_a_ramp_over_all_tiles_is_reproduced_at_sub_pixel_positions(interpolation, blending):
    plan, out = render(ramp_tiles(), interpolation=interpolation, blending=blending)
    y, x = np.mgrid[: plan.shape[0], : plan.shape[1]].astype(float)
    exact = 2.0 * (y + plan.origin_px[0]) + 3.0 * (x + plan.origin_px[1])
    for z in range(2):
        seen = np.isfinite(out[z])
        np.testing.assert_allclose(out[z][seen], (exact + 100 * z)[seen], atol=2e-3)


def test_a_tile_at_a_whole_pixel_is_copied_bit_for_bit():
    tile = np.random.default_rng(0).random((3, *TILE)).astype(np.float32)
    _, out = render([tile], np.array([[5.0, -3.0]]))
    np.testing.assert_array_equal(out, tile)


def test_the_height_of_the_bands_does_not_change_a_byte():
    rng = np.random.default_rng(1)
    tiles = [rng.random((2, *TILE)).astype(np.float32) for _ in range(4)]
    _, whole = render(tiles, rows=1000)
    _, thin = render(tiles, rows=1)
    assert whole.tobytes() == thin.tobytes()


def test_one_and_two_threads_give_the_same_bytes():
    rng = np.random.default_rng(2)
    tiles = [rng.random((5, *TILE)).astype(np.float32) for _ in range(4)]
    tiles[1][2, 10:14, 10:14] = np.nan
    before = numba.get_num_threads()
    outs = []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            outs.append(render(tiles)[1].tobytes())
    finally:
        numba.set_num_threads(before)
    assert outs[0] == outs[1]


@pytest.mark.parametrize("blending", METHODS)
def test_no_data_never_blends_in(blending):
    tiles = ramp_tiles()
    tiles[1][:, :, :12] = np.nan
    tiles[3][1, 20:26, 20:30] = np.nan
    plan, out = render(tiles, blending=blending)
    y, x = np.mgrid[: plan.shape[0], : plan.shape[1]].astype(float)
    exact = 2.0 * (y + plan.origin_px[0]) + 3.0 * (x + plan.origin_px[1])
    seen = np.isfinite(out[1])
    # Beside a gap the nearest samples stand in, at most half a pixel away.
    assert np.abs(out[1][seen] - (exact + 100)[seen]).max() < 2.6
    row, column = plan.rects[3][0] + 22, plan.rects[3][2] + 24
    assert np.isnan(out[1, row, column])
    assert np.isfinite(out[0, row, column])
    # Where the first tile covers the gap of the second, nothing is missing.
    assert np.isfinite(out[0, 5, plan.rects[0][2] : plan.rects[0][3]]).all()


def test_zero_is_a_value_like_any_other():
    tiles = [np.zeros((1, *TILE), np.float32), np.full((1, *TILE), 4.0, np.float32)]
    positions = np.array([[0.0, 0.0], [0.0, 24.0]])
    _, out = render(tiles, positions, blending="average")
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[0, :, 24:48], 2.0)


def test_a_missing_tile_leaves_its_own_ground_empty_and_its_neighbours_whole():
    tiles = ramp_tiles()
    plan, full = render(tiles)
    _, out = render([tiles[0], None, tiles[2], tiles[3]])
    a, b, c, d = plan.rects[1]
    assert np.isnan(out[0, (a + b) // 2 - 8, d - 3])
    shared = np.s_[:, 3:20, c : plan.rects[0][3]]
    np.testing.assert_allclose(out[shared], full[shared], atol=2e-3)


def test_flat_dark_and_gain_are_applied_on_the_fly():
    rng = np.random.default_rng(3)
    flat = rng.uniform(0.5, 1.5, TILE).astype(np.float32)
    dark = rng.uniform(0.0, 1.0, TILE).astype(np.float32)
    gains = np.array([1.0, 2.0, 0.5, 1.0])
    tiles = [np.broadcast_to(6.0 / g * flat + dark, (2, *TILE)).astype(np.float32) for g in gains]
    tiles[2][0, 4:6, 4:6] = np.nan
    _, out = render(tiles, shading=Shading(flat, dark), gains=gains)
    np.testing.assert_allclose(out[np.isfinite(out)], 6.0, rtol=1e-4)


def test_each_tile_is_loaded_once_and_dropped_when_passed():
    tiles = ramp_tiles()
    loads = []
    plan = plan_bands(POSITIONS, TILE)

    def load(i):
        loads.append(i)
        return tiles[i]

    renderer = BandRenderer(plan, load)
    held = []
    for y in range(0, plan.shape[0], 8):
        renderer.render(y, min(y + 8, plan.shape[0]))
        held.append(len(renderer._tiles))
    assert sorted(loads) == [0, 1, 2, 3]
    assert held[0] == 2
    assert held[-1] == 2


def test_diffusion_weights_are_harmonic_in_a_strip():
    # Two tiles that overlap over a full edge: the solution is a straight line across the strip.
    weight = tile_weight("diffusion", (0, 60, 0, 80), [(0, 60, 48, 128)])
    line = weight[30, 48:80]
    expected = 1.0 - np.arange(1, 33) / 33.0
    np.testing.assert_allclose(line, expected, atol=0.03)
    np.testing.assert_allclose(weight[:, :40], 1.0, atol=1e-5)


@pytest.mark.parametrize("blending", ["diffusion", "feather"])
def test_blended_seams_have_no_step(blending):
    tiles = [np.full((1, *TILE), v, np.float32) for v in (1.0, 2.0, 3.0, 4.0)]
    _, out = render(tiles, np.array([[0, 0], [0, 36], [30, 0], [30, 36.0]]), blending=blending)
    assert np.abs(np.diff(out[0], axis=0)).max() < 0.45
    assert np.abs(np.diff(out[0], axis=1)).max() < 0.45


def test_cubic_keeps_fine_texture_that_linear_blurs():
    x = np.arange(TILE[1] + 20)
    wave = np.cos(2 * np.pi * x / 5.0)
    tile = np.broadcast_to(wave[: TILE[1]], (1, *TILE)).astype(np.float32)
    contrast = {}
    for method in ("cubic", "linear"):
        _, out = render([tile], np.array([[0.0, 0.5]]), interpolation=method)
        contrast[method] = np.nanstd(out[0, :, 4:-4])
    assert contrast["cubic"] > 1.08 * contrast["linear"]


@pytest.mark.parametrize("method", ["cubic", "linear", "nearest"])
def test_interpolation_weights_sum_to_one(method):
    for t in (0.0, 0.25, 0.5, 0.9):
        assert interpolation_taps(t, method).sum() == pytest.approx(1.0, abs=1e-6)


def test_unknown_methods_are_refused_with_the_choices():
    plan = plan_bands(POSITIONS, TILE)
    with pytest.raises(ValueError, match="diffusion, feather, average, none"):
        BandRenderer(plan, lambda _: None, blending="blur")
    with pytest.raises(ValueError, match="cubic, linear or nearest"):
        BandRenderer(plan, lambda _: None, interpolation="magic")
    with pytest.raises(ValueError, match="not on a canvas"):
        BandRenderer(plan, lambda _: None).render(0, 10_000)


@pytest.mark.parametrize("blending", METHODS)
def test_blocks_of_columns_and_other_bands_give_the_same_bytes(blending):
    tiles = list(np.random.default_rng(1).random((4, 3, *TILE)).astype(np.float32))
    tiles[2][1, 4:9, 5:9] = np.nan
    plan, whole = render(tiles, blending=blending, rows=90)
    blocks = [
        render(tiles, blending=blending, rows=9, columns=(x, min(x + 17, plan.shape[1])))[1]
        for x in range(0, plan.shape[1], 17)
    ]
    assert np.concatenate(blocks, axis=2).tobytes() == whole.tobytes()
