"""Levels, chunks and shards of the final volume, and what memory it takes to write one: arithmetic alone.

The main process plans with this, so nothing that computes is imported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Shape = tuple[int, int, int]

_BAND_BYTES = 128 << 20
_CHUNK_BYTES = 1 << 20
_SHARD_BYTES = 32 << 20
_LEAST_HEIGHT, _MOST_HEIGHT = 4, 64


def balanced(length: int, longest: int) -> int:
    """Return the chunk length, at most `longest`, that covers an axis with the least padding."""
    return -(-length // -(-length // longest))


def _factor(ratio: float) -> int:
    below = max(1, math.floor(ratio + 1e-6))
    is_far = below < 0.9 * ratio
    return below + 1 if is_far and below + 1 <= 1.1 * ratio else below


def level_factors(voxel_um: Sequence[float], level_um: Sequence[float]) -> tuple[Shape, ...]:
    """Choose the whole-number factors of the levels, the base level (1, 1, 1) first.

    Per axis, the largest factor whose voxel is not larger than the level asks for, or the next one where that
    is nearer than 10 %; an axis that is coarser already stays as it is. Equal levels are given once.

    Parameters
    ----------
    voxel_um : sequence of float
        Of the base level, (z, y, x).
    level_um : sequence of float
        Voxel sizes asked for.
    """
    factors: list[Shape] = [(1, 1, 1)]
    for target in sorted(level_um):
        z, y, x = (_factor(target / size) for size in voxel_um)
        if (z, y, x) != factors[-1]:
            factors.append((z, y, x))
    return tuple(factors)


@dataclass(frozen=True)
class Layout:
    """Shape of a level, and of its chunks and shards; one shard high bands are written at a time."""

    shape: Shape
    chunks: Shape
    shards: Shape


def volume_layout(shape: Shape) -> Layout:
    """Choose chunks and shards of a level that is written in bands of planes."""
    n_z, n_y, n_x = shape
    plane = 4 * n_y * n_x
    height = _MOST_HEIGHT
    while height > _LEAST_HEIGHT and height * plane > _BAND_BYTES:
        height //= 2
    z = balanced(n_z, height)
    edge = 2 ** int(math.log2(math.sqrt(_CHUNK_BYTES / (4 * height))))
    chunks = (z, balanced(n_y, edge), balanced(n_x, edge))
    side = max(1, math.isqrt(_SHARD_BYTES // (4 * math.prod(chunks))))
    per_axis = (balanced(-(-n // c), side) for n, c in zip((n_y, n_x), chunks[1:], strict=True))
    y, x = (c * n for c, n in zip(chunks[1:], per_axis, strict=True))
    return Layout(shape, chunks, (z, y, x))


def level_shape(shape: Sequence[int], factor: Shape) -> Shape:
    """Return the shape of a level; blocks at the far edges may be smaller."""
    z, y, x = (-(-n // f) for n, f in zip(shape, factor, strict=True))
    return z, y, x


def pyramid_memory(
    shape: Sequence[int], voxel_um: Sequence[float], level_um: Sequence[float] = (10, 25, 50, 100)
) -> int:
    """Return how many bytes a `PyramidWriter` holds, without the planes given to it and what is being compressed."""
    total = 0
    for number, factor in enumerate(level_factors(voxel_um, level_um)):
        layout = volume_layout(level_shape(shape, factor))
        plane = layout.shape[1] * layout.shape[2]
        band = 5 * layout.shards[0] * plane
        total += 2 * band + (12 * plane if number else 0)
    return total
