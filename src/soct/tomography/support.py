"""Where on the detector an object shows: noise, centres of mass, and the ellipse that holds the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.tomography.bow_tie import FirstMoments

Array = NDArray[Any]
Vector = NDArray[np.float64]

_MARGIN_PX = 3.0
"""Beyond the outermost places that rise above the noise."""
_SMOOTH_PX = 1.5
_SMOOTH_ANGLES = 5
_SIGNIFICANT = 5.0
_FAINT = 0.005
_ALIASED_PX = 0.05
"""Moments of derivatives weigh the object's ends by the square of their distance, and the ends are sharper than pixels."""


@dataclass(frozen=True)
class Support:
    """An ellipse that holds the object, as the projections see it.

    Attributes
    ----------
    centres : ndarray (n,)
        Detector coordinate of the ellipse's centre.
    half_widths : ndarray (n,)
        Pixels.
    warped : ndarray (n,)
        Angles of the directions, mapped so that the ellipse is a disc.
    """

    centres: Vector
    half_widths: Vector
    warped: Vector

    def mask(self, detectors: int, centres: Vector | None = None) -> NDArray[np.bool_]:
        """Where the object may show, ``(detectors, n)``."""
        middle = self.centres if centres is None else centres
        return np.asarray(np.abs(np.arange(detectors)[:, None] - middle) <= self.half_widths + 1.0)


def noise_level(sinogram: Array) -> float:
    """Return the standard deviation of white noise, from second differences along the detector.

    Dense texture counts as noise; edges, being few, do not.
    """
    if len(sinogram) < 8:
        return 0.0
    differences = np.diff(sinogram, 2, axis=0)
    # Six is the sum of squares of (1, -2, 1); 1.4826 turns a median into a standard deviation.
    return float(1.4826 * np.median(np.abs(differences)) / np.sqrt(6.0))


def first_moments(
    sinogram: Array, mask: NDArray[np.bool_] | None, near: Vector, derivatives: bool
) -> FirstMoments | None:
    """Return the centre of mass of each projection, or None where there is no mass to speak of.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
    mask : ndarray of bool, optional
        Where the object may show.
    near : ndarray (n,)
        Detector coordinates that moments of derivatives are taken about: as near to the result as known.
    derivatives : bool
    """
    values = sinogram if mask is None else np.where(mask, sinogram, 0.0)
    x = np.arange(len(sinogram))[:, None] - near
    # Integration by parts: the mass is -sum x p', the first moment -sum x^2 p' / 2.
    arm = -0.5 * x**2 if derivatives else x
    mass_arm = -x if derivatives else np.ones_like(x)
    mass = (mass_arm * values).sum(axis=0)
    whole = float(mass.mean())
    if abs(whole) < 0.2 * np.abs(mass_arm * values).sum(axis=0).mean():
        return None
    # The mass is that of the object, the same in all projections: their mean has least noise.
    offset = (arm * values).sum(axis=0) / whole
    offset = np.clip(offset, -len(sinogram), len(sinogram))
    own = arm - offset * mass_arm
    weight = np.ones_like(x) if mask is None else mask
    return FirstMoments(
        near + offset,
        float((own**2 * weight).sum(axis=0).mean()) / whole**2,
        _ALIASED_PX**2 if derivatives else 0.0,
    )


def find_support(
    sinogram: Array, angles: Vector, centres: Vector, noise: float, derivatives: bool
) -> Support:
    """Return the ellipse of the places that rise above the noise once projections are centred.

    Parameters
    ----------
    sinogram : ndarray (detectors, n)
    angles : ndarray (n,)
        Radians.
    centres : ndarray (n,)
        Detector coordinates of one point of the object.
    noise : float
        Standard deviation per pixel.
    derivatives : bool
    """
    x, left, right = _edges(sinogram, angles, centres, noise, derivatives)
    cos, sin = np.cos(angles), np.sin(angles)
    basis = np.stack([cos, sin], axis=1)
    offset = basis @ np.linalg.lstsq(basis, 0.5 * (left + right), rcond=1e-6)[0]
    half = np.maximum(right - offset, offset - left) + _MARGIN_PX
    half = np.minimum(half, float(len(x)))
    squares = np.stack([cos**2, 2 * cos * sin, sin**2], axis=1)
    shape = _ellipse(squares, half)
    widths = np.sqrt(squares @ shape)
    root = _square_root(shape)
    mapped = root @ np.stack([cos, sin])
    # Whole turns are kept: the parity of orders must not depend on where arctan2 cuts.
    turned = np.arctan2(mapped[1], mapped[0])
    warped = angles + np.mod(turned - angles + np.pi, 2 * np.pi) - np.pi
    return Support(centres + offset, widths, warped)


def _edges(
    sinogram: Array, angles: Vector, centres: Vector, noise: float, derivatives: bool
) -> tuple[Vector, Vector, Vector]:
    """First and last places that rise above the noise, about the centres."""
    detectors, n = sinogram.shape
    x: Vector = np.arange(detectors, dtype=np.float64) - detectors // 2
    at = np.arange(detectors)
    centred = np.stack(
        [np.interp(x + centres[k], at, sinogram[:, k], 0.0, 0.0) for k in range(n)], axis=1
    )
    order = np.argsort(np.mod(angles, 2 * np.pi), kind="stable")
    smooth = ndi.gaussian_filter1d(centred, _SMOOTH_PX, axis=0)
    smooth[:, order] = ndi.uniform_filter1d(smooth[:, order], min(_SMOOTH_ANGLES, n), axis=1)
    gain = np.sqrt(1.0 / (2 * np.sqrt(np.pi) * _SMOOTH_PX) / min(_SMOOTH_ANGLES, n))
    size = np.abs(smooth)
    shown = size > max(_SIGNIFICANT * gain * noise, _FAINT * float(size.max()))
    empty = ~shown.any(axis=0)
    left = x[np.argmax(shown, axis=0)]
    right = x[detectors - 1 - np.argmax(shown[::-1], axis=0)]
    if empty.any():
        left[empty], right[empty] = x[0], x[-1]
    return x, left, right


def _ellipse(squares: Array, half: Vector) -> Vector:
    """Squared half widths as a quadratic form of the direction, enlarged until nearly all are held; else a disc."""
    shape = np.linalg.lstsq(squares, half**2, rcond=1e-6)[0]
    fitted = squares @ shape
    a, b, c = shape
    disc = float(half.max()) ** 2
    least = 0.5 * (a + c) - np.hypot(0.5 * (a - c), b)
    if least < 0.02 * disc or fitted.min() <= 0:
        return np.array([disc, 0.0, disc])
    excess = float(np.quantile(half**2 / fitted, 0.98))
    return np.asarray(shape * max(excess, 1.0))


def _square_root(shape: Vector) -> Array:
    """Symmetric root of the quadratic form."""
    matrix = np.array([[shape[0], shape[1]], [shape[1], shape[2]]])
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)
