"""A brain finds its place in a template from any orientation, whole or in part, and never loses what it had."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage
from scipy.spatial.transform import Rotation

from soct.geometry.orientation import (
    OrientedVolume,
    all_orientations,
    direction_matrix,
    is_right_handed,
    make_affine,
)
from soct.registration import atlas_fit
from soct.registration.atlas_fit import AtlasFit, fit_atlas, itk_image, matrix_of
from soct.registration.atlas_regions import RegionSums
from soct.registration.atlas_search import Start, find_start, make_scene, rotation_angle
from soct.registration.atlas_warp import Grid, Warp
from soct.registration.brain_mask import dice, edge_distance
from soct.simulate.atlas import make_phantom

VOXEL = 200.0


@pytest.fixture(scope="module")
def template():
    return make_phantom(VOXEL)[0]


def imaged(template, code, turn_deg, scale=1.0, invert=False):
    """A volume of code `code` that shows the template turned, and the matrix between world coordinates."""
    linear = Rotation.from_rotvec(turn_deg, degrees=True).as_matrix() * scale
    shape = [n + 10 for n in template.reoriented(code).data.shape]
    affine = make_affine(code, (VOXEL,) * 3)
    centre = template.affine @ (*((n - 1) / 2 for n in template.data.shape), 1)
    there = affine @ (*((n - 1) / 2 + 1 for n in shape), 1)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = there[:3] - linear @ centre[:3]
    to_index = np.linalg.inv(template.affine) @ np.linalg.inv(matrix) @ affine
    source = template.data.astype(np.float32)
    data = ndimage.affine_transform(
        source, to_index[:3, :3], to_index[:3, 3], shape, order=1, cval=30
    )
    rng = np.random.default_rng(5)
    data = data * rng.gamma(9, 1 / 9, data.shape)
    if invert:  # white matter dark, grey matter bright: the other kind of contrast
        data = np.where(data > 200, 2000 - data, data)
    return OrientedVolume(np.maximum(data, 1).astype(np.float32), affine), matrix


def error_um(found, true, template):
    points = (
        np.argwhere(template.data > 200)[::97] @ template.affine[:3, :3].T + template.affine[:3, 3]
    )
    points = np.c_[points, np.ones(len(points))]
    return 1000 * np.linalg.norm((points @ (found - true).T)[:, :3], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("code", ["PIL", "LSA"])
def test_any_orientation_is_found_by_search(template, code):
    volume, _ = imaged(template, code, (15, -10, 12))
    codes = all_orientations(right_handed=is_right_handed(code))
    unknown = OrientedVolume(volume.data, make_affine(codes[7], volume.voxel_um))
    start = find_start(make_scene(template), make_scene(unknown), orientations=codes)
    turned = direction_matrix(codes[7]) @ direction_matrix(code).T
    expected = turned @ Rotation.from_rotvec((15, -10, 12), degrees=True).as_matrix()
    assert rotation_angle(start.matrix[:3, :3] @ expected.T) < 8
    assert start.information > 1.3 * start.runner_up


@pytest.mark.slow
@pytest.mark.parametrize("invert", [False, True])
def test_a_turned_and_scaled_brain_is_fitted_within_half_a_voxel(template, invert):
    volume, true = imaged(template, "PIR", (14, 9, -11), scale=1.06, invert=invert)
    fit = fit_atlas(make_scene(template), make_scene(volume), model="affine")
    assert np.median(error_um(fit.matrix, true, template)) < 0.5 * VOXEL
    assert fit.model == "affine"
    assert fit.orientation == "PIR"
    assert fit.scale == pytest.approx(1.06, abs=0.02)
    assert np.allclose(matrix_of(fit.transform), fit.matrix, atol=1e-6)


@pytest.mark.slow
def test_half_a_brain_finds_its_place(template):
    volume, true = imaged(template, "SAR", (6, -5, 4))
    valid = np.ones(volume.data.shape, bool)
    valid[:, : volume.data.shape[1] // 2] = False  # the hind half was not imaged
    half = make_scene(OrientedVolume(np.where(valid, volume.data, 0), volume.affine), valid)
    fit = fit_atlas(make_scene(template), half, model="rigid")
    assert np.median(error_um(fit.matrix, true, template)) < 1.0 * VOXEL


@pytest.mark.slow
def test_the_result_does_not_depend_on_threads(template):
    volume, _ = imaged(template, "SAR", (5, 5, 5))
    scenes = make_scene(template), make_scene(volume)
    before = numba.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    found = []
    try:
        for n in (1, 2):
            numba.set_num_threads(min(n, numba.config.NUMBA_NUM_THREADS))
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(2 * n - 1)
            found.append(fit_atlas(*scenes, model="rigid").matrix)
    finally:
        numba.set_num_threads(before[0])
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])
    assert np.array_equal(*found)


@pytest.mark.slow
def test_a_stage_that_makes_it_worse_is_refused_with_its_reason(template, monkeypatch):
    volume, true = imaged(template, "SAR", (4, 3, 2))

    def astray(self, start, name, *, is_last):
        moved = matrix_of(start)
        moved[:3, 3] += 1.5 if name == "affine" else 0
        return atlas_fit._affine(moved)

    monkeypatch.setattr(atlas_fit._Fitter, "linear", astray)
    fit = fit_atlas(make_scene(template), make_scene(volume), model="bspline")
    assert [(s.name, s.accepted) for s in fit.stages] == [
        ("start", True), ("rigid", True), ("affine", False)
    ]  # fmt: skip
    assert "fell" in fit.stages[-1].reason
    assert fit.model == "rigid"
    assert np.median(error_um(fit.matrix, true, template)) < VOXEL


def test_a_volume_of_noise_ends_in_a_fit_that_says_how_bad_it_is(template):
    rng = np.random.default_rng(0)
    noise = OrientedVolume(
        rng.random((6, 7, 8)).astype(np.float32) + 1, make_affine("SAR", (VOXEL,) * 3)
    )
    fit = fit_atlas(make_scene(template), make_scene(noise), model="affine")
    assert np.isfinite(fit.matrix).all()
    assert fit.stages_score < 0.3


def test_blocks_of_a_warp_join_without_a_seam(template):
    volume, true = imaged(template, "PIR", (10, 5, -8))
    exact = AtlasFit(None, true, "rigid", "PIR", Start(true, 1.0, 0.0), ())
    shape = template.data.shape
    grid = Grid(shape, template.affine)
    warp = Warp(exact, volume.affine)
    read = lambda w: volume.data[tuple(slice(*r) for r in w)]  # noqa: E731
    whole, valid = warp.fill(grid, tuple((0, n) for n in shape), volume.data.shape, read)
    pieces = np.zeros_like(whole)
    for k in range(0, shape[0], 7):
        for j in range(0, shape[1], 9):
            window = ((k, min(k + 7, shape[0])), (j, min(j + 9, shape[1])), (0, shape[2]))
            pieces[tuple(slice(*r) for r in window)] = warp.fill(
                grid, window, volume.data.shape, read
            )[0]
    assert np.allclose(pieces, whole, rtol=1e-5, atol=1e-3)
    inside = valid & (template.data > 200)
    assert np.corrcoef(whole[inside], template.data[inside])[0, 1] > 0.65


def test_itk_sees_a_volume_where_it_lies(template):
    image = itk_image(template)
    k, j, i = 5, 3, 7
    lps = image.TransformIndexToPhysicalPoint((i, j, k))
    ras = (template.affine @ (k, j, i, 1))[:3]
    assert lps == pytest.approx((-ras[0], -ras[1], ras[2]))


def test_regions_are_summed_over_their_parts():
    labels = np.array([[[2, 2, 3, 3, 0, 9]]])
    values = np.array([[[1, 3, 5, 0, 7, 8]]], np.float32)
    sums = RegionSums()
    halves = np.array([[[1, 1, 1, 2, 2, 2]]], np.uint8)
    sums.add(labels, values, values > 0, np.full(labels.shape, 0.5, np.float32), halves)
    found = sums.measure({2: (1,), 3: (1,)}, halves=True)
    root = found[1]
    assert (root.volume_mm3, root.left_mm3, root.right_mm3) == (2.0, 1.5, 0.5)
    assert (root.mean, root.median, root.covered) == (3.0, 3.0, 0.75)
    assert found[3].covered == 0.5
    assert found[9].volume_mm3 == 0.5


def test_masks_are_compared_by_overlap_and_by_distance():
    a = np.zeros((20, 20, 20), bool)
    a[5:15, 5:15, 5:15] = True
    b = np.roll(a, 2, axis=0)
    everywhere = np.ones(a.shape, bool)
    assert dice(a, a) == 1
    assert dice(a, b) == pytest.approx(0.8)
    assert edge_distance(a, a, (10, 10, 10), everywhere) == (0, 0)
    assert edge_distance(a, b, (10, 10, 10), everywhere)[1] == pytest.approx(20)
