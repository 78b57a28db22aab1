"""Section 6: slice to slice: what registration added to the stage."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from soct.report.charts import Band, Series, chart
from soct.report.images import robust_window
from soct.report.markup import Cell, Row, figure, flicker, join, note, number, picture, table
from soct.report.overlays import scale_overlay
from soct.report.pair_figures import draw_checkerboards, draw_loops
from soct.report.reportlet import Page, Reportlet

_POSES, _STACK, _PAIRS = "estimate_slice_poses", "stack", "register_pairwise"
_SIDE = 640


def render(page: Page) -> Markup:
    """Draw the reslices before and after, then poses, pairs and the table of pairs."""
    parts = []
    if not page.figures.has(_STACK):
        parts.append(note("Reslices: the volume is not stacked yet."))
    else:
        for axis, name in (("y", "z, x"), ("x", "z, y")):
            parts.append(
                page.guarded(f"Reslice ({name})", lambda axis=axis, name=name: _reslice(page, axis, name))  # type: ignore[misc]
            )  # fmt: skip
    if page.figures.has(_POSES):
        parts.append(page.guarded("Poses", lambda: _poses(page)))
        parts.append(page.guarded("Pairs", lambda: _pairs(page)))
        parts.append(page.guarded("Checkerboards", lambda: draw_checkerboards(page)))
        parts.append(page.guarded("Loops", lambda: draw_loops(page)))
        parts.append(page.guarded("Table of pairs", lambda: _pair_table(page)))
    elif any(u.finished for u in page.view.units(_PAIRS)):
        parts.append(page.guarded("Table of pairs", lambda: _metric_table(page)))
    return join(parts) if len(parts) > 1 else note("No slices are aligned yet.")


def _reslice(page: Page, axis: str, name: str) -> Markup:
    final, motor, voxel = page.figures.arrays(
        _STACK, "run", f"ortho_{axis}", f"motor_{axis}", "voxel_um"
    )
    vz, vy, vx = (float(v) for v in np.ravel(voxel)[:3])
    across = vx if axis == "y" else vy
    window = robust_window(final, motor)
    drawn = []
    for array, label in ((motor, "stage positions only"), (final, "final")):
        image = page.images.encode(array, window=window, max_side=_SIDE, pixel_um=(vz, across))
        overlay = scale_overlay(image, array.shape[1] * across, shown=_shown_width(image))
        drawn.append(
            picture(image, f"Reslice ({name}), {label}", overlay=overlay, width=_shown_width(image))
        )
    return flicker(
        f"reslice-{axis}",
        drawn[0],
        drawn[1],
        labels=("stage only", "final"),
        title=f"Reslice ({name}) through the middle: stage positions only against the final poses",
    )


def _shown_width(image: Any) -> int:
    """Wide enough to see steps of a few pixels, low enough for one screen."""
    return int(max(320, min(900, 560 / max(image.aspect, 0.2))))


def _poses(page: Page) -> Markup:
    ids, pose, rotation, stage = page.figures.arrays(
        _POSES, "run", "slice_ids", "pose_um", "rotation_deg", "stage_um"
    )
    moved = pose - stage
    # Only differences between slices mean anything; a single bad slice must not shift the others.
    moved = moved - np.median(moved, axis=0)
    limits = page.view.limits
    shift = chart(
        [
            Series("y", ids, moved[:, 1], 0, "both"),
            Series("x", ids, moved[:, 2], 1, "both", dashed=True),
        ],
        title="In-plane position of each slice, final minus stage",
        x_label="slice",
        y_label="final − stage (µm)",
        limits=(
            Band(limits.cumulative_drift_um.warning, "limit"),
            Band(-limits.cumulative_drift_um.warning, "limit"),
        ),
    )
    turn = chart(
        [Series("rotation", ids, rotation, 2, "both")],
        title="Rotation of each slice",
        x_label="slice",
        y_label="rotation (°)",
        limits=(Band(limits.cumulative_rotation_deg.warning, "limit"),),
        height=150,
    )
    return join(
        [
            Markup("<h3>Where the slices came to lie</h3>"),
            figure(shift, "Position in the plane, less what the stage said (0 at the median slice): positive where the images put the slice further along the axis than the stage did. A slow curve is drift; a single spike is a glitch or a wrong pair."),
            figure(turn, "Rotation about the depth axis."),
            Markup('<p>How thick every cut was: <a href="#acquisition">section “Acquisition”</a>.</p>'),
        ]
    )  # fmt: skip


def _pairs(page: Page) -> Markup:
    pairs, ncc, confidence, residual = page.figures.arrays(
        _POSES, "run", "pairs", "pair_ncc", "pair_confidence", "pair_residual_um"
    )
    moving, near = pairs[:, 1], _neighbours(pairs)
    size = _length(residual)
    limits = page.view.limits
    quality = chart(
        [
            Series("NCC, next slice", moving[near], ncc[near], 0, "points"),
            Series("NCC, farther slice", moving[~near], ncc[~near], 4, "points"),
            Series("confidence, next slice", moving[near], confidence[near], 2, "line"),
        ],
        title="Similarity of the slice pairs once aligned",
        x_label="moving slice",
        y_label="NCC, confidence",
        limits=(Band(limits.ncc.warning, "limit of NCC"),),
    )
    loops = chart(
        [
            Series("next slice", moving[near], size[near], 0, "points"),
            Series("farther slice", moving[~near], size[~near], 1, "points"),
        ],
        title="What each pair disagrees with the solved poses",
        x_label="moving slice",
        y_label="residual (µm)",
        limits=(Band(limits.slice_residual_p95_um.warning, "limit"),),
        include_zero=True,
        height=170,
    )
    return join(
        [
            Markup("<h3>How far the pairs can be trusted</h3>"),
            figure(quality, "NCC of the aligned pair (limit dashed) and calibrated confidence."),
            figure(loops, "Residual of each pair in the global solve: pairs that skip a slice close the loop and show wrong ones."),
        ]
    )  # fmt: skip


def _pair_table(page: Page) -> Markup:
    pairs, shift, turn, ncc, confidence, residual, weight = page.figures.arrays(
        _POSES, "run", "pairs", "pair_shift_um", "pair_rotation_deg", "pair_ncc", "pair_confidence",
        "pair_residual_um", "pair_weight",
    )  # fmt: skip
    if len(pairs) == 0:
        return note("There is no pair of slices.")
    size = _length(residual)
    shift = shift.reshape(len(pairs), -1)
    limits = page.view.limits
    rows = []
    for i in range(len(pairs)):
        pair = f"{int(pairs[i, 0])} → {int(pairs[i, 1])}"
        if not (np.isfinite(size[i]) or confidence[i]):
            rows.append(Row([f"{pair}, not measured", *(Cell("–") for _ in range(7))]))
            continue
        dy, dx = (float(v) for v in shift[i, -2:])
        values = (
            (dy, ""), (dx, ""), (float(turn[i]), limits.rotation_deg.status(float(turn[i])).value),
            (float(ncc[i]), limits.ncc.status(float(ncc[i])).value),
            (float(confidence[i]), limits.confidence.status(float(confidence[i])).value),
            (float(size[i]), limits.slice_residual_p95_um.status(float(size[i])).value),
            (float(np.ravel(weight[i])[0]), ""),
        )  # fmt: skip
        rows.append(
            Row(
                [
                    pair,
                    *(
                        Cell(number(v), sort=v, css=s if s in ("warning", "error") else "")
                        for v, s in values
                    ),
                ],
                id=f"pair-{int(pairs[i, 0])}-{int(pairs[i, 1])}",
            )
        )
    return table(
        ("Pair", "Δy (µm)", "Δx (µm)", "rotation (°)", "NCC", "confidence", "residual (µm)", "weight"),
        rows[:4000],
        caption="Measured pairs. Δ: where the images put the second slice against the first, less where the stage put it (a stage that reads too far gives a negative Δ). Weight: how much the pair counted in the global solve. The limit of shifts is per slice, so a pair that skips one may have twice as much. Click a heading to sort.",
        numeric=range(1, 8),
    )  # fmt: skip


def _metric_table(page: Page) -> Markup:
    names = ("translation_um", "rotation_deg", "ncc", "confidence")
    rows = []
    for unit in page.view.units(_PAIRS):
        if unit.finished:
            cells = [unit.number(name) for name in names]
            rows.append([unit.name, *(number(c) for c in cells)])
    return table(
        ("Pair", "shift (µm)", "rotation (°)", "NCC", "confidence"),
        rows,
        caption="Measured pairs",
        numeric=range(1, 5),
    )


def _length(residual: NDArray[Any]) -> NDArray[np.float64]:
    data = np.asarray(residual, dtype=np.float64)
    return np.abs(data) if data.ndim == 1 else np.sqrt((data[:, -2:] ** 2).sum(axis=1))


def _neighbours(pairs: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether a pair's slices follow each other among those that were acquired."""
    rank = np.searchsorted(np.unique(pairs), pairs)
    neighbours: NDArray[np.bool_] = rank[:, 1] - rank[:, 0] == 1
    return neighbours


REPORTLET = Reportlet(
    id="alignment",
    order=70,
    title="Slice alignment",
    question="Do the slices fit each other, and did registration improve on the stage?",
    render=render,
    good="edges that are ragged in “stage only” run smoothly in “final”; residuals of farther pairs as small "
    "as those of neighbours.",
    bad="a step that is only in “final” (a wrong pair was trusted: raise the confidence it needs); a slow bend that "
    "is only in “final” (drift adds up: trust the stage more).",
    inputs=(_PAIRS, _POSES, _STACK),
    thresholds=("slice_shift_p95_um", "slice_residual_p95_um", "cumulative_drift_um", "cumulative_rotation_deg", "ncc", "confidence"),
)  # fmt: skip
