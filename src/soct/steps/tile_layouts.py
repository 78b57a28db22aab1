"""What the diagnostics of tiles ask of the stitched slices: where every tile should lie, and where it was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from soct.steps.declaration import Context


@dataclass(frozen=True)
class TileLayout:
    """Tiles of one stitched slice.

    Attributes
    ----------
    index : int64 ndarray (n, 2)
        ``(row, column)``.
    nominal_px, positions_px : float64 ndarray (n, 2)
    used : bool ndarray (n,)
        Tiles of the largest group that accepted pairs join.
    tile_px : (int, int)
    pixel_um : (float, float)
        Along ``(y, x)``.
    from_stage : bool
        Whether the expected positions are the stage's; else they follow from index and overlap.
    """

    slice_id: int
    index: NDArray[np.int64]
    nominal_px: NDArray[np.float64]
    positions_px: NDArray[np.float64]
    used: NDArray[np.bool_]
    tile_px: tuple[int, int]
    pixel_um: tuple[float, float]
    from_stage: bool

    @property
    def extent_px(self) -> tuple[float, float]:
        """Height and width of the mosaic."""
        size = self.nominal_px.max(axis=0) - self.nominal_px.min(axis=0) + self.tile_px
        return float(size[0]), float(size[1])

    @property
    def to_um(self) -> NDArray[np.float64]:
        """Micrometres per pixel along ``(y, x)``."""
        import numpy as np

        return np.array(self.pixel_um)


def read_layouts(context: Context) -> list[TileLayout]:
    """Return the layout of every stitched slice that was matched, ascending; see `TileLayout`."""
    import numpy as np

    from soct.mosaic.stage_geometry import largest_group
    from soct.steps.stage_tables import read_stage

    stage = read_stage(context.run("estimate_xy_shifts", "stage_positions"))
    layouts = []
    for (slice_id,), path in sorted(context.all("stitch_3d_with_refinement", "figures").items()):
        with np.load(path) as saved:
            nominal = np.asarray(saved["nominal_px"], np.float64)
            layouts.append(
                TileLayout(
                    slice_id,
                    np.asarray(saved["grid_index"], np.int64),
                    nominal,
                    np.asarray(saved["positions_px"], np.float64),
                    largest_group(len(nominal), saved["pairs"], saved["pair_accepted"]),
                    (int(saved["tile_shape"][0]), int(saved["tile_shape"][1])),
                    (float(saved["voxel_um"][1]), float(saved["voxel_um"][2])),
                    slice_id in stage and stage[slice_id].source == "stage",
                )
            )
    return layouts
