"""Return lines that were left inside the tiles of an assembled mosaic, and what to do about them.

The mosaic does not say how many return lines a frame had, nor whether its tiles are whole frames or frames cut to
the kept number of A-lines wherever the return lines were. Both follow from the tiles: the band is dark (or bright) at the
same place in all of them, and in a whole frame the last column shows the place next to that of the first one.

A whole frame is ``[A, band, B]`` with B followed by A in the tissue: it is rolled until the band is last. A cut frame
lacks as many columns between B and A as the band is wide: A and B change places about the band, so that every column
comes to lie where it belongs and the band stands for what was never kept. Both orders keep every column, so
both can be undone without loss.

Convention: see `soct.space`; ``x`` is the A-line axis and the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.geometry.galvo import DarkRun, band_confidence, detect_dark_run
from soct.space import Array, FloatArray

Frames = Literal["whole", "cropped"]


@dataclass(frozen=True)
class BandFix:
    """The band of return lines in the tiles of one mosaic.

    Attributes
    ----------
    n_columns : int
        Width of a tile.
    start, width : int
        The band's first column and its width; it may wrap around the tile's end.
    bright : bool
        Whether it is brighter than the tissue beside it.
    frames : {"whole", "cropped"}
        What the tiles are.
    confidence : float
        0 to 1: how many tiles show the band, and how clearly.
    sampled : int
        Tiles that were looked at.
    profile : ndarray (n_columns,) float32
        Mean brightness of the sampled tiles along x, relative to each tile's own mean.
    in_place : bool
        Whether the columns are where they belong already.
    """

    n_columns: int
    start: int
    width: int
    bright: bool
    frames: Frames
    confidence: float
    sampled: int
    profile: FloatArray
    in_place: bool = False

    @property
    def order(self) -> NDArray[np.int64]:
        """Column of the tile as it is that comes to each column of the fixed tile."""
        n, stop = self.n_columns, self.start + self.width
        columns = np.arange(n)
        if self.in_place:
            return columns
        if self.frames == "whole" or stop > n:
            return np.roll(columns, (n - stop) % n)
        if self.start == 0 or stop == n:
            return columns
        return np.concatenate([columns[stop:], columns[self.start : stop], columns[: self.start]])

    @property
    def is_identity(self) -> bool:
        """Whether all columns are where they belong already."""
        return bool(np.array_equal(self.order, np.arange(self.n_columns)))

    @property
    def band(self) -> tuple[int, int]:
        """First column of the band in the fixed tile, and one past the last."""
        first = int(np.flatnonzero(self.order == self.start)[0])
        return first, first + self.width

    @property
    def kept(self) -> tuple[int, int]:
        """Columns of the fixed tile that are left when a band at its edge is cut off."""
        first, stop = self.band
        if stop == self.n_columns:
            return 0, first
        return (stop, self.n_columns) if first == 0 else (0, self.n_columns)

    def apply(self, tile: Array) -> Array:
        """Put the columns of a tile ``(..., x)`` where they belong."""
        return np.ascontiguousarray(tile[..., self.order])

    def undo(self, tile: Array) -> Array:
        """Take `apply` back, bit for bit."""
        return np.ascontiguousarray(tile[..., np.argsort(self.order)])

    def __str__(self) -> str:
        kind = "bright" if self.bright else "dark"
        return (
            f"{kind} band of {self.width} columns from column {self.start}, confidence "
            f"{self.confidence:.2f} over {self.sampled} tiles, {self.frames} frames"
        )


def detect_band(
    projections: Sequence[Array],
    *,
    frames: Frames | Literal["auto"] = "auto",
    dark_fraction: float = 0.6,
    max_gap: int = 2,
    max_width_fraction: float = 0.2,
) -> BandFix | None:
    """Find the band of return lines in the tiles of an assembled mosaic.

    Parameters
    ----------
    projections : sequence of ndarray (y, x)
        Mean over depth of tiles of one mosaic, those with tissue.
    frames : {"auto", "whole", "cropped"}
        What the tiles are; ``auto`` finds out.
    dark_fraction, max_gap, max_width_fraction
        As in `soct.geometry.galvo.detect_dark_run`. A bright band is brighter than the baseline over
        `dark_fraction`.

    Returns
    -------
    BandFix or None
        None where there is no band.
    """
    tiles = [t for t in (np.asarray(p, np.float32) for p in projections) if _has_signal(t)]
    if not tiles:
        return None
    relative = [t / max(float(np.nanmean(t)), 1e-12) for t in tiles]
    profile = np.mean([np.nan_to_num(t).mean(axis=0) for t in relative], axis=0)
    n = profile.size
    runs = []
    for turn in (0, n // 2):  # the second look sees a band that wraps around the tile's end
        for bright in (False, True):
            run = detect_dark_run(
                np.roll(profile, -turn),
                dark_fraction=dark_fraction,
                max_gap=max_gap,
                max_width_fraction=max_width_fraction,
                bright=bright,
            )
            if run is not None:
                runs.append((run.deficit, (run.start + turn) % n, run))
    if not runs:
        return None
    _, start, run = max(runs, key=lambda found: found[0])
    confidence = _pool_confidence(tiles, start, run)
    if frames == "auto":
        frames = _tell_frames(relative, start, run.width)
    return BandFix(
        n, start, run.width, run.bright, frames, confidence, len(tiles),
        profile.astype(np.float32),
    )  # fmt: skip


def _has_signal(tile: FloatArray) -> bool:
    finite = tile[np.isfinite(tile)]
    return bool(finite.size > 0.5 * tile.size and finite.mean() > 0 and np.ptp(finite) > 0)


def _pool_confidence(tiles: Sequence[FloatArray], start: int, run: DarkRun) -> float:
    """Mean confidence of the tiles, lowered where few of them show the band.

    A band at the tile's edge has one neighbour in the tissue only; the other is the frame's other end, which
    shows tissue as well.
    """
    each = np.array([band_confidence(t, start, run.width) for t in tiles])
    seen = float(np.mean(each > 0.3))
    top = np.sort(each)[len(each) // 2 :]
    return float(top.mean() * np.sqrt(seen))


def _tell_frames(relative: Sequence[FloatArray], start: int, width: int) -> Frames:
    """Tell whether the last column continues in the first one, as in a whole frame.

    The difference of log brightness between the tile's ends is compared with that of columns next to each other and
    of columns one band apart, pooled over all tiles.
    """
    n = relative[0].shape[1]
    if (start + width) > n:
        return "whole"  # a frame that was cut cannot hold both ends of the band
    if start == 0 or start + width == n:
        return "cropped"  # nothing moves, and what is outside of the band stays
    joint: list[float] = []
    near: list[float] = []
    far: list[float] = []
    sides = [(0, start), (start + width, n)]
    for tile in relative:
        log = np.log(np.maximum(np.nan_to_num(tile), 0) + 0.1)
        log = ndi.uniform_filter1d(log, 5, axis=0)
        joint.append(float(np.abs(log[:, -2:].mean(1) - log[:, :2].mean(1)).mean()))
        for low, high in sides:
            part = log[:, low:high]
            for lag, found in ((2, near), (2 + width, far)):
                if part.shape[1] >= lag + 2:
                    pair = (part[:, :-1] + part[:, 1:]) / 2
                    found.append(float(np.abs(pair[:, lag:] - pair[:, :-lag]).mean()))
    if not far or not near:
        return "cropped"
    return "whole" if np.mean(joint) < (np.mean(near) + np.mean(far)) / 2 else "cropped"
