"""Turning axes is exact: every voxel keeps its place in the body."""

from __future__ import annotations

import numpy as np
import pytest

from soct.geometry.orientation import (
    RAS,
    OrientedVolume,
    all_orientations,
    is_oblique,
    is_right_handed,
    make_affine,
    opposite_orientation,
    orientation_of,
    parse_orientation,
    reorientation,
)

ALL = (*all_orientations(right_handed=True), *all_orientations(right_handed=False))


def volume(code: str) -> OrientedVolume:
    rng = np.random.default_rng(3)
    data = rng.normal(size=(4, 5, 6)).astype(np.float32)
    return OrientedVolume(data, make_affine(code, (10.0, 20.0, 30.0), (5.0, -7.0, 11.0)))


def places(v: OrientedVolume) -> dict[tuple[float, ...], float]:
    index = np.indices(v.data.shape).reshape(3, -1)
    world = v.affine[:3, :3] @ index + v.affine[:3, 3:]
    return {
        tuple(np.round(point, 9) + 0.0): float(value)
        for point, value in zip(world.T, v.data.ravel(), strict=True)
    }


@pytest.mark.parametrize("source", ALL)
def test_every_voxel_keeps_its_place_whatever_the_turn(source):
    before = volume(source)
    expected = places(before)
    for target in (RAS, "PIR", "ALS", "IRA"):
        after = before.reoriented(target)
        assert after.orientation == target
        assert places(after) == expected


def test_48_codes_are_two_hands_of_24_that_turning_never_mixes():
    assert len(set(ALL)) == 48
    for hand in (True, False):
        codes = all_orientations(right_handed=hand)
        assert len(codes) == 24
        assert not any(reorientation(codes[0], code).mirrors for code in codes)
    assert reorientation("SAR", "SAL").mirrors


def test_right_anterior_superior_along_x_y_z_is_right_handed():
    assert is_right_handed("SAR")
    assert not is_right_handed("SAL")
    assert not is_right_handed("PIR")


@pytest.mark.parametrize("code", ALL[::5])
def test_a_turn_is_undone_by_its_inverse_and_maps_blocks_and_sizes(code):
    turn = reorientation("PIR", code)
    data = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    turned = turn.apply(data)
    assert np.array_equal(turn.inverse().apply(turned), data)
    assert turn.shape(data.shape) == turned.shape
    assert sorted(turn.voxel((1.0, 2.0, 3.0))) == [1, 2, 3]
    window = ((1, 3), (0, 2), (2, 4))
    block = data[tuple(slice(a, b) for a, b in turn.input_window(window, data.shape))]
    assert np.array_equal(turn.apply(block), turned[tuple(slice(a, b) for a, b in window)])


@pytest.mark.parametrize("code", ["", "RA", "RAR", "RLS", "XYZ", "RASS", "R S"])
def test_an_impossible_code_is_refused_with_what_is_needed(code):
    with pytest.raises(ValueError, match="one of R/L, one of A/P and one of S/I"):
        parse_orientation(code)


def test_the_code_of_the_sides_that_axes_start_at_is_the_opposite():
    assert opposite_orientation("asr") == "PIL"
    assert opposite_orientation("psl") == "AIR"


def test_an_oblique_affine_has_the_nearest_code_and_is_known_as_oblique():
    from scipy.spatial.transform import Rotation

    affine = make_affine("PIR", (10, 10, 10))
    tilted = affine.copy()
    tilted[:3, :3] = Rotation.from_rotvec(np.radians([20, -15, 10])).as_matrix() @ affine[:3, :3]
    assert orientation_of(tilted) == "PIR"
    assert is_oblique(tilted)
    assert not is_oblique(affine)
    with pytest.raises(ValueError, match="no length"):
        orientation_of(np.zeros((4, 4)))
    flat = affine.copy()
    flat[:3, 1] = flat[:3, 0]
    with pytest.raises(ValueError, match="one plane"):
        orientation_of(flat)
