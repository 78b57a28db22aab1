"""Shading and stripes are taken out of a stacked volume, and nothing else is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.formats.ngff import parse_image
from soct.formats.ome_zarr import PyramidWriter, open_volume
from soct.formats.validation import validate_volume
from soct.space import Array, Voxel
from soct.steps.correct_bias_field import STEP, CorrectBiasFieldParams
from soct.steps.declaration import Context, Result, Unit
from tests.intensity.phantoms import make_phantom
from tests.steps.chain import Chain, Made

SECTIONS, PLANES = 5, 12
VOXEL = Voxel(10.0, 20.0, 20.0)


class Banded:
    """A stack whose sections differ in gain, with one field over all, on disk."""

    def __init__(self, folder: Path) -> None:
        made = make_phantom((SECTIONS * PLANES, 112, 112), grain_px=10, bias_rms=0.12)
        gains = np.array([0.2, -0.15, 0.1, -0.25, 0.1])
        self.log_bias = np.log(made.bias) + np.repeat(gains, PLANES)[:, None, None]
        self.mask = made.mask
        self.anatomy = made.anatomy
        self.volume = (made.volume / made.bias * np.exp(self.log_bias)).astype(np.float32)
        self.volume[:, :8] = 0
        self.path = folder / "sample.ome.zarr"
        with PyramidWriter(
            self.path, self.volume.shape, VOXEL, (10, 50), attributes={"subject": "sample"}
        ) as writer:
            writer.append(self.volume, self.volume > 0)
        self.figures = folder / "figures.npz"
        np.savez(self.figures, z_boundaries=np.arange(SECTIONS) * PLANES)

    def correct(self, folder: Path, memory_bytes: int = 2 << 30, **params: Any) -> Result:
        folder.mkdir()
        context = Context(
            unit=Unit(STEP.id),
            subject="sample",
            slice_ids=tuple(range(SECTIONS)),
            input_paths={
                ("stack", "volume"): {(): self.path},
                ("stack", "figures"): {(): self.figures},
            },
            output_paths={"figures": folder / "figures.npz", "volume": folder / "volume.ome.zarr"},
            memory_bytes=memory_bytes,
        )
        return STEP.run(context, CorrectBiasFieldParams(enabled=True, **params))


@pytest.fixture(scope="module")
def banded(tmp_path_factory: pytest.TempPathFactory) -> Banded:
    return Banded(tmp_path_factory.mktemp("banded"))


@pytest.fixture(scope="module")
def corrected(banded: Banded, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("corrected") / "out"
    return folder, banded.correct(folder)


def section_steps(log_bias: Array, mask: Array) -> Array:
    """Steps of a log field where sections meet."""
    both = [mask[z] & mask[z - 1] for z in range(PLANES, len(mask), PLANES)]
    return np.array(
        [
            (log_bias[z] - log_bias[z - 1])[inside].mean()
            for z, inside in zip(range(PLANES, len(mask), PLANES), both, strict=True)
        ]
    )


def test_two_passes_remove_the_steps_of_a_banded_stack_and_keep_its_anatomy(
    banded: Banded, corrected: tuple[Path, Result]
) -> None:
    folder, result = corrected
    after = open_volume(folder / "volume.ome.zarr").read()
    inside = banded.mask.copy()
    inside[:, :8] = False
    ratio = np.where(inside, after / np.where(inside, banded.volume, 1), 1)
    left = banded.log_bias + np.log(ratio)
    before_steps = section_steps(banded.log_bias, inside)
    after_steps = section_steps(np.where(inside, left, 0), inside)
    assert np.sqrt((after_steps**2).mean()) < 0.05 * np.sqrt((before_steps**2).mean())
    truth = np.log(banded.anatomy[inside])
    r = [np.corrcoef(np.log(v[inside]), truth)[0, 1] for v in (banded.volume, after)]
    assert r[1] > r[0] + 0.05
    assert left[inside].std() < 0.3 * banded.log_bias[inside].std()
    metrics = {m.name: m.value for m in result.metrics}
    assert metrics["plane_step_after"] < 0.3 * metrics["plane_step_before"]
    assert metrics["sections"] == SECTIONS
    assert 0.85 < metrics["contrast_kept"] <= 1.02


def test_the_corrected_volume_has_the_levels_and_the_empty_voxels_of_its_source(
    banded: Banded, corrected: tuple[Path, Result]
) -> None:
    path = corrected[0] / "volume.ome.zarr"
    assert validate_volume(path) == ()
    assert parse_image(path).levels == parse_image(banded.path).levels
    assert open_volume(path).attributes["subject"] == "sample"
    np.testing.assert_array_equal(open_volume(path).read() > 0, banded.volume > 0)


def test_little_memory_gives_the_same_bytes(
    banded: Banded, corrected: tuple[Path, Result], tmp_path: Path
) -> None:
    banded.correct(tmp_path / "out", memory_bytes=8 << 20)
    one, two = (
        open_volume(folder / "volume.ome.zarr").read()
        for folder in (corrected[0], tmp_path / "out")
    )
    assert one.tobytes() == two.tobytes()


def test_no_strength_changes_nothing(banded: Banded, tmp_path: Path) -> None:
    result = banded.correct(tmp_path / "out", bias_strength=0, levels=1)
    after = open_volume(tmp_path / "out" / "volume.ome.zarr").read()
    np.testing.assert_allclose(after, banded.volume, rtol=1e-6)
    assert {m.name: m.value for m in result.metrics}["bias_high"] == 1


def test_short_memory_is_said_and_the_blocks_grow(banded: Banded, tmp_path: Path) -> None:
    result = banded.correct(tmp_path / "out", memory_bytes=1 << 20, bias_mode="global", levels=1)
    assert "memory is short" in result.fallbacks[0]


@pytest.mark.slow
def test_it_runs_on_what_the_pipeline_stacked(plain: Made, tmp_path: Path) -> None:
    chain = Chain(
        plain.chain.raw, tmp_path, {"correct_bias_field": {"enabled": True}}, dict(plain.chain.done)
    )
    after = open_volume(chain.path("correct_bias_field", "volume"))
    before = open_volume(plain.chain.path("stack", "volume"))
    assert after.shape == before.shape
    assert chain.metric("correct_bias_field", "sections") == len(plain.slice_ids)
    figures = chain.arrays("correct_bias_field", "figures")
    assert figures["before"].shape == figures["after"].shape == figures["field"].shape
