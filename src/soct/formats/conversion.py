"""Turning a volume of one format into another: streamed, compared with what was meant, published in one step."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from soct.errors import InputError, ResourceError, UsageError
from soct.formats.atomic import fsync_folder
from soct.formats.ngff import parse_image
from soct.formats.pyramid_layout import level_factors
from soct.formats.tiles import shown
from soct.formats.volume_sink import VolumeSpec, checksum, stored_planes, suffix_of, write_planes
from soct.formats.volume_source import (
    VolumeSource,
    as_type,
    coarser,
    measure_window,
    open_source,
    turned,
)
from soct.geometry.orientation import parse_orientation
from soct.space import Voxel


@dataclass(frozen=True)
class Wish:
    """How a volume is to be written.

    Attributes
    ----------
    level : int or None
        Which resolution of an OME-Zarr image to take; None: the finest that `target_um` needs.
    target_um : float or None
        Take blocks of voxels as one, as long as they are not larger than this along any axis.
    source_voxel_um : Voxel or None
        Voxel size of an input that does not say it.
    source_orientation, orientation : str or None
        What the input's axes grow towards where it does not say it, and what the output's shall.
    dtype : str or None
        ``uint8``, ``uint16`` or ``float32``; None keeps the input's.
    window : (float, float) or None
        Values that become the smallest and the largest integer.
    labels : bool
        The voxels are numbers of regions: never average them.
    """

    level: int | None = None
    target_um: float | None = None
    source_voxel_um: Voxel | None = None
    source_orientation: str | None = None
    orientation: str | None = None
    dtype: str | None = None
    window: tuple[float, float] | None = None
    labels: bool = False


def _code(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return parse_orientation(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _best_level(path: Path, wish: Wish) -> int:
    """Return the coarsest level of an image whose blocks the wanted ones are made of."""
    if wish.level is not None or wish.target_um is None or not path.is_dir():
        return wish.level or 0
    try:
        levels = parse_image(path).levels
    except InputError:
        return 0
    base = wish.source_voxel_um or levels[0].voxel_um
    wanted = level_factors(base, [wish.target_um])[-1]
    found = 0
    for number, level in enumerate(levels):
        ratios = [v / v0 for v, v0 in zip(level.voxel_um, levels[0].voxel_um, strict=True)]
        parts = [w / r for w, r in zip(wanted, ratios, strict=True)]
        if all(abs(p - round(p)) < 1e-3 and p > 0.5 for p in parts):
            found = number
    return found


def prepare(path: Path, wish: Wish) -> VolumeSource:
    """Open a volume as it shall be written.

    Raises
    ------
    InputError
        It cannot be read.
    UsageError
        What is asked for does not fit it.
    """
    source = open_source(
        path,
        level=_best_level(path, wish),
        voxel_um=wish.source_voxel_um,
        orientation=_code(wish.source_orientation),
    )
    if source.voxel_um is None:
        raise UsageError(
            "The volume does not say its voxel size",
            file=shown(path),
            expected="--source-voxel-um Z,Y,X",
        )
    if wish.target_um is not None:
        factors = level_factors(source.voxel_um, [wish.target_um])[-1]
        source = coarser(source, factors, labels=wish.labels)
    code = _code(wish.orientation)
    if code is not None:
        source = turned(source, code)
    return _typed(source, wish)


def _typed(source: VolumeSource, wish: Wish) -> VolumeSource:
    dtype = np.dtype(wish.dtype) if wish.dtype is not None else source.dtype
    window = wish.window
    if window is not None and not window[0] < window[1]:
        raise UsageError(
            "A window needs a smaller and a larger value", found=f"{window[0]},{window[1]}"
        )
    if window is not None and dtype.kind != "u":
        raise UsageError(
            "A window maps voxels to integers", expected="--dtype uint8 or uint16", found=str(dtype)
        )
    scales = dtype.kind == "u" and not wish.labels
    is_narrower = source.dtype.kind == "f" or source.dtype.itemsize > dtype.itemsize
    if scales and window is None and is_narrower:
        window = source.window or measure_window(source)
    return as_type(source, dtype, window)


@contextmanager
def new_place(out: Path) -> Iterator[Path]:
    """Yield a hidden place beside `out` with the same name, which becomes `out` when the block ends well.

    Raises
    ------
    UsageError
        `out` exists, or its folder does not.
    """
    if os.path.lexists(out):
        raise UsageError(
            "The output exists already; nothing is ever overwritten",
            file=shown(out),
            expected="a new name",
            hint="Remove it first, or choose another name.",
        )
    if not out.parent.is_dir():
        raise UsageError("The output's folder does not exist", file=shown(out.parent))
    hidden = out.parent / f".{out.name[:40]}.{secrets.token_hex(6)}.partial"
    try:
        hidden.mkdir()
        yield hidden / out.name
        if os.path.lexists(out):
            raise UsageError("The output has appeared meanwhile", file=shown(out))
        (hidden / out.name).rename(out)
        fsync_folder(out.parent)
    except OSError as error:
        raise ResourceError(
            "The output cannot be written",
            file=shown(out),
            found=error.strerror or str(error),
            hint="Look at the free space and the permissions of that folder.",
        ) from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_volume(
    source: VolumeSource, out: Path, *, ngff: str = "0.5", labels: bool = False
) -> VolumeSpec:
    """Write a volume as the kind of file that the name says, read it back and compare, then publish it.

    Returns
    -------
    VolumeSpec
        What was written.

    Raises
    ------
    UsageError
        The output exists, or its format cannot hold the volume.
    ResourceError
        The disk gave back something else than was written.
    """
    suffix_of(out)
    assert source.voxel_um is not None
    spec = VolumeSpec(
        source.shape,
        source.dtype,
        source.voxel_um,
        source.translation_um,
        source.orientation,
        source.window,
        labels,
    )
    with new_place(out) as place:
        meant, found = [0], [0]
        write_planes(place, spec, checksum(source.planes(), meant.append), ngff=ngff)
        for _ in checksum(stored_planes(place, spec), found.append):
            pass
        _compare(place, spec, meant[-1] == found[-1], out)
    return spec


def _compare(place: Path, spec: VolumeSpec, same: bool, out: Path) -> None:
    again = open_source(place)
    voxel = again.voxel_um or Voxel(0.0, 0.0, 0.0)
    wrong = [
        name
        for name, right in (
            ("voxels", same),
            ("shape", again.shape == spec.shape),
            ("type", again.dtype == spec.dtype),
            ("voxel size", np.allclose(voxel, spec.voxel_um, rtol=1e-5)),
            ("orientation", again.orientation == spec.orientation),
        )
        if not right
    ]
    if wrong:
        raise ResourceError(
            "What was written reads back otherwise; nothing was published",
            file=shown(out),
            found=", ".join(wrong),
            hint="Look at the disk and its free space, then try again.",
        )


def convert(path: Path, out: Path, wish: Wish, *, ngff: str = "0.5") -> VolumeSpec:
    """Write a volume in another format, resolution, orientation or type; see `Wish` and `write_volume`."""
    return write_volume(prepare(path, wish), out, ngff=ngff, labels=wish.labels)
