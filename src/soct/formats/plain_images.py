"""Plain images as microscopes write them: one plane per file, as TIFF, PNG or JPEG, grey or coloured.

A header is read without the pixels. Colours become their mean without alpha, as in `soct.spectral.Image`; nothing is
stretched or scaled.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tiles import shown

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
_TYPES = ("uint8", "uint16", "float32")
_KIND = "one plane of 8- or 16-bit or float pixels in a TIFF, PNG or JPEG"
_DIGITS = re.compile(r"(\d+)")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


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


def _broken(path: Path, found: object) -> InputError:
    return InputError(
        "An image cannot be read",
        file=shown(path),
        expected=_KIND,
        found=shown(str(found) or type(found).__name__)[:200],
        hint="Copy or export it again, or leave it out.",
    )


def read_plain_header(path: Path) -> PlainImage:
    """Read size and type of an image.

    Raises
    ------
    InputError
        It is missing, broken, or more than one plane.
    """
    if not path.is_file():
        raise _broken(path, "no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() in (".tif", ".tiff"):
                return _tiff_header(path)
            return _pillow_header(path)
    except InputError:
        raise
    except Exception as error:
        # Broken files make the libraries fail in many ways, none of them a mistake of soct's.
        raise _broken(path, error) from error


def _tiff_header(path: Path) -> PlainImage:
    import tifffile

    with tifffile.TiffFile(path) as file:
        pages = len(file.pages)
        if pages != 1:
            raise InputError(
                "An image has more than one plane",
                file=shown(path),
                expected=_KIND,
                found=f"{pages} planes",
                hint="Write every plane that belongs to the mosaic as a file of its own.",
            )
        page = file.pages.first
        axes, shape = str(page.axes), tuple(int(n) for n in page.shape)
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return _pillow_header(path)
        dtype = np.dtype(page.dtype) if page.dtype is not None else np.dtype(object)
    if axes not in ("YX", "YXS", "SYX"):
        raise _broken(path, f"shape {shape}, axes {axes}")
    samples = shape[axes.index("S")] if "S" in axes else 1
    plane = (shape[axes.index("Y")], shape[axes.index("X")])
    return _header(path, plane, dtype, samples)


def _pillow_header(path: Path) -> PlainImage:
    from PIL import Image

    with Image.open(path) as image:
        width, height = image.size
        frames = int(getattr(image, "n_frames", 1))
        mode = image.mode
    if frames != 1:
        raise _broken(path, f"{frames} frames")
    known = {
        "L": ("uint8", 1), "P": ("uint8", 3), "RGB": ("uint8", 3), "RGBA": ("uint8", 4), "LA": ("uint8", 2),
        "CMYK": ("uint8", 3), "YCbCr": ("uint8", 3), "PA": ("uint8", 4), "I;16": ("uint16", 1),
        "I;16B": ("uint16", 1), "I;16L": ("uint16", 1), "F": ("float32", 1),
    }  # fmt: skip
    if mode not in known:
        raise _broken(path, f"pixels of mode {mode}")
    dtype, samples = known[mode]
    if _is_deep_png(path, mode):
        dtype = "uint16"
    return _header(path, (height, width), np.dtype(dtype), samples)


def _is_deep_png(path: Path, mode: str) -> bool:
    """Whether a coloured PNG has 16 bits, of which Pillow would drop eight."""
    if mode not in ("RGB", "RGBA", "LA"):
        return False
    with path.open("rb") as file:
        start = file.read(26)
    return start[:8] == _PNG_MAGIC and start[24] == 16


def _header(path: Path, shape: tuple[int, int], dtype: np.dtype[Any], samples: int) -> PlainImage:
    kind = np.dtype(np.float32) if dtype.kind == "f" else dtype.newbyteorder("=")
    if kind.name not in _TYPES:
        raise _broken(path, f"pixels of type {dtype.name}")
    if min(shape) < 16:
        raise _broken(path, f"{shape[1]} x {shape[0]} pixels")
    colours = samples - 1 if samples in (2, 4) else samples
    return PlainImage(path, shape, kind, colours)


def read_plain_image(image: PlainImage) -> NDArray[np.float32]:
    """Read the pixels of an image as they are, ``(y, x)`` float32; colours become their mean.

    Raises
    ------
    InputError
        The pixels are incomplete, or not what the header said.
    """
    path = image.path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = _read(path)
    except InputError:
        raise
    except Exception as error:
        raise _broken(path, error) from error
    if data.shape[:2] != image.shape:
        raise _broken(path, f"shape {data.shape}, where its header says {image.shape}")
    if data.ndim == 3:
        data = data[..., : image.colours].mean(axis=2, dtype=np.float32)
    return np.ascontiguousarray(data, np.float32)


def _read(path: Path) -> NDArray[Any]:
    if path.suffix.lower() in (".tif", ".tiff"):
        try:
            return _read_tiff(path)
        except (ValueError, ImportError) as error:
            # Compressions that one library lacks, the other may know.
            try:
                return _read_pillow(path)
            except Exception:  # noqa: BLE001 - the first library's words are the ones that help
                raise error from None
    return _read_pillow(path)


def _read_tiff(path: Path) -> NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            raise ValueError("a palette")
        _check_extent(file, page)
        data = np.asarray(page.asarray())
        if page.axes == "SYX":
            data = np.moveaxis(data, 0, -1)
        if page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and data.dtype.kind == "u":
            data = np.iinfo(data.dtype).max - data
    return data


def _check_extent(file: Any, page: Any) -> None:
    """Refuse a file that ends before its pixels do: the library would fill in zeros."""
    size = int(file.filehandle.size)
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if ends and max(ends) > size:
        raise ValueError(f"{size} bytes, where its pixels reach to byte {max(ends)}: truncated")


def _read_pillow(path: Path) -> NDArray[Any]:
    from PIL import Image

    with Image.open(path) as image:
        mode = image.mode
        if _is_deep_png(path, mode):
            return _read_deep_png(path)
        if mode in ("P", "CMYK", "YCbCr", "PA"):
            image = image.convert("RGBA" if mode == "PA" else "RGB")
        return np.asarray(image)


def _read_deep_png(path: Path) -> NDArray[Any]:
    import SimpleITK as sitk

    return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="PNGImageIO")))
