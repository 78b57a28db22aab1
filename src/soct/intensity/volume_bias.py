"""The bias of a whole stacked volume: fields of its sections, gains of its planes, one field over all.

A volume is read once, block by block, into two small copies: block means for the fits, cut where sections meet, and
every plane on a coarse lateral grid for the gains. The field found on them is evaluated for any range of
planes, so neither reading nor correcting needs the volume in memory.

Convention: see `soct.space`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage as ndi

from soct.errors import InputError
from soct.intensity.bias_field import MeshOptions, axis_factor, fit_shrunk
from soct.intensity.coarse_field import CoarseField, Shrunk, block_centres, block_edges, shrink
from soct.intensity.plane_gains import gain_profile, measure_plane_steps, step_size
from soct.intensity.tissue_mask import compute_tissue_mask
from soct.space import Array, FloatArray, Voxel

BiasMode = Literal["per_section", "global", "two_pass"]
MOST_PLANE_BLOCKS = 4
LEAST_PLANE_GRID = 16
_SHORTEST_SECTION = 2


def cut_sections(n_planes: int, boundaries: Sequence[float]) -> list[tuple[int, int]]:
    """Cut planes where slices take over from each other.

    Parameters
    ----------
    n_planes : int
    boundaries : sequence of float
        First planes of the slices; those outside of the volume, or closer than two planes, don't cut.
    """
    edges = [0]
    for at in sorted({round(float(b)) for b in boundaries}):
        if edges[-1] + _SHORTEST_SECTION <= at <= n_planes - _SHORTEST_SECTION:
            edges.append(at)
    return list(itertools.pairwise([*edges, n_planes]))


class ShrunkVolume:
    """Accumulates the two small copies of a volume from its planes.

    Parameters
    ----------
    shape : sequence of int
        ``(z, y, x)`` of the volume.
    sections : sequence of (int, int)
        From `cut_sections`; no block reaches over two of them.
    factor : int
        Voxels per block of the copy for the fits.
    """

    def __init__(
        self, shape: Sequence[int], sections: Sequence[tuple[int, int]], factor: int
    ) -> None:
        self.shape = (shape[0], shape[1], shape[2])
        self.sections = list(sections)
        self._cuts = [
            start + block_edges(stop - start, axis_factor(stop - start, factor))
            for start, stop in sections
        ]
        self.z_edges = np.concatenate([*(c[:-1] for c in self._cuts), [shape[0]]])
        self.y_edges, self.x_edges = (block_edges(n, axis_factor(n, factor)) for n in shape[1:])
        grid = [len(e) - 1 for e in (self.z_edges, self.y_edges, self.x_edges)]
        self._total = np.zeros(grid)
        self._count = np.zeros(grid, np.float32)
        wide = [min(MOST_PLANE_BLOCKS, max(1, n // LEAST_PLANE_GRID)) for n in grid[1:]]
        self._starts = [np.arange(0, n, w) for n, w in zip(grid[1:], wide, strict=True)]
        self._plane_edges = [
            np.append(e[s], e[-1])
            for e, s in zip((self.y_edges, self.x_edges), self._starts, strict=True)
        ]
        plane_grid = (shape[0], *(len(s) for s in self._starts))
        self.planes = np.zeros(plane_grid, np.float32)
        self._plane_share = np.zeros(plane_grid, np.float32)

    @staticmethod
    def bytes_needed(shape: Sequence[int], factor: int) -> int:
        """Return about how much memory the copies and the fits on them take."""
        nz, ny, nx = shape
        return int(40 * nz * ny * nx / factor**3 + 24 * nz * (ny / factor) * (nx / factor) / 4)

    def add(self, z0: int, planes: Array) -> None:
        """Add planes ``z0 ..``; every plane of the volume must come once.

        Parameters
        ----------
        z0 : int
        planes : ndarray (n, y, x)
            Values that are not positive or not finite are no data.
        """
        z1 = z0 + len(planes)
        first = int(np.searchsorted(self.z_edges, z0, side="right")) - 1
        inner = self.z_edges[(self.z_edges > z0) & (self.z_edges < z1)]
        edges = np.concatenate([[0], inner - z0, [len(planes)]])
        part = shrink(planes, None, (edges, self.y_edges, self.x_edges))
        here = slice(first, first + len(edges) - 1)
        number = part.share * np.diff(edges)[:, None, None]
        self._total[here] += part.image * number
        self._count[here] += number
        y, x = self._plane_edges
        thin = shrink(planes, None, (np.arange(len(planes) + 1), y, x))
        self.planes[z0:z1], self._plane_share[z0:z1] = thin.image, thin.share

    def blocks(self) -> Shrunk:
        """Return the copy for the fits."""
        mean = np.zeros(self._total.shape)
        np.divide(self._total, self._count, out=mean, where=self._count > 0)
        image = np.asarray(mean, np.float32)
        share = self._count / np.diff(self.z_edges)[:, None, None]
        z, y, x = (block_centres(e) for e in (self.z_edges, self.y_edges, self.x_edges))
        return Shrunk(image, share.astype(np.float32), (z, y, x))

    def block_ranges(self) -> list[slice]:
        """Blocks along z of each section."""
        ends = np.cumsum([0, *(len(c) - 1 for c in self._cuts)])
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]

    def plane_centres(self) -> tuple[Array, Array]:
        """Centres of the plane copy's blocks along y and x, in voxels."""
        y, x = self._plane_edges
        return block_centres(y), block_centres(x)

    def plane_tissue(self, tissue: Array) -> Array:
        """Return which blocks of the plane copy are tissue, from the blocks of the fits."""
        part: Array = tissue.astype(np.float64)
        for axis, starts in enumerate(self._starts, start=1):
            widths = np.diff(np.append(starts, tissue.shape[axis]))
            shape = [-1 if a == axis else 1 for a in range(3)]
            part = np.add.reduceat(part, starts, axis=axis) / widths.reshape(shape)
        # On the border of the tissue a block fills or empties from plane to plane.
        whole = part > 1 - 1e-6
        core = np.stack([ndi.binary_erosion(plane, border_value=1) for plane in whole])
        inside = np.repeat(core, np.diff(self.z_edges), axis=0)
        return np.asarray(inside & (self._plane_share >= 0.5))


@dataclass(frozen=True)
class BiasOptions:
    """How the bias of a volume is estimated.

    Attributes
    ----------
    mode : str
        ``per_section`` (a field for each section, and gains that level the planes), ``global`` (one field), or
        ``two_pass`` (the first, then the second).
    strength : float
        Share of the field's logarithm that is taken out.
    iterations : tuple of int
        Most iterations of each level.
    spline_mm, section_spline_mm : float
        Element of the first mesh, of the field over all and of those of the sections.
    kept_sections : float
        Changes of brightness along z over more sections than this stay.
    mask_smoothing_px, mask_closing_px : float
        Of the tissue mask, in blocks.
    backend : str
        From `soct.intensity.bias_field.resolve_backend`.
    """

    mode: BiasMode = "two_pass"
    strength: float = 1.0
    iterations: tuple[int, ...] = (50, 50, 50, 50)
    spline_mm: float = 10.0
    section_spline_mm: float = 2.0
    kept_sections: float = 4.0
    mask_smoothing_px: float = 0.5
    mask_closing_px: float = 1.0
    backend: Literal["cpu", "numba", "gpu"] = "numba"


@dataclass(frozen=True)
class VolumeBias:
    """The bias of a volume, and what it does.

    Attributes
    ----------
    section_fields : tuple of ((int, int), CoarseField)
        Planes and field of each section.
    whole_field : CoarseField, optional
    log_gain : ndarray (z,)
        Of every plane.
    strength : float
    steps_before, steps_after : ndarray (z,)
        Log steps of brightness to each plane from the one before.
    low, high : float
        1st and 99th percentile of the field in tissue.
    contrast_kept : float
        Contrast within planes (standard deviation of log brightness in tissue) after over before.
    tissue_share : float
        Share of the blocks with data that are tissue.
    """

    section_fields: tuple[tuple[tuple[int, int], CoarseField], ...]
    whole_field: CoarseField | None
    log_gain: Array
    strength: float
    steps_before: Array
    steps_after: Array
    low: float
    high: float
    contrast_kept: float
    tissue_share: float

    @property
    def step_before(self) -> float:
        """Root mean square of the steps between planes before."""
        return step_size(self.steps_before)

    @property
    def step_after(self) -> float:
        """The same after."""
        return step_size(self.steps_after)

    def log_field(self, z: tuple[int, int], y: tuple[int, int], x: tuple[int, int]) -> FloatArray:
        """Return the logarithm of what a block of voxels is divided by."""
        out = np.zeros((z[1] - z[0], y[1] - y[0], x[1] - x[0]), np.float32)
        if self.whole_field is not None:
            self.whole_field.evaluate(z, y, x, out)
        for (start, stop), field in self.section_fields:
            low, high = max(start, z[0]), min(stop, z[1])
            if low < high:
                out[low - z[0] : high - z[0]] += field.evaluate((low, high), y, x)
        out += self.log_gain[z[0] : z[1], None, None].astype(np.float32)
        out *= np.float32(self.strength)
        return out


def estimate_volume_bias(
    small: ShrunkVolume, voxel_um: Voxel, options: BiasOptions | None = None
) -> VolumeBias:
    """Estimate the bias of a volume from its small copies.

    Parameters
    ----------
    small : ShrunkVolume
        All planes added.
    voxel_um : Voxel
        Of the volume.
    options : BiasOptions, optional

    Returns
    -------
    VolumeBias
        Nothing to take out where there is no tissue.
    """
    chosen = options or BiasOptions()
    if chosen.mode not in ("per_section", "global", "two_pass"):
        raise InputError(
            "Unknown mode of bias correction",
            expected="per_section, global, two_pass",
            found=chosen.mode,
        )
    blocks = small.blocks()
    tissue = _find_tissue(small, blocks, chosen)
    plane_tissue = small.plane_tissue(tissue)
    log_blocks = np.zeros(blocks.image.shape, np.float32)
    log_planes = np.zeros(small.planes.shape, np.float32)
    fields: list[tuple[tuple[int, int], CoarseField]] = []
    gains = np.zeros(small.shape[0])
    steps_before = measure_plane_steps(small.planes, plane_tissue)
    at = small.plane_centres()
    if chosen.mode != "global":
        for section, rows in zip(small.sections, small.block_ranges(), strict=True):
            field = _fit_part(blocks, tissue, rows, section, voxel_um, small.shape, chosen)
            fields.append((section, field))
            log_blocks[rows] = field.log_field
            planes = np.arange(*section)
            log_planes[section[0] : section[1]] = field.evaluate_at(planes, *at)
        steps = measure_plane_steps(small.planes / np.exp(log_planes), plane_tissue)
        length = float(np.median([stop - start for start, stop in small.sections]))
        gains = gain_profile(steps, small.sections, chosen.kept_sections * length)
        log_planes += gains[:, None, None].astype(np.float32)
        of_blocks = np.add.reduceat(gains, small.z_edges[:-1]) / np.diff(small.z_edges)
        log_blocks += of_blocks[:, None, None].astype(np.float32)
    whole = None
    if chosen.mode != "per_section":
        level = blocks._replace(image=np.divide(blocks.image, np.exp(log_blocks), dtype=np.float32))
        whole = _fit_part(
            level, tissue, slice(None), (0, small.shape[0]), voxel_um, small.shape, chosen
        )
        log_blocks += whole.log_field
        log_planes += whole.evaluate_at(np.arange(small.shape[0]), *at)
    log_blocks *= chosen.strength
    log_planes *= chosen.strength
    inside = log_blocks[tissue]
    low, high = np.exp(np.percentile(inside, [1, 99])) if inside.size else (1.0, 1.0)
    return VolumeBias(
        tuple(fields),
        whole,
        gains,
        chosen.strength,
        steps_before,
        measure_plane_steps(small.planes / np.exp(log_planes), plane_tissue),
        float(low),
        float(high),
        _contrast_kept(blocks.image, log_blocks, tissue),
        float(tissue.sum() / max(np.count_nonzero(blocks.share >= 0.5), 1)),
    )


def _fit_part(
    blocks: Shrunk,
    tissue: Array,
    rows: slice,
    planes: tuple[int, int],
    voxel_um: Voxel,
    shape: Sequence[int],
    options: BiasOptions,
) -> CoarseField:
    z, y, x = blocks.centres
    part = Shrunk(blocks.image[rows], blocks.share[rows], (z[rows], y, x))
    spline = options.spline_mm if rows == slice(None) else options.section_spline_mm
    extent = [
        n * v / 1000 for n, v in zip((planes[1] - planes[0], *shape[1:]), voxel_um, strict=True)
    ]
    mesh = MeshOptions(options.iterations, spline)
    return fit_shrunk(part, tissue[rows], extent, mesh, options.backend)


def _find_tissue(small: ShrunkVolume, blocks: Shrunk, options: BiasOptions) -> Array:
    """Tissue of every section by its own threshold."""
    image = np.where(blocks.share >= 0.5, blocks.image, 0)
    tissue = np.zeros(image.shape, bool)
    for rows in small.block_ranges():
        tissue[rows] = compute_tissue_mask(
            image[rows],
            smoothing_sigma=options.mask_smoothing_px,
            smoothing_sigma_z=0.5 * options.mask_smoothing_px,
            closing_radius=round(options.mask_closing_px),
        )
    return tissue & (image > 0)


def _contrast_kept(image: FloatArray, log_field: FloatArray, tissue: Array) -> float:
    """Spread of log brightness within planes after over before."""
    before = after = 0.0
    for plane, field, inside in zip(image, log_field, tissue, strict=True):
        if np.count_nonzero(inside) > 1:
            values = np.log(plane[inside].astype(np.float64))
            n = values.size
            before += n * float(values.var())
            after += n * float((values - field[inside]).var())
    return float(np.sqrt(after / before)) if before > 0 else 1.0
