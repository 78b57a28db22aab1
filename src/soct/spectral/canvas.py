"""Where placed images lie on a grid of output pixels: sizes, bounds, clipping and masks.

Points are ``(x, y)`` in pixel-edge convention, see `soct.spectral`. The canvas is made of whole pixels: an image at ``(0, 0)`` of
size ``(W, H)`` covers the points 0..W and 0..H, and with them the W x H pixels whose centres lie there.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Rect = tuple[int, int, int, int]
Size = tuple[int, int]

# Less than this off a whole pixel, over the whole of an image, is rounding and not worth an interpolation.
_HAIR_PX = 1e-6
_SHOWN = 10


@dataclass(frozen=True)
class PlacedImage:
    """One image on the canvas.

    Attributes
    ----------
    size : (int, int)
        Width and height.
    to_canvas : float64 ndarray (2, 3)
        Point ``(x, y, 1)`` of the image to point of the canvas.
    rect : (y0, y1, x0, x1)
        Canvas pixels that it may cover.
    """

    size: Size
    to_canvas: Matrix
    rect: Rect

    @property
    def shift(self) -> tuple[float, float] | None:
        """Where its top-left corner lies, for an image that is only moved."""
        (a, b, x), (c, d, y) = self.to_canvas
        return (x, y) if (a, b, c, d) == (1.0, 0.0, 0.0, 1.0) else None

    @property
    def to_image(self) -> Matrix:
        """The other way round."""
        linear = np.linalg.inv(self.to_canvas[:, :2])
        return np.column_stack([linear, -linear @ self.to_canvas[:, 2]])

    def covered(self, rect: Rect) -> NDArray[np.bool_]:
        """Say which pixels of `rect` have their centres in the image."""
        y0, y1, x0, x1 = rect
        x, y = np.arange(x0, x1) + 0.5, (np.arange(y0, y1) + 0.5)[:, None]
        shift = self.shift
        w, h = self.size
        if shift is not None:
            # The same differences as `rect` is made from, so that both agree to the pixel.
            dx, dy = shift
            inside = (x >= dx) & (x < dx + w), (y >= dy) & (y < dy + h)
            return inside[0] & inside[1]
        (a, b, e), (c, d, f) = self.to_image
        u, v = a * x + (b * y + e), c * x + (d * y + f)
        return (u >= 0) & (u < w) & (v >= 0) & (v < h)


@dataclass(frozen=True)
class Canvas:
    """Images on a grid of pixels.

    Attributes
    ----------
    origin : (float, float)
        Point of the placement at the canvas' top-left corner.
    size : (int, int)
        Width and height in pixels.
    images : mapping
        By tile.
    """

    origin: tuple[float, float]
    size: Size
    images: Mapping[Hashable, PlacedImage]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.size[1], self.size[0]

    def count(self, tiles: Sequence[Hashable] | None = None) -> NDArray[np.int32]:
        """Count by how many of the images (all where none are named) each pixel is covered."""
        number = np.zeros(self.shape, np.int32)
        for tile in self.images if tiles is None else tiles:
            image = self.images[tile]
            y0, y1, x0, x1 = image.rect
            number[y0:y1, x0:x1] += image.covered(image.rect)
        return number


def named(tiles: Sequence[Any]) -> str:
    """Name tiles in a message, not all of thousands."""
    more = f" and {len(tiles) - _SHOWN} more" if len(tiles) > _SHOWN else ""
    return ", ".join(repr(t) for t in tiles[:_SHOWN]) + more


def placement_matrices(
    rigid: Mapping[Any, Any] | None, affine: Mapping[Any, Any] | None
) -> dict[Hashable, Matrix]:
    """Return what maps the points of each image to those of the placement, (2, 3).

    Parameters
    ----------
    rigid : mapping from tile to (x, y)
    affine : mapping from tile to Affine or ndarray (2, 3)
        One of both is given.

    Raises
    ------
    ValueError
        None or both are given, one is empty, or a tile has no usable position.
    """
    if (rigid is None) == (affine is None):
        raise ValueError(
            "A renderer needs one placement, rigid= or affine=: "
            + ("both are given" if rigid is not None else "none is given")
        )
    given = rigid if rigid is not None else affine
    if not isinstance(given, Mapping) or not given:
        raise ValueError(
            "A placement is a dictionary from tile to position, with one tile at least; "
            f"this one is {'empty' if isinstance(given, Mapping) else type(given).__name__}"
        )
    matrices: dict[Hashable, Matrix] = {}
    for tile, place in given.items():
        matrices[tile] = _matrix(tile, place, is_shift=rigid is not None)
    return matrices


def _matrix(tile: Hashable, place: Any, *, is_shift: bool) -> Matrix:
    shape, what = ((2,), "(x, y)") if is_shift else ((2, 3), "an Affine, or an array of 2 x 3")
    try:
        values = np.array(place, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != shape:
        raise ValueError(f"The place of tile {tile!r} must be {what}, not {place!r}")
    if not np.isfinite(values).all():
        raise ValueError(f"Tile {tile!r} has no finite place: {values.tolist()}")
    if is_shift:
        return np.column_stack([np.eye(2), values])
    if abs(np.linalg.det(values[:, :2])) < 1e-9:
        raise ValueError(f"The transform of tile {tile!r} flattens it: {values.tolist()}")
    return values


def as_size(value: Any, of: str = "tilesize") -> Size:
    """Return width and height from (w, h), or from one number for a square.

    Raises
    ------
    ValueError
        They are no positive whole numbers.
    """
    try:
        w, h = (float(v) for v in np.broadcast_to(np.asarray(value, np.float64), (2,)))
    except (TypeError, ValueError):
        w = h = math.nan
    if not (w >= 1 and h >= 1 and w == int(w) and h == int(h)):
        raise ValueError(f"{of} must be (w, h) in whole pixels, not {value!r}")
    return int(w), int(h)


def image_sizes(tilesize: Any, tiles: Sequence[Hashable]) -> dict[Hashable, Size]:
    """Return each tile's size from one for all, or from a dictionary.

    Raises
    ------
    ValueError
        A tile has none, or it is no size.
    """
    if not isinstance(tilesize, Mapping):
        size = as_size(tilesize)
        return dict.fromkeys(tiles, size)
    missing = [t for t in tiles if t not in tilesize]
    if missing:
        raise ValueError(f"tilesize has no size for tile {named(missing)}")
    return {t: as_size(tilesize[t], f"the size of tile {t!r}") for t in tiles}


def lay_out(
    matrices: Mapping[Hashable, Matrix], sizes: Mapping[Hashable, Size], clip: Any = False
) -> Canvas:
    """Choose the canvas and lay the images on it.

    Parameters
    ----------
    matrices : mapping from tile to float64 ndarray (2, 3)
        See `placement_matrices`.
    sizes : mapping from tile to (w, h)
    clip : bool or (x0, y0, w, h)
        False: all that some image covers. True: the largest upright rectangle that every image covers. Or a rectangle
        of the placement, which may begin between pixels.

    Raises
    ------
    ValueError
        There is nothing that every image covers, or the rectangle is none.
    """
    outlines = {t: _outline(matrices[t], sizes[t]) for t in matrices}
    if clip is False or clip is None:
        corners = np.concatenate(list(outlines.values()))
        low, high = _first_pixel(corners.min(axis=0)), _first_pixel(corners.max(axis=0))
        origin, size = low, high - low
    elif clip is True:
        low, high = _common_rectangle(list(outlines.values()))
        origin, size = low, high - low
    else:
        origin, size = _rectangle(clip)
    w, h = (max(int(n), 1) for n in size)
    images = {
        t: _placed(matrix, sizes[t], outlines[t], origin, (w, h)) for t, matrix in matrices.items()
    }
    return Canvas((float(origin[0]), float(origin[1])), (w, h), images)


def _outline(matrix: Matrix, size: Size) -> Matrix:
    """Corners of an image in the placement, in order, shape (4, 2)."""
    w, h = size
    return np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]], np.float64) @ matrix.T


def _first_pixel(point: Matrix) -> Matrix:
    """Index of the first pixel whose centre is not before a point; a hair off a whole pixel is rounding."""
    snapped = np.where(np.abs(point - np.rint(point)) < _HAIR_PX, np.rint(point), point)
    return np.ceil(snapped - 0.5)


def _placed(
    matrix: Matrix, size: Size, outline: Matrix, origin: Matrix, canvas: Size
) -> PlacedImage:
    local = matrix.copy()
    local[:, 2] -= origin
    corners = outline - origin
    if np.abs(local[:, :2] - np.eye(2)).sum() * max(size) < _HAIR_PX:
        whole = np.rint(local[:, 2])
        near = np.abs(local[:, 2] - whole) < _HAIR_PX
        local = np.column_stack([np.eye(2), np.where(near, whole, local[:, 2])])
        # Exactly as many pixels as the image has, wherever it lies.
        low = np.ceil(local[:, 2] - 0.5)
        high = low + size
    else:
        low, high = np.ceil(corners.min(axis=0) - 0.5), np.ceil(corners.max(axis=0) - 0.5)
    (x0, y0), (x1, y1) = (
        np.minimum(np.maximum(edge, 0), canvas).astype(int).tolist() for edge in (low, high)
    )
    return PlacedImage(size, local, (y0, max(y0, y1), x0, max(x0, x1)))


def _rectangle(clip: Any) -> tuple[Matrix, Matrix]:
    try:
        values = np.array(clip, np.float64)
    except (TypeError, ValueError):
        values = np.empty(0)
    if values.shape != (4,) or not np.isfinite(values).all() or (np.rint(values[2:]) < 1).any():
        raise ValueError(f"clip must be False, True or [x0, y0, w, h] in pixels, not {clip!r}")
    return values[:2], np.rint(values[2:])


def _common_rectangle(outlines: Sequence[Matrix]) -> tuple[Matrix, Matrix]:
    """First and last + 1 pixel ``(x, y)`` of the largest upright rectangle that all outlines hold."""
    sides = np.concatenate([_half_planes(o) for o in outlines])
    low = np.max([o.min(axis=0) for o in outlines], axis=0)
    high = np.min([o.max(axis=0) for o in outlines], axis=0)
    if (high > low).all():
        slanted = np.abs(sides[:, :2]).min(axis=1) > _HAIR_PX / np.ptp(np.concatenate(outlines))
        if slanted.any():
            low, high = _largest_within(sides, float(low[0]), float(high[0]))
        first, stop = _first_pixel(low), _first_pixel(high)
        if (stop > first).all():
            return first, stop
    raise ValueError(
        "clip=True asks for what all images cover, and there is no such pixel: "
        "use clip=False, or clip=[x0, y0, w, h]"
    )


def _half_planes(outline: Matrix) -> Matrix:
    """Sides of an outline as (a, b, c): inside is ``a x + b y <= c``; shape (4, 3)."""
    edges = np.roll(outline, -1, axis=0) - outline
    turn = np.sign(edges[0, 0] * edges[1, 1] - edges[0, 1] * edges[1, 0])
    normals = turn * np.column_stack([edges[:, 1], -edges[:, 0]])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.column_stack([normals, np.einsum("ij,ij->i", normals, outline)])


def _heights(sides: Matrix, x: Matrix) -> tuple[Matrix, Matrix]:
    """Lowest and highest y within the half planes at every x."""
    a, b, c = (column[:, None] for column in sides.T)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = (c - a * x) / b
    upright = np.abs(b) < 1e-12
    outside = (upright & (a * x > c + 1e-9)).any(axis=0)
    top = np.where(upright | (b > 0), -np.inf, at).max(axis=0)
    bottom = np.where(upright | (b < 0), np.inf, at).min(axis=0)
    return np.where(outside, np.inf, top), np.where(outside, -np.inf, bottom)


def _largest_within(sides: Matrix, left: float, right: float) -> tuple[Matrix, Matrix]:
    """Largest upright rectangle within half planes whose x lies in a range: a search on ever finer grids.

    The logarithm of the area is concave in both ends, so the best of a grid is next to the best of all.
    """
    ranges = [(left, right), (left, right)]
    best = (np.zeros(2), np.zeros(2))
    for _ in range(12):
        x0, x1 = (np.linspace(*limits, 65) for limits in ranges)
        top0, bottom0 = _heights(sides, x0)
        top1, bottom1 = _heights(sides, x1)
        top = np.maximum(top0[:, None], top1[None])
        bottom = np.minimum(bottom0[:, None], bottom1[None])
        area = np.maximum(x1[None] - x0[:, None], 0) * np.maximum(bottom - top, 0)
        i, j = np.unravel_index(int(area.argmax()), area.shape)
        if area[i, j] <= 0:
            break
        best = np.array([x0[i], top[i, j]]), np.array([x1[j], bottom[i, j]])
        ranges = [
            (
                max(left, float(x[k] - 2 * (x[1] - x[0]))),
                min(right, float(x[k] + 2 * (x[1] - x[0]))),
            )
            for x, k in ((x0, i), (x1, j))
        ]
    return best


def bands(height: int, rows: int) -> Iterator[tuple[int, int]]:
    """Yield the bands of rows that a canvas is rendered by."""
    for y0 in range(0, height, rows):
        yield y0, min(y0 + rows, height)


def cut(image: PlacedImage, y0: int, y1: int) -> PlacedImage:
    """Return an image with only its canvas rows ``y0 .. y1``."""
    a, b, c, d = image.rect
    return replace(image, rect=(max(a, y0), max(min(b, y1), max(a, y0)), c, d))
