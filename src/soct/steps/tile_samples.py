"""What is wrong with the samples of a tile, if anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soct.steps.declaration import Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from soct.space import FloatArray


@dataclass(frozen=True)
class Saturation:
    """How much of every tile of a slice was clipped at the detector's ceiling."""

    share: NDArray[Any]
    """``(rows, columns)`` of the grid, 0 to 1; NaN where no tile was read."""

    @classmethod
    def of_grid(cls, rows: int, cols: int) -> Saturation:
        """Return the shares of a grid of which no tile has been read yet."""
        import numpy as np

        return cls(np.full((rows, cols), np.nan))

    def metrics(self) -> tuple[Metric, ...]:
        """Return what a slice reports; nothing where no tile was read."""
        import numpy as np

        if np.isnan(self.share).all():
            return ()
        row, col = (int(v) for v in np.unravel_index(np.nanargmax(self.share), self.share.shape))
        worst = float(self.share[row, col])
        return (
            Metric(
                "saturated_percent", 100 * worst, "%",
                "samples at the detector's ceiling in the tile with most of them",
                tile=(row, col) if worst else None,
            ),
            Metric(
                "saturated_tiles", int((self.share > 0).sum()), "",
                "tiles with samples at the detector's ceiling",
            ),
        )  # fmt: skip


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
