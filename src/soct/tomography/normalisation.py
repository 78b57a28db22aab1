"""Counts of a detector to line integrals: flat and dark fields, transmission, minus its logarithm.

``line integral = -log((counts - dark) / (flat - dark))``. Nothing is repaired in silence: pixels that the detector does not
measure (dead), and values that no object can give (transmission of zero or less, not a number) are counted, and replaced
by their neighbours in the same line of the same projection.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.space import FloatArray

_BRIGHTEST = 2.0
"""Phase contrast and noise bring transmissions over 1, but not so far."""
_CANCELLED = 0.1


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


@dataclass(frozen=True)
class LineIntegrals:
    """Line integrals, and what was replaced in every line of every projection.

    Attributes
    ----------
    values : float32 ndarray (n, rows, cols)
    not_positive, not_finite : uint16 ndarray (n, rows)
        How many values were of zero or less, or no numbers, beside those of dead pixels.
    lost : bool ndarray (n, rows)
        Lines in which no value is good; they are 0.
    """

    values: FloatArray
    not_positive: NDArray[np.uint16]
    not_finite: NDArray[np.uint16]
    lost: NDArray[np.bool_]


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


def line_integrals(counts: FloatArray, fields: Fields | None) -> LineIntegrals:
    """Turn counts, or transmissions, into line integrals.

    Parameters
    ----------
    counts : float32 ndarray (n, rows, cols)
    fields : Fields or None
        None: `counts` are transmissions.
    """
    if fields is None:
        transmission, dead = counts, np.zeros(counts.shape[1:], np.bool_)
    else:
        transmission, dead = (counts - fields.dark) / fields.white, fields.dead
    finite = np.isfinite(transmission)
    positive = finite & (transmission > 0)
    alive = ~dead[None]
    good = positive & alive
    values = -np.log(np.where(good, transmission, np.float32(1))).astype(np.float32, copy=False)
    return _filled(values, good, finite & ~positive & alive, ~finite & alive)


def finite_values(values: FloatArray) -> LineIntegrals:
    """Take values for line integrals as they are, but for those that are no numbers."""
    good = np.isfinite(values)
    return _filled(values, good, np.zeros_like(good), ~good)


def _filled(
    values: FloatArray,
    good: NDArray[np.bool_],
    not_positive: NDArray[np.bool_],
    not_finite: NDArray[np.bool_],
) -> LineIntegrals:
    """Interpolate along each line over what is not good."""
    lost = np.zeros(values.shape[:2], np.bool_)
    out = values if good.all() else values.copy()
    at = np.arange(values.shape[2])
    for k, row in np.argwhere(~good.all(axis=2)).tolist():
        line = good[k, row]
        if line.any():
            out[k, row, ~line] = np.interp(at[~line], at[line], values[k, row, line])
        else:
            out[k, row] = 0.0
            lost[k, row] = True
    zero, unknown = (bad.sum(axis=2).astype(np.uint16) for bad in (not_positive, not_finite))
    return LineIntegrals(out, zero, unknown, lost)


def looks_like_no_transmission(values: FloatArray) -> bool:
    """Whether values lie so far above 1 that they are no transmissions.

    Parameters
    ----------
    values : float32 ndarray (n, rows, cols)
        A sample of projections.
    """
    good = values[np.isfinite(values)]
    return good.size > 0 and bool(np.percentile(good, 95) > _BRIGHTEST)


def looks_like_derivatives(values: FloatArray) -> bool:
    """Whether each line holds values of both signs that cancel, as derivatives along the detector do.

    Parameters
    ----------
    values : float32 ndarray (n, rows, cols)
        A sample of projections.
    """
    lines = values.reshape(-1, values.shape[-1]).astype(np.float64)
    lines = lines[np.isfinite(lines).all(axis=1)]
    if not lines.size:
        return False
    reach = 0.1 * np.abs(lines).max(axis=1, keepdims=True)
    both = np.minimum((lines > reach).mean(axis=1), (lines < -reach).mean(axis=1))
    rest = np.abs(lines.mean(axis=1)) < _CANCELLED * np.abs(lines).mean(axis=1)
    return bool(((both > 0.05) & rest).mean() > 0.8)


def looks_like_counts(values: FloatArray) -> bool:
    """Whether projections are brighter beside the object than behind it, as counts and transmissions are.

    Parameters
    ----------
    values : float32 ndarray (n, rows, cols)
        A sample of projections.
    """
    good = np.isfinite(values)
    if not good.any(axis=(0, 1)).all():
        return False
    total = np.where(good, values, np.float32(0)).sum(axis=(0, 1), dtype=np.float64)
    mean = np.asarray(total / good.sum(axis=(0, 1)), np.float64)
    edge = max(1, len(mean) // 20)
    beside = float(np.mean(np.concatenate([mean[:edge], mean[-edge:]])))
    middle = float(np.mean(mean[len(mean) // 3 : len(mean) - len(mean) // 3]))
    return bool(beside > 0 and middle > 0 and beside > 1.05 * middle)
