"""Columns of a grid change in place, in one step, and come back bit for bit."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import zarr

from soct.errors import InputError, LockedError
from soct.formats import grid_columns
from soct.formats.grid_columns import (
    change_columns,
    give_up_original,
    holding,
    read_change,
    settle,
    undo_change,
)
from soct.formats.mosaic_grid import MosaicGridWriter, open_mosaic_grid
from soct.space import Voxel

ORDER = np.roll(np.arange(6), 2)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def foreign(path: Path, version: int, shards: tuple[int, ...] | None = None) -> np.ndarray:
    """A grid of 3 x 2 tiles of another tool, x along its second axis; the last tile is empty."""
    data = np.random.default_rng(0).random((4, 18, 10), dtype=np.float32)
    data[:, 12:, 5:] = 0
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    array = group.create_array(
        "0", shape=data.shape, chunks=(4, 6, 5), shards=shards, dtype="float32"
    )
    array[:] = data
    scale = {"type": "scale", "scale": [0.01, 0.02, 0.02]}
    multiscale = {
        "axes": [{"name": a, "type": "space", "unit": "millimeter"} for a in "zyx"],
        "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
    }
    if version == 2:
        group.attrs["multiscales"] = [{**multiscale, "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    return data


@pytest.mark.parametrize(
    ("version", "shards"), [(2, None), (3, None), (3, (4, 12, 10))], ids=["v2", "v3", "sharded"]
)
def test_every_tile_changes_and_undoing_restores_every_byte(tmp_path, version, shards):
    path = tmp_path / "mosaic_grid_3d_z00.ome.zarr"
    data = foreign(path, version, shards)
    before = digest(path)
    with holding(path):
        change_columns(open_mosaic_grid(path), ORDER, {"why": "test"})
    changed = zarr.open_group(str(path), mode="r")["0"][:]
    expected = data.reshape(4, 3, 6, 10)[:, :, ORDER].reshape(data.shape)
    np.testing.assert_array_equal(changed, expected)
    change = read_change(path)
    assert change is not None
    assert (change.order, change.details) == (tuple(ORDER), {"why": "test"})
    with pytest.raises(InputError, match="changed before"):
        change_columns(open_mosaic_grid(path), ORDER, {})
    with holding(path):
        undo_change(path)
    assert digest(path) == before
    assert read_change(path) is None
    with pytest.raises(InputError, match="no change to undo"):
        undo_change(path)


def test_grids_that_soct_wrote_stay_valid(tmp_path):
    path = tmp_path / "mosaic_grid_3d_z01.ome.zarr"
    tile = np.random.default_rng(1).random((3, 5, 6), dtype=np.float32)
    with MosaicGridWriter(path, 3, 3, tile.shape, Voxel(10, 20, 20), sharding_factor=2) as writer:
        writer.write_tile(2, 1, tile)
    with holding(path):
        change_columns(open_mosaic_grid(path), ORDER, {})
    grid = open_mosaic_grid(path)
    np.testing.assert_array_equal(grid.read_tile(2, 1), tile[..., ORDER])
    assert not grid.has(0, 0)


@pytest.mark.parametrize("at", range(8))
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_array_and_can_be_settled(
    tmp_path, monkeypatch, at
):
    path = tmp_path / "mosaic_grid_3d_z00.ome.zarr"
    foreign(path, 3)
    old = digest(path / "0")
    calls = 0

    class Killed(BaseException):
        pass

    def dying(real):
        def act(*given, **named):
            nonlocal calls
            calls += 1
            if calls == at + 1:
                raise Killed
            return real(*given, **named)

        return act

    with monkeypatch.context() as patch:
        patch.setattr(grid_columns, "write_bytes", dying(grid_columns.write_bytes))
        patch.setattr(Path, "rename", dying(Path.rename))
        patch.setattr(grid_columns.shutil, "rmtree", dying(grid_columns.shutil.rmtree))
        try:
            with holding(path):
                change_columns(open_mosaic_grid(path), ORDER, {})
                undo_change(path)
        except Killed:
            pass
    with holding(path):
        settle(path)
    change = read_change(path)
    assert (digest(path / "0") == old) == (change is None)
    if change is not None:
        with holding(path):
            undo_change(path)
    assert digest(path / "0") == old
    assert not (path / grid_columns.FOLDER).exists()


def test_two_processes_do_not_change_one_grid(tmp_path):
    with holding(tmp_path), pytest.raises(LockedError), holding(tmp_path):
        pass


def test_a_change_whose_original_was_given_up_cannot_be_undone(tmp_path):
    path = tmp_path / "mosaic_grid_3d_z00.ome.zarr"
    foreign(path, 2)
    with holding(path):
        change_columns(open_mosaic_grid(path), ORDER, {})
        give_up_original(path)
        with pytest.raises(InputError, match="given up"):
            undo_change(path)
    change = read_change(path)
    assert change is not None
    assert not change.has_original
