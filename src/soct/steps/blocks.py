"""The blocks in which steps go through a slice: whole shards, and the same for any memory and any number of workers.

Sums over blocks are rounded differently when the blocks are others, so their size must not follow the
memory that a unit happens to get; a step states the memory that its blocks need in its estimate instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WIDEST_PX = 1024


class Block(NamedTuple):
    """Rows ``y0 .. y1`` and columns ``x0 .. x1`` of a slice, over its full depth."""

    y0: int
    y1: int
    x0: int
    x1: int

    @property
    def rows(self) -> slice:
        """Its rows."""
        return slice(self.y0, self.y1)

    @property
    def columns(self) -> slice:
        """Its columns."""
        return slice(self.x0, self.x1)

    def grown(self, halo: int, shape: Sequence[int]) -> Block:
        """Return the block with `halo` more pixels on every side, as far as the slice ``(z, y, x)`` reaches."""
        return Block(
            max(0, self.y0 - halo),
            min(shape[1], self.y1 + halo),
            max(0, self.x0 - halo),
            min(shape[2], self.x1 + halo),
        )

    def within(self, outer: Block) -> tuple[slice, slice]:
        """Where the block lies in a block that contains it."""
        return (
            slice(self.y0 - outer.y0, self.y1 - outer.y0),
            slice(self.x0 - outer.x0, self.x1 - outer.x0),
        )


def cut_blocks(shape: Sequence[int], shard: Sequence[int]) -> list[Block]:
    """Cut a slice into blocks one shard high and about `WIDEST_PX` wide, row by row.

    Parameters
    ----------
    shape, shard : sequence of int
        ``(z, y, x)`` of the slice, and of one of its files.
    """
    _, ny, nx = shape
    high = min(shard[1], ny)
    wide = min(shard[2] * max(1, WIDEST_PX // shard[2]), nx)
    return [
        Block(y, min(y + high, ny), x, min(x + wide, nx))
        for y in range(0, ny, high)
        for x in range(0, nx, wide)
    ]


def middle_block(shape: Sequence[int], rows: int, columns: int) -> Block:
    """Return a block of at most this size about the middle of a slice ``(z, y, x)``."""
    _, ny, nx = shape
    y0, x0 = max(0, (ny - rows) // 2), max(0, (nx - columns) // 2)
    return Block(y0, min(y0 + rows, ny), x0, min(x0 + columns, nx))
