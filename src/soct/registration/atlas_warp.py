"""From a template's space to a brain's: where a block of output lies in the volume, and what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from soct.geometry.orientation import LPS_FROM_RAS, Matrix, Shape, Window
from soct.geometry.warping import lattice_nodes, warp_block
from soct.registration.atlas_fit import AtlasFit
from soct.registration.brain_mask import BoolArray
from soct.space import Array, FloatArray

_BENT_MM = 0.1
_STRAIGHT_STEP = 1 << 14
_MARGIN = 2

Read = Callable[[Window], Array]


@dataclass(frozen=True)
class Grid:
    """A grid of voxels in the template's space.

    Attributes
    ----------
    shape : tuple of int
        ``(z, y, x)``.
    affine : ndarray, shape (4, 4)
        From indices to world coordinates (mm).
    """

    shape: Shape
    affine: Matrix


class Warp:
    """A fit, ready to fill blocks of grids with a volume's voxels.

    Parameters
    ----------
    fit : AtlasFit
        From the template's points to the volume's.
    affine : ndarray, shape (4, 4)
        From the volume's indices to world coordinates.
    """

    def __init__(self, fit: AtlasFit, affine: Matrix) -> None:
        self._to_index = np.linalg.inv(affine)
        self._matrix = fit.matrix
        self._transform: Any = fit.transform if fit.model == "bspline" else None

    def lattice(
        self, grid: Grid, window: Window
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where the nodes over a block of a grid lie in the volume, and the voxels between them."""
        shape = tuple(b - a for a, b in window)
        voxel_mm = float(np.linalg.norm(grid.affine[:3, 0]))
        step = _STRAIGHT_STEP if self._transform is None else max(1, round(_BENT_MM / voxel_mm))
        step = min(step, max(1, max(shape) - 1))
        nodes, per_cell = lattice_nodes(shape, step)
        first = np.array([a for a, _ in window], float)
        if self._transform is None:
            matrix = self._to_index @ self._matrix @ grid.affine
            return (nodes + first) @ matrix[:3, :3].T + matrix[:3, 3], per_cell
        return self._bent(grid, nodes, first, step), per_cell

    def _bent(
        self, grid: Grid, nodes: NDArray[np.float64], first: NDArray[np.float64], step: int
    ) -> NDArray[np.float64]:
        lps = LPS_FROM_RAS @ grid.affine
        linear = lps[:3, 2::-1] * step
        spacing = np.linalg.norm(linear, axis=0)
        start = lps[:3, :3] @ first + lps[:3, 3]
        field = sitk.TransformToDisplacementField(
            self._transform,
            sitk.sitkVectorFloat64,
            [int(n) for n in nodes.shape[2::-1]],
            [float(v) for v in start],
            [float(v) for v in spacing],
            [float(v) for v in (linear / spacing).ravel()],
        )
        points = (nodes + first) @ lps[:3, :3].T + lps[:3, 3] + sitk.GetArrayViewFromImage(field)
        matrix = self._to_index @ LPS_FROM_RAS
        return points @ matrix[:3, :3].T + matrix[:3, 3]

    def fill(
        self, grid: Grid, window: Window, shape: Shape, read: Read
    ) -> tuple[FloatArray, BoolArray]:
        """Return a block of a grid, and where it holds data.

        Parameters
        ----------
        grid : Grid
            In the template's space.
        window : tuple of (start, stop)
            The block.
        shape : tuple of int
            Of the volume.
        read : callable
            Reads a block of the volume.
        """
        lattice, step = self.lattice(grid, window)
        size = tuple(b - a for a, b in window)
        values, valid = np.zeros(size, np.float32), np.zeros(size, np.bool_)
        # Nodes beyond the block's end would make its part of the volume larger than it is.
        last = [(n - 1) / s for n, s in zip(size, step, strict=True)]
        corners = _clipped_extent(lattice, last)
        low = np.maximum(np.floor(corners[0]).astype(int) - _MARGIN, 0)
        high = np.minimum(np.ceil(corners[1]).astype(int) + _MARGIN + 1, shape)
        if (high <= low).any():
            return values, valid
        part = (
            (int(low[0]), int(high[0])),
            (int(low[1]), int(high[1])),
            (int(low[2]), int(high[2])),
        )
        block = np.ascontiguousarray(read(part), np.float32)
        warp_block(block, lattice - low, step, values, valid)
        return values, valid


def _clipped_extent(
    lattice: NDArray[np.float64], last: list[float]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Smallest and largest source index of the lattice up to `last` (in cells) along each axis."""
    part = lattice
    for axis, end in enumerate(last):
        cells = lattice.shape[axis] - 1
        if end < cells:
            below = min(int(end), cells - 1)
            share = end - below
            a = np.take(part, range(below + 1), axis=axis)
            edge = (1 - share) * np.take(part, [below], axis=axis) + share * np.take(
                part, [below + 1], axis=axis
            )
            part = np.concatenate([a, edge], axis=axis)
    flat = part.reshape(-1, 3)
    return flat.min(axis=0), flat.max(axis=0)


def tiles_of(shape: Shape, planes: tuple[int, int], edge: int) -> Iterator[Window]:
    """Yield the blocks of a slab of planes, `edge` voxels wide."""
    for y in range(0, shape[1], edge):
        for x in range(0, shape[2], edge):
            yield planes, (y, min(y + edge, shape[1])), (x, min(x + edge, shape[2]))


def jacobian(fit: AtlasFit, grid: Grid) -> FloatArray:
    """Return how many times larger the volume is than the template, at each voxel of a coarse grid."""
    linear = abs(float(np.linalg.det(fit.matrix[:3, :3])))
    if fit.model != "bspline":
        return np.full(grid.shape, linear, np.float32)
    lps = LPS_FROM_RAS @ grid.affine
    axes = lps[:3, 2::-1]
    spacing = np.linalg.norm(axes, axis=0)
    field = sitk.TransformToDisplacementField(
        fit.transform,
        sitk.sitkVectorFloat64,
        [int(n) for n in grid.shape[::-1]],
        [float(v) for v in lps[:3, 3]],
        [float(v) for v in spacing],
        [float(v) for v in (axes / spacing).ravel()],
    )
    found = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    return np.abs(found).astype(np.float32)
