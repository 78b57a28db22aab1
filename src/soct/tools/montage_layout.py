"""Where the images of a montage are expected: by a grid, by a positions file, or found among all pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, UsageError
from soct.mosaic.any_neighbours import CommonSpectra, all_pairs, common_spectra, correlate_pairs
from soct.mosaic.loose_layout import lay_out, needed_lead
from soct.mosaic.overlap import measure_overlap
from soct.mosaic.placement import Offsets, PlacementOptions, place_offsets
from soct.mosaic.strips import find_neighbours
from soct.space import FloatArray
from soct.tools.montage_images import ImageSet, read_positions

Order = Literal["rows", "snake-rows", "columns", "snake-columns"]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
ORDERS: tuple[Order, ...] = get_args(Order)
CORNERS: tuple[Corner, ...] = get_args(Corner)
_FEW_SIDE = 256
_OVERLAP_SIDE = 512
_SAMPLED = 8
_CLEAR = 1.5
_LEAST_SHARED = 0.02
_STRAY = 0.12
_LEAD_SCALE = 1.5
"""Lead at which a match of reduced images is as good as not."""


@dataclass(frozen=True)
class Layout:
    """Where images are expected.

    Attributes
    ----------
    kind : {"grid", "positions", "images"}
    nominal_px : float64 ndarray (n, 2)
        ``(y, x)`` of each image's top-left corner.
    pairs : int64 ndarray (m, 2)
        Neighbours.
    search_px : float or None
        Greatest error of an expected offset, where reduced images were matched.
    group : int64 ndarray (n,)
        Images whose places relative to each other are known; one group unless the layout came from the images.
    notes : tuple of str
        What was decided, in sentences.
    is_told : bool
        Whether reduced images confirmed it.
    """

    kind: Literal["grid", "positions", "images"]
    nominal_px: NDArray[np.float64]
    pairs: NDArray[np.int64]
    search_px: float | None
    group: NDArray[np.int64]
    notes: tuple[str, ...]
    is_told: bool = False


def grid_index(rows: int, columns: int, order: Order, corner: Corner) -> NDArray[np.int64]:
    """Row and column of every image of a grid, in the order of their names, ``(rows * columns, 2)``."""
    number = np.arange(rows * columns)
    by_rows = order in ("rows", "snake-rows")
    length = columns if by_rows else rows
    major, minor = number // length, number % length
    if order.startswith("snake"):
        minor = np.where(major % 2 == 1, length - 1 - minor, minor)
    row, column = (major, minor) if by_rows else (minor, major)
    if corner.startswith("bottom"):
        row = rows - 1 - row
    if corner.endswith("right"):
        column = columns - 1 - column
    return np.stack([row, column], axis=1).astype(np.int64)


def layout_from_positions(images: ImageSet, path: Path) -> Layout:
    """Take the expected positions from a file."""
    nominal = read_positions(path, images)
    pairs = overlapping_pairs(nominal, images.shape)
    note = f"positions from {path.name}: {len(pairs)} overlaps"
    return Layout("positions", nominal, pairs, None, np.zeros(len(images), np.int64), (note,))


def layout_from_grid(
    images: ImageSet,
    grid: tuple[int, int],
    order: Order | None = None,
    corner: Corner | None = None,
    overlap: float | None = None,
    *,
    workers: int = 1,
) -> Layout:
    """Lay images out on a grid; what is not given is measured from the images.

    Raises
    ------
    UsageError
        The grid has another number of places than there are images.
    InputError
        The images do not tell the order or the overlap.
    """
    rows, columns = grid
    if rows * columns != len(images):
        raise UsageError(
            "The grid does not fit the number of images",
            expected=f"{rows * columns} images for --grid {rows}x{columns} (rows x columns)",
            found=f"{len(images)} images",
            hint="Give the grid that was taken, name all of its images, or leave --grid out.",
        )
    small = np.stack([images.read_reduced(i, _OVERLAP_SIDE) for i in range(len(images))])
    notes = []
    common = None
    if order is None or corner is None:
        common = common_spectra(_reduce_all(small, _FEW_SIDE), workers=workers)
        order, corner, told = choose_order(common, grid, order, corner, workers=workers)
        notes.append(told)
    index = grid_index(rows, columns, order, corner)
    fraction, told = _overlap(small, index, overlap, workers)
    notes.append(told)
    pitch = np.array(images.shape) * (1.0 - np.array(fraction))
    nominal = index * pitch
    pairs = find_neighbours(nominal, images.shape)
    if common is None:
        common = common_spectra(_reduce_all(small, _FEW_SIDE), workers=workers)
    nominal, is_told = _straighten(common, nominal, pairs, images.shape, workers)
    search = _search_after(np.array(images.shape) / common.shape)
    group = np.zeros(len(images), np.int64)
    return Layout("grid", nominal, pairs, search, group, tuple(notes), is_told)


def _reduce_all(small: FloatArray, longest: int) -> FloatArray:
    from soct.geometry.resampling import average_boxes

    factor = max(small.shape[1:]) / longest
    if factor <= 1.0:
        return small
    h, w = (max(1, int(n / factor)) for n in small.shape[1:])
    return np.stack([average_boxes(image, (h, w)) for image in small])


def _overlap(
    small: FloatArray, index: NDArray[np.int64], given: float | None, workers: int
) -> tuple[tuple[float, float], str]:
    if given is not None:
        return (given, given), f"overlap {given:g} as given"
    places = np.column_stack([np.zeros(len(index), np.int64), index])
    shape = (small.shape[1], small.shape[2])
    found = measure_overlap(lambda i: small[i], places, shape, workers=workers)
    known = [axis.fraction for axis in found if axis.fraction is not None]
    if not known:
        raise _unmatched(
            len(small), "Set the overlap with --overlap, and look at --grid and --order."
        )
    y, x = (known[0] if axis.fraction is None else axis.fraction for axis in found)
    assumed = [
        name
        for name, axis in zip(("between rows", "between columns"), found, strict=True)
        if axis.fraction is None and axis.pairs
    ]
    told = f"overlap {100 * y:.1f} % between rows, {100 * x:.1f} % between columns, measured"
    return (y, x), told + (
        f" ({assumed[0]} assumed alike: the images do not tell)" if assumed else ""
    )


def _straighten(
    common: CommonSpectra,
    nominal: NDArray[np.float64],
    pairs: NDArray[np.int64],
    shape: tuple[int, int],
    workers: int,
) -> tuple[NDArray[np.float64], bool]:
    """Place the grid by its neighbours on reduced images, so that a stage which strays far is followed.

    No image is expected farther than a part of its size from the regular grid. Also returned: whether any match stands out.
    """
    factor = np.array(shape) / common.shape
    found = correlate_pairs(common, pairs, workers=workers)
    expected = nominal[pairs[:, 1]] - nominal[pairs[:, 0]]
    offsets = found.offsets_px * factor
    far = np.abs(offsets - expected[:, None]).max(axis=2) > _STRAY * max(shape)
    lead = np.where(far[:, 0], 0.0, np.maximum(found.lead, 0.0))
    order = np.argsort(far | ~np.isfinite(offsets[..., 0]), axis=1, kind="stable")
    offsets = np.take_along_axis(np.where(far[..., None], np.nan, offsets), order[..., None], 1)
    scores = np.take_along_axis(np.where(far, 0.0, found.scores), order, 1)
    coarse = Offsets(pairs, offsets, scores, lead**2 / (lead**2 + _LEAD_SCALE**2))
    options = PlacementOptions(
        coarse_sigma_px=float(0.3 * factor.max()), outlier_px=float(2.0 * factor.max())
    )
    told = bool(lead.max(initial=0.0) >= needed_lead(len(pairs)))
    return place_offsets(nominal, coarse, options).positions_px, told


def _search_after(factor: NDArray[np.float64]) -> float:
    """Greatest error of an offset that reduced images gave."""
    return float(np.ceil(3.0 * factor.max() + 4.0))


def _unmatched(n: int, hint: str) -> InputError:
    return InputError(
        "Nothing in these images could be matched",
        expected="neighbours that share a part of what they show (5 % or more)",
        found=f"{n} images, no two of which share anything that can be told from chance",
        hint=hint,
    )


def choose_order(
    common: CommonSpectra,
    grid: tuple[int, int],
    order: Order | None = None,
    corner: Corner | None = None,
    *,
    workers: int = 1,
) -> tuple[Order, Corner, str]:
    """Find in which order the images of a grid were taken: the one whose neighbours match where they should.

    Parameters
    ----------
    common : CommonSpectra
        Of the images, in the order of their names.
    grid : (int, int)
        Rows and columns.
    order, corner : optional
        What is known already.

    Returns
    -------
    (str, str, str)
        Order, corner of the first image, and a sentence for people.
    """
    orders = ORDERS if order is None else (order,)
    corners = CORNERS if corner is None else (corner,)
    asked: dict[tuple[int, int], int] = {}
    sampled = {}
    for name in orders:
        index = grid_index(*grid, name, "top-left")
        sampled[name] = [_sample(common, index, axis) for axis in (0, 1)]
        for pair in (p for axis in sampled[name] for p in axis):
            asked.setdefault((min(pair), max(pair)), len(asked))
    pairs = np.array(list(asked), np.int64).reshape(-1, 2)
    found = correlate_pairs(common, pairs, workers=workers)
    shape = np.array(common.shape, np.float64)
    scores: dict[tuple[Order, Corner], float] = {}
    for name, start in product(orders, corners):
        signs = (-1 if start.startswith("bottom") else 1, -1 if start.endswith("right") else 1)
        scores[name, start] = sum(
            _fits(found.offsets_px[asked[min(p), max(p)], 0], found.lead[asked[min(p), max(p)]], p, axis, signs[axis], shape)
            for axis in (0, 1)
            for p in sampled[name][axis]
        )  # fmt: skip
    ranked = sorted(scores, key=lambda key: -scores[key])
    best = ranked[0]
    tried = sum(len(axis) for axis in sampled[best[0]])
    if scores[best] < _CLEAR:
        raise _unmatched(
            len(common.spectra), "Look at --grid; name the order with --order and --start."
        )
    told = f"order {best[0]} from the {best[1]}: {scores[best]:.0f} of {tried} neighbours looked at fit"
    if scores[best] < tried / 2:
        told += f" (few: is a grid of {grid[0]}x{grid[1]} right?)"
    second = next((k for k in ranked[1:] if scores[k] < scores[best] or k[0] != best[0]), None)
    if second is not None:
        told += f", {scores[second]:.0f} for {second[0]} from the {second[1]}"
        if scores[second] > 0.8 * scores[best] and min(grid) > 1:
            told += " (not clear: look at the mosaic, or name it with --order and --start)"
    return best[0], best[1], told


def _sample(common: CommonSpectra, index: NDArray[np.int64], axis: int) -> list[tuple[int, int]]:
    """Return the neighbours along an axis that show most."""
    place = {(int(r), int(c)): i for i, (r, c) in enumerate(index)}
    step = (1, 0) if axis == 0 else (0, 1)
    pairs = [
        (i, place[r + step[0], c + step[1]])
        for (r, c), i in place.items()
        if (r + step[0], c + step[1]) in place
    ]
    shows = common.texture
    return sorted(pairs, key=lambda p: (-min(shows[p[0]], shows[p[1]]), p))[:_SAMPLED]


def _fits(
    offset: NDArray[np.float64],
    lead: float,
    pair: tuple[int, int],
    axis: int,
    sign: int,
    shape: NDArray[np.float64],
) -> float:
    """1 for a clear match that lies where the grid has it, less for a doubtful one."""
    step = (offset if pair[0] < pair[1] else -offset) * sign / shape
    if not (0.4 <= step[axis] <= 0.99 and abs(step[1 - axis]) <= 0.2):
        return 0.0
    return float(min(1.0, max(lead, 0.0) / 2.0))


def reduced_side(n: int) -> int:
    """Return the longest side of the copies among which neighbours of `n` images are looked for: time grows with the pairs."""
    return _FEW_SIDE if n <= 60 else 170 if n <= 150 else 128


def layout_from_images(
    images: ImageSet,
    *,
    progress: Callable[[float], None] | None = None,
    workers: int = 1,
) -> Layout:
    """Find neighbours among all pairs of images.

    Raises
    ------
    InputError
        No two images match.
    """
    n = len(images)
    small = np.stack([images.read_reduced(i, reduced_side(n)) for i in range(n)])
    factor = np.array(images.shape) / small.shape[1:]
    common = common_spectra(small, workers=workers)
    found = correlate_pairs(common, all_pairs(n), progress=progress, workers=workers)
    loose = lay_out(found, n, (small.shape[1], small.shape[2]))
    if loose.sizes[0] < 2:
        raise _unmatched(
            n, "Say how they lie with --grid or --positions, or look whether they overlap."
        )
    nominal = loose.positions_px * factor
    pairs = overlapping_pairs(nominal, images.shape)
    joined = int((loose.sizes > 1).sum())
    alone = int((loose.sizes == 1).sum())
    note = (
        f"layout found among all {len(found.pairs)} pairs: {n - alone} images in "
        f"{joined} group{'s' if joined > 1 else ''}" + (f", {alone} alone" if alone else "")
    )
    return Layout("images", nominal, pairs, _search_after(factor), loose.group, (note,), True)


def overlapping_pairs(
    positions_px: NDArray[np.float64], shape: tuple[int, int]
) -> NDArray[np.int64]:
    """Pairs of images that share enough to be matched, whatever their layout, sorted."""
    n = len(positions_px)
    pairs = []
    size = np.array(shape, np.float64)
    for i in range(n - 1):
        sides = np.maximum(size - np.abs(positions_px[i + 1 :] - positions_px[i]), 0.0)
        parts = sides / size
        enough = (parts.prod(axis=1) >= _LEAST_SHARED) | (parts.max(axis=1) >= 0.5)
        pairs += [(i, int(j) + i + 1) for j in np.flatnonzero(enough & (sides.min(axis=1) >= 2))]
    return np.array(pairs, np.int64).reshape(-1, 2)
