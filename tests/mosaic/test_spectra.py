"""Spectra of windows: what the kernels give is what their formulas say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft

from soct.mosaic.spectra import cross_correlate, level_window, raised_cosine, transform, whiten


def spectra(seed: int, shape: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    # Amplitudes over many powers of two.
    image = rng.standard_normal(shape).astype(np.float32)
    spectrum = transform(image)
    return (spectrum * 10.0 ** rng.uniform(-6, 6, spectrum.shape)).astype(np.complex64)


@pytest.mark.parametrize("whitening", [0.0, 0.5, 0.65, 1.0])
def test_whitening_divides_by_a_power_of_the_amplitude(whitening):
    first, second = spectra(0, (24, 30)), spectra(1, (24, 30))
    first[3, 4] = 0
    gain = np.random.default_rng(2).random(first.shape).astype(np.float32)
    found = whiten(first[None, None], second[None, None], (24, 30), gain, whitening)[0]
    cross = first.astype(complex) * second.conj()
    expected = gain * cross / np.maximum(np.abs(cross), 1e-300) ** whitening
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_a_shift_moves_the_correlation_by_fractions_of_a_pixel():
    rows, columns = 32, 40
    rng = np.random.default_rng(3)
    first, second = (transform(rng.random((1, 1, rows, columns), np.float32)) for _ in range(2))
    gain = np.ones(first.shape[2:], np.float32)
    still = cross_correlate(first, second, (rows, columns), gain, 0.5)[0]
    moved = cross_correlate(
        first, second, (rows, columns), gain, 0.5, shifts=np.array([[3.0, -2.0]])
    )[0]
    np.testing.assert_allclose(moved, np.roll(still, (-3, 2), (0, 1)), atol=1e-4 * still.max())
    halves = [
        cross_correlate(first, second, (rows, columns), gain, 0.5, shifts=np.array([[0.25, dx]]))[0]
        for dx in (0.5, -0.5)
    ]
    np.testing.assert_allclose(halves[0], np.roll(halves[1], -1, 1), atol=1e-4 * still.max())


def test_a_level_window_has_no_mean_and_unit_spread():
    image = np.random.default_rng(4).random((50, 60), np.float32) + 5
    image[20, 20] = np.nan
    window, visible, deviation = level_window(image, (10, 15), (24, 32))
    values = image[10:34, 15:47]
    assert visible == values.size - 1
    assert deviation == pytest.approx(np.nanstd(values), rel=1e-5)
    expected = (values - np.nanmean(values)) / np.nanstd(values)
    np.testing.assert_allclose(window, np.nan_to_num(expected), atol=1e-4)


def test_beyond_the_edge_a_level_window_is_its_mean():
    image = np.random.default_rng(5).random((50, 60), np.float32)
    window, visible, _ = level_window(image, (-4, 50), (20, 30))
    assert visible == 16 * 10
    assert not window[:4].any()
    assert not window[:, 10:].any()
    assert window[4:, :10].all()
    assert level_window(image, (70, 0), (8, 8))[1:] == (0, 0.0)
    assert level_window(np.full((50, 60), 0.1, np.float32), (0, 0), (40, 40))[2] == 0


def test_a_raised_cosine_is_one_within_and_symmetric():
    window = raised_cosine(40, 10)
    assert (window[10:30] == 1).all()
    np.testing.assert_allclose(window, window[::-1])
    np.testing.assert_allclose(
        window[:10], 0.5 - 0.5 * np.cos(np.pi * (np.arange(10) + 0.5) / 10), rtol=1e-5
    )
    tapered, _, _ = level_window(
        np.random.default_rng(6).random((40, 40), np.float32), (0, 0), (40, 40), 0.25
    )
    assert np.abs(tapered[0]).max() < 0.05
    assert scipy.fft.rfft2(tapered).dtype == np.complex64
