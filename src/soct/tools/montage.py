"""Plain images to one mosaic: match, place, refine, by the core that stitches slices; then similarity or affine.

The layout comes from a grid, a positions file, or the images themselves (`soct.tools.montage_layout`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.mosaic.grid_model import GridModel, nominal_model
from soct.mosaic.loose_layout import arrange_groups
from soct.mosaic.placement import Placement
from soct.mosaic.tile_placement import TileOptions, place_tiles
from soct.space import FloatArray
from soct.tools.montage_images import ImageSet
from soct.tools.montage_layout import (
    Corner,
    Layout,
    Order,
    layout_from_grid,
    layout_from_images,
    layout_from_positions,
)
from soct.tools.montage_output import Matrices, mosaic_frame

if TYPE_CHECKING:
    from soct.tools.montage_models import FittedMaps

Model = Literal["rigid", "similarity", "affine"]
_LOOSE_SCATTER_PX = 30.0
_NEAR_SCATTER_PX = 3.0
_FEW_MEASURED = 0.5
_LEAST_ACCEPTED = 1 / 3
_CLEAR_SNR = 8.0
"""Peaks of chance hardly reach it."""
_LISTED = 6


@dataclass(frozen=True)
class MontageOptions:
    """How images become a mosaic.

    Attributes
    ----------
    grid : (int, int) or None
        Rows and columns.
    order, corner : str or None
        In which order a grid was taken, and where it began; None: told by the images.
    overlap : float or None
        Overlap of neighbours in a grid; None: measured.
    positions : Path or None
        Table of expected positions.
    search_px : float or None
        Greatest error of an expected offset.
    match : bool
        False: take the positions of the table as they are.
    whole_pixels : bool
        Round positions, so that no pixel is interpolated.
    model : {"rigid", "similarity", "affine"}
    threads : int
    """

    grid: tuple[int, int] | None = None
    order: Order | None = None
    corner: Corner | None = None
    overlap: float | None = None
    positions: Path | None = None
    search_px: float | None = None
    match: bool = True
    whole_pixels: bool = False
    model: Model = "rigid"
    threads: int = 1


@dataclass(frozen=True)
class Montage:
    """Where the images of a mosaic lie, and how far to trust it.

    Attributes
    ----------
    images : ImageSet
    options : MontageOptions
    layout : Layout
    placement : Placement
        Of the rigid match; positions are those of the mosaic.
    positions_px : float64 ndarray (n, 2)
        ``(y, x)`` of each image's top-left corner in the mosaic.
    matrices : mapping from int to ndarray (2, 3)
        What maps points ``(x, y)`` of each image to the mosaic.
    group : int64 ndarray (n,)
        Images that matches join; 0 is the largest group, -1: not measured, where the layout has it.
    notes : tuple of str
        What was decided.
    warnings : tuple of str
        What to look at.
    seconds : dict
        By stage.
    """

    images: ImageSet
    options: MontageOptions
    layout: Layout
    placement: Placement
    positions_px: NDArray[np.float64]
    matrices: Matrices
    group: NDArray[np.int64]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: dict[str, float]
    maps: FittedMaps | None = None
    """How the images were turned, scaled or sheared; None for shifts."""

    @property
    def is_measured(self) -> bool:
        """Whether images were matched at all."""
        return self.options.match


Tell = Callable[[str], None]
Progress = Callable[[str], Callable[[float], None]]


def make_montage(
    images: ImageSet,
    options: MontageOptions,
    *,
    tell: Tell = lambda _: None,
    progress: Progress = lambda _: lambda _: None,
) -> Montage:
    """Find where images lie.

    Parameters
    ----------
    images : ImageSet
    options : MontageOptions
    tell : callable
        Takes a sentence for people, when something is known.
    progress : callable
        Takes the name of a stage, and returns what takes its fraction done.

    Raises
    ------
    InputError
        Nothing could be matched, or an image cannot be read.
    UsageError
        The grid or the positions do not fit the images.
    """
    began = time.monotonic()
    layout = _layout(images, options, progress)
    for note in layout.notes:
        tell(note)
    known = time.monotonic()
    if not options.match:
        placement = _as_given(layout)
        return _finish(images, options, layout, placement, {"layout": known - began})
    placement = _place(images, layout, options, progress("matching"))
    _check_measured(images, layout, placement)
    matched = time.monotonic()
    seconds = {"layout": known - began, "match and place": matched - known}
    made = _finish(images, options, layout, placement, seconds)
    if options.model == "rigid":
        return made
    return _fit(made, options.model, progress(f"fitting each image ({options.model})"))


def _fit(
    made: Montage, model: Literal["similarity", "affine"], progress: Callable[[float], None]
) -> Montage:
    """Let every image turn, scale or shear."""
    from soct.tools.montage_models import fit_maps

    found = fit_maps(made.images, made.placement, made.positions_px, model, progress)
    (x0, y0), _ = mosaic_frame(made.images.shape, found.matrices)
    back = np.array([[0.0, 0.0, x0], [0.0, 0.0, y0]])
    matrices = {i: m - back for i, m in found.matrices.items()}
    corners = np.array([(matrices[i][1, 2], matrices[i][0, 2]) for i in range(len(made.images))])
    fitted = replace(made, positions_px=corners, matrices=matrices, maps=found)
    return replace(fitted, warnings=(*made.warnings, *_warnings_of_maps(fitted)))


def _warnings_of_maps(made: Montage) -> list[str]:
    names, maps = made.images.names, made.maps
    assert maps is not None
    found = []
    lost = [names[i] for i in maps.unfitted if made.placement.measured[i]]
    if lost:
        found.append(f"no place in them could be matched, only moved: {listed(lost)}")
    weak = [names[i] for i, _ in maps.weak]
    if weak:
        found.append(f"turned or scaled by weak links: {listed(weak)}")
    return found


def _layout(images: ImageSet, options: MontageOptions, progress: Progress) -> Layout:
    if options.positions is not None:
        return layout_from_positions(images, options.positions)
    if options.grid is not None:
        return layout_from_grid(
            images, options.grid, options.order, options.corner, options.overlap, workers=options.threads
        )  # fmt: skip
    return layout_from_images(
        images, progress=progress("looking for neighbours"), workers=options.threads
    )


def _as_given(layout: Layout) -> Placement:
    from soct.mosaic.placement import Offsets, place_offsets

    none = np.zeros((0, 2), np.int64)
    empty = Offsets(none, np.zeros((0, 1, 2)), np.zeros((0, 1)), np.zeros(0))
    return place_offsets(layout.nominal_px, empty)


def _place(
    images: ImageSet, layout: Layout, options: MontageOptions, progress: Callable[[float], None]
) -> Placement:
    floor = 0.0
    done = 0

    def load(i: int) -> FloatArray:
        nonlocal done
        image = images.read(i)
        done += 1
        progress(0.8 * min(1.0, done / len(images)))
        return image - np.float32(floor) if floor else image

    if images.dtype.kind == "f":
        # Brightness is compared by its logarithm.
        floor = min(float(np.nanmin(images.read(i))) for i in range(len(images)))
        floor = min(floor, 0.0)
    # Positions found among all pairs are right but for rounding: the stage's model has nothing to add.
    model = nominal_model(_LOOSE_SCATTER_PX) if layout.kind == "images" else None

    def place(
        nominal: NDArray[np.float64], search_px: float | None, model: GridModel | None
    ) -> Placement:
        nonlocal done
        done = 0
        chosen = TileOptions(search_px=search_px)
        return place_tiles(
            load, nominal, images.shape, chosen, pairs=layout.pairs, model=model, workers=options.threads
        )  # fmt: skip

    nominal = layout.nominal_px
    if options.search_px is not None or layout.search_px is None or layout.kind == "images":
        return place(nominal, options.search_px or layout.search_px, model)
    # Reduced images followed the grid, so that the full ones need not look far; what they did not tell may be
    # farther off, or be found from where its neighbours turned out to be.
    found = place(nominal, layout.search_px, None)
    if found.measured.all():
        return found
    if found.measured.mean() < _FEW_MEASURED:
        wider = place(nominal, None, None)
        return wider if wider.measured.sum() > found.measured.sum() else found
    again = place(
        _beside_measured(layout, found), layout.search_px, nominal_model(_NEAR_SCATTER_PX)
    )
    # Where some images show nothing, a second search would take chance for a match.
    return again if again.measured.all() else found


def _beside_measured(layout: Layout, found: Placement) -> NDArray[np.float64]:
    """Where images that were not measured are expected, by the measured ones beside them."""
    out = found.positions_px.copy()
    total, count = np.zeros_like(out), np.zeros(len(out))
    for first, second in ((0, 1), (1, 0)):
        a, b = layout.pairs[:, first], layout.pairs[:, second]
        known = found.measured[a] & ~found.measured[b]
        a, b = a[known], b[known]
        np.add.at(total, b, found.positions_px[a] + layout.nominal_px[b] - layout.nominal_px[a])
        np.add.at(count, b, 1.0)
    beside = count > 0
    out[beside] = total[beside] / count[beside, None]
    return out


def _check_measured(images: ImageSet, layout: Layout, placement: Placement) -> None:
    asked = sum(reason not in ("no data", "no tissue") for reason in placement.pair_reason)
    accepted = int(placement.pair_accepted.sum())
    # Where many pairs are asked, one or two agree with anything.
    if accepted and (layout.is_told or accepted >= _LEAST_ACCEPTED * asked):
        return
    where = {
        "grid": "Look at --grid, --order and --overlap.",
        "positions": "Look at the positions file (x_px and y_px in pixels, top-left corners), or raise --search-px.",
        "images": "Say how they lie with --grid or --positions.",
    }[layout.kind]
    raise InputError(
        "Nothing in these images could be matched",
        expected="neighbours that show the same things where they overlap",
        found=f"{accepted} of {len(placement.pairs)} overlaps of {len(images)} images match, no more than by chance",
        hint=where,
    )


def _finish(
    images: ImageSet,
    options: MontageOptions,
    layout: Layout,
    placement: Placement,
    seconds: dict[str, float],
) -> Montage:
    positions, group = placement.positions_px, placement.group
    if layout.kind == "images":
        # Where the full images do not tell, the reduced ones did.
        group = layout.group
        positions = arrange_groups(positions, group, images.shape)
    positions = _on_whole_pixels(positions)
    if options.whole_pixels:
        positions = np.rint(positions)
    # From the corner of the first pixel of the mosaic on.
    (x0, y0), _ = mosaic_frame(images.shape, _moves(positions))
    positions = positions - np.array([y0, x0])
    matrices = _moves(positions)
    made = Montage(
        images, options, layout, placement, positions, matrices, group, layout.notes, (), seconds
    )
    return replace(made, warnings=tuple(_warnings(made)))


def _moves(positions: NDArray[np.float64]) -> dict[int, NDArray[np.float64]]:
    """Return what moves points ``(x, y)`` of every image to its place."""
    return {
        i: np.array([[1.0, 0.0, x], [0.0, 1.0, y]]) for i, (y, x) in enumerate(positions.tolist())
    }


def _on_whole_pixels(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move all such that most images lie near whole pixels: the less they are interpolated, the sharper they stay."""
    turns = np.exp(2j * np.pi * positions).mean(axis=0)
    fraction = np.where(np.abs(turns) > 0.2, np.angle(turns) / (2 * np.pi), 0.0)
    moved = positions - fraction
    return np.asarray(moved - np.floor(moved.min(axis=0)))


def _warnings(made: Montage) -> list[str]:
    placement, names = made.placement, made.images.names
    found: list[str] = []
    if not made.is_measured:
        return found
    if made.layout.kind == "images":
        found += _groups_apart(made)
    else:
        lost = np.flatnonzero(~placement.measured)
        if lost.size:
            place = "the grid" if made.layout.kind == "grid" else "the positions file"
            found.append(
                f"not measured, placed where {place} has them: {listed([names[i] for i in lost])}"
            )
        for group in placement.disconnected:
            found.append(
                "joined to each other and by nothing to the rest, placed where the layout has them: "
                f"{listed([names[i] for i in group])}"
            )
    weak = [i for i in placement.weak if placement.measured[i]]
    if weak:
        shown = [f"{names[i]} ({placement.confidence[i]:.2f})" for i in weak]
        found.append(f"hang on weak links (confidence below 0.5): {listed(shown)}")
    turned = _contested(placement)
    if turned and made.options.model == "rigid":
        shown = [f"{names[i]} ({lost} of {total})" for i, lost, total in turned]
        found.append(
            "half or more of their clear matches disagree with where they lie, as of images that are turned, scaled or "
            f"distorted (try --model similarity): {listed(shown)}"
        )
    return found


def _contested(placement: Placement) -> list[tuple[int, int, int]]:
    """Return ``(image, clear matches set aside, all its clear matches)`` where half or more were set aside."""
    clear = placement.pair_snr >= _CLEAR_SNR
    aside = clear & np.array([reason == "disagrees" for reason in placement.pair_reason], bool)
    kept = clear & placement.pair_accepted
    n = len(placement.positions_px)
    lost, used = (
        np.bincount(placement.pairs[which].ravel(), minlength=n) for which in (aside, kept)
    )
    return [
        (int(i), int(lost[i]), int(lost[i] + used[i]))
        for i in np.flatnonzero(placement.measured & (lost >= 2) & (lost >= used))
    ]


def _groups_apart(made: Montage) -> list[str]:
    names = made.images.names
    groups = [np.flatnonzero(made.group == g) for g in range(int(made.group.max()) + 1)]
    rest = [g for g in groups[1:] if len(g) > 1]
    alone = [int(g[0]) for g in groups[1:] if len(g) == 1]
    found = [
        f"a group of {len(g)} that nothing joins to the rest, laid out beside it: "
        f"{listed([names[i] for i in g])}"
        for g in rest
    ]
    loose = [int(i) for g in groups if len(g) > 1 for i in g if not made.placement.measured[i]]
    if loose:
        found.append(
            f"matched on reduced images only, placed to a few pixels: {listed([names[i] for i in loose])}"
        )
    if alone:
        found.append(f"match no other image, laid out apart: {listed([names[i] for i in alone])}")
    return found


def listed(names: list[str]) -> str:
    """Name images in a sentence, not all of hundreds."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def describe(made: Montage) -> list[str]:
    """Return what a person wants to know at the end, in lines."""
    placement, n = made.placement, len(made.images)
    lines = []
    if made.is_measured:
        accepted, total = int(placement.pair_accepted.sum()), len(placement.pairs)
        measured = int(placement.measured.sum())
        lines.append(
            f"{measured} of {n} images placed by {accepted} of {total} matches, "
            f"RMS residual {placement.rms_residual_px:.3f} px"
        )
        if made.maps is not None:
            maps = made.maps
            lines.append(
                f"{made.options.model}: {maps.accepted} of {maps.points} places along the overlaps used, RMS residual "
                f"{maps.rms_px:.3f} px ({maps.rigid_rms_px:.3f} px with shifts alone)"
            )
    else:
        lines.append(f"{n} images placed as the positions file says")
    lines += [f"warning: {warning}" for warning in made.warnings]
    return lines
