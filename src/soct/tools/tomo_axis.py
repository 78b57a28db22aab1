"""The rotation axis of a stack: estimated from rows all over it, or picked by eye."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tiles import shown
from soct.space import FloatArray
from soct.tools.tomo_blocks import aligned_rows
from soct.tools.tomo_input import Projections
from soct.tools.tomo_tables import read_shifts

_WHOLE_BYTES = 512 << 20
"""A stack of at most this is looked at whole; of a larger one, some rows."""
_ROWS = 16
_DIGITS = 4


@dataclass(frozen=True)
class AxisFound:
    """A rotation axis, and what speaks for it.

    Attributes
    ----------
    axis : float
        Detector coordinate in pixels; 0 is the centre of the first pixel.
    uncertainty : float
        Standard deviation in pixels.
    method : str
    candidates, score : float64 ndarray (m,)
        Axes tried, and how badly each explains the projections.
    warnings : tuple of str
    """

    axis: float
    uncertainty: float
    method: str
    candidates: NDArray[np.float64]
    score: NDArray[np.float64]
    warnings: tuple[str, ...] = ()

    @property
    def rounded_uncertainty(self) -> float | None:
        """The uncertainty for tables; None where it is not known."""
        return round(self.uncertainty, _DIGITS) if np.isfinite(self.uncertainty) else None

    def sentence(self) -> str:
        """Say the axis."""
        return f"rotation axis at {self.axis:.2f} +- {self.uncertainty:.2f} px ({self.method})"

    def packed(self) -> dict[str, Any]:
        """Return all as arrays, to be kept."""
        return {
            "axis": self.axis,
            "uncertainty": self.uncertainty,
            "method": self.method,
            "candidates": self.candidates,
            "score": self.score,
            "warnings": np.array(self.warnings, np.str_),
        }

    @classmethod
    def unpacked(cls, stored: Mapping[str, Any]) -> AxisFound:
        """Return what `packed` kept."""
        return cls(
            float(stored["axis"]),
            float(stored["uncertainty"]),
            str(stored["method"]),
            stored["candidates"],
            stored["score"],
            tuple(str(text) for text in stored["warnings"]),
        )


def find_axis(
    opened: Projections,
    shifts: NDArray[np.float64],
    *,
    derivatives: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> AxisFound:
    """Estimate the axis of a stack, whose projections are displaced by `shifts`.

    Raises
    ------
    InputError
        Nothing in the projections tells it.
    """
    rows = chosen_rows(opened, shifts, progress)
    return axis_of_rows(opened, rows, derivatives=derivatives)


def axis_of_rows(opened: Projections, rows: FloatArray, *, derivatives: bool = False) -> AxisFound:
    """Estimate the axis from aligned rows ``(n, r, cols)``.

    Raises
    ------
    InputError
        Nothing in the projections tells it.
    """
    from soct.tomography import find_rotation_axis

    try:
        found = find_rotation_axis(rows, opened.radians, theta_unit="rad", derivatives=derivatives)
    except ValueError as error:
        raise InputError(
            "The rotation axis cannot be estimated",
            file=shown(opened.stack.path),
            found=str(error),
            hint="Look at the angles, or give the axis with --axis PX.",
        ) from error
    return AxisFound(
        float(found.axis),
        float(found.uncertainty),
        str(found.method),
        np.asarray(found.candidates, np.float64),
        np.asarray(found.score, np.float64),
        tuple(found.notices),
    )


@dataclass(frozen=True)
class AxisMeasured:
    """An estimate, and what somebody made of it.

    Attributes
    ----------
    found : AxisFound
    picked : float or None
        By eye; None: nobody was asked.
    """

    found: AxisFound
    picked: float | None

    def as_json_object(self, opened: Projections) -> dict[str, Any]:
        """Return everything that was found, for programs."""
        found = self.found
        return {
            "axis_px": round(found.axis if self.picked is None else self.picked, _DIGITS),
            "picked": self.picked is not None,
            "estimate_px": round(found.axis, _DIGITS),
            "uncertainty_px": found.rounded_uncertainty,
            "method": found.method,
            "projections": opened.count,
            "rows": opened.rows,
            "cols": opened.cols,
            "notes": list(opened.told()),
            "warnings": [*opened.warnings, *found.warnings],
        }


def measure_axis(
    opened: Projections,
    table: Path | None,
    *,
    derivatives: bool = False,
    picker: Callable[[FloatArray, NDArray[np.float64], float], float] | None = None,
    progress: Callable[[str], Callable[[float], None]] = lambda _: lambda _: None,
) -> AxisMeasured:
    """Estimate the axis of a stack, and let somebody correct it.

    Parameters
    ----------
    opened : Projections
    table : Path or None
        Shifts: the table, or the folder that it lies in.
    derivatives : bool
    picker : callable, optional
        ``picker(stack, radians, axis) -> axis``.
    progress : callable
        Takes the name of a stage, and returns what takes its fraction done.

    Raises
    ------
    InputError
        Nothing in the projections tells the axis, or the shifts cannot be read.
    """
    shifts = np.zeros((2, opened.count))
    if table is not None:
        shifts = read_shifts(table / "shifts.csv" if table.is_dir() else table, opened.radians)
    rows = chosen_rows(opened, shifts, progress("estimating the rotation axis"))
    found = axis_of_rows(opened, rows, derivatives=derivatives)
    picked = None if picker is None else float(picker(rows, opened.radians, found.axis))
    return AxisMeasured(found, picked)


def chosen_rows(
    opened: Projections,
    shifts: NDArray[np.float64],
    progress: Callable[[float], None] = lambda _: None,
) -> FloatArray:
    """Return aligned rows that stand for the stack, ``(n, r, cols)``: all, or some from top to bottom."""
    if 4 * opened.count * opened.rows * opened.cols <= _WHOLE_BYTES:
        return aligned_rows(opened, shifts, slice(0, opened.rows))
    edges = np.linspace(0, opened.rows, min(_ROWS, opened.rows) + 1)
    middles = (0.5 * (edges[:-1] + edges[1:])).astype(int)
    found = []
    for i, row in enumerate(middles.tolist()):
        found.append(aligned_rows(opened, shifts, slice(row, row + 1)))
        progress((i + 1) / len(middles))
    return np.concatenate(found, axis=1)
