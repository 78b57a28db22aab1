"""How many values of a stack had to be replaced: counted by lines, so that reading a line twice counts once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.tomography.normalisation import LineIntegrals
from soct.tools.tomo_words import listed

_MOST_REPAIRED = 0.05
"""Above this part of all values, the data are not what they are taken for."""


@dataclass
class Repairs:
    """What was replaced in the lines that were read so far.

    Attributes
    ----------
    cols : int
        Values in a line.
    seen : bool ndarray (n, rows)
        Lines that were read.
    not_positive, not_finite : uint16 ndarray (n, rows)
    dead : ndarray (rows,)
        Dead pixels in each row of the detector.
    lost : list of int
        Projections with a line in which nothing is good.
    """

    cols: int
    seen: NDArray[np.bool_]
    not_positive: NDArray[np.uint16]
    not_finite: NDArray[np.uint16]
    dead: NDArray[Any]
    lost: list[int]
    numbers: NDArray[np.int64] | None = None
    """Of the projections in their file, where some are left out."""

    @classmethod
    def of(cls, count: int, rows: int, cols: int) -> Repairs:
        """Return the tally of a stack of which nothing was read."""
        none = np.zeros((count, rows), np.uint16)
        return cls(cols, none > 0, none, none.copy(), np.zeros(rows, np.int64), [])

    def note(self, where: tuple[slice, slice], found: LineIntegrals) -> None:
        """Take down what was replaced in a block of projections and rows."""
        self.seen[where] = True
        self.not_positive[where] = found.not_positive
        self.not_finite[where] = found.not_finite
        if found.lost.any():
            first = where[0].start or 0
            more = {first + int(k) for k in np.flatnonzero(found.lost.any(axis=1))}
            self.lost = sorted(more | set(self.lost))

    def packed(self) -> dict[str, Any]:
        """Return the tally as arrays, to be kept."""
        return {"seen": self.seen, "not_positive": self.not_positive, "not_finite": self.not_finite}

    def add(self, stored: Mapping[str, Any]) -> None:
        """Add what an earlier process has seen."""
        new = stored["seen"] & ~self.seen
        for name in ("not_positive", "not_finite"):
            getattr(self, name)[new] = stored[name][new]
        self.seen |= new

    def _counts(self) -> tuple[int, int, int]:
        dead = int((self.seen.sum(axis=0) * self.dead).sum())
        return dead, int(self.not_positive.sum()), int(self.not_finite.sum())

    @property
    def values(self) -> int:
        """How many values were read."""
        return int(self.seen.sum()) * self.cols

    @property
    def fraction(self) -> float:
        """Part of all values that was replaced."""
        return sum(self._counts()) / max(self.values, 1)

    @property
    def is_too_much(self) -> bool:
        """Whether so much had to be replaced that the data are not what they are taken for."""
        return self.fraction > _MOST_REPAIRED

    def sentences(self) -> list[str]:
        """Say what was replaced."""
        return [*self._about_dead(), *self.warnings()]

    def _about_dead(self) -> list[str]:
        dead = self._counts()[0]
        return [self._sentence(dead, "of pixels that do not see the light (dead)")] if dead else []

    def warnings(self) -> list[str]:
        """Say what no detector should give: values that had to be replaced, and in which projections."""
        kinds = (
            (self.not_positive, "with a transmission of zero or less"),
            (self.not_finite, "that are no finite numbers (NaN or infinite)"),
        )
        told = []
        for counts, why in kinds:
            where = np.flatnonzero(counts.any(axis=1))
            if where.size:
                numbers = where if self.numbers is None else self.numbers[where]
                some = "projection" if where.size == 1 else "projections"
                told.append(f"{self._sentence(int(counts.sum()), why)} ({some} {listed(numbers.tolist())})")  # fmt: skip
        return told

    def _sentence(self, count: int, why: str) -> str:
        were = "was replaced by its" if count == 1 else "were replaced by their"
        return f"{count} of {self.values} values {why} {were} neighbours in the line"
