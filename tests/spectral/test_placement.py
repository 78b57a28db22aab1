"""Tiles with known positions and maps are matched point by point; the same positions and maps come back."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from soct.spectral.placement import Placement, PlacementError, PlacementWarning

TILE = 512.0
STEP = 435.0


def grid_pairs(rows, cols):
    number = np.arange(rows * cols).reshape(rows, cols)
    right = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], axis=1)
    down = np.stack([number[:-1].ravel(), number[1:].ravel()], axis=1)
    return np.vstack([right, down])


def planted(rows, cols, seed=0, shape=0.0, turn=0.0):
    """Maps (n, 2, 3) of tiles in a grid, placed up to 8 px beside it."""
    rng = np.random.default_rng(seed)
    n = rows * cols
    r, c = np.divmod(np.arange(n), cols)
    corner = np.stack([c * STEP, r * STEP], axis=1) + rng.uniform(-8, 8, (n, 2))
    linear = np.eye(2) + shape * rng.standard_normal((n, 2, 2))
    angle = turn * rng.standard_normal(n)
    cos, sin = np.cos(angle), np.sin(angle)
    linear = linear @ np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    half = np.full(2, TILE / 2)
    return np.concatenate([linear, (corner + half - linear @ half)[:, :, None]], axis=2)


def inverse(matrix, points):
    return np.linalg.solve(matrix[:, :2], (points - matrix[:, 2]).T).T


def shared_points(true, i, j, across=3, along=3):
    """Points of the mosaic in the overlap of two tiles."""
    middle = np.array([TILE / 2, TILE / 2, 1.0])
    a, b = true[i] @ middle, true[j] @ middle
    low, high = np.maximum(a, b) - TILE / 2, np.minimum(a, b) + TILE / 2
    counts = (across, along) if abs(a - b)[0] > abs(a - b)[1] else (along, across)
    parts = [low[k] + (np.arange(m) + 0.5) / m * (high - low)[k] for k, m in enumerate(counts)]
    return np.stack(np.meshgrid(*parts), axis=-1).reshape(-1, 2)


def match_all(true, pairs, noise=0.0, seed=1, wrong=(), **points):
    """A placement of tiles 0..n-1, and the pairs with their first and second points."""
    rng = np.random.default_rng(seed)
    placement = Placement()
    for k, (i, j) in enumerate(pairs.tolist()):
        where = shared_points(true, i, j, **points)
        first, second = inverse(true[i], where), inverse(true[j], where)
        second += noise * rng.standard_normal(second.shape) + (25.0 if k in wrong else 0.0)
        placement.addmatch(i, j, first, second)
    return placement


def centres(found):
    middle = (TILE / 2, TILE / 2)
    return np.array([found[t] * middle for t in sorted(found)])


def affine_error(found, true):
    """RMS distance of tile centres after the best global affine map."""
    placed = centres(found)
    target = true @ np.array([TILE / 2, TILE / 2, 1.0])
    design = np.column_stack([placed, np.ones(len(placed))])
    rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return float(np.sqrt((rest**2).sum(axis=1).mean()))


def test_two_tiles_lie_where_their_match_says_and_the_fixed_one_at_the_origin():
    placement = Placement()
    placement.addmatch("left", "right", (90.0, 40.0), (10.0, 42.0))
    assert placement.rigid(fix="left") == {"left": (0.0, 0.0), "right": (80.0, -2.0)}
    assert placement.rigid(fix="right") == {"left": (-80.0, 2.0), "right": (0.0, 0.0)}
    free = np.array(list(placement.rigid().values()))
    np.testing.assert_allclose(free, [[-40.0, 1.0], [40.0, -1.0]], atol=1e-9)


def test_a_grid_with_planted_positions_comes_back_exactly():
    true = planted(4, 5)
    placement = match_all(true, grid_pairs(4, 5), across=1, along=1)
    found = placement.rigid(fix=0)
    expected = true[:, :, 2] - true[0, :, 2]
    np.testing.assert_allclose([found[t] for t in range(20)], expected, atol=1e-8)
    assert max(r.residual_px for r in placement.residuals) < 1e-8
    assert all(r.accepted for r in placement.residuals)
    assert placement.weak == {}
    assert min(placement.confidence.values()) > 0.9


def test_a_ring_that_does_not_close_shares_its_error_by_weight():
    placement = Placement()
    for k, weight in enumerate((1.0, 1.0, 0.5, 1.0)):
        placement.addmatch(k, (k + 1) % 4, (10.0 + 0.1 * (k == 0), 0.0), (0.0, 0.0), weight)
    for k in (0, 2):
        placement.addmatch(k, (k + 1) % 4, (0.0, 0.0), (10.0 if k else 20.2, 0.0), 0.0)
    positions = placement.rigid(fix=0, robust=False)
    # A ring whose steps should add up to nothing: 40.1 px are shared as 1 : 1 : 2 : 1.
    step = positions[1][0] - positions[0][0]
    assert step == pytest.approx(10.1 - 40.1 / 5)
    assert positions[3][0] - positions[2][0] == pytest.approx(10.0 - 2 * 40.1 / 5)
    assert [r.accepted for r in placement.residuals] == [True] * 4 + [False] * 2


def test_two_groups_are_placed_each_in_its_own_frame_and_named():
    true = planted(2, 3)
    placement = match_all(true, grid_pairs(2, 3))
    placement.addmatch("x", "y", (5.0, 5.0), (0.0, 1.0))
    with pytest.warns(
        PlacementWarning, match=r"2 groups.*6 \(0, 1, 2, 3, 4 and 1 more\); 2 \('x', 'y'\)"
    ):
        found = placement.rigid(fix=4)
    assert placement.groups == ((0, 1, 2, 3, 4, 5), ("x", "y"))
    assert found[4] == (0.0, 0.0)
    assert found["y"] == pytest.approx((2.5, 2.0))
    with pytest.warns(PlacementWarning, match="2 groups"):
        maps = placement.affine(fix="y")
    np.testing.assert_allclose((maps["x"]) * (5.0, 5.0), (0.0, 1.0), atol=1e-6)
    mean = np.mean([maps[t].matrix[:, :2] for t in range(6)], axis=0)
    np.testing.assert_allclose(mean, np.eye(2), atol=1e-9)


@pytest.mark.parametrize("model", ["rigid", "similarity", "affine"])
def test_all_matches_of_a_pair_may_be_wrong(model):
    true = planted(4, 4)
    pairs = grid_pairs(4, 4)
    wrong = (4, 22)
    placement = match_all(true, pairs, wrong=wrong, noise=0.05)
    with pytest.warns(PlacementWarning, match="18 of 216 matches disagree"):
        found = getattr(placement, model)(fix=5)
    lost = {(r.t1, r.t2) for r in placement.residuals if not r.accepted}
    assert lost == {tuple(pairs[k]) for k in wrong}
    corners = np.array([found[t] if model == "rigid" else found[t] * (0, 0) for t in range(16)])
    np.testing.assert_allclose(corners, true[:, :, 2] - true[5, :, 2], atol=0.3)


def test_a_fifth_of_scattered_wrong_matches_is_told_apart():
    rng = np.random.default_rng(7)
    true = planted(6, 6, shape=0.001)
    placement, bad = Placement(), []
    for i, j in grid_pairs(6, 6).tolist():
        where = shared_points(true, i, j)
        second = inverse(true[j], where) + 0.1 * rng.standard_normal(where.shape)
        wrong = rng.random(len(where)) < 0.2
        second[wrong] += rng.uniform(2, 30, (wrong.sum(), 2))
        placement.addmatch(i, j, inverse(true[i], where), second)
        bad.extend(wrong)
    with pytest.warns(PlacementWarning, match="disagree"):
        found = placement.affine()
    accepted = np.array([r.accepted for r in placement.residuals])
    np.testing.assert_array_equal(accepted, ~np.array(bad))
    assert affine_error(found, true) < 0.3


def test_noise_of_a_tenth_of_a_pixel_does_not_bend_an_affine_mosaic():
    true = planted(14, 14)
    placement = match_all(true, grid_pairs(14, 14), noise=0.1)
    free = affine_error(placement.affine(regularize=0), true)
    assert affine_error(placement.affine(), true) < 0.15 < 0.5 * free
    assert placement.pull > 10
    assert placement.sigma_px == pytest.approx(0.1, rel=0.15)


def test_tiles_that_are_plainly_distorted_keep_their_shapes():
    true = planted(3, 4, shape=0.02)
    placement = match_all(true, grid_pairs(3, 4), noise=1e-4)
    found = placement.affine(fix=0)
    assert placement.pull < 1e-3
    frame = np.vstack([true[0], (0, 0, 1)])
    for t in range(12):
        expected = np.linalg.solve(frame, np.vstack([true[t], (0, 0, 1)]))[:2]
        np.testing.assert_allclose(found[t] * (256, 256), expected @ (256, 256, 1), atol=0.05)
        np.testing.assert_allclose(found[t].matrix[:, :2], expected[:, :2], atol=2e-4)


def test_turned_tiles_come_back_as_similarities():
    true = planted(4, 4, turn=0.1)
    placement = match_all(true, grid_pairs(4, 4), wrong=(3,))
    with pytest.warns(PlacementWarning, match="9 of"):
        found = placement.similarity(fix=2)
    frame = np.vstack([true[2], (0, 0, 1)])
    for t in range(16):
        expected = np.linalg.solve(frame, np.vstack([true[t], (0, 0, 1)]))[:2]
        np.testing.assert_allclose(found[t].matrix[:, :2], expected[:, :2], atol=1e-5)
        np.testing.assert_allclose(found[t].matrix[:, 2], expected[:, 2], atol=0.01)


def test_the_frame_of_the_fixed_tile_changes_nothing_between_the_others():
    true = planted(3, 3, shape=0.005)
    placement = match_all(true, grid_pairs(3, 3), noise=0.1)
    free, fixed = placement.affine(), placement.affine(fix=4)
    assert fixed[4].matrix.tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    mean = np.mean([free[t].matrix for t in free], axis=0)
    np.testing.assert_allclose(mean, np.eye(2, 3), atol=1e-9)
    for t in free:
        together = (free[4] @ fixed[t]).matrix
        np.testing.assert_allclose(together, free[t].matrix, atol=1e-8)


def test_points_along_a_seam_do_not_shear_the_tiles_and_are_named():
    true = planted(2, 3)
    placement = match_all(true, grid_pairs(2, 3), noise=0.05, across=1, along=5)
    maps = placement.affine()
    for m in maps.values():
        np.testing.assert_allclose(m.matrix[:, :2], np.eye(2), atol=1e-3)
    pair = Placement()
    along = np.stack([np.full(5, 480.0), np.linspace(50, 450, 5)], axis=1)
    pair.addmatch("a", "b", along, along - (435.0, 3.0))
    np.testing.assert_allclose(pair.affine(fix="a")["b"] * (0, 0), (435.0, 3.0), atol=1e-6)
    assert set(pair.underdetermined) == {"a", "b"}
    assert "5 matches on one line" in pair.underdetermined["a"]
    free = pair.affine(fix="a", regularize=0)["b"]
    np.testing.assert_allclose(free.matrix, [[1, 0, 435], [0, 1, 3]], atol=1e-6)


def test_one_match_a_tile_is_enough_for_an_affine_call():
    placement = Placement()
    placement.addmatch(0, 1, (5, 5), (1, 2))
    np.testing.assert_allclose(placement.affine(fix=0)[1].matrix, [[1, 0, 4], [0, 1, 3]], atol=1e-9)
    assert "1 match in one place" in placement.underdetermined[1]
    assert "1 match that nothing checks" in placement.weak[0]


def test_tiles_that_hang_on_one_match_are_named_with_it():
    true = planted(3, 3)
    placement = match_all(true, grid_pairs(3, 3))
    placement.addmatch(8, "far", (400, 400), (10, 10))
    placement.addmatch("far", "beyond", [(400, 400), (410, 300)], [(10, 10), (20, -90)])
    placement.rigid()
    assert set(placement.weak) == {"far", "beyond"}
    assert placement.weak["far"] == "hangs on 8 - 'far' (1 match that nothing checks)"
    assert placement.confidence["far"] == placement.confidence["beyond"] == pytest.approx(0.3)
    assert placement.confidence[4] > 0.99


def test_a_tile_with_two_matches_that_contradict_each_other_keeps_the_heavier_and_is_named():
    true = planted(3, 3)
    pairs = grid_pairs(3, 3).tolist()
    for heavier in ([7, 8], [5, 8]):
        placement = Placement()
        for i, j in pairs:
            where = shared_points(true, i, j, 1, 1)
            error = 40.0 if [i, j] == [7, 8] else 0.0
            weight = 1.2 if [i, j] == heavier else 1.0
            second = inverse(true[j], where) + error
            placement.addmatch(i, j, inverse(true[i], where), second, weight)
        with pytest.warns(PlacementWarning, match="disagree"):
            found = placement.rigid(fix=0)
        assert len(placement.groups) == 1
        assert placement.weak == {
            8: f"hangs on {heavier[0]} - 8 (others that contradict it were set aside)"
        }
        off = np.array(found[8]) - (true[8] - true[0])[:, 2]
        np.testing.assert_allclose(off, -40.0 if heavier == [7, 8] else 0.0, atol=1e-3)


def test_tiles_whose_matches_share_a_large_error_that_nothing_explains_are_named():
    placement = Placement()
    for k in range(4):
        placement.addmatch(k, (k + 1) % 4, (40.0 * (k == 0), 0.0), (0.0, 0.0))
    placement.rigid()
    assert placement.weak == dict.fromkeys(range(4), "its matches disagree by 10 px")
    assert max(placement.confidence.values()) < 0.2


def test_any_hashable_names_a_tile_and_the_order_of_matches_changes_only_rounding():
    names = [0, "one", (2, "b"), frozenset({3}), 4.5, None]
    true = planted(2, 3, shape=0.003)
    pairs = grid_pairs(2, 3)
    parts = []
    for i, j in pairs.tolist():
        where = shared_points(true, i, j)
        noise = 0.1 * np.random.default_rng(i * 10 + j).standard_normal(where.shape)
        parts.append((names[i], names[j], inverse(true[i], where), inverse(true[j], where) + noise))
    placements = [Placement() for _ in range(3)]
    for p in parts:
        placements[0].addmatch(*p)
        placements[2].addmatch(*p)
    for a, b, p, q in reversed(parts):
        placements[1].addmatch(b, a, q[::-1], p[::-1])
    maps = [p.affine() for p in placements]
    assert set(maps[0]) == set(names)
    for t in names:
        np.testing.assert_array_equal(maps[0][t].matrix, maps[2][t].matrix)
        np.testing.assert_allclose(maps[0][t].matrix, maps[1][t].matrix, atol=1e-7)
    assert all(isinstance(v, tuple) for v in placements[0].rigid().values())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a", "a", (0, 0), (1, 1)), "'a' with itself"),
        (("a", "b", (0, np.nan), (1, 1)), "p1.*'a' and 'b' is not finite"),
        (("a", "b", (0, 0), (np.inf, 1)), "p2.*'a' and 'b' is not finite"),
        (("a", "b", (0, 0), (1, 1), np.nan), "weight.*'a' and 'b'"),
        (("a", "b", (0, 0), (1, 1), -1), "weight.*'a' and 'b'"),
        (("a", "b", [(0, 0), (1, 1)], (1, 1)), "'a' and 'b' has 2 points"),
        (("a", "b", (0, 0), (1, 1), [1, 2]), r"'a' and 'b'.*weights of the shape \(2,\)"),
        (("a", "b", (0, 0, 0), (1, 1)), r"p1.*'a' and 'b' has the shape \(3,\)"),
        (("a", "b", "xy", (1, 1)), "p1.*'a' and 'b' is not made of numbers"),
        ((float("nan"), "b", (0, 0), (1, 1)), "cannot name a tile"),
    ],
)
def test_a_match_that_cannot_be_used_is_refused_by_name_and_leaves_nothing(arguments, words):
    placement = Placement()
    with pytest.raises(ValueError, match=words):
        placement.addmatch(*arguments)
    assert placement.tiles == ()


def test_a_question_that_matches_cannot_answer_is_refused():
    placement = Placement()
    with pytest.raises(ValueError, match="no match to place"):
        placement.rigid()
    placement.addmatch("a", "b", (0, 0), (1, 1))
    with pytest.raises(PlacementError, match=r"'c'[\s\S]*one of 'a', 'b'"):
        placement.affine(fix="c")
    for bad in (-1, float("nan"), "strong"):
        with pytest.raises(ValueError, match="regularize"):
            placement.affine(regularize=bad)


def test_nothing_is_told_before_anything_is_placed_or_after_a_new_match():
    placement = Placement()
    placement.addmatch("a", "b", (0, 0), (1, 1))
    assert placement.residuals == placement.groups == ()
    placement.rigid()
    assert placement.groups == (("a", "b"),)
    placement.addmatch("b", "c", (0, 0), (1, 1))
    assert placement.groups == ()


def test_a_match_that_agrees_is_no_warning():
    true = planted(3, 3, shape=0.002)
    placement = match_all(true, grid_pairs(3, 3), noise=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        placement.rigid()
        placement.similarity()
        placement.affine()
