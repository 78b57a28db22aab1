"""A stack of flat mosaics: one plane per slice, without run folder, in minutes.

Every slice is projected over depth and stitched in the plane (`soct.tools.quick_stitch`); each is registered to
the next two, and all poses follow together, as those of the full pipeline do (`soct.registration.slice_poses`).
The planes lie one cut apart: slices that are absent leave an empty plane, so depth stays true.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from soct.errors import InputError, UsageError

if TYPE_CHECKING:
    from soct.formats.acquisition import Acquisition
    from soct.registration.slice_poses import PairMeasurement, SlicePoses
    from soct.space import FloatArray, Voxel
    from soct.tools.quick_stitch import QuickMosaic, QuickOptions

MAX_STEP_UM = 500.0
MAX_ROTATION_DEG = 3.0
MAX_PLANES = 10_000
_DEFAULT_CUT_UM = 200.0


@dataclass(frozen=True)
class FlatStack:
    """A stack of flat mosaics.

    Attributes
    ----------
    planes : ndarray of float32, shape (Z, Y, X)
        One plane per slice number, from the first to the last; 0 where there are no data.
    voxel_um : Voxel
    slices : tuple of int
        Slices with an image.
    poses : SlicePoses
        In pixels of the planes.
    mosaics : tuple of QuickMosaic
        Of those slices; without their images.
    origin_px : tuple of float
        Canvas position (y, x) of the planes' first pixel, in the frame of the poses.
    notes : tuple of str
        What a user should know.
    """

    planes: FloatArray
    voxel_um: Voxel
    slices: tuple[int, ...]
    poses: SlicePoses
    mosaics: tuple[QuickMosaic, ...]
    origin_px: tuple[float, float]
    notes: tuple[str, ...]


def _reduced(image: FloatArray, factor: tuple[int, int]) -> FloatArray:
    """Return means over blocks, NaN where less than half of a block has data."""
    import numpy as np

    fy, fx = factor
    ny, nx = -(-image.shape[0] // fy), -(-image.shape[1] // fx)
    padded = np.full((ny * fy, nx * fx), np.nan, np.float32)
    padded[: image.shape[0], : image.shape[1]] = image
    blocks = padded.reshape(ny, fy, nx, fx)
    count = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.nansum(blocks, axis=(1, 3), dtype=np.float64)
    means = np.where(2 * count >= fy * fx, total / np.maximum(count, 1), np.nan)
    return means.astype(np.float32)


def _cut_um(acquisition: Acquisition, given_um: float | None) -> tuple[float, str]:
    """Return the distance between slices, and a note where nothing told it."""
    import numpy as np

    if given_um is not None:
        return given_um, ""
    if (session := acquisition.session.get("slice_thickness_mm")) is not None:
        return 1000 * float(session), ""
    heights = {
        i: [t.stage_mm[2] for t in record.tiles if t.stage_mm[2] is not None]
        for i, record in acquisition.slices.items()
    }
    known = sorted((i, float(np.median(z))) for i, z in heights.items() if z)
    steps = [1000 * abs(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(known)]
    if steps and np.median(steps) > 0:
        return float(np.median(steps)), ""
    return _DEFAULT_CUT_UM, f"cuts of {_DEFAULT_CUT_UM:g} um are assumed (--cut-um sets it)"


def _pairs(
    ids: list[int],
    images: dict[int, FloatArray],
    origins: dict[int, tuple[float, float]],
    pixel_um: float,
) -> list[PairMeasurement]:
    import numpy as np

    from soct.registration.slice_pair import register_slice_pair
    from soct.registration.slice_poses import PairMeasurement
    from soct.registration.transforms import RigidTransform2D

    measured = []
    links = [*itertools.pairwise(ids), *zip(ids, ids[2:], strict=False)]
    for fixed, moving in links:
        a, b = images[fixed], images[moving]
        start = tuple(m - f for f, m in zip(origins[fixed], origins[moving], strict=True))
        found = register_slice_pair(
            np.nan_to_num(a),
            np.nan_to_num(b),
            fixed_valid=np.isfinite(a),
            moving_valid=np.isfinite(b),
            initial_shift=(start[0], start[1]),
            max_translation_px=MAX_STEP_UM / pixel_um,
            max_rotation_deg=MAX_ROTATION_DEG,
        )
        transform = found.transform if found.accepted else None
        assert transform is None or isinstance(transform, RigidTransform2D)
        measured.append(
            PairMeasurement(
                fixed,
                moving,
                transform,
                found.confidence,
                found.covariance if found.accepted else None,
            )
        )
    return measured


def _render(
    images: dict[int, FloatArray], poses: SlicePoses, ids: range
) -> tuple[FloatArray, tuple[float, float]]:
    """Resample every slice onto a canvas that holds all of them."""
    import numpy as np
    from scipy import ndimage as ndi

    corners = []
    for i, image in images.items():
        h, w = image.shape
        square = np.array([(y, x) for y in (0.0, h - 1.0) for x in (0.0, w - 1.0)])
        corners.append(poses.poses[i].transform.inverse().apply(square))
    low = np.floor(np.concatenate(corners).min(axis=0))
    high = np.ceil(np.concatenate(corners).max(axis=0))
    ny, nx = (int(v) + 1 for v in high - low)
    planes = np.zeros((len(ids), ny, nx), np.float32)
    for i, image in images.items():
        matrix = poses.poses[i].transform.matrix()
        offset = matrix[:2, :2] @ low + matrix[:2, 2]
        seen = np.isfinite(image)
        args = {"matrix": matrix[:2, :2], "offset": offset, "output_shape": (ny, nx), "order": 1}
        weight = ndi.affine_transform(seen.astype(np.float32), cval=0.0, **args)
        value = ndi.affine_transform(np.where(seen, image, 0), cval=0.0, **args)
        good = weight > 0.5
        planes[i - ids.start][good] = (value[good] / weight[good]).astype(np.float32)
    return planes, (float(low[0]), float(low[1]))


def quick_stack(
    source: Path,
    options: QuickOptions,
    *,
    voxel_um: float = 25.0,
    cut_um: float | None = None,
    tell: Callable[[str], None] = lambda words: None,
) -> FlatStack:
    """Stack the flat mosaics of all slices.

    Parameters
    ----------
    source : Path
        An input folder of `soct run`.
    options : QuickOptions
        How each slice is laid out; its slice and size are chosen here.
    voxel_um : float
        Pixels of the planes: whole blocks of recorded pixels that are not larger.
    cut_um : float, optional
        Distance between slices; from the session or the stage where omitted.
    tell : callable
        Gets a line per slice.

    Raises
    ------
    InputError
        No slice can be read.
    """
    from soct.formats.acquisition import open_acquisition
    from soct.registration.slice_poses import StagePosition, solve_slice_poses
    from soct.space import Voxel
    from soct.tools.quick_stitch import quick_stitch

    acquisition = open_acquisition(source)
    cut, note = _cut_um(acquisition, cut_um)
    notes = [note] if note else []
    images: dict[int, FloatArray] = {}
    mosaics: dict[int, QuickMosaic] = {}
    pixel = (0.0, 0.0)
    for i, record in acquisition.slices.items():
        if not record.tiles and record.grid is None:
            notes.append(f"slice {i} has no readable tile: its plane stays empty")
            continue
        made = quick_stitch(source, replace(options, slice_id=i, max_side_px=None))
        if not images:
            first = made.pixel_um
            factor = (
                max(1, int(voxel_um / first[0] + 1e-6)),
                max(1, int(voxel_um / first[1] + 1e-6)),
            )
            pixel = (first[0] * factor[0], first[1] * factor[1])
        elif made.pixel_um != first:
            raise InputError(
                "Slices have pixels of different size",
                file=source,
                expected=f"{first} um",
                found=f"{made.pixel_um} um in slice {i}",
            )
        images[i] = _reduced(made.image, factor)
        mosaics[i] = replace(made, image=images[i][:0, :0])
        tell(f"slice {i}: {made.tiles} tiles; {'; '.join(made.notes)}")
    if not images:
        raise InputError("No slice can be read", file=source)
    ids = range(min(images), max(images) + 1)
    if len(ids) > MAX_PLANES:
        raise UsageError("The slices' numbers lie too far apart", found=f"{ids.start} to {ids[-1]}")
    if abs(pixel[0] / pixel[1] - 1) > 1e-3:
        raise InputError(
            "A rotation needs square pixels", file=source, found=f"{pixel[0]:g} x {pixel[1]:g} um"
        )
    origins = _origins(mosaics, pixel, notes)
    pairs = _pairs(list(images), images, origins, pixel[0])
    stages = [
        StagePosition(
            i,
            (float(i - ids.start), *origins[i]),
            ((images[i].shape[0] - 1) / 2, (images[i].shape[1] - 1) / 2),
        )
        for i in images
    ]
    voxel = Voxel(cut, pixel[0], pixel[1])
    poses = solve_slice_poses(stages, pairs, voxel)
    if len(images) > 1 and poses.stage_only:
        notes.append(f"held by the stage alone: slices {list(poses.stage_only)[:20]}")
    planes, origin = _render(images, poses, ids)
    return FlatStack(
        planes, voxel, tuple(images), poses, tuple(mosaics.values()), origin, tuple(notes)
    )


def _origins(
    mosaics: dict[int, QuickMosaic], pixel: tuple[float, float], notes: list[str]
) -> dict[int, tuple[float, float]]:
    """Return the stage position of every mosaic's first pixel, in pixels from the first slice's."""
    known = {i: m.origin_um for i, m in mosaics.items() if m.origin_um is not None}
    if len(known) < len(mosaics):
        notes.append("no stage positions: every slice begins where the first one does")
        return dict.fromkeys(mosaics, (0.0, 0.0))
    base = next(iter(known.values()))
    return {
        i: ((at[0] - base[0]) / pixel[0], (at[1] - base[1]) / pixel[1]) for i, at in known.items()
    }
