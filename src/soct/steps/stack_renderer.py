"""The slices of a stack, the canvas they lie on, and what renders blocks of its planes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.formats.ome_zarr import VolumeReader
    from soct.mosaic.stack_rendering import SlicePlacement
    from soct.space import FloatArray, Voxel
    from soct.steps.declaration import Context
    from soct.steps.stack import StackParams

    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class StackSlice:
    """One slice, its pose on the output canvas, and what weighs it."""

    slice_id: int
    volume: VolumeReader
    weights: FloatArray
    placement: SlicePlacement
    motor: SlicePlacement
    depths: tuple[int, int]
    """First plane with data, and one past the last."""
    interpolation: str = ""
    """How it was made; empty for a slice that was imaged."""

    @property
    def first_plane(self) -> int:
        """Output plane at which it begins; the margin that a made slice has beyond its gap does not count."""
        return self.placement.z_range[0] + (self.depths[0] if self.interpolation else 0)

    def read_valid(self) -> NDArray[np.int16]:
        """Depth range of every A-line within the planes that are used, (2, y, x)."""
        import numpy as np

        valid = self.volume.read_valid()
        return np.minimum(valid, self.placement.shape[0], out=valid)


@dataclass(frozen=True)
class StackCanvas:
    """Size and origin (z, y, x) of the output, in voxels of the poses' frame."""

    shape: tuple[int, int, int]
    origin: tuple[float, float, float]
    voxel_um: Voxel


class StackRenderer:
    """Renders blocks of output planes, band of rows by band of rows, so that memory stays bounded."""

    def __init__(
        self, context: Context, params: StackParams, slices: list[StackSlice], canvas: StackCanvas
    ) -> None:
        from soct.compute.backend import open_device

        self.slices = slices
        self.canvas = canvas
        self.ramp_px = params.blend_depth_um / canvas.voxel_um.z
        self.lateral_px = params.blend_lateral_um / canvas.voxel_um.x
        self.cubic = params.interpolation == "cubic"
        self.memory = context.memory_bytes
        self.device = open_device(context.gpu)
        self._footprints: dict[int, tuple[NDArray[np.int16], FloatArray]] = {}

    def planes(
        self,
        z0: int,
        z1: int,
        rows: tuple[int, int] | None = None,
        columns: tuple[int, int] | None = None,
        *,
        motor: bool = False,
    ) -> tuple[FloatArray, BoolArray]:
        """Output planes ``z0 .. z1``, all of them or a window, and where they hold data."""
        import numpy as np

        from soct.mosaic.stack_rendering import finish

        first, stop = rows or (0, self.canvas.shape[1])
        x0, x1 = columns or (0, self.canvas.shape[2])
        values = np.empty((z1 - z0, stop - first, x1 - x0), np.float32)
        valid = np.empty(values.shape, np.bool_)
        active = self._active(z0, z1, motor)
        row_bytes = (z1 - z0 + 3) * (x1 - x0) * 4 * (3 + len(active))
        high = max(32, self.memory // 4 // max(row_bytes, 1))
        y1 = first
        while y1 < stop:
            y0, y1 = y1, min(y1 + high, stop)
            here = slice(y0 - first, y1 - first)
            try:
                sums = self._window(active, (z0, z1), (y0, y1), (x0, x1), motor)
            except MemoryError:
                high, y1 = self.device.shorten(high, 32), y0
                continue
            values[:, here], valid[:, here] = finish(*sums)
        return values, valid

    def _active(self, z0: int, z1: int, motor: bool) -> list[StackSlice]:
        """Slices that reach into these planes; the maps of all others are let go."""
        chosen = []
        for s in self.slices:
            low, high = (s.motor if motor else s.placement).z_range
            # What is made up belongs to the final poses alone.
            if low < z1 and high > z0 and not (motor and s.interpolation):
                chosen.append(s)
        there = {s.slice_id for s in chosen}
        self._footprints = {i: maps for i, maps in self._footprints.items() if i in there}
        return chosen

    def _footprint(self, s: StackSlice) -> tuple[NDArray[np.int16], FloatArray]:
        """Return the valid depth range and the lateral weight of a slice."""
        from soct.mosaic.stack_rendering import lateral_weights

        if s.slice_id not in self._footprints:
            valid = s.read_valid()
            self._footprints[s.slice_id] = valid, lateral_weights(valid, self.lateral_px)
        return self._footprints[s.slice_id]

    def _window(
        self,
        active: list[StackSlice],
        z: tuple[int, int],
        y: tuple[int, int],
        x: tuple[int, int],
        motor: bool,
    ) -> tuple[FloatArray, FloatArray]:
        import dataclasses

        import numpy as np

        from soct.mosaic.stack_rendering import add_slice

        backend = self.device.backend
        xp = np if backend.compiled else backend.xp
        shape = (z[1] - z[0], y[1] - y[0], x[1] - x[0])
        # What is made up fills what no slice that was imaged holds, and mixes with none.
        numerator, denominator = (xp.zeros(shape, np.float32) for _ in range(2))
        is_made = any(s.interpolation for s in active)
        made = [xp.zeros(shape, np.float32) for _ in range(2)] if is_made else []
        for s in active:
            target, weights = made if s.interpolation else (numerator, denominator)
            placement = s.motor if motor else s.placement
            (r0, r1), (c0, c1) = placement.source_window(y, x)
            k0 = max(int(np.floor(z[0] - placement.z_px)), 0)
            k1 = min(int(np.ceil(z[1] - placement.z_px)) + 1, placement.shape[0])
            if r1 <= r0 or c1 <= c0 or k1 <= k0:
                continue
            # The window's own columns, on both sides.
            matrix = placement.to_slice.copy()
            matrix[:, 2] += matrix[:, 1] * x[0]
            matrix[1, 2] -= c0
            valid, lateral = self._footprint(s)
            add_slice(
                target,
                weights,
                s.volume.read((k0, k1), (r0, r1), (c0, c1)),
                # One memory layout, or the kernels are compiled for each.
                np.ascontiguousarray(valid[:, r0:r1, c0:c1]),
                np.ascontiguousarray(lateral[r0:r1, c0:c1]),
                dataclasses.replace(placement, to_slice=matrix),
                s.weights,
                block_z0=k0,
                row0=r0,
                z0=z[0],
                y0=y[0],
                ramp_px=self.ramp_px,
                cubic=self.cubic,
                backend=backend,
            )
        if made:
            empty = denominator <= 0
            numerator[empty], denominator[empty] = made[0][empty], made[1][empty]
        return backend.down(numerator), backend.down(denominator)
