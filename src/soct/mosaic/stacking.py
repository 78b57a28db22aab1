"""Functions on pairs of slice volumes, under the names that scripts written for linumpy use.

They work on arrays in memory; `soct.mosaic.stack_rendering` is what the pipeline stacks whole brains with.
Volumes are ``(Z, Y, X)``; a value of 0 is no data. Convention for space: see `soct.space`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage as ndi
from skimage.registration import phase_cross_correlation

Array = NDArray[Any]
BlendMethod = Literal["none", "average", "max", "feather"]
Window = tuple[int, int, int, int]

_FIELDS = ("overlap_voxels", "blend_overlap_voxels")


def enforce_z_consistency(
    z_matches: list[MutableMapping[str, Any]],
    confidence_per_slice: Sequence[float] | Mapping[Any, float] | None = None,
    outlier_threshold_frac: float = 0.3,
    confidence_protect_threshold: float = 0.6,
) -> tuple[list[MutableMapping[str, Any]], list[dict[str, Any]]]:
    """Replace overlaps in depth that stand out from the others.

    Parameters
    ----------
    z_matches : list of dict
        With ``overlap_voxels``, ``blend_overlap_voxels`` (voxels) and ``moving_id``; changed in place.
    confidence_per_slice : sequence or mapping of float, optional
        Confidence of each entry, in order or by ``moving_id``; 0.5 everywhere when absent.
    outlier_threshold_frac : float
        An entry that deviates from the median by more than this fraction of it is an outlier.
    confidence_protect_threshold : float
        Entries of at least this confidence are kept.

    Returns
    -------
    z_matches : list of dict
        The same list.
    corrections : list of dict
        ``moving_id, field, old_value, new_value`` of every change.

    Notes
    -----
    An outlier becomes the median of its immediate neighbours, as measured. Both fields are treated on their own.
    """
    corrections: list[dict[str, Any]] = []
    for field in _FIELDS:
        values = [float(match[field]) for match in z_matches]
        if len(values) < 2:
            continue
        middle = float(np.median(values))
        for i, match in enumerate(z_matches):
            if abs(values[i] - middle) <= outlier_threshold_frac * abs(middle):
                continue
            if _confidence(confidence_per_slice, i, match) >= confidence_protect_threshold:
                continue
            beside = values[max(i - 1, 0) : i] + values[i + 1 : i + 2]
            new = type(match[field])(round(float(np.median(beside))))
            if new == match[field]:
                continue
            corrections.append(
                {
                    "moving_id": match["moving_id"],
                    "field": field,
                    "old_value": match[field],
                    "new_value": new,
                }
            )
            match[field] = new
    return z_matches, corrections


def _confidence(
    given: Sequence[float] | Mapping[Any, float] | None, i: int, match: Mapping[str, Any]
) -> float:
    if given is None:
        return 0.5
    if isinstance(given, Mapping):
        return float(given.get(match["moving_id"], 0.5))
    return float(given[i])


def find_z_overlap(
    fixed_vol: Array,
    moving_vol: Array,
    slicing_interval_mm: float,
    search_range_mm: float,
    resolution_um: float,
) -> tuple[int, float]:
    """Find by how many planes the end of one slice overlaps the start of the next.

    Parameters
    ----------
    fixed_vol, moving_vol : ndarray (Z, Y, X)
        Aligned in the plane. Their central half along y and x is compared.
    slicing_interval_mm : float
        Cut thickness: the expected overlap is the fixed slice's depth less this.
    search_range_mm : float
        How far from the expected overlap to look.
    resolution_um : float
        Axial voxel size.

    Returns
    -------
    best_overlap : int
        Planes: ``fixed_vol[-best_overlap:]`` shows what ``moving_vol[:best_overlap]`` shows. The expected
        overlap where nothing could be compared.
    best_corr : float
        Normalised cross-correlation there; 0 where nothing could be compared.

    Raises
    ------
    ValueError
        Volumes that are not 3-D, or a resolution that is not positive.
    """
    if fixed_vol.ndim != 3 or moving_vol.ndim != 3 or resolution_um <= 0:
        raise ValueError("volumes must be (Z, Y, X) and the resolution positive")
    fixed, moving = _centre(fixed_vol), _centre(moving_vol)
    most = min(len(fixed), len(moving))
    expected = round(len(fixed) - slicing_interval_mm * 1000 / resolution_um)
    expected = min(max(expected, 1), most)
    reach = math.ceil(search_range_mm * 1000 / resolution_um)
    best, best_corr = expected, -np.inf
    # The expected overlap comes first, so that a tie does not move away from it.
    for overlap in sorted(
        range(max(1, expected - reach), min(most, expected + reach) + 1),
        key=lambda o: (abs(o - expected), o),
    ):
        corr = _ncc(fixed[-overlap:], moving[:overlap])
        if corr > best_corr:
            best, best_corr = overlap, corr
    return best, float(best_corr) if np.isfinite(best_corr) else 0.0


def _centre(volume: Array) -> Array:
    _, h, w = volume.shape
    return volume[:, h // 4 : max(h - h // 4, 1), w // 4 : max(w - w // 4, 1)]


def _ncc(a: Array, b: Array) -> float:
    h, w = min(a.shape[1], b.shape[1]), min(a.shape[2], b.shape[2])
    a, b = np.asarray(a[:, :h, :w], np.float64), np.asarray(b[:, :h, :w], np.float64)
    seen = (a != 0) & (b != 0) & np.isfinite(a) & np.isfinite(b)
    if np.count_nonzero(seen) < 16:
        return -np.inf
    p, q = a[seen] - a[seen].mean(), b[seen] - b[seen].mean()
    scale = math.sqrt(float((p * p).sum()) * float((q * q).sum()))
    return float((p * q).sum()) / scale if scale > 0 else -np.inf


def _euler_2d(
    transform: Any, rotation_only: bool, max_rotation_deg: float, override_rotation: float | None
) -> sitk.Euler2DTransform:
    """In-plane part of a 2-D or 3-D Euler transform, with its rotation limited."""
    name = transform.GetName()
    if name == "CompositeTransform" and transform.GetNumberOfTransforms() == 1:
        return _euler_2d(
            transform.GetNthTransform(0), rotation_only, max_rotation_deg, override_rotation
        )
    if name not in ("Euler2DTransform", "Euler3DTransform"):
        raise ValueError(
            f"a transform of type {name}: expected Euler2DTransform or Euler3DTransform"
        )
    fixed, values = transform.GetFixedParameters(), transform.GetParameters()
    angle, shift = (
        (values[0], values[1:3]) if name == "Euler2DTransform" else (values[2], values[3:5])
    )
    if override_rotation is not None:
        angle = float(override_rotation)
    if max_rotation_deg > 0:
        limit = math.radians(max_rotation_deg)
        angle = min(max(angle, -limit), limit)
    result = sitk.Euler2DTransform()
    result.SetCenter([float(v) for v in fixed[:2]])
    result.SetAngle(angle)
    result.SetTranslation((0.0, 0.0) if rotation_only else tuple(float(v) for v in shift))
    return result


def apply_2d_transform(
    image_2d: Array,
    transform: Any,
    rotation_only: bool = False,
    max_rotation_deg: float = 1.0,
    override_rotation: float | None = None,
) -> Array:
    """Resample an image through the in-plane part of a SimpleITK Euler transform.

    Parameters
    ----------
    image_2d : ndarray (Y, X)
    transform : SimpleITK.Euler2DTransform or Euler3DTransform
        Output to input points, ``(x, y[, z])`` in pixels.
    rotation_only : bool
        Leave the translation out.
    max_rotation_deg : float
        Larger rotations, in either direction, are clamped to it; 0 clamps nothing.
    override_rotation : float, optional
        Rotation in radians to use in place of the transform's; clamped too.

    Returns
    -------
    float32 ndarray (Y, X)
        Linear interpolation, 0 outside.

    Raises
    ------
    ValueError
        Another type of transform.
    """
    plane = sitk.GetImageFromArray(np.ascontiguousarray(image_2d, dtype=np.float32))
    euler = _euler_2d(transform, rotation_only, max_rotation_deg, override_rotation)
    return np.asarray(
        sitk.GetArrayFromImage(sitk.Resample(plane, plane, euler, sitk.sitkLinear, 0.0))
    )


def apply_transform_to_volume(
    vol: Array,
    transform: Any,
    rotation_only: bool = False,
    max_rotation_deg: float = 1.0,
    override_rotation: float | None = None,
) -> Array:
    """Apply `apply_2d_transform` to every plane of a volume ``(Z, Y, X)``; see there."""
    out = np.empty(vol.shape, np.float32)
    for z, plane in enumerate(vol):
        out[z] = apply_2d_transform(
            plane, transform, rotation_only, max_rotation_deg, override_rotation
        )
    return out


def apply_xy_shift(
    vol: Array, dx_px: float, dy_px: float, output_shape: Sequence[int]
) -> tuple[Array | None, Window | None]:
    """Cut from a volume what a shift leaves within a canvas, without allocating the canvas.

    Parameters
    ----------
    vol : ndarray (Z, Y, X)
    dx_px, dy_px : float
        Where the volume's first pixel lands on the canvas; rounded to whole pixels.
    output_shape : sequence of int
        Canvas size, ``(Y, X)`` last.

    Returns
    -------
    cropped : ndarray (Z, y, x) or None
        A view of `vol`; None when nothing falls on the canvas.
    window : (y_start, y_end, x_start, x_end) or None
        Where it belongs on the canvas.
    """
    ny, nx = vol.shape[-2:]
    height, width = int(output_shape[-2]), int(output_shape[-1])
    dy, dx = round(float(dy_px)), round(float(dx_px))
    y0, y1 = max(dy, 0), min(dy + ny, height)
    x0, x1 = max(dx, 0), min(dx + nx, width)
    if y1 <= y0 or x1 <= x0:
        return None, None
    return vol[..., y0 - dy : y1 - dy, x0 - dx : x1 - dx], (y0, y1, x0, x1)


def blend_overlap_z(fixed_region: Array, moving_region: Array) -> Array:
    """Blend two views of the same planes with a raised cosine over depth.

    Parameters
    ----------
    fixed_region, moving_region : ndarray (Z, Y, X)
        The moving slice's weight is ``w(z) = (1 - cos(pi z / (nz - 1))) / 2``; one plane is averaged.

    Returns
    -------
    float32 ndarray (Z, Y, X)
        Where only one of the two is valid (not 0), that one.

    Raises
    ------
    ValueError
        Regions of different shapes.
    """
    fixed, moving = _same_shape(fixed_region, moving_region)
    nz = fixed.shape[0]
    z = np.arange(nz, dtype=np.float32)
    weight = (1 - np.cos(np.pi * z / (nz - 1))) / 2 if nz > 1 else np.full(1, 0.5)
    weight = weight.astype(np.float32).reshape(-1, *(1,) * (fixed.ndim - 1))
    mixed = (1 - weight) * fixed + weight * moving
    return _where_one_is_valid(fixed, moving, mixed)


def _same_shape(a: Array, b: Array) -> tuple[Array, Array]:
    if a.shape != b.shape:
        raise ValueError(f"regions of shape {a.shape} and {b.shape} cannot be blended")
    return np.asarray(a, np.float32), np.asarray(b, np.float32)


def _where_one_is_valid(a: Array, b: Array, mixed: Array) -> Array:
    return np.where(a == 0, b, np.where(b == 0, a, mixed)).astype(np.float32)


def blend_overlap_xy(existing: Array, new_data: Array, method: BlendMethod = "none") -> Array:
    """Blend new data into what is there.

    Parameters
    ----------
    existing, new_data : ndarray (..., Y, X)
        0 is no data and never averages in.
    method : {"none", "average", "max", "feather"}
        ``none`` overwrites; ``feather`` weighs both by the distance to the border of their data.

    Returns
    -------
    float32 ndarray

    Raises
    ------
    ValueError
        Regions of different shapes, or an unknown method.
    """
    old, new = _same_shape(existing, new_data)
    if method == "none":
        mixed = new
    elif method == "average":
        mixed = (old + new) / 2
    elif method == "max":
        mixed = np.maximum(old, new)
    elif method == "feather":
        near_old, near_new = _border_distance(old), _border_distance(new)
        total = near_old + near_new
        share = np.divide(
            near_new, total, out=np.full(total.shape, 0.5, np.float32), where=total > 0
        )
        mixed = (1 - share) * old + share * new
    else:
        raise ValueError(f"there is no method {method!r}: choose none, average, max or feather")
    return _where_one_is_valid(old, new, mixed)


def _border_distance(data: Array) -> NDArray[np.float32]:
    """Distance of each pixel with data to the nearest one without, plane by plane."""
    planes = data.reshape(-1, *data.shape[-2:])
    out = np.stack(
        [ndi.distance_transform_edt(np.pad(plane != 0, 1))[1:-1, 1:-1] for plane in planes]
    )
    return out.reshape(data.shape).astype(np.float32)


def refine_z_blend_overlap(
    existing: Array, moving_overlap: Array, max_refinement_px: float
) -> tuple[Array, float]:
    """Shift an overlap in the plane onto what is there, by what is left between their depth projections.

    Parameters
    ----------
    existing, moving_overlap : ndarray (Z, Y, X)
        The same planes of two slices.
    max_refinement_px : float
        A longer shift is not believed.

    Returns
    -------
    refined : ndarray (Z, Y, X)
        `moving_overlap`, shifted with linear interpolation; itself when no shift is believed.
    magnitude : float
        Length of the shift in pixels, 0.0 when unchanged.
    """
    fixed, moving = _same_shape(existing, moving_overlap)
    a, b = fixed.mean(axis=0), moving.mean(axis=0)
    if max_refinement_px <= 0 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return moving_overlap, 0.0
    window = np.outer(np.hanning(a.shape[0] + 2)[1:-1], np.hanning(a.shape[1] + 2)[1:-1])
    shift, _, _ = phase_cross_correlation(
        (a - a.mean()) * window, (b - b.mean()) * window, upsample_factor=20, normalization=None
    )
    magnitude = float(np.hypot(*shift))
    if not np.isfinite(magnitude) or magnitude > max_refinement_px or magnitude == 0.0:
        return moving_overlap, 0.0
    valid = ndi.shift((moving != 0).astype(np.float32), (0, *shift), order=1)
    moved = ndi.shift(moving, (0, *shift), order=1)
    refined = np.divide(moved, valid, out=np.zeros_like(moved), where=valid > 0.5)
    return refined, magnitude
