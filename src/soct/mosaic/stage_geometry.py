"""How the stage's axes look to the camera: rotation, shear and scale, from where the tiles of a slice came to lie.

Unlike `soct.mosaic.grid_model`, which places tiles and therefore leans towards the identity, this is a measurement:
nothing pulls it, it comes with standard errors, and an axis along which the tiles do not spread stays unmeasured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_SIGMA_PX = 0.02
"""No overlap is measured better than this, however well the tiles happen to fit."""
_BIWEIGHT = 4.685


@dataclass(frozen=True)
class StageGeometry:
    """Image steps against stage steps: ``step = matrix @ nominal_step``.

    Attributes
    ----------
    matrix, sigma : float64 ndarray (2, 2)
        Over ``(y, x)``, and the standard error of each element; NaN in the column of an axis that was not measured.
    scatter_px : float
        Standard deviation per axis of a tile about the model; NaN where the tiles just suffice for the fit.
    n_tiles : int
        Tiles that were used.
    """

    matrix: NDArray[np.float64]
    sigma: NDArray[np.float64]
    scatter_px: float
    n_tiles: int

    @property
    def axis_angles_deg(self) -> tuple[float, float]:
        """Rotation of the image of the stage's y and x axis, positive from +x towards +y."""
        m = self.matrix
        return (
            float(np.degrees(np.arctan2(-m[1, 0], m[0, 0]))),
            float(np.degrees(np.arctan2(m[0, 1], m[1, 1]))),
        )

    @property
    def rotation_deg(self) -> float:
        """Rotation of the stage against the camera: the mean over the axes that were measured."""
        angles = [a for a in self.axis_angles_deg if np.isfinite(a)]
        return float(np.mean(angles)) if angles else float("nan")

    @property
    def rotation_error_deg(self) -> float:
        """Return the standard error of `rotation_deg`."""
        errors = np.array([self.sigma[1, 0], self.sigma[0, 1]])
        errors = errors[np.isfinite(errors)]
        if not errors.size:
            return float("nan")
        return float(np.degrees(np.sqrt((errors**2).sum()) / errors.size))

    @property
    def shear_deg(self) -> float:
        """By how much the angle between the stage's axes differs from a right angle; NaN for a single row."""
        y, x = self.axis_angles_deg
        return x - y

    @property
    def scale(self) -> tuple[float, float]:
        """Length of the image of a unit step along y and x."""
        y, x = np.hypot(*self.matrix)
        return float(y), float(x)

    @property
    def scale_error(self) -> tuple[float, float]:
        """Return the standard errors of `scale`."""
        return float(self.sigma[0, 0]), float(self.sigma[1, 1])

    def corner_error_px(self, extent_px: tuple[float, float]) -> float:
        """Greatest distance, at a mosaic's corners, between the image and the stage's word; about the middle."""
        matrix = np.where(np.isfinite(self.matrix), self.matrix, np.eye(2))
        corners = 0.5 * np.array([(extent_px[0], extent_px[1]), (extent_px[0], -extent_px[1])])
        return float(np.hypot(*(corners @ (matrix - np.eye(2)).T).T).max())


def measure_stage_geometry(
    nominal_px: NDArray[np.float64],
    positions_px: NDArray[np.float64],
    used: NDArray[np.bool_] | None = None,
) -> StageGeometry:
    """Fit the matrix to the tiles of one slice (Tukey's biweight).

    Parameters
    ----------
    nominal_px, positions_px : ndarray (n, 2)
        Where the stage says that each tile is, and where it was found.
    used : bool ndarray (n,), optional
        Tiles that measured pairs join to one group; others only repeat a model.
    """
    nominal = np.asarray(nominal_px, np.float64).reshape(-1, 2)
    found = np.asarray(positions_px, np.float64).reshape(-1, 2)
    good = np.isfinite(nominal).all(axis=1) & np.isfinite(found).all(axis=1)
    if used is not None:
        good &= used
    nominal, found = nominal[good], found[good]
    n = len(nominal)
    axes = [k for k in (0, 1) if n > 1 and np.ptp(nominal[:, k]) > 1.0]
    if not axes or n < len(axes) + 1:
        unknown = np.full((2, 2), np.nan)
        return StageGeometry(unknown, unknown.copy(), float("nan"), n)
    centred = nominal - nominal.mean(axis=0)
    design = np.column_stack([np.ones(n), centred[:, axes]])
    weight = np.ones(n)
    spread = 0.0
    solution = np.zeros((design.shape[1], 2))
    for _ in range(20):
        root = np.sqrt(weight)[:, None]
        solution = np.linalg.lstsq(root * design, root * found, rcond=None)[0]
        residual = np.hypot(*(found - design @ solution).T)
        spread = max(float(np.median(residual)) / 1.1774, LEAST_SIGMA_PX)
        weight = np.clip(1 - (residual / (_BIWEIGHT * spread)) ** 2, 0, None) ** 2
        if np.count_nonzero(weight > 0.01) <= design.shape[1]:
            weight = np.ones(n)
            break
    freedom = float(weight.sum()) - design.shape[1]
    residual = found - design @ solution
    scatter = float("nan")
    if freedom > 0.5:
        scatter = float(np.sqrt((weight[:, None] * residual**2).sum() / (2 * freedom)))
    sigma_px = max(LEAST_SIGMA_PX, scatter if np.isfinite(scatter) else 0.0)
    covariance = np.linalg.pinv((weight[:, None] * design).T @ design)
    matrix, sigma = np.full((2, 2), np.nan), np.full((2, 2), np.nan)
    for place, axis in enumerate(axes, 1):
        matrix[:, axis] = solution[place]
        sigma[:, axis] = sigma_px * np.sqrt(covariance[place, place])
    return StageGeometry(matrix, sigma, scatter, n)


def largest_group(
    n_tiles: int, pairs: NDArray[np.int64], accepted: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which tiles belong to the largest group that accepted pairs join; none without such pairs."""
    label = np.arange(n_tiles)
    joined = np.asarray(pairs, np.int64).reshape(-1, 2)[np.asarray(accepted, bool)]
    for _ in range(n_tiles):
        low = np.minimum(label[joined[:, 0]], label[joined[:, 1]])
        before = label.copy()
        np.minimum.at(label, joined[:, 0], low)
        np.minimum.at(label, joined[:, 1], low)
        if np.array_equal(before, label):
            break
    if not len(joined):
        return np.zeros(n_tiles, bool)
    return np.asarray(label == np.bincount(label).argmax())


@dataclass(frozen=True)
class PooledGeometry:
    """What the slices of a run agree on.

    Attributes
    ----------
    mean, error : float
        Weighted mean over the slices, and its standard error.
    spread : float
        Standard deviation over the slices; NaN for fewer than two.
    expected_spread : float
        The spread that the slices' own errors explain.
    n : int
        Slices with a measurement.
    """

    mean: float
    error: float
    spread: float
    expected_spread: float
    n: int

    @property
    def is_stable(self) -> bool:
        """Whether the slices differ by no more than their errors explain (within a factor of two)."""
        return self.n < 2 or self.spread <= 2.0 * self.expected_spread

    @property
    def is_significant(self) -> bool:
        """Whether the mean differs from 0 by more than three standard errors."""
        return self.n > 0 and abs(self.mean) > 3.0 * self.error


def pool_slices(values: NDArray[np.float64], errors: NDArray[np.float64]) -> PooledGeometry:
    """Average a quantity over slices by its errors; slices without a measurement (NaN) are left out."""
    values, errors = np.asarray(values, np.float64), np.asarray(errors, np.float64)
    good = np.isfinite(values) & np.isfinite(errors) & (errors > 0)
    values, errors = values[good], errors[good]
    if not values.size:
        return PooledGeometry(*(float("nan"),) * 4, 0)
    # A handful of tiles that happen to fit well must not outvote the other slices.
    weight = 1.0 / np.maximum(errors, np.median(errors)) ** 2
    mean = float((weight * values).sum() / weight.sum())
    own = float(1.0 / np.sqrt(weight.sum()))
    spread = float(values.std(ddof=1)) if values.size > 1 else float("nan")
    observed = spread / np.sqrt(values.size) if values.size > 1 else 0.0
    return PooledGeometry(mean, max(own, observed), spread, float(np.median(errors)), values.size)
