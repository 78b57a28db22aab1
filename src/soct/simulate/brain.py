"""A procedural mouse-like brain: brightness as a function of position, with no volume behind it.

The brain is evaluated point by point, at any voxel size and for any block, so a simulated acquisition needs
no more memory than one band of one tile and no interpolation blurs what the microscope sees. Positions are
``(z, y, x)`` in micrometres in the frame of the block: ``z`` grows into the tissue, the origin is up to the
caller. The texture is value noise (K. Perlin's lattice noise with a quintic fade) on rotated lattices, from
octaves of decreasing size; octaves finer than the sampling are left out, as an optical resolution would.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soct.simulate.spec import BrainSpec
from soct.space import FloatArray, Voxel

Floats = NDArray[np.float64]
Integers = NDArray[np.int32]

AGAROSE = 0.03
"""Brightness of what surrounds the brain; tissue lies mostly between 0.3 and 1.5."""

_LATTICE = 64
_OCTAVES_UM = (700.0, 330.0, 160.0, 85.0, 46.0, 24.0, 12.0)
_AMPLITUDES = (0.16, 0.18, 0.20, 0.25, 0.19, 0.16, 0.12)
# Standard deviation of quintic value noise on a lattice of unit variance (0.7835 per axis, cubed, rooted).
_NOISE_STD = 0.6935


class Specimen(Protocol):
    """Anything that a simulated microscope can image."""

    def sample(
        self,
        y_um: Floats,
        x_um: Floats,
        z0_um: Floats,
        dz_um: float,
        n_z: int,
        first: Integers,
    ) -> FloatArray:
        """Return the brightness (ny, nx, n_z) along A-lines.

        A-line (j, i) lies at ``y_um[j, i], x_um[j, i]``; its sample k at depth ``z0_um[j, i] + k * dz_um``.
        Samples before ``first[j, i]`` are 0 (nothing is there).
        """
        ...

    def contains(self, brightness: FloatArray) -> NDArray[np.bool_]:
        """Tell tissue from what surrounds it, from brightness without speckle."""
        ...


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _noise(lattice: FloatArray, a: float, b: float, c: float) -> float:
    """Value noise of unit variance at a position in lattice units."""
    fa, fb, fc = np.floor(a), np.floor(b), np.floor(c)
    u, v, w = a - fa, b - fb, c - fc
    u = u * u * u * (u * (u * 6 - 15) + 10)
    v = v * v * v * (v * (v * 6 - 15) + 10)
    w = w * w * w * (w * (w * 6 - 15) + 10)
    i0, j0, k0 = int(fa) & 63, int(fb) & 63, int(fc) & 63
    i1, j1, k1 = (i0 + 1) & 63, (j0 + 1) & 63, (k0 + 1) & 63
    p = lattice[i0, j0, k0] * (1 - w) + lattice[i0, j0, k1] * w
    q = lattice[i0, j1, k0] * (1 - w) + lattice[i0, j1, k1] * w
    r = lattice[i1, j0, k0] * (1 - w) + lattice[i1, j0, k1] * w
    s = lattice[i1, j1, k0] * (1 - w) + lattice[i1, j1, k1] * w
    return float(((p * (1 - v) + q * v) * (1 - u) + (r * (1 - v) + s * v) * u) / 0.6935)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _octave(lattice: FloatArray, m: Floats, z: float, y: float, x: float) -> float:
    """Noise in the lattice frame of one octave: rows of `m` are (rotation / spacing, offset)."""
    return _noise(
        lattice,
        m[0, 0] * z + m[0, 1] * y + m[0, 2] * x + m[0, 3],
        m[1, 0] * z + m[1, 1] * y + m[1, 2] * x + m[1, 3],
        m[2, 0] * z + m[2, 1] * y + m[2, 2] * x + m[2, 3],
    )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _ramp(value: float, low: float, high: float) -> float:
    t = min(max((value - low) / (high - low), 0.0), 1.0)
    return t * t * (3 - 2 * t)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _ball(z: float, y: float, x: float, rz: float, ry: float, rx: float) -> float:
    """Negative inside an ellipsoid, 0 on it: distance in units of its half axes."""
    return float(np.sqrt((z / rz) ** 2 + (y / ry) ** 2 + (x / rx) ** 2) - 1.0)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _anatomy(lattice: FloatArray, fibres: Floats, z: float, y: float, x: float,
             p: tuple[float, float, float], warp: float) -> tuple[float, float]:  # fmt: skip
    """Return the outline (negative inside) and mean brightness at a position.

    `p` is the position in units of the half axes; `warp` a slow noise that keeps edges from being smooth.
    """
    a, b, c = p
    m = abs(c)
    hemisphere = _ball(a + 0.05, b + 0.02, m - 0.38, 0.92, 0.90, 0.58) + 0.035 * warp
    stem = _ball(a - 0.1, b - 0.45, c, 0.95, 0.50, 0.48) + 0.03 * warp
    cerebellum = _ball(a - 0.80, b + 0.15, c, 0.36, 0.66, 0.72) + 0.02 * warp
    outline = min(hemisphere, stem, cerebellum)
    if outline > 0.06:
        return outline, 0.0
    depth = -hemisphere
    level = 0.62
    if cerebellum < hemisphere and cerebellum < stem:
        # Folia: layers that follow the depth below the cerebellum's own surface and run across it.
        level = 0.65 + 0.3 * np.sin(30 * cerebellum + 16 * b + 1.5 * warp)
    elif depth > 0:
        if depth < 0.34:
            level = (
                0.66 + 0.10 * np.cos(depth * 58 + 0.8 * warp) + 0.22 * _ramp(0.05 - depth, 0, 0.05)
            )
        else:
            bundle = _octave(lattice, fibres[0], z, y, x)
            level = 0.52 + 0.55 * _ramp(bundle, 0.5, 1.4)
        white = np.exp(-(((depth - 0.36 - 0.02 * warp) / 0.045) ** 2))
        if white > 0.02:
            level += white * (0.75 + 0.25 * _octave(lattice, fibres[1], z, y, x))
    else:
        level = 0.58 + 0.30 * _ramp(_octave(lattice, fibres[2], z, y, x), 0.2, 1.2)
    ventricle = min(
        _ball(a - 0.05, b + 0.16 + 0.35 * (m - 0.22), m - 0.22 - 0.02 * warp, 0.55, 0.26, 0.055),
        _ball(a - 0.1, b - 0.12, c, 0.7, 0.25, 0.022),
    )
    level = 0.05 + (level - 0.05) * _ramp(ventricle, -0.05, 0.15)
    return outline, level


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _render(out: FloatArray, y_um: Floats, x_um: Floats, z0_um: Floats, dz: float, first: Integers,
            lattice: FloatArray, octaves: Floats, amplitudes: Floats, fibres: Floats, vessels: Floats,
            centre: Floats, radius: Floats, tilt: float, vessel_depth: float) -> None:  # fmt: skip
    """Brightness along A-lines, see `Specimen.sample`."""
    power = 0.0
    for o in range(amplitudes.shape[0]):
        power += amplitudes[o] ** 2
    cos, sin = np.cos(tilt), np.sin(tilt)
    ny, nx, nz = out.shape
    for j in range(ny):
        for i in range(nx):
            y, x = y_um[j, i], x_um[j, i]
            c = (x - centre[2]) / radius[2]
            for k in range(first[j, i]):
                out[j, i, k] = 0.0
            for k in range(first[j, i], nz):
                z = z0_um[j, i] + k * dz
                a = (cos * (z - centre[0]) + sin * (y - centre[1])) / radius[0]
                b = (cos * (y - centre[1]) - sin * (z - centre[0])) / radius[1]
                warp = _octave(lattice, octaves[0], z, y, x)
                outline, level = _anatomy(lattice, fibres, z, y, x, (a, b, c), warp)
                if outline > 0.012:
                    out[j, i, k] = AGAROSE
                    continue
                t = amplitudes[0] * warp
                for o in range(1, amplitudes.shape[0]):
                    t += amplitudes[o] * _octave(lattice, octaves[o], z, y, x)
                level *= np.exp(t - power / 2)
                if vessel_depth > 0:
                    e = _octave(lattice, vessels[0], z, y, x)
                    f = _octave(lattice, vessels[1], z, y, x)
                    # Two zero surfaces of independent noise meet in curves: a network of tubes.
                    level *= 1 - vessel_depth * (1 - _ramp(e * e + f * f, 0.01, 0.04))
                edge = _ramp(outline, -0.012, 0.012)
                level = min(level, 3.5)
                out[j, i, k] = AGAROSE + (max(level, AGAROSE) - AGAROSE) * (1 - edge)


def _frame(rng: np.random.Generator, spacing_um: tuple[float, float, float]) -> Floats:
    """Build a random rotation of a lattice with this spacing along its own axes, and an offset (3, 4)."""
    q, r = np.linalg.qr(rng.standard_normal((3, 3)))
    rotation = q * np.sign(np.diag(r))
    offset = rng.uniform(0, _LATTICE, (3, 1))
    return np.concatenate([rotation / np.asarray(spacing_um)[:, None], offset], axis=1)


def _aligned(
    rng: np.random.Generator, axis: tuple[float, float, float], along_um: float, across_um: float
) -> Floats:
    """Build the frame of a bundle of fibres that run along `axis`."""
    first = np.asarray(axis) / np.linalg.norm(axis)
    second = np.cross(first, [0.31, 0.74, 0.6])
    second /= np.linalg.norm(second)
    rotation = np.stack([first, second, np.cross(first, second)])
    spacing = np.array([[along_um], [across_um], [across_um]])
    return np.concatenate([rotation / spacing, rng.uniform(0, _LATTICE, (3, 1))], axis=1)


@dataclass(frozen=True)
class Brain:
    """The procedural brain of one `BrainSpec`, seen at one lateral resolution.

    Parameters
    ----------
    spec : BrainSpec
        Size, character and seed: the same spec gives the same brain.
    finest_um : float
        Texture finer than about twice this length is left out.
    """

    spec: BrainSpec
    finest_um: float = 25.0
    _lattice: FloatArray = field(init=False, repr=False, compare=False)
    _octaves: Floats = field(init=False, repr=False, compare=False)
    _amplitudes: Floats = field(init=False, repr=False, compare=False)
    _fibres: Floats = field(init=False, repr=False, compare=False)
    _vessels: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([self.spec.seed, 1])
        lattice = rng.standard_normal((_LATTICE,) * 3, dtype=np.float32)
        object.__setattr__(self, "_lattice", lattice)
        every = np.stack([_frame(rng, (s, s, s)) for s in _OCTAVES_UM])
        # The anatomy needs the slowest octave at any resolution.
        kept = [o for o, s in enumerate(_OCTAVES_UM) if o == 0 or s >= 1.6 * self.finest_um]
        object.__setattr__(self, "_octaves", np.ascontiguousarray(every[kept]))
        object.__setattr__(self, "_amplitudes", np.asarray(_AMPLITUDES)[kept] * self.spec.texture)
        fine = max(48.0, 1.8 * self.finest_um)
        fibres = [
            _aligned(rng, (1.0, 0.15, 0.1), 8 * fine, 1.4 * fine),
            _aligned(rng, (0.1, 0.1, 1.0), 8 * fine, fine),
            _aligned(rng, (0.3, 1.0, 0.4), 8 * fine, fine),
        ]
        object.__setattr__(self, "_fibres", np.stack(fibres))
        size = max(420.0, 12 * self.finest_um)
        object.__setattr__(
            self, "_vessels", np.stack([_frame(rng, (size, size, size)) for _ in range(2)])
        )

    def sample(
        self,
        y_um: Floats,
        x_um: Floats,
        z0_um: Floats,
        dz_um: float,
        n_z: int,
        first: Integers,
    ) -> FloatArray:
        """Return the brightness along A-lines, see `Specimen.sample`."""
        out = np.empty((*y_um.shape, n_z), np.float32)
        _render(
            out,
            y_um,
            x_um,
            z0_um,
            dz_um,
            first,
            self._lattice,
            self._octaves,
            self._amplitudes,
            self._fibres,
            self._vessels,
            np.asarray(self.spec.centre_um),
            np.asarray(self.spec.radius_um),
            np.deg2rad(self.spec.tilt_deg),
            0.75 * self.spec.vessels,
        )
        return out

    def contains(self, brightness: FloatArray) -> NDArray[np.bool_]:
        """Tell tissue from agarose: everything brighter than agarose."""
        return brightness > 1.5 * AGAROSE


def sample_block(
    specimen: Specimen,
    z_um: tuple[float, float],
    y_um: tuple[float, float],
    x_um: tuple[float, float],
    voxel_um: Voxel,
) -> FloatArray:
    """Return the brightness (z, y, x) of a block: first voxel centre at the lower ends, ends excluded."""
    y, x = np.meshgrid(np.arange(*y_um, voxel_um.y), np.arange(*x_um, voxel_um.x), indexing="ij")
    n_z = len(np.arange(*z_um, voxel_um.z))
    lines = specimen.sample(
        y, x, np.full(y.shape, z_um[0]), voxel_um.z, n_z, np.zeros(y.shape, np.int32)
    )
    return np.ascontiguousarray(np.moveaxis(lines, 2, 0))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _interpolate(out: FloatArray, y_px: Floats, x_px: Floats, z0_px: Floats, dz_px: float,
                 first: Integers, volume: FloatArray, outside: float) -> None:  # fmt: skip
    ny, nx, nz = out.shape
    dz, dy, dx = volume.shape
    for j in range(ny):
        for i in range(nx):
            y, x = y_px[j, i], x_px[j, i]
            y0, x0 = int(np.floor(y)), int(np.floor(x))
            within = 0 <= y0 < dy - 1 and 0 <= x0 < dx - 1
            fy, fx = y - y0, x - x0
            for k in range(first[j, i]):
                out[j, i, k] = 0.0
            for k in range(first[j, i], nz):
                z = z0_px[j, i] + k * dz_px
                z0 = int(np.floor(z))
                if not within or z0 < 0 or z0 >= dz - 1:
                    out[j, i, k] = outside
                    continue
                fz = z - z0
                value = 0.0
                for a in range(2):
                    for b in range(2):
                        for c in range(2):
                            weight = (fz if a else 1 - fz) * (fy if b else 1 - fy)
                            value += weight * (fx if c else 1 - fx) * volume[z0 + a, y0 + b, x0 + c]
                out[j, i, k] = value


@dataclass(frozen=True)
class GivenVolume:
    """A specimen from an array, sampled linearly; outside of it there is agarose.

    Parameters
    ----------
    data : (z, y, x) float32
        Brightness, tissue around 0.5.
    voxel_um : Voxel
        Its voxel size.
    centre_um : (float, float, float)
        Where the centre of the array lies in the block's frame, as a brain's centre.
    """

    data: FloatArray
    voxel_um: Voxel
    centre_um: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def sample(
        self,
        y_um: Floats,
        x_um: Floats,
        z0_um: Floats,
        dz_um: float,
        n_z: int,
        first: Integers,
    ) -> FloatArray:
        """Return the brightness along A-lines, see `Specimen.sample`."""
        middle = [(n - 1) / 2 for n in self.data.shape]
        z, y, x = (
            (p - c) / v + m
            for p, c, v, m in zip(
                (z0_um, y_um, x_um), self.centre_um, self.voxel_um, middle, strict=True
            )
        )
        out = np.empty((*y_um.shape, n_z), np.float32)
        _interpolate(out, y, x, z, dz_um / self.voxel_um.z, first, self.data, AGAROSE)
        return out

    def contains(self, brightness: FloatArray) -> NDArray[np.bool_]:
        """Tell tissue from agarose: everything brighter than agarose."""
        return brightness > 1.5 * AGAROSE
