"""Write a simulated acquisition: raw tiles as a microscope leaves them, and the truth beside them.

The folder is built under a hidden name beside its place and renamed when it is whole, so that an interrupted
simulation is never mistaken for an acquisition. ``truth.json`` holds the spec: a folder that already is the
output of the same spec is left as it is.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soct.compute.threads import available_cpus
from soct.errors import UsageError
from soct.simulate.brain import Brain, GivenVolume, Specimen
from soct.simulate.optics import Optics
from soct.simulate.poses import Poses, SlicePose, TilePose, draw_poses
from soct.simulate.spec import AcquisitionSpec
from soct.simulate.truth import (
    describe_truth,
    fit_brain,
    fit_volume,
    lay_truth_grid,
    render_specimen,
    sample_truth,
)
from soct.space import Volume

_TRUTH_SHARE = 0.2


@dataclass(frozen=True)
class Simulation:
    """What was written."""

    path: Path
    """The acquisition: holds ``raw/``, ``truth.npz`` and ``truth.json``."""
    slices: int
    tiles: int
    raw_bytes: int
    truth_shape: tuple[int, int, int]
    truth_voxel_um: tuple[float, float, float]
    reused: bool = False
    """True when the folder already held exactly this acquisition."""

    @property
    def raw(self) -> Path:
        """The folder to give to ``soct run``."""
        return self.path / "raw"


def simulate(
    spec: AcquisitionSpec,
    out: Path,
    *,
    progress: Callable[[float], None] | None = None,
    threads: int | None = None,
    specimen: Specimen | Volume | None = None,
) -> Simulation:
    """Simulate an acquisition and write it with its truth.

    Memory is bounded by a band of one tile per thread and the truth volume, for any number of tiles.

    Parameters
    ----------
    spec : AcquisitionSpec
        What to simulate. The same spec gives the same bytes, for any number of threads.
    out : Path
        The folder to write; it must not exist, be empty, or hold the output of the same spec.
    progress : callable, optional
        Called with the fraction done, from 0 to 1.
    threads : int, optional
        Tiles imaged at a time; the processors available where omitted.
    specimen : Specimen or Volume, optional
        What to image instead of the procedural brain. A volume of brightness (tissue around 0.5) is laid
        about the middle of the imaged field.

    Raises
    ------
    UsageError
        The folder holds something else.
    """
    poses = draw_poses(spec)
    grid = lay_truth_grid(spec, poses)
    if specimen is None:
        finest = max(grid.voxel_um) if spec.interpolated else spec.pixel_um
        seen: Specimen = Brain(spec.brain or fit_brain(spec, poses), finest)
    else:
        seen = fit_volume(spec, poses, specimen) if isinstance(specimen, Volume) else specimen
    truth = describe_truth(spec, poses, grid, seen)
    if _is_taken(out, truth):
        return _summarise(out, truth, poses, grid.shape, tuple(grid.voxel_um), reused=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    building = out.parent / f".{out.name}.partial-{os.getpid()}"
    report = progress or (lambda fraction: None)
    try:
        building.mkdir()
        with ThreadPoolExecutor(threads or available_cpus()) as pool:
            arrays = sample_truth(
                seen, grid, pool, lambda f: report(_TRUTH_SHARE * f), average=not spec.interpolated
            )
            if spec.interpolated and not isinstance(seen, GivenVolume):
                seen = render_specimen(arrays, grid)
            write = _TileWriter(spec, Optics(spec, poses, seen), building / "raw")
            for done, _ in enumerate(pool.map(write, poses.imaged), 1):
                report(_TRUTH_SHARE + (1 - _TRUTH_SHARE) * done / len(poses.imaged))
        (building / "raw").mkdir(exist_ok=True)
        _write_metadata(spec, poses, building / "raw")
        np.savez(building / "truth.npz", allow_pickle=False, **arrays)
        (building / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
        building.rename(out)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return _summarise(out, truth, poses, grid.shape, tuple(grid.voxel_um), reused=False)


def _is_taken(out: Path, truth: dict[str, Any]) -> bool:
    """Whether `out` already holds this acquisition; refuse a folder that holds anything else."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    expected = "a folder that does not exist yet, or an empty one"
    if not out.is_dir():
        raise UsageError("the output is not a folder", file=out, expected=expected, found="a file")
    try:
        found = json.loads((out / "truth.json").read_text())
    except (OSError, ValueError):
        found = None
    identified = truth["brain"] is not None or truth["volume_sha256"] is not None
    if identified and found == json.loads(json.dumps(truth)):
        return True
    raise UsageError(
        "the output folder is not empty",
        file=out,
        expected=expected,
        found="another simulated acquisition" if isinstance(found, dict) else "other files",
        hint="choose another folder, or remove this one",
    )


def _summarise(
    out: Path,
    truth: dict[str, Any],
    poses: Poses,
    shape: tuple[int, int, int],
    voxel_um: tuple[float, ...],
    *,
    reused: bool,
) -> Simulation:
    size = sum(p.stat().st_size for p in (out / "raw").rglob("*.bin"))
    return Simulation(
        out,
        len(poses.slices),
        len(truth["tiles"]),
        size,
        shape,
        (voxel_um[0], voxel_um[1], voxel_um[2]),
        reused,
    )


def _slice_folder(spec: AcquisitionSpec, slice_id: int, raw: Path) -> Path:
    layout = spec.faults.layout
    if layout == "flat":
        return raw
    return raw / (f"z{slice_id:02d}" if layout == "z" else f"slice_z{slice_id:02d}/tiles")


@dataclass(frozen=True)
class _TileWriter:
    spec: AcquisitionSpec
    optics: Optics
    raw: Path

    def __call__(self, tile: TilePose) -> None:
        spec, f = self.spec, self.spec.faults
        folder = _slice_folder(spec, tile.slice_id, self.raw) / tile.name
        folder.mkdir(parents=True)
        pose = self.optics.poses.slices[tile.slice_id]
        (folder / "info.txt").write_text(describe_tile(spec, pose, tile))
        total = spec.tile_px[0] * f.n_repeat
        files = min(f.files_per_tile, total)
        stops = [round(total * (i + 1) / files) for i in range(files)]
        paths = [folder / f"image_{i:05d}.bin" for i in range(files)]
        written, current = 0, 0
        stream = paths[0].open("wb")
        try:
            for band in self.optics.frames(tile):
                rest = band.astype("<f4", copy=False)
                while len(rest):
                    part = rest[: stops[current] - written]
                    stream.write(part.data)
                    written += len(part)
                    rest = rest[len(part) :]
                    if written == stops[current] and current + 1 < files:
                        stream.close()
                        current += 1
                        stream = paths[current].open("wb")
        finally:
            stream.close()
        if tile.truncated:
            size = paths[-1].stat().st_size
            frame = 4 * spec.n_z * (spec.tile_px[1] + spec.n_extra)
            # Never a whole number of frames: the way a file ends when the disk is full.
            os.truncate(paths[-1], max(size - frame // 2 - frame * (size // frame // 3), 0))


def describe_tile(spec: AcquisitionSpec, pose: SlicePose, tile: TilePose) -> str:
    """Return the text of a tile's ``info.txt``."""
    f = spec.faults
    lines = {
        "nx": spec.tile_px[1],
        "ny": spec.tile_px[0],
        "n_repeat": f.n_repeat,
        "width": f"{spec.tile_px[1] * spec.pixel_um:g}",
        "height": f"{spec.tile_px[0] * spec.pixel_um:g}",
        "n_extra": spec.n_extra,
        "line_rate": 80,
        "exposure": 23,
        "alinerepeat": 1,
        "top_z": spec.top_z,
        "bottom_z": spec.top_z + spec.n_z - 1,
        "focus_z": spec.top_z + round(f.focus_sample),
    }
    text = {k: str(v) for k, v in lines.items()}
    if not f.stage_xy_absent:
        text["stage_x_pos_mm"] = f"{tile.stage_mm[1]:.5f}"
        text["stage_y_pos_mm"] = f"{tile.stage_mm[0]:.5f}"
    if not f.stage_z_absent:
        text["stage_z_pos_mm"] = f"{pose.stage_z_mm:.5f}"
    if not f.axial_absent:
        text["axial_resolution"] = f"{spec.axial_um:g}"
    return "Scan info\n" + "".join(f"{k}: {v}\n" for k, v in text.items())


def _write_metadata(spec: AcquisitionSpec, poses: Poses, raw: Path) -> None:
    if not spec.faults.session_metadata:
        return
    common = {"slice_thickness": spec.thickness_um / 1000, "overlap_fraction": spec.overlap}
    (raw / "state.json").write_text(json.dumps(common | {"n_slices": spec.slices}) + "\n")
    for i in poses.slices:
        folder = raw / f"slice_z{i:02d}"
        folder.mkdir(exist_ok=True)
        details = {
            "tile_size_um": [n * spec.pixel_um for n in reversed(spec.tile_px)],
            "tile_n_samples": list(reversed(spec.tile_px)),
            "z_min": spec.top_z,
            "z_max": spec.top_z + spec.n_z - 1,
        }
        (folder / "metadata.json").write_text(json.dumps(common | details) + "\n")
