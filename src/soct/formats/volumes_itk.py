"""NIfTI and NRRD through SimpleITK, whose coordinates (left, posterior, superior) end here."""

from __future__ import annotations

import gzip
import os
import secrets
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from soct.errors import InputError, UsageError
from soct.formats.atomic import fsync_folder
from soct.formats.block_reduction import reduce_blocks
from soct.formats.tiles import shown
from soct.formats.volume_files import VolumeHeader
from soct.geometry.orientation import LPS_FROM_RAS, Matrix, OrientedVolume, Shape, Window
from soct.space import Array

_MAX_HEADER_BYTES = 1 << 16
_BLOCK_BYTES = 1 << 20
_UM_UNITS = ("um", "µm", "micron", "microns", "micrometer", "micrometers")
_DTYPES = {
    sitk.sitkUInt8: np.uint8,
    sitk.sitkInt8: np.int8,
    sitk.sitkUInt16: np.uint16,
    sitk.sitkInt16: np.int16,
    sitk.sitkUInt32: np.uint32,
    sitk.sitkInt32: np.int32,
    sitk.sitkUInt64: np.uint64,
    sitk.sitkInt64: np.int64,
    sitk.sitkFloat32: np.float32,
    sitk.sitkFloat64: np.float64,
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's warnings off the terminal: what matters becomes an error here."""
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _broken(path: Path, error: object) -> InputError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return InputError(
        "A volume file cannot be read",
        file=shown(path),
        expected="a complete NIfTI or NRRD file with one volume",
        found=shown(lines[-1] if lines else "nothing")[-200:],
    )


def _nrrd_fields(path: Path) -> dict[str, str]:
    """Read the text before the voxels: what ITK doesn't tell, and whether the voxels are in this file."""
    with path.open("rb") as file:
        head = file.read(_MAX_HEADER_BYTES)
    text = head.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("latin-1")
    if not text.startswith("NRRD"):
        raise _broken(path, "no NRRD header")
    fields = {}
    for line in text.splitlines()[1:]:
        if not line.startswith("#"):
            key, _, value = line.partition(":")
            fields[key.strip().lower()] = value.strip(" =")
    if {"data file", "datafile"} & set(fields):
        raise _broken(path, "the voxels are in another file; attach them to the header")
    return fields


def _open(path: Path) -> Any:
    if not path.is_file():
        raise InputError("There is no such volume file", file=shown(path), expected="a file")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def affine_of_itk(origin: tuple[float, ...], spacing: Any, direction: Any) -> Matrix:
    """Return the affine of an ITK image's origin, spacing and direction (all in x, y, z order)."""
    linear = np.reshape(np.asarray(direction, float), (3, 3)) * np.asarray(spacing, float)
    lps = np.eye(4)
    lps[:3, :3] = linear[:, ::-1]
    lps[:3, 3] = origin
    return LPS_FROM_RAS @ lps


def read_itk_header(path: Path) -> VolumeHeader:
    """Read what a NIfTI or NRRD file says of its volume.

    Raises
    ------
    InputError
        It is missing, broken, or not one volume of single numbers.
    """
    is_nrrd = path.name.lower().endswith(".nrrd")
    try:
        with _quiet():
            fields = _nrrd_fields(path) if is_nrrd and path.is_file() else {}
            reader = _open(path)
    except (RuntimeError, OSError, ValueError) as error:
        raise _broken(path, error) from error
    size = reader.GetSize()
    is_volume = len(size) >= 3 and all(n == 1 for n in size[3:]) and min(size) > 0
    if not is_volume or reader.GetNumberOfComponents() != 1 or reader.GetPixelID() not in _DTYPES:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise _broken(path, f"size {size}, {reader.GetNumberOfComponents()} components of {kind}")
    dims = len(size)
    direction = np.reshape(reader.GetDirection(), (dims, dims))[:3, :3]
    affine = affine_of_itk(reader.GetOrigin()[:3], reader.GetSpacing()[:3], direction)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-30:
        raise _broken(path, "a place in space that is singular")
    notes: tuple[str, ...] = ()
    if is_nrrd:
        says = "space" in fields or "space directions" in fields
        says_orientation = "space" in fields and "space directions" in fields
        if any(
            unit in fields.get("space units", "").replace('"', " ").split() for unit in _UM_UNITS
        ):
            affine[:3] /= 1000
    else:
        codes = [_number(reader, key) for key in ("qform_code", "sform_code")]
        says, says_orientation = True, any(code > 0 for code in codes)
    says_voxel = says or "spacings" in fields
    shape = (int(size[2]), int(size[1]), int(size[0]))
    dtype = np.dtype(_DTYPES[reader.GetPixelID()])
    return VolumeHeader(path, shape, dtype, affine, says_voxel, says_orientation, notes)


def _number(reader: Any, key: str) -> float:
    try:
        return float(reader.GetMetaData(key))
    except (RuntimeError, ValueError):
        return 0.0


def read_itk(path: Path, factors: Shape, labels: bool) -> Array:
    """Read the voxels ``(z, y, x)`` of a NIfTI or NRRD file, blocks of them as one where asked for.

    Raises
    ------
    InputError
        The voxels are incomplete.
    """
    try:
        with _quiet():
            reader = _open(path)
            if not path.name.lower().endswith(".nrrd"):
                _check_complete(path, read_itk_header(path).nbytes, _number(reader, "vox_offset"))
            image = reader.Execute()
            data = sitk.GetArrayViewFromImage(image)
            data = data.reshape(data.shape[-3:])
            return reduce_blocks(data, factors, labels=labels)
    except (RuntimeError, OSError, EOFError, zlib.error, MemoryError) as error:
        raise _broken(path, error) from error


def read_itk_window(path: Path, window: Window) -> Array | None:
    """Read a block of an uncompressed NIfTI where it lies; None of any other file, which must be read whole.

    Raises
    ------
    InputError
        The voxels are incomplete.
    """
    if not path.name.lower().endswith(".nii"):
        return None
    try:
        with _quiet():
            reader = _open(path)
            size = reader.GetSize()
            if len(size) != 3 or any(b <= a for a, b in window):
                return None
            _check_complete(path, read_itk_header(path).nbytes, _number(reader, "vox_offset"))
            reader.SetExtractIndex([a for a, _ in reversed(window)])
            reader.SetExtractSize([b - a for a, b in reversed(window)])
            return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
    except (RuntimeError, OSError, EOFError, MemoryError) as error:
        raise _broken(path, error) from error


def _check_complete(path: Path, nbytes: int, offset: float) -> None:
    """Refuse a NIfTI that was cut off: ITK reads zeros where bytes are missing, and says nothing."""
    wanted = nbytes + int(offset)
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    found = 0
    if is_compressed:
        with gzip.open(path) as stream:
            while block := stream.read(_BLOCK_BYTES):
                found += len(block)
    else:
        found = path.stat().st_size
    if found < wanted:
        raise _broken(path, f"{found} of {wanted} bytes")


def write_itk(path: Path, volume: OrientedVolume, suffix: str) -> None:
    """Write a volume as NIfTI or NRRD, compressed where the kind allows it.

    Raises
    ------
    UsageError
        The type of the voxels is unknown to the format, or the axes aren't at right angles.
    """
    data = volume.data.astype(np.uint8) if volume.data.dtype == np.bool_ else volume.data
    if data.dtype not in {np.dtype(kind) for kind in _DTYPES.values()}:
        raise UsageError(f"voxels of type {data.dtype} cannot be written", file=shown(path))
    lps = LPS_FROM_RAS @ volume.affine
    linear = lps[:3, 2::-1]
    spacing = np.linalg.norm(linear, axis=0)
    direction = linear / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > 1e-4:
        raise UsageError("a volume whose axes are not at right angles", file=shown(path))
    image = sitk.GetImageFromArray(np.ascontiguousarray(data))
    image.SetSpacing([float(v) for v in spacing])
    image.SetOrigin([float(v) for v in lps[:3, 3]])
    image.SetDirection([float(v) for v in direction.ravel()])
    temporary = path.with_name(f".{secrets.token_hex(6)}.partial{suffix}")
    try:
        with _quiet():
            sitk.WriteImage(image, str(temporary), True)
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except RuntimeError as error:
        raise InputError(
            "A volume file cannot be written",
            file=shown(path),
            found=shown(str(error).splitlines()[-1])[-200:],
            hint="Look at the free space and the permissions of that folder.",
        ) from error
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    fsync_folder(path.parent)
