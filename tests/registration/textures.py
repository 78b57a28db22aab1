"""Images whose truth is known: a continuous texture sampled at any points."""

import numpy as np
from scipy import ndimage as ndi


class Texture:
    """A smooth random field over a canvas, sampled by cubic spline at ``(y, x)`` points."""

    def __init__(self, seed, size=400, scales=(2.0, 6.0, 18.0), margin=100):
        rng = np.random.default_rng(seed)
        self.margin = margin
        n = size + 2 * margin
        field = np.zeros((n, n))
        for s in scales:
            part = ndi.gaussian_filter(rng.standard_normal((n, n)), s, mode="wrap")
            field += part / part.std()
        self.coefficients = ndi.spline_filter(field / field.std(), order=3)

    def at(self, points):
        q = np.moveaxis(np.asarray(points) + self.margin, -1, 0)
        return ndi.map_coordinates(self.coefficients, q, order=3, prefilter=False, mode="mirror")


def pixels(shape):
    return np.moveaxis(np.mgrid[: shape[0], : shape[1]].astype(float), 0, -1)


def intensity(log_texture, rng=None, looks=0.0, gain=1.0):
    out = gain * np.exp(0.5 * log_texture)
    if rng is not None and looks > 0:
        out = out * rng.gamma(looks, 1 / looks, out.shape)
    return out.astype(np.float32)


def pair(truth, shape=(220, 200), moving_shape=None, seed=0, planes=1, looks=0.0):
    """Draw fixed and moving stacks with ``moving(truth(p)) = fixed(p)``."""
    rng = np.random.default_rng(seed + 1000)
    canvas = Texture(seed)
    fixed, moving = [], []
    back = truth.inverse()
    for _ in range(planes):
        fixed.append(intensity(canvas.at(pixels(shape)), rng, looks))
        lands = back.apply(pixels(moving_shape or shape))
        moving.append(intensity(canvas.at(lands), rng, looks, gain=0.4))
    return np.stack(fixed), np.stack(moving)
