"""Grids at the working resolution."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from soct.formats.mosaic_grid import open_mosaic_grid
from tests.steps.chain import Chain, Made

Damage = Callable[[Any], Any]


def test_resampling_at_the_native_voxel_links_and_finer_data_are_averaged(
    plain: Made, tmp_path: Path
) -> None:
    linked = plain.chain.path("resample_mosaic_grid", "grid", 0)
    source = plain.chain.path("create_mosaic_grid", "grid", 0)
    shard = next(p for p in source.rglob("c/**/*") if p.is_file())
    assert (linked / shard.relative_to(source)).samefile(shard)
    coarse = Chain(
        plain.simulation.raw, tmp_path, {"resample_mosaic_grid": {"resolution_um": 50.0}}
    )
    grid = open_mosaic_grid(coarse.path("resample_mosaic_grid", "grid", 0))
    assert tuple(grid.voxel_um) == pytest.approx((50.0, 50.0, 50.0))
    assert grid.tile_shape == (8, 22, 22)
    before = open_mosaic_grid(source).read_tile(0, 0)
    # Anti-aliased resampling keeps the mean, and removes speckle.
    assert grid.read_tile(0, 0).mean() == pytest.approx(before.mean(), rel=0.03)
    assert grid.read_tile(0, 0).std() < before.std()
