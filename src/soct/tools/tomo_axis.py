"""The rotation axis of a stack: estimated from rows all over it, or picked by eye."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, UsageError
from soct.formats.tiles import shown
from soct.space import FloatArray
from soct.tools.tomo_blocks import aligned_rows
from soct.tools.tomo_input import Projections
from soct.tools.tomo_shifts import take_shifts
from soct.tools.tomo_words import all_in_options, in_options, with_uncertainty

_WHOLE_BYTES = 512 << 20
"""A stack of at most this is looked at whole; of a larger one, some rows."""
_ROWS = 16
_DIGITS = 4
_FOUND = 0.04
"""An axis that is less certain than this part of the detector is not found."""


_EDGE_PX = 0.5
FULL_TURN_DEG = 350.0
_LOOK = "Look at the angles and at what the values are taken for."
_GIVE = f"{_LOOK} Or give the axis with --axis PX (soct tomo rotation-axis --pick shows the slice)."
_PICK = f"{_LOOK} Or pick the axis by eye: --pick."


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
        return f"rotation axis at {self.measured()} px ({self.method})"

    def measured(self, sign: str = "+-") -> str:
        """Say axis and uncertainty, which has two digits."""
        return with_uncertainty(self.axis, self.uncertainty, sign)

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
    return axis_of_rows(opened, rows, derivatives=derivatives, hint=_GIVE)


def axis_of_rows(
    opened: Projections, rows: FloatArray, *, derivatives: bool = False, hint: str = ""
) -> AxisFound:
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
            found=in_options(str(error)),
            hint=hint or _LOOK,
        ) from error
    if not found.uncertainty < _FOUND * opened.cols:
        raise InputError(
            "The rotation axis is not found",
            file=shown(opened.stack.path),
            expected=f"an axis that is certain within {_FOUND * opened.cols:.3g} of {opened.cols} px",
            found=f"{with_uncertainty(float(found.axis), float(found.uncertainty))} px"
            + "".join(f"; {text}" for text in all_in_options(found.notices)),
            hint=hint or _LOOK,
        )
    return AxisFound(
        float(found.axis),
        float(found.uncertainty),
        str(found.method),
        np.asarray(found.candidates, np.float64),
        np.asarray(found.score, np.float64),
        all_in_options(found.notices),
    )


@dataclass(frozen=True)
class AxisMeasured:
    """An estimate, and what somebody made of it.

    Attributes
    ----------
    found : AxisFound
    picked : float or None
        By eye; None: nobody was asked.
    opened : Projections
        Those that were used.
    warnings : tuple of str
        Besides those on opening.
    shifts : dict or None
        Where shifts come from.
    """

    found: AxisFound
    picked: float | None
    opened: Projections
    warnings: tuple[str, ...]
    shifts: dict[str, Any] | None = None

    def as_json_object(self) -> dict[str, Any]:
        """Return everything that was found, for programs."""
        found, opened = self.found, self.opened
        return {
            "axis_px": round(found.axis if self.picked is None else self.picked, _DIGITS),
            "picked": self.picked is not None,
            "estimate_px": round(found.axis, _DIGITS),
            "uncertainty_px": found.rounded_uncertainty,
            "method": found.method,
            "projections": opened.count,
            "excluded": list(opened.excluded),
            "rows": opened.rows,
            "cols": opened.cols,
            "notes": list(opened.told()),
            "shifts": self.shifts,
            "warnings": [*opened.warnings, *self.warnings],
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
    given = take_shifts(opened, table)
    opened = given.opened
    rows = chosen_rows(opened, given.values, progress("estimating the rotation axis"))
    try:
        found = axis_of_rows(opened, rows, derivatives=derivatives, hint=_PICK)
    except InputError as error:
        if picker is None:
            raise
        # Somebody looks: from the middle.
        nothing = np.zeros(0)
        found = AxisFound(float(opened.cols // 2), np.inf, "not estimated", nothing, nothing, (f"{error.message}: {error.found}",))  # fmt: skip
    picked = None if picker is None else float(picker(rows, opened.radians, found.axis))
    warnings = (*given.warnings, *opened.repairs.warnings(), *found.warnings)
    return AxisMeasured(found, picked, opened, warnings, given.as_json_object())


def check_axis(opened: Projections, axis: float, *, may_be_outside: bool) -> tuple[str, ...]:
    """Refuse an axis outside of the detector, where it is not that of half an acquisition.

    Parameters
    ----------
    opened : Projections
    axis : float
    may_be_outside : bool
        A full turn with the axis up to half a detector outside is warned of only.

    Raises
    ------
    UsageError
        It is outside.
    """
    last = opened.cols - 1
    beyond = max(-axis, axis - last, 0.0)
    if beyond <= _EDGE_PX:
        return ()
    if may_be_outside and beyond <= 0.5 * opened.cols and opened.span_deg > FULL_TURN_DEG:
        return (f"the rotation axis at {axis:g} px lies outside of the detector (0 to {last})",)
    raise UsageError(
        "The rotation axis is not on the detector",
        file=shown(opened.stack.path),
        expected=f"--axis from 0 to {last} px; 0 is the centre of the first pixel",
        found=f"{axis:g}",
    )


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
