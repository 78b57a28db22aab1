"""What lies between two surfaces, where it is known."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.registration.slice_interpolation import (
    Morph,
    MorphGates,
    Surface,
    find_facing_surfaces,
    fractional_affine,
    plan_morph,
    surface_ncc,
    warp,
)

SHAPE = (160, 200)


def affine(
    rotation_deg: float = 0.0, scale: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> Any:
    angle = math.radians(rotation_deg)
    turn = scale * np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    )
    return np.column_stack([turn, shift])


def tissue(seed: int = 0) -> Any:
    """A brain-like blob with structure inside, on a dark background."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(SHAPE)
    blob = np.hypot((y - 80) / 62, (x - 100) / 80) < 1
    inside = ndi.gaussian_filter(rng.normal(size=SHAPE), 4)
    image = np.where(blob, 1.0 + 0.35 * inside / inside.std(), 0.08)
    return np.clip(ndi.gaussian_filter(image, 1), 0.02, None).astype(np.float32)


def surface(image: Any) -> Surface:
    return Surface(np.asarray(image, np.float32), np.ones(image.shape, bool))


def compose(a: Any, b: Any) -> Any:
    return (np.vstack([a, [0, 0, 1]]) @ np.vstack([b, [0, 0, 1]]))[:2]


@pytest.mark.parametrize(
    "matrix",
    [
        affine(4, 1.06, (5, -3)),
        affine(0, 1, (7, 2)),
        affine(0, 1 + 1e-9, (1, -2)),
        np.array([[1.0, 0.2, 3.0], [0.0, 1.0, -1.0]]),
        np.array([[1.1, 0.0, 3.0], [0.0, 1.0, -1.0]]),
    ],
    ids=["similarity", "shift", "near identity", "shear", "one scale"],
)
def test_parts_of_a_transform_make_up_the_whole(matrix: Any) -> None:
    half = fractional_affine(matrix, 0.5).matrix
    assert compose(half, half) == pytest.approx(matrix, abs=1e-8)
    third, rest = fractional_affine(matrix, 0.3).matrix, fractional_affine(matrix, 0.7).matrix
    assert compose(third, rest) == pytest.approx(matrix, abs=1e-8)
    back = fractional_affine(matrix, -1.0).matrix
    assert compose(back, matrix) == pytest.approx(np.eye(3)[:2], abs=1e-8)
    assert fractional_affine(matrix, 0.0).matrix == pytest.approx(np.eye(3)[:2], abs=1e-12)


def test_the_translation_follows_its_formula() -> None:
    matrix, a = affine(6, 1.1, (4, 9)), 0.37
    m, t = matrix[:, :2], matrix[:, 2]
    power = fractional_affine(matrix, a).matrix
    eye = np.eye(2)
    expected = (eye - power[:, :2]) @ np.linalg.inv(eye - m) @ t
    assert power[:, 2] == pytest.approx(expected, abs=1e-12)
    assert power[:, :2] == pytest.approx(affine(6 * a, 1.1**a)[:, :2], abs=1e-12)


def test_a_mirror_image_has_no_half_way_and_two_negative_scales_are_dubious() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        fractional_affine(np.array([[1.0, 0, 0], [0, -1.0, 0]]), 0.5)
    assert fractional_affine(np.array([[-1.0, 0, 0], [0, -1.5, 0]]), 0.5).imaginary > 1e-3


def test_planes_between_move_along_with_the_tissue() -> None:
    """The tissue turns, grows and shifts evenly on the way down: each plane is known."""
    whole = affine(4.0, 1.05, (6.0, -5.0))
    base = surface(tissue())
    before, after = base, warp(base, whole)
    plan = plan_morph(before, after)
    assert plan.failure == plan.note == ""
    assert plan.method == "zmorph"
    assert plan.ncc_after > plan.ncc_before + 0.05
    morph = Morph(before, after, "zmorph", plan.matrix)
    fade = Morph(before, after, "weighted")
    inner = np.zeros(SHAPE, bool)
    inner[45:115, 50:150] = True
    for a in (0.25, 0.5, 0.75):
        true = warp(base, fractional_affine(whole, a).matrix).image
        lost = 1 - surface_ncc(morph.plane(a).image, true, inner)
        assert lost < 0.01
        assert lost < 0.2 * (1 - surface_ncc(fade.plane(a).image, true, inner))


def test_the_half_way_is_the_same_from_both_sides() -> None:
    base = surface(tissue())
    other = warp(base, affine(3, 0.97, (4, 2)))
    matrix = affine(3, 0.97, (4, 2))
    back = fractional_affine(matrix, -1.0).matrix
    down, up = Morph(base, other, "zmorph", matrix), Morph(other, base, "zmorph", back)
    for a in (0.2, 0.5):
        first, second = down.plane(a), up.plane(1 - a)
        both = first.valid & second.valid
        assert first.image[both] == pytest.approx(second.image[both], abs=1e-4)


def test_a_share_that_differs_between_a_lines_gives_what_single_shares_give() -> None:
    base = surface(tissue())
    matrix = affine(3, 1.04, (4, -2))
    morph = Morph(base, warp(base, matrix), "zmorph", matrix)
    share = np.where(np.arange(SHAPE[1]) < 100, 0.25, 0.6)[None, :] * np.ones(SHAPE)
    mixed = morph.plane(share)
    for columns, a in ((slice(0, 100), 0.25), (slice(100, 200), 0.6)):
        single = morph.plane(a)
        both = (mixed.valid & single.valid)[:, columns]
        assert mixed.image[:, columns][both] == pytest.approx(
            single.image[:, columns][both], abs=2e-3
        )


def test_the_ends_are_the_surfaces_themselves() -> None:
    before, after = surface(tissue()), surface(tissue(1))
    for method in ("zmorph", "weighted"):
        morph = Morph(before, after, method, affine(2, 1, (3, 1)))  # type: ignore[arg-type]
        assert morph.plane(0.0).image == pytest.approx(before.image, abs=1e-5)
        assert morph.plane(1.0).image == pytest.approx(after.image, abs=1e-5)
    assert Morph(before, after, "average").plane(0.2).image == pytest.approx(
        (before.image + after.image) / 2, abs=1e-6
    )


def test_surfaces_of_different_tissue_are_refused() -> None:
    other = np.roll(tissue(3), (40, 70), (0, 1))
    plan = plan_morph(surface(tissue()), surface(other), MorphGates(min_overlap_ncc=0.6))
    assert "correlate" in plan.failure


def test_too_little_tissue_is_refused() -> None:
    rng = np.random.default_rng(0)
    speck = 0.05 * rng.gamma(20, 0.05, SHAPE)
    speck[70:90, 90:110] += 1
    plan = plan_morph(surface(speck), surface(speck))
    assert "tissue on" in plan.failure
    flat = surface(np.ones(SHAPE))
    assert plan_morph(flat, flat).failure != ""


def test_a_transform_that_adds_nothing_is_not_believed() -> None:
    """Surfaces that agree as they lie need no transform: the gap is filled without."""
    rng = np.random.default_rng(0)
    before, after = (surface(tissue() * rng.gamma(20, 0.05, SHAPE)) for _ in range(2))
    plan = plan_morph(before, after)
    assert plan.failure == ""
    assert plan.method == "weighted"
    assert "adds" in plan.note
    assert plan.matrix == pytest.approx(np.eye(3)[:2])


def test_the_surfaces_that_agree_best_are_found_behind_noisy_ones() -> None:
    rng = np.random.default_rng(0)
    noise = [surface(rng.gamma(2, 0.5, SHAPE)) for _ in range(3)]
    good = [surface(tissue() * rng.gamma(10, 0.1, SHAPE)) for _ in range(4)]
    i, j, ncc = find_facing_surfaces([*noise[:2], *good[:2]], [noise[2], *good[2:]])
    assert i >= 2
    assert j >= 1
    assert ncc > 0.8
    nothing = Surface(np.zeros(SHAPE, np.float32), np.zeros(SHAPE, bool))
    assert find_facing_surfaces([nothing], good[:1])[:2] == (0, 0)
