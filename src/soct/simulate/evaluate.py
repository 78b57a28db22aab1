"""Score a reconstructed volume against the truth of a simulated acquisition.

Volume and truth are brought to one grid (20 um in depth, 25 um laterally), reduced to local contrast, and laid
over each other by the best whole-voxel shift. What is left is measured plane by plane: position and rotation
by a rigid registration, depth by the truth plane that fits best, brightness by the ratio of medians. Errors
are taken about their median, since one global rigid motion of the volume is no error.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import fft
from scipy import ndimage as ndi

from soct.errors import InputError
from soct.formats.ngff import parse_image
from soct.formats.ome_zarr import VolumeReader, open_volume
from soct.simulate.truth import read_truth
from soct.space import FloatArray, Volume, Voxel

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

GRID = Voxel(20.0, 25.0, 25.0)
_CONTRAST_SIGMA = (1, 6, 6)
_DEPTH_REACH = 6
_PLANES = 24
_LEAST_TISSUE = 0.05
_READ_VOXELS = 300_000_000


@dataclass(frozen=True)
class Score:
    """How far a volume is from the truth; the errors are NaN where fewer than three planes compare."""

    ncc: float
    """Normalised cross-correlation of local contrast inside tissue: 1 is perfect."""
    xy_p95_um: float
    """95th percentile over planes of the in-plane position error."""
    rot_p95_deg: float
    """95th percentile over planes of the rotation error."""
    z_p95_um: float
    """95th percentile over planes of the depth error."""
    gain_cv: float
    """Variation over planes of (volume / truth) brightness: banding and decay that are left."""
    coverage: float
    """Part of the true tissue that the volume covers, where both overlap."""
    voxel_um: tuple[float, float, float]
    shape: tuple[int, int, int]
    shift_px: tuple[int, int, int]
    """Whole voxels of the common grid by which the truth was shifted onto the volume."""

    def as_json(self) -> dict[str, Any]:
        """Return the score as JSON-able values, with null for what could not be measured."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in values.items()}


@dataclass(frozen=True)
class _Comparison:
    """Volume and truth cropped to their overlap, on the common grid."""

    volume: FloatArray
    truth: FloatArray
    volume_contrast: FloatArray
    truth_contrast: FloatArray
    tissue: Mask
    valid: Mask
    shift: tuple[int, int, int]


def evaluate(volume_path: Path, acquisition: Path, *, turn_deg: float = 0.0) -> Score:
    """Score an OME-Zarr volume against ``truth.npz`` of an acquisition.

    Parameters
    ----------
    volume_path : Path
        The OME-Zarr volume. A volume too large to hold is read from the coarsest level that is still as fine
        as the common grid.
    acquisition : Path
        The folder that holds ``truth.npz``.
    turn_deg : float
        Rotation of the volume as a whole, from +x towards +y, that takes its planes to those of the truth. It is no
        error, but the search for the best overlay only shifts: give it where slices were turned by degrees.

    Raises
    ------
    InputError
        There is no truth, no volume, or the two have nothing in common.
    """
    truth, mask = read_truth(acquisition)
    if turn_deg:
        truth, mask = turn_truth(truth, mask, turn_deg)
    return score_volume(read_volume(volume_path), truth, mask)


def turn_truth(truth: Volume, mask: Mask, turn_deg: float) -> tuple[Volume, Mask]:
    """Turn the truth as `evaluate` does for a volume that is turned as a whole."""
    share = _turned(Volume(mask.astype(np.float32), truth.voxel_um), turn_deg)
    return _turned(truth, turn_deg), share.data > 0.5


def _turned(volume: Volume, turn_deg: float) -> Volume:
    """Turn every plane about its centre; the canvas grows so that nothing is cut."""
    nz, ny, nx = volume.data.shape
    y_um, x_um = volume.voxel_um.y, volume.voxel_um.x
    angle = np.deg2rad(turn_deg)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    size = np.abs(turn) @ np.array([ny * y_um, nx * x_um])
    shape = (int(np.ceil(size[0] / y_um)), int(np.ceil(size[1] / x_um)))
    scale = np.array([y_um, x_um])
    matrix = turn * scale[None, :] / scale[:, None]
    offset = (np.array([ny, nx]) - 1) / 2 - matrix @ ((np.array(shape) - 1) / 2)
    out = np.empty((nz, *shape), np.float32)
    for z in range(nz):
        ndi.affine_transform(volume.data[z], matrix, offset, shape, out[z], order=1)
    return Volume(out, volume.voxel_um)


def read_volume(path: Path) -> Volume:
    """Read a volume, at the coarsest level that is still as fine as the common grid where it is large."""
    reader: VolumeReader = open_volume(path)
    if np.prod(reader.shape, dtype=np.int64) > _READ_VOXELS:
        for level in range(len(parse_image(path).levels) - 1, 0, -1):
            coarse = open_volume(path, level)
            if all(v <= g + 1e-6 for v, g in zip(coarse.voxel_um, GRID, strict=True)):
                reader = coarse
                break
    nz, ny, nx = reader.shape
    data = np.nan_to_num(np.asarray(reader.read((0, nz), (0, ny), (0, nx)), np.float32))
    return Volume(data, Voxel(*reader.voxel_um))


def score_volume(volume: Volume, truth: Volume, mask: Mask) -> Score:
    """Score a volume (z, y, x), 0 where it has no data, against a true volume and its tissue mask."""
    c = _compare(volume, truth, mask)
    ok = c.tissue & c.valid
    if not ok.any():
        raise InputError(
            "the volume and the truth have no tissue in common",
            expected="a volume of the same specimen",
            found=f"best shift {c.shift} voxels",
        )
    poses = _measure_planes(c, ok)
    errors = [float("nan")] * 3
    if len(poses) >= 3:
        left = poses - np.median(poses, axis=0)
        errors = [
            float(np.percentile(np.hypot(left[:, 0], left[:, 1]), 95) * GRID.x),
            float(np.percentile(np.abs(left[:, 2]), 95)),
            float(np.percentile(np.abs(left[:, 3]), 95) * GRID.z),
        ]
    gain = _measure_gain(c, ok)
    return Score(
        ncc=_correlate(c.volume_contrast, c.truth_contrast, ok),
        xy_p95_um=errors[0],
        rot_p95_deg=errors[1],
        z_p95_um=errors[2],
        gain_cv=float(gain.std() / max(float(gain.mean()), 1e-9)) if gain.size else float("nan"),
        coverage=float(ok.sum() / max(int(c.tissue.sum()), 1)),
        voxel_um=(float(volume.voxel_um.z), float(volume.voxel_um.y), float(volume.voxel_um.x)),
        shape=(int(volume.data.shape[0]), int(volume.data.shape[1]), int(volume.data.shape[2])),
        shift_px=c.shift,
    )


def _to_grid(volume: Volume) -> FloatArray:
    factors = [v / g for v, g in zip(volume.voxel_um, GRID, strict=True)]
    return np.asarray(ndi.zoom(volume.data, factors, order=1), np.float32)


def _local_contrast(data: FloatArray) -> FloatArray:
    mean = ndi.gaussian_filter(data, _CONTRAST_SIGMA)
    spread = np.sqrt(np.maximum(ndi.gaussian_filter(data * data, _CONTRAST_SIGMA) - mean**2, 0))
    # A share of the largest spread keeps flat agarose from being blown up to full contrast.
    return np.asarray((data - mean) / (spread + 0.15 * spread.max() + 1e-9), np.float32)


def _correlate(a: FloatArray, b: FloatArray, where: Mask) -> float:
    p, q = a[where].astype(np.float64), b[where].astype(np.float64)
    p, q = p - p.mean(), q - q.mean()
    return float((p * q).sum() / np.sqrt((p * p).sum() * (q * q).sum() + 1e-12))


def _find_shift(fixed: FloatArray, moving: FloatArray) -> NDArray[np.int64]:
    """Find the whole-voxel shift of `moving` at the highest cross-correlation."""
    shape = [
        fft.next_fast_len(a + b, real=True) for a, b in zip(fixed.shape, moving.shape, strict=True)
    ]
    product = fft.rfftn(fixed, shape) * np.conj(fft.rfftn(moving, shape))
    peak = np.array(np.unravel_index(int(np.argmax(fft.irfftn(product, shape))), shape))
    # Positive shifts reach to the end of `fixed`, negative ones wrap from the end of the padded array.
    return np.where(peak >= np.array(fixed.shape), peak - np.array(shape), peak).astype(np.int64)


def _compare(volume: Volume, truth: Volume, mask: Mask) -> _Comparison:
    v, t = _to_grid(volume), _to_grid(truth)
    m = _to_grid(Volume(mask.astype(np.float32), truth.voxel_um)) > 0.5
    m = ndi.binary_erosion(m, iterations=2)
    valid = ndi.binary_erosion(v != 0, iterations=2)
    vc, tc = _local_contrast(v), _local_contrast(t)
    shift = _find_shift(vc * valid, tc * m)
    low, high = np.maximum(shift, 0), np.minimum(v.shape, np.array(t.shape) + shift)
    if np.any(high - low < 4):
        raise InputError(
            "the volume and the truth do not overlap",
            expected="a volume of the same specimen",
            found=f"best shift {shift.tolist()} voxels of {tuple(GRID)} um",
        )
    a = tuple(slice(int(i), int(j)) for i, j in zip(low, high, strict=True))
    b = tuple(slice(int(i), int(j)) for i, j in zip(low - shift, high - shift, strict=True))
    at = (int(shift[0]), int(shift[1]), int(shift[2]))
    return _Comparison(v[a], t[b], vc[a], tc[b], m[b], valid[a], at)


def _measure_planes(c: _Comparison, ok: Mask) -> Floats:
    """Measure (dy, dx in voxels, rotation in degrees, dz in planes) of some planes, shape (n, 4)."""
    n = len(c.volume_contrast)
    rows = []
    for z in range(1, n - 1, max(1, n // _PLANES)):
        if ok[z].mean() < _LEAST_TISSUE:
            continue
        depths = [d for d in range(-_DEPTH_REACH, _DEPTH_REACH + 1) if 0 <= z + d < n]
        fits = [_correlate(c.volume_contrast[z], c.truth_contrast[z + d], ok[z]) for d in depths]
        best = int(np.argmax(fits))
        moving = c.truth_contrast[z + depths[best]]
        pose = _register(c.volume_contrast[z], moving, ok[z], fits[best])
        if pose is not None:
            rows.append((*pose, float(depths[best])))
    return np.asarray(rows, np.float64).reshape(-1, 4)


def _register(
    fixed: FloatArray, moving: FloatArray, where: Mask, start: float
) -> tuple[float, float, float] | None:
    """Rigid motion (dy, dx, degrees) of one plane; none where the optimiser fails, zero where it gets lost."""
    f, m = sitk.GetImageFromArray(fixed), sitk.GetImageFromArray(moving)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetMetricFixedMask(sitk.GetImageFromArray(where.astype(np.uint8)))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetShrinkFactorsPerLevel([2, 1])
    method.SetSmoothingSigmasPerLevel([1, 0])
    method.SetOptimizerAsRegularStepGradientDescent(0.5, 1e-4, 200)
    method.SetOptimizerScalesFromPhysicalShift()
    transform = sitk.Euler2DTransform()
    transform.SetCenter([(n - 1) / 2 for n in f.GetSize()])
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(f, m)
    except RuntimeError:
        return None
    moved = sitk.GetArrayFromImage(sitk.Resample(m, f, transform, sitk.sitkLinear, 0.0))
    if _correlate(fixed, moved, where) < start - 1e-3:
        return 0.0, 0.0, 0.0
    dx, dy = transform.GetTranslation()
    return float(dy), float(dx), float(np.rad2deg(transform.GetAngle()))


def _measure_gain(c: _Comparison, ok: Mask) -> Floats:
    """Median ratio of volume to truth inside tissue, for every plane with enough of it."""
    planes = [z for z in range(len(ok)) if ok[z].mean() > _LEAST_TISSUE]
    return np.array(
        [np.median(c.volume[z][ok[z]] / np.maximum(c.truth[z][ok[z]], 0.05)) for z in planes],
        np.float64,
    )
