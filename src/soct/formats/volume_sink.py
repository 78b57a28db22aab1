"""Writing a volume, band of planes after band, as any format that soct writes.

Nothing is published here: a caller writes under a hidden name, compares (`checksum`, `stored_planes`) and
renames. No format needs more memory than a band and what its own blocks take.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from soct.errors import UsageError
from soct.formats.ngff import ORIGIN
from soct.formats.tiles import shown
from soct.geometry.orientation import LPS_FROM_RAS, Matrix, Shape, make_affine
from soct.space import Array, Voxel

_NIFTI_TYPES = {
    "uint8": 2, "int16": 4, "int32": 8, "float32": 16, "float64": 64,
    "int8": 256, "uint16": 512, "uint32": 768,
}  # fmt: skip
_NRRD_TYPES = {
    "uint8": "uchar", "int16": "short", "int32": "int", "float32": "float", "float64": "double",
    "int8": "signed char", "uint16": "ushort", "uint32": "uint",
}  # fmt: skip
_NIFTI_OFFSET = 352
_LONGEST_NIFTI = 32767
_GZIP_LEVEL = 3
SUFFIXES = (
    ".ome.zarr",
    ".zarr",
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".ome.tif",
    ".ome.tiff",
    ".tif",
    ".tiff",
)


@dataclass(frozen=True)
class VolumeSpec:
    """What is written beside the voxels.

    Attributes
    ----------
    shape : tuple of int
        ``(z, y, x)``.
    dtype : dtype
        Of the voxels.
    voxel_um : Voxel
    translation_um : Voxel
        Where the centre of the first voxel lies, along the array's own axes.
    orientation : str or None
        None where it is not known; the file then says so, in the way of its format.
    window : (float, float) or None
        Values to show black and white; OME-Zarr keeps them.
    labels : bool
        The voxels are numbers of regions: OME-Zarr says so, and its levels hold no means.
    """

    shape: Shape
    dtype: np.dtype[Any]
    voxel_um: Voxel
    translation_um: Voxel = ORIGIN
    orientation: str | None = None
    window: tuple[float, float] | None = None
    labels: bool = False

    @property
    def affine(self) -> Matrix:
        """From indices (z, y, x) to right-anterior-superior millimetres; as if SAR where not known."""
        return make_affine(self.orientation or "SAR", self.voxel_um, self.translation_um)


def suffix_of(
    path: Path, suffixes: Sequence[str] = SUFFIXES, kind: str = "volumes of this kind"
) -> str:
    """Return which of the suffixes of written files a name has.

    Raises
    ------
    UsageError
        It has none of them: soct does not write such a `kind`.
    """
    name = path.name.lower()
    for suffix in suffixes:
        if name.endswith(suffix) and len(name) > len(suffix):
            return suffix
    raise UsageError(
        f"soct does not write {kind}",
        file=shown(path),
        expected=f"a name that ends with {', '.join(suffixes)}",
    )


def checksum(planes: Iterable[Array], tell: Callable[[int], None]) -> Iterator[Array]:
    """Pass bands on; `tell` gets the running CRC-32 of their bytes, however they are cut into bands."""
    running = 0
    for band in planes:
        whole = np.ascontiguousarray(band)
        running = zlib.crc32(whole.data.cast("B"), running)
        tell(running)
        yield whole


def write_planes(
    path: Path, spec: VolumeSpec, planes: Iterable[Array], *, ngff: str = "0.5"
) -> None:
    """Write bands of planes to a new file or folder, as the kind that its name says.

    Parameters
    ----------
    path : Path
        Must not exist.
    spec : VolumeSpec
    planes : iterable of ndarray
        Bands ``(n, y, x)`` of the type of `spec`, from the first plane to the last.
    ngff : {"0.4", "0.5"}
        Version of OME-Zarr.

    Raises
    ------
    UsageError
        The format cannot hold such a volume.
    """
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        _write_nifti(path, spec, planes)
    elif suffix == ".nrrd":
        _write_nrrd(path, spec, planes)
    elif suffix == ".zarr":
        from soct.formats.multiscale import write_array

        write_array(path, spec, planes)
    elif suffix == ".ome.zarr":
        from soct.formats.multiscale import write_image

        write_image(path, spec, planes, version=ngff)
    else:
        _write_tiff(path, spec, planes)


def _type_of(spec: VolumeSpec, names: dict[str, Any], path: Path) -> Any:
    if spec.dtype.name not in names:
        raise UsageError(
            f"voxels of type {spec.dtype} cannot be written as this kind of file",
            file=shown(path),
            expected=", ".join(names),
            hint="Choose another type with --dtype.",
        )
    return names[spec.dtype.name]


def _quaternion(rotation: Matrix) -> tuple[float, float, float]:
    from scipy.spatial.transform import Rotation

    b, c, d, a = Rotation.from_matrix(rotation).as_quat()
    sign = -1.0 if a < 0 else 1.0
    return sign * float(b), sign * float(c), sign * float(d)


def nifti_header(spec: VolumeSpec, path: Path) -> bytes:
    """Return the 352 bytes before the voxels of a NIfTI-1 file."""
    if max(spec.shape) > _LONGEST_NIFTI:
        raise UsageError(
            "The volume is too long for NIfTI",
            file=shown(path),
            expected=f"at most {_LONGEST_NIFTI} voxels along an axis",
            found=str(spec.shape),
            hint="Choose a coarser --level or --voxel-um, or another format.",
        )
    z, y, x = spec.shape
    affine = spec.affine[:3][:, [2, 1, 0, 3]]
    size = np.linalg.norm(affine[:, :3], axis=0)
    rotation = affine[:, :3] / size
    hand = 1.0
    if np.linalg.det(rotation) < 0:
        rotation, hand = rotation * (1, 1, -1), -1.0
    code = 0 if spec.orientation is None else 1
    low, high = spec.window or (0.0, 0.0)
    header = struct.pack(
        "<i35xB8h3f4h8f3fhBB4f2i80s24s2h6f12f16s4s4x",
        348, 0, 3, x, y, z, 1, 1, 1, 1, 0, 0, 0, 0,
        _type_of(spec, _NIFTI_TYPES, path), 8 * spec.dtype.itemsize, 0,
        hand, *size, 0, 0, 0, 0, _NIFTI_OFFSET, 1, 0, 0, 0, 2, high, low, 0, 0, 0, 0,
        b"soct", b"", code, code, *_quaternion(rotation), *affine[:, 3], *affine.ravel(),
        b"", b"n+1",
    )  # fmt: skip
    if len(header) != _NIFTI_OFFSET:
        raise AssertionError(f"a header of {len(header)} bytes")
    return header


def _little(band: Array) -> memoryview:
    ordered = np.ascontiguousarray(band, band.dtype.newbyteorder("<"))
    return ordered.data.cast("B")


def _write_nifti(path: Path, spec: VolumeSpec, planes: Iterable[Array]) -> None:
    header = nifti_header(spec, path)
    with _stream(path, zipped=path.name.lower().endswith(".gz")) as file:
        file.write(header)
        for band in planes:
            file.write(_little(band))


def _stream(path: Path, *, zipped: bool) -> IO[bytes]:
    if not zipped:
        return path.open("xb")
    # No name and no time in the file: equal volumes give equal bytes.
    return gzip.GzipFile(path, "xb", _GZIP_LEVEL, mtime=0)  # type: ignore[return-value]


def nrrd_header(spec: VolumeSpec, path: Path) -> bytes:
    """Return the text before the voxels of a NRRD file."""
    z, y, x = spec.shape
    lines = [
        "NRRD0005",
        f"type: {_type_of(spec, _NRRD_TYPES, path)}",
        "dimension: 3",
        f"sizes: {x} {y} {z}",
        "endian: little",
        "encoding: gzip",
    ]
    if spec.orientation is None:
        size = " ".join(f"{v / 1000:.12g}" for v in reversed(spec.voxel_um))
        lines += ["kinds: domain domain domain", f"spacings: {size}", 'units: "mm" "mm" "mm"']
    else:
        lps = LPS_FROM_RAS @ spec.affine
        axes = " ".join(_vector(lps[:3, axis]) for axis in (2, 1, 0))
        lines += [
            "space: left-posterior-superior",
            f"space directions: {axes}",
            "kinds: domain domain domain",
            'space units: "mm" "mm" "mm"',
            f"space origin: {_vector(lps[:3, 3])}",
        ]
    return ("\n".join(lines) + "\n\n").encode()


def _vector(values: Matrix) -> str:
    return "(" + ",".join(f"{float(v) + 0.0:.12g}" for v in values) + ")"


def _write_nrrd(path: Path, spec: VolumeSpec, planes: Iterable[Array]) -> None:
    with path.open("xb") as file:
        file.write(nrrd_header(spec, path))
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, file, mtime=0) as zipped:
            for band in planes:
                zipped.write(_little(band))


def _write_tiff(path: Path, spec: VolumeSpec, planes: Iterable[Array]) -> None:
    import tifffile

    from soct.formats.volumes_tiff import ome_metadata

    _type_of(spec, _NRRD_TYPES, path)
    with path.open("xb") as file:
        tifffile.imwrite(
            file,
            (plane for band in planes for plane in band),
            shape=spec.shape,
            dtype=spec.dtype,
            ome=True,
            bigtiff=int(np.prod(spec.shape)) * spec.dtype.itemsize > 3 << 30,
            photometric="minisblack",
            compression="zlib",
            metadata=ome_metadata(spec.voxel_um, spec.orientation),
        )


def stored_planes(path: Path, spec: VolumeSpec) -> Iterator[Array]:
    """Read what `write_planes` wrote, band after band, to compare it with what was meant."""
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz", ".nrrd"):
        yield from _stored_in_stream(path, spec, suffix)
    elif suffix in (".zarr", ".ome.zarr"):
        from soct.formats.volume_source import open_source

        yield from open_source(path).planes()
    else:
        import tifffile

        with tifffile.TiffFile(path) as file:
            for page in file.pages:
                yield np.asarray(page.asarray())[None]


def _stored_in_stream(path: Path, spec: VolumeSpec, suffix: str) -> Iterator[Array]:
    kind = spec.dtype.newbyteorder("<")
    plane = spec.shape[1] * spec.shape[2] * kind.itemsize
    with path.open("rb") as file:
        if suffix == ".nrrd":
            file.seek(len(nrrd_header(spec, path)))
        stream: Any = file if suffix == ".nii" else gzip.GzipFile(fileobj=file)
        if suffix != ".nrrd":
            stream.read(_NIFTI_OFFSET)
        while data := stream.read(plane):
            yield np.frombuffer(data, kind).reshape(-1, *spec.shape[1:])
