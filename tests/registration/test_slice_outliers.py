"""Which slices the registration says nothing good about."""

from __future__ import annotations

import numpy as np

from soct.registration.slice_outliers import PairPoint, dbscan, find_slice_outliers


def chain(ncc: list[float], shift: list[float] | None = None) -> list[PairPoint]:
    moved = shift or [20.0 + 3 * (k % 3) for k in range(len(ncc))]
    return [
        PairPoint(k, k + 1, value, far)
        for k, (value, far) in enumerate(zip(ncc, moved, strict=True))
    ]


def test_two_clouds_and_a_stray_point_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [rng.normal(0, 0.3, (20, 2)), rng.normal(5, 0.3, (10, 2)), [[20.0, 20.0]]]
    )
    assert dbscan(points, 1.5, 3).tolist() == [0] * 20 + [1] * 10 + [-1]


def test_a_chain_of_core_points_is_one_cluster_and_its_border_belongs_to_it() -> None:
    line = np.arange(6.0)[:, None] * [1.0, 0.0]
    assert dbscan(line, 1.0, 3).tolist() == [0] * 6
    assert dbscan(line, 0.5, 2).tolist() == [-1] * 6


def test_a_sound_run_loses_no_slice() -> None:
    rng = np.random.default_rng(1)
    found = find_slice_outliers(chain(list(0.85 + 0.03 * rng.standard_normal(20))))
    assert found.reasons == {}
    assert found.refused == ""


def test_the_slice_between_two_bad_pairs_is_found_and_its_neighbours_are_not() -> None:
    ncc = [0.85] * 10
    ncc[4] = ncc[5] = 0.3
    assert list(find_slice_outliers(chain(ncc)).reasons) == [5]


def test_one_bad_pair_excludes_no_inner_slice_but_one_at_the_end() -> None:
    inner, end = [0.85] * 10, [0.85] * 10
    inner[4] = end[9] = 0.3
    assert find_slice_outliers(chain(inner)).reasons == {}
    assert list(find_slice_outliers(chain(end)).reasons) == [10]


def test_a_bad_slice_beside_the_last_one_does_not_take_it_along() -> None:
    ncc = [0.85] * 8 + [0.2, 0.2]
    assert list(find_slice_outliers(chain(ncc)).reasons) == [9]


def test_far_moves_count_and_good_ones_do_not() -> None:
    shift = [20.0] * 10
    shift[3] = shift[4] = 900.0
    assert list(find_slice_outliers(chain([0.85] * 10, shift)).reasons) == [4]
    better = [0.7] * 10
    better[3] = better[4] = 0.99
    assert find_slice_outliers(chain(better)).reasons == {}


def test_runs_of_three_bad_pairs_exclude_the_slices_within() -> None:
    ncc = [0.8, 0.7, 0.8, 0.55, 0.5, 0.55, 0.75, 0.8, 0.7, 0.75]
    assert list(find_slice_outliers(chain(ncc)).reasons) == [4, 5]
    assert find_slice_outliers(chain(ncc), run_ncc=0.0).reasons == {}


def test_limits_that_would_take_most_of_the_slices_take_none_and_say_so() -> None:
    found = find_slice_outliers(chain([0.5] * 12))
    assert found.reasons == {}
    assert "11 of 13" in found.refused


def test_few_pairs_make_no_cloud() -> None:
    assert find_slice_outliers(chain([0.8, 0.1])).reasons == {}
