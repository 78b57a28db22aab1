"""The vertical stage of `soct tomo align`: one pass over the stack for the mass in every row, then shifts from that alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from soct.tomography import align_vertical
from soct.tools.tomo_input import Projections
from soct.tools.tomo_words import all_in_options, in_options, renumbered
from soct.tools.tomo_work import Work

if TYPE_CHECKING:
    from soct.tools.tomo_align import AlignOptions

_SAMPLE = 32
_ABOVE_NOISE = 1.5
"""How much more than noise a column holds where it shows the object."""

Progress = Callable[[str], Callable[[float], None]]


@dataclass(frozen=True)
class VerticalPart:
    """Vertical shifts of all projections.

    Attributes
    ----------
    shifts, uncertainty : float64 ndarray (n,)
        Pixels.
    residual_before, residual_after : float64 ndarray (n,)
        Difference of each projection's mass per row to the mean of all, as a part of what changes over the rows.
    converged : bool
    warnings : tuple of str
    is_measured : bool
        False: the stack cannot tell, and the shifts are 0.
    rows : tuple of int
        First detector row and the last.
    """

    shifts: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    residual_before: NDArray[np.float64]
    residual_after: NDArray[np.float64]
    converged: bool
    warnings: tuple[str, ...]
    is_measured: bool
    rows: tuple[int, ...]
    row_mass: NDArray[np.float64]
    """Of each row in use, the mean over all projections."""

    def typical_uncertainty(self) -> float | None:
        """Median standard deviation of a shift, pixels."""
        known = self.uncertainty[np.isfinite(self.uncertainty)]
        return round(float(np.median(known)), 4) if known.size else None

    def verdict(self) -> str:
        """Say in a sentence what came out."""
        if not self.is_measured:
            return "Vertical: not measured."
        before, after = (
            float(np.sqrt(np.nanmean(v**2))) for v in (self.residual_before, self.residual_after)
        )
        moved = float(self.shifts.std())
        return f"Vertical: displaced by {moved:.3g} px RMS; the mass per row disagrees by {before:.2%} before and {after:.2%} after."

    def packed(self) -> dict[str, Any]:
        """Return all as arrays, to be kept."""
        return {**vars(self), "warnings": np.array(self.warnings, np.str_)}

    @classmethod
    def unpacked(cls, stored: Mapping[str, Any]) -> VerticalPart:
        """Return what `packed` kept."""
        return cls(
            stored["shifts"], stored["uncertainty"], stored["residual_before"], stored["residual_after"],
            bool(stored["converged"]), tuple(str(t) for t in stored["warnings"]), bool(stored["is_measured"]),
            tuple(int(r) for r in stored["rows"]), stored["row_mass"],
        )  # fmt: skip


def align_vertically(
    opened: Projections, options: AlignOptions, work: Work, progress: Progress
) -> VerticalPart:
    """Find vertical shifts, or take those that are kept."""
    stored = work.load("vertical")
    if stored is not None:
        _recall(opened, work, "vertical")
        return VerticalPart.unpacked(stored)
    mass = _row_mass(opened, options.derivatives, progress("reading all projections for the vertical alignment"))  # fmt: skip
    part = _align(opened, mass, options)
    work.save("vertical-repairs", **opened.repairs.packed())
    work.save("vertical", **part.packed())
    return part


def _recall(opened: Projections, work: Work, stage: str) -> None:
    """Count what an earlier process has replaced in this stage."""
    seen = work.load(f"{stage}-repairs")
    if seen is not None:
        opened.repairs.add(seen)


def _row_mass(
    opened: Projections, derivatives: bool, progress: Callable[[float], None]
) -> NDArray[np.float64]:
    """Return the mass in every row of every projection, ``(n, rows)``.

    Of derivatives along the detector it is minus their first moment: what they sum up to, summed up again, where the object
    does not reach the edges.
    """
    mass = np.empty((opened.count, opened.rows))
    lever = _lever(opened) if derivatives else np.ones(opened.cols)
    blocks = opened.blocks()
    for i, block in enumerate(blocks):
        mass[block] = opened.read(block, slice(0, opened.rows)) @ lever
        progress((i + 1) / len(blocks))
    return mass


def _lever(opened: Projections) -> NDArray[np.float64]:
    """Return the weights of columns that make a first moment of derivatives.

    Beside the object there is nothing but noise, which a long lever would magnify: there it falls back to zero.
    """
    energy = np.zeros(opened.cols)
    for k in range(0, opened.count, max(1, opened.count // _SAMPLE)):
        block = opened.read(slice(k, k + 1), slice(0, opened.rows))
        energy += np.square(block, dtype=np.float64).sum(axis=(0, 1))
    # Single columns, as at the ends of a numerical derivative, are none of the object's.
    energy = median_filter(energy, 7, mode="reflect")
    inside = np.flatnonzero(energy > _ABOVE_NOISE * np.percentile(energy, 5))
    at = np.arange(opened.cols, dtype=np.float64)
    first, last = (float(inside[0]), float(inside[-1])) if inside.size else (0.0, at[-1])
    reach = 0.5 * (last - first)
    knots = [-1.0, first, last, float(opened.cols)]
    return np.asarray(np.interp(at, knots, [0.0, reach, -reach, 0.0]), np.float64)


def _align(opened: Projections, mass: NDArray[np.float64], options: AlignOptions) -> VerticalPart:
    n = opened.count
    reach = None if options.max_shift is None else max(1, int(np.ceil(options.max_shift)))
    rows = (opened.first_row, opened.last_row - 1)
    row_mass = np.abs(mass).mean(axis=0)
    try:
        # The mass per row is all that it looks at, so a stack of one column of it says the same.
        found = align_vertical(mass[:, :, None], maxit=options.maxit or 50, pixtol=options.pixtol, reach=reach)  # fmt: skip
    except ValueError as error:
        nothing = np.full(n, np.nan)
        why = f"vertical shifts are not measured and taken for 0: {in_options(str(error))}"
        return VerticalPart(
            np.zeros(n), nothing, nothing, nothing, True, (why,), False, rows, row_mass
        )
    return VerticalPart(
        found.shifts[0],
        found.uncertainties,
        found.residuals_before,
        found.residuals_after,
        found.converged,
        renumbered(all_in_options(found.notices), opened.numbers.tolist()),
        True,
        rows,
        row_mass,
    )
