"""Two-dimensional mosaics of depth projections: what a slice looks like, in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.geometry.resampling import average_boxes
from soct.mosaic.blending import BlendMethod
from soct.mosaic.rendering import BandRenderer, plan_bands
from soct.space import FloatArray


@dataclass(frozen=True)
class FlatMosaic:
    """A picture of a slice.

    Attributes
    ----------
    image : ndarray (y, x) float32
        NaN where no tile is.
    pixel_factor : (float, float)
        Size of its pixels in pixels of the tiles, along (y, x).
    """

    image: FloatArray
    pixel_factor: tuple[float, float]


def choose_reduction(
    positions_px: NDArray[np.float64], tile_shape: tuple[int, int], max_side_px: int
) -> tuple[int, int]:
    """Choose the tile shape at which a mosaic is at most `max_side_px` high and wide."""
    extent = np.ptp(np.asarray(positions_px, np.float64), axis=0) + tile_shape
    factor = max(1.0, float(extent.max()) / max_side_px)
    return (
        max(1, int(tile_shape[0] / factor)),
        max(1, int(tile_shape[1] / factor)),
    )


def reduce_tile(image: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Average a tile's projection to another shape; the same image where nothing changes."""
    return image if image.shape == shape else average_boxes(image, shape)


def render_flat_mosaic(
    images: Sequence[FloatArray],
    positions_px: NDArray[np.float64],
    tile_shape: tuple[int, int],
    blending: BlendMethod = "feather",
) -> FlatMosaic:
    """Lay projections of tiles on one canvas.

    Parameters
    ----------
    images : sequence of ndarray (y, x)
        All of one shape, that of `tile_shape` or reduced (`reduce_tile`); NaN is no data.
    positions_px : ndarray (n, 2)
        First pixel of each tile in pixels of `tile_shape`.
    tile_shape : (int, int)
        Height and width of the tiles before reduction.
    blending : str
        How tiles are mixed where they overlap.
    """
    small = images[0].shape
    factor = (tile_shape[0] / small[0], tile_shape[1] / small[1])
    plan = plan_bands(np.asarray(positions_px, np.float64) / factor, (small[0], small[1]))
    renderer = BandRenderer(
        plan,
        lambda i: images[i][None],
        blending=blending,
        interpolation="nearest" if factor == (1.0, 1.0) and _is_whole(positions_px) else "linear",
    )
    return FlatMosaic(renderer.render(0, plan.shape[0])[0], factor)


def _is_whole(positions: NDArray[np.float64]) -> bool:
    return bool(np.array_equal(positions, np.round(positions)))
