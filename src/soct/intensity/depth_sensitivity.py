"""How much darker the same tissue looks the deeper it lies, from slices that overlap in depth.

A slice is imaged deeper than it is cut, so the same tissue is seen in consecutive slices at two
depths one slice thickness apart. With ``p_k(d)`` the log mean brightness of slice k at depth d,

    p_k(d) = g_k + S(d) + t(z_k + d),

``g_k`` the gain of the slice, ``S`` the sensitivity (focus, roll-off, attenuation) and ``t`` the tissue itself.
All slices together determine the three, without taking anatomy for attenuation: only where the
tissue really is the same does an equation connect two depths. What remains undetermined (a trend in ``g``
against a trend in ``t`` and ``S``) is settled by priors: gains scatter independently about one value, the tissue
strays little from its mean and slowly, S and t are smooth. With many slices these priors hardly matter; with
a handful, a trend of the gains over the stack remains in the result by the share that they leave.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

from soct.errors import InputError
from soct.space import Array

GAIN_SIGMA = 0.2
TISSUE_SIGMA = 0.15
TISSUE_LENGTH_PX = 50.0
MAX_TISSUE_KNOTS = 1200
ROUNDS = 6


@dataclass(frozen=True)
class DepthSensitivity:
    """Solution of the common model.

    Attributes
    ----------
    log_sensitivity : ndarray (d,) float64
        ``S``, at most 0 (largest value 0), finite at every depth.
    log_gain : ndarray (n,) float64
        ``g_k``, weighted mean 0.
    tissue_level : ndarray (m,) float64
        ``exp(t)`` on the common depth axis, NaN where nothing was seen.
    tissue_start_px : float
        Depth of the first entry of `tissue_level`.
    residual : float
        Robust spread of what the model leaves, in log units.
    measured : ndarray (d,) bool
        Depths at which S rests on data; elsewhere it is continued.
    reason : str
        What was done, in words.
    """

    log_sensitivity: Array
    log_gain: Array
    tissue_level: Array
    tissue_start_px: float
    residual: float
    measured: Array
    reason: str


def solve_depth_sensitivity(
    mean_profiles: Array,
    z_offset_px: Array,
    *,
    weights: Array | None = None,
    gain_sigma: float = GAIN_SIGMA,
    tissue_sigma: float = TISSUE_SIGMA,
    smooth_sensitivity: float = 0.01,
    smooth_tissue: float = 0.05,
) -> DepthSensitivity:
    """Solve sensitivity, gains and tissue level from the depth profiles of all slices.

    Parameters
    ----------
    mean_profiles : ndarray (n, d)
        Mean brightness above the floor of every slice over depth below the surface, in tissue
        (`DepthSums.below_surface`); values that are not positive are no data.
    z_offset_px : ndarray (n,)
        Depth of each slice's surface on a common axis, in samples.
    weights : ndarray (n, d), optional
        Relative trust (A-lines counted).
    gain_sigma : float
        Expected scatter of the log gains.
    tissue_sigma : float
        Expected scatter of the log tissue level, independent about every 50 samples.
    smooth_sensitivity, smooth_tissue : float
        Expected second difference, per sample, of S and t.

    Returns
    -------
    DepthSensitivity

    Raises
    ------
    InputError
        When the shapes don't fit.
    """
    profiles = np.atleast_2d(np.asarray(mean_profiles, dtype=float))
    offsets = np.asarray(z_offset_px, dtype=float)
    n, depth = profiles.shape
    if offsets.shape != (n,) or depth < 4 or (weights is not None and weights.shape != (n, depth)):
        raise InputError(
            "Every profile needs one offset and one weight per depth",
            expected=f"({n},) and ({n}, {depth})",
            found=f"{offsets.shape} and {None if weights is None else weights.shape}",
        )
    trust = np.ones((n, depth)) if weights is None else np.asarray(weights, dtype=float)
    seen = np.isfinite(profiles) & (profiles > 0) & (trust > 0)
    if not seen.any():
        return _no_sensitivity(n, depth)
    start = float(offsets[seen.any(1)].min())
    k, d = np.nonzero(seen)
    y = np.log(profiles[k, d])
    at = np.clip(offsets[k] + d - start, 0, None)
    # A long, finely sampled stack carries its tissue level on coarser knots, which bounds the system.
    spacing = max(1.0, float(np.ceil(at.max() / MAX_TISSUE_KNOTS)))
    at = at / spacing
    n_tissue = int(np.floor(at.max())) + 2
    low = np.floor(at).astype(int)
    part = at - low
    unknowns = n + depth + n_tissue
    trust = np.sqrt(trust[k, d] / trust[k, d].max())
    robust = np.ones_like(y)
    solution = np.zeros(unknowns)
    spread = 0.02
    for _ in range(ROUNDS):
        matrix = np.zeros((unknowns, unknowns))
        right = np.zeros(unknowns)
        w = trust * robust / max(spread, 0.003) ** 2
        columns = np.stack([k, n + d, n + depth + low, n + depth + low + 1])
        values = np.stack([np.ones_like(y), np.ones_like(y), 1 - part, part])
        for a in range(4):
            np.add.at(right, columns[a], w * values[a] * y)
            for b in range(4):
                np.add.at(matrix, (columns[a], columns[b]), w * values[a] * values[b])
        # Second differences are one correlated measurement per sample of both curves, not per voxel.
        _add_smoothness(matrix, n, depth, smooth_sensitivity)
        _add_smoothness(matrix, n + depth, n_tissue, smooth_tissue * spacing**1.5)
        matrix[np.arange(n), np.arange(n)] += 1 / gain_sigma**2
        matrix[n + depth :, n + depth :] += (np.eye(n_tissue) - 1 / n_tissue) / (
            tissue_sigma**2 * TISSUE_LENGTH_PX / spacing
        )
        matrix[n : n + depth, n : n + depth] += 1e-3 / depth
        matrix[np.diag_indices(unknowns)] += 1e-6
        with threadpool_limits(1, "blas"):
            solution = linalg.solve(matrix, right, assume_a="pos")
        fitted = (values * solution[columns]).sum(0)
        residual = y - fitted
        spread = 1.4826 * float(np.median(np.abs(residual))) + 1e-4
        robust = 1 / np.maximum(np.abs(residual) / (2 * spread), 1)
    gain, sensitivity = solution[:n], solution[n : n + depth]
    measured = np.zeros(depth, bool)
    measured[d] = True
    shift = sensitivity[measured].max() + gain.mean()
    depths = np.arange(int(at.max() * spacing) + 1)
    level = np.exp(np.interp(depths, spacing * np.arange(n_tissue), solution[n + depth :]) + shift)
    level[~np.isin(np.round(depths), np.round(at * spacing))] = np.nan
    return DepthSensitivity(
        sensitivity - sensitivity[measured].max(),
        gain - gain.mean(),
        level,
        start,
        spread,
        measured,
        f"{int(seen.any(1).sum())} slices, residual {spread:.3f}",
    )


def _add_smoothness(matrix: Array, start: int, count: int, sigma: float) -> None:
    for i in range(start + 1, start + count - 1):
        block = np.ix_([i - 1, i, i + 1], [i - 1, i, i + 1])
        matrix[block] += np.outer([1, -2, 1], [1, -2, 1]) / sigma**2


def _no_sensitivity(n: int, depth: int) -> DepthSensitivity:
    return DepthSensitivity(
        np.zeros(depth),
        np.zeros(n),
        np.zeros(0),
        0.0,
        0.0,
        np.zeros(depth, bool),
        "no slice holds any tissue: the sensitivity is taken as constant",
    )
