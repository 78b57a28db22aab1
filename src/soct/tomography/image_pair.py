"""By how much one image is displaced against another one: phase correlation, to whole pixels or parts of one.

Whole pixels come from the highest point of the correlation. For parts of a pixel, the second image is shifted by what is known so far, both
are cut to what they share and tapered over the very same pixels, and the shift of greatest likelihood that is left
(`soct.mosaic.refinement`) is added, until nothing is left: a taper that lies still while the content moves would draw it to zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from soct.mosaic.refinement import refine_spectra
from soct.mosaic.spectra import raised_cosine, transform
from soct.tomography.projections import as_floating
from soct.tomography.shifts import shift_array

# Exponent of the cross spectrum's amplitude that is divided out: 1 would let noise count as much as the content.
_WHITENING = 0.65
_TAPER = 0.25
_LEAST_SIDE = 4
_LEAST_OVERLAP = 8
_PASSES = 6
_LONGEST_STEP_PX = 1.5
_SETTLED_PX = 5e-4
# The highest point is no further from the truth; what leads further away is led by noise.
_FURTHEST_PX = 3.0


def register_2Darrays(
    image1: ArrayLike, image2: ArrayLike, subpixel: bool | int = False
) -> tuple[NDArray[np.float64], float, NDArray[Any]]:
    """Find the shift that lays one image on another.

    Parameters
    ----------
    image1, image2 : array_like (rows, cols)
        Real or complex, of the same shape.
    subpixel : bool or int
        False: whole pixels. True: parts of a pixel, as exact as the images allow. A whole number n of 2 or more: multiples of 1 / n pixel.

    Returns
    -------
    shift : float64 ndarray (2,)
        Vertical and horizontal, pixels: ``image2[k + shift]`` shows what ``image1[k]`` does.
    diffphase : float
        Phase difference of the images, radians: ``image1 = offset_image2 * exp(1j * diffphase)`` but for scale. 0 or pi for real ones.
    offset_image2 : ndarray (rows, cols)
        `image2` shifted (`soct.tomography.ShiftFunc`, Fourier), so that it lies on `image1`.

    Raises
    ------
    ValueError
        Images of unequal shapes, with NaN, or without any texture.
    """
    first, second = _checked(image1, "image1"), _checked(image2, "image2")
    if first.shape != second.shape:
        raise ValueError(
            f"image1 and image2 must have the same shape, not {first.shape} and {second.shape}"
        )
    factor = _factor(subpixel)
    # The taper draws the highest point towards zero, so whole pixels are rounded parts of one, too.
    shift = _refine(first, second, _whole_pixels(first, second))
    if factor is not None:
        shift = np.round(shift * factor) / factor
    moved = shift_array(second, shift, "fourier")
    return shift, _phase(*_overlap(first, moved, shift)), moved


def _factor(subpixel: Any) -> int | None:
    """1 for whole pixels, None for any part of one."""
    if subpixel is True or subpixel is np.True_:
        return None
    if subpixel != int(subpixel) or subpixel < 0:
        raise ValueError(
            f"subpixel must be False, True, or a whole number of parts of a pixel, not {subpixel!r}"
        )
    return max(1, int(subpixel))


def _checked(image: ArrayLike, name: str) -> NDArray[Any]:
    array = as_floating(np.asarray(image))
    if array.ndim != 2 or min(array.shape) < _LEAST_SIDE:
        raise ValueError(
            f"{name} must have two dimensions of at least {_LEAST_SIDE} pixels; it has the shape {array.shape}"
        )
    bad = int((~np.isfinite(array)).sum())
    if bad:
        raise ValueError(f"{name} must be finite; it has {bad} NaN or infinite pixels")
    array = array.astype(np.result_type(array, np.float64), copy=False)
    if np.ptp(array.real) == 0 and np.ptp(array.imag) == 0:
        raise ValueError(f"{name} has the same value everywhere: it cannot be registered")
    return array


def _tapered(image: NDArray[Any]) -> NDArray[Any]:
    """Without its mean, scaled to a standard deviation of 1, and tapered at its edges."""
    rows, cols = (raised_cosine(n, _TAPER * n).astype(np.float64) for n in image.shape)
    weights = np.outer(rows, cols)
    level = image - (weights * image).sum() / weights.sum()
    spread = np.sqrt((np.abs(level) ** 2).mean())
    tapered: NDArray[Any] = weights * level / (spread if spread > 0 else 1.0)
    return tapered


def _whole_pixels(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Highest point of the phase correlation."""
    cross = scipy.fft.fft2(_tapered(first)) * np.conj(scipy.fft.fft2(_tapered(second)))
    amplitude = np.abs(cross)
    cross /= np.maximum(amplitude, 1e-12 * amplitude.max()) ** _WHITENING
    surface = np.abs(scipy.fft.ifft2(cross))
    lag = np.array(np.unravel_index(int(surface.argmax()), surface.shape))
    size = np.array(surface.shape)
    # The lag says where the content of the first image lies against that of the second.
    return -np.where(2 * lag > size, lag - size, lag).astype(np.float64)


def _overlap(
    first: NDArray[Any], moved: NDArray[Any], shift: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cut both to where the second one was seen before it was shifted; all, where that would be next to nothing."""
    parts = []
    for size, part in zip(first.shape, shift, strict=True):
        low, high = max(0, int(np.ceil(-part))), min(size, size - int(np.ceil(part)))
        parts.append(slice(low, high) if high - low >= _LEAST_OVERLAP else slice(None))
    return first[tuple(parts)], moved[tuple(parts)]


def _refine(
    first: NDArray[Any], second: NDArray[Any], shift: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Add what is left of the shift until nothing is."""
    refined = shift
    for _ in range(_PASSES):
        a, b = _overlap(first, shift_array(second, refined, "fourier"), refined)
        left = _left(a, b)
        refined = refined - left
        if np.abs(left).max() < _SETTLED_PX:
            break
    return refined if np.abs(refined - shift).max() <= _FURTHEST_PX else shift


def _left(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Lag of the content of the first image against that of the second, less than a pixel or two; 0 where none is found."""
    turned = (
        second * np.exp(1j * _phase(first, second)) if np.iscomplexobj(first + second) else second
    )
    one, other = (transform(_channels(image)[None]) for image in (first, turned))
    size = (first.shape[0], first.shape[1])
    found = refine_spectra(one, other, np.zeros(2), size, limit_px=_LONGEST_STEP_PX)
    return np.zeros(2) if found is None else found[0]


def _channels(image: NDArray[Any]) -> NDArray[np.float32]:
    tapered = _tapered(image)
    parts = [tapered.real, tapered.imag] if np.iscomplexobj(tapered) else [tapered]
    return np.stack(parts).astype(np.float32)


def _phase(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Phase difference of images that lie on each other."""
    return float(np.angle(np.vdot(_tapered(second), _tapered(first))))
