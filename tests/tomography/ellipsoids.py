"""Ellipsoids and their line integrals in closed form: projections of a known object, displaced by any part of a pixel.

An ellipsoid ``|A (x - c)| <= 1`` cuts from the ray ``p + t u`` a chord of ``2 sqrt(b^2 - a c) / a``, with ``a = |A u|^2``,
``b = A u . A (p - c)`` and ``c = |A (p - c)|^2 - 1``. The axis of rotation is vertical.
"""

import numpy as np

# Density, half axes (x, y, z), centre (x, y, z), turn about the vertical in degrees; in half widths of the object.
HEAD = (
    (2.0, 0.69, 0.92, 0.9, 0, 0, 0, 0),
    (-0.98, 0.6624, 0.874, 0.88, 0, 0, 0, 0),
    (-0.2, 0.41, 0.16, 0.21, -0.22, 0, -0.25, 108),
    (-0.2, 0.31, 0.11, 0.22, 0.22, 0, -0.25, 72),
    (0.2, 0.21, 0.25, 0.5, 0, 0.35, -0.25, 0),
    (0.2, 0.046, 0.046, 0.046, 0, 0.1, -0.25, 0),
    (0.1, 0.046, 0.023, 0.02, -0.08, -0.65, -0.25, 0),
    (0.1, 0.046, 0.023, 0.02, 0.06, -0.65, -0.25, 90),
    (0.2, 0.056, 0.04, 0.1, 0.06, -0.105, 0.625, 90),
    (-0.2, 0.056, 0.056, 0.1, 0, 0.1, 0.625, 0),
)


def grains(count, seed=0):
    """An ellipsoid full of smaller ones, lighter and heavier."""
    rng = np.random.default_rng(seed)
    found = [(1.0, 0.6, 0.6, 0.8, 0, 0, 0, 0)]
    while len(found) <= count:
        centre, axes = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.03, 0.15, 3)
        if np.hypot(*centre[:2]) + axes.max() < 0.6:
            found.append((rng.uniform(-0.8, 1), *axes, *centre, rng.uniform(0, 180)))
    return tuple(found)


def project(ellipsoids, angles, shape, shifts=None, size=(100.0, 100.0), centre=None, fine=1):
    """Projections ``(n, rows, cols)`` with ``aligned[k] = projections[k + s]``.

    `size` is the half width and half height of the object in pixels, `centre` the row and column of its origin. A pixel is
    the mean over `fine` x `fine` points.
    """
    if fine > 1:
        middle = np.array([shape[0] // 2, shape[1] // 2]) if centre is None else np.array(centre)
        # The centre of the first pixel lies at (fine - 1) / 2 on the finer grid.
        middle = middle * fine + (fine - 1) / 2
        wide = (shape[0] * fine, shape[1] * fine)
        shifts = None if shifts is None else np.asarray(shifts) * fine
        scale = (size[0] * fine, size[1] * fine)
        blocks = project(ellipsoids, angles, wide, shifts, scale, middle) / fine
        return blocks.reshape(len(angles), shape[0], fine, shape[1], fine).mean(axis=(2, 4))
    rows, cols = shape
    n = len(angles)
    shifts = np.zeros((2, n)) if shifts is None else np.asarray(shifts)
    centre = (rows // 2, cols // 2) if centre is None else centre
    across, up = size
    out = np.zeros((n, rows, cols), np.float32)
    for k, angle in enumerate(angles):
        z = (np.arange(rows) - centre[0] - shifts[0, k])[:, None] / up
        t = (np.arange(cols) - centre[1] - shifts[1, k])[None] / across
        for density, ax, ay, az, cx, cy, cz, turn in ellipsoids:
            phi = np.deg2rad(turn)
            # The detector's axis and the ray's direction in the ellipsoid's own frame.
            ex, ey = np.cos(angle - phi) / ax, np.sin(angle - phi) / ay
            ux, uy = -np.sin(angle - phi) / ax, np.cos(angle - phi) / ay
            mx = (np.cos(phi) * cx + np.sin(phi) * cy) / ax
            my = (np.cos(phi) * cy - np.sin(phi) * cx) / ay
            px, py = t * ex - mx, t * ey - my
            a, b = ux**2 + uy**2, px * ux + py * uy
            c = px**2 + py**2 + ((z - cz) / az) ** 2 - 1
            out[k] += (2 * across * density / a * np.sqrt(np.maximum(b**2 - a * c, 0))).astype("f4")
    return out
