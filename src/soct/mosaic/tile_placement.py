"""Tiles in, positions out: match, place, refine, place again.

The driver visits every tile once, in raster order, and keeps only the strips that neighbours share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage as ndi

from soct.mosaic.grid_model import GridModel, nominal_model
from soct.mosaic.links import find_bridges
from soct.mosaic.matching import MatchOptions, PairMatches, match_strips
from soct.mosaic.placement import (
    Offsets,
    Placement,
    PlacementOptions,
    place_offsets,
)
from soct.mosaic.refinement import RefinedOffsets, RefineOptions, refine_offsets
from soct.mosaic.strips import StripStore, collect_strips, find_neighbours, overlap_boxes
from soct.space import FloatArray

_LEAST_TEXTURE = 1e-4

LoadTile = Callable[[int], "FloatArray | None"]


@dataclass(frozen=True)
class TileOptions:
    """How the tiles of a mosaic are matched and placed.

    Attributes
    ----------
    search_px : float or None
        Greatest error of a nominal offset between neighbours, per axis. None: 3.5 % of the tile plus 15 % of the overlap, at
        least 6 pixels.
    min_valid : float
        Least valid part of an overlap.
    min_texture : float
        Overlaps whose log-brightness varies less than this part of the median overlap's and which show no clear
        peak have no tissue.
    match, refine, place
        Options of the three parts; ``refine=None`` leaves the refinement out.
    """

    search_px: float | None = None
    min_valid: float = 0.2
    min_texture: float = 0.5
    match: MatchOptions = field(default_factory=MatchOptions)
    refine: RefineOptions | None = field(default_factory=RefineOptions)
    place: PlacementOptions = field(default_factory=PlacementOptions)


def search_window(
    nominal_px: NDArray[np.float64], pairs: NDArray[np.int64], tile_shape: tuple[int, int]
) -> float:
    """Search window of `TileOptions.search_px` when none is given."""
    if not len(pairs):
        return 6.0
    steps = np.abs(nominal_px[pairs[:, 1]] - nominal_px[pairs[:, 0]])
    sides = np.array(tile_shape, np.float64)
    overlap = float(np.median((sides - steps).min(axis=1)))
    return float(np.ceil(max(6.0, 0.035 * sides.max() + 0.15 * overlap)))


def place_tiles(
    load: LoadTile,
    nominal_px: NDArray[np.float64],
    tile_shape: tuple[int, int],
    options: TileOptions | None = None,
    *,
    pairs: NDArray[np.int64] | None = None,
    model: GridModel | None = None,
    find_blank: Callable[[], NDArray[np.bool_]] | None = None,
    workers: int = 1,
) -> Placement:
    """Measure where tiles are.

    Parameters
    ----------
    load : callable
        ``load(i)`` returns tile i as float32 ``(k, h, w)``: `k` images of the same region with a vote each (depth slabs), or
        ``(h, w)``; NaN is no data; None where there is no tile. Called once per tile, by rows of the mosaic.
    nominal_px : ndarray (n, 2)
        Nominal ``(y, x)`` of each tile's first pixel, from the stage.
    tile_shape : (int, int)
        Height and width.
    options : TileOptions, optional
    pairs : int ndarray (m, 2), optional
        Neighbours; found from the nominal positions where absent.
    model : GridModel, optional
        Stage against camera, fitted elsewhere (for example on the other slices).
    find_blank : callable, optional
        Asked once all tiles have been loaded which of them show only noise, ``(n,)``: their overlaps have no vote,
        since a peak between two fields of noise is chance, however clear it looks.
    workers : int
        FFT threads. The result does not depend on it.

    Returns
    -------
    Placement
    """
    options = options or TileOptions()
    nominal = np.asarray(nominal_px, np.float64).reshape(-1, 2)
    if pairs is None:
        pairs = find_neighbours(nominal, tile_shape)
    search = options.search_px or search_window(nominal, pairs, tile_shape)
    expected = (model or nominal_model()).steps(nominal[pairs[:, 1]] - nominal[pairs[:, 0]])
    boxes = [overlap_boxes(tuple(d), tile_shape, search) for d in expected]
    order = np.lexsort((nominal[:, 1], np.rint(nominal[:, 0] / max(tile_shape[0] / 2, 1))))
    store = collect_strips(load, order.astype(np.int64), pairs, boxes, tile_shape)
    blank = np.zeros(len(nominal), bool) if find_blank is None else find_blank()
    return place_strips(
        store, nominal, expected, search, options, model=model, blank=blank, workers=workers
    )


def place_strips(
    store: StripStore,
    nominal_px: NDArray[np.float64],
    expected_px: NDArray[np.float64],
    search_px: float,
    options: TileOptions | None = None,
    *,
    model: GridModel | None = None,
    blank: NDArray[np.bool_] | None = None,
    workers: int = 1,
) -> Placement:
    """Place tiles whose strips have been collected; see `place_tiles`."""
    options = options or TileOptions()
    match = options.match
    if options.refine is None:
        # Nothing would make good what reduced strips lose.
        match = replace(match, reduce_from_px=max(tuple(store.tile_shape)) + 1)
    matches = match_strips(store, expected_px, search_px, match, workers=workers)
    reasons = name_blank_overlaps(matches, options)
    if blank is not None:
        silent = np.asarray(blank[store.pairs].any(axis=1))
        reasons = tuple(
            r or ("no tissue" if s else "") for r, s in zip(reasons, silent, strict=True)
        )
    offsets = Offsets(
        store.pairs,
        matches.offsets_px,
        matches.scores,
        matches.confidence,
        blank_reason=reasons,
        search_px=search_px,
    )
    placement = place_offsets(nominal_px, offsets, options.place, model=model)
    if options.refine is None or not placement.pair_accepted.any():
        return placement
    return refine_placement(store, nominal_px, offsets, placement, options, model, workers)


def name_blank_overlaps(matches: PairMatches, options: TileOptions) -> tuple[str, ...]:
    """Return ``no data`` or ``no tissue`` for overlaps that must not vote, an empty string for the others."""
    sure = matches.confidence > 0.5
    typical = float(np.median(matches.texture[sure])) if sure.any() else 0.0
    reasons = []
    for valid, texture, confidence in zip(
        matches.valid_fraction, matches.texture, matches.confidence, strict=True
    ):
        if valid < options.min_valid:
            reasons.append("no data")
        elif texture < _LEAST_TEXTURE or (
            texture < options.min_texture * typical and confidence < 0.3
        ):
            reasons.append("no tissue")
        else:
            reasons.append("")
    return tuple(reasons)


def find_blank_tiles(
    profiles: NDArray[np.float64], noise: NDArray[np.float64], share: float = 0.01
) -> NDArray[np.bool_]:
    """Tell tiles that show only noise: nothing at any depth stands out of what the detector gives.

    Parameters
    ----------
    profiles : ndarray (n, nz)
        Mean brightness of every tile over depth; NaN is no data.
    noise : ndarray (n,)
        Standard deviation expected of such a mean.
    share : float
        Range over depth, relative to that of the tiles that show most, below which a tile is blank.

    Returns
    -------
    ndarray (n,) bool
        All False where no tile shows anything: then there is nothing to compare with.
    """
    smooth = ndi.uniform_filter1d(np.nan_to_num(profiles, nan=0.0), 3, axis=1, mode="nearest")
    smooth = np.where(np.isfinite(profiles), smooth, np.nan)
    seen = np.isfinite(smooth).sum(axis=1) > 3
    signal = np.zeros(len(profiles))
    signal[seen] = np.nanmax(smooth[seen], axis=1) - np.nanmin(smooth[seen], axis=1)
    typical = float(np.percentile(signal, 90)) if len(signal) else 0.0
    chance = 6.0 * np.asarray(noise)
    blank = seen & (signal < np.maximum(share * typical, chance))
    if not (signal > chance).any() or typical <= 0 or blank.all():
        return np.zeros(len(profiles), bool)
    return np.asarray(blank)


def _ask_again(
    store: StripStore,
    placement: Placement,
    start: NDArray[np.float64],
    expected: NDArray[np.float64],
    sure: NDArray[np.bool_],
    refined: RefinedOffsets,
    options: TileOptions,
    workers: int,
) -> RefinedOffsets:
    """Refine pairs that nothing checks from where the model expects them as well, and keep the clearer peak.

    Where an edge runs through a narrow overlap, a wrong peak of the first correlation can stand as clear of its noise
    as a right one; with the weights of the refinement, and the very region that is shared, the right one is far clearer.
    """
    assert options.refine is not None
    bridge = find_bridges(len(placement.positions_px), placement.pairs, placement.pair_accepted)
    far = bridge & (np.abs(start - expected).max(axis=1) > options.refine.search_px)
    if not far.any():
        return refined
    # The others go along for the coherence that is pooled over all.
    other = refine_offsets(
        store,
        np.where(far[:, None], expected, start),
        sure & ~far,
        options.refine,
        workers=workers,
    )
    better = far & (other.confidence > refined.confidence)
    return replace(
        refined,
        offsets_px=np.where(better[:, None], other.offsets_px, refined.offsets_px),
        covariance_px2=np.where(
            better[:, None, None], other.covariance_px2, refined.covariance_px2
        ),
        confidence=np.where(better, other.confidence, refined.confidence),
    )


def refine_placement(
    store: StripStore,
    nominal: NDArray[np.float64],
    offsets: Offsets,
    placement: Placement,
    options: TileOptions,
    model: GridModel | None,
    workers: int,
) -> Placement:
    """Cut the overlaps where the placement puts them, refine, and place once more."""
    i, j = placement.pairs[:, 0], placement.pairs[:, 1]
    predicted = placement.positions_px[j] - placement.positions_px[i]
    group = placement.group
    joined = np.asarray((group[i] == group[j]) & (group[i] >= 0))
    start = np.where(placement.pair_accepted[:, None], placement.pair_offset_px, predicted)
    start[~(placement.pair_accepted | joined)] = np.nan
    sure = np.asarray(placement.pair_accepted & (placement.pair_confidence > 0.5))
    refined = refine_offsets(store, start, sure, options.refine, workers=workers)
    expected = placement.model.steps(nominal[j] - nominal[i])
    refined = _ask_again(store, placement, start, expected, sure, refined, options, workers)
    done = np.asarray(np.isfinite(refined.offsets_px).all(axis=1))
    confidence = np.where(done, refined.confidence, 0.0)
    candidates = np.where(done[:, None], refined.offsets_px, np.nan)[:, None, :]
    second = Offsets(
        offsets.pairs,
        candidates,
        np.where(done, offsets.scores[:, 0], 0.0)[:, None],
        confidence,
        refined.covariance_px2,
        offsets.blank_reason,
    )
    final = place_offsets(nominal, second, options.place, model=model)
    reasons = tuple(
        before if after == "no data" and before else after
        for before, after in zip(placement.pair_reason, final.pair_reason, strict=True)
    )
    return replace(final, pair_reason=reasons)
