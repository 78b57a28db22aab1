"""Offsets of the slices in a common canvas, from the stage: the one place where shifts become offsets.

A shift is ``boundary(fixed) - boundary(moving)``: where index grows with stage, the moving slice lies at
*minus* the shift from the fixed one. (Adding the shift instead puts every slice on the wrong side.)
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import ConfigurationError, InputError
from soct.registration.stage import StageAxes, StageSlice, find_edges
from soct.registration.stage_rehoming import CleanShift

Floats = NDArray[np.float64]
ExcludedMode = Literal["keep", "local_median", "median", "zero"]


@dataclass(frozen=True)
class CommonSpace:
    """Where the first pixel of every used slice lies, relative to the middle used slice.

    ``offset_um`` is (y, x) in canvas direction; ``reliable`` is False where a step between the slice and the
    used slice before it is not.
    """

    offset_um: dict[int, tuple[float, float]]
    reliable: dict[int, bool]
    centre_id: int


def measure_origins(slices: Mapping[int, StageSlice]) -> dict[int, tuple[float, float]]:
    """Return the stage position (y, x, in mm) of each mosaic's first row and column, where it was recorded.

    With it, a mosaic that grew on its low side is placed by where its first pixel is, not by the edge that
    stayed.
    """
    return {i: find_edges(s)["low"] for i, s in slices.items() if s.source == "stage"}


def common_space_offsets(
    shifts: Sequence[CleanShift],
    used_ids: Collection[int],
    *,
    axes: StageAxes | None = None,
    origins_mm: Mapping[int, tuple[float, float]] | None = None,
    excluded_slice_mode: ExcludedMode = "keep",
    window: int = 2,
) -> CommonSpace:
    """Add up the shifts of all slices, then pick the used ones and centre on the middle one.

    Parameters
    ----------
    shifts : sequence of CleanShift
        Consecutive pairs over all ids, also the excluded ones.
    used_ids : collection of int
        The slices that are stacked; every one must occur in `shifts` (unless it is the only slice).
    axes : StageAxes, optional
        Directions in which index and stage grow; +1 where omitted.
    origins_mm : mapping of int to (float, float), optional
        Stage position of each mosaic's first row and column (`measure_origins`). Corrections of glitches are
        applied on top. Where one of two slices has none, their first pixels are taken to lie on the tracked edge.
    excluded_slice_mode : {"keep", "local_median", "median", "zero"}
        What stands in for a step from or to an excluded slice: itself, the median of the steps between used
        slices within `window` steps of it, the median of all those, or no motion.
    window : int
        Steps to either side for ``local_median``.

    Raises
    ------
    ConfigurationError
        Unknown mode, or a window below 1.
    InputError
        No used slice, a used slice without a shift, or rows that are not a chain.
    """
    if excluded_slice_mode not in ("keep", "local_median", "median", "zero") or window < 1:
        raise ConfigurationError(
            "excluded slices cannot be treated this way",
            expected="keep, local_median, median or zero, with a window of at least 1",
            found=f"{excluded_slice_mode}, window {window}",
        )
    used = sorted(used_ids)
    if not used:
        raise InputError("no slice is used: nothing to bring to a common space")
    ids = _chain(shifts) or used[:1]
    if missing := [i for i in used if i not in set(ids)]:
        raise InputError(
            "a used slice has no row in the table of shifts",
            expected=f"a chain over {used}",
            found=f"no row for slice {missing[0]}",
            hint="make the table again from all slices (estimate_xy_shifts)",
        )
    steps = _canvas_steps(shifts, axes or StageAxes(), origins_mm)
    steps = _replace_excluded(steps, ids, set(used), excluded_slice_mode, window)
    position = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]) * 1000
    centre = used[len(used) // 2]
    at = {i: position[k] - position[ids.index(centre)] for k, i in enumerate(ids)}
    return CommonSpace(
        {i: (float(at[i][0]), float(at[i][1])) for i in used}, _reliability(shifts, used), centre
    )


def _chain(shifts: Sequence[CleanShift]) -> list[int]:
    if not shifts:
        return []
    for a, b in itertools.pairwise(shifts):
        if a.moving_id != b.fixed_id:
            raise InputError(
                "the table of shifts is not a chain",
                expected=f"a row from slice {a.moving_id}",
                found=f"a row from slice {b.fixed_id}",
            )
    return [shifts[0].fixed_id, *(s.moving_id for s in shifts)]


def _canvas_steps(
    shifts: Sequence[CleanShift],
    axes: StageAxes,
    origins_mm: Mapping[int, tuple[float, float]] | None,
) -> Floats:
    """Canvas displacement (n, 2) in mm from each fixed slice's first pixel to the moving one's."""
    direction = np.asarray(axes.direction, np.float64)
    steps = np.zeros((len(shifts), 2))
    for k, s in enumerate(shifts):
        step = -np.asarray(s.shift_mm)
        if origins_mm is not None and s.fixed_id in origins_mm and s.moving_id in origins_mm:
            correction = np.asarray(s.raw_mm) - np.asarray(s.shift_mm)
            # A mosaic whose shape changed really begins elsewhere: growth is then no error of the stage.
            grown = s.corrected == "growth" and not s.reliable_in
            step = np.subtract(origins_mm[s.moving_id], origins_mm[s.fixed_id])
            step = step if grown else step + correction
        steps[k] = step * direction
    return steps


def _replace_excluded(
    steps: Floats, ids: list[int], used: set[int], mode: ExcludedMode, window: int
) -> Floats:
    sound = np.array([a in used and b in used for a, b in itertools.pairwise(ids)], bool)
    if mode == "keep" or sound.all():
        return steps
    result = steps.copy()
    for k in np.flatnonzero(~sound):
        near = sound.copy()
        if mode == "local_median":
            near[: max(k - window, 0)] = False
            near[k + window + 1 :] = False
        chosen = steps[near]
        result[k] = 0.0 if mode == "zero" or len(chosen) == 0 else np.median(chosen, axis=0)
    return result


def _reliability(shifts: Sequence[CleanShift], used: list[int]) -> dict[int, bool]:
    """Whether every step since the used slice before is reliable; the first slice is."""
    reliable, sound = {}, True
    wanted = set(used)
    for i in [shifts[0].fixed_id] if shifts else used:
        if i in wanted:
            reliable[i] = True
    for s in shifts:
        sound = sound and s.reliable
        if s.moving_id in wanted:
            reliable[s.moving_id] = sound
            sound = True
    return {i: reliable[i] for i in used}
