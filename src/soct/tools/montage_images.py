"""The images of a montage: found, checked against each other, read one at a time; and the table of their positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.plain_images import (
    PlainImage,
    find_images,
    read_plain_header,
    read_plain_image,
)
from soct.formats.tables import read_table, write_table
from soct.formats.tiles import shown
from soct.geometry.resampling import average_boxes
from soct.space import FloatArray

_LISTED = 5


@dataclass(frozen=True)
class PositionRow:
    """One image of a positions file: where its top-left corner lies, in pixels."""

    name: str
    x_px: float
    y_px: float
    confidence: float | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ImageSet:
    """Images of one size and type.

    Attributes
    ----------
    images : tuple of PlainImage
        In natural order of their names.
    """

    images: tuple[PlainImage, ...]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of every image."""
        return self.images[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.images[0].dtype

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the files; with their folders where two files have one name."""
        plain = tuple(image.name for image in self.images)
        return plain if len(set(plain)) == len(plain) else tuple(str(i.path) for i in self.images)

    def read(self, i: int) -> FloatArray:
        """Read the pixels of an image."""
        return read_plain_image(self.images[i])

    def read_reduced(self, i: int, longest: int) -> FloatArray:
        """Read an image, averaged to at most `longest` pixels along its longer side."""
        image = self.read(i)
        factor = max(1.0, max(self.shape) / longest)
        if factor == 1.0:
            return image
        h, w = (max(1, int(n / factor)) for n in self.shape)
        return average_boxes(image, (h, w))


def open_images(sources: Sequence[Path]) -> ImageSet:
    """Find the images of a montage and read their headers.

    Raises
    ------
    InputError
        There are fewer than two, one cannot be read, or they differ in size or type.
    """
    paths = find_images(sources)
    if len(paths) < 2:
        raise InputError(
            "One image alone is no montage",
            file=shown(paths[0]),
            expected="two images or more",
            found="1 image",
            hint="Name all images, their folder, or a pattern such as 'folder/*.tif'.",
        )
    images = tuple(read_plain_header(path) for path in paths)
    _check_alike(images)
    return ImageSet(images)


def _check_alike(images: tuple[PlainImage, ...]) -> None:
    def size(image: PlainImage) -> str:
        return f"{image.shape[1]} x {image.shape[0]} pixels"

    for what, told in (("size", size), ("type", lambda image: str(image.dtype))):
        kinds: dict[str, list[PlainImage]] = {}
        for image in images:
            kinds.setdefault(told(image), []).append(image)
        if len(kinds) == 1:
            continue
        usual = max(kinds, key=lambda k: len(kinds[k]))
        odd = next(image for image in images if told(image) != usual)
        others = sum(len(v) for v in kinds.values()) - len(kinds[usual])
        raise InputError(
            f"The images differ in {what}",
            file=shown(odd.path),
            expected=f"{usual}, as {len(kinds[usual])} of {len(images)} images have",
            found=told(odd) + (f" (and {others - 1} more differ)" if others > 1 else ""),
            hint="Leave out what is no tile (name the tiles by a pattern such as 'folder/tile_*.tif'), "
            "or crop or convert all to the same.",
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(shown(n) for n in names[:_LISTED]) + more


def read_positions(path: Path, images: ImageSet) -> NDArray[np.float64]:
    """Read where the top-left corner of every image lies, ``(n, 2)`` as (y, x).

    Raises
    ------
    InputError
        The file cannot be read, lacks an image, or names one that is not there or one twice.
    """
    rows = read_table(path, PositionRow)
    found: dict[str, PositionRow] = {}
    for row in rows:
        if row.name in found:
            raise InputError(
                "A positions file names an image twice", file=path, found=shown(row.name)
            )
        found[row.name] = row
    columns = "name,x_px,y_px"
    unknown = [name for name in found if name not in images.names]
    if unknown:
        raise InputError(
            "A positions file names images that are not there",
            file=shown(path),
            expected=f"{columns} with the names of the {len(images)} images, such as {shown(images.names[0])}",
            found=_some(unknown),
            hint="Remove these lines, or name these images, too.",
        )
    missing = [name for name in images.names if name not in found]
    if missing:
        raise InputError(
            "A positions file lacks images",
            file=shown(path),
            expected=f"{columns} with a line for each of the {len(images)} images",
            found=f"no line for {_some(missing)}",
            hint="Add these lines, or leave these images out.",
        )
    return np.array([(found[n].y_px, found[n].x_px) for n in images.names], np.float64)


def write_positions(
    path: Path,
    names: Sequence[str],
    positions_px: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> None:
    """Write where the top-left corner of every image lies, in pixels of the mosaic."""
    rows = [
        PositionRow(name, round(float(x), 4) + 0.0, round(float(y), 4) + 0.0, round(float(c), 4))
        for name, (y, x), c in zip(names, positions_px, confidence, strict=True)
    ]
    write_table(path, PositionRow, rows)
