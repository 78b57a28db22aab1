"""Small pictures of slices, tile pairs and slice pairs, cut out of what the steps saved.

Nothing is read from a volume: the projections are those of `stitch_3d_with_refinement`, the places of tiles
and the poses of slices are the saved ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.registration.transforms import RigidTransform2D
from soct.report.figures import FigureError, FigureStore

STITCH, POSES = "stitch_3d_with_refinement", "estimate_slice_poses"
Placement: TypeAlias = Literal["poses", "stage"]
Image: TypeAlias = NDArray[np.float32]
Box: TypeAlias = tuple[float, float, float, float]
"""``(top, bottom, left, right)`` in pixels of a picture."""
SQUARES = 8
"""Squares along the longer side of a checkerboard."""
_SEAM_REACH = 0.45
"""How far a picture of a seam reaches to either side of it, in tiles."""
_SEAM_SIDE = 300
"""Most pixels along a side of it, so that every one is shown."""


@dataclass(frozen=True)
class StitchedSlice:
    """The projection along depth of one slice, by the stage alone and as placed."""

    before: Image
    after: Image
    positions: NDArray[np.float64]
    """``(n, 2)`` first pixel of every tile in `after`."""
    nominal: NDArray[np.float64]
    """The same in `before`."""
    tile: NDArray[np.float64]
    """Rows and columns of a tile, in pixels of the pictures."""
    grid_index: NDArray[np.int64]
    pixel_um: float
    """Width of a pixel of the pictures."""
    step: int = 1
    """The pictures keep one pixel of so many of the slice, along each side."""

    def box(self, tile: int) -> Box:
        """Return where a tile lies in `after`."""
        top, left = self.positions[tile]
        return top, top + self.tile[0], left, left + self.tile[1]

    def find(self, row: int, col: int) -> int | None:
        """Return the index of the tile at a place of the grid, or None."""
        first = self.grid_index.min(axis=0) if len(self.grid_index) else np.zeros(2, np.int64)
        for k, (r, c) in enumerate((self.grid_index - first).tolist()):
            if (r, c) == (row, col):
                return k
        return None


def stitched_slice(figures: FigureStore, unit: str) -> StitchedSlice:
    """Read the projections of a slice and where its tiles lie in them.

    Raises
    ------
    FigureError
        When the slice saved none, or they do not belong together.
    """
    before, after, positions, nominal, shape, voxel, index = figures.arrays(
        STITCH, unit, "before", "after", "positions_px", "nominal_px", "tile_shape", "voxel_um", "grid_index"
    )  # fmt: skip
    names = figures.names(STITCH, unit)
    blank = figures.array(STITCH, unit, "blank").astype(bool) if "blank" in names else None
    if before.ndim != 2 or after.ndim != 2 or positions.shape[-1:] != (2,) or not len(positions):
        msg = f"{STITCH}, {unit}: the projections and places of tiles do not belong together"
        raise FigureError(msg)
    lit = np.ones(len(positions), bool) if blank is None or blank.all() else ~blank
    tile = np.ravel(shape)[-2:].astype(float)
    first = positions[lit].min(axis=0)
    extent = float(np.ptp(positions[lit][:, 1]) + tile[1])
    # Projections keep every `step`-th pixel of the slice.
    step = max(1, round(extent / after.shape[1]))
    return StitchedSlice(
        before=np.asarray(before, np.float32),
        after=np.asarray(after, np.float32),
        positions=(positions - first) / step,
        nominal=(nominal - nominal[lit].min(axis=0)) / step,
        tile=tile / step,
        grid_index=index.astype(np.int64),
        pixel_um=step * float(np.ravel(voxel)[-1]),
        step=step,
    )


def cut(image: Image, box: Box) -> Image:
    """Return the part of a picture inside a box; what lies outside of the picture is no data."""
    top, bottom, left, right = (round(v) for v in box)
    rows, columns = max(1, bottom - top), max(1, right - left)
    out = np.full((rows, columns), np.nan, np.float32)
    y0, y1 = max(0, top), min(image.shape[0], bottom)
    x0, x1 = max(0, left), min(image.shape[1], right)
    if y1 > y0 and x1 > x0:
        out[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return out


@dataclass(frozen=True)
class SeamPicture:
    """The surroundings of the seam of two tiles, by the stage alone and as placed, of one size."""

    before: Image
    after: Image
    pixel_um: float
    upright: bool
    """Whether the seam runs down the middle of the picture; else it runs across."""
    sharp: bool
    """Whether the pixels are those of the slice, and not of a smaller picture of it."""


def picture_seam(
    figures: FigureStore, stitched: StitchedSlice, unit: str, a: int, b: int
) -> SeamPicture:
    """Return the seam of two tiles: as the step saved it at full resolution, or cut out of the slice's picture."""
    apart = np.abs(stitched.positions[b] - stitched.positions[a])
    upright = bool(apart[1] > apart[0])
    if "seam_pairs" in figures.names(STITCH, unit):
        pairs, before, after, voxel = figures.arrays(
            STITCH, unit, "seam_pairs", "seam_before", "seam_after", "voxel_um"
        )
        for k, pair in enumerate(pairs.reshape(-1, 2).tolist()):
            if pair == [a, b]:
                pixel = float(np.ravel(voxel)[-1])
                return SeamPicture(before[k], after[k], pixel, upright, sharp=True)
    first, second = cut_seam(stitched, a, b)
    return SeamPicture(first, second, stitched.pixel_um, upright, stitched.step == 1)


def cut_seam(stitched: StitchedSlice, a: int, b: int) -> tuple[Image, Image]:
    """Return the surroundings of the seam of two tiles, by the stage alone and as placed, of one size."""
    size = np.minimum(2 * _SEAM_REACH * stitched.tile, _SEAM_SIDE)

    def around(image: Image, places: NDArray[np.float64]) -> Image:
        centre = 0.5 * (places[a] + places[b]) + stitched.tile / 2
        top, left = np.round(centre - size / 2)
        return cut(image, (top, top + round(size[0]), left, left + round(size[1])))

    return around(stitched.before, stitched.nominal), around(stitched.after, stitched.positions)


def checkerboard(
    figures: FigureStore, pair: tuple[int, int], placed_by: Placement
) -> tuple[Image, float]:
    """Return two slices in alternating squares, one laid on the other, and the pixel size in micrometres.

    Both are projections along depth, so fine texture may differ where edges run on. Each is scaled to one
    median. Places without data of the slice whose turn it is are NaN.

    Raises
    ------
    FigureError
        When a slice has no projection or no pose.
    """
    fixed, moving = (stitched_slice(figures, f"z{s:02d}") for s in pair)
    to_moving = _mapping(figures, pair, (fixed, moving), placed_by)
    # The same mapping between pixels: no array of coordinates, which took most of the time of a whole page.
    linear = to_moving[:2, :2] * (fixed.pixel_um / moving.pixel_um)
    offset = to_moving[:2, 2] / moving.pixel_um

    def lay(image: Image, outside: float) -> Image:
        return ndi.affine_transform(
            image, linear, offset, fixed.after.shape, order=1, mode="constant", cval=outside
        )

    known = np.isfinite(moving.after)
    laid = lay(np.where(known, moving.after, np.float32(0)), np.nan)
    if not known.all():
        laid[lay((~known).astype(np.float32), 1.0) > 0.5] = np.nan
    rows, columns = fixed.after.shape
    square = square_size((rows, columns))
    y, x = np.ogrid[:rows, :columns]
    turn = (y // square + x // square) % 2 == 0
    board = np.where(turn, fixed.after / _level(fixed.after), laid / _level(laid))
    return board.astype(np.float32), fixed.pixel_um


def square_size(shape: tuple[int, ...]) -> int:
    """Return the side of a checkerboard's squares in pixels."""
    return max(4, -(-max(shape) // SQUARES))


def _mapping(
    figures: FigureStore,
    pair: tuple[int, int],
    stitched: tuple[StitchedSlice, StitchedSlice],
    placed_by: Placement,
) -> NDArray[np.float64]:
    """Return the 3 x 3 matrix that maps points of the fixed slice to the moving one, in micrometres."""
    ids, pose, rotation, stage = figures.arrays(
        POSES, "run", "slice_ids", "pose_um", "rotation_deg", "stage_um"
    )
    known = ids.astype(int).tolist()
    if not set(pair) <= set(known):
        msg = f"{POSES}: slices {pair[0]} and {pair[1]} have no pose"
        raise FigureError(msg)
    transforms = []
    for slice_id, one in zip(pair, stitched, strict=True):
        k = known.index(slice_id)
        centre = tuple(0.5 * (n - 1) * one.pixel_um for n in one.after.shape)
        place = (pose if placed_by == "poses" else stage)[k]
        turn = float(rotation[k]) if placed_by == "poses" else 0.0
        transforms.append(
            RigidTransform2D(turn, (float(place[-2]), float(place[-1])), (centre[0], centre[1]))
        )
    fixed, moving = transforms
    return moving.matrix() @ fixed.inverse().matrix()


def _level(image: Image) -> float:
    known = image[np.isfinite(image) & (image > 0)]
    return float(np.median(known)) if known.size else 1.0
