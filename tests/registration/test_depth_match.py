import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.registration.depth_match import match_depth
from soct.registration.transforms import RigidTransform2D
from tests.registration.textures import pixels


def tissue(seed, planes, size=96, depth_scale=2.0):
    """Log texture ``(z, y, x)`` that changes over `depth_scale` planes."""
    rng = np.random.default_rng(seed)
    out = ndi.gaussian_filter(
        rng.standard_normal((planes, size, size)), (depth_scale, 2.5, 2.5), mode="wrap"
    )
    return out / out.std()


def acquire(texture, first, planes, seed, *, decay=0.0, looks=8):
    """A slice that starts at plane `first` of the tissue, with decay in depth and a noise floor."""
    rng = np.random.default_rng(seed)
    z = np.arange(planes)
    at = ndi.shift(texture, (-(first % 1), 0, 0), order=3, mode="nearest")[int(first) :][:planes]
    light = np.exp(0.5 * at) * np.exp(-decay * z)[:, None, None]
    noise = rng.gamma(looks, 1 / looks, light.shape)
    return (light * noise + 0.02 * rng.gamma(1, 1, light.shape)).astype(np.float32)


@pytest.mark.parametrize("planes", [(40, 40), (30, 25), (60, 36)])
@pytest.mark.parametrize("true", [12.0, 14.6])
def test_the_depth_is_found_for_any_number_of_planes(planes, true):
    brain = tissue(1, 90)
    fixed = acquire(brain, 0.0, planes[0], 2)
    moving = acquire(brain, true, planes[1], 3)
    found = match_depth(fixed, moving, *planes, 13.0, 5.0)
    assert not found.fallback_used
    assert found.offset == pytest.approx(true, abs=0.35)
    assert found.confidence > 0.6


def test_signal_that_falls_with_depth_does_not_pull_the_match():
    brain = tissue(4, 100, depth_scale=4.0)
    errors = []
    for seed in range(4):
        fixed = acquire(brain, 0.0, 44, 10 + seed, decay=0.08, looks=2)
        moving = acquire(brain, 20.0, 44, 20 + seed, decay=0.08, looks=2)
        errors.append(match_depth(fixed, moving, 44, 44, 18.0, 8.0).offset - 20.0)
    assert abs(np.mean(errors)) < 0.5


def test_a_slice_turned_in_its_plane_is_matched_through_its_transform():
    brain = tissue(5, 60)
    truth = RigidTransform2D(2.0, (3.0, -4.0), (47.5, 47.5))
    fixed = acquire(brain, 0.0, 36, 6)
    lands = np.moveaxis(truth.inverse().apply(pixels((96, 96))), -1, 0)
    moving = acquire(brain, 14.0, 36, 7)
    moving = np.stack([ndi.map_coordinates(p, lands, order=1, mode="nearest") for p in moving])
    found = match_depth(fixed, moving, 36, 36, 12.0, 6.0, transform=truth)
    assert found.offset == pytest.approx(14.0, abs=0.4)


def test_tissue_that_never_changes_keeps_the_expected_depth_or_says_it_is_unsure():
    flat = np.repeat(tissue(8, 1), 80, axis=0)
    fixed, moving = acquire(flat, 0.0, 40, 9), acquire(flat, 14.0, 40, 10)
    found = match_depth(fixed, moving, 40, 40, 14.0, 5.0)
    assert found.fallback_used or found.confidence < 0.3


def test_unrelated_or_absent_planes_keep_the_expected_depth():
    fixed, moving = acquire(tissue(11, 40), 0.0, 40, 12), acquire(tissue(13, 40), 0.0, 40, 14)
    assert match_depth(fixed, moving, 40, 40, 14.0, 5.0).confidence < 0.3
    apart = match_depth(fixed, moving, 40, 40, 90.0, 5.0)
    assert apart.fallback_used
    assert apart.offset == 90.0
    assert "overlap" in apart.reason


def test_planes_may_come_from_a_function_and_each_is_read_once():
    brain = tissue(15, 70)
    fixed, moving = acquire(brain, 0.0, 40, 16), acquire(brain, 13.0, 40, 17)
    read = []

    def load(z):
        read.append(z)
        return fixed[z], np.ones(fixed.shape[1:], bool)

    found = match_depth(load, moving, 40, 40, 14.0, 4.0)
    assert found.offset == pytest.approx(13.0, abs=0.35)
    assert len(read) == len(set(read))
