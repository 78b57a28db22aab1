"""Flat and dark fields that lie in files of their own: HDF5, TIFF (file or folder) or NPY, frames or one averaged frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from soct.errors import InputError
from soct.formats.projection_stacks import (
    HDF5_SUFFIXES,
    Frames,
    SinogramReader,
    cannot_read,
    open_images,
)
from soct.formats.tiles import shown

_NAMES = {
    "flat": ("exchange/data_white", "data_white"),
    "dark": ("exchange/data_dark", "data_dark"),
}


def open_frames(path: Path, kind: str, rows: int, cols: int) -> Frames:
    """Open flat or dark fields that fit a stack.

    Parameters
    ----------
    path : Path
        Frames (m, rows, cols) or one frame (rows, cols); of a sinogram also lines (m, cols).
    kind : {"flat", "dark"}
    rows, cols : int
        Of the projections.

    Raises
    ------
    InputError
        It cannot be read, or its frames are of another size.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"There is no such file of {kind} fields", file=shown(path), found="nothing of this name")  # fmt: skip
    try:
        frames = _of_hdf5(path, kind) if path.suffix.lower() in HDF5_SUFFIXES else _of_images(path, kind, rows)  # fmt: skip
    except InputError:
        raise
    except Exception as error:
        raise cannot_read(path, error) from error
    if frames.shape[1:] != (rows, cols):
        raise InputError(
            f"The {kind} fields differ in size from the projections",
            file=shown(path),
            expected=f"frames of {rows} x {cols} pixels (or one averaged frame)",
            found=f"frames of {frames.shape[1]} x {frames.shape[2]} pixels",
            hint="Give the fields of this detector window; cut them to the rows of the projections first.",
        )
    return frames


def _of_images(path: Path, kind: str, rows: int) -> Frames:
    opened = open_images(path)
    n, y, x = opened.shape
    if opened.is_image and rows == 1:
        return Frames(f"{kind} fields", (y, 1, x), SinogramReader(opened.reader, angles_first=True))
    return Frames(f"{kind} fields", (n, y, x), opened.reader)


def _of_hdf5(path: Path, kind: str) -> Frames:
    import h5py

    from soct.formats.projection_hdf5 import frames_of

    with h5py.File(path, "r") as file:
        for name in _NAMES[kind]:
            if isinstance(file.get(name), h5py.Dataset):
                return frames_of(path, file[name], name)
        found: dict[str, tuple[int, ...]] = {}

        def look(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.ndim in (2, 3):
                found[name] = tuple(item.shape)

        file.visititems(look)
        if len(found) == 1:
            name = next(iter(found))
            return frames_of(path, file[name], name)
    raise InputError(
        f"An HDF5 file does not say which dataset holds the {kind} fields",
        file=shown(path),
        expected=f"{' or '.join(_NAMES[kind])}, or one dataset alone",
        found=", ".join(f"{name} {shape}" for name, shape in found.items())[:200] or "no images",
    )


def files_mark(path: Path) -> str:
    """Return what tells a file, or a folder of files, from another: names, sizes and times."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    return repr([(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in files])
