"""What is wrong with the samples of a tile, if anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soct.space import FloatArray


@dataclass(frozen=True)
class BadSamples:
    """What is wrong with the samples of a tile."""

    message: str
    silent: bool
    """Whether the tile shows nothing at all: a detector that was off or saturated throughout."""
    is_empty: bool = False
    """Whether it is zero everywhere: in a mosaic grid, a position that was never imaged."""


def check_samples(tile: FloatArray) -> BadSamples | None:
    """Return what is wrong with a tile's samples; None where all is well."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        low, high = float(tile.min()), float(tile.max())
    if np.isfinite(low) and np.isfinite(high) and low < high:
        return None
    finite = tile[np.isfinite(tile)]
    if finite.size == 0:
        return BadSamples("holds no finite sample: it is left out", silent=True)
    if finite.min() == finite.max():
        zero = finite.size == tile.size and not finite.any()
        return BadSamples("holds the same value everywhere: it is left out", True, zero)
    bad = tile.size - finite.size
    return BadSamples(f"holds {bad} samples that are not finite: taken as 0", silent=False)
