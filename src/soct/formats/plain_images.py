"""Plain images as microscopes write them: one plane per file, as TIFF, PNG or JPEG, grey or coloured.

`read_pixels` serves every caller: `soct.spectral.Image` and, behind a header that is read without the pixels, `soct montage`.
Nothing is stretched, scaled or filled in: a file that ends before its pixels do is refused.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tiles import shown

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_TIFF = (".tif", ".tiff")
_TYPES = ("uint8", "uint16", "float32")
_KIND = "one complete plane of grey or coloured pixels in a TIFF, PNG or JPEG"
_MONTAGE = "at least 16 x 16 pixels of 8 or 16 bits, or float"
_DIGITS = re.compile(r"(\d+)")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


class ImageNotFoundError(InputError, FileNotFoundError):
    """There is no such image; scripts may catch it as `FileNotFoundError`."""


@dataclass(frozen=True)
class PlainImage:
    """What a file says of its image, before its pixels are read.

    Attributes
    ----------
    path : Path
    shape : (int, int)
        Height and width.
    dtype : dtype
        uint8, uint16 or float32 (to which wider floats are rounded).
    colours : int
        Channels in the file, alpha not counted; more than 1 are averaged.
    """

    path: Path
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    colours: int = 1

    @property
    def name(self) -> str:
        """Name of the file, without its folder."""
        return self.path.name


def natural_key(path: Path) -> tuple[tuple[int, int | str], ...]:
    """Sort names as people do: ``t2.tif`` before ``t10.tif``; numbers before letters."""
    parts = _DIGITS.split(str(path).lower())
    return tuple((0, int(p)) if p.isdigit() else (1, p) for p in parts if p)


def find_images(sources: Sequence[Path]) -> tuple[Path, ...]:
    """Return the images that files, folders and patterns name, each once, in natural order.

    Parameters
    ----------
    sources : sequence of Path
        Files, folders (all images directly in them) and patterns (``folder/*.tif``).

    Raises
    ------
    InputError
        One of them names nothing.
    """
    found: dict[Path, None] = {}
    for source in sources:
        if source.is_dir():
            here = [p for p in source.iterdir() if _is_image(p)]
        elif source.exists():
            here = [source]
        else:
            here = [p for p in _matches(source) if p.is_file()]
        if not here:
            raise InputError(
                "There is no image here",
                file=shown(source),
                expected="an image, a folder of images or a pattern such as 'folder/*.tif'",
                found="a folder without " + ", ".join(SUFFIXES)
                if source.is_dir()
                else "nothing of this name",
                hint="Look at the name and the folder; put patterns into quotation marks.",
            )
        found.update(dict.fromkeys(here))
    return tuple(sorted(found, key=natural_key))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def _matches(pattern: Path) -> list[Path]:
    name = str(pattern)
    if not any(c in name for c in "*?["):
        return []
    root = Path(pattern.anchor or ".")
    relative = pattern.relative_to(pattern.anchor) if pattern.anchor else pattern
    return list(root.glob(str(relative)))


def _broken(path: Path, found: object, expected: str = _KIND) -> InputError:
    return InputError(
        "An image cannot be read",
        file=shown(path),
        expected=expected,
        found=shown(str(found) or type(found).__name__)[:200],
        hint="Copy or export it again, or leave it out.",
    )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Make everything that goes wrong with a file one error that names it."""
    if not path.exists():
        raise ImageNotFoundError(
            "There is no such image", file=shown(path), hint="Look at the name and the folder."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:
        # Broken files make the libraries fail in many ways, none of them a mistake of soct's.
        raise _broken(path, error) from error


def read_pixels(path: Path | str) -> NDArray[Any]:
    """Read an image with the numbers of its file, large ones bright.

    Parameters
    ----------
    path : Path or str

    Returns
    -------
    ndarray (rows, columns) or (rows, columns, colours)
        One or three colours, with or without alpha. Palettes and CMYK become red, green and blue.

    Raises
    ------
    ImageNotFoundError
        There is no such file (a `FileNotFoundError`, too).
    InputError
        It is no image, incomplete, or holds several planes.
    """
    path = Path(path)
    with _reading(path):
        data = _read_tiff(path) if path.suffix.lower() in _TIFF else _read_pillow(path)
        if data.ndim not in (2, 3) or (data.ndim == 3 and data.shape[2] > 4) or data.size == 0:
            raise ValueError(f"an array of shape {data.shape}")
        if data.dtype.kind not in "buif":
            raise ValueError(f"pixels of type {data.dtype}")
        return data.astype(data.dtype.newbyteorder("="), copy=False)
    raise AssertionError  # pragma: no cover - `_reading` never swallows


def read_plain_image(image: PlainImage) -> NDArray[np.float32]:
    """Read the pixels of an image as they are, ``(y, x)`` float32; colours become their mean without alpha.

    Raises
    ------
    InputError
        The pixels are incomplete, or not what the header said.
    """
    data = read_pixels(image.path)
    if data.shape[:2] != image.shape:
        raise _broken(
            image.path, f"shape {data.shape}, where its header says {image.shape}", "one plane"
        )
    if data.ndim == 3:
        data = data[..., : image.colours].mean(axis=2, dtype=np.float32)
    return np.ascontiguousarray(data, np.float32)


def read_plain_header(path: Path) -> PlainImage:
    """Read size and type of an image.

    Raises
    ------
    ImageNotFoundError
        There is no such file.
    InputError
        It is broken, more than one plane, tiny, or of pixels of another type than 8 or 16 bits or float.
    """
    with _reading(path):
        if path.suffix.lower() in _TIFF:
            return _tiff_header(path)
        return _pillow_header(path)
    raise AssertionError  # pragma: no cover - `_reading` never swallows


def _tiff_header(path: Path) -> PlainImage:
    with _tiff_page(path) as (_, page):
        if page.photometric in _FOR_PILLOW:
            return _pillow_header(path)
        axes, shape = str(page.axes), tuple(int(n) for n in page.shape)
        dtype = np.dtype(page.dtype) if page.dtype is not None else np.dtype(object)
    samples = shape[axes.index("S")] if "S" in axes else 1
    return _header(path, (shape[axes.index("Y")], shape[axes.index("X")]), dtype, samples)


def _pillow_header(path: Path) -> PlainImage:
    from PIL import Image

    with Image.open(path) as image:
        _check_frames(image)
        width, height = image.size
        mode = image.mode
    known = {
        "L": ("uint8", 1), "P": ("uint8", 3), "RGB": ("uint8", 3), "RGBA": ("uint8", 4), "LA": ("uint8", 2),
        "CMYK": ("uint8", 3), "YCbCr": ("uint8", 3), "PA": ("uint8", 3), "LAB": ("uint8", 3), "I;16": ("uint16", 1),
        "I;16B": ("uint16", 1), "I;16L": ("uint16", 1), "F": ("float32", 1),
    }  # fmt: skip
    if mode not in known:
        raise _broken(path, f"pixels of mode {mode}", _MONTAGE)
    dtype, samples = known[mode]
    if deep := _deep_png_samples(path):
        dtype, samples = "uint16", deep
    return _header(path, (height, width), np.dtype(dtype), samples)


def _header(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], samples: int) -> PlainImage:
    kind = np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")
    if kind.name not in _TYPES:
        raise _broken(path, f"pixels of type {dtype.name}", _MONTAGE)
    if min(shape) < 16:
        raise _broken(path, f"{shape[1]} x {shape[0]} pixels", _MONTAGE)
    colours = samples - 1 if samples in (2, 4) else samples
    return PlainImage(path, shape, kind, colours)


# -- TIFF

_PALETTE, _CMYK, _CIELAB = 3, 5, 8
_FOR_PILLOW = (_PALETTE, _CMYK, _CIELAB)
"""Photometric interpretations that tifffile leaves as they are and Pillow turns into red, green and blue."""
_WHITE_IS_ZERO = 0


@contextmanager
def _tiff_page(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a TIFF and yield it with its one page; smaller copies of it, as viewers want them, are no planes."""
    import tifffile

    with tifffile.TiffFile(path) as file:
        pages = [page for page in file.pages if not page.is_reduced]
        if len(pages) != 1:
            raise InputError(
                "An image has more than one plane",
                file=shown(path),
                expected=_KIND,
                found=f"{len(pages)} planes",
                hint="Write every plane as a file of its own.",
            )
        page = pages[0]
        if page.axes not in ("YX", "YXS", "SYX"):
            raise ValueError(f"shape {page.shape}, axes {page.axes}")
        yield file, page


def _read_tiff(path: Path) -> NDArray[Any]:
    with _tiff_page(path) as (file, page):
        _check_extent(file, page)
        if page.photometric in _FOR_PILLOW:
            return _read_pillow(path)
        try:
            data = np.asarray(page.asarray())
        except (ValueError, ImportError) as error:
            return _read_tiff_by_pillow(path, page, error)
        if page.axes == "SYX":
            data = np.moveaxis(data, 0, -1)
        return _inverted(data) if page.photometric == _WHITE_IS_ZERO else data


def _check_extent(file: Any, page: Any) -> None:
    """Refuse a file that ends before its pixels do: the library would fill in zeros."""
    size = int(file.filehandle.size)
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if ends and max(ends) > size:
        raise ValueError(f"{size} bytes, where its pixels reach to byte {max(ends)}: truncated")


def _read_tiff_by_pillow(path: Path, page: Any, error: Exception) -> NDArray[Any]:
    """Read a compression that tifffile lacks; Pillow may know it."""
    try:
        data = _read_pillow(path)
    except Exception:  # noqa: BLE001 - the first library's words are the ones that help
        raise error from None
    # Of inverted grey Pillow turns 8 bits round, but not 16.
    is_left = page.photometric == _WHITE_IS_ZERO and data.dtype.itemsize > 1
    return _inverted(data) if is_left else data


def _inverted(data: NDArray[Any]) -> NDArray[Any]:
    if data.dtype.kind == "u":
        return np.asarray(np.iinfo(data.dtype).max - data)
    return ~data if data.dtype.kind == "b" else data


# -- Everything else


def _check_frames(image: Any) -> None:
    frames = int(getattr(image, "n_frames", 1))
    if frames != 1:
        raise ValueError(f"{frames} frames")


def _read_pillow(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as image:
        if path.suffix.lower() not in _TIFF:
            _check_frames(image)
        deep = _deep_png_samples(path)
        if deep == 2:
            return _read_deep_grey(image)
        # Incomplete pixels are an error here, whoever decodes them below.
        image.load()
        if deep:
            return _read_deep_png(path)
        if image.mode in ("P", "PA", "CMYK", "YCbCr", "LAB", "HSV"):
            return np.asarray(image.convert("RGB"))
        return np.asarray(image)


def _deep_png_samples(path: Path) -> int:
    """Return the samples per pixel of a PNG of 16 bits, of which Pillow would drop eight; 0 for all other files."""
    with path.open("rb") as file:
        start = file.read(26)
    if start[:8] != _PNG_MAGIC or len(start) < 26 or start[24] != 16:
        return 0
    return {2: 3, 4: 2, 6: 4}.get(start[25], 0)


def _read_deep_png(path: Path) -> NDArray[Any]:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="PNGImageIO")))


def _read_deep_grey(image: Any) -> NDArray[Any]:
    """Read grey with alpha, which SimpleITK cannot: two samples of 16 bits pass Pillow as four of 8."""
    (tile,) = image.tile
    image._mode, image.tile = "RGBA", [tile._replace(args="RGBA")]
    return np.ascontiguousarray(np.asarray(image)).view(">u2")
