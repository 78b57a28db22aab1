"""The slices of a stack, the canvas they lie on, and what renders blocks of its planes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import DTypeLike, NDArray

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


@dataclass(frozen=True)
class _Band:
    """What is computed at once: output planes, rows and columns, by the final poses or by the stage alone."""

    z: tuple[int, int]
    y: tuple[int, int]
    x: tuple[int, int]
    motor: bool


@dataclass(frozen=True)
class _Read:
    """A block of a slice on its way from the disk."""

    one: StackSlice
    placement: SlicePlacement
    """Maps the window's own rows and columns, from 0, to those of the block."""
    planes: tuple[int, int]
    rows: tuple[int, int]
    columns: tuple[int, int]
    block: Callable[[], FloatArray]


class StackRenderer:
    """Renders blocks of output planes, band of rows by band of rows, so that memory stays bounded.

    While one band is computed the slices' data for the next are read.
    """

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
        self._valid: dict[int, NDArray[np.int16]] = {}
        self._lateral: dict[int, FloatArray] = {}
        self._ahead: dict[_Band, list[_Read]] = {}
        self._rooms: dict[str, NDArray[Any]] = {}
        self._highest = canvas.shape[1]

    def blocks(
        self,
        depth: int,
        planes: tuple[int, int] | None = None,
        rows: tuple[int, int] | None = None,
        columns: tuple[int, int] | None = None,
        *,
        motor: bool = False,
    ) -> Iterator[tuple[int, FloatArray, BoolArray]]:
        """Yield block after block of output planes, all rows and columns or a window.

        Parameters
        ----------
        depth : int
            Planes of a block.
        planes, rows, columns : (int, int), optional
            First, and one past the last.
        motor : bool
            Where the stage alone puts the slices.

        Yields
        ------
        first_plane : int
        values : float32 ndarray (z, y, x)
            The next block is written over it.
        valid : bool ndarray (z, y, x)
            Where there are data; as `values`.
        """
        import numpy as np

        from soct.mosaic.stack_rendering import finish

        first, stop = planes or (0, self.canvas.shape[0])
        y, x = (r or (0, n) for r, n in zip((rows, columns), self.canvas.shape[1:], strict=True))
        band: _Band | None = self._band(first, depth, stop, y[0], (y, x), motor)
        while band is not None:
            if band.y[0] == y[0]:
                self._keep_maps(band)
                shape = (band.z[1] - band.z[0], y[1] - y[0], x[1] - x[0])
                values = self._room("values", shape, np.float32)
                valid = self._room("valid", shape, np.bool_)
            after = self._following(band, depth, stop, (y, x))
            try:
                sums = self._sums(band, after)
            except MemoryError:
                self._ahead.clear()
                self._highest = self.device.shorten(band.y[1] - band.y[0], 32)
                band = self._band(band.z[0], depth, stop, band.y[0], (y, x), motor)
                continue
            here = slice(band.y[0] - y[0], band.y[1] - y[0])
            finish(*sums, values[:, here], valid[:, here])
            if band.y[1] == y[1]:
                yield band.z[0], values, valid
            band = after

    def planes(self, z0: int, z1: int) -> tuple[FloatArray, BoolArray]:
        """Output planes ``z0 .. z1``, and where they hold data, in arrays of their own."""
        _, values, valid = next(self.blocks(z1 - z0, (z0, z1)))
        return values.copy(), valid.copy()

    def _band(
        self,
        z0: int,
        depth: int,
        stop: int,
        y0: int,
        window: tuple[tuple[int, int], tuple[int, int]],
        motor: bool,
    ) -> _Band:
        """Return what is computed at once: rows from ``y0`` on, as many as fit the memory."""
        y, x = window
        z = (z0, min(z0 + depth, stop))
        # Sums, weights and results, and the slices' own data: of this band and of the next.
        arrays = 3 + 2 * len(self._active(z, motor))
        row_bytes = (z[1] - z[0] + 3) * (x[1] - x[0]) * 4 * arrays
        high = min(max(32, self.memory // 4 // max(row_bytes, 1)), self._highest)
        return _Band(z, (y0, min(y0 + high, y[1])), x, motor)

    def _following(
        self, band: _Band, depth: int, stop: int, window: tuple[tuple[int, int], tuple[int, int]]
    ) -> _Band | None:
        y, _ = window
        if band.y[1] < y[1]:
            return self._band(band.z[0], depth, stop, band.y[1], window, band.motor)
        if band.z[1] < stop:
            return self._band(band.z[1], depth, stop, y[0], window, band.motor)
        return None

    def _room(self, name: str, shape: tuple[int, int, int], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array that is used again and again: fresh memory costs more than what is done with it."""
        import numpy as np

        size = math.prod(shape)
        if name not in self._rooms or self._rooms[name].size < size:
            self._rooms[name] = np.empty(size, dtype)
        return self._rooms[name][:size].reshape(shape)

    def _active(self, z: tuple[int, int], motor: bool) -> list[StackSlice]:
        """Slices that reach into these planes."""
        chosen = []
        for s in self.slices:
            low, high = (s.motor if motor else s.placement).z_range
            # What is made up belongs to the final poses alone.
            if low < z[1] and high > z[0] and not (motor and s.interpolation):
                chosen.append(s)
        return chosen

    def _keep_maps(self, band: _Band) -> None:
        """Let go of the maps of slices that do not reach into the planes any more."""
        there = {s.slice_id for s in self._active(band.z, band.motor)}
        self._valid = {i: valid for i, valid in self._valid.items() if i in there}
        self._lateral = {i: lateral for i, lateral in self._lateral.items() if i in there}

    def _maps(self, read: _Read, *, whole: bool) -> tuple[NDArray[np.int16], FloatArray]:
        """Return the valid depth range and the lateral weight of a slice, where its block lies."""
        import numpy as np

        from soct.mosaic.stack_rendering import lateral_weights

        s = read.one
        (r0, r1), (c0, c1) = read.rows, read.columns
        if s.slice_id not in self._valid:
            self._valid[s.slice_id] = s.read_valid()
        valid = self._valid[s.slice_id]
        if whole:
            if s.slice_id not in self._lateral:
                self._lateral[s.slice_id] = lateral_weights(valid, self.lateral_px)
            lateral = self._lateral[s.slice_id]
        else:
            # Nothing further away than the ramp counts.
            halo = math.ceil(self.lateral_px) + 2
            top, left = max(r0 - halo, 0), max(c0 - halo, 0)
            valid = valid[:, top : r1 + halo, left : c1 + halo]
            lateral = lateral_weights(valid, self.lateral_px)
            (r0, r1), (c0, c1) = (r0 - top, r1 - top), (c0 - left, c1 - left)
        # One memory layout, or the kernels are compiled for each.
        return (
            np.ascontiguousarray(valid[:, r0:r1, c0:c1]),
            np.ascontiguousarray(lateral[r0:r1, c0:c1]),
        )

    def _reads(self, band: _Band) -> list[_Read]:
        """Begin to read what a band needs, if that has not begun."""
        import dataclasses

        if band in self._ahead:
            return self._ahead[band]
        reads = []
        for s in self._active(band.z, band.motor):
            placement = s.motor if band.motor else s.placement
            (r0, r1), (c0, c1) = placement.source_window(band.y, band.x)
            k0 = max(math.floor(band.z[0] - placement.z_px), 0)
            k1 = min(math.ceil(band.z[1] - placement.z_px) + 1, placement.shape[0])
            if r1 <= r0 or c1 <= c0 or k1 <= k0:
                continue
            # The window's own columns, on both sides.
            matrix = placement.to_slice.copy()
            matrix[:, 2] += matrix[:, 1] * band.x[0]
            matrix[1, 2] -= c0
            reads.append(
                _Read(
                    s,
                    dataclasses.replace(placement, to_slice=matrix),
                    (k0, k1),
                    (r0, r1),
                    (c0, c1),
                    s.volume.begin_read((k0, k1), (r0, r1), (c0, c1)),
                )
            )
        self._ahead[band] = reads
        return reads

    def _sums(self, band: _Band, after: _Band | None) -> tuple[FloatArray, FloatArray]:
        import numpy as np

        from soct.mosaic.stack_rendering import add_slice

        backend = self.device.backend
        reads = self._reads(band)
        if after is not None:
            self._reads(after)
        del self._ahead[band]
        shape = (band.z[1] - band.z[0], band.y[1] - band.y[0], band.x[1] - band.x[0])

        def zeros(name: str) -> Any:
            if not backend.compiled:
                return backend.xp.zeros(shape, np.float32)
            room = self._room(name, shape, np.float32)
            room.fill(0)
            return room

        # What is made up fills what no slice that was imaged holds, and mixes with none.
        numerator, denominator = zeros("numerator"), zeros("denominator")
        is_made = any(read.one.interpolation for read in reads)
        made = [zeros("made"), zeros("weights of made")] if is_made else []
        while reads:
            read = reads.pop(0)
            target, weights = made if read.one.interpolation else (numerator, denominator)
            valid, lateral = self._maps(read, whole=not band.motor)
            add_slice(
                target,
                weights,
                read.block(),
                valid,
                lateral,
                read.placement,
                read.one.weights,
                block_z0=read.planes[0],
                row0=read.rows[0],
                z0=band.z[0],
                y0=band.y[0],
                ramp_px=self.ramp_px,
                cubic=self.cubic,
                backend=backend,
            )
        if made:
            empty = denominator <= 0
            numerator[empty], denominator[empty] = made[0][empty], made[1][empty]
        return backend.down(numerator), backend.down(denominator)
