"""Two images of the same, displaced, are laid on each other: shift, phase and the shifted image."""

import numpy as np
import pytest

from soct.tomography import register_2Darrays


def scene(shape, shift=(0.0, 0.0), seed=0, count=40):
    """Gaussian spots of several widths, displaced so that ``out[k] = scene[k + shift]``."""
    rng = np.random.default_rng(seed)
    y = np.arange(shape[0])[:, None] + shift[0]
    x = np.arange(shape[1])[None] + shift[1]
    out = np.zeros(shape)
    for _ in range(count):
        cy, cx, width = (
            rng.uniform(-20, shape[0] + 20),
            rng.uniform(-20, shape[1] + 20),
            rng.uniform(2, 9),
        )
        out += rng.uniform(-1, 1) * np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / width**2)
    return out


@pytest.mark.parametrize("shift", [(0, 0), (3.3, -4.7), (-12.25, 0.5), (30.0, 21.6)])
def test_a_known_shift_is_found_and_undone(shift):
    first, second = scene((128, 141)), scene((128, 141), (-shift[0], -shift[1]))
    found, phase, moved = register_2Darrays(first, second, subpixel=True)
    np.testing.assert_allclose(found, shift, atol=0.01)
    assert phase == pytest.approx(0, abs=1e-6)
    inside = (slice(45, 80), slice(45, 90))
    np.testing.assert_allclose(moved[inside], first[inside], atol=0.01)


def test_whole_pixels_are_the_default():
    found, _, moved = register_2Darrays(scene((90, 100)), scene((90, 100), (-5.3, 7.8)))
    assert found.tolist() == [5, -8]
    np.testing.assert_array_equal(moved, np.roll(scene((90, 100), (-5.3, 7.8)), (-5, 8), (0, 1)))


def test_a_number_of_parts_gives_multiples_of_them():
    found, *_ = register_2Darrays(scene((90, 100)), scene((90, 100), (-5.31, 7.83)), 4)
    assert found.tolist() == [5.25, -7.75]


@pytest.mark.parametrize("subpixel", [False, True])
@pytest.mark.parametrize("phase", [0.7, -2.5])
def test_complex_images_have_a_phase_between_them(subpixel, phase):
    wave = np.exp(1j * scene((96, 96)))
    second = np.exp(1j * (scene((96, 96), (-4.0, 2.0)) - phase))
    shift, found, moved = register_2Darrays(wave, second, subpixel)
    np.testing.assert_allclose(shift, (4, -2), atol=0.01)
    assert found == pytest.approx(phase, abs=0.02)
    inside = (slice(20, 76), slice(20, 76))
    np.testing.assert_allclose((moved * np.exp(1j * found))[inside], wave[inside], atol=0.05)


def test_an_inverted_image_differs_by_the_phase_pi():
    shift, phase, _ = register_2Darrays(scene((96, 96)), -scene((96, 96), (-3.0, 1.0)), True)
    np.testing.assert_allclose(shift, (3, -1), atol=0.01)
    assert abs(phase) == pytest.approx(np.pi)


def test_brightness_scale_and_noise_do_not_draw_the_shift():
    rng = np.random.default_rng(4)
    first, second = scene((128, 128)), 5 + 3 * scene((128, 128), (-2.4, 1.3))
    noise = 0.2 * first.std()
    found, *_ = register_2Darrays(
        first + noise * rng.standard_normal(first.shape),
        second + 3 * noise * rng.standard_normal(first.shape),
        True,
    )
    np.testing.assert_allclose(found, (2.4, -1.3), atol=0.1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_images_of_any_type_are_taken_and_left_alone(dtype):
    levels = 100 + 80 * scene((80, 80)) / np.abs(scene((80, 80))).max()
    first, second = levels[10:70, 10:70].astype(dtype), levels[13:73, 8:68].astype(dtype)
    before = first.copy(), second.copy()
    found, *_ = register_2Darrays(first, second, True)
    np.testing.assert_allclose(found, (-3, 2), atol=0.05)
    np.testing.assert_array_equal(first, before[0])
    np.testing.assert_array_equal(second, before[1])


@pytest.mark.parametrize(
    ("first", "second", "subpixel", "said"),
    [
        (np.eye(8), np.eye(9), True, r"same shape, not \(8, 8\) and \(9, 9\)"),
        (np.eye(8), np.ones((8, 8)), True, "image2 has the same value everywhere"),
        (np.zeros(8), np.eye(8), True, r"image1 must have two dimensions.*\(8,\)"),
        (np.where(np.eye(8), np.nan, 0), np.eye(8), True, "image1 must be finite; it has 8 NaN"),
        (np.eye(8), np.eye(8), -1, "not -1"),
        (np.eye(8), np.eye(8), 1.5, "not 1.5"),
    ],
)
def test_images_that_cannot_be_registered_are_refused(first, second, subpixel, said):
    with pytest.raises(ValueError, match=said):
        register_2Darrays(first, second, subpixel)
