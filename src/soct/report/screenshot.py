"""A picture of a volume: three orthogonal planes to one scale, with what a reader needs to understand them.

The plane of z lies at the top left; to its right the plane of x, sharing its y axis; below it the plane of y,
sharing its x axis. Marks along z say where slices begin, which planes were interpolated and where slices are
left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from soct.errors import UsageError
from soct.formats.images import to_grey
from soct.formats.ngff import parse_image
from soct.formats.tiles import shown
from soct.formats.volume_source import VolumeSource, measure_window, open_source
from soct.geometry.orientation import opposite_orientation
from soct.space import Array, Voxel

LONGEST_PX = 1100
_MARGIN, _GAP, _LEGEND = 30, 14, 250
_TEXT = 15
_BACK, _INK = (16, 18, 22), (225, 229, 235)
_CROSS = (70, 130, 180)
_SLICE = (150, 160, 175)
INTERPOLATED = (80, 170, 255)
EXCLUDED = (255, 95, 80)


@dataclass(frozen=True)
class Marks:
    """What is known of the planes of a stacked volume.

    Attributes
    ----------
    starts : tuple of (int, int)
        Slice and the first plane that it may fill, in planes of the finest level.
    interpolated : tuple of (int, int)
        First and last plane of every interpolated stretch.
    absent : tuple of (int, int)
        Slice that was left out or never imaged, and the plane where it is missing.
    """

    starts: tuple[tuple[int, int], ...] = ()
    interpolated: tuple[tuple[int, int], ...] = ()
    absent: tuple[tuple[int, int], ...] = ()


def _pairs(value: object) -> tuple[tuple[int, int], ...]:
    try:
        return tuple((int(a), int(b)) for a, b in value)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        return ()


def read_marks(attributes: Mapping[str, Any]) -> Marks:
    """Return the marks that a volume's own attributes tell; none for volumes of other programs."""
    starts = tuple(sorted(_pairs(attributes.get("slice_starts", ())), key=lambda pair: pair[1]))
    absent = []
    for (before, _), (after, z) in itertools.pairwise(starts):
        absent += [(missing, z) for missing in range(before + 1, after)][:100]
    return Marks(starts, _pairs(attributes.get("interpolated_planes", ())), tuple(absent))


@dataclass(frozen=True)
class Views:
    """Three planes of a volume and where they lie.

    Attributes
    ----------
    planes : tuple of ndarray
        ``(y, x)`` at one z, ``(z, x)`` at one y, ``(z, y)`` at one x; of the level that suits the picture.
    at : tuple of int
        z, y and x of the planes, in voxels of the finest level.
    shape : tuple of int
        Of the finest level.
    voxel_um : Voxel
        Of the finest level.
    orientation : str or None
    window : (float, float)
    marks : Marks
    """

    planes: tuple[Array, Array, Array]
    at: tuple[int, int, int]
    shape: tuple[int, int, int]
    voxel_um: Voxel
    orientation: str | None
    window: tuple[float, float]
    marks: Marks


def _level_for(path: Path, longest_px: int) -> int:
    """Return the coarsest level that still has a voxel for every pixel of the picture."""
    try:
        levels = parse_image(path).levels if path.is_dir() else ()
    except Exception:  # noqa: BLE001 - a plain array has no levels; opening it says what is wrong
        return 0
    if not levels:
        return 0
    base = open_source(path)
    extent = max(n * v for n, v in zip(base.shape, levels[0].voxel_um, strict=True))
    fine = [i for i, level in enumerate(levels) if max(level.voxel_um) <= extent / longest_px]
    return max(fine, default=0)


def take_views(
    path: Path,
    *,
    at: Sequence[int] | None = None,
    window: tuple[float, float] | None = None,
    longest_px: int = LONGEST_PX,
) -> Views:
    """Read three planes of a volume.

    Parameters
    ----------
    path : Path
        Any volume that `soct.formats.volume_source.open_source` opens.
    at : sequence of int, optional
        z, y and x in voxels of the finest level; the middle where omitted.
    window : (float, float), optional
        Values shown black and white; what the volume says, or percentiles.
    longest_px : int
        Pixels of the longest side, which decide on the level that is read.

    Raises
    ------
    UsageError
        The position lies outside of the volume.
    """
    base = open_source(path)
    place = tuple(int(v) for v in at) if at is not None else tuple(n // 2 for n in base.shape)
    if not all(0 <= p < n for p, n in zip(place, base.shape, strict=True)):
        raise UsageError(
            "The position lies outside of the volume",
            file=shown(path),
            expected=f"z,y,x below {','.join(map(str, base.shape))}",
            found=",".join(map(str, place)),
        )
    level = _level_for(path, longest_px)
    source = open_source(path, level=level) if level else base
    ratio = [n / m for n, m in zip(source.shape, base.shape, strict=True)]
    z, y, x = (
        min(int((p + 0.5) * r), n - 1) for p, r, n in zip(place, ratio, source.shape, strict=True)
    )
    n_z, n_y, n_x = source.shape
    everything = ((0, n_z), (0, n_y), (0, n_x))
    planes = (
        source.read_block(((z, z + 1), *everything[1:]))[0],
        source.read_block((everything[0], (y, y + 1), everything[2]))[:, 0],
        source.read_block((everything[0], everything[1], (x, x + 1)))[:, :, 0],
    )
    own = parse_image(path).attributes if path.is_dir() and image_like(path) else {}
    return Views(
        planes,
        (place[0], place[1], place[2]),
        base.shape,
        base.voxel_um or Voxel(1.0, 1.0, 1.0),
        base.orientation,
        window or base.window or _window_of(source),
        read_marks(own),
    )


def image_like(path: Path) -> bool:
    """Whether a folder is an OME-Zarr image."""
    try:
        parse_image(path)
    except Exception:  # noqa: BLE001 - anything else is not an image
        return False
    return True


def _window_of(source: VolumeSource) -> tuple[float, float]:
    return measure_window(source)


@dataclass
class _Sheet:
    """The picture while it is drawn: panels to one scale, text and marks."""

    views: Views
    px_per_um: float

    def __post_init__(self) -> None:
        size = [
            max(1, round(n * v * self.px_per_um))
            for n, v in zip(self.views.shape, self.views.voxel_um, strict=True)
        ]
        self.z, self.y, self.x = size
        self.left, self.top = _MARGIN, _MARGIN
        self.right, self.below = _MARGIN + self.x + _GAP + 20, _MARGIN + self.y + _GAP + 20
        width = self.right + max(self.z, _LEGEND) + _MARGIN + 30
        height = self.below + max(self.z, 190) + _MARGIN
        self.image = Image.new("RGB", (width, height), _BACK)
        self.draw = ImageDraw.Draw(self.image)
        self.font = ImageFont.load_default(_TEXT)

    def panel(self, plane: Array, corner: tuple[int, int], size: tuple[int, int]) -> None:
        data = np.asarray(plane, np.float32)
        grey = Image.fromarray(to_grey(data, self.views.window))
        shrinks = size[0] < grey.width or size[1] < grey.height
        how = Image.Resampling.BOX if shrinks else Image.Resampling.NEAREST
        self.image.paste(grey.resize(size, how).convert("RGB"), corner)

    def text(self, x: float, y: float, words: str, *, anchor: str = "mm", ink: Any = _INK) -> None:
        self.draw.text((x, y), words, fill=ink, font=self.font, anchor=anchor)

    def pixel(self, axis: int, voxel: float) -> float:
        """Distance from the panel's edge of a position along an axis."""
        return (voxel + 0.5) * self.views.voxel_um[axis] * self.px_per_um


def round_length(longest: float) -> float:
    """Return the longest of 1, 2 and 5 times a power of ten that is not above a length."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def _letters(sheet: _Sheet) -> None:
    code = sheet.views.orientation
    ends = opposite_orientation(code) if code else None
    names = code or "zyx"
    starts = ends or ("", "", "")
    mid_x, mid_y = sheet.left + sheet.x / 2, sheet.top + sheet.y / 2
    mid_z_right, mid_z_below = sheet.right + sheet.z / 2, sheet.below + sheet.z / 2
    edge = 12
    for x, y, words in (
        (sheet.left - edge, mid_y, starts[2]),
        (sheet.left + sheet.x + edge, mid_y, names[2]),
        (mid_x, sheet.top - edge, starts[1]),
        (mid_x, sheet.top + sheet.y + edge, names[1]),
        (sheet.right + sheet.z + edge, mid_y, names[0]),
        (mid_z_right, sheet.top - edge, starts[1]),
        (sheet.left + sheet.x / 2, sheet.below + sheet.z + edge, names[0]),
        (sheet.left - edge, mid_z_below, starts[2]),
    ):
        sheet.text(x, y, words)


def _crosshair(sheet: _Sheet) -> None:
    z, y, x = (sheet.pixel(axis, v) for axis, v in enumerate(sheet.views.at))
    d, reach = sheet.draw, 7
    for x0, y0, x1, y1, at_x, at_y in (
        (sheet.left, sheet.top, sheet.left + sheet.x, sheet.top + sheet.y, x, y),
        (sheet.right, sheet.top, sheet.right + sheet.z, sheet.top + sheet.y, z, y),
        (sheet.left, sheet.below, sheet.left + sheet.x, sheet.below + sheet.z, x, z),
    ):
        # Ticks at the border only: lines across would hide what the picture is for.
        d.line([(x0 + at_x, y0), (x0 + at_x, y0 + reach)], fill=_CROSS, width=2)
        d.line([(x0 + at_x, y1 - reach), (x0 + at_x, y1)], fill=_CROSS, width=2)
        d.line([(x0, y0 + at_y), (x0 + reach, y0 + at_y)], fill=_CROSS, width=2)
        d.line([(x1 - reach, y0 + at_y), (x1, y0 + at_y)], fill=_CROSS, width=2)


def _slices(sheet: _Sheet) -> None:
    """Mark along z, in both planes that show it: starts of slices, interpolated and absent ones."""
    marks = sheet.views.marks
    edge_x, edge_y = sheet.left + sheet.x, sheet.top + sheet.y
    for first, last in marks.interpolated:
        a, b = sheet.pixel(0, first - 0.5), sheet.pixel(0, last + 0.5)
        sheet.draw.rectangle(
            [edge_x + 1, sheet.below + a, edge_x + 5, sheet.below + b], fill=INTERPOLATED
        )
        sheet.draw.rectangle(
            [sheet.right + a, edge_y + 1, sheet.right + b, edge_y + 5], fill=INTERPOLATED
        )
    last_label = -math.inf
    for slice_id, plane in marks.starts:
        at = sheet.pixel(0, plane - 0.5)
        sheet.draw.line([(edge_x, sheet.below + at), (edge_x + 8, sheet.below + at)], fill=_SLICE)
        sheet.draw.line([(sheet.right + at, edge_y), (sheet.right + at, edge_y + 8)], fill=_SLICE)
        if at - last_label >= _TEXT + 1:
            sheet.text(edge_x + 11, sheet.below + at, str(slice_id), anchor="lm", ink=_SLICE)
            last_label = at
    for _, plane in marks.absent:
        at = sheet.pixel(0, plane - 0.5)
        sheet.draw.line(
            [(sheet.left, sheet.below + at), (edge_x + 8, sheet.below + at)], fill=EXCLUDED
        )
        sheet.draw.line(
            [(sheet.right + at, sheet.top), (sheet.right + at, edge_y + 8)], fill=EXCLUDED
        )


def _scale_bar(sheet: _Sheet) -> None:
    width_um = sheet.x / sheet.px_per_um
    length = round_length(0.3 * width_um)
    drawn = length * sheet.px_per_um
    x1, y = sheet.left + sheet.x - 12, sheet.top + sheet.y - 12
    words = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
    sheet.draw.line([(x1 - drawn, y), (x1, y)], fill=(0, 0, 0), width=7)
    sheet.draw.line([(x1 - drawn, y), (x1, y)], fill=(255, 255, 255), width=4)
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        sheet.text(x1 - drawn / 2 + dx, y - 13 + dy, words, ink=(0, 0, 0))
    sheet.text(x1 - drawn / 2, y - 13, words, ink=(255, 255, 255))


def _legend(sheet: _Sheet, title: str) -> None:
    views = sheet.views
    voxel = " x ".join(f"{v:g}" for v in views.voxel_um)
    lines: list[tuple[str, Any]] = [
        (title[:34], _INK),
        (f"(z, y, x) {' x '.join(map(str, views.shape))}", _INK),
        (f"voxel {voxel} um", _INK),
        (f"planes z {views.at[0]}, y {views.at[1]}, x {views.at[2]}", _CROSS),
        (f"window {views.window[0]:.3g} to {views.window[1]:.3g}", _INK),
        (views.orientation or "orientation not known", _INK),
    ]
    marks = views.marks
    if marks.starts:
        lines.append((f"{len(marks.starts)} slices begin at the ticks", _SLICE))
    if marks.interpolated:
        lines.append((f"interpolated: {len(marks.interpolated)}", INTERPOLATED))
    if marks.absent:
        ids = ", ".join(str(i) for i, _ in marks.absent[:8])
        lines.append((f"left out: {ids}" + (", ..." if len(marks.absent) > 8 else ""), EXCLUDED))
    for k, (words, ink) in enumerate(lines):
        sheet.text(sheet.right, sheet.below + k * (_TEXT + 5), words, anchor="lt", ink=ink)


def draw_views(views: Views, title: str = "", *, longest_px: int = LONGEST_PX) -> NDArray[np.uint8]:
    """Draw three planes with scale bar, letters and marks.

    Parameters
    ----------
    views : Views
    title : str
        First line of the legend.
    longest_px : int
        Pixels of the volume's longest side.

    Returns
    -------
    ndarray of uint8, shape (Y, X, 3)
    """
    extent = max(n * v for n, v in zip(views.shape, views.voxel_um, strict=True))
    sheet = _Sheet(views, longest_px / extent)
    across, along_y, along_x = views.planes
    sheet.panel(across, (sheet.left, sheet.top), (sheet.x, sheet.y))
    sheet.panel(along_x.T, (sheet.right, sheet.top), (sheet.z, sheet.y))
    sheet.panel(along_y, (sheet.left, sheet.below), (sheet.x, sheet.z))
    _crosshair(sheet)
    _slices(sheet)
    _letters(sheet)
    _scale_bar(sheet)
    _legend(sheet, title)
    return np.asarray(sheet.image)
