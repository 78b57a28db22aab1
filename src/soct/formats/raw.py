"""Reading the samples of a raw tile."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tile_check import MAX_TILE_BYTES
from soct.formats.tiles import BYTES_PER_SAMPLE, TileRecord, shown
from soct.space import FloatArray

# Large enough for the disk, small enough for the processor's cache to hold the part being turned.
_BLOCK_BYTES = 4 << 20


class _JoinedFiles:
    """Several files read as if they were one."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._pending = list(files)
        self._current = -1

    def close(self) -> None:
        if self._current >= 0:
            os.close(self._current)
            self._current = -1

    def __enter__(self) -> _JoinedFiles:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def fill(self, target: NDArray[Any]) -> int:
        """Fill an array; return the number of bytes that were there."""
        view = memoryview(target.data).cast("B")
        done = 0
        while done < len(view):
            if self._current < 0:
                if not self._pending:
                    break
                self._current = os.open(self._pending.pop(0), os.O_RDONLY | os.O_NONBLOCK)
            n = os.readv(self._current, [view[done:]])
            if n == 0:
                self.close()
            done += n
        return done


def _check_size(tile: TileRecord) -> None:
    expected = tile.info.frame_bytes * tile.info.n_frames
    try:
        found = sum(file.stat().st_size for file in tile.files)
    except OSError as error:
        raise InputError(
            "A raw tile cannot be read",
            file=shown(tile.folder),
            expected=f"{expected} bytes in {len(tile.files)} files",
            found=error.strerror or type(error).__name__,
        ) from error
    if found != expected or expected > MAX_TILE_BYTES:
        raise InputError(
            "A raw tile does not have the size that info.txt says",
            file=shown(tile.folder),
            expected=f"{expected} bytes (at most {MAX_TILE_BYTES})",
            found=f"{found} bytes",
            hint="The file changed after the input was scanned; run again once it is complete.",
        )


def read_tile(tile: TileRecord) -> FloatArray:
    """Read one raw tile.

    Parameters
    ----------
    tile : TileRecord
        From `soct.formats.acquisition.open_acquisition`.

    Returns
    -------
    ndarray of float32, shape (z, y, nx + n_extra)
        Repeated frames are averaged; the A-lines of the galvo's return are still inside.

    Raises
    ------
    InputError
        A file vanished, changed its size or cannot be read. Nothing larger than the files is allocated.
    """
    _check_size(tile)
    info = tile.info
    n_z, n_y, n_x = info.shape
    out = np.empty((n_z, n_y, n_x), np.float32)
    row_bytes = BYTES_PER_SAMPLE * n_z * n_x * info.n_repeat
    step = max(1, min(n_y, _BLOCK_BYTES // row_bytes))
    buffer = np.empty((step, info.n_repeat, n_x, n_z), np.dtype("<f4"))
    try:
        with _JoinedFiles(tile.files) as files:
            for start in range(0, n_y, step):
                rows = buffer[: min(step, n_y - start)]
                if files.fill(rows) != rows.nbytes:
                    raise _shrunk(tile)
                _turn(rows, out[:, start : start + len(rows)])
    except OSError as error:
        raise InputError(
            "A raw tile cannot be read",
            file=shown(tile.folder),
            found=error.strerror or type(error).__name__,
        ) from error
    return out


def _turn(rows: NDArray[Any], out: FloatArray) -> None:
    """Average repeats and turn frames ``(y, repeat, x, z)`` into ``(z, y, x)``."""
    for y, frames in enumerate(rows):
        frame = frames[0] if len(frames) == 1 else frames.mean(axis=0, dtype=np.float64)
        out[:, y, :] = frame.T


def _shrunk(tile: TileRecord) -> InputError:
    return InputError(
        "A raw tile became shorter while it was read",
        file=shown(tile.folder),
        expected=f"{tile.info.frame_bytes * tile.info.n_frames} bytes",
        found="less",
        hint="Wait until the acquisition is complete, then run again.",
    )


def to_legacy_orientation(tile: FloatArray) -> FloatArray:
    """Apply the lateral rotate-and-flip of older pipelines to ``(z, y, x)``.

    Three quarter turns in the lateral plane, then a flip of its first axis.
    """
    turned = np.rot90(tile, k=3, axes=(1, 2))
    return np.ascontiguousarray(turned[:, ::-1])
