"""What steps say that they will take is what they take, or somewhat more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from soct.compute.threads import worker_environment
from soct.errors import ExitCode
from soct.formats.acquisition import open_acquisition
from soct.pipeline.asked_run import WORKER_MODULES
from soct.simulate.microscope import simulate
from soct.simulate.spec import preset
from soct.steps.blocks import cut_blocks, middle_block
from soct.steps.finished_volume import VOLUME_STEPS
from tests.steps.chain import STEPS, Made

WRITERS = ("create_mosaic_grid", "stitch_3d_with_refinement", "compensate_attenuation", "stack")
PARAMS = {name: step.params() for name, step in STEPS.items()}


def size_on_disk(path: Path) -> int:
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files)


@pytest.mark.parametrize("name", WRITERS)
def test_the_disk_that_a_step_announces_holds_what_it_writes(plain: Made, name: str) -> None:
    acquisition = open_acquisition(plain.simulation.raw)
    step = STEPS[name]
    assert step.estimate is not None
    for slices, result in plain.chain.run(name).items():
        need = step.estimate(acquisition, slices or tuple(acquisition.slices), PARAMS)
        written = sum(size_on_disk(path) for path in result.outputs.values())
        # Metadata of a few kB are not counted.
        assert written - (100 << 10) <= need.disk_bytes <= 6 * written


def test_memory_that_is_announced_does_not_grow_with_the_number_of_slices(tmp_path: Path) -> None:
    bounded = ("fix_illumination", "fix_focal_curvature", "stack", *VOLUME_STEPS)
    needs = []
    for slices in (2, 6):
        spec = preset("tiny", slices=slices, rows=1, cols=2, interpolated=True, truth_voxels=10_000)
        acquisition = open_acquisition(simulate(spec, tmp_path / str(slices), threads=1).raw)
        ids = tuple(acquisition.slices)
        # Pictures of up to `max_samples` tiles, and bands of the pyramid, are bounded but not reached here.
        needs.append(
            {
                name: step.estimate(acquisition, ids, PARAMS).memory_bytes
                for name, step in STEPS.items()
                if step.estimate is not None and name not in bounded
            }
        )
    assert needs[0] == needs[1]


def test_a_run_that_cannot_fit_ends_with_exit_code_8_before_it_starts(
    plain: Made, tmp_path: Path
) -> None:
    soct = Path(sys.executable).with_name("soct")
    command = [soct, "run", plain.simulation.raw, tmp_path / "out", "--memory", "300MB"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == ExitCode.RESOURCES == 8
    assert "too small" in ended.stderr
    assert not (tmp_path / "out/state").exists()


def test_what_workers_import_ahead_starts_no_thread() -> None:
    # Workers are forked from the process that imported it, and a fork keeps one thread alone.
    code = (
        "import importlib, os, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    command = [sys.executable, "-c", code, *WORKER_MODULES]
    environment = {"PATH": "", **worker_environment(4)}
    if sys.platform == "linux":
        assert subprocess.check_output(command, env=environment, text=True, timeout=120) == "1\n"


def test_blocks_cover_a_slice_once_and_keep_whole_shards() -> None:
    shape, shard = (50, 150, 2300), (50, 64, 192)
    blocks = cut_blocks(shape, shard)
    assert sum((b.y1 - b.y0) * (b.x1 - b.x0) for b in blocks) == 150 * 2300
    assert all(b.y0 % 64 == 0 and b.x0 % 192 == 0 for b in blocks)
    inner, outer = blocks[4], blocks[4].grown(8, shape)
    assert inner.within(outer) == (slice(8, 72), slice(8, 8 + inner.x1 - inner.x0))
    assert middle_block(shape, 256, 512) == (0, 150, 894, 1406)
