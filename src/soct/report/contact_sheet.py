"""A contact sheet: rows of small pictures with words beside them, as one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from soct.formats.images import to_grey
from soct.space import FloatArray

_MARGIN = 8
_LINE = 14


@dataclass(frozen=True)
class SheetRow:
    """One row of a sheet.

    Attributes
    ----------
    title : str
        Words above the pictures.
    pictures : sequence of ndarray (y, x)
        Shown in one common window of grey.
    captions : sequence of str
        Words below each picture.
    """

    title: str
    pictures: Sequence[FloatArray]
    captions: Sequence[str]


def draw_sheet(rows: Sequence[SheetRow], height: int = 120) -> NDArray[np.uint8]:
    """Draw a sheet.

    Parameters
    ----------
    rows : sequence of SheetRow
    height : int
        Height of the pictures in pixels.

    Returns
    -------
    ndarray (y, x) uint8
    """
    drawn = [_draw_row(row, height) for row in rows]
    if not drawn:
        return np.full((_LINE, _LINE), 255, np.uint8)
    width = max(part.shape[1] for part in drawn)
    padded = [
        np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=255) for part in drawn
    ]
    return np.concatenate(padded)


def _draw_row(row: SheetRow, height: int) -> NDArray[np.uint8]:
    values = np.concatenate([np.ravel(p[np.isfinite(p)]) for p in row.pictures])
    low, high = (float(v) for v in np.percentile(values, (1, 99))) if values.size else (0.0, 1.0)
    pictures = []
    for picture in row.pictures:
        grey = Image.fromarray(to_grey(picture, (low, high)))
        wide = max(1, round(picture.shape[1] * height / picture.shape[0]))
        pictures.append(grey.resize((wide, height), Image.Resampling.BILINEAR))
    size = (
        sum(p.width + _MARGIN for p in pictures) + _MARGIN,
        height + 2 * _LINE + _MARGIN,
    )
    length = 7 * max(len(row.title), 1) + 2 * _MARGIN
    sheet = Image.new("L", (max(size[0], length), size[1]), 255)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 1), row.title, fill=0)
    left = _MARGIN
    for picture, caption in zip(pictures, row.captions, strict=True):
        sheet.paste(picture, (left, _LINE))
        pen.text((left, _LINE + height + 1), caption, fill=0)
        left += picture.width + _MARGIN
    return np.asarray(sheet)
