"""Steps run one after the other in this process, each through its real function, as far as a test asks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from soct.formats.acquisition import open_acquisition
from soct.formats.ome_zarr import open_volume
from soct.formats.tables import TilePositionRow, read_table
from soct.pipeline.graph import is_enabled
from soct.pipeline.single_step import SingleResult, SingleStep, run_single_step
from soct.registration.transforms import rotation_matrix
from soct.simulate.microscope import Simulation
from soct.steps.declaration import Scope
from soct.steps.registry import load_steps

STEPS = load_steps()


@dataclass
class Chain:
    """The pipeline on one input without run folder, records or processes.

    A step runs when a test first asks for it, after the steps that it reads.
    """

    raw: Path
    folder: Path
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """``step -> parameter -> value`` where it is not the default."""
    done: dict[str, dict[tuple[int, ...], SingleResult]] = field(default_factory=dict)

    def run(self, step_id: str) -> dict[tuple[int, ...], SingleResult]:
        """Return what every unit of a step said and wrote."""
        if step_id not in self.done:
            step = STEPS[step_id]
            inputs: dict[tuple[str, str], dict[tuple[int, ...], Path]] = {}
            for source in step.inputs:
                if is_enabled(STEPS[source.step].params(**self.sets.get(source.step, {}))):
                    if STEPS[source.step].scope is Scope.PAIR:
                        inputs |= {(source.step, o.name): {} for o in STEPS[source.step].outputs}
                    for slices, result in self.run(source.step).items():
                        for name, path in result.outputs.items():
                            inputs.setdefault((source.step, name), {})[slices] = path
            acquisition = open_acquisition(self.raw)
            if step.scope is Scope.PAIR and len(acquisition.slices) < 2:
                return self.done.setdefault(step_id, {})
            request = SingleStep(
                step,
                step.params(**self.sets.get(step_id, {})),
                inputs,
                self.folder / step_id,
                acquisition=acquisition if step.reads_raw else None,
            )
            self.done[step_id] = {r.unit.slices: r for r in run_single_step(request)}
        return self.done[step_id]

    def path(self, step_id: str, output: str, *slices: int) -> Path:
        return self.run(step_id)[slices].outputs[output]

    def metric(self, step_id: str, name: str, *slices: int) -> Any:
        found = {m.name: m.value for m in self.run(step_id)[slices].result.metrics}
        return found[name]

    def warnings(self, step_id: str) -> str:
        return "\n".join(w for r in self.run(step_id).values() for w in r.result.warnings)

    def arrays(self, step_id: str, output: str, *slices: int) -> dict[str, Any]:
        with np.load(self.path(step_id, output, *slices)) as saved:
            return dict(saved)

    def document(self, step_id: str, output: str, *slices: int) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.path(step_id, output, *slices).read_text())
        return content


@dataclass
class Made:
    """A simulated acquisition, what is true about it, and the steps on it."""

    simulation: Simulation
    chain: Chain
    truth: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.truth = json.loads((self.simulation.path / "truth.json").read_text())

    @property
    def slice_ids(self) -> list[int]:
        return [int(i) for i in self.truth["slices"]]

    def tile_positions(self, slice_id: int) -> dict[tuple[int, int], Any]:
        """True canvas positions (y, x) in pixels of a slice's tiles, by (row, col)."""
        found = {}
        for name, tile in self.truth["tiles"].items():
            col, row, z = (int(part[1:]) for part in name.split("_")[1:])
            if z == slice_id:
                found[row, col] = np.array(tile["pos_yx_px"])
        return found


def copy_raw(source: Path, target: Path) -> Path:
    """Copy raw tiles so that a test can damage them."""
    shutil.copytree(source, target)
    return target


def tile_folder(raw: Path, slice_id: int, row: int, col: int) -> Path:
    return raw / f"tile_x{col:02d}_y{row:02d}_z{slice_id:02d}"


def rewrite(folder: Path, change: Any) -> None:
    """Replace a tile's samples by what `change` makes of them."""
    for file in folder.glob("*.bin"):
        data = np.fromfile(file, "<f4")
        np.asarray(change(data), "<f4").tofile(file)


def slice_origin(made: Made, slice_id: int) -> Any:
    """True canvas position (y, x) of the first pixel of a stitched slice, by the tiles' true positions."""
    rows = read_table(
        made.chain.path("stitch_3d_with_refinement", "positions", slice_id), TilePositionRow
    )
    volume = open_volume(made.chain.path("stitch_3d_with_refinement", "slice", slice_id))
    truth = made.tile_positions(slice_id)
    apart = [truth[r.row, r.col] - (r.y_px, r.x_px) for r in rows]
    return np.mean(apart, axis=0) + volume.attributes["origin_px"]


def read_whole(path: Path) -> Any:
    """All voxels of a volume, NaN outside of the valid depths."""
    volume = open_volume(path)
    data = volume.read()
    first, stop = volume.read_valid()
    z = np.arange(data.shape[0])[:, None, None]
    return np.where((z >= first) & (z < stop), data, np.nan)


def tissue_of(made: Made, slice_id: int, canvas_px: Any) -> Any:
    """True tissue position (y, x) that canvas pixels of a slice show, as the truth's convention says."""
    truth = made.truth["slices"][str(slice_id)]
    centre = np.array(made.truth["centre_yx_px"])
    turn = rotation_matrix(truth["rotation_deg"])
    return (np.asarray(canvas_px) - centre) @ turn.T + centre + truth["drift_yx_px"]
