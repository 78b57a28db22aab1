"""What the diagnostic profile adds: one verdict in a sentence and one figure per diagnosis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from markupsafe import Markup

from soct.report.charts import Band, Series, chart
from soct.report.images import robust_window
from soct.report.markup import EMPTY, Cell, Row, figure, join, note, number, picture, pill, table
from soct.report.model import UnitView
from soct.report.overlays import scale_overlay
from soct.report.reportlet import Page, Reportlet

_ROTATION = "analyze_rotation_drift"
_CAMERA = "analyze_acquisition_rotation"
_DILATION = "analyze_tile_dilation"
_COMPARE = "compare_stitching"
_STITCH = "motor_only_stitch"
_STACK = "motor_only_stack"
_SIDE = 560
_PILLS = {"better": "ok", "same": "info", "worse": "error", "unknown": "info"}


def render(page: Page) -> Markup:
    """Draw what was diagnosed; say how to get it where nothing was."""
    parts = [
        page.guarded(title, lambda draw=draw, title=title: _titled(title, draw(page)))  # type: ignore[misc]
        for step, title, draw in _SECTIONS
        if any(unit.finished for unit in page.view.units(step))
    ]
    if not parts:
        return note(
            "Nothing was diagnosed in this run. The profile “diagnostic” adds it: "
            "soct run INPUT RUN --profile diagnostic"
        )
    return join(parts)


def _titled(title: str, body: Markup) -> Markup:
    return Markup("<h3>{}</h3>{}").format(title, body)


def _word(unit: UnitView, name: str) -> str:
    """Return a metric that is text; empty where there is none."""
    metric = unit.metric(name)
    return metric.value if metric is not None and isinstance(metric.value, str) else ""


def _verdict(page: Page, step: str, name: str) -> Markup:
    sentences = [_word(u, name) for u in page.view.units(step) if u.finished]
    return Markup("<p><strong>{}</strong></p>").format(" ".join(filter(None, sentences)))


def _compare(page: Page) -> Markup:
    units = [u for u in page.view.units(_COMPARE) if u.finished]
    ids = [u.slices[0] for u in units]
    verdicts = [_word(u, "stitching_helped") for u in units]
    counts = {v: verdicts.count(v) for v in ("better", "same", "worse")}
    sentence = (
        f"Matching the tiles helped in {counts['better']} of {len(units)} slices, "
        f"changed little in {counts['same']} and made {counts['worse']} worse."
    )
    series = [
        Series(label, ids, [_nan(u.number(name)) for u in units], colour, "both", dashed=dashed)
        for name, label, colour, dashed in (
            ("overlap_ncc_motor", "stage only", 4, True),
            ("overlap_ncc", "stitched", 0, False),
        )
    ]
    drawn = chart(
        series,
        title="Median correlation of a slice's overlaps, by the stage and stitched",
        x_label="slice",
        y_label="correlation",
    )
    rows = [
        Row(
            [
                u.name,
                Cell(pill(_PILLS.get(v, "info"), v)),
                number(u.number("overlap_ncc_motor")),
                number(u.number("overlap_ncc")),
                number(u.number("overlap_l1_motor")),
                number(u.number("overlap_l1")),
                number(u.number("overlap_step_percent")),
                number(u.number("tile_move_max_um")),
                _word(u, "stitching_verdict").partition("Look first at ")[2].rstrip("."),
            ]
        )
        for u, v in zip(units, verdicts, strict=True)
    ]
    listed = table(
        ("Slice", "helped?", "NCC, stage", "NCC", "L1, stage", "L1", "step (%)", "moved up to (µm)", "look first at"),
        rows,
        caption="Overlaps of every slice: medians by the stage and stitched",
        numeric=range(2, 8),
    )  # fmt: skip
    return join(
        [
            Markup("<p><strong>{}</strong></p>").format(sentence),
            figure(
                drawn,
                "Both sides of every overlap, smoothed over speckle. The distance between the lines is what matching gained.",
            ),
            listed,
        ]
    )


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _camera(page: Page) -> Markup:
    ids, angle, error = page.figures.arrays(
        _CAMERA, "run", "slice_ids", "rotation_deg", "rotation_error_deg"
    )
    drawn = chart(
        [
            Series("rotation", ids, angle, 0, "both"),
            Series("± two standard errors", ids, angle + 2 * error, 4, "line", dashed=True),
            Series("", ids, angle - 2 * error, 4, "line", dashed=True),
        ][: 3 if len(ids) > 1 else 1],
        title="Angle between the stage's axes and the camera's, slice by slice",
        x_label="slice",
        y_label="angle (°)",
        limits=(Band(0.0, "parallel", "info"),),
    )
    return join(
        [
            _verdict(page, _CAMERA, "acquisition_rotation_verdict"),
            figure(
                drawn,
                "From where the tiles of each slice were found. One straight line is a mounting; a line that wanders is something loose.",
            ),
        ]
    )


def _dilation(page: Page) -> Markup:
    ids, scale = page.figures.arrays(_DILATION, "run", "slice_ids", "scale")
    percent = 100 * (scale - 1)
    drawn = chart(
        [
            Series("along y", ids, percent[:, 0], 0, "both"),
            Series("along x", ids, percent[:, 1], 1, "both", dashed=True),
        ],
        title="Measured over expected distance of the tiles, less 1, slice by slice",
        x_label="slice",
        y_label="dilation (%)",
        limits=(Band(0.0, "as expected", "info"),),
    )
    maps = [
        (name, 100 * (page.figures.array(_DILATION, "run", f"ratio_{name}", ndim=2) - 1))
        for name in ("y", "x")
    ]
    known = [m for _, m in maps if np.isfinite(m).sum() > 2]
    pictures = EMPTY
    if known:
        low, high = (
            min(float(np.nanmin(m)) for m in known),
            max(float(np.nanmax(m)) for m in known),
        )
        window = (low, max(high, low + 1e-6))
        pictures = Markup('<div class="row">{}</div>').format(
            join(
                figure(
                    picture(
                        page.images.encode(
                            _enlarge(m), window=window, colours="cividis", max_side=480
                        ),
                        f"Dilation of tile distances along {name} at every row and column",
                        width=240,
                    ),
                    f"Distances along {name} by row and column of the grid: dark {number(low)} %, bright {number(high)} %.",
                )
                for name, m in maps
                if np.isfinite(m).sum() > 2
            )
        )
    return join(
        [
            _verdict(page, _DILATION, "tile_dilation_verdict"),
            figure(
                drawn,
                "The same value in all slices is a wrong pixel size; a drift over the slices is heat.",
            ),
            pictures,
        ]
    )


def _enlarge(grid: np.ndarray) -> np.ndarray:
    """Each place of the grid that has a value as a square that can be seen."""
    known = np.isfinite(grid)
    grid = grid[np.ix_(known.any(axis=1), known.any(axis=0))]
    side = max(1, 120 // max(grid.shape))
    return np.kron(grid, np.ones((side, side)))


def _rotation(page: Page) -> Markup:
    ids, added, solved, step, outliers = page.figures.arrays(
        _ROTATION, "run", "slice_ids", "cumulative_deg", "solved_deg", "step_deg", "outliers"
    )
    parts = [_verdict(page, _ROTATION, "rotation_drift_verdict")]
    if len(ids) > 1:
        path = chart(
            [
                Series("pairs added up", ids, added, 1, "line", dashed=True),
                Series("all pairs solved together", ids, solved, 0, "both"),
            ],
            title="Rotation of each slice against the first",
            x_label="slice",
            y_label="rotation (°)",
            marks=[float(i) for i in outliers],
        )
        turn = chart(
            [Series("turn", ids, step, 2, "points")],
            title="Turn of each slice against the one before, as measured",
            x_label="slice",
            y_label="turn (°)",
            marks=[float(i) for i in outliers],
            height=150,
        )
        parts.append(
            figure(
                path,
                "Where the lines part, errors of single pairs add up. Vertical lines: slices that stand out.",
            )
        )
        parts.append(figure(turn, "As registration measured it, pair by pair."))
    return join(parts)


def _motor_stitch(page: Page) -> Markup:
    units = page.figures.units(_STITCH)
    if not units:
        return EMPTY
    losers = [
        u.name
        for u in page.view.units(_COMPARE)
        if _word(u, "stitching_helped") == "worse" and u.name in units
    ]
    shown = losers[0] if losers else units[len(units) // 2]
    mean, voxel = page.figures.arrays(_STITCH, shown, "mean", "voxel_um")
    image = page.images.encode(
        mean,
        window=robust_window(mean),
        max_side=_SIDE,
        pixel_um=(float(voxel[1]), float(voxel[2])),
    )
    drawn = picture(
        image,
        f"Slice {shown} by stage positions alone",
        overlay=scale_overlay(image, mean.shape[1] * float(voxel[2]), shown=420),
        width=420,
    )
    return figure(
        drawn,
        f"Slice {shown}, mean over depth, tiles pasted at the stage's positions, {number(float(voxel[2]), 'um')} per pixel; "
        "a break at a seam is what matching has to mend. All slices: motor_only_stitch/*.png.",
    )


def _motor_stack(page: Page) -> Markup:
    ortho_y, ortho_x, voxel = page.figures.arrays(_STACK, "run", "ortho_y", "ortho_x", "voxel_um")
    vz, vy, vx = (float(v) for v in voxel)
    window = robust_window(ortho_y, ortho_x)
    drawn = []
    for array, across, name in ((ortho_y, vx, "z, x"), (ortho_x, vy, "z, y")):
        image = page.images.encode(array, window=window, max_side=_SIDE, pixel_um=(vz, across))
        drawn.append(
            figure(
                picture(
                    image,
                    f"Reslice ({name}) of the motor-only stack",
                    overlay=scale_overlay(image, array.shape[1] * across, shown=640),
                    width=640,
                ),
                f"Reslice ({name}), tiles and slices by the stage alone, brightness as recorded.",
            )
        )
    return join(
        [
            *drawn,
            note(
                "Compare with “final” under Slice alignment. The volume: motor_only_stack/motor_only.ome.zarr."
            ),
        ]
    )


_SECTIONS: tuple[tuple[str, str, Callable[[Page], Markup]], ...] = (
    (_COMPARE, "Did matching the tiles help?", _compare),
    (_CAMERA, "Stage against camera", _camera),
    (_DILATION, "Do tiles lie as far apart as expected?", _dilation),
    (_ROTATION, "Do the slices turn?", _rotation),
    (_STITCH, "A slice by the stage alone", _motor_stitch),
    (_STACK, "The stack by the stage alone", _motor_stack),
)


REPORTLET = Reportlet(
    id="diagnostics",
    order=90,
    title="Diagnosis",
    question="Which part of the errors comes from the stage, the camera, the pixel size, or a single slice?",
    render=render,
    good="matching helps in every slice; the angle and the dilation are the same in all slices; rotations that are added up agree with those that are solved.",
    bad="a slice that matching made worse (look at the places named, and lower stitch_3d_with_refinement.max_tile_shift_um); an angle "
    "that wanders (tighten the mounting); a dilation that is not 0 (correct the pixel size); a slice whose turn stands out (look at its pairs).",
    inputs=(_COMPARE, _CAMERA, _DILATION, _ROTATION, _STITCH, _STACK),
)
