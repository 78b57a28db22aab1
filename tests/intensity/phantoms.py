"""Volumes with a known bias field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage as ndi

from soct.space import Array


class Phantom(NamedTuple):
    """Speckled tissue of three brightnesses times a smooth field.

    Attributes
    ----------
    volume, anatomy, bias : ndarray (z, y, x)
    mask : ndarray (z, y, x) bool
    """

    volume: Array
    mask: Array
    anatomy: Array
    bias: Array


def make_phantom(
    shape: tuple[int, int, int] = (32, 96, 96),
    *,
    seed: int = 0,
    bias_rms: float = 0.2,
    grain_px: float = 8.0,
    levels: tuple[float, float, float] = (0.6, 1.0, 1.6),
    looks: float | None = 8.0,
) -> Phantom:
    """Make an ellipsoid of tissue in a dim background; `grain_px` is the size of its structures."""
    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    mask = (z / 1.4) ** 2 + (y / 0.9) ** 2 + (x / 0.9) ** 2 < 1
    texture = ndi.gaussian_filter(rng.standard_normal(shape), (grain_px / 2, grain_px, grain_px))
    texture = (texture - texture[mask].mean()) / texture[mask].std()
    anatomy = np.select([texture > 0.9, texture < -0.5], [levels[2], levels[0]], levels[1])
    log_bias = 0.25 * x - 0.2 * y**2 + 0.2 * x * y + 0.25 * np.cos(2 * z + 1) + 0.2 * np.sin(2 * y)
    log_bias -= log_bias[mask].mean()
    bias = np.exp(log_bias * bias_rms / log_bias[mask].std())
    volume = np.where(mask, anatomy, 0.02) * bias
    if looks is not None:
        volume = volume * rng.standard_gamma(looks, shape) / looks
    return Phantom(volume.astype(np.float32), mask, anatomy, bias)


def field_error(field: Array, truth: Array, mask: Array) -> float:
    """Relative standard deviation of field / truth in the mask."""
    ratio = np.asarray(field)[mask] / truth[mask]
    return float(ratio.std() / ratio.mean())


def absorbed_share(field: Array, phantom: Phantom) -> float:
    """Slope of the log field on the log anatomy, the true bias fitted along: 0 when no anatomy is absorbed."""
    inside = phantom.mask
    design = np.stack(
        [np.log(phantom.anatomy[inside]), np.log(phantom.bias[inside]), np.ones(inside.sum())], 1
    )
    return float(np.linalg.lstsq(design, np.log(np.asarray(field)[inside]), rcond=None)[0][0])
