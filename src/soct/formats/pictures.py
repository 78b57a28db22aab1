"""Writing a plane of brightness as a picture: TIFF, PNG, JPEG. They are read by `soct.formats.plain_images`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from soct.errors import UsageError
from soct.formats.atomic import write_bytes
from soct.formats.tiles import shown
from soct.space import FloatArray

_TIFF = (".tif", ".tiff")
_EIGHT_BIT = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


class FolderNotFoundError(UsageError, FileNotFoundError):
    """The folder to write into does not exist; scripts may catch it as `FileNotFoundError`."""


def write_picture(path: Path | str, plane: FloatArray, quality: int | None = None) -> None:
    """Write a plane of brightness 0 to 1, in one step; the name's suffix says how.

    Parameters
    ----------
    path : Path or str
        ``.tif``: 32-bit floating point, every value kept. ``.png`` and ``.jpg``: 8 bit, what lies beyond 0 to 1 clipped, NaN
        black.
    plane : ndarray (rows, columns)
    quality : int, optional
        Of a JPEG, 1 to 100 (default 95); the others lose nothing.

    Raises
    ------
    UsageError
        The suffix or the quality is none of these.
    FolderNotFoundError
        The folder to write into does not exist (a `FileNotFoundError`, too).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.parent.is_dir():
        raise FolderNotFoundError(
            "The folder of a picture does not exist",
            file=shown(path),
            found=f"no folder {shown(path.parent)}",
            hint="Make it first, or choose another place.",
        )
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(
            "The quality of a JPEG is a number", expected="1 to 100", found=str(quality)
        )
    if suffix in _TIFF:
        import tifffile

        buffer = io.BytesIO()
        tifffile.imwrite(buffer, np.ascontiguousarray(plane, np.float32), photometric="minisblack")
        write_bytes(path, buffer.getvalue())
        return
    if suffix not in _EIGHT_BIT:
        raise UsageError(
            "A picture cannot be written in this format",
            file=shown(path),
            expected="a name that ends in .tif, .png or .jpg",
            found=suffix or "no suffix",
        )
    from PIL import Image

    grey = np.rint(255 * np.clip(np.nan_to_num(np.asarray(plane), nan=0.0), 0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    options = {"quality": 95 if quality is None else quality} if suffix != ".png" else {}
    Image.fromarray(grey).save(buffer, _EIGHT_BIT[suffix], **options)
    write_bytes(path, buffer.getvalue())
