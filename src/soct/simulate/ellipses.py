"""Slices made of ellipses, whose projections are known in closed form.

Lengths are in pixels from pixel ``(size // 2, size // 2)``, x along columns and y along rows; detector coordinates are those of
`soct.tomography.radon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Ellipse:
    """An ellipse of one value.

    Attributes
    ----------
    value : float
        Added to what lies below.
    x, y : float
        Centre.
    a, b : float
        Half axes.
    turn : float
        Angle of the first axis, radians from x towards y.
    """

    value: float
    x: float
    y: float
    a: float
    b: float
    turn: float = 0.0


def shepp_logan(size: float) -> list[Ellipse]:
    """Return the head of Shepp and Logan with the contrast of Toft, fitted to an image of that many pixels."""
    table = [
        (1.0, 0.0, 0.0, 0.69, 0.92, 0.0),
        (-0.8, 0.0, 0.0184, 0.6624, 0.874, 0.0),
        (-0.2, 0.22, 0.0, 0.11, 0.31, 18.0),
        (-0.2, -0.22, 0.0, 0.16, 0.41, -18.0),
        (0.1, 0.0, -0.35, 0.21, 0.25, 0.0),
        (0.1, 0.0, -0.1, 0.046, 0.046, 0.0),
        (0.1, 0.0, 0.1, 0.046, 0.046, 0.0),
        (0.1, -0.08, 0.605, 0.046, 0.023, 0.0),
        (0.1, 0.0, 0.606, 0.023, 0.023, 0.0),
        (0.1, 0.06, 0.605, 0.023, 0.046, 0.0),
    ]
    unit = (size - 1) / 2
    return [
        Ellipse(value, x * unit, y * unit, a * unit, b * unit, np.deg2rad(turn))
        for value, x, y, a, b, turn in table
    ]


def draw(ellipses: Sequence[Ellipse], size: int, *, parts: int = 8) -> Array:
    """Return an image ``(size, size)``: means over pixels, from `parts` samples along each axis."""
    fine = (np.arange(size * parts) + 0.5) / parts - 0.5 - size // 2
    image = np.zeros((size, size))
    for e in ellipses:
        reach = max(e.a, e.b) + 1
        ys, xs = (_touched(middle, reach, size) for middle in (e.y, e.x))
        y = fine[ys.start * parts : ys.stop * parts, None] - e.y
        x = fine[None, xs.start * parts : xs.stop * parts] - e.x
        c, s = np.cos(e.turn), np.sin(e.turn)
        inside = ((x * c + y * s) / e.a) ** 2 + ((y * c - x * s) / e.b) ** 2 <= 1.0
        shape = (ys.stop - ys.start, parts, xs.stop - xs.start, parts)
        image[ys, xs] += e.value * inside.reshape(shape).mean(axis=(1, 3))
    return image


def _touched(middle: float, reach: float, size: int) -> slice:
    """Return the pixels within `reach` of a place along one axis."""
    ends = np.floor(np.array([middle - reach, middle + reach + 1])).astype(int) + size // 2
    first, stop = (int(v) for v in np.clip(ends, 0, size))
    return slice(first, stop)


def sinogram(
    ellipses: Sequence[Ellipse],
    angles: ArrayLike,
    detectors: int,
    *,
    axis: ArrayLike | None = None,
    width: float = 1.0,
    derivative: bool = False,
) -> Array:
    """Return line integrals ``(detectors, n)`` in closed form.

    Parameters
    ----------
    ellipses : sequence of Ellipse
    angles : array (n,)
        Radians.
    detectors : int
    axis : float or array (n,), optional
        Detector coordinate of the rotation axis; ``detectors // 2`` unless told otherwise.
    width : float
        Detector pixels average over so many pixels; with 0 they are points.
    derivative : bool
        With respect to the detector coordinate.
    """
    theta = np.asarray(angles, float)
    centre = np.broadcast_to(detectors // 2 if axis is None else axis, theta.shape)
    t = np.arange(detectors)[:, None] - centre
    out = np.zeros(t.shape)
    for e in ellipses:
        nx, ny = np.cos(theta), -np.sin(theta)
        c, s = np.cos(e.turn), np.sin(e.turn)
        r = np.hypot(e.a * (nx * c + ny * s), e.b * (ny * c - nx * s))
        u = t - (nx * e.x + ny * e.y)
        scale = e.value * e.a * e.b / r**2
        if width:
            f = _area if not derivative else _chord
            out += scale * (f(u + width / 2, r) - f(u - width / 2, r)) / width
        else:
            out += scale * (_slope(u, r) if derivative else _chord(u, r))
    return out


def _chord(u: Array, r: Array) -> Array:
    return 2.0 * np.sqrt(np.clip(r**2 - u**2, 0.0, None))


def _area(u: Array, r: Array) -> Array:
    """Integral of `_chord`."""
    v = np.clip(u / r, -1.0, 1.0)
    return r**2 * (v * np.sqrt(1.0 - v**2) + np.arcsin(v))


def _slope(u: Array, r: Array) -> Array:
    """Return the derivative of `_chord`; 0 where it is infinite."""
    room = r**2 - u**2
    return np.where(room > 0, -2.0 * u / np.sqrt(np.where(room > 0, room, 1.0)), 0.0)
