"""Large arrays as HDF5, NPY or TIFF, written in any order and block by block: killed on the way, they are continued.

The file is laid out whole, under a hidden name, with its pixels at one known place (contiguous, not compressed); blocks
are put there as memory. Nothing in the file depends on when or in which order they came, so equal content gives equal
bytes. It gets its name when all blocks are in.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import UsageError
from soct.formats.tiles import shown

SUFFIXES = (".h5", ".hdf5", ".npy", ".tif", ".tiff")


def array_suffix(path: Path) -> str:
    """Return which of `SUFFIXES` a name has.

    Raises
    ------
    UsageError
        It has none of them.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES or path.name.lower().endswith((".ome.tif", ".ome.tiff")):
        raise UsageError(
            "The output's name does not say what it is",
            file=shown(path),
            expected="a name that ends with " + ", ".join(SUFFIXES),
            found=path.suffix or "no ending",
            hint="`soct convert` makes OME-Zarr, NIfTI and NRRD of a TIFF.",
        )
    return suffix


def lay_out(
    path: Path,
    shape: tuple[int, int, int],
    suffix: str,
    *,
    dataset: str,
    attributes: Mapping[str, str],
    beside: Mapping[str, tuple[NDArray[np.float64], str]] | None = None,
) -> None:
    """Make a file of float32 zeros.

    Parameters
    ----------
    path : Path
        Is replaced where it exists.
    shape : (int, int, int)
    suffix : str
        What the file is: one of `SUFFIXES`.
    dataset : str
        Name of the array in HDF5.
    attributes : mapping
        Of the array, in HDF5.
    beside : mapping of str to (ndarray, str), optional
        Smaller datasets with their units, in HDF5.
    """
    path.unlink(missing_ok=True)
    if suffix in (".h5", ".hdf5"):
        _lay_out_hdf5(path, shape, dataset, attributes, beside or {})
    elif suffix == ".npy":
        np.lib.format.open_memmap(path, "w+", np.dtype("<f4"), shape).flush()
    else:
        import tifffile

        tifffile.memmap(
            path, shape=shape, dtype=np.dtype("<f4"), byteorder="<", photometric="minisblack", software="soct",
        ).flush()  # fmt: skip


def _lay_out_hdf5(
    path: Path,
    shape: tuple[int, int, int],
    dataset: str,
    attributes: Mapping[str, str],
    beside: Mapping[str, tuple[NDArray[np.float64], str]],
) -> None:
    import h5py

    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    how.set_obj_track_times(False)
    with h5py.File(path, "x") as file:
        for name, (values, unit) in beside.items():
            file.create_dataset(name, data=values, track_times=False).attrs["units"] = unit
        group, _, leaf = dataset.rpartition("/")
        parent = file.require_group(group) if group else file
        kind = h5py.h5t.py_create(np.dtype("<f4"))
        space = h5py.h5s.create_simple(shape)
        made = h5py.h5d.create(parent.id, leaf.encode(), kind, space, how)
        for name, value in attributes.items():
            h5py.Dataset(made).attrs[name] = value


@dataclass(frozen=True)
class Place:
    """Where the array of a file lies: float32, little-endian, in C order.

    Attributes
    ----------
    path : Path
    offset : int
        Bytes before it.
    shape : (int, int, int)
    """

    path: Path
    offset: int
    shape: tuple[int, int, int]

    def write(self, first: int, values: NDArray[np.float32]) -> None:
        """Put a block ``(m, y, x)`` at an index of the first axis, on the disk when this returns."""
        if values.shape[1:] != self.shape[1:] or first + len(values) > self.shape[0]:
            raise ValueError(f"a block {values.shape} at {first} of {self.shape}")
        each = 4 * self.shape[1] * self.shape[2]
        # Not through mapped memory: a disk that is full would end the process there.
        with self.path.open("r+b") as file:
            file.seek(self.offset + first * each)
            file.write(np.ascontiguousarray(values, "<f4").data)
            file.flush()
            os.fsync(file.fileno())

    def read(self) -> NDArray[Any]:
        """Map the array for reading."""
        return np.memmap(self.path, np.dtype("<f4"), "r", self.offset, self.shape)


def find_array(path: Path, suffix: str, dataset: str) -> Place:
    """Find the array of a file that `lay_out` made."""
    if suffix in (".h5", ".hdf5"):
        import h5py

        with h5py.File(path, "r") as file:
            item = file[dataset]
            return Place(path, int(item.id.get_offset()), item.shape)
    if suffix == ".npy":
        array = np.load(path, mmap_mode="r")
        return Place(path, int(array.offset), array.shape)
    import tifffile

    with tifffile.TiffFile(path) as file:
        offset = int(file.series[0].dataoffset or 0)
        rows, cols = file.pages.first.shape
        return Place(path, offset, (len(file.pages), rows, cols))
