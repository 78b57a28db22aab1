"""One tile through the microscope: surface, axial profile, attenuation, shading, speckle, noise, galvo."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soct.simulate.brain import Specimen
from soct.simulate.poses import Poses, TilePose, locate_tissue
from soct.simulate.spec import AcquisitionSpec
from soct.space import FloatArray

Floats = NDArray[np.float64]

BRIGHT = 1000.0
"""Counts for tissue of brightness 1."""
TISSUE_MEAN = 0.6
_BAND_SAMPLES = 4_000_000
_NOISE_LOOKS = 1.5


def shade(spec: AcquisitionSpec) -> FloatArray:
    """Return the flat field (y, x) of a tile: 1 at its best, down by `vignetting` in the far corner."""
    y, x = _unit_axes(spec)
    r2 = (y[:, None] - 0.1) ** 2 + (x[None, :] + 0.15) ** 2
    far = 1.1**2 + 1.15**2
    return np.asarray(1 - spec.faults.vignetting * r2 / far, np.float32)


def curve(spec: AcquisitionSpec) -> Floats:
    """Return how many samples deeper tissue appears (y, x): 0 in the centre of a tile."""
    y, x = _unit_axes(spec)
    shape: Floats = spec.faults.focal_curvature_samples * (y[:, None] ** 2 + x[None, :] ** 2) / 2
    return shape


def _unit_axes(spec: AcquisitionSpec) -> tuple[Floats, Floats]:
    return np.linspace(-1, 1, spec.tile_px[0]), np.linspace(-1, 1, spec.tile_px[1])


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _expose(light: FloatArray, surface: Floats, shift: Floats, flat: FloatArray, y_um: Floats,
            x_um: Floats, z0_um: Floats, dz_um: float, grain_um: float, offset: Floats,
            lattice: FloatArray, mu: float, contrast: float, tissue_from: float, focus: float,
            rayleigh: float, spread: float, gain: float) -> None:  # fmt: skip
    """Turn brightness along A-lines into detected light, in place."""
    ny, nx, nz = light.shape
    for j in range(ny):
        for i in range(nx):
            depth = 0.0
            for k in range(nz):
                below = min(max(k + 0.5 - surface[j, i], 0.0), 1.0)
                b = light[j, i, k]
                if below == 0.0 or b == 0.0:
                    light[j, i, k] = 0.0
                    continue
                density = (1 - contrast) + contrast * b / 0.6
                if b < tissue_from:
                    density *= 0.05
                step = mu * density * dz_um * 1e-3 * below
                value = gain * b * below * flat[j, i] * np.exp(-2 * (depth + step / 2))
                depth += step
                if rayleigh > 0:
                    value /= 1 + ((k - shift[j, i] - focus) * dz_um / rayleigh) ** 2
                if spread > 0:
                    # Unit normal noise on a lattice of one voxel, fixed to the tissue of one slice.
                    a = (z0_um[j, i] + k * dz_um) / dz_um + offset[0]
                    c, d = y_um[j, i] / grain_um + offset[1], x_um[j, i] / grain_um + offset[2]
                    n = _smooth(lattice, a, c, d)
                    value *= np.exp(spread * n - spread * spread / 2)
                light[j, i, k] = value


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _smooth(lattice: FloatArray, a: float, b: float, c: float) -> float:
    """Linear lattice noise of unit variance at every position (weights renormalised)."""
    fa, fb, fc = np.floor(a), np.floor(b), np.floor(c)
    u, v, w = a - fa, b - fb, c - fc
    i, j, k = int(fa), int(fb), int(fc)
    total = power = 0.0
    for p in range(2):
        for q in range(2):
            for r in range(2):
                weight = (u if p else 1 - u) * (v if q else 1 - v) * (w if r else 1 - w)
                # Odd strides keep the short period of the lattice from showing along an axis.
                l, m, n = (i + p) & 63, (j + q + 5 * ((k + r) >> 6)) & 63, (k + r) & 63
                total += weight * lattice[l, m, n]
                power += weight * weight
    return float(total / np.sqrt(power))


@dataclass(frozen=True)
class Optics:
    """The microscope of one acquisition.

    Parameters
    ----------
    spec : AcquisitionSpec
        What it is like.
    poses : Poses
        Where its tiles lie.
    specimen : Specimen
        What it images.
    tissue_from : float
        Brightness above which the specimen is tissue and attenuates.
    """

    spec: AcquisitionSpec
    poses: Poses
    specimen: Specimen
    tissue_from: float = 0.045
    _grain: FloatArray = field(init=False, repr=False, compare=False)
    _flat: FloatArray = field(init=False, repr=False, compare=False)
    _curve: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.spec.seed, 5])
        object.__setattr__(self, "_grain", rng.standard_normal((64, 64, 64), dtype=np.float32))
        object.__setattr__(self, "_flat", shade(self.spec))
        object.__setattr__(self, "_curve", curve(self.spec))

    @property
    def rows_per_band(self) -> int:
        """B-scans that are imaged at a time: fixed by the spec, since random draws follow it."""
        per_row = (self.spec.tile_px[1] + self.spec.n_extra) * self.spec.n_z
        return int(max(1, min(_BAND_SAMPLES // per_row, self.spec.tile_px[0])))

    def frames(self, tile: TilePose) -> Iterator[FloatArray]:
        """Yield the frames (n, A-line, z) of a tile in the order of recording, some B-scans at a time."""
        rng = np.random.default_rng([self.spec.seed, 6, tile.slice_id, tile.row, tile.col])
        step = self.rows_per_band
        for start in range(0, self.spec.tile_px[0], step):
            rows = slice(start, min(start + step, self.spec.tile_px[0]))
            light = self._scan(self.expose(tile, rows))
            yield self._detect(light, rng)

    def expose(self, tile: TilePose, rows: slice) -> FloatArray:
        """Return the light (y, x, z) of some B-scans of a tile, without private speckle and noise."""
        spec, f, pose = self.spec, self.spec.faults, self.poses.slices[tile.slice_id]
        ny, nx = rows.stop - rows.start, spec.tile_px[1]
        if tile.blank:
            return np.zeros((ny, nx, spec.n_z), np.float32)
        y, x = np.meshgrid(
            tile.position_px[0] + np.arange(rows.start, rows.stop),
            tile.position_px[1] + np.arange(nx),
            indexing="ij",
        )
        bend = self._curve[rows]
        tilt = np.tan(np.deg2rad(f.surface_tilt_deg)) * spec.pixel_um
        rise = (y - self.poses.centre_px[0]) * tilt[0] + (x - self.poses.centre_px[1]) * tilt[1]
        appears = pose.surface_sample + bend
        surface = appears + rise / spec.axial_um
        ty, tx = locate_tissue(self.poses, tile.slice_id, y, x)
        ty, tx = ty * spec.pixel_um, tx * spec.pixel_um
        z0 = pose.z_um - appears * spec.axial_um
        first = np.clip(np.ceil(surface - 0.5), 0, spec.n_z).astype(np.int32)
        light = self.specimen.sample(ty, tx, z0, spec.axial_um, spec.n_z, first)
        _expose(
            light, surface, bend, self._flat[rows], ty, tx, z0, spec.axial_um,
            spec.pixel_um, np.array([17.0, 5.0, 29.0]) * (tile.slice_id + 1),
            self._grain,
            f.attenuation_per_mm, f.attenuation_contrast, self.tissue_from, f.focus_sample,
            f.rayleigh_um or 0.0, self._common_spread(), pose.gain * BRIGHT,
        )  # fmt: skip
        return light

    def _common_spread(self) -> float:
        """Return the spread of the logarithm of the speckle that overlapping tiles share."""
        f = self.spec.faults
        looks = f.speckle_looks
        return 0.0 if looks is None else float(np.sqrt(np.log1p(f.speckle_common / looks)))

    def _scan(self, light: FloatArray) -> FloatArray:
        """Lay A-lines out as the galvo records them, with its return sweep at its place."""
        n_extra, nx = self.spec.n_extra, light.shape[1]
        if n_extra == 0:
            return light
        edges = np.linspace(nx, 0, n_extra + 1)
        back = [
            light[:, int(b) : max(int(np.ceil(a)), int(b) + 1)].mean(axis=1)
            for a, b in itertools.pairwise(edges)
        ]
        band = self.spec.faults.galvo_return_level * np.stack(back, axis=1)
        frame = np.concatenate([light, band.astype(np.float32)], axis=1)
        start = self.spec.faults.galvo_return_px
        return frame if start is None else np.roll(frame, start - nx, axis=1)

    def _detect(self, light: FloatArray, rng: np.random.Generator) -> FloatArray:
        """Add private speckle, repeats and detector noise."""
        f = self.spec.faults
        if f.speckle_looks is not None:
            private = (1 + 1 / f.speckle_looks) / (1 + f.speckle_common / f.speckle_looks) - 1
            if private > 1e-9:
                speckle = rng.standard_gamma(1 / private, light.shape, dtype=np.float32)
                light = light * (speckle * np.float32(private))
        frames = np.repeat(light, f.n_repeat, axis=0)
        if f.noise_floor > 0:
            noise = rng.standard_gamma(_NOISE_LOOKS, frames.shape, dtype=np.float32)
            frames = frames + noise * np.float32(f.noise_floor * BRIGHT / _NOISE_LOOKS)
        return np.ascontiguousarray(frames, np.float32)
