"""Counts of a detector to line integrals: flat and dark fields, transmission, minus its logarithm.

``line integral = -log((counts - dark) / (flat - dark))``. Nothing is repaired in silence: pixels that the detector does not
measure (dead), and values that no object can give (transmission of zero or less, not a number) are counted, and replaced
by their neighbours in the same line of the same projection.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from soct.space import FloatArray

_MOST_REPAIRED = 0.05
"""Above this part of all values, the data are not what they are taken for."""


@dataclass(frozen=True)
class Fields:
    """The detector without object: what white light and no light give.

    Attributes
    ----------
    dark : float32 ndarray (rows, cols)
    white : float32 ndarray (rows, cols)
        Flat field minus dark field; 1 where the pixel is dead.
    dead : bool ndarray (rows, cols)
        Pixels that do not see the light, or gave no number.
    """

    dark: FloatArray
    white: FloatArray
    dead: NDArray[np.bool_]

    def of_rows(self, rows: slice) -> Fields:
        """Return the fields of some rows."""
        return Fields(self.dark[rows], self.white[rows], self.dead[rows])


@dataclass
class Repairs:
    """How many values were replaced, by reason; added up over blocks.

    Attributes
    ----------
    values : int
        All values seen.
    dead : int
        Of pixels that do not see the light.
    not_positive : int
        Whose transmission is zero or less.
    not_finite : int
        That are no numbers.
    lost : list of int
        Projections with a line in which no value is good.
    """

    values: int = 0
    dead: int = 0
    not_positive: int = 0
    not_finite: int = 0
    lost: set[int] = field(default_factory=set)

    @property
    def fraction(self) -> float:
        """Part of all values that was replaced."""
        return (self.dead + self.not_positive + self.not_finite) / max(self.values, 1)

    @property
    def is_too_much(self) -> bool:
        """Whether so much had to be replaced that the data are not what they are taken for."""
        return self.fraction > _MOST_REPAIRED

    def sentences(self) -> list[str]:
        """Say what was replaced."""
        counted = (
            (self.dead, "of pixels that do not see the light (dead)"),
            (self.not_positive, "with a transmission of zero or less"),
            (self.not_finite, "that are no finite numbers"),
        )
        return [
            f"{count} of {self.values} values {why} were replaced by their neighbours in the line"
            for count, why in counted
            if count
        ]


def make_fields(flats: FloatArray, darks: FloatArray | None = None) -> Fields:
    """Reduce frames ``(m, rows, cols)`` of flat and dark fields to one each, by their medians.

    Parameters
    ----------
    flats : float32 ndarray (m, rows, cols)
    darks : float32 ndarray (m, rows, cols), optional
        None: no dark signal.
    """
    flat = np.median(flats, axis=0).astype(np.float32)
    dark = np.zeros_like(flat) if darks is None else np.median(darks, axis=0).astype(np.float32)
    white = flat - dark
    usual = float(np.nanmedian(white)) if np.isfinite(white).any() else 0.0
    dead = ~(white > max(0.0, 1e-3 * usual))
    return Fields(np.where(dead, np.float32(0), dark), np.where(dead, np.float32(1), white), dead)


def line_integrals(
    counts: FloatArray, fields: Fields | None, repairs: Repairs, first: int = 0
) -> FloatArray:
    """Turn counts, or transmissions, into line integrals.

    Parameters
    ----------
    counts : float32 ndarray (n, rows, cols)
    fields : Fields or None
        None: `counts` are transmissions.
    repairs : Repairs
        Is added to.
    first : int
        Number of the first projection, for naming.

    Returns
    -------
    float32 ndarray (n, rows, cols)
    """
    if fields is None:
        transmission, dead = counts, np.zeros(counts.shape[1:], np.bool_)
    else:
        transmission, dead = (counts - fields.dark) / fields.white, fields.dead
    finite = np.isfinite(transmission)
    positive = finite & (transmission > 0)
    alive = ~dead[None]
    repairs.dead += int(dead.sum()) * len(counts)
    repairs.not_finite += int((~finite & alive).sum())
    repairs.not_positive += int((finite & ~positive & alive).sum())
    good = positive & alive
    values = -np.log(np.where(good, transmission, np.float32(1)))
    return _filled(values.astype(np.float32, copy=False), good, repairs, first)


def finite_values(values: FloatArray, repairs: Repairs, first: int = 0) -> FloatArray:
    """Return line integrals as they are, but for values that are no numbers."""
    good = np.isfinite(values)
    repairs.not_finite += int((~good).sum())
    return _filled(values, good, repairs, first)


def _filled(
    values: FloatArray, good: NDArray[np.bool_], repairs: Repairs, first: int
) -> FloatArray:
    """Interpolate along each line over what is not good."""
    repairs.values += values.size
    if good.all():
        return values
    out = values.copy()
    at = np.arange(values.shape[2])
    for k, row in np.argwhere(~good.all(axis=2)).tolist():
        line = good[k, row]
        if line.any():
            out[k, row, ~line] = np.interp(at[~line], at[line], values[k, row, line])
        else:
            out[k, row] = 0.0
            repairs.lost.add(first + k)
    return out


def looks_like_counts(values: FloatArray) -> bool:
    """Whether projections are brighter beside the object than behind it, as counts and transmissions are.

    Parameters
    ----------
    values : float32 ndarray (n, rows, cols)
        A sample of projections.
    """
    mean = np.nanmean(values, axis=(0, 1))
    edge = max(1, len(mean) // 20)
    beside = float(np.mean(np.concatenate([mean[:edge], mean[-edge:]])))
    middle = float(np.mean(mean[len(mean) // 3 : len(mean) - len(mean) // 3]))
    return bool(beside > 0 and middle > 0 and beside > 1.05 * middle)
