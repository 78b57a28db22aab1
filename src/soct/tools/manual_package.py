"""What a person needs to align slices by hand, in one folder.

- ``aips/slice_z{NN}.tif`` (float32) and ``.png``: mean over depth of each slice, in the slice's own pixels
- ``aips_xz/``, ``aips_yz/``: means over a band through the middle, depth down: how slices follow each other in depth
- ``transforms/slice_z{NN}/transform.tfm``: fixed pixels to moving pixels, as it is now; ``offsets.txt``: a plane of
  the fixed slice and the plane of the moving slice that shows the same tissue; ``pair.json``: what is known of the pair
- ``metadata.json``: slices, pairs, voxel size, and what the numbers mean

Transforms that are changed, and those alone if one likes, go back in through
``estimate_slice_poses.manual_transforms_dir``.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from soct.formats.ome_zarr import VolumeReader
    from soct.space import FloatArray

_ROWS = 64
_BAND = 0.1
"""Share of the slice over which XZ and YZ views are averaged."""
CONVENTION = (
    "transform.tfm maps a point (x, y) of the fixed slice's AIP, in pixels from the centre of its first pixel, to the point of "
    "the moving slice's AIP that shows the same tissue, as SimpleITK resamples the moving image onto the fixed one. "
    "offsets.txt: plane fixed_z of the fixed slice shows what plane moving_z of the moving slice shows."
)


@dataclass(frozen=True)
class PackageInputs:
    """What a package is made of.

    Attributes
    ----------
    poses : mapping
        Of `slice_poses.json`.
    slices : mapping of int to Path
        The compensated slices.
    pairs : mapping of (int, int) to Path
        The registered pairs' folders; may lack some.
    """

    poses: Mapping[str, Any]
    slices: Mapping[int, Path]
    pairs: Mapping[tuple[int, int], Path]


def write_package(inputs: PackageInputs, folder: Path, subject: str) -> int:
    """Write the package into an empty folder; return how many slices it holds."""
    from soct.formats.documents import write_document

    rows = {int(i): row for i, row in inputs.poses["slices"].items()}
    ids = sorted(i for i in rows if i in inputs.slices)
    for name in ("aips", "aips_xz", "aips_yz", "transforms"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    shapes = {i: _write_views(inputs.slices[i], folder, i) for i in ids}
    pairs = []
    for fixed, moving in itertools.pairwise(ids):
        pairs.append(_write_pair(inputs, folder / "transforms", (fixed, moving), rows))
    write_document(
        folder / "metadata.json",
        {
            "format": 1,
            "subject": subject,
            "voxel_um": list(inputs.poses["voxel_um"]),
            "convention": CONVENTION,
            "slices": {str(i): {"shape": list(shapes[i])} for i in ids},
            "pairs": pairs,
        },
    )
    return len(ids)


def _write_pair(
    inputs: PackageInputs,
    folder: Path,
    pair: tuple[int, int],
    rows: Mapping[int, Mapping[str, Any]],
) -> dict[str, Any]:
    from soct.formats.documents import read_document, write_document
    from soct.formats.transforms import DepthOffsets, EulerTransform, write_offsets, write_transform
    from soct.registration.slice_poses import relative_transform
    from soct.registration.transforms import RigidTransform2D

    fixed, moving = (
        RigidTransform2D(r["rotation_deg"], tuple(r["shift_px"]), tuple(r["centre_px"]))
        for r in (rows[i] for i in pair)
    )
    rigid = relative_transform(fixed, moving, fixed.centre)
    z_step = round(rows[pair[1]]["z_px"] - rows[pair[0]]["z_px"])
    known = inputs.pairs.get(pair)
    measured = read_document(known / "pairwise_registration_metrics.json") if known else {}
    said = {
        "fixed_id": pair[0],
        "moving_id": pair[1],
        "rotation_deg": rigid.rotation_deg,
        "shift_px": list(rigid.shift),
        "z_step_px": z_step,
        "ncc": measured.get("ncc"),
        "confidence": measured.get("confidence"),
        "reason": measured.get("reason"),
    }
    place = folder / f"slice_z{pair[1]:02d}"
    place.mkdir(parents=True, exist_ok=True)
    _, translation, centre = rigid.euler_parameters()
    write_transform(
        place / "transform.tfm",
        EulerTransform(rigid.rotation_deg, (0.0, *translation), (0.0, *centre)),
    )
    write_offsets(place / "offsets.txt", DepthOffsets(z_step, 0))
    write_document(place / "pair.json", said)
    return said


def _write_views(path: Path, folder: Path, slice_id: int) -> tuple[int, int, int]:
    from soct.formats.images import to_grey, write_float_tiff, write_png
    from soct.formats.ome_zarr import open_volume

    volume = open_volume(path)
    z, y, x = volume.voxel_um
    pixels = {"aips": (y, x), "aips_xz": (z, x), "aips_yz": (z, y)}
    for (name, pixel), view in zip(pixels.items(), _project(volume), strict=True):
        path = folder / name / f"slice_z{slice_id:02d}"
        write_float_tiff(path.with_suffix(".tif"), view, pixel)
        write_png(path.with_suffix(".png"), to_grey(view))
    return volume.shape


def _project(volume: VolumeReader) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return means over depth, and over bands of y and of x through the middle; valid voxels alone count."""
    import numpy as np

    nz, ny, nx = volume.shape
    valid = volume.read_valid()
    half = max(1, round(_BAND * ny / 2)), max(1, round(_BAND * nx / 2))
    rows, columns = (
        (max(n // 2 - h, 0), min(n // 2 + h, n)) for n, h in zip((ny, nx), half, strict=True)
    )
    aip = np.zeros((ny, nx), np.float32)
    xz, xz_count = np.zeros((nz, nx), np.float32), np.zeros((nz, nx), np.float32)
    yz = np.zeros((nz, ny), np.float32)
    z = np.arange(nz)[:, None, None]
    for y0 in range(0, ny, _ROWS):
        y1 = min(y0 + _ROWS, ny)
        block = volume.read(None, (y0, y1))
        good = (valid[0, y0:y1] <= z) & (z < valid[1, y0:y1])
        block = np.where(good, block, 0)
        aip[y0:y1] = block.sum(axis=0) / np.maximum(good.sum(axis=0), 1)
        band = slice(max(rows[0] - y0, 0), max(min(rows[1], y1) - y0, 0))
        xz += block[:, band].sum(axis=1)
        xz_count += good[:, band].sum(axis=1)
        inner = slice(*columns)
        yz[:, y0:y1] = block[:, :, inner].sum(axis=2) / np.maximum(good[:, :, inner].sum(axis=2), 1)
    return aip, np.asarray(xz / np.maximum(xz_count, 1), np.float32), yz
