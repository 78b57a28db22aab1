"""The pair of projector and back-projector: geometry, accuracy, transposes, threads and slices."""

import numba
import numpy as np
import pytest

from soct.simulate.ellipses import Ellipse, draw, shepp_logan, sinogram
from soct.tomography.radon import back_project, project


def angles(n, span=np.pi):
    return np.arange(n) * span / n


def rms(a, b):
    return float(np.sqrt(np.mean((a - b) ** 2) / np.mean(b**2)))


@pytest.fixture(scope="module")
def head():
    return draw(shepp_logan(128), 128)


def test_a_projection_at_zero_is_the_sum_of_each_column_and_at_90_degrees_of_each_row(head):
    p = project(head, [0.0, np.pi / 2, np.pi])
    np.testing.assert_allclose(p[:, 0], head.sum(axis=0), atol=1e-9)
    # Row 0 is at t = +64: beyond the last detector pixel, as in scikit-image.
    np.testing.assert_allclose(p[1:, 1], head.sum(axis=1)[:0:-1], atol=1e-9)
    np.testing.assert_allclose(p[1:, 2], head.sum(axis=0)[:0:-1], atol=1e-9)


@pytest.mark.parametrize("size", [127, 128])
def test_projections_agree_with_scikit_image(size):
    from skimage.transform import radon

    image = draw(shepp_logan(size), size)
    theta = angles(60)
    assert rms(project(image, theta), radon(image, np.rad2deg(theta))) < 0.01


@pytest.mark.parametrize("size", [127, 128])
def test_back_projections_agree_with_scikit_image(size):
    from skimage.transform import iradon

    theta = angles(60)
    sino = sinogram(shepp_logan(size), theta, size)
    theirs = iradon(sino, np.rad2deg(theta), filter_name=None)
    linear = back_project(sino, theta, radius=size // 2, interpolation="linear") * np.pi / 120
    assert rms(linear, theirs) < 1e-4
    assert rms(back_project(sino, theta, radius=size // 2) * np.pi / 120, theirs) < 0.002


def test_projections_are_those_of_the_closed_form():
    size = 256
    head = shepp_logan(size)
    theta = angles(45)
    assert rms(project(draw(head, size), theta), sinogram(head, theta, size)) < 0.006


def test_an_axis_per_projection_moves_projections_by_whole_pixels_exactly(head):
    theta = angles(12)
    shifts = np.arange(12) - 6
    moved = project(head, theta, axis=64 + shifts)
    still = project(head, theta)
    for k, shift in enumerate(shifts):
        np.testing.assert_allclose(
            moved[10:-10, k], np.roll(still[:, k], shift)[10:-10], atol=1e-12
        )
    sino = np.random.default_rng(1).random((128, 12))
    rolled = np.stack([np.roll(p, s) for p, s in zip(sino.T, shifts, strict=True)], axis=1)
    np.testing.assert_allclose(
        back_project(rolled, theta, axis=64 + shifts, radius=50),
        back_project(sino, theta, radius=50),
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("x", "y", "radius"), [(20.3, -13.7, 12), (30.1, 5.2, 4), (-11.5, 22.25, 2)]
)
def test_a_disc_keeps_its_mass_and_its_centre_at_every_angle(x, y, radius):
    image = draw([Ellipse(1.0, x, y, radius, radius)], 128, parts=64)
    theta = np.linspace(-0.1, 2 * np.pi, 200)
    p = project(image, theta)
    t = np.arange(128)[:, None] - 64
    np.testing.assert_allclose(p.sum(axis=0), image.sum(), rtol=1e-12)
    centre = (t * p).sum(axis=0) / p.sum(axis=0)
    weights = image / image.sum()
    gx, gy = weights.sum(axis=0) @ t[:, 0], weights.sum(axis=1) @ t[:, 0]
    np.testing.assert_allclose(centre, gx * np.cos(theta) - gy * np.sin(theta), atol=1e-10)
    # Pixels that average over their area place a disc itself less well the smaller it is.
    ideal = x * np.cos(theta) - y * np.sin(theta)
    assert np.abs(centre - ideal).max() < 0.02 / radius


def test_an_even_disc_gives_even_projections():
    disc = [Ellipse(1.0, 3.3, -4.1, 50, 50)]
    theta = angles(90)
    p, truth = project(draw(disc, 128), theta), sinogram(disc, theta, 128)
    assert np.abs(p - truth)[truth > 60].max() < 0.004 * truth.max()


@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
@pytest.mark.parametrize("shape", [(64, 64), (63, 63), (40, 66)])
def test_each_is_the_exact_transpose_of_the_other(shape, interpolation):
    rng = np.random.default_rng(0)
    theta = rng.uniform(-4, 4, 30)
    axis = 35 + rng.uniform(-5, 5, 30)
    image, sino = rng.random(shape), rng.random((70, 30))
    there = project(image, theta, detectors=70, axis=axis, interpolation=interpolation)
    back = back_project(sino, theta, size=shape, axis=axis, interpolation=interpolation)
    assert (there * sino).sum() == pytest.approx((image * back).sum(), rel=1e-12)


def test_results_do_not_depend_on_threads_or_on_how_many_slices_are_given():
    rng = np.random.default_rng(0)
    images = rng.random((5, 50, 50)).astype(np.float32)
    theta = angles(19)
    sinos = project(images, theta)
    slices = back_project(sinos, theta)
    most = numba.get_num_threads()
    try:
        for threads in {1, most}:
            numba.set_num_threads(threads)
            for k in range(5):
                np.testing.assert_array_equal(project(images[k], theta), sinos[k])
                np.testing.assert_array_equal(back_project(sinos[k], theta), slices[k])
            np.testing.assert_array_equal(back_project(sinos, theta), slices)
    finally:
        numba.set_num_threads(most)
    assert slices.dtype == np.float32


def test_single_precision_differs_by_rounding_alone(head):
    theta = angles(30)
    p = project(head, theta)
    np.testing.assert_allclose(project(head.astype(np.float32), theta), p, atol=2e-5 * p.max())
    b = back_project(p, theta)
    np.testing.assert_allclose(
        back_project(p.astype(np.float32), theta), b, atol=2e-6 * np.abs(b).max()
    )


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"2 angles were given for 3 projections"):
        back_project(np.zeros((8, 3)), [0.0, 1.0])
    with pytest.raises(ValueError, match="finite"):
        project(np.zeros((8, 8)), [0.0, np.nan])
    with pytest.raises(ValueError, match="axis"):
        project(np.zeros((8, 8)), [0.0, 1.0], axis=[1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="rows, columns"):
        project(np.zeros(8), [0.0])
    with pytest.raises(ValueError, match="cubic or linear"):
        project(np.zeros((8, 8)), [0.0], interpolation="spline")
    with pytest.raises(ValueError, match="size"):
        back_project(np.zeros((8, 1)), [0.0], size=0)
