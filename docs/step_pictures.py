"""Draw docs/images/steps/{step}.png: what every step does, from its real outputs in one simulated run.

Run ``make pictures``: it simulates an acquisition with every fault visible, reconstructs it with every step switched
on, and draws. ``python docs/step_pictures.py RUN [STEP ...]`` draws again from a run that is there.

A step gets its picture from one function below, ``@picture("step_id", "caption")``, which takes the run and returns
panels. A step without one falls into `draw_anything`. The caption travels in the file, and `step_pages.py` reads it.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from scipy import ndimage
from scipy.spatial.transform import Rotation

from soct.formats.mosaic_grid import open_mosaic_grid
from soct.formats.ome_zarr import VolumeReader, open_volume
from soct.formats.pyramid import PyramidWriter
from soct.report.charts import ticks
from soct.report.images import robust_window
from soct.report.sheets import (
    INK,
    SOFT,
    Panel,
    draw_sheet,
    encode_sheet,
    legible,
    paint,
    write,
)
from soct.simulate.atlas import make_phantom, write_phantom_atlas
from soct.space import Voxel
from soct.steps.registry import load_steps

FOLDER = Path(__file__).parent / "images" / "steps"
LIMIT = 60_000
"""Bytes of a picture."""
_BLUE, _ORANGE, _GREEN, _GREY = (
    (0, 114, 178),
    (213, 94, 0),
    (0, 158, 115),
    (138, 143, 152),
)
_COLOURS = (_BLUE, _ORANGE, _GREEN, _GREY)
SOCT = (sys.executable, "-c", "from soct.cli.main import main; main()")
SIMULATION = (
    "--preset", "demo", "--slices", "7", "--focal-curvature-samples", "5", "--vignetting", "0.45",
    "--stage-rotation-deg", "0.6", "--tile-jitter-px", "1.5", "--slice-rotation-deg", "0.5",
    "--slice-drift-um", "90", "--gain-drift", "0.25", "--missing-slices", "[4]",
    "--glitches", '[{"slice_id": 2, "y_mm": 1.2, "x_mm": -0.9}]', "--surface-tilt-deg", "[0.5, -0.4]",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A finished run folder."""

    folder: Path

    def figures(
        self, step: str, slice_id: int | None = None, name: str = "figures"
    ) -> dict[str, Any]:
        """Return the arrays of a step, or of one of its slices."""
        suffix = "" if slice_id is None else f"_z{slice_id:02d}"
        with np.load(self.folder / step / f"{name}{suffix}.npz") as saved:
            return dict(saved)

    def document(self, step: str, name: str) -> dict[str, Any]:
        """Return a JSON document of a step."""
        content: dict[str, Any] = json.loads((self.folder / step / name).read_text())
        return content

    def rows(self, step: str, name: str) -> list[dict[str, str]]:
        """Return the rows of a CSV table of a step."""
        with (self.folder / step / name).open(newline="") as table:
            return list(csv.DictReader(table))

    def volume(self, step: str, slice_id: int | None = None, level: int = 0) -> VolumeReader:
        """Open an image of a step."""
        return open_volume(self.path(step, slice_id), level)

    def path(self, step: str, slice_id: int | None = None) -> Path:
        """Return the step's first OME-Zarr image, or that of a slice."""
        found = sorted((self.folder / step).glob("*.ome.zarr"))
        if slice_id is not None:
            found = [p for p in found if f"_z{slice_id:02d}" in p.name]
        if not found:
            raise FileNotFoundError(f"{step} has no image")
        return found[0]

    def slices(self, step: str) -> list[int]:
        """Return the slices that a step made an image of."""
        found = sorted((self.folder / step).glob("*_z[0-9][0-9].ome.zarr"))
        return [int(p.name.removesuffix(".ome.zarr")[-2:]) for p in found]

    def middle(self, step: str = "stitch_3d_with_refinement") -> int:
        """Return the slice in the middle."""
        ids = self.slices(step)
        return ids[len(ids) // 2]


@dataclass(frozen=True)
class Drawing:
    """Panels of one picture."""

    panels: Sequence[Panel]
    columns: int = 2


Draw = Callable[[Run], Drawing]
PICTURES: dict[str, tuple[str, Draw]] = {}


def picture(step: str, caption: str) -> Callable[[Draw], Draw]:
    """Register the function that draws a step."""

    def register(draw: Draw) -> Draw:
        PICTURES[step] = (caption, draw)
        return draw

    return register


# --- small pieces -------------------------------------------------------------------------------------


def pair(
    before: ArrayLike,
    after: ArrayLike,
    labels: tuple[str, str],
    note: str = "",
    **paint_: Any,
) -> Drawing:
    """Show two arrays with one window, side by side."""
    window = paint_.pop("window", None) or robust_window(before, after)
    return Drawing(
        [
            Panel(paint(before, window=window, **paint_), labels[0], note),
            Panel(paint(after, window=window, **paint_), labels[1]),
        ]
    )


def mean_depth(volume: VolumeReader, z: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Average the valid samples; NaN where there is none."""
    data, valid = volume.read(z), volume.read_valid()
    k = np.arange(data.shape[0])[:, None, None] + (z[0] if z else 0)
    inside = (k >= valid[0]) & (k < valid[1])
    count = inside.sum(axis=0)
    total = np.where(inside, data, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def section(volume: VolumeReader, row: int | None = None) -> NDArray[np.float32]:
    """Return the (z, x) cut through the middle row, five rows averaged; NaN where there is no data."""
    y = volume.shape[1] // 2 if row is None else row
    y0, y1 = max(y - 2, 0), min(y + 3, volume.shape[1])
    data, valid = volume.read(None, (y0, y1)), volume.read_valid()[:, y0:y1]
    k = np.arange(data.shape[0])[:, None, None]
    data = np.where((k >= valid[0]) & (k < valid[1]), data, np.nan)
    known = np.isfinite(data)
    count = known.sum(axis=1)
    return np.where(count > 0, np.where(known, data, 0).sum(axis=1) / np.maximum(count, 1), np.nan)


def log(array: ArrayLike) -> NDArray[np.float64]:
    """Return brightness as the eye takes it."""
    data = np.asarray(array, np.float64)
    floor = np.nanpercentile(data[np.isfinite(data) & (data > 0)], 2)
    return np.log(np.maximum(data, floor))


def stretch(array: NDArray[Any], z_um: float, across_um: float, most: float = 4.0) -> NDArray[Any]:
    """Repeat planes so that a reslice has its physical shape, or is at most `most` times too tall."""
    times = max(1, round(z_um / across_um * most / 2))
    return np.repeat(array, times, axis=0)


def draw_chart(
    series: Iterable[tuple[str, ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    *,
    size: tuple[int, int] = (382, 240),
    points: bool = False,
    marks: Sequence[float] = (),
) -> NDArray[np.uint8]:
    """Draw a line chart with axes and legend, drawn with Pillow at twice its size and shrunk."""
    lines = [(n, np.asarray(x, float).ravel(), np.asarray(y, float).ravel()) for n, x, y in series]
    w, h = size[0] * 2, size[1] * 2
    image = Image.new("RGB", (w, h), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    left, right, top, bottom = 132, w - 16, 16 + 34 * (len(lines) > 1), h - 84
    xs = np.concatenate([x[np.isfinite(y)] for _, x, y in lines])
    ys = np.concatenate([y[np.isfinite(y)] for _, x, y in lines])
    (x0, x1), (y0, y1) = ((float(v.min()), float(v.max())) for v in (xs, ys))
    x1 += (x1 == x0) * 1.0
    pad = 0.08 * (y1 - y0) or max(abs(y1) * 0.1, 0.5)
    y0, y1 = y0 - pad, y1 + pad

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - x0) / (x1 - x0) * (right - left),
            bottom - (y - y0) / (y1 - y0) * (bottom - top),
        )

    font: Any = ImageFont.load_default(24)
    for value in ticks(y0, y1, 4):
        y = at(x0, value)[1]
        pen.line([(left, y), (right, y)], fill=(221, 226, 232), width=2)
        pen.text((left - 10, y), f"{value:g}", fill=SOFT, font=font, anchor="rm")
    for value in ticks(x0, x1, 5):
        pen.text(
            (at(value, y0)[0], bottom + 8),
            f"{value:g}",
            fill=SOFT,
            font=font,
            anchor="ma",
        )
    for mark in marks:
        x = at(mark, y0)[0]
        pen.line([(x, top), (x, bottom)], fill=_GREY, width=2)
    pen.line([(left, bottom), (right, bottom)], fill=SOFT, width=2)
    pen.text(((left + right) / 2, h - 8), legible(x_label), fill=INK, font=font, anchor="mb")
    tag = Image.new("RGB", (bottom - top + 60, 34), (255, 255, 255))
    ImageDraw.Draw(tag).text((tag.width / 2, 2), legible(y_label), fill=INK, font=font, anchor="ma")
    image.paste(tag.rotate(90, expand=True), (0, max(0, (top + bottom) // 2 - tag.width // 2)))
    place = float(left)
    for k, (name, x, y) in enumerate(lines):
        colour = _COLOURS[k % len(_COLOURS)]
        places = [at(a, b) for a, b in zip(x, y, strict=True) if np.isfinite(b)]
        if not points and len(places) > 1:
            pen.line(places, fill=colour, width=5)
        if points or len(places) < 40:
            for px, py in places:
                pen.ellipse([px - 7, py - 7, px + 7, py + 7], fill=colour)
        if len(lines) > 1:
            pen.line([(place, 20), (place + 36, 20)], fill=colour, width=6)
            pen.text((place + 44, 20), name, fill=INK, font=font, anchor="lm")
            place += 70 + pen.textlength(name, font=font)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


def draw_text(lines: Sequence[str], width: int = 776, size: int = 15) -> NDArray[np.uint8]:
    """Draw lines of text as a picture: for steps whose result is a table."""
    image = Image.new("RGB", (width, (size + 8) * len(lines) + 16), (245, 247, 249))
    pen = ImageDraw.Draw(image)
    for k, line in enumerate(lines):
        write(pen, (10, 8 + k * (size + 8)), line, size, INK, width - 20)
    return np.asarray(image)


def draw_table(
    rows: Sequence[dict[str, str]],
    columns: Sequence[str],
    most: int = 9,
    width: int = 776,
) -> NDArray[np.uint8]:
    """Draw the first rows of a table."""
    size, high = 14, 24
    shown = list(rows[:most])
    image = Image.new("RGB", (width, high * (len(shown) + 1) + 12), (245, 247, 249))
    pen = ImageDraw.Draw(image)
    step = (width - 16) / len(columns)
    for j, name in enumerate(columns):
        write(pen, (10 + j * step, 6), name, size, INK, step - 10)
        for i, row in enumerate(shown):
            write(
                pen,
                (10 + j * step, 8 + high * (i + 1)),
                row.get(name, "") or "-",
                size,
                SOFT,
                step - 10,
            )
    pen.line([(8, high + 2), (width - 8, high + 2)], fill=_GREY)
    return np.asarray(image)


def checkerboard(first: NDArray[Any], second: NDArray[Any], cells: int = 8) -> NDArray[Any]:
    """Show fields of two pictures in turn: where they agree, lines run on from field to field."""
    side = max(1, min(first.shape) // cells)
    y, x = np.indices(first.shape)
    return np.where((y // side + x // side) % 2 == 0, first, second)


def number(text: str) -> str:
    """Write a number of a table in few digits."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


# --- one function per step ----------------------------------------------------------------------------


@picture(
    "create_mosaic_grid",
    "A slice's tiles side by side, overlaps seen twice; the return lines of the galvo, found by their brightness, are cut away.",
)
def _create_mosaic_grid(run: Run) -> Drawing:
    k = run.middle("create_mosaic_grid")
    grid = open_mosaic_grid(run.path("create_mosaic_grid", k))
    rows = [
        np.concatenate([grid.read_tile(r, c).mean(axis=0) for c in range(grid.cols)], axis=1)
        for r in range(grid.rows)
    ]
    profile = run.figures("create_mosaic_grid", k)["profile"]
    return Drawing(
        [
            Panel(paint(log(np.concatenate(rows))), "mosaic grid, mean over depth"),
            Panel(
                draw_chart(
                    [("", np.arange(len(profile)), profile)],
                    "A-line as recorded",
                    "brightness",
                    size=(382, 382),
                ),
                "where the galvo returns, tissue is washed out",
            ),
        ]
    )


@picture(
    "estimate_xy_shifts",
    "Where the stage puts each slice; a reading that jumps and comes back is kept here and mended later.",
)
def _estimate_xy_shifts(run: Run) -> Drawing:
    rows = run.rows("estimate_xy_shifts", "shifts_xy.csv")
    ids = [int(r["moving_id"]) for r in rows]
    chart = draw_chart(
        [(f"along {a}", ids, [float(r[f"{a}_shift_mm"]) for r in rows]) for a in ("y", "x")],
        "slice", "shift against the slice before (mm)", size=(776, 260),
    )  # fmt: skip
    return Drawing([Panel(chart, "shifts between slices, from stage positions")], 1)


@picture(
    "generate_slice_config",
    "The ledger begins: one row per slice, used or not, and why.",
)
def _generate_slice_config(run: Run) -> Drawing:
    rows = run.rows("generate_slice_config", "slice_config.csv")
    columns = (
        "slice_id",
        "use",
        "exclude_reason",
        "galvo_confidence",
        "rehomed",
        "notes",
    )
    shown = [{**r, "galvo_confidence": number(r.get("galvo_confidence", ""))} for r in rows]
    return Drawing([Panel(draw_table(shown, columns), "slice_config.csv")], 1)


@picture(
    "analyze_shifts",
    "Drift of the stage added up over the slices; steps that stand out are listed.",
)
def _analyze_shifts(run: Run) -> Drawing:
    rows = run.rows("estimate_xy_shifts", "shifts_xy.csv")
    report = run.document("analyze_shifts", "shifts_analysis.json")
    ids = [int(r["moving_id"]) for r in rows]
    outliers = report.get("outliers", [])
    chart = draw_chart(
        [(f"along {a}", ids, np.cumsum([float(r[f"{a}_shift_mm"]) for r in rows])) for a in ("y", "x")],
        "slice", "drift of the stage (mm)", size=(776, 260), marks=[float(m) for _, m in outliers],
    )  # fmt: skip
    return Drawing([Panel(chart, "drift of the stage", "vertical lines: steps that stand out")], 1)


@picture(
    "resample_mosaic_grid",
    "A B-scan as recorded and on a coarser grid, averaged so that speckle does not alias; here to 50 um, so that it shows.",
)
def _resample_mosaic_grid(run: Run) -> Drawing:
    from soct.geometry.resampling import plan_resampling, resample_tile

    grid = open_mosaic_grid(run.path("create_mosaic_grid", run.middle("create_mosaic_grid")))
    tile = grid.read_tile(grid.rows // 2, grid.cols // 2)
    plan = plan_resampling(grid.tile_shape, grid.voxel_um, 50.0)
    drawn = []
    for data, voxel_um, label in (
        (tile, grid.voxel_um, "as recorded"),
        (resample_tile(tile, plan), plan.voxel_um, "resampled"),
    ):
        voxel = " x ".join(f"{v:.3g}" for v in voxel_um)
        image = log(data[:, data.shape[1] // 2])
        square = np.repeat(
            np.repeat(image, 56 // image.shape[0] + 1, 0), 80 // image.shape[1] + 1, 1
        )
        drawn.append(Panel(paint(square), label, f"voxel {voxel} um"))
    return Drawing(drawn)


@picture(
    "fix_focal_curvature",
    "One B-scan of a tile before and after: the bowl that the scan optics bend into a flat surface is measured once for all tiles and taken out.",
)
def _fix_focal_curvature(run: Run) -> Drawing:
    from soct.geometry.focal_curvature import shift_a_lines

    depth = run.figures("fix_focal_curvature", name="focal_curvature")["depth_px"]
    k = run.middle("create_mosaic_grid")
    grid = open_mosaic_grid(run.path("resample_mosaic_grid", k))
    tile = grid.read_tile(grid.rows // 2, grid.cols // 2)
    flat = shift_a_lines(tile, depth.astype(np.float32)) if np.any(depth) else tile
    top = slice(0, 40)
    row = 3
    drawn = pair(
        log(tile[top, row : row + 3].mean(axis=1)),
        log(np.nanmean(flat[top, row : row + 3], axis=1)),
        ("before", "after"),
        "the upper 40 samples at the edge of a tile",
    )
    field = Panel(
        paint(depth, colours="cividis"),
        "depth shift over the field of view",
        f"{round(float(depth.min()), 1) + 0.0:.1f} (dark) to {depth.max():.1f} samples",
    )
    return Drawing([*drawn.panels, field], 3)


@picture(
    "fix_illumination",
    "Shading repeats in every tile; the field that all tiles share is estimated and divided out.",
)
def _fix_illumination(run: Run) -> Drawing:
    saved = run.figures("fix_illumination")
    drawn = pair(saved["before"], saved["after"], ("before", "after"))
    flat = saved["flat"]
    field = Panel(
        paint(flat),
        "flat field",
        f"{flat.min():.2f} (dark) to {flat.max():.2f}",
    )
    return Drawing([*drawn.panels, field], 3)


@picture(
    "stitch_3d_with_refinement",
    "Tiles at the stage's positions, and where matching their overlaps put them: edges that break at seams run on.",
)
def _stitch(run: Run) -> Drawing:
    saved = run.figures("stitch_3d_with_refinement", run.middle())
    before, after = saved["before"], saved["after"]
    box = _at_a_seam(saved, before.shape, after.shape)
    window = robust_window(before, after)
    return Drawing(
        [
            Panel(paint(after, window=window), "stitched"),
            Panel(paint(before[box], window=window), "a seam, stage only"),
            Panel(paint(after[box], window=window), "the same, stitched"),
        ],
        3,
    )


def _at_a_seam(saved: dict[str, Any], *shapes: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the thumbnails around the overlap whose tiles moved most against each other."""
    nominal, found, pairs = saved["nominal_px"], saved["positions_px"], saved["pairs"]
    h, w = (min(s[k] for s in shapes) for k in (0, 1))
    step = max((nominal.max(axis=0) + saved["tile_shape"])[0] / shapes[0][0], 1e-6)
    moved = found - nominal
    size = np.hypot(*(moved[pairs[:, 1]] - moved[pairs[:, 0]]).T)
    middle = (nominal[pairs].mean(axis=1) + saved["tile_shape"] / 2) / step
    inner = np.abs(middle - (h / 2, w / 2)).max(axis=1) < 0.3 * h
    y, x = middle[np.argmax(np.where(inner, size, -1))]
    half = max(16, min(h, w) // 6)
    y0 = int(np.clip(y - half, 0, h - 2 * half))
    x0 = int(np.clip(x - half, 0, w - 2 * half))
    return slice(y0, y0 + 2 * half), slice(x0, x0 + 2 * half)


@picture(
    "motor_only_stitch",
    "The same slice by stage positions alone, without blending: every break is an error of the stage or of the camera's angle.",
)
def _motor_only_stitch(run: Run) -> Drawing:
    k = run.middle()
    saved, stitched = (
        run.figures("motor_only_stitch", k),
        run.figures("stitch_3d_with_refinement", k),
    )
    return Drawing(
        [
            Panel(paint(saved["mean"]), "motor only, as this step makes it"),
            Panel(paint(stitched["after"]), "stitched, for comparison"),
        ]
    )


@picture(
    "compare_stitching",
    "Correlation of both sides of every overlap by the stage and stitched, and how far each tile was moved.",
)
def _compare_stitching(run: Run) -> Drawing:
    saved = run.figures("compare_stitching", run.middle())
    n = np.arange(len(saved["ncc_after"]))
    chart = draw_chart(
        [("stage only", n, saved["ncc_before"]), ("stitched", n, saved["ncc_after"])],
        "overlap", "correlation", points=True, size=(382, 300),
    )  # fmt: skip
    return Drawing(
        [
            Panel(chart, "overlaps of one slice"),
            Panel(_arrows(saved), "how tiles were moved", "arrows enlarged"),
        ]
    )


def _arrows(saved: dict[str, Any]) -> NDArray[np.uint8]:
    at, moved = saved["nominal_px"], saved["moved_um"]
    image = Image.new("RGB", (764, 600), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    span = max(float(np.ptp(at, axis=0).max()), 1.0)
    scale = 430 / span
    longest = max(float(np.hypot(*moved.T).max()), 1e-6)
    for (y, x), (dy, dx) in zip((at - at.min(axis=0)) * scale, moved / longest * 110, strict=True):
        cy, cx = 80 + y, 150 + x
        pen.line([(cx, cy), (cx + dx, cy + dy)], fill=_ORANGE, width=7)
        pen.ellipse([cx - 8, cy - 8, cx + 8, cy + 8], fill=INK)
    font: Any = ImageFont.load_default(26)
    pen.text((382, 590), f"longest arrow: {longest:.0f} um", fill=INK, font=font, anchor="mb")
    return np.asarray(image)


@picture(
    "analyze_acquisition_rotation",
    "The angle between the stage's axes and the camera's, slice by slice: the same everywhere is a mounting, wandering is something loose.",
)
def _acquisition_rotation(run: Run) -> Drawing:
    saved = run.figures("analyze_acquisition_rotation")
    ids, angle, error = (
        saved["slice_ids"],
        saved["rotation_deg"],
        saved["rotation_error_deg"],
    )
    chart = draw_chart(
        [("angle", ids, angle), ("+2 errors", ids, angle + 2 * error), ("-2 errors", ids, angle - 2 * error)],
        "slice", "angle (deg)", size=(776, 260),
    )  # fmt: skip
    verdict = run.document("analyze_acquisition_rotation", "acquisition_rotation.json")["verdict"]
    return Drawing([Panel(chart, "stage against camera", verdict)], 1)


@picture(
    "analyze_tile_dilation",
    "How much farther apart tiles were found than the stage says, slice by slice.",
)
def _tile_dilation(run: Run) -> Drawing:
    saved = run.figures("analyze_tile_dilation")
    percent = 100 * (saved["scale"] - 1)
    chart = draw_chart(
        [(f"along {a}", saved["slice_ids"], percent[:, k]) for k, a in enumerate("yx")],
        "slice", "dilation (%)", size=(776, 260),
    )  # fmt: skip
    verdict = run.document("analyze_tile_dilation", "tile_dilation.json")["verdict"]
    return Drawing([Panel(chart, "measured over expected distance, less 1", verdict)], 1)


@picture(
    "crop_interface",
    "The cut surface, found in every A-line and fitted smoothly (orange); data above the crop (blue) are left out.",
)
def _crop_interface(run: Run) -> Drawing:
    k = run.middle()
    volume = run.volume("stitch_3d_with_refinement", k)
    found = run.figures("crop_interface", k)
    row = volume.shape[1] // 2
    image = np.repeat(paint(log(section(volume, row))), 4, axis=0)
    image = np.repeat(image, 4, axis=1)
    for x, depth in enumerate(found["depth_px"][row]):
        z = round(4 * (float(depth) + 0.5))
        image[max(z - 1, 0) : z + 1, 4 * x : 4 * x + 4] = _ORANGE
    z = 4 * int(found["crop_px"])
    image[max(z - 1, 0) : z + 1] = _BLUE
    height = found["surface"]
    return Drawing(
        [
            Panel(image, "one B-scan of the stitched slice"),
            Panel(
                paint(height, colours="cividis"),
                "depth of the surface",
                f"{np.nanmin(height):.0f} (dark) to {np.nanmax(height):.0f} µm",
            ),
        ]
    )


@picture(
    "beam_profile_correction",
    "Sensitivity over depth, shared by all slices: solved from tissue that two slices see at different depths.",
)
def _beam_profile(run: Run) -> Drawing:
    saved = run.figures("beam_profile_correction")
    depth = saved["depth_um"]
    some = saved["before"][:: max(1, len(saved["before"]) // 4)][:4]
    with np.errstate(all="ignore"):
        before = [(f"slice {k}", depth, np.where(s > 0, s, np.nan)) for k, s in enumerate(some)]
    return Drawing(
        [
            Panel(
                draw_chart([(n, d, v) for n, d, v in before], "depth (µm)", "mean brightness"),
                "slices as measured",
            ),
            Panel(
                draw_chart(
                    [("", depth, saved["profile"])],
                    "depth (µm)",
                    "relative sensitivity",
                ),
                "sensitivity that they share",
            ),
        ]
    )


@picture(
    "compensate_attenuation",
    "One section before and after: tissue no longer fades with depth, and every slice begins at its surface.",
)
def _compensate_attenuation(run: Run) -> Drawing:
    k = run.middle()
    before, after = (
        section(run.volume(s, k)) for s in ("stitch_3d_with_refinement", "compensate_attenuation")
    )
    crop = int(run.figures("crop_interface", k)["crop_px"])
    before = before[crop : crop + after.shape[0]]
    panels = [
        Panel(
            paint(np.repeat(image, 3, axis=0), window=robust_window(image, high=99)),
            label,
        )
        for image, label in ((before, "before"), (after, "after"))
    ]
    return Drawing(panels)


@picture(
    "detect_rehoming_events",
    "A reading of the stage that jumps and comes back is a glitch: both steps are mended, their sum is kept.",
)
def _rehoming(run: Run) -> Drawing:
    rows = run.rows("detect_rehoming_events", "shifts_xy_clean.csv")
    ids = [int(r["moving_id"]) for r in rows]
    panels = []
    for axis in ("y", "x"):
        chart = draw_chart(
            [
                ("as read", ids, [float(r.get(f"raw_{axis}_mm") or r[f"{axis}_shift_mm"]) for r in rows]),
                ("corrected", ids, [float(r[f"{axis}_shift_mm"]) for r in rows]),
            ],
            "slice", "shift (mm)",
        )  # fmt: skip
        panels.append(Panel(chart, f"steps of the stage along {axis}"))
    return Drawing(panels)


@picture(
    "bring_to_common_space",
    "Outlines of all slices on one canvas, by the corrected stage positions.",
)
def _common_space(run: Run) -> Drawing:
    space = run.document("bring_to_common_space", "common_space.json")
    rows = space["slices"]
    image = Image.new("RGB", (776, 420), (255, 255, 255))
    pen = ImageDraw.Draw(image)
    low = np.array([[r["y_px"], r["x_px"]] for r in rows.values()])
    high = low + [r["shape"][1:] for r in rows.values()]
    scale = min(
        400 / float(np.ptp(np.r_[low, high][:, 0])),
        740 / float(np.ptp(np.r_[low, high][:, 1])),
    )
    for k, (a, b) in enumerate(zip(low, high, strict=True)):
        y0, x0 = (a - low.min(axis=0)) * scale + 8
        y1, x1 = (b - low.min(axis=0)) * scale + 8
        pen.rectangle([x0 + 150, y0, x1 + 150, y1], outline=_COLOURS[k % 4], width=2)
    return Drawing([Panel(np.asarray(image), "where the stage puts every slice")], 1)


@picture(
    "motor_only_stack",
    "The stack by the stage alone, brightness as recorded; below, the final volume for comparison.",
)
def _motor_only_stack(run: Run) -> Drawing:
    motor, final = run.figures("motor_only_stack"), run.figures("stack")
    panels = []
    for image, voxel, label in (
        (motor["ortho_y"], motor["voxel_um"], "motor only, reslice (z, x)"),
        (final["ortho_y"], final["voxel_um"], "final, reslice (z, x)"),
    ):
        tall = _physical(image, float(voxel[0]), float(voxel[2]))
        panels.append(Panel(paint(tall), label))
    return Drawing(panels, 1)


def _physical(image: NDArray[Any], z_um: float, x_um: float) -> NDArray[Any]:
    """Return a reslice in its physical shape, by repeating or averaging planes."""
    if z_um >= x_um:
        return np.repeat(image, max(1, round(z_um / x_um)), axis=0)
    shape = (max(1, round(image.shape[0] * z_um / x_um)), image.shape[1])
    filled = np.where(np.isfinite(image), image, 0).astype(np.float32)
    small = np.asarray(Image.fromarray(filled).resize((shape[1], shape[0]), Image.Resampling.BOX))
    return np.where(small == 0, np.nan, small)


@picture(
    "register_pairwise",
    "Two slices in one picture, fields in turn: by the stage the lines break between the fields, registered they run on.",
)
def _register_pairwise(run: Run) -> Drawing:
    from soct.registration.transforms import RigidTransform2D

    poses = run.document("estimate_slice_poses", "slice_poses.json")["slices"]
    fixed, moving = _worst_pair(run)
    pictures: dict[str, list[NDArray[Any]]] = {"motor": [], "pair": []}
    found = _pair_document(run, fixed, moving)
    transform = found["transform"]
    measured = RigidTransform2D(
        transform["rotation_deg"],
        tuple(transform["shift_px"]),
        tuple(transform["centre_px"]),
    )
    stage = np.subtract(poses[str(moving)]["stage_px"][1:], poses[str(fixed)]["stage_px"][1:])
    deep = _deep_plane(run, fixed)
    shallow = _first_plane(run, moving)
    for name, mapping in (
        (
            "motor",
            RigidTransform2D(0.0, (float(stage[0]), float(stage[1])), (0.0, 0.0)),
        ),
        ("pair", measured),
    ):
        pictures[name] = [deep, _warp(shallow, mapping, deep.shape)]
    panels = [
        Panel(
            paint(checkerboard(*(_level(i) for i in pictures[name])), window=(-1.5, 2.5)),
            label,
            f"slices {fixed} and {moving}",
        )
        for name, label in (("motor", "by the stage"), ("pair", "registered"))
    ]
    return Drawing(panels)


def _worst_pair(run: Run) -> tuple[int, int]:
    saved = run.figures("estimate_slice_poses")
    pairs, shift = saved["pairs"], np.hypot(*saved["pair_shift_um"].T)
    near = pairs[:, 1] - pairs[:, 0] == 1
    best = np.argmax(np.where(near & (saved["pair_confidence"] > 0.3), shift, -1))
    return int(pairs[best, 0]), int(pairs[best, 1])


def _pair_document(run: Run, fixed: int, moving: int) -> dict[str, Any]:
    name = f"slice_z{moving:02d}_on_z{fixed:02d}/pairwise_registration_metrics.json"
    content: dict[str, Any] = json.loads(
        next((run.folder / "register_pairwise").glob(name)).read_text()
    )
    return content


def _deep_plane(run: Run, k: int) -> NDArray[Any]:
    volume = run.volume("compensate_attenuation", k)
    n = volume.shape[0]
    return mean_depth(volume, (n // 3, min(n // 3 + 10, n)))


def _first_plane(run: Run, k: int) -> NDArray[Any]:
    volume = run.volume("compensate_attenuation", k)
    return mean_depth(volume, (1, min(11, volume.shape[0])))


def _level(image: NDArray[Any]) -> NDArray[Any]:
    """Return log brightness with mean 0 and standard deviation 1: two depths differ in both."""
    data = log(image)
    return (data - np.nanmean(data)) / np.nanstd(data)


def _warp(image: NDArray[Any], transform: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    from scipy import ndimage as ndi

    matrix = transform.matrix()
    filled = np.nan_to_num(image)
    known = ndi.affine_transform(
        np.isfinite(image).astype(float), matrix[:2, :2], matrix[:2, 2], shape, order=1
    )
    warped = ndi.affine_transform(filled, matrix[:2, :2], matrix[:2, 2], shape, order=1)
    return np.where(known > 0.99, warped / np.maximum(known, 0.5), np.nan)


@picture(
    "estimate_slice_poses",
    "Where every slice lies after one solution over all pairs, against what the stage said.",
)
def _poses(run: Run) -> Drawing:
    saved = run.figures("estimate_slice_poses")
    ids, moved = saved["slice_ids"], saved["pose_um"] - saved["stage_um"]
    moved = moved - moved[len(moved) // 2]
    return Drawing(
        [
            Panel(
                draw_chart(
                    [("along y", ids, moved[:, 1]), ("along x", ids, moved[:, 2])],
                    "slice",
                    "final - stage (µm)",
                ),
                "position in the plane",
            ),
            Panel(
                draw_chart([("", ids, saved["rotation_deg"])], "slice", "rotation (deg)"),
                "rotation",
            ),
        ]
    )


@picture(
    "analyze_rotation_drift",
    "Rotation of the slices: pairs added up against all pairs solved together.",
)
def _rotation_drift(run: Run) -> Drawing:
    saved = run.figures("analyze_rotation_drift")
    ids = saved["slice_ids"]
    chart = draw_chart(
        [("solved together", ids, saved["solved_deg"]), ("pairs added up", ids, saved["cumulative_deg"])],
        "slice", "rotation against the first (deg)", size=(776, 260),
    )  # fmt: skip
    verdict = run.document("analyze_rotation_drift", "rotation_drift.json")["verdict"]
    return Drawing([Panel(chart, "how the slices turn", verdict)], 1)


@picture(
    "normalize",
    "Brightness of the slices before and after one gain per slice: bands go, anatomy stays.",
)
def _normalize(run: Run) -> Drawing:
    saved = run.figures("normalize")
    ids = saved["slice_ids"]
    chart = draw_chart(
        [(n, ids, saved[n] / np.nanmean(saved[n])) for n in ("before", "after")],
        "slice",
        "level of tissue over its mean",
    )
    gain = draw_chart([("", ids, saved["gain"])], "slice", "gain")
    return Drawing(
        [
            Panel(chart, "typical brightness of tissue"),
            Panel(gain, "gain of each slice"),
        ]
    )


@picture(
    "stack",
    "A section through all slices: by the stage alone, and as stacked - in place, of one brightness, without gaps.",
)
def _stack(run: Run) -> Drawing:
    saved = run.figures("stack")
    vz, _, vx = (float(v) for v in saved["voxel_um"])
    window = robust_window(saved["motor_y"], saved["ortho_y"])
    panels = [
        Panel(paint(_physical(saved[name], vz, vx), window=window), label)
        for name, label in (
            ("motor_y", "slices where the stage puts them"),
            ("ortho_y", "stacked"),
        )
    ]
    return Drawing(panels, 1)


@picture(
    "auto_assess_quality",
    "Score of every slice against its neighbours; those below the limit are left out of the volume.",
)
def _auto_assess_quality(run: Run) -> Drawing:
    with (run.folder / "slice_config_final.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    scores = [float(r["quality_score"] or "nan") for r in rows]
    ids = [int(r["slice_id"]) for r in rows]
    chart = draw_chart([("", ids, scores)], "slice", "quality score", size=(776, 260))
    return Drawing([Panel(chart, "score of every slice")], 1)


@picture(
    "auto_exclude_slices",
    "Pairs by similarity and shift: those that lie apart from the crowd, and runs of pairs that are unlike, are bad registrations; the stage then places the slice.",
)
def _auto_exclude_slices(run: Run) -> Drawing:
    saved = run.figures("estimate_slice_poses")
    near = saved["pairs"][:, 1] - saved["pairs"][:, 0] == 1
    shift = np.hypot(*saved["pair_shift_um"].T)
    chart = draw_chart(
        [("", saved["pair_ncc"][near], shift[near])],
        "similarity (NCC)",
        "shift (um)",
        size=(776, 260),
        points=True,
    )
    return Drawing([Panel(chart, "pairs of neighbouring slices")], 1)


def _preview(run: Run, step: str, stem: str) -> NDArray[np.uint8]:
    found = sorted((run.folder / step).glob(f"{stem}_z*.png"))
    return np.asarray(Image.open(found[len(found) // 2]).convert("RGB"))


@picture(
    "generate_aip",
    "Average over depth of one slice's mosaic grid: tiles side by side, overlaps seen twice. The quickest look at the raw data.",
)
def _generate_aip(run: Run) -> Drawing:
    return Drawing([Panel(_preview(run, "generate_aip", "aip"), "average intensity projection"),
                    Panel(paint(run.figures("stitch_3d_with_refinement", run.middle())["after"]), "the same slice stitched, for comparison")])  # fmt: skip


@picture(
    "mosaic_preview",
    "One slice with its tiles where the stage says, before anything is matched: for a look while the acquisition goes on.",
)
def _mosaic_preview(run: Run) -> Drawing:
    return Drawing([Panel(_preview(run, "mosaic_preview", "preview"), "preview, as this step makes it"),
                    Panel(paint(run.figures("stitch_3d_with_refinement", run.middle())["after"]), "the same slice stitched, for comparison")])  # fmt: skip


@picture(
    "estimate_global_transform",
    "One model of the stage against the camera for all slices (line), from the pairs of each slice (points): turn and scale that place tiles without texture.",
)
def _global_transform(run: Run) -> Drawing:
    found = run.document("estimate_global_transform", "global_transform.json")
    ids = sorted(int(i) for i in found["slices"])
    single = [np.array(found["slices"][str(i)]["matrix_yx"]) for i in ids]
    pooled = np.array(found["matrix_yx"])

    def turn(m: NDArray[Any]) -> float:
        return float(np.degrees(np.arctan2(m[0, 1] - m[1, 0], m[0, 0] + m[1, 1])))

    def scale(m: NDArray[Any]) -> float:
        return 100 * (float(np.sqrt(abs(np.linalg.det(m)))) - 1)

    panels = []
    for measure, label, title in (
        (turn, "turn (deg)", "stage against camera"),
        (scale, "scale - 1 (%)", "distances"),
    ):
        lines = [
            ("each slice", ids, [measure(m) for m in single]),
            ("all slices", ids, [measure(pooled)] * len(ids)),
        ]
        panels.append(Panel(draw_chart(lines, "slice", label), title))
    return Drawing(panels)


@picture(
    "interpolate_missing_slice",
    "A slice that was not imaged, made from the faces above and below it by half of the transform between them; it is marked as made up everywhere.",
)
def _interpolate(run: Run) -> Drawing:
    saved = run.figures("interpolate_missing_slice")
    k = saved["slice_ids"][0]
    window = robust_window(saved[f"before_{k}"], saved[f"after_{k}"])
    panels = [
        Panel(paint(saved[f"{name}_{k}"], window=window), label)
        for name, label in (
            ("before", "the face above"),
            ("middle", f"slice {k}, interpolated"),
            ("after", "the face below"),
        )
    ]
    return Drawing(panels, 3)


@picture(
    "correct_bias_field",
    "Slow unevenness of brightness, estimated and divided out: a section before and after, and the field.",
)
def _bias_field(run: Run) -> Drawing:
    saved = run.figures("correct_bias_field")
    vz, _, vx = (float(v) for v in saved["voxel_um"])
    window = robust_window(saved["reslice_before"], saved["reslice_after"])
    field = _physical(saved["reslice_field"], vz, vx)
    panels = [
        Panel(paint(_physical(saved[f"reslice_{name}"], vz, vx), window=window), name)
        for name in ("before", "after")
    ]
    low, high = float(np.nanmin(field)), float(np.nanmax(field))
    panels.append(
        Panel(
            paint(field, window=(low, max(high, low + 1e-6))),
            "the field",
            f"{low:.2f} (dark) to {high:.2f}",
        )
    )
    return Drawing(panels, 1)


@picture(
    "normalize_z_intensity",
    "Brightness of the planes from top to bottom before and after: what drifts over depth is evened out, within the strength asked for.",
)
def _z_intensity(run: Run) -> Drawing:
    saved = run.figures("normalize_z_intensity")
    vz = float(saved["voxel_um"][0])
    depth = np.arange(len(saved["plane_before"])) * vz / 1000
    chart = draw_chart(
        [(n, depth, saved[f"plane_{n}"]) for n in ("before", "after")],
        "depth (mm)",
        "brightness of tissue",
        size=(776, 240),
        marks=[float(b) * vz / 1000 for b in saved["z_boundaries"][1:-1]],
    )
    return Drawing([Panel(chart, "plane by plane; lines: where slices meet")], 1)


@picture(
    "align_to_ras",
    "A made-up brain (`soct atlas phantom`), turned by 14 degrees and 5 % too large, before and after; the line is the template's outline.",
)
def _atlas(run: Run) -> Drawing:
    saved = run.figures("align_to_ras")
    cuts = sorted(n.removesuffix("_template") for n in saved if n.endswith("_template"))
    panels = []
    for part, label in (("before", "centre on centre"), ("brain", "aligned")):
        for cut in cuts:
            grey = paint(saved[f"{cut}_{part}"], window=robust_window(saved[f"{cut}_brain"]))
            grey = np.asarray(Image.fromarray(grey).convert("RGB")).copy()
            grey[saved[f"{cut}_outline"]] = _ORANGE
            panels.append(Panel(grey, f"{label}: {cut}"))
    return Drawing(panels, len(cuts))


# --- whatever has no function -------------------------------------------------------------------------


def draw_anything(run: Run, step_id: str) -> Drawing:
    """Draw a step by what it made: pictures, a volume before and after, figures, or the beginning of a table."""
    folder = run.folder / step_id
    pngs = sorted(folder.glob("*.png"))
    if pngs:
        chosen = pngs[len(pngs) // 2]
        return Drawing([Panel(np.asarray(Image.open(chosen).convert("RGB")), chosen.name)], 1)
    if sorted(folder.glob("*.ome.zarr")):
        return _before_after(run, step_id)
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as saved:
            arrays = dict(saved)
        flat = [(n, a) for n, a in arrays.items() if np.ndim(a) == 2 and min(a.shape) > 8]
        if flat:
            return Drawing(
                [Panel(paint(a), n.replace("_", " ")) for n, a in flat[:2]],
                len(flat[:2]),
            )
        lines = [
            (n, a) for n, a in arrays.items() if np.ndim(a) == 1 and a.size > 1 and n != "slice_ids"
        ]
        if lines:
            name, values = lines[0]
            return Drawing(
                [
                    Panel(
                        draw_chart(
                            [("", np.arange(values.size), values)],
                            "number",
                            name,
                            size=(776, 260),
                        ),
                        name,
                    )
                ],
                1,
            )
    for path in sorted(folder.glob("*.csv")):
        rows = run.rows(step_id, path.name)
        return Drawing([Panel(draw_table(rows, list(rows[0])[:7]), path.name)], 1)
    for path in sorted(folder.glob("*.json")):
        text = json.dumps(json.loads(path.read_text()), indent=1).splitlines()[:14]
        return Drawing([Panel(draw_text(text), path.name)], 1)
    raise FileNotFoundError(f"{step_id} made nothing that can be drawn")


def _before_after(run: Run, step_id: str) -> Drawing:
    """Middle plane and reslice of the newest volume that the step reads, and of its own."""
    sources = [i.step for i in load_steps()[step_id].inputs]
    own = run.slices(step_id)
    k = own[len(own) // 2] if own else None
    source = next((s for s in reversed(sources) if _has_image(run, s)), None)
    planes, cuts = [], []
    for step, label in ((source, "before"), (step_id, "after")):
        if step is not None:
            volume = run.volume(step, k if run.slices(step) else None)
            vz, _, vx = volume.voxel_um
            planes.append(Panel(paint(mean_depth(volume, _middle_planes(volume))), label, step))
            cuts.append(Panel(paint(_physical(section(volume), vz, vx)), f"{label}, section"))
    return Drawing([*planes, *cuts], 2)


def _has_image(run: Run, step: str) -> bool:
    return any((run.folder / step).glob("*.ome.zarr")) and "grid" not in run.path(step).name


def _middle_planes(volume: VolumeReader) -> tuple[int, int]:
    n = volume.shape[0]
    return max(n // 2 - 2, 0), min(n // 2 + 3, n)


# --- the command --------------------------------------------------------------------------------------


def draw_step(run: Run, step_id: str) -> bytes:
    """Return the PNG of one step, its caption inside."""
    caption, draw = PICTURES.get(step_id, ("", lambda r: draw_anything(r, step_id)))
    drawing = draw(run)
    caption = caption or load_steps()[step_id].summary
    data = b""
    # Speckle is what costs most: pictures (not charts) are smoothed a little before colours become too few.
    for blur in (0.0, 0.7, 1.2, 2.0):
        panels = [_softened(panel, blur) for panel in drawing.panels]
        sheet = draw_sheet(panels, columns=drawing.columns)
        for colours in (128, 64, 40):
            data = encode_sheet(sheet, LIMIT, caption, most=colours)
            if len(data) <= LIMIT:
                return data
    return encode_sheet(sheet, LIMIT, caption)


def _softened(panel: Panel, blur: float) -> Panel:
    image = panel.image
    if not blur or np.any(image[..., 0] != image[..., 2]):
        return panel
    soft = (
        Image.fromarray(image)
        .resize((image.shape[1], image.shape[0]))
        .filter(ImageFilter.GaussianBlur(blur))
    )
    return Panel(np.asarray(soft), panel.label, panel.note)


def draw_all(run: Run, steps: Sequence[str] = (), folder: Path = FOLDER) -> list[str]:
    """Draw the steps (all where none is named); return what could not be drawn, and why."""
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for step_id in steps or list(load_steps()):
        try:
            (folder / f"{step_id}.png").write_bytes(draw_step(run, step_id))
        except (OSError, KeyError, ValueError, IndexError, StopIteration) as error:
            failed.append(f"{step_id}: {type(error).__name__}: {error}")
    return failed


def make_run(folder: Path) -> Run:
    """Simulate and reconstruct, with every step that can be switched on."""
    switched = [
        f"{name}:\n  enabled: true"
        for name, step in load_steps().items()
        if "enabled" in step.params.model_fields and name not in NOT_SWITCHED_ON
    ]
    folder.mkdir(parents=True, exist_ok=True)
    profile = folder / "pictures.yaml"
    profile.write_text("name: pictures\nextends: default\n" + "\n".join(switched) + "\n")
    subprocess.run([*SOCT, "simulate", str(folder / "made"), *SIMULATION], check=True)
    # A step that fails here shows in the list of those that could not be drawn.
    subprocess.run(
        [
            *SOCT,
            "run",
            str(folder / "made/raw"),
            str(folder / "run"),
            "--profile",
            str(profile),
        ],
        check=False,
    )
    align_a_phantom(folder)
    return Run(folder / "run")


def align_a_phantom(folder: Path) -> None:
    """Align a made-up atlas, turned and enlarged, to itself: the simulated brain belongs to no atlas."""
    voxel = 100.0
    template, _ = make_phantom(voxel)
    turn = Rotation.from_rotvec((9, -7, 8), degrees=True).as_matrix() * 1.05
    there = template.reoriented("PIR")
    shape = tuple(n + 8 for n in there.data.shape)
    back = np.linalg.inv(turn)
    middle = (np.array(there.data.shape) - 1) / 2 - back @ ((np.array(shape) - 1) / 2)
    data = ndimage.affine_transform(
        there.data.astype(np.float32), back, middle, shape, order=1, cval=30
    )
    volume = folder / "turned.ome.zarr"
    size = Voxel(voxel, voxel, voxel)
    with PyramidWriter(volume, shape, size, (voxel, 2 * voxel), orientation="PIR") as writer:
        writer.append(np.maximum(data, 1).astype(np.float32), np.ones(shape, bool))
    write_phantom_atlas(folder / "ATLAS", voxel)
    arguments = ["--in", f"stack.volume={volume}", "--template", str(folder / "ATLAS"), "--orientation", "PIR",
                 "--resolution-um", "100", "--out", str(folder / "run" / "align_to_ras")]  # fmt: skip
    subprocess.run([*SOCT, "align-to-ras", *arguments], check=False)


NOT_SWITCHED_ON: frozenset[str] = frozenset({"align_to_ras"})
"""Steps that need what a simulated run cannot give (an atlas, transforms made by hand)."""


def main(arguments: Sequence[str]) -> int:
    """Make the run (or take the one that is named), draw, and tell what is missing."""
    if arguments and (Path(arguments[0]) / "run.json").exists():
        run, steps = Run(Path(arguments[0])), arguments[1:]
    else:
        run, steps = make_run(Path(arguments[0] if arguments else "pictures")), ()
    failed = draw_all(run, steps)
    sys.stdout.write(f"{FOLDER}\n")
    for line in failed:
        sys.stderr.write(f"not drawn: {line}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
