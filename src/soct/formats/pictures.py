"""Single pictures as users have them: TIFF, PNG, JPEG and what else Pillow reads, one number per pixel or colours."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, UsageError
from soct.formats.atomic import write_bytes
from soct.formats.tiles import shown
from soct.space import FloatArray

_TIFF = (".tif", ".tiff")
_EIGHT_BIT = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}


class PictureNotFoundError(InputError, FileNotFoundError):
    """There is no such picture; scripts may catch it as `FileNotFoundError`."""


def read_picture(path: Path | str) -> NDArray[Any]:
    """Read a picture as its file holds it: no scaling, no change of type.

    Parameters
    ----------
    path : Path or str

    Returns
    -------
    ndarray (rows, columns) or (rows, columns, colours)

    Raises
    ------
    FileNotFoundError
        There is no such file (a `PictureNotFoundError`).
    InputError
        It is no picture, broken, or holds several planes.
    """
    path = Path(path)
    if not path.exists():
        raise PictureNotFoundError("There is no such picture", file=shown(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = _read_tiff(path) if path.suffix.lower() in _TIFF else _read_pillow(path)
    except InputError:
        raise
    except Exception as error:
        # Broken files make the libraries fail in many ways, none of them a mistake of soct's.
        raise _broken(path, str(error) or type(error).__name__) from error
    if data.ndim not in (2, 3) or (data.ndim == 3 and data.shape[2] > 4) or data.size == 0:
        raise _broken(path, f"an array of shape {data.shape}")
    return data


def _broken(path: Path, found: str) -> InputError:
    return InputError(
        "A picture cannot be read",
        file=shown(path),
        expected="a complete TIFF, PNG or JPEG with one plane, grey or in colours",
        found=shown(found)[:200],
    )


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        pages = [p for p in file.pages if not p.is_reduced]
        if len(pages) != 1:
            raise InputError(
                "A picture must have one plane",
                file=shown(path),
                expected="one page",
                found=f"{len(pages)} pages",
                hint="save the planes as one file each",
            )
        page = pages[0]
        if page.dtype is None or page.dtype.kind not in "buif":
            raise ValueError(f"pixels of type {page.dtype}")
        data: NDArray[Any] = page.asarray()
        axes = page.axes
    if axes in ("SYX", "CYX"):
        data = np.moveaxis(data, 0, -1)
    elif data.ndim > 3 or axes not in ("YX", "YXS", "YXC"):
        data = np.squeeze(data)
    return data


def _read_pillow(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as picture:
        frames = int(getattr(picture, "n_frames", 1))
        if frames != 1:
            raise ValueError(f"{frames} frames")
        if picture.mode == "P":
            return np.asarray(picture.convert("RGBA" if "transparency" in picture.info else "RGB"))
        if picture.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            return np.asarray(picture.convert("RGB"))
        return np.asarray(picture)


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
    """
    path = Path(path)
    suffix = path.suffix.lower()
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
