"""Settings of the flat field against each other, on tiles that did not take part in the fit.

Overlap equations fit the very seams that the result is judged by, so every setting is fitted on one half of the
slices and judged on the other, both ways.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soct.intensity.illumination import (
    FlatFieldMethod,
    Illumination,
    correct_illumination,
    estimate_illumination,
)
from soct.quality.seams import MosaicSeams, measure_seams
from soct.space import Array, FloatArray


@dataclass(frozen=True)
class FlatFieldSetting:
    """One point of the sweep; ``smoothness`` None is automatic."""

    method: FlatFieldMethod
    darkfield: bool
    smoothness: float | None

    def __str__(self) -> str:
        smooth = "auto" if self.smoothness is None else f"{self.smoothness:g}"
        words = [self.method, *(["dark"] if self.darkfield else [])]
        return ", ".join([*words, *([f"smoothness {smooth}"] if self.method == "basic" else [])])


@dataclass(frozen=True)
class SweepRow:
    """What one setting gave.

    Attributes
    ----------
    setting : FlatFieldSetting or None
        None is no correction at all.
    l1, pearson, shading : float
        See `soct.quality.seams.MosaicSeams`.
    pairs : int
        Overlaps behind them.
    flat : float32 ndarray (y, x)
        Fitted on all tiles.
    dark : float
    seconds : float
    """

    setting: FlatFieldSetting | None
    l1: float
    pearson: float
    shading: float
    pairs: int
    flat: FloatArray
    dark: float
    seconds: float


def make_settings(
    methods: Sequence[FlatFieldMethod],
    darkfields: Sequence[bool],
    smoothness: Sequence[float | None],
) -> tuple[FlatFieldSetting, ...]:
    """Every combination that makes a difference: only ``basic`` has a smoothness."""
    found: dict[FlatFieldSetting, None] = {}
    for method, dark, smooth in itertools.product(methods, darkfields, smoothness):
        found[FlatFieldSetting(method, dark, smooth if method == "basic" else None)] = None
    return tuple(found)


def sweep_illumination(
    projections: Array,
    positions_px: NDArray[np.float64],
    groups: NDArray[np.int64],
    settings: Sequence[FlatFieldSetting],
    progress: Callable[[float], None] = lambda fraction: None,
) -> tuple[SweepRow, ...]:
    """Fit and judge every setting.

    Parameters
    ----------
    projections : ndarray (n, y, x)
    positions_px : ndarray (n, 2)
        Rough positions in pixels of the projections.
    groups : int ndarray (n,)
        Slice of each tile. With a single slice fit and judgement share their tiles.
    settings : sequence of FlatFieldSetting
    progress : callable

    Returns
    -------
    tuple of SweepRow
        No correction first, then the settings, best (least `l1`) first.
    """
    folds = _folds(groups)
    nothing = _judge(projections, positions_px, groups)
    ones = np.ones(projections.shape[1:], np.float32)
    rows = []
    for done, setting in enumerate(settings):
        started = time.perf_counter()
        scores = []
        for fit, judge in folds:
            corrected = _correct(
                projections[fit],
                positions_px[fit],
                groups[fit],
                setting,
                projections[judge],
            )
            scores.append(_judge(corrected, positions_px[judge], groups[judge]))
        full = _estimate(projections, positions_px, groups, setting)
        weights = np.array([s.pairs for s in scores], float)
        rows.append(
            SweepRow(
                setting,
                _mean([s.l1 for s in scores], weights),
                _mean([s.pearson for s in scores], weights),
                _mean([s.shading for s in scores], weights),
                int(weights.sum()),
                full.flat,
                float(full.dark.mean()),
                time.perf_counter() - started,
            )
        )
        progress((done + 1) / len(settings))
    rows.sort(key=lambda r: (not np.isfinite(r.l1), r.l1))
    none = SweepRow(
        None,
        nothing.l1,
        nothing.pearson,
        nothing.shading,
        nothing.pairs,
        ones,
        0.0,
        0.0,
    )
    return (none, *rows)


def _judge(tiles: Array, positions: NDArray[np.float64], groups: NDArray[np.int64]) -> MosaicSeams:
    """Compare overlaps, smoothed over speckle, which differs between tiles."""
    return measure_seams(tiles, positions, groups=groups, smoothing_px=2.0)


def _folds(
    groups: NDArray[np.int64],
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """``(tiles to fit, tiles to judge)``: even slices against odd ones, both ways."""
    ids = np.unique(groups)
    everything = np.arange(len(groups))
    if len(ids) < 2:
        return [(everything, everything)]
    even = np.isin(groups, ids[::2])
    a, b = np.flatnonzero(even), np.flatnonzero(~even)
    return [(a, b), (b, a)]


def _estimate(
    tiles: Array,
    positions: NDArray[np.float64],
    groups: NDArray[np.int64],
    setting: FlatFieldSetting,
) -> Illumination:
    return estimate_illumination(
        tiles,
        positions_px=positions,
        groups=groups,
        method=setting.method,
        darkfield=setting.darkfield,
        smoothness=setting.smoothness,
    )


def _correct(
    tiles: Array,
    positions: NDArray[np.float64],
    groups: NDArray[np.int64],
    setting: FlatFieldSetting,
    judged: Array,
) -> FloatArray:
    return correct_illumination(judged, _estimate(tiles, positions, groups, setting))


def _mean(values: Sequence[float], weights: NDArray[np.float64]) -> float:
    array = np.array(values, float)
    good = np.isfinite(array) & (weights > 0)
    return float(np.average(array[good], weights=weights[good])) if good.any() else float("nan")
