import numpy as np
import pytest

from soct.registration.slice_pair import register_slice_pair
from soct.registration.transforms import RigidTransform2D
from tests.registration.textures import Texture, intensity, pair, pixels

CENTRE = (109.5, 99.5)


def distance(found, truth, shape=(220, 200)):
    delta = found.apply(pixels(shape)) - truth.apply(pixels(shape))
    return float(np.sqrt((delta**2).sum(-1).mean()))


@pytest.mark.parametrize(
    ("rotation", "shift"), [(0.0, (0.0, 0.0)), (3.1, (8.4, -12.7)), (-4.6, (-17.2, 3.3))]
)
def test_a_known_transform_comes_back_with_its_sign(rotation, shift):
    truth = RigidTransform2D(rotation, shift, CENTRE)
    found = register_slice_pair(*pair(truth))
    assert found.accepted
    assert found.rotation_deg == pytest.approx(rotation, abs=0.01)
    assert found.shift == pytest.approx(shift, abs=0.02)
    assert found.centre == CENTRE


def test_speckle_costs_little_and_the_predicted_error_holds():
    truth = RigidTransform2D(-2.0, (5.5, 9.25), CENTRE)
    found = register_slice_pair(*pair(truth, planes=3, looks=4))
    assert distance(found.transform, truth) < 0.1
    assert found.confidence > 0.6
    sigma = np.sqrt(np.diag(found.covariance))
    assert sigma[0] < 0.1
    assert abs(found.shift[0] - 5.5) < 5 * sigma[0]
    assert abs(found.rotation_deg + 2.0) < 5 * sigma[2]


def test_the_start_may_be_far_when_the_stage_knows_it():
    truth = RigidTransform2D(1.0, (63.0, -48.0), CENTRE)
    found = register_slice_pair(*pair(truth), initial_shift=(60.0, -50.0), max_translation_px=8)
    assert distance(found.transform, truth) < 0.05


def test_slices_may_differ_in_size_and_have_holes():
    truth = RigidTransform2D(1.5, (20.0, 30.0), CENTRE)
    fixed, moving = pair(truth, moving_shape=(170, 190), planes=2)
    valid = np.ones(fixed.shape, bool)
    valid[:, 60:100, 30:90] = False
    fixed[~valid] = 1e4
    moving[:, :, :15] = np.nan
    found = register_slice_pair(
        fixed, moving, fixed_valid=valid, initial_shift=(15.0, 22.0), max_translation_px=20
    )
    assert distance(found.transform, truth) < 0.05


def test_wide_images_are_reduced_first_and_still_land_on_the_truth():
    truth = RigidTransform2D(1.5, (6.0, -9.0), CENTRE)
    found = register_slice_pair(*pair(truth), working_px=70)
    assert distance(found.transform, truth) < 0.15


def test_an_oblique_cut_is_found_when_the_bound_allows():
    truth = RigidTransform2D(27.0, (5.0, 4.0), CENTRE)
    found = register_slice_pair(*pair(truth), max_rotation_deg=35)
    assert distance(found.transform, truth) < 0.1


def test_a_translation_keeps_the_rotation_at_zero():
    truth = RigidTransform2D(0.0, (4.25, -6.5), CENTRE)
    found = register_slice_pair(*pair(truth), transform="translation")
    assert found.rotation_deg == 0.0
    assert found.shift == pytest.approx((4.25, -6.5), abs=0.02)


def test_an_affine_model_finds_a_stretch():
    canvas = Texture(3)
    stretch = np.array([[1.01, 0.004], [0.0, 0.99]])
    q = pixels((220, 200))
    fixed = intensity(canvas.at(q))
    moving = intensity(canvas.at((q - CENTRE) @ np.linalg.inv(stretch).T + CENTRE + [3.0, 2.0]))
    found = register_slice_pair(fixed, moving, transform="affine")
    assert np.allclose(found.transform.linear, stretch, atol=1e-3)
    assert found.shift == pytest.approx((3.0, 2.0), abs=0.03)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_rotation_beyond_the_bound_keeps_the_start_and_says_so(sign):
    truth = RigidTransform2D(sign * 2.5, (2.0, 1.0), CENTRE)
    found = register_slice_pair(*pair(truth), max_rotation_deg=2)
    assert not found.accepted
    assert found.bounded_rotation
    assert "rotation" in found.reason
    assert found.transform == RigidTransform2D(0.0, (0.0, 0.0), CENTRE)
    assert found.confidence == 0.0


def test_a_shift_beyond_the_bound_is_never_applied():
    truth = RigidTransform2D(0.0, (0.0, 25.0), CENTRE)
    found = register_slice_pair(*pair(truth), max_translation_px=10)
    assert found.shift == (0.0, 0.0) or found.confidence < 0.6
    assert np.hypot(*found.shift) <= 10.0


def test_unrelated_images_are_not_trusted():
    for seed in range(4):
        rng = np.random.default_rng(seed)
        a = intensity(Texture(2 * seed + 50).at(pixels((180, 180))), rng, 4)
        b = intensity(Texture(2 * seed + 51).at(pixels((180, 180))), rng, 4)
        assert register_slice_pair(a, b).confidence < 0.6


def test_empty_images_keep_the_start():
    blank = np.zeros((1, 100, 100), np.float32)
    found = register_slice_pair(blank, blank, initial_shift=(3.0, 4.0))
    assert not found.accepted
    assert found.shift == (3.0, 4.0)
    nothing = np.full((1, 100, 100), np.nan, np.float32)
    assert not register_slice_pair(nothing, nothing).accepted
    assert not register_slice_pair(blank[:, :10, :10], blank[:, :10, :10]).accepted


def test_wrong_stacks_and_bounds_are_refused():
    one = np.ones((1, 50, 50), np.float32)
    with pytest.raises(ValueError, match="face"):
        register_slice_pair(one, np.ones((2, 50, 50), np.float32))
    with pytest.raises(ValueError, match="bounds"):
        register_slice_pair(one, one, max_translation_px=-1)
    with pytest.raises(ValueError, match="transform"):
        register_slice_pair(one, one, transform="rigid")


def test_any_number_of_threads_gives_the_same_bytes():
    import numba

    truth = RigidTransform2D(-2.0, (5.5, 9.25), CENTRE)
    stacks = pair(truth, planes=4, looks=4)
    before = numba.get_num_threads()
    results = []
    for n in (1, before):
        numba.set_num_threads(n)
        results.append(register_slice_pair(*stacks))
    numba.set_num_threads(before)
    assert results[0].transform == results[1].transform
    assert np.array_equal(results[0].covariance, results[1].covariance)


def test_a_pass_over_many_rows_is_shared_among_threads_without_changing_a_byte(monkeypatch):
    from soct.registration import row_sums as passes

    rng = np.random.default_rng(0)
    fixed, moving = rng.standard_normal((2, 3, 70, 60)).astype(np.float32)
    valid = rng.random((3, 70, 60)) > 0.05
    c, s = np.cos(0.3), np.sin(0.3)
    matrix = np.array([[c, s, -6.3], [-s, c, 12.1], [0.0, 0.0, 1.0]])
    found = []
    for least in (0, 10**9):
        monkeypatch.setattr(passes, "_WORTH_THREADS_PX", least)
        found.append(passes.row_sums(fixed, valid, moving, valid, matrix, 30.0, 46.0, 2))
    assert found[0][..., 0].sum() > 1000
    assert np.array_equal(*found)


def test_planes_are_looked_at_between_each_others_rows():
    from soct.registration.row_sums import first_rows

    assert first_rows(4, 4).tolist() == [0, 1, 2, 3]
    assert first_rows(2, 4).tolist() == [0, 2]
    assert first_rows(3, 1).tolist() == [0, 0, 0]


def test_many_planes_are_searched_in_groups_and_still_found():
    truth = RigidTransform2D(3.1, (8.4, -12.7), CENTRE)
    found = register_slice_pair(*pair(truth, planes=9, looks=2))
    assert found.accepted
    assert distance(found.transform, truth) < 0.1


def test_noise_does_not_draw_shifts_towards_half_pixels():
    errors = []
    for share in (0.25, 0.75):
        truth = RigidTransform2D(0.0, (2 + share, -3 + share), (47.5, 47.5))
        sides = pair(truth, (96, 96), planes=10, looks=2, seed=5)
        found = register_slice_pair(*sides, max_translation_px=8)
        errors.append(np.subtract(found.shift, truth.shift).mean())
    # Towards a half, the first errs upwards and the second downwards.
    assert abs(errors[0] - errors[1]) / 2 < 0.012
