"""Volumes as multi-page TIFF, plane by plane, so that one that is read coarser is never whole in memory."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from soct.errors import InputError, UsageError
from soct.formats.atomic import publish
from soct.formats.block_reduction import clip_factors, reduce_blocks
from soct.formats.tiles import shown
from soct.formats.volume_files import VolumeHeader, unknown_affine
from soct.geometry.orientation import (
    OrientedVolume,
    Shape,
    Window,
    make_affine,
    parse_orientation,
)
from soct.space import Array

_UM_PER_UNIT = {"nm": 1e-3, "µm": 1.0, "um": 1.0, "\\u00B5m": 1.0, "micron": 1.0, "mm": 1e3}
_ORIENTATION = re.compile(r"\bsoct orientation=([A-Z]{3})\b")
_CONSTANT_UUID = "00000000-0000-0000-0000-000000000000"
_LONGEST_XML = 1 << 24


def _broken(path: Path, error: object) -> InputError:
    return InputError(
        "A TIFF file cannot be read",
        file=shown(path),
        expected="a complete TIFF with one volume: planes of equal size, one number per pixel",
        found=shown(str(error) or type(error).__name__)[:200],
    )


def _open(path: Path) -> tifffile.TiffFile:
    if not path.is_file():
        raise InputError("There is no such volume file", file=shown(path), expected="a file")
    return tifffile.TiffFile(path)


def read_tiff_header(path: Path) -> VolumeHeader:
    """Read what a TIFF says of its volume: the voxel size where it is OME or ImageJ, else only the shape.

    Raises
    ------
    InputError
        It is missing, broken or no volume.
    """
    try:
        with warnings.catch_warnings(), _open(path) as file:
            warnings.simplefilter("ignore")
            if len(file.series) != 1:
                raise ValueError(f"{len(file.series)} images of different size or type")
            series = file.series[0]
            shape = tuple(int(n) for n in series.shape if n != 1 or len(series.shape) <= 3)
            if len(shape) == 2:
                shape = (1, *shape)
            if len(shape) != 3 or min(shape) < 1 or series.dtype is None:
                raise ValueError(f"shape {tuple(series.shape)}, axes {series.axes}")
            dtype = np.dtype(series.dtype)
            if dtype.kind not in "uif":
                raise ValueError(f"voxels of type {dtype}")
            voxel, orientation = _what_it_says(file)
    except InputError:
        raise
    except Exception as error:
        # Broken tags make the library fail in many ways, none of them a mistake of soct's.
        raise _broken(path, error) from error
    says_voxel, code = voxel is not None, orientation
    size = voxel or (1.0, 1.0, 1.0)
    affine = make_affine(code, size) if code else unknown_affine(size)
    return VolumeHeader(path, (shape[0], shape[1], shape[2]), dtype, affine, says_voxel, bool(code))


def _what_it_says(file: tifffile.TiffFile) -> tuple[tuple[float, float, float] | None, str | None]:
    """Voxel size in um along z, y, x, and orientation, each None where the file is silent."""
    if file.is_ome and file.ome_metadata:
        return _from_ome(str(file.ome_metadata))
    if file.is_imagej and file.imagej_metadata:
        return _from_imagej(file), None
    return None, None


def _from_ome(xml: str) -> tuple[tuple[float, float, float] | None, str | None]:
    if len(xml) > _LONGEST_XML or "<!DOCTYPE" in xml or "<!ENTITY" in xml:
        return None, None
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None, None
    pixels = next((e for e in root.iter() if e.tag.endswith("}Pixels")), None)
    texts = [e.text or "" for e in root.iter() if e.tag.endswith("}Description")]
    named = next((found[1] for text in texts if (found := _ORIENTATION.search(text))), None)
    try:
        code = parse_orientation(named) if named else None
    except ValueError:
        code = None
    sizes = []
    for axis in "ZYX":
        value = pixels.get(f"PhysicalSize{axis}") if pixels is not None else None
        unit = pixels.get(f"PhysicalSize{axis}Unit", "µm") if pixels is not None else ""
        sizes.append(_length(value, unit))
    if any(size is None for size in sizes):
        return None, code
    z, y, x = (float(size) for size in sizes if size is not None)
    return (z, y, x), code


def _length(value: str | float | None, unit: str) -> float | None:
    try:
        size = float(value) * _UM_PER_UNIT[unit]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        return None
    return size if np.isfinite(size) and size > 0 else None


def _from_imagej(file: tifffile.TiffFile) -> tuple[float, float, float] | None:
    metadata: dict[str, Any] = file.imagej_metadata or {}
    unit = str(metadata.get("unit", ""))
    tags = file.pages.first.tags
    z = _length(metadata.get("spacing"), unit)
    found = []
    for name in ("YResolution", "XResolution"):
        tag = tags.get(name)
        above, below = tag.value if tag is not None else (0, 0)
        found.append(_length(below / above if above else None, unit))
    y, x = found
    return None if z is None or y is None or x is None else (z, y, x)


def read_tiff(path: Path, factors: Shape, labels: bool) -> Array:
    """Read the voxels ``(z, y, x)`` of a TIFF, blocks of them as one where asked for.

    Raises
    ------
    InputError
        The voxels are incomplete, or compressed in a way that neither library knows.
    """
    header = read_tiff_header(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _assemble(header, factors, labels)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders fail in their own ways
        return _through_itk(header, factors, labels, error)


def _assemble(header: VolumeHeader, factors: Shape, labels: bool) -> Array:
    fz, fy, fx = clip_factors(header.shape, factors)
    thick = header.shape[0] // fz
    parts = []
    block: list[Array] = []
    for plane in _planes(header):
        block.append(plane)
        if len(block) == fz:
            parts.append(reduce_blocks(np.stack(block), (fz, fy, fx), labels=labels)[0])
            block = []
    return np.stack(parts[:thick])


def _planes(header: VolumeHeader) -> Iterator[Array]:
    """Yield plane after plane; a file that stores its volume as one strip of planes is read whole."""
    with _open(header.path) as file:
        series = file.series[0]
        pages = [page for page in series.pages if page is not None]
        if len(pages) == header.shape[0]:
            for page in pages:
                yield np.asarray(page.asarray()).reshape(header.shape[1:])
        else:
            yield from np.asarray(series.asarray()).reshape(header.shape)


def read_tiff_window(path: Path, window: Window) -> Array | None:
    """Read a block of a TIFF, one of its planes after the other; None where only all of it can be read.

    Raises
    ------
    InputError
        The voxels are incomplete.
    """
    (z0, z1), (y0, y1), (x0, x1) = window
    header = read_tiff_header(path)
    try:
        with warnings.catch_warnings(), _open(path) as file:
            warnings.simplefilter("ignore")
            pages = [page for page in file.series[0].pages if page is not None]
            if len(pages) != header.shape[0] or z1 <= z0:
                return None
            planes = [page.asarray().reshape(header.shape[1:])[y0:y1, x0:x1] for page in pages[z0:z1]]  # fmt: skip
            return np.stack(planes)
    except InputError:
        raise
    except Exception:  # noqa: BLE001 - what this decoder cannot do, another one may: the whole is read
        return None


def _through_itk(header: VolumeHeader, factors: Shape, labels: bool, cause: Exception) -> Array:
    """Read a TIFF whose compression (LZW) the first library lacks with the other one, whole."""
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(header.path), imageIO="TIFFImageIO")
        data = sitk.GetArrayViewFromImage(image)
        if data.size != int(np.prod(header.shape)) or data.dtype.itemsize != header.dtype.itemsize:
            raise ValueError(f"shape {data.shape}, {data.dtype}")
    except (RuntimeError, ValueError, MemoryError):
        raise _broken(header.path, cause) from cause
    return reduce_blocks(data.reshape(header.shape), factors, labels=labels)


def ome_metadata(voxel_um: Sequence[float], orientation: str | None) -> dict[str, Any]:
    """Return what tifffile turns into the OME-XML of a volume: voxel size, and orientation where it is known."""
    sizes = {
        key: value
        for axis, size in zip("ZYX", voxel_um, strict=True)
        for key, value in (
            (f"PhysicalSize{axis}", float(f"{size:.9g}")),
            (f"PhysicalSize{axis}Unit", "µm"),
        )
    }
    told = {} if orientation is None else {"Description": f"soct orientation={orientation}"}
    return {"axes": "ZYX", "UUID": _CONSTANT_UUID, **told, **sizes}


def write_tiff(path: Path, volume: OrientedVolume) -> None:
    """Write a volume as OME-TIFF, deflated: voxel size in micrometres, orientation in the description.

    Raises
    ------
    UsageError
        The type of the voxels is unknown to OME.
    """
    data = volume.data.astype(np.uint8) if volume.data.dtype == np.bool_ else volume.data
    if data.dtype.kind not in "uif" or data.dtype.itemsize > 8 - 4 * (data.dtype.kind in "ui"):
        raise UsageError(f"voxels of type {data.dtype} cannot be written as TIFF", file=shown(path))
    with publish(path) as file:
        tifffile.imwrite(
            file,
            np.ascontiguousarray(data),
            ome=True,
            photometric="minisblack",
            compression="zlib",
            metadata=ome_metadata(volume.voxel_um, volume.orientation),
        )
