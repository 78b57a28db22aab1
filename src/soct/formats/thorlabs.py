"""Reading the samples of a Thorlabs polarisation-sensitive `.oct` file.

A `.oct` file is a ZIP archive: `Header.xml`, and complex64 samples in C order ``(x, y, z)``, one member per
polarisation. Members are read in place, a few B-scan columns at a time: memory holds the cropped result and
one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.thorlabs_header import (
    BYTES_PER_SAMPLE,
    MAX_HEADER_BYTES,
    MEMBERS,
    OctHeader,
    parse_header,
)
from soct.formats.tile_check import MAX_TILE_BYTES
from soct.formats.tiles import shown
from soct.formats.zip_member import Archive
from soct.space import FloatArray

Polarisation = Literal[0, 1, "both"]
DEPTH_CROP = (320, 750)
_BLOCK_BYTES = 8 << 20


def _repeats(archive: Archive, header: OctHeader, polarisation: int) -> int:
    """Return how many A-scans stand for one in a member, after its size was checked.

    Where the header tells of averaging, software stores either the averages or every A-scan: the size
    tells which.
    """
    name = MEMBERS[polarisation]
    size = archive.size(name)
    allowed = {1, header.averaging}
    for repeats in allowed:
        if size == header.n_bytes * repeats and size <= MAX_TILE_BYTES:
            return repeats
    found = "no such member" if size is None else f"{size} bytes"
    raise InputError(
        "The samples of a .oct file do not have the size that its header says",
        file=f"{shown(archive.path)}: {name}",
        expected=f"{header.n_bytes} bytes: (x, y, z) = {header.size} complex64, at most {MAX_TILE_BYTES}",
        found=found,
    )


def read_header(path: Path) -> OctHeader:
    """Read what a `.oct` file says of its samples, and compare it with their size.

    Raises
    ------
    InputError
        It is no archive, its header is wrong, or the samples of polarisation 0 do not fit the header.
    """
    with Archive(path) as archive:
        header = _header(archive)
        _repeats(archive, header, 0)
    return header


def _header(archive: Archive) -> OctHeader:
    return parse_header(archive.read_small("Header.xml", MAX_HEADER_BYTES), archive.path)


def crop_range(n_z: int, crop: tuple[int, int], file: Path) -> tuple[int, int]:
    """Return the depth samples that are kept: those of `crop` that are there.

    Raises
    ------
    InputError
        The crop begins below the last sample.
    """
    start, stop = crop[0], min(crop[1], n_z)
    if not 0 <= start < stop:
        raise InputError(
            "The depth crop lies outside of the samples",
            file=shown(file),
            expected=f"a part of 0:{n_z}",
            found=f"{crop[0]}:{crop[1]}",
            hint="Set create_mosaic_grid.crop_start_px and crop_stop_px to the depths that hold tissue.",
        )
    return start, stop


def _blocks(
    stream: IO[bytes], header: OctHeader, repeats: int
) -> Iterator[tuple[int, NDArray[np.complex64]]]:
    """Yield ``(first x, samples (x, y, z))`` block after block, repeats averaged."""
    n_x, n_y, n_z = header.size
    column = BYTES_PER_SAMPLE * n_y * n_z * repeats
    step = max(1, min(n_x, _BLOCK_BYTES // column))
    for start in range(0, n_x, step):
        n = min(step, n_x - start)
        data = stream.read(n * column)
        if len(data) != n * column:
            raise EOFError(f"the samples end {n * column - len(data)} bytes too early")
        block = np.frombuffer(data, "<c8").reshape(n, repeats, n_y, n_z)
        yield start, block[:, 0] if repeats == 1 else block.mean(axis=1, dtype=np.complex64)
    if stream.read(1):
        raise EOFError("the samples go on after their stated size")


def _fill(
    archive: Archive,
    header: OctHeader,
    polarisation: int,
    crop: tuple[int, int],
    out: NDArray[Any],
    put: Callable[[NDArray[Any], NDArray[np.complex64]], None],
) -> None:
    repeats = _repeats(archive, header, polarisation)
    with archive.open(MEMBERS[polarisation]) as stream:
        for start, block in _blocks(stream, header, repeats):
            part = block[:, :, crop[0] : crop[1]].transpose(2, 1, 0)
            put(out[:, :, start : start + len(block)], part)


def _put_magnitude(out: NDArray[Any], part: NDArray[np.complex64]) -> None:
    np.abs(part, out=out)


def _add_power(out: NDArray[Any], part: NDArray[np.complex64]) -> None:
    out += np.square(part.real) + np.square(part.imag)


def read_magnitude(
    path: Path, *, polarisation: Polarisation = 0, crop: tuple[int, int] = DEPTH_CROP
) -> FloatArray:
    """Read the magnitude of a `.oct` file.

    Parameters
    ----------
    path : Path
        The `.oct` file.
    polarisation : 0, 1 or "both"
        One detector; or both, as the root of their summed powers, which does not depend on birefringence.
    crop : (int, int)
        First depth sample, and one past the last; a stop beyond the last sample means the last.

    Returns
    -------
    ndarray of float32, shape (z, y, x)

    Raises
    ------
    InputError
        The file is damaged, unsafe, or does not hold what its header says. Nothing larger than what its
        members hold is allocated.
    """
    with Archive(path) as archive:
        header = _header(archive)
        wanted = (0, 1) if polarisation == "both" else (polarisation,)
        for which in wanted:
            _repeats(archive, header, which)
        crop = crop_range(header.size[2], crop, path)
        out = np.zeros((crop[1] - crop[0], header.size[1], header.size[0]), np.float32)
        for which in wanted:
            put = _add_power if polarisation == "both" else _put_magnitude
            _fill(archive, header, which, crop, out, put)
    return np.sqrt(out, out=out) if polarisation == "both" else out


def read_complex(
    path: Path, *, polarisation: Literal[0, 1] = 0, crop: tuple[int, int] = DEPTH_CROP
) -> NDArray[np.complex64]:
    """Read the complex samples of one polarisation, shape (z, y, x); see `read_magnitude`."""
    with Archive(path) as archive:
        header = _header(archive)
        _repeats(archive, header, polarisation)
        crop = crop_range(header.size[2], crop, path)
        out = np.empty((crop[1] - crop[0], header.size[1], header.size[0]), np.complex64)
        _fill(archive, header, polarisation, crop, out, np.copyto)
    return out
