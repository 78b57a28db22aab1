"""What `align_to_ras` writes once the brain is fitted: volume, transform, regions, preview, figures."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soct.errors import StepError
from soct.formats.atlases import LEFT, RIGHT, Atlas
from soct.formats.ngff import parse_image
from soct.formats.npz import write_npz
from soct.formats.ome_zarr import open_volume
from soct.geometry.orientation import RAS, Matrix, Shape, make_affine
from soct.registration.atlas_fit import AtlasFit
from soct.registration.atlas_regions import RegionMeasure, RegionSums
from soct.registration.atlas_search import Scene
from soct.registration.atlas_warp import Grid, Warp, jacobian, tiles_of
from soct.registration.brain_mask import BoolArray, dice, edge_distance
from soct.space import Array, FloatArray, Voxel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soct.steps.declaration import Context

_TILE_EDGE = 192
_REGION_UM = 50.0
_LABEL_UM = 25.0
_FIELDS = (
    "id", "acronym", "name", "parent", "depth", "volume_mm3", "volume_left_mm3", "volume_right_mm3",
    "mean_intensity", "median_intensity", "covered_fraction",
)  # fmt: skip


@dataclass(frozen=True)
class Aligned:
    """A fitted brain: what every output is made from."""

    context: Context
    atlas: Atlas
    source: Path
    fit: AtlasFit
    code: str

    def reader(self, level: int = 0) -> tuple[Any, Matrix]:
        """Open a level of the volume; return it with its affine."""
        reader = open_volume(self.source, level, threads=self.context.threads)
        return reader, make_affine(self.code, reader.voxel_um, reader.translation_um)


@dataclass(frozen=True)
class Views:
    """Brain and template in the template's space, and how well they agree."""

    template: FloatArray
    template_brain: BoolArray
    brain: FloatArray
    before: FloatArray
    valid: BoolArray
    brain_mask: BoolArray
    grid: Grid
    voxel_um: Voxel
    dice: float
    edge_um: float
    edge_p95_um: float
    covered: float


def template_grid(atlas: Atlas, voxel_um: float) -> Grid:
    """Return the grid of these voxels, axes to the superior, anterior and right, over the template's box."""
    affine, shape = atlas.header.affine, np.asarray(atlas.shape, float)
    corners = np.stack(np.meshgrid(*((-0.5, n - 0.5) for n in shape), indexing="ij"), -1)
    world = corners.reshape(-1, 3) @ affine[:3, :3].T + affine[:3, 3]
    low, high = world.min(axis=0)[::-1] * 1000, world.max(axis=0)[::-1] * 1000
    z, y, x = (max(1, math.ceil((b - a) / voxel_um - 1e-3)) for a, b in zip(low, high, strict=True))
    start = [float(a + voxel_um / 2) for a in low]
    return Grid((z, y, x), make_affine(RAS, (voxel_um,) * 3, start))


def write_volume(
    aligned: Aligned, resolution_um: float, levels_um: Sequence[float], path: Path
) -> None:
    """Resample the volume's finest level once, slab by slab, and write all levels."""
    from soct.formats.pyramid import PyramidWriter
    from soct.formats.validation import validate_volume

    context = aligned.context
    reader, affine = aligned.reader()
    voxel = resolution_um or max(reader.voxel_um)
    grid = template_grid(aligned.atlas, voxel)
    warp = Warp(aligned.fit, affine)
    start = 1000 * grid.affine[:3, 3][::-1]
    plane = grid.shape[1] * grid.shape[2]
    depth = int(np.clip(context.memory_bytes // 6 // max(plane * 5, 1), 1, 64))
    with PyramidWriter(
        path,
        grid.shape,
        Voxel(voxel, voxel, voxel),
        levels_um,
        orientation=RAS,
        attributes={
            "subject": context.subject,
            "atlas": f"{aligned.atlas.name} {aligned.atlas.version}".strip(),
        },
        translation_um=[float(v) for v in start],
        threads=context.threads,
    ) as writer:
        for z0 in range(0, grid.shape[0], depth):
            z1 = min(z0 + depth, grid.shape[0])
            values = np.zeros((z1 - z0, *grid.shape[1:]), np.float32)
            valid = np.zeros(values.shape, np.bool_)
            for window in tiles_of(grid.shape, (z0, z1), _TILE_EDGE):
                part = (slice(None), slice(*window[1]), slice(*window[2]))
                values[part], valid[part] = warp.fill(
                    grid, window, reader.shape, lambda w: reader.read(*w)
                )
            writer.append(values, valid)
            context.progress(0.5 + 0.35 * z1 / grid.shape[0])
    findings = validate_volume(path)
    if findings:
        raise StepError(
            "the aligned volume does not pass validation",
            file=path,
            found="; ".join(map(str, findings)),
        )


def write_fit(aligned: Aligned, path: Path) -> None:
    """Write the transform as SimpleITK reads it: template's points to the volume's, in mm."""
    import SimpleITK as sitk

    sitk.WriteTransform(aligned.fit.transform, str(path))


def compare(aligned: Aligned, fixed: Scene, moving: Scene) -> Views:
    """Bring the brain to the template's voxels and measure how well both agree.

    Parameters
    ----------
    aligned : Aligned
    fixed, moving : Scene
        Template and volume of the voxels that were fitted.
    """
    shape = fixed.valid.shape
    grid = Grid((shape[0], shape[1], shape[2]), fixed.volume.affine)
    window = ((0, shape[0]), (0, shape[1]), (0, shape[2]))
    warp = Warp(aligned.fit, moving.volume.affine)
    size: Shape = (moving.valid.shape[0], moving.valid.shape[1], moving.valid.shape[2])
    data = np.where(moving.valid, np.maximum(moving.volume.data, 1e-6), 0).astype(np.float32)

    def bring(array: FloatArray, by: Warp) -> tuple[FloatArray, BoolArray]:
        return by.fill(grid, window, size, lambda w: array[tuple(slice(*r) for r in w)])

    brain, valid = bring(data, warp)
    # Where there are data, 1 outside of the brain and 2 inside: 0 means no data.
    marked = np.where(moving.valid, 1 + moving.brain, 0).astype(np.float32)
    mask = bring(marked, warp)[0] > 1.5
    start = AtlasFit(None, _shift_only(fixed, moving), "rigid", aligned.code, aligned.fit.start, ())
    before, _ = bring(data, Warp(start, moving.volume.affine))
    voxel = fixed.volume.voxel_um
    template = fixed.brain & valid
    edge, far = edge_distance(mask, template, voxel, valid)
    covered = float((fixed.brain & valid).sum() / max(int(fixed.brain.sum()), 1))
    return Views(
        np.asarray(fixed.volume.data, np.float32), fixed.brain, brain, before, valid, mask, grid,
        voxel, dice(mask, template), edge, far, covered,
    )  # fmt: skip


def _shift_only(fixed: Scene, moving: Scene) -> Matrix:
    """Return what laying one brain's centre on the other's would be: where a fit begins, for the eye."""
    matrix = np.eye(4)
    matrix[:3, 3] = moving.centre() - fixed.centre()
    return matrix


def write_regions(aligned: Aligned, volume: Path, path: Path) -> list[dict[str, Any]]:
    """Measure the atlas's regions in the aligned volume, and write them with their parts summed."""
    atlas = aligned.atlas
    if atlas.annotation is None:
        return []
    levels = parse_image(volume).levels
    level = min(range(len(levels)), key=lambda i: abs(max(levels[i].voxel_um) - _REGION_UM))
    reader = open_volume(volume, level, threads=aligned.context.threads)
    affine = make_affine(RAS, reader.voxel_um, reader.translation_um)
    labels = _Regions(atlas)
    sums = RegionSums()
    for z0 in range(0, labels.labels.shape[0], 32):
        z1 = min(z0 + 32, labels.labels.shape[0])
        values, valid = _values_at(labels, (z0, z1), reader, affine)
        block = labels.labels[z0:z1]
        mm3 = _voxel_mm3(aligned.fit, labels, (z0, z1))
        sums.add(block, values, valid, mm3, labels.halves(z0, z1))
    ancestors = {s.id: s.path[:-1] for s in atlas.structures}
    measured = sums.measure(ancestors, halves=labels.has_halves)
    rows = _rows(atlas, measured)
    text = io.StringIO()
    table = csv.DictWriter(text, _FIELDS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    from soct.formats.atomic import write_text

    write_text(path, text.getvalue())
    return rows


class _Regions:
    """The annotation, axes to the superior, anterior and right, and which half each voxel lies in."""

    def __init__(self, atlas: Atlas) -> None:
        assert atlas.annotation is not None
        header = atlas.annotation.header()
        voxel = header.voxel_um
        assert voxel is not None
        factors = [max(1, math.ceil(_LABEL_UM / v - 0.01)) if v < _LABEL_UM else 1 for v in voxel]
        volume = atlas.annotation.read(factors, labels=True).reoriented(RAS)
        self.labels: Array = volume.data
        self.affine = volume.affine
        self.shape: Shape = (self.labels.shape[0], self.labels.shape[1], self.labels.shape[2])
        self._sides: Array | None = None
        if atlas.hemispheres is not None:
            sides = atlas.hemispheres.read(factors, labels=True).reoriented(RAS).data
            self._sides = sides if sides.shape == self.shape else None
        middle = (self.shape[2] - 1) / 2
        self._columns = np.where(np.arange(self.shape[2]) > middle, RIGHT, LEFT).astype(np.uint8)
        self.has_halves = True

    def halves(self, z0: int, z1: int) -> Any:
        """Return the hemisphere of each voxel: as the atlas says, else split at the template's middle."""
        if self._sides is not None:
            return self._sides[z0:z1].astype(np.uint8)
        return np.broadcast_to(self._columns, (z1 - z0, *self.shape[1:]))


def _values_at(
    labels: _Regions, planes: tuple[int, int], reader: Any, affine: Matrix
) -> tuple[FloatArray, BoolArray]:
    """Return the volume's values at the voxels of some planes of the annotation: both grids are parallel."""
    to_index = np.linalg.inv(affine) @ labels.affine
    index = []
    for axis, count in enumerate(labels.shape):
        at = np.arange(*planes) if axis == 0 else np.arange(count)
        index.append(np.rint(to_index[axis, axis] * at + to_index[axis, 3]).astype(int))
    size = reader.shape
    z = index[0]
    low, high = max(int(z.min()), 0), min(int(z.max()) + 1, size[0])
    values = np.zeros((len(z), *labels.shape[1:]), np.float32)
    if high > low:
        block = reader.read((low, high))
        inside = [(i >= 0) & (i < n) for i, n in zip(index, size, strict=True)]
        picked = block[np.ix_(z[inside[0]] - low, index[1][inside[1]], index[2][inside[2]])]
        values[np.ix_(*inside)] = picked
    return values, values > 0


def _voxel_mm3(fit: AtlasFit, labels: _Regions, planes: tuple[int, int]) -> FloatArray:
    """Return what each voxel of some planes measures in the brain."""
    affine = labels.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [planes[0], 0, 0]
    voxel = abs(float(np.linalg.det(labels.affine[:3, :3])))
    shape: Shape = (planes[1] - planes[0], *labels.shape[1:])
    if fit.model != "bspline":
        return (voxel * jacobian(fit, Grid(shape, affine))).astype(np.float32)
    # The deformation is smooth: every fourth voxel knows it.
    step = 4
    coarse = affine.copy()
    coarse[:3, :3] *= step
    size = [max(2, -(-n // step) + 1) for n in shape]
    found = jacobian(fit, Grid((size[0], size[1], size[2]), coarse))
    near = [
        np.minimum((np.arange(n) + step // 2) // step, s - 1)
        for n, s in zip(shape, size, strict=True)
    ]
    return (voxel * found[np.ix_(*near)]).astype(np.float32)


def _rows(atlas: Atlas, measured: dict[int, RegionMeasure]) -> list[dict[str, Any]]:
    """Return the table's rows, parents before their parts; regions without a name follow."""
    rows = []
    named = {s.id for s in atlas.structures}
    for s in atlas.structures:
        if s.id in measured:
            about = (s.acronym, s.name, "" if s.parent is None else s.parent, len(s.path) - 1)
            rows.append(_row(measured[s.id], about))
    rows += [_row(m, ("", "", "", 0)) for i, m in measured.items() if i not in named]
    return rows


def _row(m: RegionMeasure, about: tuple[Any, ...]) -> dict[str, Any]:
    def shown(value: float) -> str:
        return "" if math.isnan(value) else f"{value:.6g}"

    numbers = (m.volume_mm3, m.left_mm3, m.right_mm3, m.mean, m.median, m.covered)
    return dict(zip(_FIELDS, (m.id, *about, *map(shown, numbers)), strict=True))


def cuts_of(views: Views) -> list[dict[str, Any]]:
    """Return the three middle cuts: pictures of template, brain and brain before, outlines, letters."""
    from scipy import ndimage

    from soct.geometry.orientation import orientation_of, reorientation

    turn = reorientation(orientation_of(views.grid.affine), "IPR")
    arrays = {
        name: turn.apply(getattr(views, name))
        for name in ("template", "template_brain", "brain", "before", "valid", "brain_mask")
    }
    voxel = turn.voxel(views.voxel_um)
    centre = np.rint(np.argwhere(arrays["template_brain"]).mean(axis=0)).astype(int)
    # Axes now grow to the inferior, posterior and right: as brains are drawn.
    letters = {0: ("A", "P", "L", "R"), 1: ("S", "I", "L", "R"), 2: ("S", "I", "A", "P")}
    names = {0: "horizontal", 1: "coronal", 2: "sagittal"}
    found = []
    for axis in (0, 1, 2):
        cut = {name: np.take(a, centre[axis], axis=axis) for name, a in arrays.items()}
        edge = cut["template_brain"] & ~ndimage.binary_erosion(
            cut["template_brain"], border_value=1
        )
        own = cut["brain_mask"] & ~ndimage.binary_erosion(cut["brain_mask"], border_value=1)
        pixel = tuple(v for i, v in enumerate(voxel) if i != axis)
        found.append(
            {
                "name": names[axis],
                "letters": letters[axis],
                "outline": edge,
                "own": own,
                "pixel_um": pixel,
                **cut,
            }
        )
    return found


def write_preview(aligned: Aligned, views: Views, path: Path) -> None:
    """Draw three cuts of the brain with the template's outline, and the sides of the body."""
    from PIL import Image, ImageDraw

    from soct.formats.images import to_grey, write_png

    panels = []
    for cut in cuts_of(views):
        seen = cut["brain"][cut["valid"]]
        window = tuple(np.percentile(seen, (1, 99.5))) if seen.size else (0.0, 1.0)
        grey = to_grey(cut["brain"], (float(window[0]), float(window[1])))
        rgb = np.repeat(grey[:, :, None], 3, axis=2)
        scale = max(1, round(360 / max(grey.shape)))
        rgb = np.repeat(np.repeat(rgb, scale, axis=0), scale, axis=1)
        outline = _thin(np.repeat(np.repeat(cut["template_brain"], scale, 0), scale, 1))
        rgb[outline] = (255, 170, 0)
        framed = np.zeros((rgb.shape[0] + 32, rgb.shape[1] + 32, 3), np.uint8)
        framed[16:-16, 16:-16] = rgb
        image = Image.fromarray(framed)
        draw = ImageDraw.Draw(image)
        up, down, left, right = cut["letters"]
        h, w = framed.shape[:2]
        for letter, at in (
            (up, (w // 2, 8)),
            (down, (w // 2, h - 8)),
            (left, (8, h // 2)),
            (right, (w - 8, h // 2)),
        ):
            draw.text(at, letter, fill=(255, 255, 255), anchor="mm")
        panels.append(np.asarray(image))
    height = max(p.shape[0] for p in panels)
    write_png(
        path, np.hstack([np.pad(p, ((0, height - p.shape[0]), (0, 0), (0, 0))) for p in panels])
    )


def _thin(mask: BoolArray) -> BoolArray:
    from scipy import ndimage

    edge: BoolArray = mask & ~ndimage.binary_erosion(mask, border_value=1)
    return edge


def write_figures(
    aligned: Aligned, views: Views, regions: list[dict[str, Any]], path: Path
) -> None:
    """Save what the report draws: cuts, outlines, the sides of the body, the largest regions."""
    arrays: dict[str, Any] = {}
    for cut in cuts_of(views):
        name = cut["name"]
        for part in ("template", "brain", "before", "outline"):
            kind = np.bool_ if part == "outline" else np.float32
            arrays[f"{name}_{part}"] = cut[part].astype(kind)
        arrays[f"{name}_letters"] = np.array(cut["letters"])
        arrays[f"{name}_pixel_um"] = np.array(cut["pixel_um"], float)
    top = sorted(regions, key=lambda r: (int(r["depth"]), -float(r["volume_mm3"] or 0)))[:60]
    for field in _FIELDS:
        arrays[f"region_{field}"] = np.array([str(row[field]) for row in top], dtype=np.str_)
    stages = aligned.fit.stages
    arrays["stage_names"] = np.array([s.name for s in stages])
    arrays["stage_scores"] = np.array([s.score for s in stages], float)
    arrays["stage_notes"] = np.array(["used" if s.accepted else s.reason for s in stages])
    write_npz(path, **arrays)
