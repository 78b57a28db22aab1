"""Stacks of tomographic projections as beamlines write them: HDF5, TIFF (one file or a folder) and NPY.

A stack is ``(n, rows, cols)``: projections, detector rows, detector columns. It is opened without reading its pixels, and
read in blocks: some rows of all projections (a sinogram is one row of all), or all rows of some projections. A 2-D image
is one sinogram; which of its axes holds the angles must be known (`as_sinogram`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, UsageError
from soct.formats.projection_angles import Angles
from soct.formats.tiles import shown
from soct.space import FloatArray

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf", ".nxs", ".nx", ".he5")
TIFF_SUFFIXES = (".tif", ".tiff")
LEAST_PROJECTIONS = 3
_KIND = "an HDF5 file, a TIFF, a folder of TIFFs, or an NPY array of projections (n, rows, cols)"
_SAMPLE_BYTES = 1 << 20

SinogramAxes = Literal["auto", "angle-detector", "detector-angle"]


class BlockReader(Protocol):
    """What reads pixels of an open layout."""

    def read(self, projections: slice, rows: slice) -> NDArray[Any]:
        """Return ``(m, r, cols)`` of the type of the file."""


@dataclass(frozen=True)
class Frames:
    """Flat or dark fields of a stack, ``(m, rows, cols)``."""

    name: str
    shape: tuple[int, int, int]
    reader: BlockReader

    def read(self, rows: slice) -> FloatArray:
        """Return rows of all frames, float32."""
        return np.asarray(self.reader.read(slice(0, self.shape[0]), rows), np.float32)


@dataclass(frozen=True)
class ProjectionStack:
    """A stack that is open for reading.

    Attributes
    ----------
    path : Path
    layout : str
        How it is stored, for people.
    shape : (int, int, int)
        Projections, rows, columns.
    dtype : dtype
        Of the file.
    reader : BlockReader
    angles : Angles or None
        Those of the file.
    flats, darks : Frames or None
    notes : tuple of str
        What was decided on opening it.
    """

    path: Path
    layout: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    reader: BlockReader
    angles: Angles | None = None
    flats: Frames | None = None
    darks: Frames | None = None
    notes: tuple[str, ...] = ()
    is_image: bool = False
    """Whether this is a 2-D image, ``(1, y, x)``, of which `as_sinogram` makes a stack."""
    files: tuple[Path, ...] = field(default=(), repr=False)
    """All files, where the stack is a folder."""

    def read(self, projections: slice, rows: slice) -> FloatArray:
        """Return a block ``(m, r, cols)``, float32.

        Raises
        ------
        InputError
            The file ends early, or cannot be decoded.
        """
        try:
            data = self.reader.read(projections, rows)
        except InputError:
            raise
        except Exception as error:
            # Broken files make the libraries fail in many ways, none of them a mistake of soct's.
            raise cannot_read(self.path, error) from error
        return np.ascontiguousarray(data, np.float32)

    def fingerprint(self) -> str:
        """Return what tells this input from others: names, sizes and times of its files, and a sample of their bytes."""
        digest = hashlib.sha256(repr((self.layout, self.shape, str(self.dtype))).encode())
        files = self.files or (self.path,)
        for file in files:
            status = file.stat()
            digest.update(repr((file.name, status.st_size, status.st_mtime_ns)).encode())
        for file in {files[0], files[-1]}:
            digest.update(_sample(file))
        return digest.hexdigest()[:32]

    def content_mark(self) -> str:
        """Return what a copy of this input, of whatever name and time, shares with it: sizes and a sample of its bytes."""
        files = self.files or (self.path,)
        sizes = tuple(file.stat().st_size for file in files)
        digest = hashlib.sha256(repr((self.layout, self.shape, str(self.dtype), sizes)).encode())
        for file in dict.fromkeys((files[0], files[-1])):
            digest.update(_sample(file))
        return digest.hexdigest()[:32]


def _sample(file: Path) -> bytes:
    with file.open("rb") as opened:
        first = opened.read(_SAMPLE_BYTES)
        opened.seek(max(0, file.stat().st_size - _SAMPLE_BYTES))
        return first + opened.read()


def cannot_read(path: Path, error: object) -> InputError:
    """Return the error of a file that is not what its name says, or is incomplete."""
    text = str(error)
    if isinstance(error, Exception) and len(text) < 8:
        text = f"{type(error).__name__} {text}".strip()
    short = any(
        word in text.lower()
        for word in ("truncated", "greater than file size", "end of file", "eof")
    )
    return InputError(
        "A projection stack is incomplete" if short else "A projection stack cannot be read",
        file=shown(path),
        expected=_KIND,
        found=shown(text)[:200],
        hint="Copy or export it again." if short else None,
    )  # fmt: skip


def open_stack(
    path: Path, *, dataset: str | None = None, without: Collection[str] = ()
) -> ProjectionStack:
    """Open a stack by what it is: HDF5, TIFF, a folder of TIFFs or NPY.

    Parameters
    ----------
    path : Path
    dataset : str, optional
        The projections' name in an HDF5 file; default: Data Exchange (``exchange/data``) or NXtomo.
    without : collection of {"flats", "darks"}
        Fields of the file that are not wanted.

    Raises
    ------
    InputError
        It is missing, broken, incomplete or no stack of at least three projections.
    UsageError
        `dataset` is given for a file that has none.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("There is no such stack", file=shown(path), expected=_KIND, found="nothing of this name")  # fmt: skip
    suffix = path.suffix.lower()
    if dataset is not None and suffix not in HDF5_SUFFIXES:
        raise UsageError(
            "Only HDF5 files have datasets", file=shown(path), expected="no --dataset for this file"
        )
    try:
        opened = _open(path, suffix, dataset)
    except (InputError, UsageError):
        raise
    except Exception as error:
        raise cannot_read(path, error) from error
    if "flats" in without:
        opened = replace(opened, flats=None)
    if "darks" in without:
        opened = replace(opened, darks=None)
    _check(opened)
    return opened


def open_images(path: Path) -> ProjectionStack:
    """Open images that are no projections, such as flat fields: any number of them."""
    return _open(path, path.suffix.lower(), None)


def _open(path: Path, suffix: str, dataset: str | None) -> ProjectionStack:
    if path.is_dir() or suffix in TIFF_SUFFIXES:
        from soct.formats.projection_tiff import open_folder, open_tiff

        return open_folder(path) if path.is_dir() else open_tiff(path)
    if suffix in HDF5_SUFFIXES:
        from soct.formats.projection_hdf5 import open_hdf5

        return open_hdf5(path, dataset)
    if suffix == ".npy":
        return _open_npy(path)
    raise InputError(
        "This is no kind of stack that soct reads",
        file=shown(path),
        expected=_KIND,
        found=path.suffix or "a name without ending",
    )


def _check(stack: ProjectionStack) -> None:
    n, rows, cols = stack.shape
    if stack.dtype.kind not in "uif":
        raise InputError(
            "A projection stack has values of an unsuitable type",
            file=shown(stack.path),
            expected="integers or floats, one per pixel",
            found=str(stack.dtype),
            hint="Of complex projections, write the (unwrapped) phase.",
        )
    if min(n, rows, cols) < 1 or cols < 4:
        raise InputError("A projection stack is empty", file=shown(stack.path), expected=_KIND, found=f"shape {stack.shape}")  # fmt: skip
    if not stack.is_image and n < LEAST_PROJECTIONS:
        raise InputError(
            "A stack of so few projections says nothing about their alignment",
            file=shown(stack.path),
            expected=f"at least {LEAST_PROJECTIONS} projections, (n, rows, cols)",
            found=f"{n}, of {rows} x {cols} pixels",
            hint="One sinogram alone is a 2-D image (NPY or TIFF).",
        )
    for frames in (stack.flats, stack.darks):
        if frames is not None and frames.shape[1:] != (rows, cols):
            raise InputError(
                "Flat or dark fields differ in size from the projections",
                file=shown(stack.path),
                expected=f"{frames.name}: frames of {rows} x {cols} pixels",
                found=f"shape {frames.shape}",
                hint="Give others with --flats FILE and --darks FILE, or say --line-integrals or --transmission where none are needed.",
            )


@dataclass(frozen=True)
class MappedReader:
    """Reads an array that lies in a file as it is in memory."""

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    order: Literal["C", "F"] = "C"

    def read(self, projections: slice, rows: slice) -> NDArray[Any]:
        """Return a block."""
        array = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, self.order)
        return np.array(array[projections, rows])


def _open_npy(path: Path) -> ProjectionStack:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    shape = tuple(int(n) for n in array.shape)
    if len(shape) not in (2, 3):
        raise InputError(
            "An array is no stack of projections",
            file=shown(path),
            expected="(n, rows, cols), or (y, x) for one sinogram",
            found=f"shape {shape}",
        )
    order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
    is_image = len(shape) == 2
    if is_image:
        array = array[None]
        shape = (1, *shape)
    reader = MappedReader(path, array.dtype, shape, int(array.base.offset if is_image else array.offset), order)  # fmt: skip
    return ProjectionStack(
        path, "NPY", (shape[0], shape[1], shape[2]), array.dtype, reader, is_image=is_image
    )


@dataclass(frozen=True)
class ChosenReader:
    """Reads some projections of a layout as if there were no others."""

    whole: BlockReader
    kept: tuple[int, ...]

    def read(self, projections: slice, rows: slice) -> NDArray[Any]:
        """Return a block of those that are kept."""
        wanted = self.kept[projections]
        edges = [i for i in range(1, len(wanted)) if wanted[i] != wanted[i - 1] + 1]
        runs = zip([0, *edges], [*edges, len(wanted)], strict=True)
        return np.concatenate(
            [self.whole.read(slice(wanted[a], wanted[b - 1] + 1), rows) for a, b in runs]
        )


def chosen_projections(stack: ProjectionStack, kept: tuple[int, ...]) -> ProjectionStack:
    """Return a stack of some projections.

    Raises
    ------
    InputError
        Too few are left.
    """
    made = replace(
        stack, shape=(len(kept), *stack.shape[1:]), reader=ChosenReader(stack.reader, kept)
    )
    _check(made)
    return made


@dataclass(frozen=True)
class SinogramReader:
    """Reads a 2-D image as a stack of one row."""

    image: BlockReader
    angles_first: bool

    def read(self, projections: slice, rows: slice) -> NDArray[Any]:
        """Return ``(m, 1, detector)``."""
        image = self.image.read(slice(0, 1), slice(None))[0]
        sinogram = image if self.angles_first else image.T
        return np.asarray(sinogram[projections, None][:, rows])


def as_sinogram(
    stack: ProjectionStack, axes: SinogramAxes, angles: int | None = None
) -> ProjectionStack:
    """Return a 2-D image as a stack of one detector row.

    Parameters
    ----------
    stack : ProjectionStack
        Of a 2-D image; any other is returned as it is.
    axes : {"auto", "angle-detector", "detector-angle"}
        What the image's first and second axis are; ``auto``: the axis that is as long as there are angles holds them.
    angles : int, optional
        How many angles are known.

    Raises
    ------
    UsageError
        Nothing says which axis holds the angles.
    """
    if not stack.is_image:
        return stack
    y, x = stack.shape[1:]
    if axes == "auto":
        if angles not in (y, x) or y == x:
            raise UsageError(
                "A 2-D image is one sinogram, but which of its axes holds the angles is not known",
                file=shown(stack.path),
                expected="--sinogram-axes angle-detector (a projection is a line of the image) or detector-angle, "
                "or angles from a file, as many as one of the axes is long",
                found=f"{y} x {x} pixels, "
                + (f"{angles} angles" if angles is not None else "no list of angles"),
            )
        axes = "angle-detector" if angles == y else "detector-angle"
    first = axes == "angle-detector"
    n, cols = (y, x) if first else (x, y)
    made = replace(
        stack,
        shape=(n, 1, cols),
        reader=SinogramReader(stack.reader, first),
        is_image=False,
        notes=(*stack.notes, f"a 2-D image: one sinogram of {n} projections and {cols} detector pixels ({axes})"),
    )  # fmt: skip
    _check(made)
    return made
