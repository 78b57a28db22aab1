"""Steps of brightness from plane to plane, and gains that take them out while slow anatomy stays.

Neighbouring planes show nearly the same tissue, so the middle of their log ratios over common tissue is the
step of the instrument, whatever the anatomy: a structure that begins or ends moves it little. The steps' sum is the
profile of gains along z; what of it changes over several sections is anatomy (or a slow field, which is
another method's) and is left alone.

Convention: see `soct.space`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from soct.space import Array

LEAST_BLOCKS = 8
SECTION_SMOOTHING = 0.1
"""Sigma along z within a section, in its thickness: speckle of single planes is no gain."""
_CLIP = 3.0


def measure_plane_steps(planes: Array, tissue: Array) -> Array:
    """Measure how much brighter every plane is than the one before.

    Parameters
    ----------
    planes : ndarray (z, y, x)
        Block means of a volume's planes; values that are not positive are no data.
    tissue : ndarray (z, y, x) bool
        Blocks that count.

    Returns
    -------
    ndarray (z,) float64
        Log ratio, clipped mean over the blocks that are tissue in both; NaN where those are fewer than 8, and for
        the first plane.
    """
    known = np.asarray(tissue, bool) & np.isfinite(planes) & (np.asarray(planes) > 0)
    steps = np.full(len(planes), np.nan)
    for z in range(1, len(planes)):
        both = known[z] & known[z - 1]
        if np.count_nonzero(both) >= LEAST_BLOCKS:
            ratio = np.log(planes[z][both].astype(np.float64) / planes[z - 1][both])
            middle = np.median(ratio)
            spread = 1.4826 * np.median(np.abs(ratio - middle)) + 1e-12
            steps[z] = ratio[np.abs(ratio - middle) <= _CLIP * spread].mean()
    return steps


def gain_profile(steps: Array, sections: Sequence[tuple[int, int]], kept_planes: float) -> Array:
    """Return the log gain of every plane that the steps give, freed of its slow part.

    Parameters
    ----------
    steps : ndarray (z,)
        From `measure_plane_steps`; NaN counts as no step.
    sections : sequence of (int, int)
        Planes of each section: within one, gains change smoothly, for it was imaged at once.
    kept_planes : float
        Sigma of the Gaussian of the local straight line that is taken for the slow part, in planes.

    Returns
    -------
    ndarray (z,) float64
        Divide plane z by its exponential. 0 on average.
    """
    total = np.cumsum(np.nan_to_num(np.asarray(steps, np.float64)))
    for start, stop in sections:
        total[start:stop] = local_line(total[start:stop], (stop - start) * SECTION_SMOOTHING)
    gains = total - local_line(total, kept_planes)
    return np.asarray(gains - gains.mean())


def local_line(values: Array, sigma: float) -> Array:
    """Smooth by a straight line through each sample, fitted with Gaussian weights.

    A trend comes out as it is, at the ends too, where a moving mean would bend it.
    """
    n = len(values)
    if n < 3 or sigma <= 0:
        return np.full(n, np.mean(values))
    out = np.empty(n)
    at = np.arange(n, dtype=np.float64)
    reach = int(np.ceil(4 * sigma))
    for z in range(n):
        low, high = max(0, z - reach), min(n, z + reach + 1)
        d = at[low:high] - z
        w = np.exp(-0.5 * (d / sigma) ** 2)
        v = values[low:high]
        s0, s1, s2 = w.sum(), (w * d).sum(), (w * d * d).sum()
        determinant = s0 * s2 - s1 * s1
        if determinant > 1e-9 * s0 * s2:
            out[z] = (s2 * (w * v).sum() - s1 * (w * d * v).sum()) / determinant
        else:
            out[z] = (w * v).sum() / s0
    return out


def step_size(steps: Array) -> float:
    """Root mean square of the steps, NaN where none was measured."""
    known = np.asarray(steps)[np.isfinite(steps)]
    return float(np.sqrt((known**2).mean())) if known.size else float("nan")
