"""A thumbnail per problem: the slice, tile, seam, pair or reslice where it shows, out of saved figures.

Each function returns None where the run saved nothing that could show the problem; a figure that cannot be
read is no evidence either, so the card appears without a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.images import robust_window
from soct.report.markup import EMPTY, picture
from soct.report.overlays import overlay_size, scale_overlay, seam_overlay, square_overlay
from soct.report.problems import Problem
from soct.report.reportlet import Page
from soct.report.seams import rank_seams
from soct.report.slice_pictures import (
    POSES,
    STITCH,
    StitchedSlice,
    checkerboard,
    cut,
    picture_seam,
    square_size,
    stitched_slice,
)

_SIDE = 260
_STACK, _FLAT, _BIAS, _SURFACE = (
    "stack",
    "fix_illumination",
    "correct_bias_field",
    "crop_interface",
)
_MARK = "#e69f00"
_ALONG_DEPTH = frozenset(
    (
        "banding_index", "filled", "slice_shift_p95_um", "slice_residual_p95_um", "cumulative_drift_um",
        "cumulative_rotation_deg", "z_offset_std_um", "z_offset_range_um",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """A picture of a problem, and what it is."""

    drawing: Markup
    caption: str


def find_evidence(page: Page, problem: Problem) -> Evidence | None:
    """Return the picture that shows a problem best, or None.

    Tried in turn: the tile, the pair, the seam or surface of the slice, the reslice, the slice itself.
    """
    for draw in (_tile, _pair, _seam, _surface, _depth, _field, _gap, _slice):
        try:
            found = draw(page, problem)
        except Exception:  # noqa: BLE001  (evidence is extra: the card must appear whatever the figure)
            continue
        if found is not None:
            return found
    return None


def _tile(page: Page, problem: Problem) -> Evidence | None:
    if not problem.tiles:
        return None
    slice_id, row, col = problem.tiles[0]
    unit = f"z{slice_id:02d}"
    if not page.figures.has(STITCH, unit):
        return None
    stitched = stitched_slice(page.figures, unit)
    boxes = [_tile_box(stitched, r, c) for s, r, c in problem.tiles if s == slice_id]
    image = stitched.after
    drawn = page.images.encode(image, window=robust_window(image), max_side=_SIDE)
    width, _ = overlay_size(drawn)
    scale = width / image.shape[1]
    marks = Markup("").join(_box_mark(box, scale) for box in boxes if box is not None)
    overlay = scale_overlay(drawn, image.shape[1] * stitched.pixel_um, marks, shown=_SIDE)
    alt = f"Slice {slice_id} with the place of tile ({row}, {col}) marked"
    return Evidence(
        picture(drawn, alt, overlay=overlay, width=_SIDE),
        f"slice {slice_id}, tile ({row}, {col}) outlined",
    )


def _tile_box(stitched: StitchedSlice, row: int, col: int) -> tuple[float, ...] | None:
    """Where a tile lies, or would lie by the places of the others."""
    k = stitched.find(row, col)
    if k is not None:
        return stitched.box(k)
    index = np.column_stack([stitched.grid_index, np.ones(len(stitched.grid_index))])
    if np.linalg.matrix_rank(index) < 3:
        return None
    model, *_ = np.linalg.lstsq(index.astype(float), stitched.positions, rcond=None)
    top, left = np.array([row, col, 1.0]) @ model
    return top, top + stitched.tile[0], left, left + stitched.tile[1]


def _box_mark(box: tuple[float, ...], scale: float) -> Markup:
    top, bottom, left, right = (scale * v for v in box)
    return Markup(
        '<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="none" stroke="{}" stroke-width="5"/>'
    ).format(left, top, right - left, bottom - top, _MARK)


def _pair(page: Page, problem: Problem) -> Evidence | None:
    if not problem.units or len(problem.units[0]) != 2 or not page.figures.has(POSES):
        return None
    fixed, moving = problem.units[0]
    board, pixel = checkerboard(page.figures, (fixed, moving), "poses")
    drawn = page.images.encode(board, window=robust_window(board), max_side=_SIDE)
    lines = square_overlay(drawn, board.shape, square_size(board.shape))
    overlay = scale_overlay(drawn, board.shape[1] * pixel, lines, shown=_SIDE)
    alt = f"Slices {fixed} and {moving} in alternating squares, as placed in the volume"
    return Evidence(
        picture(drawn, alt, overlay=overlay, width=_SIDE),
        f"slices {fixed} and {moving} in alternating squares, as placed: edges should run on",
    )


def _seam(page: Page, problem: Problem) -> Evidence | None:
    if (
        problem.step != STITCH
        or not problem.metric
        or not problem.units
        or len(problem.units[0]) != 1
    ):
        return None
    unit = f"z{problem.units[0][0]:02d}"
    seams = [s for s in rank_seams(page.figures, [unit]) if s.accepted]
    if not seams:
        return None
    stitched = stitched_slice(page.figures, unit)
    shown = picture_seam(page.figures, stitched, unit, seams[0].a, seams[0].b)
    after = shown.after
    drawn = page.images.encode(after, window=robust_window(after), max_side=_SIDE)
    marks = seam_overlay(drawn, upright=shown.upright)
    overlay = scale_overlay(drawn, after.shape[1] * shown.pixel_um, marks, shown=_SIDE)
    where = seams[0].where
    return Evidence(
        picture(drawn, f"Seam of {where}", overlay=overlay, width=_SIDE), f"worst seam: {where}"
    )


def _surface(page: Page, problem: Problem) -> Evidence | None:
    if problem.step != _SURFACE or not problem.units:
        return None
    unit = f"z{problem.units[0][0]:02d}"
    surface = page.figures.array(_SURFACE, unit, "surface", ndim=2)
    window = robust_window(surface, low=0.5, high=99.5)
    drawn = page.images.encode(surface, window=window, colours="cividis", max_side=_SIDE)
    return Evidence(
        picture(drawn, f"Surface height of {unit}", width=_SIDE), f"surface height of {unit}"
    )


def _depth(page: Page, problem: Problem) -> Evidence | None:
    """Draw the reslice of the whole volume, for what only shows along depth."""
    if problem.metric not in _ALONG_DEPTH or not page.figures.has(_STACK):
        return None
    reslice, voxel = page.figures.arrays(_STACK, "run", "ortho_y", "voxel_um")
    return _reslice(page, reslice, voxel, EMPTY, "the final volume, depth downwards")


def _reslice(
    page: Page,
    reslice: NDArray[np.float32],
    voxel: NDArray[np.float64],
    marks: Markup,
    caption: str,
) -> Evidence:
    vz, _, vx = (float(v) for v in np.ravel(voxel)[:3])
    drawn = page.images.encode(
        reslice, window=robust_window(reslice), max_side=2 * _SIDE, pixel_um=(vz, vx)
    )
    width = min(_SIDE, round(300 / drawn.aspect))
    overlay = scale_overlay(drawn, reslice.shape[1] * vx, marks, shown=width)
    return Evidence(
        picture(drawn, f"Reslice (z, x): {caption}", overlay=overlay, width=width), caption
    )


def _gap(page: Page, problem: Problem) -> Evidence | None:
    """Draw the reslice with the depth of a slice marked that has no image in the volume."""
    if problem.step or problem.tiles or not problem.units or not page.figures.has(_STACK):
        return None
    reslice, voxel, starts, median = page.figures.arrays(
        _STACK, "run", "ortho_y", "voxel_um", "z_boundaries", "plane_median"
    )
    slice_id = problem.units[0][0]
    if "slice_ids" in page.figures.names(_STACK):
        known = page.figures.array(_STACK, "run", "slice_ids").ravel().astype(float)
    else:
        stacked = [r.slice_id for r in page.view.ledger if r.used or r.interpolated]
        known = np.array(stacked, dtype=float)
    if known.size < 2 or known.size != starts.size:
        return None
    # Ids that were not stacked lie between those that were, as far as the ids say.
    step = float(np.median(np.diff(starts) / np.diff(known)))
    top = float(np.interp(slice_id, known, starts.astype(float)))
    top += step * (min(0.0, slice_id - known[0]) + max(0.0, slice_id - known[-1]))
    scale = reslice.shape[0] / max(median.size, 1)
    middle = scale * (top + 0.5 * step) / reslice.shape[0]
    mark = Markup(
        '<path d="M0 {0:.1f} L26 {1:.1f} L26 {2:.1f} Z M520 {0:.1f} L494 {1:.1f} L494 {2:.1f} Z" fill="{3}" stroke="#000"/>'
    )
    height = 520 * reslice.shape[0] * float(voxel[0]) / (reslice.shape[1] * float(voxel[2]))
    y = height * min(1.0, max(0.0, middle))
    triangles = mark.format(y, y - 12, y + 12, _MARK)
    return _reslice(page, reslice, voxel, triangles, f"depth of slice {slice_id} between the marks")


def _field(page: Page, problem: Problem) -> Evidence | None:
    """Draw the mosaic as corrected, for what a flat or bias field leaves behind."""
    if problem.step not in (_FLAT, _BIAS) or not page.figures.has(problem.step):
        return None
    image = page.figures.array(problem.step, "run", "after", ndim=2)
    drawn = page.images.encode(image, window=robust_window(image), max_side=_SIDE)
    caption = "after the flat field" if problem.step == _FLAT else "after the bias field"
    return Evidence(picture(drawn, f"Picture {caption}", width=_SIDE), caption)


def _slice(page: Page, problem: Problem) -> Evidence | None:
    if not problem.units or not problem.units[0]:
        return None
    slice_id = problem.units[0][-1]
    unit = f"z{slice_id:02d}"
    if not page.figures.has(STITCH, unit):
        return None
    stitched = stitched_slice(page.figures, unit)
    image = cut(stitched.after, (0, stitched.after.shape[0], 0, stitched.after.shape[1]))
    drawn = page.images.encode(image, window=robust_window(image), max_side=_SIDE)
    overlay = scale_overlay(drawn, image.shape[1] * stitched.pixel_um, shown=_SIDE)
    return Evidence(
        picture(drawn, f"Slice {slice_id}, projection along depth", overlay=overlay, width=_SIDE),
        f"slice {slice_id}",
    )
