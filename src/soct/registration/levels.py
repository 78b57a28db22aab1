"""Two slices at falling resolution, ready to be compared."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from soct.registration.coherence import apply_filter, matched_filter
from soct.registration.contrast import (
    BoolArray,
    block_mean,
    gaussian_weights,
    local_contrast,
    log_intensity,
    smooth,
)
from soct.registration.newton import Model, NewtonResult, align
from soct.registration.row_sums import Matrix
from soct.registration.spline import spline_coefficients
from soct.space import FloatArray

LEAST_SIDE_PX = 24
_COARSE_PX = 160
_WINDOW_PX = 12.0
_ROWS = 160


@dataclass(frozen=True)
class Side:
    """One stack at one level: local contrast, its smooth form, and where each is valid."""

    contrast: FloatArray
    valid: BoolArray
    inner: BoolArray

    @cached_property
    def smooth(self) -> FloatArray:
        """Low-passed contrast; made when first asked for, which the finest level seldom is."""
        return smooth(self.contrast, self.valid, gaussian_weights(1.0))

    @cached_property
    def coefficients(self) -> FloatArray:
        """Spline coefficients of `smooth`."""
        return spline_coefficients(self.smooth)

    @cached_property
    def inner_pixels(self) -> int:
        """How many pixels can be compared, over all planes."""
        return int(np.count_nonzero(self.inner))


@dataclass(frozen=True)
class Level:
    """Both stacks reduced by `factor`."""

    factor: int
    fixed: Side
    moving: Side

    @property
    def row_step(self) -> int:
        """Every which row of a plane a refinement looks at; other planes fill in for the rows left out."""
        planes, h, _ = self.fixed.valid.shape
        return max(1, h * planes // (_ROWS * min(planes, 2)))

    def swapped(self) -> Level:
        """Return the level with the roles exchanged."""
        return Level(self.factor, self.moving, self.fixed)

    def to_full(self, matrix: Matrix) -> Matrix:
        """Rewrite a transform between level pixels for full-resolution pixels."""
        return _scaled(matrix, float(self.factor))

    def from_full(self, matrix: Matrix) -> Matrix:
        """Rewrite a transform between full-resolution pixels for level pixels."""
        place = pixel_matrix(float(self.factor))
        return np.linalg.inv(place) @ matrix @ place

    def refine(self, matrix: Matrix, model: Model, steps: int, tolerance: float) -> NewtonResult:
        """Align the smooth images from a full-resolution start; the result is in level pixels.

        Wide levels look at some of their rows: neighbouring rows of a smooth image say the same.
        """
        return align(
            self.fixed.smooth,
            self.fixed.inner,
            self.moving.coefficients,
            self.moving.inner,
            self.from_full(matrix),
            model,
            max_steps=steps,
            tolerance_px=tolerance,
            row_step=self.row_step,
        )


def pixel_matrix(factor: float) -> Matrix:
    """Level pixel to full pixel: a block's centre lies half a block from its first pixel."""
    half = (factor - 1.0) / 2.0
    return np.array([[factor, 0.0, half], [0.0, factor, half], [0.0, 0.0, 1.0]])


def _scaled(matrix: Matrix, factor: float) -> Matrix:
    place = pixel_matrix(factor)
    return place @ matrix @ np.linalg.inv(place)


@njit(cache=True, nogil=True)
def _inner(valid: BoolArray) -> BoolArray:  # pragma: no cover - compiled
    """Keep valid pixels whose neighbours up to two steps away are valid too: gradients and taps stay inside."""
    k, h, w = valid.shape
    out = valid.copy()
    before = np.empty((h, w), dtype=np.bool_)
    for p in range(k):
        for _ in range(2):
            before[:] = out[p]
            for y in range(h):
                above, below = before[max(y - 1, 0)], before[min(y + 1, h - 1)]
                here, to = before[y], out[p, y]
                for x in range(w):
                    to[x] &= above[x] & below[x] & here[max(x - 1, 0)] & here[min(x + 1, w - 1)]
    return out


def _side(images: FloatArray, valid: BoolArray) -> Side:
    contrast = local_contrast(log_intensity(images, valid), valid, _WINDOW_PX)
    return Side(contrast, valid, valid if valid.all() else _inner(valid))


def gathered(side: Side, planes: int) -> tuple[FloatArray, BoolArray]:
    """Smooth contrast of at most `planes` groups of neighbouring planes, and where it is valid.

    A search at low resolution sees coarse anatomy, which neighbouring planes share; averaging them takes out speckle.
    """
    k = side.valid.shape[0]
    if k <= planes:
        return side.smooth, side.valid
    groups = np.array_split(np.arange(k), planes)
    count = np.stack([side.valid[g].sum(axis=0, dtype=np.float32) for g in groups])
    total = np.stack([side.smooth[g].sum(axis=0) for g in groups])
    valid = np.stack([2 * n >= len(g) for n, g in zip(count, groups, strict=True)]) & (count > 0)
    return np.where(valid, total / np.maximum(count, 1), np.float32(0)), valid


def build_levels(
    fixed: FloatArray,
    fixed_valid: BoolArray,
    moving: FloatArray,
    moving_valid: BoolArray,
    working_px: int,
) -> list[Level]:
    """Levels from the working resolution down to about `_COARSE_PX`."""
    side = max(*fixed.shape[1:], *moving.shape[1:])
    factor = max(1, math.ceil(side / (1.5 * working_px)))
    levels = []
    f, m = (fixed, fixed_valid), (moving, moving_valid)
    if factor > 1:
        f, m = block_mean(*f, factor), block_mean(*m, factor)
    while True:
        levels.append(Level(factor, _side(*f), _side(*m)))
        shapes = (*f[0].shape[1:], *m[0].shape[1:])
        if max(shapes) <= _COARSE_PX or min(shapes) < 2 * LEAST_SIDE_PX:
            return levels
        factor *= 2
        f, m = block_mean(*f, 2), block_mean(*m, 2)


def filtered(level: Level, matrix: Matrix) -> tuple[FloatArray, FloatArray]:
    """Pass the working level's images through the filter that their coherence asks for."""
    matched = matched_filter(
        level.fixed.contrast,
        level.fixed.valid,
        level.moving.contrast,
        level.moving.valid,
        level.from_full(matrix),
    )
    if matched is None:
        return level.fixed.smooth, level.moving.smooth
    return (
        apply_filter(level.fixed.contrast, level.fixed.valid, matched.frequency, matched.fixed),
        apply_filter(level.moving.contrast, level.moving.valid, matched.frequency, matched.moving),
    )
