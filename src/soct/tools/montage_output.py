"""A montage as a file, of the type and brightness of its images; and a small copy of it for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soct.errors import UsageError
from soct.formats.flat_files import flat_suffix
from soct.formats.tiles import shown
from soct.geometry.resampling import average_boxes
from soct.space import FloatArray
from soct.spectral import Renderer
from soct.tools.montage_images import ImageSet

PREVIEW_SIDE = 1400
_SHOWN_SUFFIXES = ".tif, .ome.tif or .ome.zarr"

Matrices = Mapping[int, NDArray[np.float64]]
"""What maps the points ``(x, y)`` of every image to the mosaic, (2, 3), pixel edges."""


def check_new(path: Path, what: str) -> None:
    """Refuse a place that is taken or has no folder, before anything is computed.

    Raises
    ------
    UsageError
        It exists, or its folder does not.
    """
    if path.exists() or path.is_symlink():
        raise UsageError(
            f"{what} exists already; nothing is ever overwritten",
            file=shown(path),
            expected="a new name",
            hint="Remove it first, or choose another name.",
        )
    if not path.parent.is_dir():
        raise UsageError(
            f"The folder of {what[0].lower()}{what[1:]} does not exist", file=shown(path.parent)
        )


def stem_of(path: Path) -> str:
    """Return the name of a mosaic without the ending that says what it is.

    Raises
    ------
    UsageError
        It has none that montage writes.
    """
    try:
        return path.name[: -len(flat_suffix(path))]
    except UsageError:
        raise UsageError(
            "The mosaic's name does not say what it is",
            file=shown(path),
            expected=f"a name that ends with {_SHOWN_SUFFIXES}",
            found=path.suffix or "no ending",
        ) from None


@dataclass
class SmallCopies:
    """Reduced copies of images, kept as they come by, so that they need not be read once more.

    Attributes
    ----------
    images : ImageSet
    factor : float
        Pixels of an image per pixel of its copy.
    """

    images: ImageSet
    factor: float
    _held: dict[int, FloatArray] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a copy."""
        h, w = (max(4, round(n / self.factor)) for n in self.images.shape)
        return h, w

    def read(self, i: int) -> FloatArray:
        """Read an image and keep a copy."""
        image = self.images.read(i)
        if i not in self._held:
            self._held[i] = image if self.shape == image.shape else average_boxes(image, self.shape)
        return image

    def get(self, i: int) -> FloatArray:
        """Return the copy of an image."""
        if i not in self._held:
            self.read(i)
        return self._held[i]


def copies_for(images: ImageSet, matrices: Matrices) -> SmallCopies:
    """Choose copies small enough for a preview of the mosaic."""
    canvas = _renderer(images.shape, matrices).canvas
    return SmallCopies(images, max(1.0, max(canvas.size) / PREVIEW_SIDE))


def _renderer(
    shape: tuple[int, int], matrices: Matrices, blend: float = 10, fill: float = 0.0
) -> Renderer:
    return Renderer(affine=dict(matrices), tilesize=(shape[1], shape[0]), blend=blend, fill=fill)


def mosaic_frame(
    shape: tuple[int, int], matrices: Matrices
) -> tuple[tuple[float, float], tuple[int, int]]:
    """Return the point ``(x, y)`` at the mosaic's top-left corner, and its width and height."""
    canvas = _renderer(shape, matrices).canvas
    return canvas.origin, canvas.size


def write_mosaic(
    path: Path,
    images: ImageSet,
    matrices: Matrices,
    copies: SmallCopies,
    *,
    blend: float = 10,
    pixel_um: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Render the mosaic to a file, by bands; pixels without an image are 0, or NaN in floats."""
    dtype = images.dtype
    fill = float("nan") if dtype.kind == "f" else 0.0

    def load(i: int) -> NDArray[np.generic]:
        image = copies.read(i)
        if dtype.kind == "f":
            return image
        return np.clip(np.rint(image), 0, np.iinfo(dtype).max).astype(dtype)

    def tell(done: int, rows: int) -> None:
        if progress is not None:
            progress(done / rows)

    _renderer(images.shape, matrices, blend, fill).render_to(
        path, load, dtype=dtype, pixel_um=pixel_um, progress=tell
    )


def draw_preview(copies: SmallCopies, matrices: Matrices, blend: float = 10) -> FloatArray:
    """Return a small picture of the mosaic; NaN where no image is."""
    shape = copies.shape
    fy, fx = (n / s for n, s in zip(copies.images.shape, shape, strict=True))
    small = {}
    for i, matrix in matrices.items():
        scaled = matrix @ np.diag([fx, fy, 1.0])
        scaled[0] /= fx
        scaled[1] /= fy
        small[i] = scaled
    renderer = _renderer(shape, small, max(1.0, blend / max(fy, fx)), float("nan"))
    for i in small:
        renderer.render(i, copies.get(i))
    picture: FloatArray = np.array(renderer.image, np.float32)
    return picture
