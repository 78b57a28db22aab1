"""The fit behind the flat field: cosine coefficients that the tiles share.

How far the mean over tiles can be trusted is measured twice: by its scatter from place to place of the
sample, and by the overlap equations, which are free of anatomy and tell when neighbouring places are alike.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft, linalg
from scipy import ndimage as ndi
from threadpoolctl import threadpool_limits

from soct.intensity.overlap_equations import OverlapEquations
from soct.space import Array, FloatArray

LOW_ORDER = 10
BOWL_SIGMA = 0.3
ROUND_SIGMA = 0.05
OTHER_SIGMA = 0.05
RELAXATIONS = 5


@dataclass(frozen=True)
class LogFlatFit:
    """Result of `fit_log_flat`.

    Attributes
    ----------
    coefficients : ndarray (y, x) float64
        Orthonormal cosine coefficients of the log flat field; the first is 0.
    baseline : ndarray (n,) float64
        Log brightness of every tile, NaN for those without a vote.
    equations, iterations : int
        Overlap equations and rounds of reweighting used.
    converged : bool
        Whether the last round changed log F by less than 0.0005 anywhere.
    """

    coefficients: Array
    baseline: Array
    equations: int
    iterations: int
    converged: bool


def fit_log_flat(
    logs: FloatArray,
    tissue: Array,
    votes: FloatArray,
    equations: OverlapEquations | None,
    places: Array,
    smoothness: float,
    max_iterations: int,
) -> LogFlatFit:
    """Fit the cosine coefficients of log F by reweighted least squares.

    Parameters
    ----------
    logs : ndarray (n, y, x)
        Log brightness of the tiles.
    tissue : ndarray (n, y, x) bool
        Pixels that count.
    votes : ndarray (n,)
        Weight of each tile, 0 for none.
    equations : OverlapEquations, optional
    places : ndarray (n,) int
        From `cluster_places`.
    smoothness : float
        Standard errors that a fine coefficient must reach.
    max_iterations : int
        Limit on the rounds; beyond 15 nothing changes.
    """
    use = np.flatnonzero(votes > 0)
    logs, mask, votes_used = logs[use], tissue[use], votes[use]
    flat = np.zeros(logs.shape[1:])
    coefficients = np.zeros(logs.shape[1:])
    baseline = np.zeros(len(use))
    spectrum: Array | None = None
    converged, rounds = False, 0
    while rounds < min(max_iterations, 15) and not converged:
        rounds += 1
        residual = np.where(mask, logs - flat.astype(np.float32), np.nan)
        baseline = np.array([_centre(r) for r in residual])
        residual -= baseline[:, None, None].astype(np.float32)
        # What leaves the bulk of a tile (vessels, edges, dust) loses its weight: the reweighted L1 step.
        bulk = 1.4826 * float(np.nanmedian(np.abs(residual))) + 1e-6
        weight = np.where(
            mask, 1 / np.maximum(np.abs(np.nan_to_num(residual)) / (1.5 * bulk), 1), 0
        )
        weight = (weight * votes_used[:, None, None]).astype(np.float32)
        filled = np.nan_to_num(residual)
        total = weight.sum(0)
        update = (filled * weight).sum(0) / np.maximum(total, 1e-3 * max(float(total.max()), 1e-9))
        if spectrum is None:
            spectrum = _tile_scatter(filled * mask, votes_used, places[use])
        measured = fft.dctn(flat + update, norm="ortho")
        new = _shrink(measured, spectrum, equations, smoothness)
        change = float(np.abs(fft.idctn(new - coefficients, norm="ortho")).max())
        coefficients = new
        flat = fft.idctn(coefficients, norm="ortho")
        converged = change < 5e-4
    every = np.full(len(votes), np.nan)
    every[use] = baseline
    return LogFlatFit(
        coefficients, every, 0 if equations is None else len(equations.ratio), rounds, converged
    )


def _centre(residual: Array) -> float:
    values = residual[np.isfinite(residual)]
    return float(values.mean()) if values.size else 0.0


def cluster_places(positions_px: Array | None, shape: tuple[int, ...]) -> Array:
    """Give tiles that look at the same place of the sample, in whatever slice, one number.

    Consecutive slices show nearly the same anatomy at the same place, so only places are independent samples of it.
    """
    if positions_px is None:
        return np.arange(shape[0])
    positions = np.nan_to_num(np.asarray(positions_px, dtype=float))
    cells = np.round((positions - positions.min(0)) / (0.6 * np.array(shape[1:]))).astype(int)
    return np.asarray(np.unique(cells, axis=0, return_inverse=True)[1]).ravel()


def _tile_scatter(residual: Array, votes: Array, places: Array) -> Array:
    """Squared standard error of every cosine coefficient of the mean over tiles."""
    transformed = fft.dctn(residual, axes=(1, 2), norm="ortho")
    labels, member = np.unique(places, return_inverse=True)
    n = len(labels)
    share = np.bincount(member, votes)
    pooled = np.zeros((n, *transformed.shape[1:]), np.float32)
    for tile, place in enumerate(member):
        pooled[place] += transformed[tile] * (votes[tile] / share[place])
    if n < 3:
        # Two places cannot show what they share: nothing is significant.
        return np.asarray((pooled**2).max(0) + 1e-9)
    effective = share.sum() ** 2 / (share**2).sum()
    power = ((pooled - pooled.mean(0)) ** 2).sum(0) / (n - 1)
    smooth = ndi.uniform_filter(power, 3, mode="nearest")
    return np.asarray(np.maximum(power, smooth) / effective + 1e-12)


def _shrink(
    measured: Array, error: Array, equations: OverlapEquations | None, smoothness: float
) -> Array:
    """Keep what is alike in all tiles: low orders by a joint fit, fine ones by significance."""
    n_y, n_x = measured.shape
    ky, kx = np.mgrid[: min(LOW_ORDER, n_y), : min(LOW_ORDER, n_x)]
    ky, kx = ky.ravel()[1:], kx.ravel()[1:]
    target, variance = measured[ky, kx], error[ky, kx]
    bowls = _bowl_coefficients(measured.shape)
    rest = _usual_strength(ky, kx, measured.shape)
    normal, right = np.zeros((len(ky), len(ky))), np.zeros(len(ky))
    if equations is not None:
        normal, right = equations.normal_equations(ky, kx, measured.shape, target)
        variance = variance * _anatomy_excess(
            normal + _prior_precision(bowls[:, ky, kx], rest),
            right,
            target,
            variance,
            np.maximum(ky, kx) <= 3,
        )
    normal, right = normal + np.diag(1 / variance), right + target / variance
    with threadpool_limits(1, "blas"):
        for _ in range(RELAXATIONS):
            prior = _prior_precision(bowls[:, ky, kx], rest)
            low = linalg.solve(normal + prior, right, assume_a="pos")
            # A coefficient that the tiles insist on is no longer held back: the prior is sparse, not just small.
            rest = np.maximum(rest, np.abs(rest**2 * (prior @ low)))
        # A bowl's cosine series has a long tail; the low orders tell the bowl, and the bowl the rest of the tail.
        tail = np.tensordot(bowls[:, ky, kx] @ (prior @ low), bowls, 1)
    detail = measured - tail
    kept = tail + np.where(detail**2 > smoothness**2 * error, detail, 0.0)
    kept[ky, kx] = low
    kept[0, 0] = 0
    return np.asarray(kept)


def _bowl_coefficients(shape: tuple[int, ...]) -> Array:
    """Cosine coefficients (b, y, x) of the bowls that a log flat field is made of, at their usual strength.

    Vignetting and tilt are polynomials of second order, of any strength that occurs, and round ones up to the
    fourth, since the logarithm bends a deep bowl.
    """
    y = (np.arange(shape[0])[:, None] * 2 + 1) / shape[0] - np.ones((1, shape[1]))
    x = (np.arange(shape[1])[None] * 2 + 1) / shape[1] - np.ones((shape[0], 1))
    radius = y * y + x * x
    bent = ROUND_SIGMA / BOWL_SIGMA
    bowls = [y, x, y * y, x * x, 0.5 * x * y]
    bowls += [bent * radius**2, 0.5 * bent * radius * y, 0.5 * bent * radius * x]
    return np.asarray(fft.dctn(BOWL_SIGMA * np.stack(bowls), axes=(1, 2), norm="ortho"))


def _usual_strength(ky: Array, kx: Array, shape: tuple[int, ...]) -> Array:
    """Give the standard deviation of each cosine coefficient of what a log flat field is beside its bowl.

    It falls with the square of the order; optics are nearly separable, so what bends along both axes is small.
    """
    order = np.maximum(ky, 1.0) ** 2 * np.maximum(kx, 1.0) ** 2
    size = np.sqrt(shape[0] * shape[1])
    return np.asarray(np.where((ky > 0) & (kx > 0), 0.4 * OTHER_SIGMA, OTHER_SIGMA) * size / order)


def _prior_precision(bowls: Array, rest: Array) -> Array:
    """Inverse covariance of the cosine coefficients of a log flat field before any tile is seen."""
    with threadpool_limits(1, "blas"):
        return np.asarray(linalg.inv(bowls.T @ bowls + np.diag(rest**2)))


def _anatomy_excess(
    normal: Array, right: Array, target: Array, variance: Array, coarse: Array
) -> float:
    """Judge by the overlaps how much more the mean over tiles is off than its scatter says.

    Anatomy larger than a tile makes neighbouring tiles alike and their mean seem certain; the overlap
    equations are free of it. The factor on the variance is the likeliest one for the coarse orders.
    """
    factors = 2.0 ** np.arange(0, 10, 0.5)
    scores = []
    with threadpool_limits(1, "blas"):
        inverse = linalg.inv(normal)
        difference = (target - inverse @ right)[coarse]
        covariance = inverse[np.ix_(coarse, coarse)]
        for factor in factors:
            total = linalg.cholesky(covariance + np.diag(factor * variance[coarse]), lower=True)
            scaled = linalg.solve_triangular(total, difference, lower=True)
            scores.append(-0.5 * float(scaled @ scaled) - float(np.log(np.diag(total)).sum()))
    return float(factors[int(np.argmax(scores))])
