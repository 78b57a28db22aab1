"""The procedural brain and given volumes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.simulate.brain import AGAROSE, Brain, GivenVolume, sample_block
from soct.simulate.spec import BrainSpec
from soct.space import Voxel

SPEC = BrainSpec(radius_um=(2400, 2000, 2200), seed=3)
VOXEL = Voxel(20, 50, 50)


def test_what_a_block_shows_does_not_depend_on_the_block() -> None:
    brain = Brain(SPEC, 50)
    whole = sample_block(brain, (0, 200), (-600, 600), (-600, 600), VOXEL)
    part = sample_block(brain, (100, 200), (-100, 200), (300, 600), VOXEL)
    assert np.array_equal(part, whole[5:10, 10:16, 18:24])


def test_a_seed_gives_the_same_brain_and_another_seed_another() -> None:
    block = ((0, 40), (-500, 500), (-500, 500))
    first = sample_block(Brain(SPEC), *block, VOXEL)
    assert np.array_equal(first, sample_block(Brain(SPEC), *block, VOXEL))
    other = sample_block(Brain(SPEC.model_copy(update={"seed": 4})), *block, VOXEL)
    assert not np.allclose(first, other)


def test_the_brain_has_tissue_ventricles_and_two_hemispheres_in_agarose() -> None:
    plane = sample_block(Brain(SPEC, 25), (0, 10), (-2400, 2400), (-2600, 2600), Voxel(10, 25, 25))
    tissue = plane[0] > 1.5 * AGAROSE
    assert 0.45 < tissue.mean() < 0.75
    assert plane[0][tissue].mean() == pytest.approx(0.6, abs=0.12)
    filled = ndi.binary_fill_holes(tissue)
    assert 0.005 < (filled & ~tissue).mean() < 0.1
    # The fissure: along the midline the brain begins lower than in either hemisphere.
    begins = tissue.argmax(axis=0)
    middle = tissue.shape[1] // 2
    assert begins[middle] > begins[middle - 30] + 5
    assert begins[middle] > begins[middle + 30] + 5
    assert np.all(plane[0][:20, :20] == np.float32(AGAROSE))


def test_an_oblique_cut_shows_the_brain_turned_about_x() -> None:
    long = SPEC.model_copy(update={"radius_um": (4000.0, 1500.0, 2000.0)})
    block = ((-3000, 3000), (-3000, 3000), (-100, 100))
    voxel = Voxel(100, 100, 100)
    extents = []
    for tilt in (0.0, 45.0, 90.0):
        brain = Brain(long.model_copy(update={"tilt_deg": tilt}), 100)
        tissue = np.argwhere((sample_block(brain, *block, voxel) > 1.5 * AGAROSE).any(axis=2))
        z, y = (tissue - tissue.mean(axis=0)).T
        extents.append((z.std(), y.std(), np.mean(z * y) / (z.std() * y.std())))
    assert extents[0][0] > 1.4 * extents[0][1]
    assert extents[2][1] > 1.4 * extents[2][0]
    # Half way, the long axis runs along the diagonal of z and y.
    assert extents[1][0] == pytest.approx(extents[1][1], rel=0.1)
    assert abs(extents[1][2]) > 0.3 > abs(extents[0][2])


def test_adjacent_planes_resemble_each_other_and_distant_ones_do_not() -> None:
    block = sample_block(Brain(SPEC, 25), (0, 200), (-800, 0), (200, 1300), Voxel(10, 25, 25))
    detail = block - ndi.gaussian_filter(block, (0, 6, 6))
    near = np.corrcoef(detail[5].ravel(), detail[6].ravel())[0, 1]
    far = np.corrcoef(detail[5].ravel(), detail[17].ravel())[0, 1]
    assert near > 0.9
    assert far < 0.5


def test_a_given_volume_is_seen_at_its_voxels_and_agarose_around_it() -> None:
    data = np.random.default_rng(0).uniform(0.2, 1, (5, 6, 7)).astype(np.float32)
    specimen = GivenVolume(data, Voxel(10, 20, 30), (20.0, 50.0, 90.0))
    seen = sample_block(specimen, (0, 40), (0, 100), (0, 180), Voxel(10, 20, 30))
    np.testing.assert_allclose(seen, data[:4, :5, :6], rtol=1e-6)
    beyond = sample_block(specimen, (0, 10), (500, 540), (0, 60), Voxel(10, 20, 30))
    assert np.all(beyond == np.float32(AGAROSE))
