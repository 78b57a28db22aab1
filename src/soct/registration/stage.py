"""What the stage says about where slices lie: shifts between slices and cut thickness.

Stage coordinates belong to the tissue block: a tile at one stage position images one place in the block,
whatever its index in the mosaic. A shift between two slices is ``boundary(fixed) - boundary(moving)``, so
the moving slice's canvas offset is *minus* the shift where index grows with stage (see
`soct.registration.stage_offsets`, which is the only place that turns shifts into offsets).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Edge = Literal["low", "high"]


@dataclass(frozen=True)
class StageSlice:
    """Where the stage stood for the tiles of one slice.

    Parameters
    ----------
    slice_id : int
        Id of the slice.
    rows, cols : (n,) int
        Index of each tile in the mosaic (``tile_y``, ``tile_x``).
    y_mm, x_mm, z_mm : (n,) float
        Stage position of each tile; `z_mm` is NaN where it was not recorded.
    tile_um, pixel_um : (float, float)
        Field of view and pixel size along y and x.
    source : {"stage", "nominal"}
        Whether the positions were recorded or follow from index and overlap.

    Raises
    ------
    InputError
        The slice has no tile, or a lateral position is not finite.
    """

    slice_id: int
    rows: Integers
    cols: Integers
    y_mm: Floats
    x_mm: Floats
    z_mm: Floats
    tile_um: tuple[float, float]
    pixel_um: tuple[float, float]
    source: Literal["stage", "nominal"] = "stage"

    def __post_init__(self) -> None:
        for name in ("rows", "cols"):
            object.__setattr__(self, name, np.atleast_1d(np.asarray(getattr(self, name), np.int64)))
        for name in ("y_mm", "x_mm", "z_mm"):
            value = np.atleast_1d(np.asarray(getattr(self, name), np.float64))
            object.__setattr__(self, name, value)
        if self.rows.size == 0:
            raise InputError(f"slice {self.slice_id} has no tile to take a stage position from")
        if not (np.isfinite(self.y_mm).all() and np.isfinite(self.x_mm).all()):
            raise InputError(
                f"a stage position of slice {self.slice_id} is not a finite number",
                expected="stage_x_pos_mm and stage_y_pos_mm of every tile, or of none",
            )

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns that the tiles span."""
        return int(np.ptp(self.rows)) + 1, int(np.ptp(self.cols)) + 1

    @property
    def depth_mm(self) -> float:
        """Median stage z of the tiles; NaN where no tile has one."""
        known = self.z_mm[np.isfinite(self.z_mm)]
        return float(np.median(known)) if known.size else float("nan")


def place_by_index(
    slice_id: int,
    rows: Sequence[int],
    cols: Sequence[int],
    *,
    tile_um: tuple[float, float],
    pixel_um: tuple[float, float],
    overlap_fraction: float | tuple[float, float],
    z_mm: Sequence[float] | None = None,
) -> StageSlice:
    """Build the positions that index and overlap imply, for data without stage positions.

    Every tile lies at ``index * tile_um * (1 - overlap_fraction)``; two fractions are those along y and x.
    Stage z, where it was recorded, is kept.
    """
    r, c = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
    pitch = np.asarray(tile_um, np.float64) * (1 - np.asarray(overlap_fraction)) / 1000
    return StageSlice(
        slice_id,
        r,
        c,
        (r * pitch[0]).astype(np.float64),
        (c * pitch[1]).astype(np.float64),
        np.full(r.shape, np.nan) if z_mm is None else np.asarray(z_mm, np.float64),
        tile_um,
        pixel_um,
        "nominal",
    )


@dataclass(frozen=True)
class StageAxes:
    """How the stage moves when the tile index grows by one, measured over all slices.

    ``direction`` is +1 or -1 along (y, x); ``pitch_mm`` the distance between neighbouring tiles (NaN where
    the mosaics are one tile wide); ``measured`` says which of the two directions the data could tell, the
    other being assumed +1. ``swapped`` means that ``tile_x`` follows the stage's y axis.
    """

    direction: tuple[int, int] = (1, 1)
    pitch_mm: tuple[float, float] = (float("nan"), float("nan"))
    measured: tuple[bool, bool] = (False, False)
    swapped: bool = False


def _neighbour_steps(slices: Sequence[StageSlice], axis: int) -> Floats:
    """Stage steps (y, x), shape (n, 2), between tiles whose index differs by one along `axis`."""
    steps: list[tuple[float, float]] = []
    for s in slices:
        if s.source != "stage":
            continue
        place = {(int(r), int(c)): i for i, (r, c) in enumerate(zip(s.rows, s.cols, strict=True))}
        for (r, c), i in place.items():
            j = place.get((r + 1, c) if axis == 0 else (r, c + 1))
            if j is not None:
                steps.append((s.y_mm[j] - s.y_mm[i], s.x_mm[j] - s.x_mm[i]))
    return np.asarray(steps, np.float64).reshape(-1, 2)


def measure_stage_axes(slices: Mapping[int, StageSlice]) -> StageAxes:
    """Measure the direction and distance in which the stage moves along rows and columns.

    The median over all pairs of neighbouring tiles is taken, so that a few wrong readings change nothing.
    """
    direction, pitch, measured, across = [1, 1], [float("nan")] * 2, [False, False], [False, False]
    for axis in (0, 1):
        steps = _neighbour_steps(list(slices.values()), axis)
        if len(steps) == 0:
            continue
        step = np.median(steps, axis=0)
        across[axis] = bool(abs(step[1 - axis]) > abs(step[axis]))
        if step[axis] != 0 and not across[axis]:
            direction[axis] = 1 if step[axis] > 0 else -1
            pitch[axis] = float(abs(step[axis]))
            measured[axis] = True
    return StageAxes(
        (direction[0], direction[1]), (pitch[0], pitch[1]), (measured[0], measured[1]), any(across)
    )


def find_edges(s: StageSlice) -> dict[Edge, tuple[float, float]]:
    """Return the stage position (y, x, in mm) of the mosaic's low-index and high-index edge.

    An edge is the median position of the outermost row (column) of tiles, so that one misread tile does not
    move it.
    """
    edges: dict[Edge, tuple[float, float]] = {}
    for name, pick in (("low", np.min), ("high", np.max)):
        y = np.median(s.y_mm[s.rows == pick(s.rows)])
        x = np.median(s.x_mm[s.cols == pick(s.cols)])
        edges["low" if name == "low" else "high"] = (float(y), float(x))
    return edges


@dataclass(frozen=True)
class StageShift:
    """The stage displacement between two consecutive slices: one row of ``shifts_xy.csv``.

    ``shift_mm`` and ``shift_px`` are ``boundary(fixed) - boundary(moving)`` along (y, x). ``edge`` names the
    boundary used along y and x. ``reliable`` is False where the grid shape changed or the positions are
    nominal ones.
    """

    fixed_id: int
    moving_id: int
    shift_mm: tuple[float, float]
    shift_px: tuple[float, float]
    reliable: bool = True
    edge: tuple[Edge, Edge] = field(default=("low", "low"), compare=False)


def estimate_xy_shifts(slices: Mapping[int, StageSlice]) -> tuple[StageShift, ...]:
    """Estimate the shift between every two consecutive slices from their stage positions.

    The boundary is, per axis, the mosaic's low or high edge, whichever differs less between the two slices:
    a mosaic that grew by a column makes no jump. Pixel values refer to the fixed slice's pixel size.

    Parameters
    ----------
    slices : mapping of int to StageSlice
        At least one slice. Ids need not be contiguous: a pair spans a missing slice.

    Returns
    -------
    tuple of StageShift
        One per pair of consecutive ids, ascending.

    Examples
    --------
    >>> def at(i, x):
    ...     return StageSlice(i, [0, 0], [0, 1], [0, 0], [x, x + 1.6], [0, 0], (2000, 2000), (25, 25))
    >>> estimate_xy_shifts({0: at(0, 8.0), 1: at(1, 7.75)})[0].shift_px
    (0.0, 10.0)
    """
    ids = sorted(slices)
    edges = {i: find_edges(slices[i]) for i in ids}
    shifts = []
    for f, m in itertools.pairwise(ids):
        mm, used = [0.0, 0.0], ["low", "low"]
        for axis in (0, 1):
            low = edges[f]["low"][axis] - edges[m]["low"][axis]
            high = edges[f]["high"][axis] - edges[m]["high"][axis]
            # A tie within the stage's resolution is the usual case and must not depend on rounding.
            mm[axis], used[axis] = (high, "high") if abs(high) < abs(low) - 1e-9 else (low, "low")
        px = slices[f].pixel_um
        shifts.append(
            StageShift(
                f,
                m,
                (mm[0], mm[1]),
                (mm[0] * 1000 / px[0], mm[1] * 1000 / px[1]),
                slices[f].grid_shape == slices[m].grid_shape
                and slices[f].source == slices[m].source == "stage",
                ("high" if used[0] == "high" else "low", "high" if used[1] == "high" else "low"),
            )
        )
    return tuple(shifts)


@dataclass(frozen=True)
class CutThickness:
    """How far the block rose between slices.

    ``depth_um`` is each slice's depth below the first one, positive downwards; ``thickness_um`` the distance
    of each pair of consecutive ids (a pair across a missing slice spans several cuts); ``source`` says for
    each pair whether stage z told it or the nominal thickness stands in.
    """

    depth_um: dict[int, float]
    thickness_um: dict[tuple[int, int], float]
    source: dict[tuple[int, int], Literal["stage", "nominal"]]
    direction: int
    """+1 where stage z grows with the slice number, -1 where it falls, 0 where it is not recorded."""


def measure_cut_thickness(slices: Mapping[int, StageSlice], *, nominal_um: float) -> CutThickness:
    """Measure the cut thickness from stage z, falling back to `nominal_um` per missing cut.

    Parameters
    ----------
    slices : mapping of int to StageSlice
        The slices of the run.
    nominal_um : float
        The set thickness of one cut, used where stage z is absent, stands still or runs backwards.
    """
    ids = sorted(slices)
    z = {i: slices[i].depth_mm for i in ids}
    pairs = list(itertools.pairwise(ids))
    steps = np.array([(z[m] - z[f]) * 1000 for f, m in pairs], np.float64)
    moved = np.isfinite(steps) & (np.abs(steps) > 0)
    direction = int(np.sign(np.median(steps[moved]))) if moved.any() else 0
    thickness: dict[tuple[int, int], float] = {}
    source: dict[tuple[int, int], Literal["stage", "nominal"]] = {}
    depth = {ids[0]: 0.0} if ids else {}
    for (f, m), step in zip(pairs, steps, strict=True):
        told = bool(np.isfinite(step) and step * direction > 0)
        thickness[f, m] = float(step * direction) if told else nominal_um * (m - f)
        source[f, m] = "stage" if told else "nominal"
        depth[m] = depth[f] + thickness[f, m]
    return CutThickness(depth, thickness, source, direction)


def detect_calibration_slices(
    depth_um: Mapping[int, float], *, ratio: float = 1.5, at_most: int = 3
) -> tuple[int, ...]:
    """Return the leading slices that are much deeper than the others.

    Parameters
    ----------
    depth_um : mapping of int to float
        Imaged depth of every slice.
    ratio : float
        A slice deeper than `ratio` times the median depth is a calibration slice, if every slice before it
        is one too.
    at_most : int
        How many leading slices are looked at.
    """
    ids = sorted(depth_um)
    if len(ids) < 3:  # the median of two says nothing about which of them is the odd one
        return ()
    limit = ratio * float(np.median([depth_um[i] for i in ids]))
    found = []
    for i in ids[:at_most]:
        if depth_um[i] <= limit:
            break
        found.append(i)
    return tuple(found)
