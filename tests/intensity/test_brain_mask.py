"""The brain is found where it is, also where nothing but brain was imaged."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage as ndi

from soct.intensity.brain_mask import dice, find_levels, segment_brain
from soct.simulate.truth import read_truth
from soct.space import Voxel

VOXEL = Voxel(50.0, 50.0, 50.0)
SHAPE = (30, 60, 70)


def speckled(truth: np.ndarray, looks: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).gamma(looks, 1 / looks, truth.shape)
    return (truth * noise).astype(np.float32)


def phantom(contrast: float) -> tuple[np.ndarray, np.ndarray]:
    """A bright body with white matter, a ventricle and a vessel, in a dimmer medium."""
    z, y, x = np.mgrid[:30, :60, :70]
    inside = ((z - 15) / 14) ** 2 + ((y - 30) / 24) ** 2 + ((x - 35) / 28) ** 2 < 1
    truth = np.where(inside, 1.0, 1 / contrast)
    white = ((z - 15) / 10) ** 2 + ((y - 25) / 6) ** 2 + ((x - 35) / 18) ** 2 < 1
    truth[white] = 1.8
    ventricle = ((z - 15) / 6) ** 2 + ((y - 38) / 4) ** 2 + ((x - 30) / 5) ** 2 < 1
    truth[ventricle] = 1 / contrast
    truth[:, 20:22, 50:52][inside[:, 20:22, 50:52]] = 1 / contrast
    return truth, inside


@pytest.mark.parametrize(("contrast", "looks"), [(2.5, 8), (5, 4), (20, 2)])
def test_a_known_body_is_found_with_its_ventricle_and_vessels(contrast, looks):
    truth, inside = phantom(contrast)
    found = segment_brain(speckled(truth, looks), VOXEL)
    assert found.levels is not None
    assert found.levels.background == pytest.approx(1 / contrast, rel=0.1)
    assert found.levels.tissue == pytest.approx(1.0, rel=0.15)
    assert dice(found.mask, inside) >= 0.95
    assert ndi.label(found.mask)[1] == 1
    assert found.mask[15, 38, 30]


def test_debris_beside_the_brain_is_left_out():
    truth, inside = phantom(10)
    truth[2:6, 2:8, 2:8] = 1.0
    found = segment_brain(speckled(truth, 4), VOXEL)
    assert not found.mask[2:6, 2:6, 2:6].any()
    assert dice(found.mask, inside) >= 0.95


def test_a_field_full_of_tissue_is_not_split():
    truth = np.full(SHAPE, 1.0)
    found = segment_brain(speckled(truth, 6), VOXEL)
    assert found.levels is None
    assert found.mask.all()


def test_what_has_no_data_is_never_brain():
    truth, inside = phantom(5)
    data = speckled(truth, 6)
    data[:, :30] = 0
    data[3, 40, 40] = np.nan
    found = segment_brain(data, VOXEL)
    assert not found.mask[:, :30].any()
    inside[:, :30] = False
    assert dice(found.mask, inside) >= 0.94
    assert not segment_brain(np.zeros(SHAPE, np.float32), VOXEL).mask.any()


def test_the_true_mask_of_a_simulated_brain_is_found(plain_truth):
    volume, mask = plain_truth
    data = speckled(np.maximum(volume.data, 1e-4), 2)
    found = segment_brain(data, volume.voxel_um)
    assert dice(found.mask, mask) >= 0.95


def test_the_true_mask_of_the_sample_is_found(shared):
    volume, mask = read_truth(shared / "data" / "soct_sample")
    n = [s // f * f for s, f in zip(volume.data.shape, (5, 2, 2), strict=True)]

    def shrink(a: np.ndarray) -> np.ndarray:
        a = a[: n[0], : n[1], : n[2]].astype(np.float32)
        return a.reshape(n[0] // 5, 5, n[1] // 2, 2, n[2] // 2, 2).mean(axis=(1, 3, 5))

    data = shrink(speckled(np.maximum(volume.data, 1e-4), 1))
    truth = shrink(mask) > 0.5
    found = segment_brain(data, Voxel(50, 50, 50))
    outside = ~truth
    assert dice(found.mask, truth) >= 0.985
    # Almost all of the sample is tissue, so Dice alone says little: most of what is outside is left out.
    assert (found.mask & outside).sum() < 0.15 * outside.sum()


def test_one_mode_has_no_levels():
    values = np.random.default_rng(0).gamma(20, 1 / 20, 50_000)
    assert find_levels(values) is None


@pytest.fixture(scope="module")
def plain_truth(tmp_path_factory):
    from soct.simulate.microscope import simulate
    from soct.simulate.spec import preset

    spec = preset("tiny", slices=2)
    return read_truth(simulate(spec, tmp_path_factory.mktemp("brain") / "a", threads=1).path)
