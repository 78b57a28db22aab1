"""Small greyscale previews as PNG."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from soct.formats.atomic import write_bytes


def to_grey(plane: NDArray[Any], window: tuple[float, float] | None = None) -> NDArray[np.uint8]:
    """Map a plane to 0..255; what is not finite becomes 0.

    Parameters
    ----------
    plane : ndarray, shape (Y, X)
        Any real values.
    window : tuple of float, optional
        Values shown black and white; the default is the 0.5th and 99.5th percentile.
    """
    values = np.nan_to_num(np.asarray(plane, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    if window is None:
        finite = values[np.isfinite(plane)]
        low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    else:
        low, high = window
    span = max(float(high) - float(low), float(np.finfo(np.float32).tiny))
    scaled = np.clip((values.astype(np.float64) - low) / span, 0, 1)
    grey = np.rint(255 * scaled).astype(np.uint8)
    grey[~np.isfinite(plane)] = 0
    return grey


def encode_png(grey: NDArray[np.uint8]) -> bytes:
    """Encode a plane ``(Y, X)``, or colours ``(Y, X, 3)``, as PNG; equal input gives equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(
        buffer, "PNG", optimize=False, compress_level=6
    )
    return buffer.getvalue()


def write_png(path: Path, grey: NDArray[np.uint8]) -> None:
    """Write a plane ``(Y, X)``, or colours ``(Y, X, 3)``, as a PNG file in one step."""
    write_bytes(Path(path), encode_png(grey))


def write_float_tiff(path: Path, plane: NDArray[np.float32], pixel_um: tuple[float, float]) -> None:
    """Write a plane ``(Y, X)`` as a 32-bit TIFF with its pixel size, in one step; NaN is kept."""
    buffer = io.BytesIO()
    per_cm = tuple(10_000.0 / size for size in reversed(pixel_um))
    # Tags: resolution along x and y, per centimetre.
    tags = {282: per_cm[0], 283: per_cm[1], 296: 3}
    Image.fromarray(np.ascontiguousarray(plane, np.float32)).save(buffer, "TIFF", tiffinfo=tags)
    write_bytes(Path(path), buffer.getvalue())
