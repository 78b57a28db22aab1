"""Attenuation: how fast light is lost on its way down, and images freed of it.

The depth-resolved estimate (Vermeer et al., Biomed. Opt. Express 5:322, 2014) takes the share of the remaining
light that a sample returns as its attenuation, ``mu(z) = I(z) / (2 dz (sum of deeper I + tail))``. Its
optical depth is an integral, but it still follows the speckle of its own A-line; an image divided by it would carry
that speckle twice. The optical depth is therefore formed from intensity smoothed across, and the image is divided
by that smooth function.

Convention: see `soct.space`. Attenuation in 1/mm where a sampling is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from soct.errors import InputError
from soct.geometry.surface import smooth_a_lines
from soct.space import Array, FloatArray

AttenuationMethod = Literal["vermeer", "smith", "liu", "li"]
LOWEST_TRANSMISSION = 0.05
SNR_LIMIT = 4.0  # 6 dB in power
FIT_PX = 12
METHODS: dict[str, int] = {"vermeer": 0, "smith": 1, "liu": 2, "li": 3}


@dataclass(frozen=True)
class Attenuation:
    """Attenuation of a block.

    Attributes
    ----------
    mu_per_mm : ndarray (z, y, x) float32
        Attenuation coefficient; NaN where there is no data.
    optical_depth : ndarray (z, y, x) float32
        Its integral from the surface to the middle of each sample; 0 above the surface.
    """

    mu_per_mm: FloatArray
    optical_depth: FloatArray


def estimate_attenuation(
    block: Array,
    surface_px: Array,
    axial_um: float,
    *,
    method: AttenuationMethod = "li",
    valid: Array | None = None,
    floor: float = 0.0,
    noise: float = 0.0,
    smoothing_px: tuple[float, float, float] = (1.0, 4.0, 4.0),
    max_mu_per_mm: float = 30.0,
) -> Attenuation:
    """Estimate attenuation at every depth of every A-line.

    Parameters
    ----------
    block : ndarray (z, y, x)
        Linear intensity, axial profile divided out.
    surface_px : ndarray (y, x)
        Depth of the interface.
    axial_um : float
        Sampling along depth.
    method : str
        How the light below the last sample (the tail) is found: ``vermeer`` takes none (the estimate rises
        towards the end); ``smith`` from the decay over the last samples of the A-line; ``liu`` takes
        the attenuation there as the A-line's mean and solves for it; ``li`` as ``smith``, after the noise floor is
        taken off and the A-line cut where its signal falls below 6 dB above the noise.
    valid : ndarray (2, y, x) int, optional
        Depth range with data.
    floor, noise : float
        Noise floor and its standard deviation.
    smoothing_px : tuple of float
        Gaussian sigma along z, y, x; (0, 0, 0) for the raw map.
    max_mu_per_mm : float
        Cap on the estimate.

    Returns
    -------
    Attenuation

    References
    ----------
    Vermeer et al. 2014 (above); Smith et al., IEEE TMI 34:2592, 2015; Liu et al., J. Biomed. Opt. 24:085002,
    2019; Li et al., Biomed. Opt. Express 11:672, 2020.
    """
    data = np.asarray(block, dtype=np.float32)
    if data.ndim != 3 or data.shape[1:] != np.shape(surface_px):
        raise InputError(
            "The surface must have one depth per A-line",
            expected=str(data.shape[1:]),
            found=str(np.shape(surface_px)),
        )
    if method not in METHODS:
        raise InputError("Unknown attenuation method", expected=", ".join(METHODS), found=method)
    if any(s > 0 for s in smoothing_px):
        data = smooth_a_lines(data, valid, sigma_px=smoothing_px)
    limits = np.zeros((2, *data.shape[1:]), np.int64)
    limits[1] = data.shape[0]
    if valid is not None:
        limits[:] = valid
    mu = np.full(data.shape, np.nan, np.float32)
    depth = np.zeros(data.shape, np.float32)
    _integrate(
        np.ascontiguousarray(data),
        np.nan_to_num(np.asarray(surface_px, np.float64)),
        limits,
        METHODS[method],
        float(floor),
        SNR_LIMIT * float(noise if noise > 0 else floor),
        axial_um / 1000,
        max_mu_per_mm,
        mu,
        depth,
    )
    return Attenuation(mu, depth)


def correct_attenuation(
    block: Array,
    optical_depth: Array,
    strength: float,
    *,
    lowest_transmission: float = LOWEST_TRANSMISSION,
) -> FloatArray:
    """Divide a block by ``exp(-2 s OD)``, limited from below.

    Parameters
    ----------
    block : ndarray (z, y, x)
        Noise floor taken off.
    optical_depth : ndarray (z, y, x)
        From `estimate_attenuation`.
    strength : float
        ``s``, from `choose_strength`.
    lowest_transmission : float
        Limit on the divisor.
    """
    out = np.exp(np.asarray(optical_depth, np.float32) * np.float32(-2 * strength))
    np.maximum(out, np.float32(lowest_transmission), out=out)
    np.divide(np.asarray(block, np.float32), out, out=out)
    return out


class StrengthSums:
    """Accumulator for the strength of the correction: brightness and optical depth over depth.

    Parameters
    ----------
    n_z : int
        Samples of the frame.
    """

    def __init__(self, n_z: int) -> None:
        self.intensity = np.zeros(n_z)
        self.optical_depth = np.zeros(n_z)
        self.count = np.zeros(n_z)

    def add(
        self, block: Array, optical_depth: Array, surface_px: Array, mask: Array | None = None
    ) -> None:
        """Add a block of A-lines, as in `estimate_attenuation`, noise floor taken off."""
        n_z = len(self.count)
        z = np.arange(block.shape[0])[:, None, None]
        below = np.floor(z - np.nan_to_num(surface_px, nan=np.inf)[None])
        use = (below >= 2) & (below < n_z) & np.isfinite(block)
        if mask is not None:
            use &= mask[None]
        index = below[use].astype(int)
        self.count += np.bincount(index, minlength=n_z)
        self.intensity += np.bincount(index, block[use], n_z)
        self.optical_depth += np.bincount(index, optical_depth[use], n_z)


def choose_strength(sums: StrengthSums, *, limits: tuple[float, float] = (0.0, 3.0)) -> float:
    """Choose the strength that leaves tissue without a trend over depth.

    Parameters
    ----------
    sums : StrengthSums
        Over the tissue of a slice, or of the run.
    limits : tuple of float
        Range of the result.

    Returns
    -------
    float
        The ``s`` for which ``ln mean I(d) + 2 s OD(d)`` has slope zero; 0 without tissue.
    """
    seen = (sums.count > 0.2 * max(float(sums.count.max()), 1.0)) & (sums.intensity > 0)
    if seen.sum() < 8:
        return 0.0
    d = np.flatnonzero(seen).astype(float)
    logs = np.log(sums.intensity[seen] / sums.count[seen])
    optical = sums.optical_depth[seen] / sums.count[seen]
    fall, rise = np.polyfit(d, logs, 1)[0], np.polyfit(d, optical, 1)[0]
    if rise <= 1e-9:
        return 0.0
    return float(np.clip(-fall / (2 * rise), *limits))


@njit(cache=True, nogil=True)
def _integrate(
    data: FloatArray,
    surface: Array,
    limits: Array,
    method: int,
    floor: float,
    needed: float,
    dz_mm: float,
    max_mu: float,
    mu: FloatArray,
    depth: FloatArray,
) -> None:
    nz, ny, nx = data.shape
    line = np.zeros(nz)
    for y in range(ny):
        for x in range(nx):
            top = max(int(np.ceil(surface[y, x])), limits[0, y, x])
            end = limits[1, y, x]
            cut = method == 3
            for z in range(top, end):
                v = data[z, y, x]
                if not np.isfinite(v):
                    end = z
                    break
                line[z] = max(v - floor, 0.0)
                if cut and z > top + FIT_PX and line[z] < needed:
                    end = z
                    break
            if end - top < 2:
                continue
            n = min(FIT_PX, end - top)
            tail = 0.0
            total = 0.0
            for z in range(top, end):
                total += line[z]
            if method == 1 or method == 3:
                # Decay over the last samples: least squares of ln I.
                s0, s1, s2, t0, t1 = 0.0, 0.0, 0.0, 0.0, 0.0
                for z in range(end - n, end):
                    w = line[z]
                    if w > 0:
                        g = np.log(w)
                        s0 += w
                        s1 += w * z
                        s2 += w * z * z
                        t0 += w * g
                        t1 += w * z * g
                spread = s0 * s2 - s1 * s1
                last = s0 / n
                if spread > 0 and last > 0:
                    decay = -(s0 * t1 - s1 * t0) / spread
                    # The end of an A-line cannot decay slower than a tenth of the whole does.
                    decay = max(decay, 0.1 * last / (total + last), 1e-4)
                    tail = last * np.exp(-decay * 0.5 * (n + 1)) / (1 - np.exp(-decay))
            elif method == 2:
                # Tail = I_end / (1 - exp(-2 mu dz)) with the A-line's own mean decay.
                last = 0.0
                for z in range(end - n, end):
                    last += line[z] / n
                first = 0.0
                for z in range(top, top + n):
                    first += line[z] / n
                if last > 0 and first > last and end - top > n:
                    decay = np.log(first / last) / (end - top - n)
                    tail = last * np.exp(-decay * 0.5 * (n + 1)) / (1 - np.exp(-decay))
                elif last > 0:
                    tail = last * (end - top)
            deeper = tail
            for z in range(end - 1, top - 1, -1):
                m = 0.0
                if deeper > 0:
                    # log1p(I / deeper) is the exact form of I / deeper for samples that are not thin.
                    m = np.log1p(line[z] / deeper) / (2 * dz_mm)
                elif line[z] > 0:
                    m = max_mu
                mu[z, y, x] = min(m, max_mu)
                deeper += line[z]
            optical = 0.0
            for z in range(top, end):
                step = np.float64(mu[z, y, x]) * dz_mm
                depth[z, y, x] = optical + 0.5 * step
                optical += step
            mean = optical / (end - top)
            for z in range(end, nz):
                # Below the data the light keeps falling as it did on average.
                optical += mean
                depth[z, y, x] = optical
