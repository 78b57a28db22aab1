"""Scenes whose shifts are exact: band-limited, shifted in the Fourier domain, and larger than any window."""

from __future__ import annotations

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from soct.spectral import Image


def band_limited_pair(
    seed: int, side: int, shift_xy: tuple[float, float], noise: float = 0.0, band: float = 0.3
) -> tuple[Image, Image]:
    """Two images of `side` pixels; what is at p in the first is at p + shift in the second. The noise is in units of the signal."""
    rng = np.random.default_rng(seed)
    spectrum = scipy.fft.rfft2(rng.standard_normal((side, side)))
    fy = scipy.fft.fftfreq(side)[:, None]
    fx = scipy.fft.rfftfreq(side)[None]
    radius = np.hypot(fy, fx)
    spectrum *= np.where(radius < band, 1.0 / np.maximum(radius, 0.02), 0.0)
    spectrum[0, 0] = 0.0

    def draw(dx: float, dy: float) -> NDArray[np.float64]:
        moved = spectrum * np.exp(-2j * np.pi * (fy * dy + fx * dx))
        return np.asarray(scipy.fft.irfft2(moved, s=(side, side)))

    first, second = draw(0.0, 0.0), draw(*shift_xy)
    scale = first.std()
    first, second = (
        image / scale + noise * rng.standard_normal(image.shape) for image in (first, second)
    )
    return Image(0.5 + 0.1 * first), Image(0.5 + 0.1 * second)
