"""Slices from sinograms, against the phantom and scikit-image."""

from pathlib import Path

import numba
import numpy as np
import pytest

from soct.simulate.ellipses import draw, shepp_logan, sinogram
from soct.tomography import oneslicefordisplay, reconstruct_slice, reconstruct_stack

SIZE = 128
HEAD = shepp_logan(SIZE)
Y, X = np.mgrid[:SIZE, :SIZE] - SIZE // 2
INSIDE = X**2 + Y**2 <= (SIZE // 2) ** 2


def angles(n, span=np.pi):
    return np.arange(n) * span / n


def error(slice_):
    return float(np.sqrt(np.mean((slice_ - draw(HEAD, SIZE))[INSIDE] ** 2)))


@pytest.fixture(scope="module")
def even():
    return error(reconstruct_slice(sinogram(HEAD, angles(180), SIZE), angles(180)))


def test_a_slice_is_nearer_to_the_phantom_than_that_of_scikit_image(even):
    from skimage.transform import iradon

    theirs = iradon(sinogram(HEAD, angles(180), SIZE), np.rad2deg(angles(180)))
    assert even < 0.9 * error(theirs)


def test_degrees_and_radians_and_a_full_turn_give_the_same_slice(even):
    sino = sinogram(HEAD, angles(180), SIZE)
    a = reconstruct_slice(sino, angles(180))
    np.testing.assert_allclose(reconstruct_slice(sino, np.rad2deg(angles(180))), a, atol=1e-12)
    full = angles(360, 2 * np.pi)
    assert error(reconstruct_slice(sinogram(HEAD, full, SIZE), full)) == pytest.approx(
        even, rel=0.01
    )


def test_uneven_angles_are_weighed_by_their_share(even):
    rng = np.random.default_rng(0)
    theta = rng.permutation(np.pi * (np.arange(180) / 180) ** 1.5)
    assert error(reconstruct_slice(sinogram(HEAD, theta, SIZE), theta)) < 1.5 * even


def test_shifts_and_an_axis_off_the_middle_need_no_interpolated_sinogram(even):
    rng = np.random.default_rng(0)
    shifts = rng.uniform(-5, 5, 180)
    sino = sinogram(HEAD, angles(180), SIZE + 20, axis=70.3 + shifts)
    slice_ = reconstruct_slice(sino, angles(180), axis=70.3, shifts=shifts, size=SIZE)
    assert error(slice_) < 1.2 * even


def test_derivative_sinograms_give_the_same_slice(even):
    theta = angles(180)
    slopes = sinogram(HEAD, theta, SIZE, derivative=True)
    assert error(reconstruct_slice(slopes, theta, derivatives=True)) < 1.5 * even
    offsets = np.random.default_rng(0).normal(0, 50, 180)
    sino = sinogram(HEAD, theta, SIZE) + offsets
    assert error(reconstruct_slice(sino, theta, calc_derivatives=True)) < 1.5 * even


def test_limits_hold_within_the_circle_and_outside_stays_zero():
    sino = sinogram(HEAD, angles(60), SIZE)
    slice_ = reconstruct_slice(sino, angles(60), cliplow=0.1, cliphigh=0.5)
    assert slice_[INSIDE].min() == 0.1
    assert slice_.max() == 0.5
    assert not slice_[~INSIDE].any()
    whole = reconstruct_slice(sino, angles(60), circle=False)
    assert whole[~INSIDE].any()
    np.testing.assert_allclose(
        whole[INSIDE], reconstruct_slice(sino, angles(60))[INSIDE], atol=1e-9
    )


def test_sart_with_positivity_is_better_where_projections_are_few():
    theta = angles(30)
    sino = sinogram(HEAD, theta, SIZE)
    fbp = error(reconstruct_slice(sino, theta))
    sart = reconstruct_slice(sino, theta, algorithm="SART", cliplow=0.0)
    assert error(sart) < 0.5 * fbp
    assert sart.min() >= 0
    slopes = sinogram(HEAD, theta, SIZE, derivative=True)
    other = reconstruct_slice(slopes, theta, algorithm="sart", cliplow=0.0, derivatives=True)
    assert error(other) < 0.7 * fbp


def test_a_stack_gives_each_slice_whatever_the_slabs_and_threads():
    theta = angles(20)
    stack = np.random.default_rng(0).random((20, 7, 32)).astype(np.float32)
    shifts = np.linspace(-2, 2, 20)
    told = []
    whole = reconstruct_stack(
        stack, theta, axis=15.5, shifts=shifts, progress=lambda a, b: told.append((a, b))
    )
    assert told == [(7, 7)]
    assert whole.dtype == np.float32
    for k in range(7):
        one = reconstruct_slice(stack[:, k].T, theta, axis=15.5, shifts=shifts)
        np.testing.assert_array_equal(whole[k], one)
    most = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        out = np.zeros((4, 32, 32))
        reconstruct_stack(stack, theta, axis=15.5, shifts=shifts, rows=(2, 6), out=out, slab=3)
    finally:
        numba.set_num_threads(most)
    np.testing.assert_array_equal(out, whole[2:6])


def test_a_truncated_object_has_no_bright_rim_where_projections_go_on_at_their_edges():
    theta = angles(180)
    sino = sinogram(HEAD, theta, 80)
    part = draw(HEAD, SIZE)[24:104, 24:104]
    y, x = np.mgrid[:80, :80] - 40
    inside = np.hypot(x, y) <= 40
    rims = {}
    for padding in ("zero", "edge"):
        difference = (reconstruct_slice(sino, theta, padding=padding) - part)[inside]
        rims[padding] = difference.std()
    assert rims["edge"] < 0.2 * rims["zero"]


@pytest.mark.parametrize("axis", [12.3, 67.6])
def test_opposite_projections_complete_each_other_where_the_axis_is_near_one_end(axis):
    full = angles(360, 2 * np.pi)
    sino = sinogram(HEAD, full, 80, axis=axis)
    slice_ = reconstruct_slice(sino, full, axis=axis, extended=True)
    size = len(slice_)
    assert size == 133 if axis < 40 else 135
    y, x = np.mgrid[:size, :size] - size // 2
    inside = np.hypot(x, y) < 66
    truth = draw(HEAD, size)
    whole = reconstruct_slice(sinogram(HEAD, full, size), full)
    rms = [np.sqrt(np.mean((s - truth)[inside] ** 2)) for s in (slice_, whole)]
    assert rms[0] < 1.2 * rms[1]
    with pytest.raises(ValueError, match="full turn"):
        reconstruct_slice(sino[:, :180], full[:180], axis=axis, extended=True)
    with pytest.raises(ValueError, match="derivatives"):
        reconstruct_slice(sino, full, axis=axis, extended=True, derivatives=True)


@pytest.mark.parametrize("algorithm", ["FBP", "SART"])
def test_slices_of_any_size_come_out(algorithm):
    for detectors, n, size in ((1, 1, 1), (2, 3, 5), (5, 2, 2), (16, 1, None)):
        slice_ = reconstruct_slice(
            np.ones((detectors, n)), np.arange(n), size=size, algorithm=algorithm
        )
        assert slice_.shape == (size or detectors,) * 2
        assert np.isfinite(slice_).all()


@pytest.mark.data
def test_a_tooth_whose_axis_is_off_the_middle_has_no_second_outline():
    path = Path("../shared/data/tomo_tooth/tooth.h5")
    if not path.exists():
        pytest.skip(f"no {path}")
    h5py = pytest.importorskip("h5py")
    with h5py.File(path) as file:
        group = file["exchange"]
        dark = group["data_dark"][:].mean(axis=0)
        white = group["data_white"][:].mean(axis=0)
        counts, theta = group["data"][:], group["theta"][:]
    sino = -np.log(np.clip((counts - dark) / (white - dark), 1e-3, None))[:, 0].T
    y, x = np.mgrid[:640, :640] - 320
    # Between the tooth and the edge of the slice there is only air.
    air = (np.hypot(y, x) > 180) & (np.hypot(y, x) < 290)
    ghosts = {
        axis: reconstruct_slice(sino, theta, axis=axis, filtertype="hann", freqcutoff=0.15)[air]
        for axis in (296, 300, 320)
    }
    assert ghosts[296].std() < 0.5 * ghosts[300].std()
    assert ghosts[296].std() < 0.15 * ghosts[320].std()


def test_what_does_not_fit_is_refused():
    sino, theta = np.zeros((16, 4)), angles(4)
    with pytest.raises(TypeError, match="did you mean 'freqcutoff'"):
        reconstruct_slice(sino, theta, freqcutof=0.5)
    with pytest.raises(ValueError, match="FBP or SART"):
        reconstruct_slice(sino, theta, algorithm="MLEM")
    with pytest.raises(ValueError, match="shifts"):
        reconstruct_slice(sino, theta, shifts=np.zeros(3))
    with pytest.raises(ValueError, match="cliplow"):
        reconstruct_slice(sino, theta, cliplow=1, cliphigh=0)
    with pytest.raises(ValueError, match="1 of 64 values"):
        reconstruct_slice(np.where(np.arange(64) == 5, np.nan, 0).reshape(16, 4), theta)
    with pytest.raises(ValueError, match="rows"):
        reconstruct_stack(np.zeros((4, 3, 16)), theta, rows=(2, 5))
    with pytest.raises(ValueError, match="zero or edge"):
        reconstruct_slice(sino, theta, padding="reflect")
    with pytest.raises(ValueError, match="relaxation"):
        reconstruct_slice(sino, theta, algorithm="SART", relaxation=2.5)


def test_the_slice_for_display_takes_documented_parameters_and_refuses_others():
    theta = angles(40)
    sino = sinogram(HEAD, theta, SIZE)
    params = {
        "freqcutoff": 0.8,
        "filtertype": "hann",
        "circle": True,
        "silent": True,
        "pixtol": 0.1,
    }
    slice_ = oneslicefordisplay(sino, theta, **params)
    expected = reconstruct_slice(sino, theta, freqcutoff=0.8, filtertype="hann")
    np.testing.assert_array_equal(slice_, expected)
    with pytest.raises(TypeError, match="did you mean 'filtertype'"):
        oneslicefordisplay(sino, theta, filtertyp="hann")
