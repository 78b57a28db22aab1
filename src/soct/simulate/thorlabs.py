"""Storing a simulated acquisition as Thorlabs polarisation-sensitive `.oct` files, to try that input with.

The light that a tile sends back is split between two detectors by a birefringence that grows with depth; every
angle of illumination sees other speckle phases and another axis. Summed powers are those of the raw tiles.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soct.errors import UsageError
from soct.formats.acquisition import Acquisition, SliceRecord, open_acquisition
from soct.formats.raw import read_tile
from soct.formats.thorlabs_header import MEMBERS
from soct.space import FloatArray

_RETARDANCE_PER_SAMPLE = 0.02
# Members carry a fixed date: equal input gives equal bytes.
_DATE = (2020, 1, 1, 0, 0, 0)
_HEADER = """<?xml version="1.0" encoding="utf-8"?>
<Ocity>
  <Acquisition><IntensityAveraging><AScans>{averaging}</AScans></IntensityAveraging></Acquisition>
  <DataFiles>
{files}
  </DataFiles>
</Ocity>
"""
_FILE = (
    '    <DataFile Type="Complex" SizeX="{x}" SizeY="{y}" SizeZ="{z}" '
    'RangeX="{rx:.9g}" RangeY="{ry:.9g}" RangeZ="{rz:.9g}">{name}</DataFile>'
)


def write_oct(
    path: Path,
    detectors: Sequence[NDArray[np.complex64]],
    range_mm: tuple[float, float, float],
    *,
    averaging: int = 1,
    compress: bool = False,
) -> Path:
    """Write one `.oct` file.

    Parameters
    ----------
    path : Path
        The file.
    detectors : sequence of ndarray of complex64, shape (x, y, z)
        One per polarisation, at most two.
    range_mm : tuple of float
        Field of view ``(x, y, z)``.
    averaging : int
        A-scans averaged to one, as the header tells.
    compress : bool
        Deflate the members.
    """
    x, y, z = detectors[0].shape
    rx, ry, rz = range_mm
    files = "\n".join(
        _FILE.format(x=x, y=y, z=z, rx=rx, ry=ry, rz=rz, name=name.replace("/", "\\"))
        for name in MEMBERS[: len(detectors)]
    )
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w") as archive:
        header = _HEADER.format(averaging=averaging, files=files).encode()
        archive.writestr(zipfile.ZipInfo("Header.xml", _DATE), header, zipfile.ZIP_DEFLATED)
        for name, data in zip(MEMBERS, detectors, strict=False):
            samples = np.ascontiguousarray(data, "<c8")
            archive.writestr(zipfile.ZipInfo(name, _DATE), samples.tobytes(), method, 1)
    return path


def split_light(
    magnitude: FloatArray, angle: int, angles: int, rng: np.random.Generator
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Return what both detectors see of a magnitude ``(x, y, z)``; their powers add up to its square."""
    phase = rng.random(magnitude.shape, np.float32) * np.float32(2 * np.pi)
    field = (magnitude * np.exp(1j * phase)).astype(np.complex64)
    depth = np.arange(magnitude.shape[2], dtype=np.float32)
    axis = np.pi * angle / max(angles, 1)
    turn = 0.5 * np.sin(_RETARDANCE_PER_SAMPLE * depth + axis)
    first = (field * np.cos(turn)).astype(np.complex64)
    second = (field * np.sin(turn) * np.exp(1j * np.float32(axis))).astype(np.complex64)
    return first, second


def store_as_oct(raw: Path, out: Path, *, angles: int = 2, depth_before: int = 320) -> Path:
    """Write a simulated raw acquisition without return lines as `.oct` and `.scan` files.

    Parameters
    ----------
    raw : Path
        The raw folder of a simulation with ``n_extra = 0``.
    out : Path
        The folder to make: ``slice_z<NN>/tile_<number>.oct`` with ``slice_z<NN>/positions.scan``.
    angles : int
        Files per position.
    depth_before : int
        Empty samples above those of the raw tiles, which the depth crop removes.

    Raises
    ------
    UsageError
        The folder exists, or the acquisition has return lines.
    """
    if out.exists():
        raise UsageError("the output folder exists", file=out, expected="a new folder")
    acquisition = open_acquisition(raw)
    if any(t.info.n_extra for r in acquisition.slices.values() for t in r.tiles):
        raise UsageError(
            "the tiles hold A-lines of the galvo's return, which .oct files have no place for",
            file=raw,
            expected="an acquisition simulated with n_extra = 0",
        )
    building = out.parent / f".{out.name}.partial-{os.getpid()}"
    try:
        building.mkdir(parents=True)
        _write_all(acquisition, building, angles, depth_before)
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return out


def _write_all(acquisition: Acquisition, out: Path, angles: int, depth_before: int) -> None:
    for name in ("state.json", "slice_config.csv"):
        if (acquisition.root / name).is_file():
            shutil.copyfile(acquisition.root / name, out / name)
    for record in acquisition.slices.values():
        folder = out / f"slice_z{record.slice_id:02d}"
        folder.mkdir()
        _write_slice(record, folder, angles, depth_before)


def _deepened(data: NDArray[np.complex64], n_z: int) -> NDArray[np.complex64]:
    """Put empty samples above those of a tile."""
    out = np.zeros((*data.shape[:2], n_z), np.complex64)
    out[..., n_z - data.shape[2] :] = data
    return out


def _write_slice(record: SliceRecord, folder: Path, angles: int, depth_before: int) -> None:
    lines = ["Scan pattern", "Positions"]
    for number, tile in enumerate(record.tiles):
        x, y, _ = tile.stage_mm
        if x is None or y is None:
            raise UsageError(
                "a tile has no stage position, which .scan files need", file=tile.folder
            )
        lines.append(f"{x:.5f} {y:.5f}")
        data = read_tile(tile).transpose(2, 1, 0)
        axial = tile.info.axial_resolution_um or 1.0
        n_z = depth_before + data.shape[2]
        range_um = (tile.info.width_um, tile.info.height_um, axial * n_z)
        for angle in range(angles):
            index = number * angles + angle
            rng = np.random.default_rng([record.slice_id, index])
            write_oct(
                folder / f"tile_{index + 1:04d}.oct",
                [_deepened(part, n_z) for part in split_light(data, angle, angles, rng)],
                (range_um[0] / 1000, range_um[1] / 1000, range_um[2] / 1000),
                compress=depth_before > 0,
            )
    (folder / "positions.scan").write_text("\n".join(lines) + "\n", encoding="utf-8")
