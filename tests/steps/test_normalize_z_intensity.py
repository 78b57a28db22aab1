"""Sections of a volume on disk come to one level; what is empty stays empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soct.formats.ome_zarr import PyramidWriter, open_volume
from soct.space import Array, Voxel
from soct.steps.declaration import Context, Result, Unit
from soct.steps.normalize_z_intensity import STEP, NormalizeZIntensityParams

SECTIONS, PLANES = 6, 8
GAINS = np.array([1.0, 1.35, 0.8, 1.1, 0.75, 1.2])


def make_volume() -> Array:
    rng = np.random.default_rng(0)
    shape = (SECTIONS * PLANES, 70, 80)
    anatomy = np.where(rng.random(shape) < 0.6, 1.0, 1.8) * rng.standard_gamma(20, shape) / 20
    anatomy[:, :20] *= 0.04
    volume = (anatomy * np.repeat(GAINS, PLANES)[:, None, None]).astype(np.float32)
    volume[:, :, :5] = 0
    return volume


def level(folder: Path, volume: Array, memory_bytes: int = 2 << 30, **params: Any) -> Result:
    folder.mkdir()
    source = folder / "sample.ome.zarr"
    with PyramidWriter(source, volume.shape, Voxel(10, 10, 10), (10, 50)) as writer:
        writer.append(volume, volume > 0)
    np.savez(folder / "stack.npz", z_boundaries=np.arange(SECTIONS) * PLANES)
    context = Context(
        unit=Unit(STEP.id),
        subject="sample",
        slice_ids=tuple(range(SECTIONS)),
        input_paths={
            ("stack", "volume"): {(): source},
            ("stack", "figures"): {(): folder / "stack.npz"},
        },
        output_paths={"volume": folder / "out.ome.zarr", "figures": folder / "figures.npz"},
        memory_bytes=memory_bytes,
    )
    return STEP.run(context, NormalizeZIntensityParams(enabled=True, **params))


@pytest.mark.parametrize("method", ["percentile", "histogram"])
def test_sections_come_to_one_level(method: str, tmp_path: Path) -> None:
    volume = make_volume()
    result = level(tmp_path / "a", volume, method=method, strength=1, kept_sections=100)
    after = open_volume(tmp_path / "a" / "out.ome.zarr").read()
    tissue = after[:, 20:, 5:].reshape(SECTIONS, -1)
    trend = np.exp(np.polyval(np.polyfit(range(SECTIONS), np.log(GAINS), 1), range(SECTIONS)))
    for q in (25, 75, 90):
        levels = np.percentile(tissue, q, axis=1) / trend
        assert levels.std() / levels.mean() < 0.03
    np.testing.assert_array_equal(after > 0, volume > 0)
    metrics = {m.name: m.value for m in result.metrics}
    assert metrics["z_scatter_after"] < 0.2 * metrics["z_scatter_before"]
    assert metrics["sections_measured"] == SECTIONS


def test_the_default_goes_half_of_the_way_whatever_the_memory(tmp_path: Path) -> None:
    volume = make_volume()
    result = level(tmp_path / "a", volume)
    level(tmp_path / "b", volume, memory_bytes=1 << 20)
    metrics = {m.name: m.value for m in result.metrics}
    assert 0.3 < metrics["z_scatter_after"] / metrics["z_scatter_before"] < 0.7
    one, two = (open_volume(tmp_path / n / "out.ome.zarr").read() for n in "ab")
    assert one.tobytes() == two.tobytes()


def test_an_empty_volume_is_said_and_stays(tmp_path: Path) -> None:
    volume = np.zeros((SECTIONS * PLANES, 20, 20), np.float32)
    volume[0, 0, 0] = 1
    result = level(tmp_path / "a", volume)
    assert "too little tissue" in result.warnings[0]
    np.testing.assert_array_equal(open_volume(tmp_path / "a" / "out.ome.zarr").read(), volume)
