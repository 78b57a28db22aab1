"""Volumes as single files that other programs read and write: NIfTI, NRRD and TIFF, with their place in the body.

Every reader gives an `OrientedVolume`: NIfTI's right-anterior-superior, ITK's and NRRD's left-posterior-superior
and TIFF's silence all end in one affine. What a file doesn't say must be given; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soct.errors import InputError, UsageError
from soct.formats.tiles import shown
from soct.geometry.orientation import (
    RAS,
    Matrix,
    OrientedVolume,
    Shape,
    Window,
    make_affine,
    orientation_of,
    parse_orientation,
    voxel_of,
)
from soct.space import Array, Voxel

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".tif", ".tiff")
MAX_VOLUME_BYTES = 64 << 30
# Deflate makes no more than 1032 bytes from one.
MAX_EXPANSION = 1100
_LARGEST_MM = 1000.0


@dataclass(frozen=True)
class VolumeHeader:
    """What a file says of its volume, before its voxels are read.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple of int
        ``(z, y, x)``.
    dtype : dtype
        Of the voxels.
    affine : ndarray, shape (4, 4)
        From indices to world coordinates in mm; meaningful as far as the next two allow.
    says_voxel, says_orientation : bool
        Whether the file gives the voxel size, and how its axes lie in the body.
    notes : tuple of str
        What was taken otherwise than the file says, and why.
    """

    path: Path
    shape: Shape
    dtype: np.dtype[np.generic]
    affine: Matrix
    says_voxel: bool
    says_orientation: bool
    notes: tuple[str, ...] = ()

    @property
    def voxel_um(self) -> Voxel | None:
        """Voxel size, None where the file doesn't say it."""
        return voxel_of(self.affine) if self.says_voxel else None

    @property
    def orientation(self) -> str | None:
        """What z, y and x grow towards, None where the file doesn't say it."""
        return orientation_of(self.affine) if self.says_orientation else None

    @property
    def nbytes(self) -> int:
        """Size of the voxels in memory."""
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize


def suffix_of(path: Path) -> str:
    """Return which of `SUFFIXES` a name has.

    Raises
    ------
    UsageError
        It has none of them.
    """
    name = path.name.lower()
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.endswith(suffix):
            return suffix
    raise UsageError(
        "soct does not know volumes of this kind",
        file=shown(path),
        expected=f"a name that ends with {', '.join(SUFFIXES)}",
        found=shown(path.name),
    )


def read_header(
    path: Path, *, voxel_um: Sequence[float] | None = None, orientation: str | None = None
) -> VolumeHeader:
    """Read what a volume file says of itself, and put in what it doesn't say.

    Parameters
    ----------
    path : Path
        A file of one of `SUFFIXES`.
    voxel_um : sequence of float, optional
        Voxel size along z, y and x, instead of what the file says.
    orientation : str, optional
        What z, y and x grow towards, instead of what the file says. The first voxel then lies at 0.

    Raises
    ------
    InputError
        The file is missing, broken, no volume, or larger than it can be.
    """
    path = Path(path)
    reader = _reader(path, "header")
    header: VolumeHeader = reader(path)
    _check_size(header)
    header = _in_millimetres(header) if voxel_um is None else header
    affine = header.affine.copy()
    if voxel_um is not None:
        scale = np.asarray(voxel_um, float) / np.asarray(voxel_of(affine))
        if not np.isfinite(scale).all() or scale.min() <= 0:
            raise UsageError(f"a voxel size of {tuple(voxel_um)} um", file=shown(path))
        affine[:3, :3] *= scale
    if orientation is not None:
        affine = make_affine(parse_orientation(orientation), voxel_of(affine))
    return replace(
        header,
        affine=affine,
        says_voxel=header.says_voxel or voxel_um is not None,
        says_orientation=header.says_orientation or orientation is not None,
    )


def read_volume(
    path: Path,
    *,
    voxel_um: Sequence[float] | None = None,
    orientation: str | None = None,
    factors: Sequence[int] = (1, 1, 1),
    labels: bool = False,
) -> OrientedVolume:
    """Read a volume file.

    Parameters
    ----------
    path : Path
        A file of one of `SUFFIXES`.
    voxel_um : sequence of float, optional
        Voxel size along z, y and x, instead of what the file says; needed where it says none.
    orientation : str, optional
        What z, y and x grow towards, instead of what the file says; needed where it says nothing.
    factors : sequence of int
        Take blocks of so many voxels as one: means, or of labels the middle voxel. Voxels at the end that fill
        no block are left out. A TIFF is then never whole in memory.
    labels : bool
        Whether the voxels are numbers of regions, which must not be averaged.

    Raises
    ------
    InputError
        The file is missing, broken or no volume, or what it doesn't say was not given.
    """
    header = read_header(path, voxel_um=voxel_um, orientation=orientation)
    missing = [
        name
        for name, said in (
            ("voxel size", header.says_voxel),
            ("orientation", header.says_orientation),
        )
        if not said
    ]
    if missing:
        raise InputError(
            f"A volume file does not say its {' and '.join(missing)}",
            file=shown(path),
            expected="both in the file, or given beside it",
            hint="Give what is missing: the voxel size in micrometres along z, y, x; the orientation as three "
            "letters, what z, y and x grow towards, such as PIR.",
        )
    reduce = (int(factors[0]), int(factors[1]), int(factors[2]))
    data: Array = _reader(path, "voxels")(header.path, reduce, labels)
    middle = np.eye(4)
    middle[:3, :3] = np.diag(reduce)
    middle[:3, 3] = [f // 2 if labels else (f - 1) / 2 for f in reduce]
    return OrientedVolume(data, header.affine @ middle)


def read_window(path: Path, window: Window) -> Array | None:
    """Read a block of a volume file where it lies.

    Parameters
    ----------
    path : Path
    window : ((int, int), (int, int), (int, int))
        First and last but one voxel along z, y and x.

    Returns
    -------
    ndarray or None
        None where the file can only be read whole: compressed as one, or all planes in one page.
    """
    if suffix_of(path) in (".tif", ".tiff"):
        from soct.formats.volumes_tiff import read_tiff_window

        return read_tiff_window(path, window)
    from soct.formats.volumes_itk import read_itk_window

    return read_itk_window(path, window)


def write_volume(path: Path, volume: OrientedVolume) -> None:
    """Write a volume as the kind of file that its name ends with; the file appears complete or not at all.

    A TIFF keeps the voxel size (as OME-XML) and the nearest orientation, not an oblique one.

    Raises
    ------
    UsageError
        The name says no kind that soct writes, or the voxels are of a type that the kind cannot hold.
    """
    suffix = suffix_of(path)
    if suffix in (".tif", ".tiff"):
        from soct.formats.volumes_tiff import write_tiff

        write_tiff(path, volume)
        return
    from soct.formats.volumes_itk import write_itk

    write_itk(path, volume, suffix)


def _reader(path: Path, part: str) -> Callable[..., Any]:
    if suffix_of(path) in (".tif", ".tiff"):
        from soct.formats import volumes_tiff as tiff

        return tiff.read_tiff_header if part == "header" else tiff.read_tiff
    from soct.formats import volumes_itk as itk

    return itk.read_itk_header if part == "header" else itk.read_itk


def _check_size(header: VolumeHeader) -> None:
    """Refuse a header that promises more voxels than the file can hold, before memory is taken for them."""
    on_disk = header.path.stat().st_size
    most = min(MAX_VOLUME_BYTES, on_disk * MAX_EXPANSION)
    if header.nbytes > most:
        raise InputError(
            "A volume file promises more voxels than it holds",
            file=shown(header.path),
            expected=f"at most {most} bytes of voxels in a file of {on_disk} bytes",
            found=f"shape {header.shape}, {header.nbytes} bytes",
        )


def _in_millimetres(header: VolumeHeader) -> VolumeHeader:
    """Take micrometres for what they are where a file gives them as millimetres: no brain is a metre long."""
    if not header.says_voxel:
        return header
    voxel = np.asarray(voxel_of(header.affine)) / 1000
    longest = float((voxel * header.shape).max())
    if longest <= _LARGEST_MM:
        return header
    affine = header.affine.copy()
    affine[:3] /= 1000
    note = f"its lengths are taken as micrometres: in millimetres the volume would be {longest / 1000:.0f} m long"
    return replace(header, affine=affine, notes=(*header.notes, note))


def unknown_affine(voxel_um: Sequence[float] = (1.0, 1.0, 1.0)) -> Matrix:
    """Return what stands in for the place of a volume that doesn't say it."""
    return make_affine(RAS, voxel_um)
