"""Tissue that begins below the cut surface: agarose lies over it and takes almost no light.

The depth sensitivity that all slices share is measured on tissue that begins at the surface, so it holds the
attenuation of that tissue beside what the instrument does. Divided out of tissue that lies under agarose, it brightens
that tissue by the attenuation of tissue that is not there. Agarose shows what the instrument does alone, so the
ratio of both profiles is the attenuation, and each A-line gives back what the agarose over its tissue did not take.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage as ndi

from soct.intensity.depth_profiles import DepthProfile
from soct.space import Array, FloatArray

MIN_A_LINES = 200.0
LEAST_CONTRAST = 3.0
NEAR_PX = (3, 16)
"""Depths below the surface at which the levels of tissue and agarose are compared."""
FARTHEST_PX = 60
_WINDOW = 5
_MEDIAN = 5


@dataclass(frozen=True)
class AgaroseCover:
    """What tells agarose from tissue, and what it changes.

    Attributes
    ----------
    log_instrument : ndarray (d,) float64
        Sensitivity over depth below the surface without the attenuation of tissue.
    decay_per_px : float
        Attenuation that tissue has beyond agarose, per sample (``2 mu dz``); 0 where it could not be measured.
    level : float
        Brightness, freed of the instrument and of the slice's gain, from which on a sample is tissue.
    reason : str
        What was done, in words.
    """

    log_instrument: Array
    decay_per_px: float
    level: float
    reason: str


def measure_agarose_cover(
    log_sensitivity: Array, tissue_level: float, agarose: DepthProfile | None
) -> AgaroseCover:
    """Tell the attenuation of tissue from the instrument by a profile of agarose.

    Parameters
    ----------
    log_sensitivity : ndarray (d,)
        Of tissue that begins at the surface.
    tissue_level : float
        Brightness of tissue freed of it.
    agarose : DepthProfile or None
        Of A-lines without any tissue, over depth below the surface.

    Returns
    -------
    AgaroseCover
        With decay 0 where there is too little agarose, or none that is darker than tissue.
    """
    log_s = np.asarray(log_sensitivity, float)
    nothing = AgaroseCover(log_s, 0.0, 0.0, "no agarose to compare with")
    if agarose is None or not np.nan_to_num(agarose.weight).max(initial=0.0) >= MIN_A_LINES:
        return nothing
    n = min(len(log_s), len(agarose.mean), FARTHEST_PX)
    depth = np.arange(n)
    mean, weight = np.nan_to_num(agarose.mean[:n]), np.nan_to_num(agarose.weight[:n])
    seen = (mean > 0) & (weight > 0.3 * weight.max()) & (depth >= NEAR_PX[0])
    near = seen & (depth < NEAR_PX[1])
    if near.sum() < 4 or seen.sum() < 12:
        return nothing
    ratio = np.log(mean[seen]) - log_s[:n][seen]
    slope = float(np.polyfit(depth[seen], ratio, 1)[0])
    if slope <= 0:
        return nothing
    log_instrument = log_s + slope * np.arange(len(log_s))
    dark = float(np.median(mean[near] / np.exp(log_instrument[:n][near])))
    if tissue_level < LEAST_CONTRAST * dark:
        return AgaroseCover(log_s, 0.0, 0.0, "agarose is about as bright as tissue")
    level = float(np.sqrt(dark * tissue_level))
    return AgaroseCover(
        log_instrument, slope, level, f"{tissue_level / dark:.0f} times darker than tissue"
    )


def find_brightest(block: Array, surface_px: Array) -> FloatArray:
    """Brightest depth below the interface, as a mean over some samples.

    Parameters
    ----------
    block : ndarray (z, y, x)
        NaN where there are no data.
    surface_px : ndarray (y, x)
        Depth of the interface; NaN where there is none.

    Returns
    -------
    ndarray (y, x) float32
        0 without an interface.
    """
    out = np.zeros(surface_px.shape, np.float32)
    first = np.where(np.isfinite(surface_px), np.ceil(surface_px + 1), len(block))
    _brightest(
        np.ascontiguousarray(block, dtype=np.float32),
        np.clip(first, 0, len(block)).astype(np.int64),
        out,
    )
    return out


def find_tissue_start(
    block: Array, surface_px: Array, valid: Array, cover: AgaroseCover, *, floor: float, gain: float
) -> FloatArray:
    """Depth below the surface at which tissue begins.

    Parameters
    ----------
    block : ndarray (z, y, x)
    surface_px : ndarray (y, x)
        Depth of the interface.
    valid : ndarray (2, y, x) int
        Depth range with data.
    cover : AgaroseCover
    floor : float
        Noise floor.
    gain : float
        Of the slice.

    Returns
    -------
    ndarray (y, x) float32
        0 where tissue begins at the surface; the depth of the last sample where there is none.
    """
    threshold = np.exp(cover.log_instrument) * cover.level * gain
    start = np.zeros(surface_px.shape, np.float32)
    _first_bright(
        np.ascontiguousarray(block, dtype=np.float32),
        np.ascontiguousarray(surface_px, dtype=np.float64),
        np.ascontiguousarray(valid, dtype=np.int64),
        threshold,
        float(floor),
        float(NEAR_PX[0] - 1),
        start,
    )
    # A vessel that reaches the surface is no agarose: what is as narrow goes with its neighbours.
    start = ndi.median_filter(start, _MEDIAN, mode="nearest")
    return np.asarray(ndi.gaussian_filter(start, 1.0, mode="nearest"), np.float32)


def uncover(data: FloatArray, surface_px: Array, start_px: Array, decay_per_px: float) -> None:
    """Take back, in place, the attenuation that agarose over the tissue did not have.

    Parameters
    ----------
    data : ndarray (z, y, x) float32
        Divided by the sensitivity of tissue.
    surface_px, start_px : ndarray (y, x)
        Interface, and depth below it at which tissue begins.
    decay_per_px : float
        `AgaroseCover.decay_per_px`.
    """
    if not start_px.any():
        return
    for z in range(len(data)):
        covered = np.clip(np.minimum(z - surface_px, start_px), 0, None)
        data[z] *= np.exp(-decay_per_px * covered, dtype=np.float32)


@njit(cache=True, nogil=True)
def _first_bright(
    data: FloatArray,
    surface: Array,
    limits: Array,
    threshold: Array,
    floor: float,
    skip: float,
    out: FloatArray,
) -> None:
    nz, ny, nx = data.shape
    last = len(threshold) - 1
    for y in range(ny):
        for x in range(nx):
            low = max(limits[0, y, x], int(np.ceil(max(surface[y, x] + skip, 0.0))))
            high = min(limits[1, y, x], nz)
            out[y, x] = 0.0
            if high - low < _WINDOW:
                continue
            found = False
            for z in range(low, high - _WINDOW + 1):
                total, wanted, count = 0.0, 0.0, 0
                # Neighbours beside one another lower the speckle.
                for yy in range(max(y - 1, 0), min(y + 2, ny)):
                    for xx in range(max(x - 1, 0), min(x + 2, nx)):
                        if limits[1, yy, xx] <= limits[0, yy, xx]:
                            continue
                        for k in range(_WINDOW):
                            v = data[z + k, yy, xx]
                            if np.isfinite(v):
                                d = min(max(int(z + k - surface[y, x]), 0), last)
                                total += v - floor
                                wanted += threshold[d]
                                count += 1
                if count == 0:
                    continue
                if total >= wanted:
                    # So much brighter is tissue that its first sample in the window's end is enough.
                    if z > low:
                        out[y, x] = z + _WINDOW - 1 - surface[y, x]
                    found = True
                    break
            if not found:
                out[y, x] = high - surface[y, x]


@njit(cache=True, nogil=True)
def _brightest(data: FloatArray, first: Array, out: FloatArray) -> None:
    nz, ny, nx = data.shape
    for y in range(ny):
        total = np.zeros(nx, np.float32)
        for z in range(nz):
            for x in range(nx):
                if z < first[y, x]:
                    continue
                value = data[z, y, x]
                if np.isfinite(value):
                    total[x] += value
                if z - _WINDOW >= first[y, x]:
                    gone = data[z - _WINDOW, y, x]
                    if np.isfinite(gone):
                        total[x] -= gone
                out[y, x] = max(out[y, x], total[x] / np.float32(_WINDOW))
