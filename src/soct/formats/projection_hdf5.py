"""Projections in HDF5: Data Exchange, NXtomo, or a dataset that is named."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError
from soct.formats.projection_angles import Angles, Unit, checked
from soct.formats.projection_stacks import Frames, ProjectionStack
from soct.formats.tiles import shown

_LISTED = 12
_PROJECTION, _FLAT, _DARK = 0, 1, 2
"""Values of NXtomo's image_key; 3 is an invalid frame."""


@dataclass(frozen=True)
class Hdf5Reader:
    """Reads blocks of a 3-D dataset; the file is open only while it is read.

    Attributes
    ----------
    path : Path
    dataset : str
    frames : tuple of int or None
        Which frames of the dataset, where it holds other ones too.
    """

    path: Path
    dataset: str
    frames: tuple[int, ...] | None = None

    def read(self, projections: slice, rows: slice) -> NDArray[Any]:
        """Return a block."""
        import h5py

        with h5py.File(self.path, "r") as file:
            data = file[self.dataset]
            if data.ndim == 2:
                return np.asarray(data[rows])[None][projections]
            if self.frames is None:
                return np.asarray(data[projections, rows])
            return np.concatenate(
                [np.asarray(data[run, rows]) for run in _runs(self.frames[projections])]
            )


def _runs(frames: tuple[int, ...]) -> list[slice]:
    """Return frames as slices of neighbours: reading those is quick, reading a list of frames is not."""
    edges = [0, *(i for i in range(1, len(frames)) if frames[i] != frames[i - 1] + 1), len(frames)]
    return [slice(frames[a], frames[b - 1] + 1) for a, b in pairwise(edges)]


def open_hdf5(path: Path, dataset: str | None) -> ProjectionStack:
    """Open a file by its layout.

    Raises
    ------
    InputError
        No layout is recognised and no dataset named, or it is no 3-D dataset.
    """
    import h5py

    with h5py.File(path, "r") as file:
        if dataset is not None:
            return _named(path, file, dataset)
        if isinstance(file.get("exchange/data"), h5py.Dataset):
            return _exchange(path, file, "exchange/data")
        keys = _find(file, "image_key")
        if keys:
            return _nxtomo(path, file, keys[0])
        raise InputError(
            "An HDF5 file does not say which dataset holds the projections",
            file=shown(path),
            expected="exchange/data (Data Exchange), an NXtomo entry, or --dataset PATH",
            found=_listed(file),
            hint="Name the projections with --dataset, the angles with --angles or --span.",
        )


def _find(file: Any, name: str) -> list[str]:
    """Return the paths of all datasets of a name, the shortest first."""
    import h5py

    found: list[str] = []

    def look(path: str, item: Any) -> None:
        if path.rpartition("/")[2] == name and isinstance(item, h5py.Dataset):
            found.append(path)

    file.visititems(look)
    return sorted(found, key=lambda path: (path.count("/"), path))


def _listed(file: Any) -> str:
    import h5py

    found: list[str] = []

    def look(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 3:
            found.append(f"{path} {tuple(item.shape)}")

    file.visititems(look)
    if not found:
        return "no 3-D dataset"
    more = f" and {len(found) - _LISTED} more" if len(found) > _LISTED else ""
    return "3-D datasets: " + shown(", ".join(found[:_LISTED])) + more


def _shape(path: Path, item: Any, name: str) -> tuple[int, int, int]:
    if item.ndim != 3:
        raise InputError(
            "A dataset is no stack of projections",
            file=shown(path),
            expected=f"{name}: (n, rows, cols)",
            found=f"shape {tuple(item.shape)}",
        )
    n, rows, cols = (int(v) for v in item.shape)
    return n, rows, cols


def _named(path: Path, file: Any, dataset: str) -> ProjectionStack:
    import h5py

    name = dataset.strip("/")
    item = file.get(name)
    if not isinstance(item, h5py.Dataset):
        raise InputError(
            "There is no such dataset in this file",
            file=shown(path),
            expected=shown(dataset),
            found=_listed(file),
        )
    group, _, leaf = name.rpartition("/")
    if leaf == "data" and f"{group}/image_key" in file:
        return _nxtomo(path, file, f"{group}/image_key")
    return _exchange(path, file, name)


def _exchange(path: Path, file: Any, name: str) -> ProjectionStack:
    """Open projections with flats, darks and angles beside them, where they are."""
    item = file[name]
    shape = _shape(path, item, name)
    group = name.rpartition("/")[0]
    frames = [_frames(path, file, f"{group}/{leaf}") for leaf in ("data_white", "data_dark")]
    return ProjectionStack(
        path,
        f"HDF5, {name}",
        shape,
        item.dtype,
        Hdf5Reader(path, name),
        angles=_angles(path, file.get(f"{group}/theta"), f"{group}/theta"),
        flats=frames[0],
        darks=frames[1],
    )


def _frames(path: Path, file: Any, name: str) -> Frames | None:
    item = file.get(name)
    if item is None or 0 in item.shape:
        return None
    return frames_of(path, item, name)


def frames_of(path: Path, item: Any, name: str) -> Frames:
    """Return the frames of a dataset, one averaged frame ``(rows, cols)`` among them.

    Raises
    ------
    InputError
        It has another number of axes.
    """
    if item.ndim not in (2, 3):
        raise InputError(
            "A dataset holds no flat or dark fields",
            file=shown(path),
            expected=f"{name}: frames (m, rows, cols), or one averaged frame (rows, cols)",
            found=f"shape {tuple(item.shape)}",
        )
    rows, cols = (int(v) for v in item.shape[-2:])
    count = int(item.shape[0]) if item.ndim == 3 else 1
    return Frames(name, (count, rows, cols), Hdf5Reader(path, name))


def _angles(path: Path, item: Any, name: str) -> Angles | None:
    if item is None:
        return None
    return checked(np.asarray(item[()], np.float64).ravel(), _unit(item), name, path)


def _unit(item: Any) -> Unit:
    raw = item.attrs.get("units", "")
    text = (raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)).lower()
    return "deg" if text.startswith("deg") else "rad" if text.startswith("rad") else "auto"


def _nxtomo(path: Path, file: Any, key_name: str) -> ProjectionStack:
    """Open frames of which a list says what each of them is."""
    group = key_name.rpartition("/")[0]
    name = f"{group}/data".lstrip("/")
    if name not in file:
        raise InputError(
            "An NXtomo entry has no data",
            file=shown(path),
            expected=f"{name} beside {key_name}",
            found=_listed(file),
        )
    item, key = file[name], np.asarray(file[key_name][()]).ravel()
    total, rows, cols = _shape(path, item, name)
    if len(key) != total:
        raise InputError(
            "An NXtomo entry says of another number of frames what they are",
            file=shown(path),
            expected=f"{total} values in {key_name}",
            found=str(len(key)),
        )

    def frames(kind: int) -> tuple[int, ...]:
        return tuple(int(i) for i in np.flatnonzero(key == kind))

    def fields(kind: int, what: str) -> Frames | None:
        which = frames(kind)
        reader = Hdf5Reader(path, name, which)
        return Frames(what, (len(which), rows, cols), reader) if which else None

    kept = frames(_PROJECTION)
    invalid = total - sum(len(frames(k)) for k in (_PROJECTION, _FLAT, _DARK))
    notes = (f"frames that the file calls invalid are left out: {invalid}",) if invalid else ()
    return ProjectionStack(
        path,
        f"HDF5 (NXtomo), {name}",
        (len(kept), rows, cols),
        item.dtype,
        Hdf5Reader(path, name, kept),
        angles=_nxtomo_angles(path, file, total, kept),
        flats=fields(_FLAT, "flat fields"),
        darks=fields(_DARK, "dark fields"),
        notes=notes,
    )


def _nxtomo_angles(path: Path, file: Any, total: int, kept: tuple[int, ...]) -> Angles | None:
    for name in _find(file, "rotation_angle"):
        values = np.asarray(file[name][()], np.float64).ravel()
        if len(values) == total:
            return checked(values[list(kept)], _unit(file[name]), name, path)
    return None
