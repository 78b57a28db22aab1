"""Bias fields with a known answer: found, divided out, and nothing else touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage as ndi
from skimage import io

from soct.compute.array_modules import gpu_problem
from soct.compute.threads import limited
from soct.errors import InputError, ResourceError
from soct.intensity.bias_field import (
    apply_bias_field,
    compute_tissue_mask,
    n4_correct,
    n4_correct_per_section,
)
from soct.intensity.coarse_field import CoarseField, block_centres, block_edges, shrink
from soct.intensity.n4 import ArrayPasses, KernelPasses, fit_log_field, sharpen, spline_basis
from soct.space import Array
from tests.intensity.phantoms import Phantom, absorbed_share, field_error, make_phantom


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return make_phantom((48, 128, 128))


def test_a_field_of_20_percent_is_found_within_two(phantom: Phantom) -> None:
    before = field_error(np.ones(phantom.bias.shape), phantom.bias, phantom.mask)
    found = n4_correct(phantom.volume, phantom.mask, backend="numba")
    assert before > 0.18
    assert field_error(found.bias_field, phantom.bias, phantom.mask) < 0.02
    np.testing.assert_allclose(
        found.corrected, phantom.volume / found.bias_field, rtol=1e-5, atol=1e-7
    )
    assert abs(np.log(found.bias_field[phantom.mask]).mean()) < 0.01


def test_the_own_solver_and_simpleitk_find_one_field() -> None:
    small = make_phantom((24, 64, 64), seed=3)
    own, reference = (
        np.log(n4_correct(small.volume, small.mask, backend=b).bias_field[small.mask])
        for b in ("numba", "cpu")
    )
    assert np.corrcoef(own, reference)[0, 1] > 0.999
    assert np.median(np.abs(np.exp(own - reference) - 1)) < 1e-3


def test_means_over_blocks_are_fitted_not_single_voxels(phantom: Phantom) -> None:
    every_fourth = phantom.volume[::4, ::4, ::4]
    mask = phantom.mask[::4, ::4, ::4]
    strided = n4_correct(every_fourth, mask, backend="numba", shrink_factor=1)
    block = n4_correct(phantom.volume, phantom.mask, backend="numba")
    bias = phantom.bias[::4, ::4, ::4]
    assert field_error(block.bias_field, phantom.bias, phantom.mask) < 0.4 * field_error(
        strided.bias_field, bias, mask
    )


@pytest.mark.parametrize("bias_rms", [0.0, 0.2])
def test_strong_anatomy_of_low_frequency_is_not_absorbed(bias_rms: float) -> None:
    brain = make_phantom((48, 128, 128), bias_rms=bias_rms, grain_px=22, levels=(0.5, 1.0, 1.8))
    field = n4_correct(brain.volume, brain.mask, backend="numba").bias_field
    assert abs(absorbed_share(field, brain)) < 0.04
    assert field_error(field, brain.bias, brain.mask) < 0.02


@pytest.mark.data
def test_on_a_real_brain_nothing_more_is_absorbed_than_by_the_reference(shared: Path) -> None:
    file = shared / "data" / "brain_stpt" / "brain.tif"
    if not file.is_file():
        pytest.skip("the real brain is not on this machine")
    brain = io.imread(file)[60:200:2, ::2, ::2].astype(np.float32)
    mask = ndi.gaussian_filter(brain, 1) > 60
    options = {"voxel_size_mm": (0.1, 0.08, 0.08), "n_iterations": [20, 20]}
    own, reference = (
        np.log(n4_correct(brain, mask, backend=b, **options).bias_field[mask])
        for b in ("numba", "cpu")
    )
    assert np.corrcoef(own, reference)[0, 1] > 0.999
    anatomy = np.log(np.maximum(ndi.gaussian_filter(brain, 2)[mask], 1)).astype(float)
    slope = [np.polyfit(anatomy, f.astype(float), 1)[0] for f in (own, reference)]
    assert slope[0] <= slope[1] + 0.005
    assert slope[0] < 0.2


def test_the_kernels_do_what_the_array_module_does() -> None:
    small = make_phantom((16, 48, 48), seed=5)
    image = np.maximum(small.volume, 1e-3)
    centres = [np.arange(n, dtype=float) for n in image.shape]
    one, other = (
        fit_log_field(image, small.mask, centres, (1, 1, 1), (20, 20), passes=passes).log_bias
        for passes in (KernelPasses(small.mask), ArrayPasses(small.mask, np))
    )
    np.testing.assert_allclose(one, other, atol=2e-4)


@pytest.mark.gpu
def test_the_gpu_finds_the_same_field(phantom: Phantom) -> None:
    if gpu_problem():
        pytest.skip(str(gpu_problem()))
    own, device = (
        n4_correct(phantom.volume, phantom.mask, backend=b).bias_field for b in ("numba", "gpu")
    )
    assert np.median(np.abs(own / device - 1)[phantom.mask]) < 1e-3


def test_equal_bytes_for_any_number_of_threads(phantom: Phantom) -> None:
    fields = []
    for threads in (1, 2):
        with limited(threads):
            fields.append(n4_correct(phantom.volume, phantom.mask, backend="numba").bias_field)
    assert fields[0].tobytes() == fields[1].tobytes()


def test_out_may_be_the_volume_itself(phantom: Phantom) -> None:
    expected = n4_correct(phantom.volume, phantom.mask, backend="numba")
    volume, bias = phantom.volume.copy(), np.empty(phantom.volume.shape, np.float64)
    found = n4_correct(volume, phantom.mask, backend="numba", out=volume, bias_out=bias)
    assert found.corrected is volume
    assert found.bias_field is bias
    np.testing.assert_allclose(volume, expected.corrected, rtol=1e-6)


@pytest.mark.parametrize("backend", ["cpu", "numba"])
def test_where_there_is_nothing_to_fit_the_field_is_one(backend: str) -> None:
    shape = (9, 12, 7)
    some = np.random.default_rng(0).random(shape, np.float32) + 1
    for volume, mask in (
        (np.ones(shape, np.float32), None),
        (np.zeros(shape, np.float32), None),
        (np.full(shape, np.nan, np.float32), None),
        (some, np.zeros(shape, bool)),
        (some[:1, :2, :3], None),
        (some[:1, :1, :1], None),
    ):
        found = n4_correct(volume, mask, backend=backend)
        np.testing.assert_array_equal(found.bias_field, 1)
        np.testing.assert_array_equal(found.corrected, volume)


@pytest.mark.parametrize("backend", ["cpu", "numba"])
def test_a_single_plane_has_a_field_too(backend: str) -> None:
    flat = make_phantom((3, 96, 96), grain_px=4)
    volume, mask, bias = flat.volume[1:2], flat.mask[1:2], flat.bias[1:2]
    found = n4_correct(volume, mask, backend=backend)
    assert found.bias_field.shape == (1, 96, 96)
    assert field_error(found.bias_field, bias, mask) < 0.05


def test_nan_stays_nan_and_changes_little_else(phantom: Phantom) -> None:
    holed = phantom.volume.copy()
    gone = np.random.default_rng(1).random(holed.shape) < 0.05
    holed[gone] = np.nan
    found = n4_correct(holed, phantom.mask, backend="numba")
    assert np.isnan(found.corrected[gone]).all()
    assert np.isfinite(found.bias_field).all()
    assert field_error(found.bias_field, phantom.bias, phantom.mask) < 0.02


def test_without_a_mask_tissue_is_found(phantom: Phantom) -> None:
    found = n4_correct(phantom.volume, backend="numba")
    assert field_error(found.bias_field, phantom.bias, phantom.mask) < 0.03


def test_every_section_gets_a_field_of_its_own() -> None:
    parts = [make_phantom((16, 96, 96), seed=s) for s in (0, 1)]
    bias = [parts[0].bias, parts[1].bias[:, :, ::-1]]
    volume = np.concatenate(
        [p.volume / p.bias * b for p, b in zip(parts, bias, strict=True)]
    ).astype(np.float32)
    mask = np.concatenate([p.mask for p in parts])
    one = n4_correct_per_section(volume, 2, mask, backend="numba")
    two = n4_correct_per_section(volume, 2, mask, n_processes=2, backend="numba")
    np.testing.assert_array_equal(one.bias_field, two.bias_field)
    for k, (part, true) in enumerate(zip(parts, bias, strict=True)):
        here = slice(16 * k, 16 * k + 16)
        assert field_error(one.bias_field[here], true, part.mask) < 0.04


def test_dividing_by_a_field_has_a_floor() -> None:
    field = np.array([[[2.0, 0.0]]])
    np.testing.assert_allclose(
        apply_bias_field(np.ones((1, 1, 2)), field, floor=0.5), [[[0.5, 2.0]]]
    )


def test_a_mask_is_found_per_section_with_holes_filled() -> None:
    made = make_phantom((24, 96, 96), looks=4, bias_rms=0.05)
    volume = made.volume.copy()
    volume[12:] *= 0.1
    volume[5, 45:49, 45:49] = 0.01
    found = compute_tissue_mask(volume, n_serial_slices=2)
    agreement = 2 * (found & made.mask).sum() / (found.sum() + made.mask.sum())
    assert agreement > 0.97
    assert found[5, 46, 46]


def test_a_mask_bridges_a_lost_section() -> None:
    made = make_phantom((24, 64, 64), looks=None, bias_rms=0)
    volume = made.volume.copy()
    volume[8:12] = 0
    found = compute_tissue_mask(volume, n_serial_slices=6, z_closing_sections=2)
    open_ = compute_tissue_mask(volume, n_serial_slices=6, z_closing_sections=0)
    assert not open_[8:12].any()
    assert found[8:12, 24:40, 24:40].all()


def test_what_cannot_be_done_is_said_in_one_error(phantom: Phantom) -> None:
    volume = phantom.volume[:8, :16, :16]
    for options in (
        {"mask": np.ones((2, 2, 2), bool)},
        {"backend": "cuda"},
        {"n_iterations": []},
        {"shrink_factor": 0},
        {"voxel_size_mm": (1.0, 0.0, 1.0)},
        {"out": np.empty(volume.shape, np.uint16)},
    ):
        with pytest.raises(InputError):
            n4_correct(volume, **{"backend": "numba", **options})
    with pytest.raises(InputError):
        n4_correct(volume[0], backend="numba")
    with pytest.raises(InputError):
        n4_correct_per_section(volume, 9, backend="numba")
    if gpu_problem():
        with pytest.raises(ResourceError, match="GPU"):
            n4_correct(volume, backend="gpu")


def test_a_smooth_field_comes_back_from_its_blocks() -> None:
    shape = (13, 30, 22)
    z, y, x = np.meshgrid(*[np.linspace(0, 1, n) for n in shape], indexing="ij")
    smooth = np.exp(0.3 * x - 0.2 * y * z).astype(np.float32)
    edges = tuple(block_edges(n, 4) for n in shape)
    small = shrink(smooth, None, edges)
    field = CoarseField(np.log(small.image), small.centres)
    whole = field.evaluate((0, 13), (0, 30), (0, 22))
    inner = (slice(2, 11), slice(2, 28), slice(2, 20))
    np.testing.assert_allclose(np.exp(whole)[inner], smooth[inner], rtol=2e-3)
    part = field.evaluate((3, 9), (5, 20), (0, 22))
    np.testing.assert_array_equal(part, whole[3:9, 5:20])


def test_block_means_leave_out_what_is_no_data() -> None:
    volume = np.arange(1.0, 28.0, dtype=np.float32).reshape(3, 3, 3)
    volume[0, 0, 0], volume[0, 0, 1] = np.nan, -5
    edges = tuple(block_edges(3, 2) for _ in range(3))
    small = shrink(volume, None, edges)
    known = volume[:2, :2, :2]
    assert small.image[0, 0, 0] == pytest.approx(known[known > 0].mean())
    assert small.share[0, 0, 0] == pytest.approx(6 / 8)
    assert small.image[1, 1, 1] == volume[2, 2, 2]
    np.testing.assert_allclose(block_centres(edges[0]), [0.5, 2])


def test_spline_bases_sum_to_one_and_sharpening_moves_towards_the_peak() -> None:
    basis: Array = spline_basis(np.linspace(0, 1, 17), 4)
    np.testing.assert_allclose(basis.sum(1), 1)
    assert basis.shape == (17, 7)
    step = 0.01
    at = np.arange(200) * step
    blurred = np.exp(-0.5 * ((at - 1) / 0.1) ** 2)
    expected = sharpen(blurred, step)
    assert expected[80] > at[80]
    assert expected[120] < at[120]
    assert expected[100] == pytest.approx(at[100], abs=2 * step)
