"""Planes and slabs of compensated slices, read as steps compare them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.ome_zarr import VolumeReader
    from soct.space import FloatArray
    from soct.steps.declaration import Context

    BoolArray = NDArray[np.bool_]

_BLOCK = 16
_KEPT_BYTES = 32 << 20


@dataclass(frozen=True)
class SliceSide:
    """One slice, read plane by plane or slab by slab."""

    volume: VolumeReader
    valid: NDArray[np.int16]
    _last: dict[int, NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """Planes `start` to `stop`; small ones come in blocks, the last of which are kept.

        Chunks hold several planes, and neighbouring planes are asked for one after the other.
        """
        depth, h, w = self.volume.shape
        plane = 4 * h * w
        block = min(_BLOCK, _KEPT_BYTES // (2 * plane))
        if block < stop - start:
            return self.volume.read((start, stop))
        import numpy as np

        parts = []
        for i in range(start // block, -(-stop // block)):
            if i not in self._last:
                if len(self._last) >= _KEPT_BYTES // (block * plane):
                    self._last.pop(next(iter(self._last)))
                self._last[i] = self.volume.read((i * block, min(depth, (i + 1) * block)))
            first = i * block
            parts.append(self._last[i][max(start - first, 0) : stop - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def plane(self, z: int) -> tuple[FloatArray, BoolArray]:
        """One plane, and where it holds data."""
        data = self._read(z, z + 1)[0]
        return data, (self.valid[0] <= z) & (z < self.valid[1])

    def slab(self, z: float, thickness: int) -> tuple[FloatArray, BoolArray]:
        """Mean of `thickness` planes from `z` on; between planes for a fractional start."""
        import numpy as np

        low = int(np.floor(z + 1e-9))
        t = np.float32(max(z - low, 0.0))
        stop = min(low + thickness + (1 if t > 1e-6 else 0), self.volume.shape[0])
        planes = self._read(low, stop)
        if t > 1e-6 and len(planes) > 1:
            planes = (1 - t) * planes[:-1] + t * planes[1:]
        good = (self.valid[0] <= low) & (self.valid[1] >= stop)
        return planes.mean(axis=0, dtype=np.float32), good


def open_side(context: Context, slice_id: int) -> SliceSide:
    """Open a slice as `compensate_attenuation` wrote it."""
    from soct.formats.ome_zarr import open_volume

    volume = open_volume(
        context.of_slice("compensate_attenuation", "slice", slice_id), threads=context.threads
    )
    return SliceSide(volume, volume.read_valid())


def depth_range(side: SliceSide) -> tuple[int, int]:
    """Planes on which at least half of the slice's footprint holds data."""
    import numpy as np

    footprint = side.valid[1] > side.valid[0]
    if not footprint.any():
        return 0, 0
    return (
        int(np.median(side.valid[0][footprint])),
        int(np.median(side.valid[1][footprint])),
    )


def slab_starts(
    fixed: tuple[int, int],
    moving: tuple[int, int],
    offset: float,
    thickness: int,
    margin: int,
    most: int,
) -> list[int]:
    """Return the moving planes at which slabs start that lie well within both slices."""
    import numpy as np

    low = max(moving[0] + margin, int(np.ceil(fixed[0] + margin - offset)))
    high = min(moving[1] - margin, int(np.floor(fixed[1] - margin - offset))) - thickness
    if high < low:
        low = max(moving[0], int(np.ceil(fixed[0] - offset)))
        high = min(moving[1], int(np.floor(fixed[1] - offset))) - thickness - 1
    if high < low:
        return []
    count = min(most, (high - low) // thickness + 1)
    return [int(v) for v in np.unique(np.linspace(low, high, count).round())]


def facing_slabs(
    fixed: SliceSide, moving: SliceSide, offset: float, thickness: int, margin: int, most: int
) -> list[tuple[float, float]]:
    """Return where slabs start in both slices that face each other.

    At the same depth where both slices see one; else the last of the fixed slice and the first of the moving one,
    across what lies between. Empty where a slice is thinner than a slab.
    """
    ranges = depth_range(fixed), depth_range(moving)
    starts = slab_starts(*ranges, offset, thickness, margin, most)
    if starts:
        return [(z + offset, float(z)) for z in starts]
    (first, end), (start, stop) = ranges
    if min(end - first, stop - start) < thickness:
        return []
    return [(float(end - thickness), float(start))]
