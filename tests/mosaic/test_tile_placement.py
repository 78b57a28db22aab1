"""Tiles with known positions go in; the same positions come out."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.mosaic import strips
from soct.mosaic.grid_model import GridModel, fit_grid_model, nominal_model
from soct.mosaic.links import find_bridges
from soct.mosaic.placement import Offsets, place_offsets
from soct.mosaic.refinement import RefineOptions
from soct.mosaic.strips import collect_strips, find_neighbours, overlap_boxes
from soct.mosaic.tile_placement import TileOptions, find_blank_tiles, place_tiles, refine_placement

TILE = (96, 112)


def textured_canvas(shape, seed=0, channels=1):
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(channels):
        fine = ndi.gaussian_filter(rng.standard_normal(shape), 1.2, mode="wrap")
        coarse = ndi.gaussian_filter(rng.standard_normal(shape), 4.0, mode="wrap")
        out.append(np.exp(0.4 * fine / fine.std() + 0.4 * coarse / coarse.std()))
    return np.stack(out)


def cut(canvas, position, tile=TILE):
    """A tile whose first pixel lies at a sub-pixel position, by cubic splines."""
    planes = [
        ndi.affine_transform(
            plane, np.eye(2), offset=np.asarray(position) + 12, output_shape=tile, order=3
        )
        for plane in canvas
    ]
    return np.stack(planes).astype(np.float32)


def mosaic(rows=3, cols=4, jitter=3.0, seed=0, channels=1, noise=0.3, step=(76, 90), matrix=None):
    rng = np.random.default_rng(seed + 100)
    r, c = np.divmod(np.arange(rows * cols), cols)
    nominal = np.stack([r * step[0], c * step[1]], axis=1).astype(float)
    true = nominal if matrix is None else nominal @ np.asarray(matrix).T
    true = true - true.min(axis=0) + rng.uniform(-jitter, jitter, nominal.shape)
    high = np.ceil(true.max(axis=0)).astype(int) + np.array(TILE) + 30
    canvas = textured_canvas(tuple(high), seed, channels)
    tiles = [cut(canvas, p) for p in true]
    looks = 1.0 / max(noise, 1e-3) ** 2
    tiles = [t * rng.gamma(looks, 1.0 / looks, t.shape).astype(np.float32) for t in tiles]
    return tiles, nominal, true


def rms_error(positions, true, keep=slice(None)):
    e = (positions - true)[keep]
    e = e - e.mean(axis=0)
    return float(np.sqrt((e**2).sum(axis=1).mean()))


def test_positions_of_a_speckled_mosaic_come_back_within_a_twentieth_of_a_pixel():
    tiles, nominal, true = mosaic(noise=0.2)
    result = place_tiles(lambda i: tiles[i][0], nominal, TILE)
    assert rms_error(result.positions_px, true) < 0.05
    assert result.measured.all()
    assert result.weak == ()
    assert (result.group == 0).all()
    assert result.pair_accepted.all()
    assert result.rms_residual_px < 0.1


def test_several_slabs_of_a_tile_vote_together_and_lower_the_error():
    tiles, nominal, true = mosaic(channels=4, noise=0.9, seed=3)
    one = place_tiles(lambda i: tiles[i][:1], nominal, TILE)
    four = place_tiles(lambda i: tiles[i], nominal, TILE)
    assert rms_error(four.positions_px, true) < 0.75 * rms_error(one.positions_px, true)


def test_each_tile_is_loaded_once_in_raster_order():
    tiles, nominal, _ = mosaic()
    shuffled = np.random.default_rng(1).permutation(len(tiles))
    seen = []

    def load(i):
        seen.append(int(shuffled[i]))
        return tiles[shuffled[i]][0]

    place_tiles(load, nominal[shuffled], TILE)
    assert seen == sorted(seen)
    assert len(set(seen)) == len(tiles)


@pytest.mark.parametrize(("room", "bytes_per_pixel"), [(1 << 30, 4), (0, 2)])
def test_only_strips_are_kept_not_tiles_and_many_in_half_precision(
    monkeypatch, room, bytes_per_pixel
):
    monkeypatch.setattr(strips, "SINGLE_PRECISION_BYTES", room)
    nominal = np.array([[0.0, 0.0], [0.0, 90.0]])
    pairs = find_neighbours(nominal, TILE)
    boxes = [overlap_boxes((0.0, 90.0), TILE, 4.0)]
    tile = np.ones(TILE, np.float32)
    store = collect_strips(lambda _: tile, range(2), pairs, boxes, TILE)
    assert store.nbytes == bytes_per_pixel * 2 * TILE[0] * (TILE[1] - 90 + 4)


def test_a_rotated_camera_is_found_and_a_blank_tile_follows_it():
    angle = np.deg2rad(1.5)
    matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    tiles, nominal, true = mosaic(4, 4, jitter=0.5, seed=5, matrix=matrix)
    tiles[15] = np.full_like(tiles[15], 1.0)
    result = place_tiles(lambda i: tiles[i][0], nominal, TILE)
    np.testing.assert_allclose(result.model.matrix, matrix, atol=0.006)
    assert not result.measured[15]
    assert result.confidence[15] == 0.0
    assert 15 in result.weak
    moved = result.positions_px - true
    moved -= moved[result.measured].mean(axis=0)
    assert np.hypot(*moved[15]) < 1.5
    nominal_error = nominal - true
    nominal_error = nominal_error - nominal_error.mean(axis=0)
    assert np.hypot(*nominal_error[15]) > 3.0
    blank = [r for p, r in zip(result.pairs, result.pair_reason, strict=True) if 15 in p]
    assert blank == ["no tissue"] * len(blank)


def test_a_model_fitted_on_other_slices_places_a_slice_without_tissue():
    model = GridModel(np.array([[1.0, 0.02], [-0.02, 1.0]]), 0.5, 100)
    _, nominal, _ = mosaic()
    flat = np.ones(TILE, np.float32)
    result = place_tiles(lambda _: flat, nominal, TILE, model=model)
    assert not result.measured.any()
    steps = result.positions_px - result.positions_px[0]
    np.testing.assert_allclose(steps, (nominal - nominal[0]) @ model.matrix.T, atol=1e-9)


def test_nan_pixels_do_not_vote_and_nan_tiles_are_named():
    tiles, nominal, true = mosaic(seed=7)
    tiles[5] = np.full_like(tiles[5], np.nan)
    tiles[0][:, :40, 95:] = np.nan
    result = place_tiles(lambda i: tiles[i][0], nominal, TILE)
    keep = np.arange(len(tiles)) != 5
    assert rms_error(result.positions_px, true, keep) < 0.1
    assert 5 in result.weak
    reasons = {r for p, r in zip(result.pairs, result.pair_reason, strict=True) if 5 in p}
    assert reasons == {"no data"}


def test_a_missing_tile_is_placed_by_the_model():
    tiles, nominal, true = mosaic(seed=8)
    result = place_tiles(lambda i: None if i == 6 else tiles[i][0], nominal, TILE)
    assert not result.measured[6]
    assert rms_error(result.positions_px, true, np.arange(len(tiles)) != 6) < 0.1


def test_disconnected_groups_keep_their_shape_and_are_listed():
    tiles, nominal, true = mosaic(2, 5, seed=9)
    for i in (2, 7):
        tiles[i] = np.ones_like(tiles[i])
    result = place_tiles(lambda i: tiles[i][0], nominal, TILE)
    assert result.disconnected == ((3, 4, 8, 9),)
    for members in ((0, 1, 5, 6), (3, 4, 8, 9)):
        assert rms_error(result.positions_px, true, list(members)) < 0.12
    assert (result.group[[2, 7]] == -1).all()


@pytest.mark.parametrize("overlap", [True, False])
def test_one_tile_and_tiles_without_overlap_stay_at_their_nominal_positions(overlap):
    nominal = np.zeros((1, 2)) if overlap else np.array([[0.0, 0.0], [0.0, 112.0], [96.0, 0.0]])
    tile = textured_canvas(TILE)[0].astype(np.float32)
    result = place_tiles(lambda _: tile, nominal, TILE)
    np.testing.assert_array_equal(result.positions_px, nominal)
    assert result.pairs.shape == (0, 2)
    assert result.weak == tuple(range(len(nominal)))


def test_the_result_has_the_same_bytes_for_one_and_two_threads():
    tiles, nominal, _ = mosaic()
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            results.append(place_tiles(lambda i: tiles[i][0], nominal, TILE, workers=threads))
    finally:
        numba.set_num_threads(before)
    assert results[0].positions_px.tobytes() == results[1].positions_px.tobytes()
    assert results[0].confidence.tobytes() == results[1].confidence.tobytes()


def test_brightness_scale_does_not_matter():
    tiles, nominal, _ = mosaic(2, 2)
    one = place_tiles(lambda i: tiles[i][0], nominal, TILE)
    tiny = place_tiles(lambda i: tiles[i][0] * np.float32(2.0**-20), nominal, TILE)
    np.testing.assert_array_equal(one.positions_px, tiny.positions_px)


def test_a_tile_of_the_wrong_shape_is_refused_by_name():
    with pytest.raises(ValueError, match="tile 0 has shape"):
        place_tiles(
            lambda _: np.ones((4, 4), np.float32), np.array([[0.0, 0.0], [0.0, 90.0]]), TILE
        )


def grid_offsets(n=4, spread=3.0, seed=0):
    rng = np.random.default_rng(seed)
    r, c = np.divmod(np.arange(n * n), n)
    nominal = np.stack([r * 80.0, c * 80.0], axis=1)
    true = nominal + rng.uniform(-spread, spread, nominal.shape)
    pairs = find_neighbours(nominal, (96, 96))
    exact = true[pairs[:, 1]] - true[pairs[:, 0]]
    return nominal, true, pairs, exact


def as_offsets(pairs, candidates, confidence):
    scores = np.full(candidates.shape[:2], 6.0)
    scores[:, 1:] = 4.0
    return Offsets(pairs, candidates, scores, confidence, search_px=15.0)


def test_wrong_pairs_lose_even_when_they_are_confident():
    nominal, true, pairs, exact = grid_offsets()
    wrong = [2, 11, 20]
    offsets = exact.copy()
    offsets[wrong] += [[9.0, -7.0], [-8.0, 8.0], [12.0, 3.0]]
    result = place_offsets(
        nominal, as_offsets(pairs, offsets[:, None, :], np.full(len(pairs), 0.9))
    )
    assert not result.pair_accepted[wrong].any()
    assert result.pair_accepted.sum() == len(pairs) - 3
    assert {result.pair_reason[p] for p in wrong} == {"disagrees"}
    assert rms_error(result.positions_px, true) < 0.05


def test_the_second_candidate_is_taken_where_the_others_agree_with_it():
    nominal, true, pairs, exact = grid_offsets()
    candidates = np.stack([exact, exact + 50.0], axis=1)
    swapped = [3, 14]
    candidates[swapped, 0] = exact[swapped] + [[10.0, -6.0], [-7.0, 9.0]]
    candidates[swapped, 1] = exact[swapped]
    confidence = np.full(len(pairs), 0.9)
    confidence[swapped] = 0.2
    result = place_offsets(nominal, as_offsets(pairs, candidates, confidence))
    assert result.pair_accepted.all()
    np.testing.assert_allclose(result.pair_offset_px[swapped], exact[swapped])
    assert rms_error(result.positions_px, true) < 0.02


def test_two_thousand_tiles_are_placed_in_seconds():
    import time

    nominal, true, pairs, exact = grid_offsets(45)
    noisy = exact + np.random.default_rng(1).normal(0, 0.05, exact.shape)
    start = time.process_time()
    result = place_offsets(nominal, as_offsets(pairs, noisy[:, None, :], np.full(len(pairs), 0.9)))
    assert time.process_time() - start < 20.0
    assert rms_error(result.positions_px, true) < 0.25


def test_a_nominal_position_that_is_not_finite_is_named():
    nominal, _, pairs, exact = grid_offsets()
    nominal[3] = np.nan
    with pytest.raises(ValueError, match=r"\[3\]"):
        place_offsets(nominal, as_offsets(pairs, exact[:, None, :], np.ones(len(pairs))))


def test_bridges_are_the_pairs_that_nothing_checks():
    pairs = np.array([[0, 1], [1, 2], [2, 0], [2, 3], [3, 4]])
    used = np.ones(5, bool)
    np.testing.assert_array_equal(find_bridges(5, pairs, used), [False, False, False, True, True])
    used[2] = False
    assert find_bridges(5, pairs, used)[:2].all()


def test_the_grid_model_comes_back_from_offsets_with_a_third_of_them_wrong():
    rng = np.random.default_rng(0)
    steps = np.array([[80.0, 0.0]] * 20 + [[0.0, 80.0]] * 20)
    matrix = np.array([[1.01, 0.02], [-0.015, 0.99]])
    offsets = steps @ matrix.T + rng.normal(0, 0.3, steps.shape)
    offsets[::3] += rng.uniform(-15, 15, offsets[::3].shape)
    model = fit_grid_model(steps, offsets)
    np.testing.assert_allclose(model.matrix, matrix, atol=0.006)


def test_a_single_row_leaves_the_other_axis_nominal():
    steps = np.array([[0.0, 80.0]] * 4)
    model = fit_grid_model(steps, steps + np.array([1.6, 0.0]))
    np.testing.assert_allclose(model.matrix[:, 0], [1.0, 0.0], atol=1e-9)
    assert model.matrix[0, 1] == pytest.approx(0.02, abs=0.003)


def test_tiles_without_any_light_are_told_from_dim_ones_and_nothing_is_blank_where_all_are():
    rng = np.random.default_rng(0)
    depth = np.arange(60)
    tissue = 100.0 * np.exp(-depth / 30) * (depth > 10)
    profiles = np.stack([tissue, 0.03 * tissue, np.zeros(60), np.zeros(60)]) + 6.0
    noise = np.full(4, 0.05)
    profiles += noise[:, None] * rng.standard_normal(profiles.shape)
    profiles[1, :3] = np.nan
    assert find_blank_tiles(profiles, noise).tolist() == [False, False, True, True]
    assert not find_blank_tiles(profiles[2:], noise[2:]).any()


def test_groups_of_tiles_that_no_overlap_joins_share_the_model_of_the_grid():
    rng = np.random.default_rng(5)
    rows, cols = np.divmod(np.arange(20), 5)
    nominal = np.stack([rows * 80.0, cols * 80.0], axis=1)
    matrix = np.array([[1.0, 0.017], [-0.017, 1.0]])
    true = nominal @ matrix.T + rng.normal(0, 0.3, nominal.shape)
    # The middle column shows nothing: two groups are left.
    pairs = np.array(
        [(i, j) for i in range(20) for j in (i + 1, i + 5)
         if j < 20 and (j != i + 1 or cols[j] > cols[i]) and 2 not in (cols[i], cols[j])]
    )  # fmt: skip
    offsets = (true[pairs[:, 1]] - true[pairs[:, 0]])[:, None]
    m = len(pairs)
    placed = place_offsets(nominal, Offsets(pairs, offsets, np.full((m, 1), 20.0), np.ones(m)))
    np.testing.assert_allclose(placed.model.matrix, matrix, atol=0.004)
    blank = ~placed.measured
    assert blank.sum() == 4
    error = placed.positions_px - true
    error -= error[~blank].mean(axis=0)
    assert np.hypot(*error[blank].T).max() < 1.5


def test_options_without_refinement_give_the_first_solve():
    tiles, nominal, true = mosaic()
    coarse = place_tiles(lambda i: tiles[i][0], nominal, TILE, TileOptions(refine=None))
    assert rms_error(coarse.positions_px, true) < 0.4


def test_narrow_overlaps_of_coarse_texture_do_not_draw_tiles_together():
    rng = np.random.default_rng(5)
    r, c = np.divmod(np.arange(12), 4)
    nominal = np.stack([r * 80.0, c * 96.0], axis=1)
    true = nominal + rng.uniform(-1.0, 1.0, nominal.shape)
    canvas = np.zeros((320, 460))
    for sigma in (2.0, 5.0):
        part = ndi.gaussian_filter(rng.standard_normal(canvas.shape), sigma, mode="wrap")
        canvas += part / part.std()
    tiles = [cut(np.exp(0.3 * canvas)[None], p)[0] for p in true]
    tiles = [t * rng.gamma(80.0, 1 / 80.0, t.shape).astype(np.float32) for t in tiles]

    def shortened(options):
        found = place_tiles(lambda i: tiles[i], nominal, TILE, options)
        i, j = found.pairs.T
        error = found.pair_offset_px - (true[j] - true[i])
        along = np.where(np.ptp(nominal[found.pairs], axis=1) > 0, error, np.nan)
        return np.abs(np.nanmean(along, axis=0)).max(), rms_error(found.positions_px, true)

    # Tapers that lie on each tile's own pixels shorten the pitch; shifted to the estimate they do not.
    bias, rms = shortened(TileOptions())
    once, once_rms = shortened(TileOptions(refine=RefineOptions(iterations=1)))
    assert bias < 0.06
    assert bias < once / 2
    assert rms < 0.08
    assert rms < once_rms


def test_a_tile_that_one_pair_ties_to_the_rest_is_placed_by_it_however_far_it_strayed():
    # Two groups of well-placed tiles: few pairs, from which a stage looks better than it is.
    nominal = np.array(
        [(0, 0), (0, 45), (45, 0), (90, 0), (0, 135), (45, 135), (90, 135), (135, 135)], float
    )
    true = nominal + np.array([(0.3, -0.4), (0.6, -0.2), (-0.2, 0.3), (0.4, 0.5), (2.2, 2.6), (0.1, -0.3), (0.6, 0.3), (0.2, 0.1)])  # fmt: skip
    pairs = np.array([(0, 1), (0, 2), (2, 3), (4, 5), (5, 6), (6, 7)])
    offsets = as_offsets(pairs, (true[pairs[:, 1]] - true[pairs[:, 0]])[:, None], np.full(6, 0.95))
    placed = place_offsets(nominal, offsets)
    assert placed.pair_accepted.all()
    steps = placed.positions_px[pairs[:, 1]] - placed.positions_px[pairs[:, 0]]
    np.testing.assert_allclose(steps[3], true[5] - true[4], atol=0.5)


def test_a_wrong_first_peak_that_nothing_checks_gives_way_to_a_clearer_one():
    canvas = textured_canvas((170, 120), seed=4)
    true = np.array([(5.0, 4.0), (81.0, 4.0)])
    tiles = [cut(canvas, p) for p in true]
    nominal, pairs, search = np.array([(0.0, 0.0), (76.0, 0.0)]), np.array([(0, 1)]), 8.0
    boxes = [overlap_boxes((76.0, 0.0), TILE, search)]
    store = collect_strips(lambda i: tiles[i], np.arange(2), pairs, boxes, TILE)
    wrong = as_offsets(pairs, np.array([[[71.0, 0.0]]]), np.array([0.9]))
    stage = nominal_model()
    first = place_offsets(nominal, wrong, model=stage)
    assert first.pair_accepted.all()
    refined = refine_placement(store, nominal, wrong, first, TileOptions(), stage, 1)
    np.testing.assert_allclose(np.diff(refined.positions_px, axis=0)[0], (76.0, 0.0), atol=0.1)


def test_tiles_that_are_known_to_be_blank_have_no_vote_however_clear_their_peak():
    tiles, nominal, _ = mosaic(rows=2, cols=3)
    # Two fields of the same noise: a perfect peak, far from where the tiles are.
    common = textured_canvas((200, 200), seed=9)
    tiles[4], tiles[5] = cut(common, (0, 0)), cut(common, (4, 86))
    blank = np.zeros(6, bool)
    blank[4:] = True
    asked = []

    def find_blank():
        asked.append(True)
        return blank

    believed = place_tiles(lambda i: tiles[i], nominal, TILE)
    known = place_tiles(lambda i: tiles[i], nominal, TILE, find_blank=find_blank)
    assert asked == [True]
    assert believed.measured[4:].all()
    assert not known.measured[4:].any()
    assert known.measured[:4].all()
    np.testing.assert_allclose(known.positions_px[4:], known.model.positions(nominal)[4:])
