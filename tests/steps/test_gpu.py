"""Steps that use a GPU: the same volume, named in the record, and processors when the GPU's memory runs out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.compute import backend as backends
from soct.compute.backend import Backend
from soct.formats.ome_zarr import open_volume
from soct.pipeline.single_step import SingleResult, SingleStep, run_single_step
from tests.steps.chain import STEPS, Made, read_whole

STITCH = "stitch_3d_with_refinement"


class Tight:
    """An array module whose device has no memory left."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def zeros(self, *shape: Any) -> Any:
        raise MemoryError("out of device memory")


def again(made: Made, step_id: str, units: tuple[tuple[int, ...], ...], out: Path) -> SingleResult:
    """Run a step on what the chain made before it, with a GPU where there is one."""
    step = STEPS[step_id]
    made.chain.run(step_id)
    inputs: dict[tuple[str, str], dict[tuple[int, ...], Path]] = {}
    for source in step.inputs:
        for slices, result in made.chain.done.get(source.step, {}).items():
            for name, path in result.outputs.items():
                inputs.setdefault((source.step, name), {})[slices] = path
    request = SingleStep(step, step.params(), inputs, out, units=units, gpu="auto")
    (result,) = run_single_step(request)
    return result


def pretend(monkeypatch: pytest.MonkeyPatch, module: Any) -> None:
    monkeypatch.setattr(backends, "find_gpu", lambda: (Backend("pretended GPU", module), ""))


def test_a_slice_stitched_on_a_gpu_is_the_same(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, np)
    done = again(plain, STITCH, ((1,),), tmp_path)
    assert done.result.backend == "pretended GPU"
    assert done.result.fallbacks == ()
    expected = read_whole(plain.chain.path(STITCH, "slice", 1))
    found = read_whole(done.outputs["slice"])
    assert np.array_equal(np.isnan(found), np.isnan(expected))
    assert np.nanmax(np.abs(found - expected)) < 2e-5 * np.nanmax(expected)


def test_a_volume_stacked_on_a_gpu_is_the_same(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, np)
    done = again(plain, "stack", ((),), tmp_path)
    assert done.result.backend == "pretended GPU"
    expected = open_volume(plain.chain.path("stack", "volume")).read()
    found = open_volume(done.outputs["volume"]).read()
    assert np.array_equal(found > 0, expected > 0)
    assert np.abs(found - expected).max() < 2e-5 * expected.max()


def test_a_gpu_without_memory_leaves_the_very_bytes_of_the_processors(
    plain: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, Tight())
    done = again(plain, STITCH, ((1,),), tmp_path)
    assert done.result.backend == "cpu"
    assert "GPU memory" in done.result.fallbacks[0]
    expected = open_volume(plain.chain.path(STITCH, "slice", 1)).read()
    assert np.array_equal(open_volume(done.outputs["slice"]).read(), expected)
