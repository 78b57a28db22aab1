"""Filters of filtered back-projection, along the detector: the ramp, its variant for derivative sinograms, windows and a low-pass.

The ramp is the transform of its samples in space (Kak and Slaney 1988, equation 61), not ``|f|`` itself, so that a slice's mean is
right. Projections are padded with zeros to at least twice their length: filtering doesn't wrap.

A derivative sinogram ``dp/dt`` (phase gradients) takes ``-i sign(f) / 2 pi`` in place of ``|f|``: the same filtered projections
without integrating the sinogram. Here too the filter is the transform of samples in space.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import scipy.fft
from numpy.typing import ArrayLike, NDArray

from soct.tomography.projections import real_floating

Array = NDArray[Any]
FilterName = Literal["ram-lak", "shepp-logan", "cosine", "hamming", "hann", "none"]

FILTERS: tuple[FilterName, ...] = ("ram-lak", "shepp-logan", "cosine", "hamming", "hann", "none")

_ALIASES = {"ramp": "ram-lak", "ramlak": "ram-lak", "hanning": "hann"}


def filter_name(name: str | None) -> FilterName:
    """Return the name of a filter as `FILTERS` has it; ``ramp`` and ``hanning`` are understood, None is ``none``.

    Raises
    ------
    ValueError
        There is no such filter.
    """
    plain = "none" if name is None else str(name).strip().lower().replace("_", "-")
    plain = _ALIASES.get(plain, plain)
    for known in FILTERS:
        if plain == known:
            return known
    near = get_close_matches(plain, FILTERS, 1)
    meant = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"there is no filter {name!r}; choose from {', '.join(FILTERS)}{meant}")


def check_cutoff(freqcutoff: float) -> float:
    """Return a cut-off frequency, which must lie in (0, 1]: 1 is Nyquist's, half a cycle per pixel."""
    if not 0.0 < freqcutoff <= 1.0:
        raise ValueError(
            f"freqcutoff is in units of the Nyquist frequency, over 0 and up to 1, not {freqcutoff}"
        )
    return float(freqcutoff)


def window(frequency: Array, name: FilterName, freqcutoff: float = 1.0) -> Array:
    """Return by how much a filter weakens frequencies: 1 at 0, and 0 beyond the cut-off.

    Parameters
    ----------
    frequency : array
        Cycles per pixel.
    name : str
        One of `FILTERS`; ``ram-lak`` and ``none`` are 1 up to the cut-off.
    freqcutoff : float
        Where the window ends, in units of Nyquist's frequency; its shape is scaled with it.
    """
    f = np.abs(frequency) / check_cutoff(freqcutoff)
    shapes: dict[FilterName, Any] = {
        "shepp-logan": np.sinc,
        "cosine": lambda x: np.cos(np.pi * x),
        "hamming": lambda x: 0.54 + 0.46 * np.cos(2 * np.pi * x),
        "hann": lambda x: 0.5 + 0.5 * np.cos(2 * np.pi * x),
    }
    shape = shapes[name](f) if name in shapes else np.ones_like(f)
    return np.where(f <= 0.5 * (1 + 1e-9), shape, 0.0)


@lru_cache(maxsize=32)
def transfer_function(size: int, name: FilterName, freqcutoff: float, derivatives: bool) -> Array:
    """Return what filtering multiplies the real transform of `size` samples with."""
    n = np.concatenate([np.arange((size + 1) // 2), np.arange(-(size // 2), 0)])
    odd = n % 2 == 1
    kernel = np.zeros(size)
    if derivatives:
        kernel[odd] = 1.0 / (np.pi**2 * n[odd])
    else:
        kernel[odd] = -1.0 / (np.pi * n[odd]) ** 2
        kernel[0] = 0.25
    frequency = scipy.fft.rfftfreq(size)
    response = scipy.fft.rfft(kernel)
    if name == "none":
        response = np.ones(frequency.size, complex)
    response *= window(frequency, name, freqcutoff)
    response.flags.writeable = False
    return response


def padded_size(detectors: int) -> int:
    """Return the length of transforms in which filtering doesn't wrap; it is even and fast."""
    return 2 * int(scipy.fft.next_fast_len(detectors, real=True))


def filter_sinogram(
    sinogram: ArrayLike,
    *,
    filtertype: str | None = "ram-lak",
    freqcutoff: float = 1.0,
    derivatives: bool = False,
    axis: int = -2,
    threads: int = 1,
) -> Array:
    """Return projections ready to be back-projected.

    Parameters
    ----------
    sinogram : array
        Projections along `axis`.
    filtertype : {"ram-lak", "shepp-logan", "cosine", "hamming", "hann", "none"}
        Window on the ramp; None and ``none`` leave the ramp out as well.
    freqcutoff : float
        Nothing beyond this frequency passes; in units of Nyquist's, over 0 and up to 1.
    derivatives : bool
        The sinogram holds derivatives of the line integrals with respect to the detector coordinate.
    axis : int
        The detector's axis.
    threads : int
        Results do not depend on it.

    Returns
    -------
    array
        Of the shape of the sinogram; float32 if that holds its type, else float64.
    """
    name = filter_name(filtertype)
    values = real_floating(sinogram)
    if name == "none" and derivatives:
        return low_pass(integrate_derivatives(values, axis=axis), freqcutoff, axis=axis)
    response = partial(transfer_function, name=name, freqcutoff=freqcutoff, derivatives=derivatives)
    return _apply(values, response, axis, threads)


def _apply(values: Array, response: Callable[[int], Array], axis: int, threads: int = 1) -> Array:
    """Multiply the spectra of zero-padded projections."""
    detectors = values.shape[axis]
    size = padded_size(detectors)
    factors = response(size)
    shape = [1] * values.ndim
    shape[axis] = factors.size
    spectrum = scipy.fft.rfft(values, size, axis=axis, workers=threads)
    spectrum *= factors.reshape(shape).astype(spectrum.dtype)
    out = scipy.fft.irfft(spectrum, size, axis=axis, workers=threads)
    return np.take(out, np.arange(detectors), axis=axis)


def integrate_derivatives(sinogram: ArrayLike, *, axis: int = -2) -> Array:
    """Return the line integrals of a derivative sinogram: 0 before the detector, and as flat as can be behind it.

    Each projection is summed by trapezia; what its sum leaves at the far end, from noise or an offset, is taken as a constant of its
    derivative and removed.
    """
    values = np.moveaxis(real_floating(sinogram), axis, -1)
    slopes = values - values.mean(axis=-1, keepdims=True, dtype=np.float64)
    sums = np.cumsum(slopes, axis=-1) - 0.5 * slopes
    return np.moveaxis(sums.astype(values.dtype), -1, axis)


def low_pass(
    sinogram: ArrayLike, freqcutoff: float, *, axis: int = -2, taper: float = 0.25
) -> Array:
    """Return a sinogram without the frequencies beyond a cut-off, along the detector.

    Parameters
    ----------
    sinogram : array
    freqcutoff : float
        In units of Nyquist's frequency, over 0 and up to 1; 1 returns the sinogram as it is.
    axis : int
        The detector's axis.
    taper : float
        Share of the pass band over which it falls, as a raised cosine, to nothing at the cut-off; a sharp edge would ring.
    """
    values = real_floating(sinogram)
    if check_cutoff(freqcutoff) == 1.0:
        return values

    def response(size: int) -> Array:
        share = 1.0 - scipy.fft.rfftfreq(size) * 2 / freqcutoff
        edge = np.clip(share / max(taper, 1e-9), 0.0, 1.0)
        return 0.5 - 0.5 * np.cos(np.pi * edge)

    return _apply(values, response, axis)
