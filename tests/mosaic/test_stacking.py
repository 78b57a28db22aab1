from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage as ndi

from soct.mosaic.stacking import (
    apply_2d_transform,
    apply_transform_to_volume,
    apply_xy_shift,
    blend_overlap_xy,
    blend_overlap_z,
    enforce_z_consistency,
    find_z_overlap,
    refine_z_blend_overlap,
)


def _texture(shape: tuple[int, ...], seed: int = 0, sigma: float = 1.5) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal(shape)
    return (5 + ndi.gaussian_filter(noise, sigma) * 10).astype(np.float32)


def _matches(overlaps: list[int]) -> list[dict]:
    return [
        {"overlap_voxels": o, "blend_overlap_voxels": o, "moving_id": i + 1}
        for i, o in enumerate(overlaps)
    ]


def test_an_outlier_becomes_the_median_of_its_neighbours_and_is_listed() -> None:
    matches = _matches([20, 22, 60, 20, 21])
    same, corrections = enforce_z_consistency(matches)
    assert same is matches
    assert [m["overlap_voxels"] for m in matches] == [20, 22, 21, 20, 21]
    assert {c["field"] for c in corrections} == {"overlap_voxels", "blend_overlap_voxels"}
    assert corrections[0] == {
        "moving_id": 3,
        "field": "overlap_voxels",
        "old_value": 60,
        "new_value": 21,
    }


def test_the_two_fields_are_corrected_on_their_own() -> None:
    matches = _matches([20, 20, 20])
    matches[1]["blend_overlap_voxels"] = 2
    _, corrections = enforce_z_consistency(matches)
    assert [c["field"] for c in corrections] == ["blend_overlap_voxels"]
    assert matches[1]["overlap_voxels"] == 20


@pytest.mark.parametrize("confidence", [[0.5, 0.5, 0.9, 0.5], {3: 0.9}])
def test_a_confident_entry_is_kept_however_far_off(confidence: object) -> None:
    matches = _matches([20, 20, 60, 20])
    _, corrections = enforce_z_consistency(matches, confidence)  # type: ignore[arg-type]
    assert corrections == []


def test_the_overlap_that_was_cut_is_found() -> None:
    brain = _texture((60, 40, 40))
    overlap, corr = find_z_overlap(brain[:40], brain[23:60], 0.2, 0.1, 10.0)
    assert overlap == 17
    assert corr == pytest.approx(1.0, abs=1e-6)


def test_empty_slices_keep_the_expected_overlap() -> None:
    empty = np.zeros((40, 20, 20), np.float32)
    assert find_z_overlap(empty, empty, 0.2, 0.05, 10.0) == (20, 0.0)


def test_a_shift_alone_moves_the_image_as_simpleitk_says() -> None:
    image = _texture((50, 60))
    out = apply_2d_transform(image, sitk.Euler2DTransform((0, 0), 0.0, (3.0, -2.0)))
    np.testing.assert_allclose(out[2:, :-3], image[:-2, 3:], atol=1e-5)


def test_rotations_beyond_the_limit_are_clamped_in_either_direction() -> None:
    image = _texture((64, 64), sigma=3)
    centre = (31.5, 31.5)
    for sign in (1, -1):
        wide = sitk.Euler2DTransform(centre, sign * math.radians(5), (0, 0))
        one = sitk.Euler2DTransform(centre, sign * math.radians(1), (0, 0))
        np.testing.assert_array_equal(
            apply_2d_transform(image, wide), apply_2d_transform(image, one, max_rotation_deg=0)
        )


def test_the_override_replaces_the_rotation_and_rotation_only_drops_the_shift() -> None:
    image = _texture((64, 64), sigma=3)
    given = sitk.Euler2DTransform((31.5, 31.5), 0.0, (4, 4))
    plain = sitk.Euler2DTransform((31.5, 31.5), math.radians(0.5), (0, 0))
    np.testing.assert_array_equal(
        apply_2d_transform(image, given, rotation_only=True, override_rotation=math.radians(0.5)),
        apply_2d_transform(image, plain),
    )


def test_a_3d_euler_transform_acts_on_every_plane_like_its_2d_part() -> None:
    volume = _texture((3, 40, 40), sigma=2)
    angle = math.radians(0.8)
    solid = sitk.Euler3DTransform((19.5, 19.5, 0.0), 0.0, 0.0, angle, (1.5, -0.5, 0.0))
    flat = sitk.Euler2DTransform((19.5, 19.5), angle, (1.5, -0.5))
    out = apply_transform_to_volume(volume, solid)
    for z in range(3):
        np.testing.assert_array_equal(out[z], apply_2d_transform(volume[z], flat))


def test_another_transform_is_an_error_and_never_the_identity() -> None:
    with pytest.raises(ValueError, match="AffineTransform"):
        apply_2d_transform(np.ones((8, 8)), sitk.AffineTransform(2))


def test_a_shifted_volume_is_cut_to_the_canvas_without_a_copy() -> None:
    volume = _texture((2, 10, 12))
    cropped, window = apply_xy_shift(volume, dx_px=-3, dy_px=5, output_shape=(12, 20))
    assert window == (5, 12, 0, 9)
    assert cropped is not None
    assert np.shares_memory(cropped, volume)
    np.testing.assert_array_equal(cropped, volume[:, :7, 3:])
    assert apply_xy_shift(volume, 100, 0, (12, 20)) == (None, None)


def test_depth_blending_runs_from_the_fixed_to_the_moving_slice() -> None:
    fixed, moving = np.full((5, 2, 2), 1.0), np.full((5, 2, 2), 3.0)
    out = blend_overlap_z(fixed, moving)
    np.testing.assert_allclose(out[:, 0, 0], 1 + (1 - np.cos(np.pi * np.arange(5) / 4)), atol=1e-6)


def test_no_data_never_averages_in() -> None:
    fixed, moving = np.full((3, 2, 2), 2.0), np.full((3, 2, 2), 4.0)
    fixed[:, 0, 0] = 0
    moving[:, 1, 1] = 0
    for out in (
        blend_overlap_z(fixed, moving),
        *(blend_overlap_xy(fixed, moving, m) for m in ("none", "average", "max", "feather")),
    ):
        np.testing.assert_allclose(out[:, 0, 0], 4)
        np.testing.assert_allclose(out[:, 1, 1], 2)


def test_the_ways_to_blend_in_the_plane() -> None:
    old, new = np.full((4, 9), 2.0), np.full((4, 9), 4.0)
    assert (blend_overlap_xy(old, new) == 4).all()
    assert (blend_overlap_xy(old, new, "average") == 3).all()
    assert (blend_overlap_xy(old, new, "max") == 4).all()
    old[:, 6:] = 0
    new[:, :2] = 0
    feather = blend_overlap_xy(old, new, "feather")
    assert (np.diff(feather[2]) >= 0).all()
    with pytest.raises(ValueError, match="feather"):
        blend_overlap_xy(old, new, "other")  # type: ignore[arg-type]


def test_a_small_shift_is_taken_out_and_a_long_one_is_not_believed() -> None:
    plane = _texture((80, 80), sigma=2.5)
    existing = np.repeat(plane[None], 4, axis=0)
    moving = ndi.shift(existing, (0, 1.4, -0.6), order=3, mode="nearest")
    refined, magnitude = refine_z_blend_overlap(existing, moving, 3.0)
    assert magnitude == pytest.approx(math.hypot(1.4, 0.6), abs=0.1)
    inner = np.s_[:, 8:-8, 8:-8]
    assert (
        np.abs(refined[inner] - existing[inner]).mean()
        < 0.3 * np.abs(moving[inner] - existing[inner]).mean()
    )
    same, nothing = refine_z_blend_overlap(existing, moving, 1.0)
    assert nothing == 0.0
    assert same is moving
