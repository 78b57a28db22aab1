"""The fit behind the flat field: cosine coefficients that the tiles share.

How far the mean over tiles can be trusted is measured twice: by its scatter from place to place of the
sample, and by the overlap equations, which are free of anatomy and tell when neighbouring places are alike.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numba import njit
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
    # The last bits of BLAS depend on its number of threads.
    with threadpool_limits(1, "blas"):
        fit = _fit_tiles(
            np.ascontiguousarray(logs[use], np.float32),
            np.ascontiguousarray(tissue[use]),
            votes[use].astype(np.float64),
            equations,
            places[use],
            smoothness,
            max_iterations,
        )
    every = np.full(len(votes), np.nan)
    every[use] = fit.baseline
    return replace(fit, baseline=every)


def _fit_tiles(
    logs: FloatArray,
    mask: Array,
    votes: Array,
    equations: OverlapEquations | None,
    places: Array,
    smoothness: float,
    max_iterations: int,
) -> LogFlatFit:
    flat = np.zeros(logs.shape[1:])
    coefficients = np.zeros(logs.shape[1:])
    baseline = np.zeros(len(logs))
    error: Array | None = None
    low = _prepare_low_orders((logs.shape[1], logs.shape[2]), equations)
    converged, rounds = False, 0
    while rounds < min(max_iterations, 15) and not converged:
        rounds += 1
        baseline = _mean_residuals(logs, mask, flat)
        bulk = _bulk(logs, mask, flat, baseline)
        update = _average_residuals(logs, mask, votes, flat, baseline, 1.5 * bulk)
        if error is None:
            residual = np.where(mask, logs - baseline[:, None, None].astype(np.float32), 0)
            error = _tile_scatter(residual, votes, places)
        measured = fft.dctn(flat + update, norm="ortho")
        new = _shrink(measured, error, low, equations, smoothness)
        change = float(np.abs(fft.idctn(new - coefficients, norm="ortho")).max())
        coefficients = new
        flat = fft.idctn(coefficients, norm="ortho")
        converged = change < 5e-4
    count = 0 if equations is None else len(equations.ratio)
    return LogFlatFit(coefficients, baseline, count, rounds, converged)


def _bulk(logs: FloatArray, mask: Array, flat: Array, baseline: Array) -> float:
    """Robust spread of what the flat field leaves, from at most about 400,000 pixels."""
    every = max(1, int(np.sqrt(logs.size / 200_000)))
    known = mask[:, ::every, ::every]
    residual = logs[:, ::every, ::every] - (flat[::every, ::every] + baseline[:, None, None])
    return 1.4826 * float(np.median(np.abs(residual[known]))) + 1e-6 if known.any() else 1.0


@njit(cache=True, nogil=True)
def _mean_residuals(logs: FloatArray, mask: Array, flat: Array) -> Array:
    """Log brightness of every tile over its pixels that count."""
    n, ny, nx = logs.shape
    out = np.zeros(n)
    for i in range(n):
        total, count = 0.0, 0
        for y in range(ny):
            for x in range(nx):
                if mask[i, y, x]:
                    total += logs[i, y, x] - flat[y, x]
                    count += 1
        if count > 0:
            out[i] = total / count
    return out


@njit(cache=True, nogil=True)
def _average_residuals(
    logs: FloatArray, mask: Array, votes: Array, flat: Array, baseline: Array, reach: float
) -> Array:
    """Robust mean over tiles of what the flat field leaves.

    What leaves the bulk of a tile (vessels, edges, dust) loses its weight: the reweighted L1 step.
    """
    n, ny, nx = logs.shape
    total = np.zeros((ny, nx))
    weight = np.zeros((ny, nx))
    for i in range(n):
        for y in range(ny):
            for x in range(nx):
                if mask[i, y, x]:
                    residual = logs[i, y, x] - flat[y, x] - baseline[i]
                    w = votes[i] / max(abs(residual) / reach, 1.0)
                    total[y, x] += w * residual
                    weight[y, x] += w
    least = 1e-3 * max(weight.max(), 1e-9)
    return total / np.maximum(weight, least)


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


@dataclass(frozen=True)
class _LowOrders:
    """What stays the same from round to round: the orders fitted jointly, and what is known of them beforehand."""

    ky: Array
    kx: Array
    bowls: Array
    rest: Array
    design: Array | None


def _prepare_low_orders(shape: tuple[int, int], equations: OverlapEquations | None) -> _LowOrders:
    orders = (min(LOW_ORDER, shape[0]), min(LOW_ORDER, shape[1]))
    ky, kx = (k.ravel()[1:] for k in np.mgrid[: orders[0], : orders[1]])
    design = None if equations is None else equations.design(orders, shape)
    return _LowOrders(ky, kx, _bowl_coefficients(shape), _usual_strength(ky, kx, shape), design)


def _shrink(
    measured: Array,
    error: Array,
    orders: _LowOrders,
    equations: OverlapEquations | None,
    smoothness: float,
) -> Array:
    """Keep what is alike in all tiles: low orders by a joint fit, fine ones by significance."""
    ky, kx, rest = orders.ky, orders.kx, orders.rest
    bowls = orders.bowls[:, ky, kx]
    target, variance = measured[ky, kx], error[ky, kx]
    normal, right = np.zeros((len(ky), len(ky))), np.zeros(len(ky))
    if equations is not None and orders.design is not None:
        normal, right = equations.normal_equations(orders.design, target)
        variance = variance * _anatomy_excess(
            normal + _prior_precision(bowls, rest),
            right,
            target,
            variance,
            np.maximum(ky, kx) <= 3,
        )
    normal, right = normal + np.diag(1 / variance), right + target / variance
    for _ in range(RELAXATIONS):
        prior = _prior_precision(bowls, rest)
        low = linalg.solve(normal + prior, right, assume_a="pos")
        # A coefficient that the tiles insist on is no longer held back: the prior is sparse, not just small.
        rest = np.maximum(rest, np.abs(rest**2 * (prior @ low)))
    # A bowl's cosine series has a long tail; the low orders tell the bowl, and the bowl the rest of the tail.
    tail = np.tensordot(bowls @ (prior @ low), orders.bowls, 1)
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
    inverse = linalg.inv(normal)
    difference = (target - inverse @ right)[coarse]
    covariance = inverse[np.ix_(coarse, coarse)]
    for factor in factors:
        total = linalg.cholesky(covariance + np.diag(factor * variance[coarse]), lower=True)
        scaled = linalg.solve_triangular(total, difference, lower=True)
        scores.append(-0.5 * float(scaled @ scaled) - float(np.log(np.diag(total)).sum()))
    return float(factors[int(np.argmax(scores))])
