"""Contact sheets: pictures side by side with a line of text each, as one small PNG.

Drawn with Pillow's own font, so that they look the same on every machine.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from soct.report.images import Colours, Window, colour_table, robust_window

INK, SOFT, PAPER, NO_DATA = (
    (29, 37, 48),
    (90, 102, 117),
    (255, 255, 255),
    (233, 236, 240),
)
_GAP, _TEXT, _NOTE = 12, 16, 13


@dataclass(frozen=True)
class Panel:
    """One picture of a sheet.

    Attributes
    ----------
    image : uint8 ndarray (h, w, 3)
        See `paint`.
    label : str
        Written above it.
    note : str
        Written below it, smaller.
    """

    image: NDArray[np.uint8]
    label: str
    note: str = ""


def paint(
    array: ArrayLike, *, window: Window | None = None, colours: Colours = "grey"
) -> NDArray[np.uint8]:
    """Turn a 2-D array into colours; NaN is a pale grey that no map holds."""
    data = np.asarray(array, np.float32)
    low, high = window if window is not None else robust_window(data)
    known = np.isfinite(data)
    level = np.where(known, (data - low) / max(high - low, 1e-30), 0.0)
    rgb = colour_table(colours)[np.round(np.clip(level, 0, 1) * 255).astype(np.uint8)]
    rgb[~known] = NO_DATA
    return rgb


def draw_sheet(
    panels: Sequence[Panel], *, columns: int, width: int = 800, smooth: bool = True
) -> Image.Image:
    """Lay panels out in rows of `columns`, all equally wide, in the order given.

    Parameters
    ----------
    panels : sequence of Panel
    columns : int
    width : int
        Of the sheet, in pixels.
    smooth : bool
        Interpolate pictures that are enlarged; False keeps their pixels square.
    """
    columns = max(1, min(columns, len(panels)))
    side = (width - _GAP * (columns + 1)) // columns
    shapes = [max(1, round(side * p.image.shape[0] / p.image.shape[1])) for p in panels]
    rows = [range(k, min(k + columns, len(panels))) for k in range(0, len(panels), columns)]
    heads = [_TEXT + 6 if any(panels[i].label for i in row) else 0 for row in rows]
    notes = [_wrap(p.note, side) for p in panels]
    feet = [max(len(notes[i]) for i in row) * (_NOTE + 5) + 3 for row in rows]
    tall = [max(shapes[i] for i in row) for row in rows]
    height = _GAP + sum(h + t + f + _GAP for h, t, f in zip(heads, tall, feet, strict=True))
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    top = _GAP
    for row, head, high, foot in zip(rows, heads, tall, feet, strict=True):
        for place, i in enumerate(row):
            left = _GAP + place * (side + _GAP)
            write(pen, (left, top), panels[i].label, _TEXT, INK, side)
            how = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
            if panels[i].image.shape[1] > side:
                how = Image.Resampling.BOX
            picture = Image.fromarray(panels[i].image).resize((side, shapes[i]), how)
            sheet.paste(picture, (left, top + head))
            for k, line in enumerate(notes[i]):
                under = top + head + shapes[i] + 4 + k * (_NOTE + 5)
                write(pen, (left, under), line, _NOTE, SOFT, side)
        top += head + high + foot + _GAP
    return sheet


def _wrap(text: str, width: float) -> list[str]:
    """Break a note into lines that fit."""
    font: Any = ImageFont.load_default(_NOTE)
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(legible(longer)) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def legible(text: str) -> str:
    """Return text in the characters that Pillow's own font has."""
    return text.replace("µ", "u").replace("±", "+/-").replace("−", "-").replace("°", " deg")


def write(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    width: float,
) -> None:
    """Write one line, smaller where it would not fit."""
    text = legible(text)
    font: Any = ImageFont.load_default(size)
    while size > 9 and pen.textlength(text, font=font) > width:
        size -= 1
        font = ImageFont.load_default(size)
    pen.text(at, text, fill=colour, font=font)


def encode_sheet(
    sheet: Image.Image, limit: int = 60_000, description: str = "", *, most: int | None = None
) -> bytes:
    """Encode as PNG with as many colours as fit into `limit` bytes; at least 12, whatever the size.

    Parameters
    ----------
    sheet : Image
    limit : int
    description : str
        Kept in the file, under the key that the PNG specification has for it.
    most : int, optional
        Try this number of colours alone, whatever the size becomes.
    """
    data = b""
    text = PngInfo()
    if description:
        text.add_itxt("Description", description)
    for colours in (most,) if most else (256, 128, 64, 40, 24, 16, 12):
        reduced = sheet.quantize(colours, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        reduced.save(buffer, "PNG", optimize=True, pnginfo=text)
        data = buffer.getvalue()
        if len(data) <= limit:
            break
    return data
