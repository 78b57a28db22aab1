"""Changing the order of the columns of a mosaic grid's tiles in place, safely, and taking it back bit for bit.

The new array is written beside the old one, inside the grid's folder, and the two change names when it is complete;
the old one is kept until it is asked for or given up:

    <grid>/0                        the array that readers see
    <grid>/.soct-columns/change.json    what was done, and how far it is
    <grid>/.soct-columns/original       the array as it was
    <grid>/.soct-columns/building       an array that is not complete yet

At any moment a kill leaves either the old or the new array, and `settle` finishes what a killed process had begun.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soct.errors import InputError, LockedError
from soct.formats.atomic import fsync_folder, write_bytes
from soct.formats.mosaic_grid import MosaicGrid
from soct.formats.ngff import parse_image
from soct.formats.tiles import shown
from soct.formats.zarr_array import Range, json_bytes, open_array, read_metadata

FOLDER = ".soct-columns"


@dataclass(frozen=True)
class ColumnChange:
    """A change of columns that a grid carries.

    Attributes
    ----------
    order : tuple of int
        Former column that each column of a tile holds now.
    details : mapping
        What whoever changed it wanted to be remembered, JSON-able.
    has_original : bool
        Whether the former array is still there, so that the change can be undone.
    """

    order: tuple[int, ...]
    details: Mapping[str, Any]
    has_original: bool


@contextmanager
def holding(grid: Path) -> Iterator[None]:
    """Keep other processes from changing the same grid.

    Raises
    ------
    LockedError
        Another process changes it.
    """
    descriptor = os.open(grid, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                "Another process changes this mosaic grid",
                file=shown(grid),
                hint="Wait until it is done.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def read_change(grid: Path) -> ColumnChange | None:
    """Return the change that a grid carries; None where its columns are as they were written.

    Raises
    ------
    InputError
        The record of the change is broken.
    """
    file = grid / FOLDER / "change.json"
    if not file.exists():
        return None
    content = read_metadata(file)
    try:
        if content["state"] in ("changing", "undoing"):
            # Which array has the name decides, not how far a killed process came with its notes.
            return _interrupted(grid, content)
        order = tuple(int(i) for i in content["order"])
        details = dict(content["details"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "The record of a change of columns is broken",
            file=shown(file),
            expected="the file that `soct fix-galvo-shift` wrote",
            found=str(error)[:120],
        ) from error
    return ColumnChange(order, details, (grid / FOLDER / "original").is_dir())


def _interrupted(grid: Path, content: Mapping[str, Any]) -> ColumnChange | None:
    original = (grid / FOLDER / "original").is_dir()
    if not original:
        return None
    order = tuple(int(i) for i in content["order"])
    return ColumnChange(order, dict(content["details"]), True)


def settle(grid: Path) -> None:
    """Finish or drop what a killed process had begun; call it while `holding` the grid."""
    work = grid / FOLDER
    if not work.is_dir():
        return
    file = work / "change.json"
    state = read_metadata(file).get("state") if file.exists() else None
    array = grid / parse_image(grid).levels[0].path
    if state == "changing":
        _swap_in(array, work)
    elif state == "undoing":
        _swap_out(array, work)
    elif state is None:
        shutil.rmtree(work)
    else:
        shutil.rmtree(work / "building", ignore_errors=True)


def change_columns(
    grid: MosaicGrid,
    order: NDArray[np.int64],
    details: Mapping[str, Any],
    *,
    threads: int | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> None:
    """Put the columns of every tile of a grid in another order; call it while `holding` the grid.

    Parameters
    ----------
    grid : MosaicGrid
        Open; its array must not be read through it afterwards.
    order : int ndarray (tile width,)
        Former column of each new column: a permutation.
    details : mapping
        JSON-able, kept with the change.
    threads : int, optional
        Threads for the disk.
    progress : callable
        Called with the fraction done.

    Raises
    ------
    InputError
        The grid carries a change already, or has several resolutions.
    """
    image = parse_image(grid.path)
    if len(image.levels) != 1:
        raise InputError(
            "A mosaic grid with several resolutions cannot be changed in place",
            file=shown(grid.path),
            expected="one resolution",
            found=str(len(image.levels)),
        )
    if read_change(grid.path) is not None:
        raise InputError(
            "The columns of this mosaic grid were changed before",
            file=shown(grid.path),
            hint="Undo that change first.",
        )
    array, work = grid.path / image.levels[0].path, grid.path / FOLDER
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    _write_reordered(array, work / "building", grid, order, threads, progress)
    _note(work, "changing", order, details)
    _swap_in(array, work)


def undo_change(grid: Path) -> None:
    """Give a grid its former array back, bit for bit; call it while `holding` the grid.

    Raises
    ------
    InputError
        There is nothing to undo, or the former array was given up.
    """
    change = read_change(grid)
    if change is None:
        raise InputError("This mosaic grid carries no change to undo", file=shown(grid))
    if not change.has_original:
        raise InputError(
            "The former array of this mosaic grid was given up",
            file=shown(grid),
            hint="Make the grid again from the raw tiles.",
        )
    work = grid / FOLDER
    _note(work, "undoing", np.array(change.order), change.details)
    _swap_out(grid / parse_image(grid).levels[0].path, work)


def give_up_original(grid: Path) -> None:
    """Remove the former array: the change can no longer be undone."""
    shutil.rmtree(grid / FOLDER / "original", ignore_errors=True)


def _note(work: Path, state: str, order: NDArray[np.int64], details: Mapping[str, Any]) -> None:
    content = {"state": state, "order": [int(i) for i in order], "details": dict(details)}
    write_bytes(work / "change.json", json_bytes(content))


def _swap_in(array: Path, work: Path) -> None:
    """Give the new array the name; every step may have been done already."""
    if not (work / "original").exists():
        array.rename(work / "original")
    if not array.exists():
        (work / "building").rename(array)
    fsync_folder(array.parent)
    content = json.loads((work / "change.json").read_bytes())
    _note(work, "done", np.array(content["order"]), content["details"])


def _swap_out(array: Path, work: Path) -> None:
    """Give the former array the name back; every step may have been done already."""
    if (work / "original").exists():
        if array.exists():
            shutil.rmtree(work / "discarded", ignore_errors=True)
            array.rename(work / "discarded")
        (work / "original").rename(array)
        fsync_folder(array.parent)
    shutil.rmtree(work)


def _write_reordered(
    source: Path,
    target: Path,
    grid: MosaicGrid,
    order: NDArray[np.int64],
    threads: int | None,
    progress: Callable[[float], None],
) -> None:
    target.mkdir()
    for name in ("zarr.json", ".zarray", ".zattrs"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    old, new = open_array(source, threads), open_array(target, threads, write=True)
    axis = 1 if grid.is_transposed else 2
    regions = list(_regions(old.shape, old.layout.shards, axis, grid.tile_shape[2]))
    for done, region in enumerate(regions):
        names = [old.layout.file_name(i) for i in old.shards_in(region)]
        if any((source / name).exists() for name in names):
            block = old.read(region)
            columns = _columns(block.shape[axis], order)
            moved = np.ascontiguousarray(np.take(block, columns, axis=axis))
            new.finish([new.write([a for a, _ in region], moved)])
        progress((done + 1) / len(regions))
    for folder, _, files in os.walk(target):
        for name in files:
            with (Path(folder) / name).open("rb") as file:
                os.fsync(file.fileno())


def _regions(
    shape: tuple[int, ...], shards: tuple[int, ...], axis: int, tile: int
) -> Iterator[list[Range]]:
    """Yield blocks of whole shards that hold whole tiles along an axis."""
    sizes = list(shards)
    sizes[axis] = math.lcm(sizes[axis], tile)
    starts = [range(0, n, size) for n, size in zip(shape, sizes, strict=True)]
    for start in product(*starts):
        yield [(a, min(a + size, n)) for a, size, n in zip(start, sizes, shape, strict=True)]


def _columns(length: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
    tile = len(order)
    columns: NDArray[np.int64] = (
        np.arange(0, length, tile)[:, None] + np.asarray(order)[None]
    ).ravel()
    return columns
