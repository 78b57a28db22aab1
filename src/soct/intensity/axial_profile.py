"""The axial profile of the beam: how sensitivity changes over the depth of the frame.

In a uniform, weakly attenuating medium (agarose) the brightness over depth is that profile. In tissue it is the
profile times attenuation, and no fit can tell the two apart beyond their shapes: the focus peaks at a depth of the
*frame*, attenuation is an exponential of the depth below the *surface*. What a fit books to one instead of
the other cancels in the product, which is what images are divided by (the attenuation correction that follows
takes out the trend that is left), so only the product should be read as a measurement in tissue.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit
from scipy import ndimage as ndi
from scipy import optimize

from soct.errors import InputError
from soct.intensity.depth_profiles import DepthProfile
from soct.space import Array, FloatArray

AxialMethod = Literal["model_free", "model"]
MIN_A_LINES = 200.0
LOWEST_SENSITIVITY = 0.05


@dataclass(frozen=True)
class AxialProfile:
    """Sensitivity over the depth of the frame.

    Attributes
    ----------
    sensitivity : ndarray (z,) float32
        Largest value 1, at least 0.05.
    method : str
        ``model_free``, ``model``, or ``none`` where nothing could be measured.
    measured_on : str
        ``agarose`` or ``tissue``.
    focus_px, rayleigh_px : float
        Depth of the focus in the frame and Rayleigh length, in samples; NaN for ``model_free``.
    attenuation_per_px : float
        Decay of intensity per sample that was fitted beside them (``2 mu dz``), NaN for ``model_free``.
    residual : float
        Robust spread of log brightness about the fit.
    reason : str
        What was done, in words.
    """

    sensitivity: FloatArray
    method: str
    measured_on: str
    focus_px: float
    rayleigh_px: float
    attenuation_per_px: float
    residual: float
    reason: str


def confocal_response(depth_px: Array, focus_px: float, rayleigh_px: float) -> Array:
    """Evaluate the confocal function ``1 / (1 + ((z - focus) / rayleigh)^2)``.

    Parameters
    ----------
    depth_px : ndarray
        Depth in the frame.
    focus_px, rayleigh_px : float
        In samples. The apparent Rayleigh length in scattering tissue is about twice that in water
        (van Leeuwen et al., IEEE JSTQE 9:227, 2003).
    """
    return np.asarray(1 / (1 + ((np.asarray(depth_px, float) - focus_px) / rayleigh_px) ** 2))


def estimate_axial_profile(
    agarose: DepthProfile | None,
    tissue: DepthProfile | None,
    *,
    method: AxialMethod = "model_free",
    rayleigh_px: float,
    focus_px: float | None = None,
    smoothing_px: float = 3.0,
) -> AxialProfile:
    """Estimate the axial profile from brightness over the depth of the frame.

    Parameters
    ----------
    agarose, tissue : DepthProfile, optional
        `DepthSums.over_frame` of either material; agarose is used where it has enough A-lines.
    method : str
        ``model_free`` divides the smoothed profile out (in tissue: less its best exponential);
        ``model`` fits the confocal function.
    rayleigh_px : float
        Expected Rayleigh length in samples (610 um for 3x, 1060 um for 10x objectives).
    focus_px : float, optional
        Focus where the acquisition states it.
    smoothing_px : float
        Gaussian sigma of the model-free profile.

    Returns
    -------
    AxialProfile
        With method ``none``, sensitivity 1 and a reason where nothing could be measured.

    Raises
    ------
    InputError
        When neither profile is given.
    """
    if agarose is None and tissue is None:
        raise InputError("An axial profile needs a depth profile of agarose or of tissue")
    chosen, measured_on = tissue, "tissue"
    if agarose is not None and _a_lines(agarose) >= MIN_A_LINES:
        chosen, measured_on = agarose, "agarose"
    n_z = len((chosen or agarose or tissue).mean)  # type: ignore[union-attr]
    if chosen is None or _a_lines(chosen) == 0:
        return _no_profile(n_z, measured_on, "too few A-lines to measure an axial profile")
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(chosen.mean)
    seen = np.isfinite(logs) & (chosen.weight > 0.1 * chosen.weight.max())
    if seen.sum() < 8:
        return _no_profile(n_z, measured_on, "fewer than eight depths are seen in enough A-lines")
    z = np.arange(n_z, dtype=float)
    fit = _fit_confocal(z[seen], logs[seen], rayleigh_px, focus_px)
    focus, rayleigh, decay, residual = fit
    if method == "model":
        sensitivity = confocal_response(z, focus, rayleigh)
        return AxialProfile(
            _limit(sensitivity),
            method,
            measured_on,
            focus,
            rayleigh,
            decay,
            residual,
            f"focus at {focus:.1f} px, Rayleigh length {rayleigh:.1f} px, on {measured_on}",
        )
    level = np.interp(z, z[seen], logs[seen])
    level = ndi.gaussian_filter1d(level, smoothing_px, mode="nearest")
    if measured_on == "tissue":
        level = level + decay * z
    sensitivity = np.exp(level - level[seen].max())
    return AxialProfile(
        _limit(sensitivity),
        method,
        measured_on,
        float("nan"),
        float("nan"),
        float("nan"),
        residual,
        f"smoothed profile of {measured_on}, {_a_lines(chosen):.0f} A-lines",
    )


def divide_axial_profile(block: Array, profile: AxialProfile, *, floor: float = 0.0) -> FloatArray:
    """Divide a block by the axial profile.

    Parameters
    ----------
    block : ndarray (z, y, x)
    profile : AxialProfile
        Of the same number of samples.
    floor : float
        Noise floor taken off before.
    """
    if block.shape[0] != len(profile.sensitivity):
        raise InputError(
            "The axial profile has another depth than the block",
            expected=str(len(profile.sensitivity)),
            found=str(block.shape[0]),
        )
    out = np.asarray(block, np.float32) - np.float32(floor)
    out /= profile.sensitivity[:, None, None]
    return out


def apply_depth_gain(
    block: Array,
    surface_px: Array,
    log_sensitivity: Array,
    *,
    floor: float = 0.0,
    max_gain: float = 20.0,
    skip_px: float = 0.0,
) -> FloatArray:
    """Divide every A-line by the sensitivity at its depth below the surface.

    Parameters
    ----------
    block : ndarray (z, y, x)
    surface_px : ndarray (y, x)
        Depth of the interface.
    log_sensitivity : ndarray (d,)
        From `soct.intensity.depth_sensitivity`, linearly interpolated.
    floor : float
        Noise floor taken off before.
    max_gain : float
        Limit on the amplification, relative to the most sensitive depth.
    skip_px : float
        Samples below the interface that become no data.

    Returns
    -------
    ndarray (z, y, x) float32
        NaN above the surface and beyond the sensitivity's depths.
    """
    data = np.ascontiguousarray(block, dtype=np.float32)
    gain = np.minimum(np.exp(-np.asarray(log_sensitivity, float)), max_gain)
    out = np.empty_like(data)
    _scale_depths(
        data,
        np.ascontiguousarray(surface_px, dtype=np.float64),
        gain,
        float(floor),
        float(skip_px),
        out,
    )
    return out


def _a_lines(profile: DepthProfile) -> float:
    return float(np.nan_to_num(profile.weight).max()) if profile.weight.size else 0.0


def _limit(sensitivity: Array) -> FloatArray:
    values = sensitivity / sensitivity.max()
    return np.maximum(values, LOWEST_SENSITIVITY).astype(np.float32)


def _no_profile(n_z: int, measured_on: str, reason: str) -> AxialProfile:
    nan = float("nan")
    return AxialProfile(
        np.ones(n_z, np.float32), "none", measured_on, nan, nan, nan, nan, f"{reason}: it stays 1"
    )


def _fit_confocal(
    z: Array, logs: Array, rayleigh_px: float, focus_px: float | None
) -> tuple[float, float, float, float]:
    """Fit focus, Rayleigh length, decay and level to log brightness; focus, decay weakly held."""
    start = float(z.mean()) if focus_px is None else focus_px
    scale = float(z[-1] - z[0]) + 1
    decay = max(-float(np.polyfit(z, logs, 1)[0]), 0.0)

    def misfit(p: Array) -> Array:
        focus, log_rayleigh, slope, level = p
        model = level - slope * z - np.log1p(((z - focus) / np.exp(log_rayleigh)) ** 2)
        # A stated focus is good to a few samples; the Rayleigh length to a factor of two.
        held = np.array(
            [
                (focus - start) / (0.05 if focus_px is not None else 0.5) / scale,
                (log_rayleigh - np.log(rayleigh_px)) / 0.7,
            ]
        )
        return np.concatenate([(logs - model) / 0.02, held])

    fitted = optimize.least_squares(
        misfit,
        [start, np.log(rayleigh_px), decay, float(logs.max())],
        loss="soft_l1",
        x_scale=[scale / 10, 0.3, 0.01, 0.1],
        max_nfev=400,
    )
    focus, log_rayleigh, slope = (float(v) for v in fitted.x[:3])
    residual = misfit(fitted.x)[: len(z)] * 0.02
    spread = 1.4826 * float(np.median(np.abs(residual)))
    return focus, float(np.exp(log_rayleigh)), slope, spread


@njit(cache=True, nogil=True)
def _scale_depths(
    data: FloatArray, surface: Array, gain: Array, floor: float, skip: float, out: FloatArray
) -> None:
    nz, ny, nx = data.shape
    last = len(gain) - 1
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                depth = z - surface[y, x]
                if not (depth >= skip) or depth > last:
                    out[z, y, x] = np.nan
                    continue
                depth = max(depth, 0.0)
                i = min(int(depth), last - 1)
                t = depth - i
                out[z, y, x] = (data[z, y, x] - floor) * (gain[i] * (1 - t) + gain[i + 1] * t)
