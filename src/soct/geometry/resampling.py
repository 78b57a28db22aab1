"""Anti-aliased resampling of one tile to a coarser voxel, exact for constants and means.

Every output voxel is the mean of the input over the box it covers; boxes divide the tile without gap or
overlap, so a constant stays that constant and the tile's mean stays its mean. The extent of a tile never
changes: when its length is no whole number of target voxels, the voxel size that results differs from the
target by a fraction and is the one that everything downstream uses.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from soct.errors import ConfigurationError
from soct.space import Array, FloatArray, Voxel

# A factor this close to 1 would cost a pass and blur the data to gain nothing.
SAME_SAMPLING = 1.05


@dataclass(frozen=True)
class ResamplingPlan:
    """What resampling does to every tile of an acquisition.

    Attributes
    ----------
    source_shape, shape : tuple of int
        Tile shape ``(z, y, x)`` before and after.
    source_voxel_um, voxel_um : Voxel
        Voxel size before, and the true one after.
    """

    source_shape: tuple[int, int, int]
    shape: tuple[int, int, int]
    source_voxel_um: Voxel
    voxel_um: Voxel

    @property
    def is_identity(self) -> bool:
        """Whether tiles stay as they are."""
        return self.shape == self.source_shape

    def scale_position(self, position_px: Array) -> Array:
        """Convert positions (..., 2 or 3) of a tile's first pixel centre from source to resampled pixels.

        The tile keeps its corner, not its first pixel's centre, so half a pixel enters.
        """
        values = np.asarray(position_px, dtype=float)
        before = np.array(self.source_voxel_um[-values.shape[-1] :])
        after = np.array(self.voxel_um[-values.shape[-1] :])
        return (values + 0.5) * before / after - 0.5


def plan_resampling(
    shape: tuple[int, int, int],
    voxel_um: Voxel,
    target_um: float,
    *,
    allow_upsampling: bool = False,
) -> ResamplingPlan:
    """Decide the tile shape and voxel size that a target resolution gives.

    Parameters
    ----------
    shape : tuple of int
        Tile shape ``(z, y, x)``.
    voxel_um : Voxel
        Its voxel size.
    target_um : float
        Isotropic target in um; -1 keeps the native resolution.
    allow_upsampling : bool
        Without it an axis that is coarser than the target keeps its own sampling.

    Raises
    ------
    ConfigurationError
        When the target is neither positive nor -1.
    """
    if target_um == -1:
        return ResamplingPlan(shape, shape, voxel_um, voxel_um)
    if not target_um > 0:
        raise ConfigurationError(
            "The target resolution must be positive", expected="um, or -1", found=str(target_um)
        )
    counts, sizes = [], []
    for n, size in zip(shape, voxel_um, strict=True):
        factor = target_um / size
        keep = 1 / SAME_SAMPLING < factor < SAME_SAMPLING or (factor < 1 and not allow_upsampling)
        count = n if keep else max(1, round(n / factor))
        counts.append(count)
        sizes.append(size if count == n else n * size / count)
    return ResamplingPlan(shape, (counts[0], counts[1], counts[2]), voxel_um, Voxel(*sizes))


def resample_tile(tile: Array, plan: ResamplingPlan) -> FloatArray:
    """Resample one tile by box means (linear interpolation along an axis that is upsampled).

    Parameters
    ----------
    tile : ndarray (z, y, x)
        NaN spreads to every output voxel whose box touches it.
    plan : ResamplingPlan

    Returns
    -------
    ndarray `plan.shape` float32
    """
    if tile.shape != plan.source_shape:
        raise ConfigurationError(
            "A tile differs in shape from the plan",
            expected=str(plan.source_shape),
            found=str(tile.shape),
        )
    data = np.ascontiguousarray(tile, dtype=np.float32)
    # Depth first: it is the longest axis with the cheapest memory order.
    for axis in range(3):
        n_out = plan.shape[axis]
        if n_out == data.shape[axis]:
            continue
        start, weights = _axis_weights(data.shape[axis], n_out)
        outer = int(np.prod(data.shape[:axis]))
        inner = int(np.prod(data.shape[axis + 1 :]))
        out = np.empty((outer, n_out, inner), dtype=np.float32)
        _combine(data.reshape(outer, data.shape[axis], inner), start, weights, out)
        data = out.reshape((*data.shape[:axis], n_out, *data.shape[axis + 1 :]))
    return data


def _axis_weights(n_in: int, n_out: int) -> tuple[Array, FloatArray]:
    """First input sample and weights (n_out, k) of every output sample along one axis."""
    factor = n_in / n_out
    edges = np.arange(n_out + 1) * factor
    if factor >= 1:
        start = np.floor(edges[:-1] + 1e-9).astype(np.int64)
        index = start[:, None] + np.arange(int(np.ceil(factor)) + 1)[None]
        cover = np.minimum(index + 1, edges[1:, None]) - np.maximum(index, edges[:-1, None])
        weights = np.clip(cover, 0, None)
    else:
        centre = np.clip((np.arange(n_out) + 0.5) * factor - 0.5, 0, n_in - 1)
        start = np.minimum(np.floor(centre).astype(np.int64), max(n_in - 2, 0))
        upper = centre - start
        weights = np.stack([1 - upper, upper], axis=1)
    weights[weights < 1e-6] = 0
    weights /= weights.sum(1, keepdims=True)
    return start, weights.astype(np.float32)


@njit(cache=True, nogil=True)
def _combine(data: FloatArray, start: Array, weights: FloatArray, out: FloatArray) -> None:
    outer, n_out, inner = out.shape
    if inner == 1:
        # Along the fastest axis the sum stays in a register; the order of the additions is the same.
        for o in range(outer):
            for j in range(n_out):
                total = np.float32(0)
                for k in range(weights.shape[1]):
                    w = weights[j, k]
                    if w > 0:
                        total += w * data[o, start[j] + k, 0]
                out[o, j, 0] = total
        return
    for o in range(outer):
        for j in range(n_out):
            out[o, j, :] = 0
            for k in range(weights.shape[1]):
                w = weights[j, k]
                if w > 0:
                    for i in range(inner):
                        out[o, j, i] += w * data[o, start[j] + k, i]


def average_boxes(image: Array, shape: tuple[int, int]) -> FloatArray:
    """Average an image over equal boxes (of fractional size where needed).

    Parameters
    ----------
    image : ndarray (y, x)
    shape : tuple of int
        Shape of the result, nowhere larger than the image.

    Returns
    -------
    ndarray `shape` float32
    """
    if image.ndim != 2 or shape[0] > image.shape[0] or shape[1] > image.shape[1]:
        raise ConfigurationError(
            "An image can only be averaged to a smaller one",
            expected=f"at most {image.shape}",
            found=str(shape),
        )
    one = Voxel(1.0, 1.0, 1.0)
    plan = ResamplingPlan((1, *image.shape), (1, *shape), one, one)
    return resample_tile(image[None], plan)[0]
