"""The table of shifts that `soct tomo` writes and reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.tables import read_table, write_table
from soct.formats.tiles import shown

_DIGITS = 6


@dataclass(frozen=True)
class ShiftTableRow:
    """One projection in `shifts.csv`: how far the object is displaced in it, down and to the right, in pixels.

    Residuals are what is left between the projection and the others once both shifts are taken away. A projection that was
    left out has neither: its `excluded` is 1.
    """

    projection: int
    angle_deg: float
    vertical_px: float | None
    horizontal_px: float | None
    vertical_residual: float | None = None
    horizontal_residual: float | None = None
    excluded: int | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


def write_shifts(
    path: Path,
    radians: NDArray[np.float64],
    shifts: NDArray[np.float64],
    residuals: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None],
    numbers: NDArray[np.int64] | None = None,
) -> None:
    """Write shifts ``(2, n)``, with the residuals of both directions where they are known.

    Parameters
    ----------
    path : Path
    radians : float64 ndarray (m,)
        Of all projections.
    shifts : float64 ndarray (2, n)
    residuals : (float64 ndarray (n,) or None, float64 ndarray (n,) or None)
    numbers : int64 ndarray (n,), optional
        Of the projections that have shifts; the others are marked. None: all.
    """
    known = np.arange(len(radians)) if numbers is None else numbers
    place = {int(k): i for i, k in enumerate(known)}

    def number(values: NDArray[np.float64] | None, k: int) -> float | None:
        if values is None or not np.isfinite(values[k]):
            return None
        return round(float(values[k]), _DIGITS) + 0.0

    rows = [
        ShiftTableRow(
            k,
            round(float(np.degrees(angle)), _DIGITS),
            number(shifts[0], place[k]) or 0.0,
            number(shifts[1], place[k]) or 0.0,
            number(residuals[0], place[k]),
            number(residuals[1], place[k]),
        )
        if k in place
        else ShiftTableRow(k, round(float(np.degrees(angle)), _DIGITS), None, None, excluded=1)
        for k, angle in enumerate(radians.tolist())
    ]
    write_table(path, ShiftTableRow, rows)


def excluded_of(path: Path) -> list[int]:
    """Return the projections that a table marks as left out."""
    return [row.projection for row in read_table(path, ShiftTableRow) if row.excluded]


def read_shifts(
    path: Path, radians: NDArray[np.float64], numbers: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Read shifts ``(2, n)`` of the projections at these angles, of some of them by their `numbers`.

    Raises
    ------
    InputError
        The table cannot be read, or is about other projections.
    """
    rows = read_table(path, ShiftTableRow)
    n = len(radians)
    if len(rows) != n or [row.projection for row in rows] != list(range(n)):
        raise InputError(
            "A table of shifts is about other projections",
            file=shown(path),
            expected=f"projections 0 to {n - 1}, in order",
            found=f"{len(rows)} lines"
            + (f", projections {rows[0].projection} to {rows[-1].projection}" if rows else ""),
            hint="Give the shifts of this scan, made by `soct tomo align`.",
        )
    turned = np.degrees(np.radians([row.angle_deg for row in rows]) - radians)
    apart = np.abs((turned + 180) % 360 - 180)
    if apart.max() > 0.01:
        k = int(np.argmax(apart))
        raise InputError(
            "A table of shifts was made with other angles",
            file=shown(path),
            expected=f"{np.degrees(radians[k]):.4f} degrees at projection {k}",
            found=f"{rows[k].angle_deg:.4f}",
            hint="Give the same options for the angles as to `soct tomo align`.",
        )
    used = rows if numbers is None else [rows[k] for k in numbers.tolist()]
    pairs = [(row.vertical_px, row.horizontal_px) for row in used]
    for row, pair in zip(used, pairs, strict=True):
        if None in pair or not np.isfinite(np.array(pair, np.float64)).all():
            raise InputError(
                "A table of shifts has none for a projection",
                file=shown(path),
                expected=f"vertical_px and horizontal_px of projection {row.projection}",
                found="nothing" if None in pair else str(pair),
                hint=f"Leave it out: --exclude {row.projection}.",
            )
    return np.array(pairs, np.float64).T.reshape(2, len(used))
