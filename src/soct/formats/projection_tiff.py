"""Projections in TIFF: one file of many pages, or a folder of files in natural order."""

from __future__ import annotations

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.plain_images import natural_key
from soct.formats.projection_stacks import TIFF_SUFFIXES, MappedReader, ProjectionStack, cannot_read
from soct.formats.tiles import shown

_MOST_PAGES = 1_000_000


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the library says of broken files: what matters becomes an error."""
    log = logging.getLogger("tifffile")
    before = log.disabled
    log.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.disabled = before


@dataclass(frozen=True)
class Page:
    """Where one page's pixels lie.

    Attributes
    ----------
    path : Path
    index : int
        Of the page in the file.
    offset : int or None
        Of the pixels, where they lie in the file as in memory; None: they must be decoded.
    """

    path: Path
    index: int
    offset: int | None


@dataclass(frozen=True)
class PageReader:
    """Reads pages, of those that are not compressed only the rows that are asked for."""

    pages: tuple[Page, ...]
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    def read(self, projections: slice, rows: slice) -> NDArray[Any]:
        """Return a block."""
        chosen = self.pages[projections]
        first, last, _ = rows.indices(self.shape[0])
        out = np.empty((len(chosen), last - first, self.shape[1]), self.dtype.newbyteorder("="))
        start = 0
        while start < len(chosen):
            end = start + 1
            while end < len(chosen) and chosen[end].path == chosen[start].path:
                end += 1
            self._read_file(chosen[start:end], first, last, out[start:end])
            start = end
        return out

    def _read_file(self, pages: tuple[Page, ...], first: int, last: int, out: NDArray[Any]) -> None:
        path, cols = pages[0].path, self.shape[1]
        if all(page.offset is not None for page in pages):
            with path.open("rb") as file:
                for page, target in zip(pages, out, strict=True):
                    file.seek((page.offset or 0) + first * cols * self.dtype.itemsize)
                    data = np.fromfile(file, self.dtype, (last - first) * cols)
                    if data.size != target.size:
                        raise cannot_read(path, f"page {page.index + 1} ends early: truncated")
                    target[...] = data.reshape(target.shape)
            return
        import tifffile

        with _quiet(), tifffile.TiffFile(path) as file:
            for page, target in zip(pages, out, strict=True):
                data = _decode(file.pages[page.index], page)
                if data.shape != self.shape:
                    raise cannot_read(path, f"page {page.index + 1} has the shape {data.shape}")
                target[...] = data[first:last]


def _decode(tiff_page: Any, page: Page) -> NDArray[Any]:
    try:
        return np.asarray(tiff_page.asarray())
    except (ValueError, ImportError) as error:
        # Compressions that one library lacks (LZW), the other knows.
        from PIL import Image

        try:
            with Image.open(page.path) as image:
                image.seek(page.index)
                return np.asarray(image)
        except Exception:  # noqa: BLE001 - the first library's words are the ones that help
            raise error from None


def open_tiff(path: Path) -> ProjectionStack:
    """Open a file of one page per projection; one page alone is a sinogram.

    Raises
    ------
    InputError
        Its pages differ, end early, or have several values per pixel.
    """
    import tifffile

    with _quiet(), tifffile.TiffFile(path) as file:
        size = int(file.filehandle.size)
        _check_chain(path, file, size)
        first = file.pages.first
        shape, dtype = _plane(path, first)
        series = file.series[0]
        whole = tuple(int(n) for n in series.shape)
        if len(file.pages) == 1 and len(whole) == 3 and series.dataoffset is not None:
            # Programs that write more than 4 GB into a classic TIFF describe only the first page.
            reader = MappedReader(path, dtype, whole, int(series.dataoffset))
            if reader.offset + int(np.prod(whole)) * dtype.itemsize > size:
                raise cannot_read(path, f"{size} bytes: truncated")
            return ProjectionStack(path, "TIFF", (whole[0], whole[1], whole[2]), dtype, reader)
        pages = []
        for index, page in enumerate(file.pages):
            if _plane(path, page) != (shape, dtype):
                raise cannot_read(
                    path, f"page {index + 1} has another size or type than the first: {tuple(page.shape)}"
                )  # fmt: skip
            pages.append(_page(path, index, page, size))
    n = len(pages)
    layout = f"TIFF of {n} pages" if n > 1 else "TIFF"
    stack = (n, *shape)
    return ProjectionStack(path, layout, stack, dtype, PageReader(tuple(pages), shape, dtype), is_image=n == 1)  # fmt: skip


def _check_chain(path: Path, file: Any, size: int) -> None:
    """Refuse a file whose list of pages leads beyond its end: the library would end the list there."""
    if not len(file.pages):
        raise cannot_read(path, "no page in it")
    kind, handle = file.tiff, file.filehandle
    at, seen = int(file.pages.first.offset), 0
    while at:
        if at + kind.tagnosize > size:
            raise cannot_read(
                path, f"{size} bytes, where page {seen + 1} is described at byte {at}: truncated"
            )
        handle.seek(at)
        tags = struct.unpack(kind.tagnoformat, handle.read(kind.tagnosize))[0]
        after = at + kind.tagnosize + tags * kind.tagsize
        if after + kind.offsetsize > size:
            raise cannot_read(
                path, f"{size} bytes, within the description of page {seen + 1}: truncated"
            )
        handle.seek(after)
        following = struct.unpack(kind.offsetformat, handle.read(kind.offsetsize))[0]
        seen += 1
        if seen > _MOST_PAGES or following == at:
            raise cannot_read(path, f"a list of more than {seen} pages without an end")
        at = int(following)


def _plane(path: Path, page: Any) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Return size and type of a page."""
    shape = tuple(int(n) for n in page.shape)
    if len(shape) != 2 or page.dtype is None:
        raise InputError(
            "A TIFF holds something else than projections",
            file=shown(path),
            expected="pages (rows, cols) with one value per pixel",
            found=f"a page of shape {shape}, axes {page.axes}",
        )
    byteorder = getattr(page.parent, "byteorder", "<")
    return (shape[0], shape[1]), np.dtype(page.dtype).newbyteorder(byteorder)


def _page(path: Path, index: int, page: Any, size: int) -> Page:
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
    if ends and max(ends) > size:
        # The library would fill in zeros.
        raise cannot_read(
            path,
            f"{size} bytes, where page {index + 1} reaches to byte {max(ends)}: truncated",
        )
    return Page(path, index, int(page.dataoffsets[0]) if page.is_memmappable else None)


def open_folder(folder: Path) -> ProjectionStack:
    """Open a folder of TIFFs, one projection each, in natural order of their names.

    Raises
    ------
    InputError
        There is none, or they differ.
    """
    files = sorted(
        (
            p
            for p in folder.iterdir()
            if p.suffix.lower() in TIFF_SUFFIXES and p.is_file() and not p.name.startswith(".")
        ),
        key=natural_key,
    )
    if not files:
        raise InputError(
            "There is no projection in this folder",
            file=shown(folder),
            expected="TIFF files, one projection each",
            found="a folder without .tif, .tiff",
        )
    first = _only_page(files[0])
    pages = [first[0]]
    for path in files[1:]:
        page, shape, dtype = _only_page(path)
        if (shape, dtype) != first[1:]:
            raise InputError(
                "The projections in a folder differ in size or type",
                file=shown(path),
                expected=f"{first[1][0]} x {first[1][1]} pixels of {first[2]}, as {shown(files[0].name)} has",
                found=f"{shape[0]} x {shape[1]} pixels of {dtype}",
                hint="Keep flat and dark fields, and anything else that is no projection, in other folders.",
            )
        pages.append(page)
    _, plane, dtype = first
    note = f"{len(files)} files in natural order, from {shown(files[0].name)} to {shown(files[-1].name)}"
    return ProjectionStack(
        folder,
        "folder of TIFFs",
        (len(files), *plane),
        dtype,
        PageReader(tuple(pages), plane, dtype),
        notes=(note,),
        files=tuple(files),
    )


def _only_page(path: Path) -> tuple[Page, tuple[int, int], np.dtype[Any]]:
    import tifffile

    try:
        with _quiet(), tifffile.TiffFile(path) as file:
            _check_chain(path, file, int(file.filehandle.size))
            page = file.pages.first
            shape, dtype = _plane(path, page)
            if len(file.pages) != 1:
                raise ValueError(f"{len(file.pages)} pages, where one projection is expected")
            return _page(path, 0, page, int(file.filehandle.size)), shape, dtype
    except InputError:
        raise
    except Exception as error:
        raise cannot_read(path, error) from error
