"""The images along the top or the bottom of a slice, on the canvas of the poses.

A slice ends where its A-lines do, which need not be one plane. What is read here follows that surface: image i
is the mean of some voxels of every A-line, i voxels inwards from its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from soct.registration.slice_interpolation import Surface
    from soct.space import FloatArray
    from soct.steps.slice_planes import SliceSide

    BoolArray = NDArray[np.bool_]

_ROWS = 64


@dataclass(frozen=True)
class Window:
    """A part of the canvas, in whole pixels of the poses' frame."""

    y0: int
    x0: int
    shape: tuple[int, int]


@dataclass(frozen=True)
class SliceEnd:
    """One end of a slice, seen on a window of the canvas.

    Attributes
    ----------
    surfaces : list of Surface
        From the end inwards, in normalised brightness.
    depth : (h, w) float32
        Canvas depth at which the data end (bottom), or begin (top).
    valid : (h, w) bool
    """

    surfaces: list[Surface]
    depth: FloatArray
    valid: BoolArray


def footprint_window(rows: tuple[Mapping[str, Any], ...]) -> Window | None:
    """Return the bounding box of what the slices have in common on the canvas; None where nothing."""
    import numpy as np

    low, high = [], []
    for row in rows:
        h, w = row["shape"][1:]
        corners = (
            _pose(row)
            .inverse()
            .apply(np.array([(y, x) for y in (0, h - 1) for x in (0, w - 1)], float))
        )
        low.append(corners.min(axis=0))
        high.append(corners.max(axis=0))
    first = np.floor(np.max(low, axis=0) + 1e-6).astype(int)
    last = np.ceil(np.min(high, axis=0) - 1e-6).astype(int)
    if (last <= first).any():
        return None
    y, x = (last - first + 1).tolist()
    return Window(int(first[0]), int(first[1]), (int(y), int(x)))


def _pose(row: Mapping[str, Any]) -> Any:
    from soct.registration.transforms import RigidTransform2D

    return RigidTransform2D(row["rotation_deg"], tuple(row["shift_px"]), tuple(row["centre_px"]))


def _gather(side: SliceSide, count: int, *, bottom: bool) -> FloatArray:
    """Return `count` voxels of every A-line from its end inwards, (count, y, x); 0 where there are fewer."""
    import numpy as np

    _, ny, nx = side.volume.shape
    out = np.zeros((count, ny, nx), np.float32)
    inwards = np.arange(count, dtype=np.int32)[:, None, None]
    for y0 in range(0, ny, _ROWS):
        rows = (y0, min(y0 + _ROWS, ny))
        first, stop = (b[rows[0] : rows[1]].astype(np.int32) for b in side.valid)
        seen = stop > first
        if not seen.any():
            continue
        z = (stop - 1 - inwards) if bottom else (first + inwards)
        good = (z >= first) & (z < stop)
        z0, z1 = int(z[good].min()), int(z[good].max()) + 1
        block = side.volume.read((z0, z1), rows)
        at = np.clip(z - z0, 0, z1 - z0 - 1)
        out[:, rows[0] : rows[1]] = np.where(good, np.take_along_axis(block, at, axis=0), 0)
    return out


def read_slice_end(
    side: SliceSide,
    row: Mapping[str, Any],
    level: Mapping[str, Any],
    window: Window,
    *,
    bottom: bool,
    slab_planes: int,
    count: int,
) -> SliceEnd:
    """Read one end of a slice onto the canvas.

    Parameters
    ----------
    side : SliceSide
    row : mapping
        The slice's pose, of `slice_poses.json`.
    level : mapping
        Its brightness, of `normalization.json`.
    window : Window
    bottom : bool
        The deep end, else the shallow one.
    slab_planes : int
        Voxels that are averaged.
    count : int
        Surfaces, one voxel apart.
    """
    import numpy as np

    from soct.registration.slice_interpolation import Surface

    voxels = _gather(side, slab_planes + count - 1, bottom=bottom)
    np.minimum(voxels, np.float32(level["cap"]), out=voxels)
    voxels -= np.float32(level["floor"])
    voxels *= np.float32(level["scale"])
    depth = side.valid[1] if bottom else side.valid[0]
    enough = side.valid[1] - side.valid[0] >= slab_planes + count - 1
    resample = _Resampler(row, window, enough)
    surfaces = [
        Surface(resample(voxels[i : i + slab_planes].mean(axis=0)), resample.valid)
        for i in range(count)
    ]
    at = resample(depth.astype(np.float32)) + np.float32(row["z_px"])
    return SliceEnd(surfaces, at, resample.valid)


class _Resampler:
    """Brings images of a slice to the canvas, linearly, from valid pixels alone."""

    def __init__(self, row: Mapping[str, Any], window: Window, valid: BoolArray) -> None:
        import numpy as np

        to_window = np.eye(3)
        to_window[:2, 2] = window.y0, window.x0
        self._matrix = _pose(row).matrix() @ to_window
        self._shape = window.shape
        self._inside = valid
        self._weight = self._raw(valid.astype(np.float32))
        self.valid = self._weight > 0.5

    def _raw(self, image: FloatArray) -> FloatArray:
        import numpy as np
        from scipy import ndimage as ndi

        m = self._matrix
        return np.asarray(
            ndi.affine_transform(
                image, m[:2, :2], m[:2, 2], output_shape=self._shape, order=1, output=np.float32
            )
        )

    def __call__(self, image: FloatArray) -> FloatArray:
        import numpy as np

        raw = self._raw(np.where(self._inside, image, 0).astype(np.float32))
        return np.divide(raw, self._weight, out=np.zeros_like(raw), where=self.valid)
