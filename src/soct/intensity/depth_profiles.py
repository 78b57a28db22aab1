"""Mean brightness of a slice over depth, accumulated block after block.

Two profiles are kept side by side: over the depth of the frame, which the optics shape (focus, roll-off), and
over the depth below the sample's surface, which attenuation shapes. Sums of linear intensity are unbiased under
speckle and noise, where means of logarithms are not.

Convention: see `soct.space`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from soct.errors import InputError
from soct.space import Array, FloatArray


@dataclass(frozen=True)
class DepthProfile:
    """Mean brightness over depth.

    Attributes
    ----------
    mean : ndarray (z,) float64
        Mean above the noise floor, NaN where nothing was seen.
    weight : ndarray (z,) float64
        A-lines that count at each depth.
    """

    mean: Array
    weight: Array


class DepthSums:
    """Accumulator of depth profiles: a few numbers per depth, whatever the size of the slice.

    Parameters
    ----------
    n_z : int
        Samples of the frame.
    floor : float
        Noise floor that is taken off every sample.
    """

    def __init__(self, n_z: int, floor: float = 0.0) -> None:
        self.n_z = n_z
        self.floor = floor
        self.frame_sum = np.zeros(n_z)
        self.frame_count = np.zeros(n_z)
        self.surface_sum = np.zeros(n_z)
        self.surface_count = np.zeros(n_z)

    def add(
        self,
        block: Array,
        surface_px: Array,
        *,
        valid: Array | None = None,
        mask: Array | None = None,
        skip_px: float = 2.0,
    ) -> None:
        """Add a block of A-lines.

        Parameters
        ----------
        block : ndarray (z, y, x)
            Linear intensity; NaN counts as no data.
        surface_px : ndarray (y, x)
            Depth of the interface; NaN leaves an A-line out.
        valid : ndarray (2, y, x) int, optional
            Depth range with data.
        mask : ndarray (y, x) bool, optional
            A-lines that count (tissue, or agarose); all where absent.
        skip_px : float
            Samples below the interface that are left out, since they hold its reflection.
        """
        data = np.ascontiguousarray(block, dtype=np.float32)
        if data.ndim != 3 or data.shape[0] != self.n_z or data.shape[1:] != surface_px.shape:
            raise InputError(
                "A block does not fit its accumulator",
                expected=f"({self.n_z}, *{surface_px.shape})",
                found=str(data.shape),
            )
        ny, nx = data.shape[1:]
        limits = np.zeros((2, ny, nx), np.int64)
        limits[1] = self.n_z
        if valid is not None:
            limits[:] = valid
        counted = np.isfinite(surface_px)
        if mask is not None:
            counted &= mask
        _sum_depths(
            data,
            np.nan_to_num(surface_px).astype(np.float64),
            limits,
            counted,
            float(self.floor),
            float(skip_px),
            self.frame_sum,
            self.frame_count,
            self.surface_sum,
            self.surface_count,
        )

    def merge(self, other: DepthSums) -> None:
        """Add what another accumulator of the same frame holds."""
        if other.n_z != self.n_z:
            raise InputError("Profiles of different frames cannot be added")
        for name in ("frame_sum", "frame_count", "surface_sum", "surface_count"):
            getattr(self, name).__iadd__(getattr(other, name))

    def to_array(self) -> Array:
        """All sums as one array (4, z), for storage."""
        return np.stack([self.frame_sum, self.frame_count, self.surface_sum, self.surface_count])

    @classmethod
    def from_array(cls, sums: Array, floor: float = 0.0) -> DepthSums:
        """Rebuild an accumulator from `to_array`."""
        made = cls(sums.shape[1], floor)
        made.frame_sum[:], made.frame_count[:], made.surface_sum[:], made.surface_count[:] = sums
        return made

    def over_frame(self) -> DepthProfile:
        """Profile over the depth of the frame."""
        return _profile(self.frame_sum, self.frame_count)

    def below_surface(self) -> DepthProfile:
        """Profile over the depth below the surface; sample d is centred d samples below it."""
        return _profile(self.surface_sum, self.surface_count)


def choose_tissue_a_lines(
    block: Array, surface_px: Array, *, floor: float, level: float, reach_px: int = 20
) -> Array:
    """Choose the A-lines that are tissue, by their mean just below the surface.

    Parameters
    ----------
    block : ndarray (z, y, x)
    surface_px : ndarray (y, x)
    floor : float
        Noise floor.
    level : float
        Brightness that separates tissue from agarose, `soct.intensity.normalization.split_tissue` gives one.
    reach_px : int
        Samples below the surface that are averaged.

    Returns
    -------
    ndarray (y, x) bool
    """
    z = np.arange(block.shape[0])[:, None, None]
    top = np.nan_to_num(surface_px, nan=block.shape[0])[None]
    inside = (z >= top + 1) & (z < top + 1 + reach_px) & np.isfinite(block)
    count = inside.sum(0)
    total = np.where(inside, block, 0).sum(0, dtype=np.float64)
    return np.asarray((count > 0) & (total > np.maximum(level, floor) * count))


def project_below_surface(
    tile: Array, surface_px: Array, *, floor: float = 0.0, skip_px: float = 2.0, depth_px: int = 40
) -> FloatArray:
    """Average every A-line over the same depths below its own surface.

    A mean over fixed depths of the frame would take the tile's tilt and curvature for shading.

    Parameters
    ----------
    tile : ndarray (z, y, x)
    surface_px : ndarray (y, x)
        Depth of the interface, smooth.
    floor : float
        Noise floor that is taken off.
    skip_px : float
        Samples left out below the interface.
    depth_px : int
        Samples averaged; fewer where the frame ends.

    Returns
    -------
    ndarray (y, x) float32
        0 where nothing is below the surface.
    """
    data = np.ascontiguousarray(tile, dtype=np.float32)
    out = np.zeros(data.shape[1:], np.float32)
    surface = np.ascontiguousarray(np.nan_to_num(surface_px, nan=np.inf), dtype=np.float64)
    _project_depths(data, surface, float(floor), float(skip_px), float(depth_px), out)
    return out


def _profile(total: Array, count: Array) -> DepthProfile:
    mean = np.full(total.shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return DepthProfile(mean, count.copy())


@njit(cache=True, nogil=True)
def _sum_depths(
    data: FloatArray,
    surface: Array,
    limits: Array,
    counted: Array,
    floor: float,
    skip: float,
    frame_sum: Array,
    frame_count: Array,
    surface_sum: Array,
    surface_count: Array,
) -> None:
    nz, ny, nx = data.shape
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                if not counted[y, x] or z < limits[0, y, x] or z >= limits[1, y, x]:
                    continue
                depth = z - surface[y, x]
                v = data[z, y, x]
                if depth < skip or not np.isfinite(v):
                    continue
                v = np.float64(v) - floor
                frame_sum[z] += v
                frame_count[z] += 1
                # Linear sharing between the two nearest depths keeps a sub-sample surface from shifting it.
                i = int(np.floor(depth))
                t = depth - i
                surface_sum[i] += v * (1 - t)
                surface_count[i] += 1 - t
                if i + 1 < nz:
                    surface_sum[i + 1] += v * t
                    surface_count[i + 1] += t


@njit(cache=True, nogil=True)
def _project_depths(
    data: FloatArray, surface: Array, floor: float, skip: float, depth: float, out: FloatArray
) -> None:
    nz, ny, nx = data.shape
    total = np.zeros((ny, nx))
    weight = np.zeros((ny, nx))
    for z in range(nz):
        for y in range(ny):
            for x in range(nx):
                below = z - surface[y, x] - skip
                # Fractional weights at both ends keep a sub-sample surface from stepping.
                w = min(max(below + 0.5, 0.0), 1.0) * min(max(depth - below + 0.5, 0.0), 1.0)
                if w > 0 and np.isfinite(data[z, y, x]):
                    total[y, x] += w * (data[z, y, x] - floor)
                    weight[y, x] += w
    for y in range(ny):
        for x in range(nx):
            if weight[y, x] > 0:
                out[y, x] = total[y, x] / weight[y, x]
