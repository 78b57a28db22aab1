"""Transforms that a person made: read, checked against the slices, and refined by the images if asked to.

The folder holds ``slice_z{NN}/transform.tfm`` (fixed pixels to moving pixels, as `register_pairwise` writes it) and,
optionally, ``offsets.txt`` (a plane of the fixed slice and the plane of the moving slice that shows the same tissue)
and ``pair.json`` (which slice is the fixed one; without it, the slice before). `soct export-manual-align` writes such
a folder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soct.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from soct.registration.manual_alignment import ManualJoint
    from soct.registration.transforms import RigidTransform2D
    from soct.steps.declaration import Context

CONTENT = (
    "slice_z*/transform.tfm",
    "slice_z*/offsets.txt",
    "slice_z*/pair.json",
)
"""The files that are read, for the key of the step that reads them."""

_FOLDER = re.compile(r"slice_z(\d+)", re.ASCII)


def read_manual_joints(folder: Path, slice_ids: Sequence[int]) -> list[ManualJoint]:
    """Read all transforms of a folder.

    Parameters
    ----------
    folder : Path
    slice_ids : sequence of int
        The slices of the run that have a pose, ascending.

    Raises
    ------
    InputError
        No transform is there, one is of another type or belongs to no slice, or its fixed slice is not the one before.
    """
    from soct.formats.documents import read_document
    from soct.formats.tiles import shown
    from soct.formats.transforms import read_offsets, read_transform
    from soct.registration.manual_alignment import ManualJoint
    from soct.registration.transforms import rigid_from_euler

    ids = list(slice_ids)
    joints = []
    for path in sorted(folder.glob("slice_z*/transform.tfm")):
        match = _FOLDER.fullmatch(path.parent.name)
        moving = int(match[1]) if match else -1
        if moving not in ids or moving == ids[0]:
            raise InputError(
                "A manual transform belongs to no slice that has one before it",
                file=shown(path),
                expected=f"slice_z{{NN}} with NN among {ids[1:]}",
                found=shown(path.parent.name),
            )
        fixed = ids[ids.index(moving) - 1]
        beside = path.parent / "pair.json"
        named = read_document(beside).get("fixed_id") if beside.is_file() else fixed
        if named != fixed:
            raise InputError(
                "A manual transform was made against another slice",
                file=shown(beside),
                expected=f"fixed_id {fixed}, the slice before {moving}",
                found=shown(str(named)),
                hint="Export again after slices were excluded or added.",
            )
        euler = read_transform(path)
        rigid = rigid_from_euler(
            _radians(euler.rotation_deg), euler.translation_zyx[1:], euler.centre_zyx[1:]
        )
        offsets = path.parent / "offsets.txt"
        step = None
        if offsets.is_file():
            planes = read_offsets(offsets)
            step = planes.fixed_z - planes.moving_z
        joints.append(ManualJoint(fixed, moving, rigid, step))
    if not joints:
        raise InputError(
            "There is no manual transform in the folder",
            file=shown(folder),
            expected="slice_z{NN}/transform.tfm",
        )
    return joints


def _radians(degrees: float) -> float:
    import math

    return math.radians(degrees)


@dataclass(frozen=True)
class RefineBounds:
    """How far the images may move what a person aligned."""

    translation_um: float
    rotation_deg: float
    slab_um: float = 20.0
    margin_um: float = 20.0
    max_slabs: int = 8


def refine_manual_joint(
    context: Context, joint: ManualJoint, expected_z: float, bounds: RefineBounds
) -> tuple[ManualJoint, str]:
    """Refine a joint by the images, near where a person put it.

    Returns
    -------
    joint : ManualJoint
        The one given where the images do not improve on it within the bounds.
    reason : str
        What was decided.
    """
    import numpy as np

    from soct.registration.slice_pair import register_slice_pair
    from soct.steps.slice_planes import facing_slabs, open_side

    fixed, moving = open_side(context, joint.fixed), open_side(context, joint.moving)
    voxel = fixed.volume.voxel_um
    thickness = max(1, round(bounds.slab_um / voxel.z))
    offset = float(joint.z_step) if joint.z_step is not None else expected_z
    faces = facing_slabs(
        fixed, moving, offset, thickness, round(bounds.margin_um / voxel.z), bounds.max_slabs
    )
    if not faces:
        return joint, "the slices hold too few planes"
    f = [fixed.slab(z, thickness) for z, _ in faces]
    m = [
        _seen_from_fixed(moving.slab(z, thickness), joint.transform, f[0][0].shape)
        for _, z in faces
    ]
    found = register_slice_pair(
        np.stack([s[0] for s in f]),
        np.stack([s[0] for s in m]),
        fixed_valid=np.stack([s[1] for s in f]),
        moving_valid=np.stack([s[1] for s in m]),
        max_translation_px=bounds.translation_um / voxel.x,
        max_rotation_deg=bounds.rotation_deg,
    )
    if not found.accepted:
        return joint, found.reason
    refined = joint.transform.compose(_as_rigid(found.transform)).about(joint.transform.centre)
    return replace(joint, transform=refined), "refined"


def _as_rigid(transform: Any) -> RigidTransform2D:
    from soct.registration.transforms import rigid_from_matrix

    return rigid_from_matrix(transform.matrix(), transform.centre)


def _seen_from_fixed(
    slab: tuple[Any, Any], transform: RigidTransform2D, shape: tuple[int, ...]
) -> tuple[Any, Any]:
    """Resample a slab of the moving slice onto the fixed slice's pixels."""
    import numpy as np
    from scipy import ndimage as ndi

    matrix = transform.matrix()
    image, weight = (
        ndi.affine_transform(
            data, matrix[:2, :2], matrix[:2, 2], output_shape=shape, order=1, output=np.float32
        )
        for data in (np.where(slab[1], slab[0], 0), slab[1].astype(np.float32))
    )
    valid = weight > 0.99
    return np.divide(image, weight, out=np.zeros_like(image), where=valid), valid
