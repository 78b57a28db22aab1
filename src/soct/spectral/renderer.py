"""Placed images to one picture, tile after tile; and to files of any size, see `Renderer.render_to`."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from soct.space import FloatArray
from soct.spectral.canvas import (
    Canvas,
    PlacedImage,
    image_sizes,
    lay_out,
    named,
    placement_matrices,
)

if TYPE_CHECKING:
    from soct.mosaic.patches import Patch
    from soct.spectral.image import Image
    from soct.spectral.streaming import Streamed


class Renderer:
    """Lay placed images on one canvas.

    Parameters
    ----------
    rigid : mapping from tile to (x, y), optional
        Where the top-left corner of each image lies: what `Placement.rigid` returns.
    affine : mapping from tile to Affine, optional
        What maps the points of each image to the canvas: what `Placement.affine` returns. (2, 3) arrays do as well. One of
        `rigid` and `affine` must be given.
    tilesize : (w, h), int or mapping from tile to (w, h), optional
        Size of the images, or of each. Where it is absent, all images are as large as the first one rendered.
    clip : bool or (x0, y0, w, h)
        What becomes the picture. False: everything that some image covers. True: the largest rectangle that every
        image covers. Or a rectangle in coordinates of the placement, which may begin between pixels.
    blend : float
        Width in pixels of the ramp over which an image fades towards its borders. Where images overlap, each counts by its
        ramp; where there is one alone, it is not changed. 0: no ramp.
    fill : float
        Value of pixels without an image.

    Raises
    ------
    ValueError
        There is no placement, or it, the sizes or `clip` make no sense.

    Notes
    -----
    Images are interpolated with Keys' cubic convolution, at sub-pixel positions. The same images in the same order give the same
    bits on any number of threads. The time for an image depends on its size and not on that of the canvas.

    Pixels that are NaN are "no data": other images show there.

    Examples
    --------
    A stack of planes in one frame::

        renderer = Renderer(rigid=placement.rigid(), tilesize=(1024, 1024))
        for z in range(nz):
            for tile in tiles:
                renderer.render(tile, load(tile, z))
            renderer.image.save(f"plane{z}.tif")
            renderer.clear()
    """

    def __init__(
        self,
        rigid: Mapping[Any, Any] | None = None,
        affine: Mapping[Any, Any] | None = None,
        tilesize: Any = None,
        clip: Any = False,
        blend: float = 10,
        *,
        fill: float = 0.0,
    ) -> None:
        if not 0 <= float(blend) < np.inf:
            raise ValueError(f"blend is a width in pixels, 0 or more, not {blend!r}")
        self._matrices = placement_matrices(rigid, affine)
        self._clip = clip
        self._blend = float(blend)
        self._fill = np.float32(fill)
        self._canvas: Canvas | None = None
        self._mean: FloatArray | None = None
        self._total: FloatArray | None = None
        self._rendered: dict[Hashable, None] = {}
        if tilesize is not None:
            self._lay_out(tilesize)

    def _lay_out(self, tilesize: Any) -> Canvas:
        sizes = image_sizes(tilesize, list(self._matrices))
        self._canvas = lay_out(self._matrices, sizes, self._clip)
        return self._canvas

    @property
    def canvas(self) -> Canvas:
        """Where everything lies.

        Raises
        ------
        ValueError
            The size of the images is not known yet.
        """
        if self._canvas is None:
            raise ValueError(
                "The size of the images is not known: give tilesize=(w, h), or render one first"
            )
        return self._canvas

    @property
    def pmin(self) -> NDArray[np.float64]:
        """Point of the placement at the top-left corner of the picture: pixel (column, row) begins at ``pmin + (column, row)``."""
        return np.array(self.canvas.origin)

    @property
    def pmax(self) -> NDArray[np.float64]:
        """Point of the placement at the bottom-right corner of the picture."""
        return self.pmin + self.canvas.size

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        return self.canvas.size

    @property
    def rendered(self) -> tuple[Hashable, ...]:
        """Tiles rendered since the last `clear`, in order."""
        return tuple(self._rendered)

    def render(self, tile: Hashable, img: ArrayLike) -> None:
        """Add an image.

        Parameters
        ----------
        tile : hashable
            One of the placement.
        img : Image or array_like (rows, columns)
            Arrays of 8 and 16 bits become brightness from 0 to 1, as in `Image`.

        Raises
        ------
        ValueError
            The tile is not in the placement or has been rendered since the last `clear`, or the image is not
            two-dimensional or of another size than was said.
        """
        self._check_tile(tile)
        plane = self._checked(tile, img)
        mean, total = self._planes()
        add_image(self.canvas.images[tile], plane, self._blend, mean, total)
        self._rendered[tile] = None

    def _planes(self) -> tuple[FloatArray, FloatArray]:
        """Return the weighted mean so far and the sum of weights."""
        if self._mean is None or self._total is None:
            w, h = self.size
            try:
                self._mean = np.zeros((h, w), np.float32)
                self._total = np.zeros((h, w), np.float32)
            except MemoryError as error:
                raise MemoryError(
                    f"A picture of {w} x {h} pixels does not fit into memory: "
                    "clip=[x0, y0, w, h] takes a part of it, render_to(path, load) writes it to a file"
                ) from error
        return self._mean, self._total

    def _check_tile(self, tile: Hashable) -> None:
        if tile not in self._matrices:
            known = named(list(self._matrices))
            raise ValueError(f"Tile {tile!r} is not in the placement, which has {known}")
        if tile in self._rendered:
            raise ValueError(
                f"Tile {tile!r} has been rendered already; clear() begins a new picture"
            )

    def _checked(self, tile: Hashable, img: ArrayLike) -> NDArray[Any]:
        """Return an image of the size that was said; 8 and 16 bits stay what they are until they are rendered."""
        from soct.spectral.image import as_plane

        data = np.asarray(img)
        if data.ndim != 2:
            raise ValueError(
                f"The image of tile {tile!r} must be two-dimensional, not of shape {data.shape}; "
                "Image(...) makes colours grey"
            )
        if data.dtype not in (np.uint8, np.uint16):
            data = as_plane(data)
        found = (data.shape[1], data.shape[0])
        if self._canvas is None:
            self._lay_out(found)
        w, h = self.canvas.images[tile].size
        if found != (w, h):
            raise ValueError(
                f"The image of tile {tile!r} is {found[0]} x {found[1]} pixels, not {w} x {h}; "
                "tilesize={tile: (w, h), ...} takes images of unequal size"
            )
        return data

    def clear(self) -> None:
        """Begin a new picture on the same canvas; pictures taken before stay as they are."""
        self._rendered.clear()
        # A new array of zeros costs nothing until it is written to.
        self._mean = self._total = None

    @property
    def image(self) -> Image:
        """The picture so far, a copy."""
        from soct.spectral.image import Image

        if self._mean is None or self._total is None:
            return Image.wrap(np.full(self.canvas.shape, self._fill, np.float32))
        picture = self._mean.copy()
        if self._fill != 0:
            picture[self._total <= 0] = self._fill
        return Image.wrap(picture)

    def unionmask(self, *, rendered: bool = False) -> NDArray[np.bool_]:
        """Say which pixels some image of the placement covers, (rows, columns).

        Parameters
        ----------
        rendered : bool
            Count only the images rendered since the last `clear`.
        """
        return self.canvas.count(self.rendered if rendered else None) > 0

    def intersectionmask(self, *, rendered: bool = False) -> NDArray[np.bool_]:
        """Say which pixels every image of the placement covers, (rows, columns).

        Parameters
        ----------
        rendered : bool
            Ask only for the images rendered since the last `clear`.
        """
        tiles = self.rendered if rendered else tuple(self.canvas.images)
        return self.canvas.count(tiles) == len(tiles)

    def render_to(
        self,
        path: str | Path,
        load: Callable[[Any], ArrayLike | None],
        *,
        dtype: DTypeLike = np.float32,
        pixel_um: float | tuple[float, float] | None = None,
        memory_bytes: int = 1 << 30,
        progress: Callable[[int, int], None] | None = None,
    ) -> Streamed:
        """Render all images to a file, by bands of rows: the picture is never whole in memory.

        Parameters
        ----------
        path : str or Path
            ``.ome.zarr`` (OME-NGFF 0.5, with coarser levels) or ``.tif`` / ``.tiff`` (in tiles, with coarser levels; BigTIFF
            where it is large). It must not exist; it appears when it is complete.
        load : callable
            ``load(tile)`` gives the tile's image, two-dimensional, or None where there is none. Called in another thread, one
            tile after the other, when the rows of the tile come up; again where memory does not hold it until it is done.
        dtype : float32, uint8 or uint16
            uint8 and uint16 stand for a brightness of 0 to 1, as in `Image`.
        pixel_um : float or (x, y), optional
            Size of a pixel in micrometres.
        memory_bytes : int
            For images and bands together.
        progress : callable, optional
            ``progress(done, all)`` after each band, in rows.

        Returns
        -------
        Streamed

        Raises
        ------
        ValueError
            `tilesize` was not given, or an image is not what it says.
        soct.errors.UsageError
            The path exists, or has another ending.
        soct.errors.ResourceError
            It cannot be written.
        """
        from soct.spectral.streaming import stream

        return stream(
            Path(path), self.canvas, load, self._checked, blend=self._blend, fill=float(self._fill),
            dtype=np.dtype(dtype), pixel_um=pixel_um, memory_bytes=memory_bytes, progress=progress,
        )  # fmt: skip


def image_patch(image: PlacedImage, plane: NDArray[Any], blend: float) -> Patch:
    """Resample an image to the canvas pixels of its `rect`."""
    from soct.mosaic.patches import map_patch, shift_patch

    full_scale = 1.0 if plane.dtype == np.float32 else float(np.iinfo(plane.dtype).max)
    shift = image.shift
    if shift is not None:
        return shift_patch(plane, shift, image.rect, blend, full_scale)
    return map_patch(plane, image.to_image, image.rect, blend, full_scale)


def add_image(
    image: PlacedImage,
    plane: NDArray[Any],
    blend: float,
    mean: FloatArray,
    total: FloatArray,
    row0: int = 0,
) -> None:
    """Mix an image into the rows of the canvas from `row0` on that `mean` and `total` hold."""
    from soct.mosaic.patches import blend_patch

    y0, y1, x0, x1 = image.rect
    if y1 <= y0 or x1 <= x0:
        return
    patch = image_patch(image, plane, blend)
    there = slice(y0 - row0, y1 - row0), slice(x0, x1)
    blend_patch(patch.values, patch.weights, mean[there], total[there])
