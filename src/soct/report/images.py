"""Arrays into pictures that live inside the page: 8-bit PNG as data URIs, the same bytes every time.

Pictures are shrunk by block means to a cap, and a byte budget over the whole page halves later pictures when
earlier ones used it up, so the page stays below its promised size whatever the run.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Window: TypeAlias = tuple[float, float]
Colours: TypeAlias = Literal["grey", "cividis", "viridis"]

PAGE_BUDGET = 9_500_000
"""Bytes of PNG over the whole page; base64 makes a third more of it."""
_NO_DATA = (233, 236, 240)
_MIN_SIDE = 64

# Anchors of the two maps at equal steps, interpolated linearly: within 2/255 of the published tables.
_ANCHORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "viridis": (
        (68, 1, 84), (72, 36, 117), (65, 68, 135), (53, 95, 141), (42, 120, 142), (33, 145, 140),
        (34, 168, 132), (68, 191, 112), (122, 209, 81), (189, 223, 38), (253, 231, 37),
    ),
    "cividis": (
        (0, 34, 78), (17, 54, 112), (59, 73, 108), (87, 93, 109), (112, 113, 115), (138, 134, 120),
        (165, 156, 116), (195, 179, 105), (225, 204, 85), (246, 221, 67), (254, 232, 56),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """An encoded picture and the size it should be shown at."""

    uri: str
    width: int
    height: int
    """Pixels of the PNG; `aspect` corrects for pixels that are not square."""
    aspect: float
    """Physical height over physical width."""
    scale: float
    """PNG pixels per array column."""


@dataclass
class ImageEncoder:
    """Encodes arrays for one page and keeps its byte budget."""

    budget: int = PAGE_BUDGET
    spent: int = field(default=0, init=False)

    def encode(
        self,
        array: ArrayLike,
        *,
        window: Window | None = None,
        colours: Colours = "grey",
        max_side: int = 640,
        pixel_um: tuple[float, float] = (1.0, 1.0),
    ) -> Picture:
        """Encode a 2-D array.

        Parameters
        ----------
        array : array_like (y, x)
            NaN is no data and is drawn in a pale grey that no map contains.
        window : (float, float), optional
            Values drawn darkest and brightest; default the 1st and 99.7th percentile.
        colours : {"grey", "cividis", "viridis"}
        max_side : int
            Longest side of the PNG in pixels.
        pixel_um : (float, float)
            Pixel height and width, for the shape on the page.

        Raises
        ------
        ValueError
            For anything but a 2-D array with pixels.
        """
        data = np.asarray(array, dtype=np.float32)
        if data.ndim != 2 or data.size == 0:
            msg = f"a picture needs a 2-D array with pixels, got shape {data.shape}"
            raise ValueError(msg)
        rows, columns = data.shape
        aspect = rows * pixel_um[0] / (columns * pixel_um[1])
        side = self._allowed_side(max_side)
        while True:
            png, width, height = _encode_png(data, window, colours, side)
            if self.spent + len(png) <= self.budget or side <= _MIN_SIDE:
                break
            side = max(_MIN_SIDE, side // 2)
        self.spent += len(png)
        uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        return Picture(uri, width, height, aspect, width / columns)

    def _allowed_side(self, max_side: int) -> int:
        return max_side if self.spent < 0.8 * self.budget else max(_MIN_SIDE, max_side // 2)


def robust_window(*arrays: ArrayLike, low: float = 1.0, high: float = 99.7) -> Window:
    """Return one brightness window for several pictures, so that they can be compared."""
    samples = [_finite(array) for array in arrays]
    values = np.concatenate(samples) if samples else np.zeros(0)
    values = values[values != 0.0] if (values != 0.0).any() else values
    if values.size == 0:
        return 0.0, 1.0
    first, last = (float(v) for v in np.percentile(values, [low, high]))
    return (first, last) if last > first else (first, first + max(abs(first), 1.0))


def colour_table(name: Colours) -> NDArray[np.uint8]:
    """Return the (256, 3) table of a map that is even in lightness and safe for colour-blind readers."""
    if name == "grey":
        return np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    anchors = np.asarray(_ANCHORS[name], dtype=np.float64)
    at = np.linspace(0, len(anchors) - 1, 256)
    channels = [np.interp(at, np.arange(len(anchors)), anchors[:, c]) for c in range(3)]
    return np.round(np.stack(channels, axis=1)).astype(np.uint8)


def css_colour(fraction: float, name: Colours = "cividis") -> str:
    """Return a map's colour at a fraction in [0, 1] as ``#rrggbb``."""
    r, g, b = colour_table(name)[round(255 * min(1.0, max(0.0, fraction)))]
    return f"#{r:02x}{g:02x}{b:02x}"


def _finite(array: ArrayLike) -> NDArray[Any]:
    data = np.asarray(array, dtype=np.float32).ravel()
    step = max(1, data.size // 200_000)
    data = data[::step]
    return data[np.isfinite(data)]


def _encode_png(
    data: NDArray[np.float32], window: Window | None, colours: Colours, max_side: int
) -> tuple[bytes, int, int]:
    factor = -(-max(data.shape) // max_side)
    small = _block_mean(data, factor)
    low, high = window if window is not None else robust_window(small)
    known = np.isfinite(small)
    grey = np.where(known, (small - low) / max(high - low, 1e-30), 0.0)
    index = np.round(np.clip(grey, 0.0, 1.0) * 255.0).astype(np.uint8)
    if colours == "grey" and known.all():
        image = Image.fromarray(index)
    else:
        rgb = colour_table(colours)[index]
        rgb[~known] = _NO_DATA
        image = Image.fromarray(rgb)
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue(), image.width, image.height


def _block_mean(data: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Mean over blocks, of the pixels that have data; a block without any is NaN."""
    if factor <= 1:
        return data
    rows, columns = -(-data.shape[0] // factor), -(-data.shape[1] // factor)
    padded = np.full((rows * factor, columns * factor), np.nan, dtype=np.float32)
    padded[: data.shape[0], : data.shape[1]] = data
    blocks = padded.reshape(rows, factor, columns, factor)
    known = np.isfinite(blocks)
    count = known.sum(axis=(1, 3))
    total = np.where(known, blocks, 0.0).sum(axis=(1, 3), dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return (total / np.where(count == 0, np.nan, count)).astype(np.float32)
