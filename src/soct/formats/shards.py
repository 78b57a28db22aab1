"""Keeping the shards of an array whole: assembling them from blocks, and noticing those that are lost."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.formats.zarr_array import Range, ZarrArray


def pack_stored(array: ZarrArray) -> str:
    """Encode which shards have a file."""
    return base64.b64encode(np.packbits(array.stored().ravel()).tobytes()).decode()


def check_stored(array: ZarrArray, packed: str) -> None:
    """Compare the files of an array with the list from when it was written.

    Raises
    ------
    InputError
        A shard's file is gone; it is named.
    """
    count = math.prod(array.layout.grid)
    try:
        bits = np.frombuffer(base64.b64decode(packed, validate=True), np.uint8)
    except ValueError:
        bits = np.zeros(0, np.uint8)
    # The list is compared with the number of shards before anything of that size is allocated.
    if bits.size != -(-count // 8):
        raise InputError(
            "The list of shards does not fit the array",
            file=shown(array.folder),
            expected=f"{count} shards",
            found="another list",
        )
    expected = np.unpackbits(bits, count=count).astype(bool)
    there = array.stored().ravel()
    lost = np.flatnonzero(expected & ~there)
    if lost.size:
        index = np.unravel_index(int(lost[0]), array.layout.grid)
        raise InputError(
            "Shards of a volume are missing",
            file=shown(array.folder / array.layout.file_name([int(i) for i in index])),
            expected=f"{int(expected.sum())} files",
            found=f"{int((expected & there).sum())} files",
            hint="Remove the volume and run again: soct computes it anew.",
        )


@dataclass
class _Partial:
    """A shard that is not complete yet."""

    data: NDArray[Any]
    missing: int


@dataclass
class ShardAssembler:
    """Collects blocks of any shape and writes each shard once, when its last voxel has arrived.

    Blocks must not overlap. Blocks that cover whole shards go to disk without a copy; so memory holds only
    the shards that are partly there.
    """

    array: ZarrArray
    dtype: np.dtype[Any]
    _partial: dict[tuple[int, ...], _Partial] = field(default_factory=dict)
    _gaps: dict[tuple[int, ...], int] = field(default_factory=dict)

    def _extent(self, index: Sequence[int]) -> list[Range]:
        layout = self.array.layout
        return [
            (i * s, min((i + 1) * s, n))
            for i, s, n in zip(index, layout.shards, layout.shape, strict=True)
        ]

    def _whole(self, ranges: Sequence[Range]) -> bool:
        layout = self.array.layout
        return all(
            a % s == 0 and (b % s == 0 or b == n)
            for (a, b), s, n in zip(ranges, layout.shards, layout.shape, strict=True)
        )

    def add(self, start: Sequence[int], block: NDArray[Any]) -> None:
        """Take a block, and return once the shards that it completes are on disk."""
        ranges = [(a, a + n) for a, n in zip(start, block.shape, strict=True)]
        inside = all(a >= 0 and b <= n for (a, b), n in zip(ranges, self.array.shape, strict=True))
        if not inside:
            raise ValueError(f"block {ranges} is outside of the volume {self.array.shape}")
        if 0 in block.shape:
            return
        block = np.asarray(block, self.dtype)
        if self._whole(ranges):
            self.array.finish([self.array.write(start, block)])
            return
        for index in self.array.shards_in(ranges):
            self._add_part(index, ranges, block)

    def skip(self, start: Sequence[int], shape: Sequence[int]) -> None:
        """Say that a block will not come: it stays zero, and its shards need not wait for it."""
        ranges = [(a, a + n) for a, n in zip(start, shape, strict=True)]
        for index in self.array.shards_in(ranges):
            extent = self._extent(index)
            n = math.prod(
                min(b, d) - max(a, c) for (a, b), (c, d) in zip(ranges, extent, strict=True)
            )
            if index not in self._partial:
                self._gaps[index] = self._gaps.get(index, 0) + n
                continue
            self._partial[index].missing -= n
            if self._partial[index].missing <= 0:
                self._write(index)

    def _add_part(
        self, index: tuple[int, ...], ranges: Sequence[Range], block: NDArray[Any]
    ) -> None:
        extent = self._extent(index)
        common = [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(ranges, extent, strict=True)]
        source = tuple(slice(a - r[0], b - r[0]) for (a, b), r in zip(common, ranges, strict=True))
        target = tuple(slice(a - e[0], b - e[0]) for (a, b), e in zip(common, extent, strict=True))
        shape = [b - a for a, b in extent]
        if index not in self._partial:
            missing = math.prod(shape) - self._gaps.pop(index, 0)
            self._partial[index] = _Partial(np.zeros(shape, self.dtype), missing)
        partial = self._partial[index]
        partial.data[target] = block[source]
        partial.missing -= math.prod(b - a for a, b in common)
        if partial.missing <= 0:
            self._write(index)

    def _write(self, index: tuple[int, ...]) -> None:
        partial = self._partial.pop(index)
        start = [a for a, _ in self._extent(index)]
        self.array.finish([self.array.write(start, partial.data)])

    def flush(self) -> None:
        """Write what is there of shards that never became complete; the rest is zeros."""
        for index in sorted(self._partial):
            self._write(index)
