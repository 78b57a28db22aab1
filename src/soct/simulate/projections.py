"""Projections of ellipsoids in closed form, for trying and testing tomography: nothing is interpolated or rasterised.

The object is a body with bones, holes and beads that turns about a vertical axis. Geometry as in `soct.tomography`: a point
``x`` to the right and ``y`` up in the slice is seen at the detector coordinate ``axis + x cos(theta) + y sin(theta)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.space import FloatArray

_SUBPIXELS = 3
"""Points along each side of a pixel over which the closed form is averaged, as a pixel does."""


@dataclass(frozen=True)
class Ellipsoid:
    """One body; lengths are in halves of the field of view, z is up.

    Attributes
    ----------
    centre : (float, float, float)
        ``(x, y, z)``.
    axes : (float, float, float)
        Half axes; the third is along z.
    turned : float
        Angle of the first axis against x, radians.
    density : float
        Added inside; negative for a hole.
    """

    centre: tuple[float, float, float]
    axes: tuple[float, float, float]
    turned: float
    density: float


def draw_phantom(seed: int = 0, beads: int = 14) -> tuple[Ellipsoid, ...]:
    """Return a body with a dense shell, holes and small beads, of which no two slices look the same."""
    rng = np.random.default_rng(seed)
    body = [
        Ellipsoid((0.0, 0.02, 0.0), (0.66, 0.5, 0.8), 0.3, 1.0),
        Ellipsoid((0.0, 0.02, 0.0), (0.6, 0.44, 0.74), 0.3, -0.7),
        Ellipsoid((0.2, 0.05, 0.15), (0.12, 0.28, 0.4), -0.4, -0.2),
        Ellipsoid((-0.22, 0.0, -0.1), (0.14, 0.3, 0.45), 0.6, -0.2),
    ]
    for _ in range(beads):
        radius, angle = 0.42 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        centre = (radius * np.cos(angle), 0.72 * radius * np.sin(angle), rng.uniform(-0.55, 0.55))
        size = rng.uniform(0.03, 0.1, 3)
        body.append(
            Ellipsoid(centre, tuple(size.tolist()), rng.uniform(0, np.pi), rng.uniform(0.3, 1.2))
        )
    return tuple(body)


def project_phantom(
    bodies: tuple[Ellipsoid, ...],
    radians: NDArray[np.float64],
    rows: int,
    cols: int,
    axis: float,
    shifts: NDArray[np.float64],
) -> FloatArray:
    """Return line integrals ``(n, rows, cols)`` in units of density times half fields of view.

    Parameters
    ----------
    bodies : tuple of Ellipsoid
    radians : float64 ndarray (n,)
    rows, cols : int
    axis : float
        Detector coordinate of the rotation axis, in pixels.
    shifts : float64 ndarray (2, n)
        How far the object is displaced in each projection, down and to the right, in pixels.
    """
    out = np.zeros((len(radians), rows, cols), np.float32)
    scale = 0.5 * cols
    part = (np.arange(_SUBPIXELS) + 0.5) / _SUBPIXELS - 0.5
    row = (np.arange(rows)[:, None] + part).ravel() - (rows - 1) / 2
    col = (np.arange(cols)[:, None] + part).ravel() - axis
    for k, theta in enumerate(radians.tolist()):
        # Rows grow downwards, z upwards.
        z = -(row - shifts[0, k]) / scale
        s = (col - shifts[1, k]) / scale
        image = sum(_project(body, theta, z, s) for body in bodies)
        fine = np.asarray(image).reshape(rows, _SUBPIXELS, cols, _SUBPIXELS)
        out[k] = fine.mean(axis=(1, 3))
    return out


def _project(
    body: Ellipsoid, theta: float, z: NDArray[np.float64], s: NDArray[np.float64]
) -> NDArray[np.float64]:
    x, y, height = body.centre
    a, b, c = body.axes
    t = s - (x * np.cos(theta) + y * np.sin(theta))
    width2 = (a * np.cos(theta - body.turned)) ** 2 + (b * np.sin(theta - body.turned)) ** 2
    # At a height z the cut is an ellipse, smaller by the root of this in both directions.
    cut = np.maximum(0.0, 1.0 - ((z - height) / c) ** 2)
    inside = np.maximum(0.0, cut[:, None] - (t**2 / width2)[None])
    return 2.0 * body.density * a * b / np.sqrt(width2) * np.sqrt(inside)
