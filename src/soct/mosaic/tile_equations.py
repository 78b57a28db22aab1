"""Normal equations of tiles that pairs of tiles tie to each other.

Each tile has a few unknowns (its position, or the coefficients of a map), each pair of tiles adds blocks of information,
and priors add to the diagonal. The stitcher's positions and the maps of `soct.spectral.Placement` come from these equations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu


@dataclass(frozen=True)
class PairBlocks:
    """What each pair ``(i, j)`` adds to the matrix, real or complex ``(m, k, k)``.

    Attributes
    ----------
    first, second : ndarray
        Added at ``(i, i)`` and at ``(j, j)``.
    forward, backward : ndarray
        Subtracted at ``(i, j)`` and at ``(j, i)``.
    """

    first: NDArray[Any]
    second: NDArray[Any]
    forward: NDArray[Any]
    backward: NDArray[Any]


class TileEquations:
    """Sparse normal equations with `size` unknowns per tile.

    Parameters
    ----------
    n : int
        Number of tiles.
    pairs : int ndarray (m, 2)
    size : int
        Unknowns per tile; those of tile ``i`` stand at ``size * i``.
    """

    def __init__(self, n: int, pairs: NDArray[np.int64], size: int) -> None:
        self.n, self.size = n, size
        i, j = pairs[:, 0], pairs[:, 1]
        rows, columns = [], []
        for a in range(size):
            for b in range(size):
                for p, q in ((i, i), (j, j), (i, j), (j, i)):
                    rows.append(size * p + a)
                    columns.append(size * q + b)
        diagonal = np.arange(size * n)
        self._rows = np.concatenate([*rows, diagonal])
        self._columns = np.concatenate([*columns, diagonal])

    def factor(
        self, blocks: PairBlocks, prior_weight: NDArray[np.float64], *, symmetric: bool = False
    ) -> SuperLU:
        """Factorise the matrix.

        Parameters
        ----------
        blocks : PairBlocks
        prior_weight : ndarray (n, size)
            Added to the diagonal.
        symmetric : bool
            Order and pivot for a symmetric, positive definite matrix: half the time for large mosaics. (The stitcher keeps
            the general order, so that positions stay the same to the last bit.)
        """
        values = []
        for a in range(self.size):
            for b in range(self.size):
                values += [blocks.first[:, a, b], blocks.second[:, a, b]]
                values += [-blocks.forward[:, a, b], -blocks.backward[:, a, b]]
        values.append(prior_weight.ravel())
        matrix = sparse.csc_matrix(
            (np.concatenate(values), (self._rows, self._columns)), shape=(self.size * self.n,) * 2
        )
        if not symmetric:
            return splu(matrix)
        return splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )


def redescending_weight(
    residual: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weight of a residual, 1 to 0 (Geman & McClure): a quarter at the scale, next to nothing far beyond."""
    return 1.0 / (1.0 + (residual / scale) ** 2) ** 2


def typical_residual(residual: NDArray[np.float64]) -> float:
    """Estimate the standard deviation per axis of planar residuals from the median of their lengths; 0 without any."""
    finite = residual[np.isfinite(residual)]
    return float(np.median(finite)) / 1.1774 if finite.size else 0.0
