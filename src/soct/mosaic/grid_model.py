"""The grid as the camera sees it: a 2 x 2 matrix from stage steps to image steps.

The stage's axes and the image's axes differ by a small angle, a scale and a shear. The matrix is the same for all tiles
of a run, so it is fitted robustly from all measured pairs, and it places what cannot be measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_DEFAULT_SCATTER_PX = 2.0


@dataclass(frozen=True)
class GridModel:
    """Image steps from nominal steps: ``step = matrix @ nominal_step``.

    Attributes
    ----------
    matrix : float64 ndarray (2, 2)
        Rows and columns in ``(y, x)`` order.
    scatter_px : float
        Standard deviation per axis of a tile about the model.
    n_pairs : int
        Measured pairs behind it; 0 means that it is only nominal.
    """

    matrix: NDArray[np.float64]
    scatter_px: float = _DEFAULT_SCATTER_PX
    n_pairs: int = 0

    def steps(self, nominal_steps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return steps in image pixels, ``(n, 2)``, for nominal steps ``(n, 2)``."""
        result: NDArray[np.float64] = np.asarray(nominal_steps, np.float64) @ self.matrix.T
        return result

    def positions(self, nominal_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return positions about the centroid of the nominal ones, ``(n, 2)``."""
        centre = np.nanmean(nominal_px, axis=0)
        return self.steps(nominal_px - centre) + centre


def nominal_model(scatter_px: float = _DEFAULT_SCATTER_PX) -> GridModel:
    """Build the model that believes the nominal positions."""
    return GridModel(np.eye(2), scatter_px, 0)


def fit_grid_model(
    steps: NDArray[np.float64],
    offsets_px: NDArray[np.float64],
    weights: NDArray[np.float64] | None = None,
    *,
    looseness: float = 0.03,
) -> GridModel:
    """Fit the matrix robustly (iteratively reweighted, Geman-McClure).

    Parameters
    ----------
    steps : ndarray (m, 2)
        Nominal offsets of the pairs.
    offsets_px : ndarray (m, 2)
        Measured offsets.
    weights : ndarray (m,), optional
    looseness : float
        Standard deviation of the matrix's elements about the identity beforehand. It decides only where the pairs
        do not: a single row of tiles says nothing about the other axis.
    """
    weights = np.ones(len(steps)) if weights is None else np.asarray(weights, np.float64)
    good = np.isfinite(offsets_px).all(axis=1) & (weights > 0)
    if not good.any():
        return nominal_model()
    steps, offsets, base = steps[good], offsets_px[good], weights[good]
    matrix: NDArray[np.float64] = np.eye(2)
    robust = np.ones(len(steps))
    residual = offsets - steps
    scale = np.inf
    for _ in range(20):
        w = base * robust
        noise = max(_weighted_scale(residual, w), 0.3)
        ridge = (noise / looseness) ** 2 * np.eye(2)
        left = (w[:, None] * steps).T @ steps + ridge
        right = (w[:, None] * offsets).T @ steps + ridge
        before, matrix = matrix, np.asarray(np.linalg.solve(left, right.T).T, np.float64)
        residual = offsets - steps @ matrix.T
        last, scale = (
            scale,
            max(min(scale * 0.7, 6.0 * _median_scale(residual, base)), 3.0 * noise, 1.0),
        )
        if scale == last and np.abs(matrix - before).max() < 1e-9:
            break
        robust = 1.0 / (1.0 + (residual**2).sum(axis=1) / scale**2) ** 2
    # A pair's residual is the difference of two tiles' deviations.
    scatter = _median_scale(residual, base) / np.sqrt(2.0)
    return GridModel(matrix, max(scatter, 0.05), int(good.sum()))


def _weighted_median(values: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    order = np.argsort(values)
    cumulative = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(cumulative, 0.5 * cumulative[-1])])


def _median_scale(residual: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    """Robust standard deviation per axis from lengths (median of a Rayleigh variate is 1.1774 sigma)."""
    return _weighted_median(np.hypot(residual[:, 0], residual[:, 1]), weights) / 1.1774


def _weighted_scale(residual: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    total = float(weights.sum())
    if total <= 0:
        return _DEFAULT_SCATTER_PX
    return float(np.sqrt((weights * (residual**2).sum(axis=1)).sum() / (2.0 * total)))
