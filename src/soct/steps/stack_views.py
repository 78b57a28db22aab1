"""Pictures of the stack, and what each of its planes holds, collected while the planes go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.space import FloatArray
    from soct.steps.stack_renderer import StackCanvas, StackRenderer, StackSlice

    BoolArray = NDArray[np.bool_]


class StackViews:
    """Orthogonal views and per-plane numbers, collected while the planes go by."""

    def __init__(self, canvas: StackCanvas, slices: list[StackSlice], threads: int) -> None:
        import numpy as np

        nz, ny, nx = canvas.shape
        self.threads = threads
        self.row, self.column, self.plane = ny // 2, nx // 2, nz // 2
        self.ortho_z = np.zeros((ny, nx), np.float32)
        self.ortho_y = np.zeros((nz, nx), np.float32)
        self.ortho_x = np.zeros((nz, ny), np.float32)
        self.median = np.full(nz, np.nan)
        self.fraction = np.zeros(nz)
        self.columns = np.zeros((ny, nx), np.int32)
        self.first = np.full((ny, nx), nz, np.int32)
        self.last = np.full((ny, nx), -1, np.int32)
        self.starts = np.array([s.first_plane for s in slices])

    @property
    def filled(self) -> float:
        """Share of the planes between an A-line's first and last that hold data: gaps, not ragged borders."""
        span = self.last - self.first + 1
        seen = span > 0
        return float(self.columns[seen].sum() / span[seen].sum()) if seen.any() else 0.0

    def add(self, z0: int, values: FloatArray, valid: BoolArray) -> None:
        """Take a block of planes."""
        from concurrent.futures import ThreadPoolExecutor

        from soct.mosaic.stack_kernels import count_data

        z1 = z0 + len(values)
        if z0 <= self.plane < z1:
            self.ortho_z[:] = values[self.plane - z0]
        self.ortho_y[z0:z1], self.ortho_x[z0:z1] = values[:, self.row], values[:, :, self.column]
        found = count_data(valid, z0, self.first, self.last, self.columns)
        self.fraction[z0:z1] = found / valid[0].size
        with ThreadPoolExecutor(self.threads) as pool:
            self.median[z0:z1] = list(pool.map(_median, values, valid))


def _median(plane: FloatArray, valid: BoolArray) -> float:
    """Return the brightness of a plane: the median of about 250,000 of its voxels, NaN where there are none."""
    import numpy as np

    step = max(1, int(np.sqrt(plane.size / 250_000)))
    seen = plane[::step, ::step][valid[::step, ::step]]
    return float(np.median(seen)) if seen.size else np.nan


def motor_views(
    renderer: StackRenderer, views: StackViews, depth: int
) -> tuple[FloatArray, FloatArray]:
    """Return the reslices that the stage's positions alone would give, along the same row and column."""
    import numpy as np

    nz, ny, nx = renderer.canvas.shape
    motor_y, motor_x = np.zeros((nz, nx), np.float32), np.zeros((nz, ny), np.float32)
    row, column = (views.row, views.row + 1), (views.column, views.column + 1)
    for z0, values, _ in renderer.blocks(depth, rows=row, motor=True):
        motor_y[z0 : z0 + len(values)] = values[:, 0]
    for z0, values, _ in renderer.blocks(depth, columns=column, motor=True):
        motor_x[z0 : z0 + len(values)] = values[:, :, 0]
    return motor_y, motor_x
