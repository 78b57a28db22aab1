import json

import numpy as np
import pytest
import zarr

from soct.errors import InputError
from soct.formats.mosaic_grid import GridTile, MosaicGridWriter, open_mosaic_grid
from soct.formats.tiles import shard_tiles
from soct.formats.validation import validate_volume
from soct.space import Voxel
from tests.formats.test_ome_zarr import digest

VOXEL = Voxel(10, 25, 20)
SHAPE = (5, 12, 8)


def tiles(rows=5, cols=6, missing=()):
    rng = np.random.default_rng(0)
    made = {(r, c): rng.random(SHAPE, dtype=np.float32) for r in range(rows) for c in range(cols)}
    return {key: tile for key, tile in made.items() if key not in missing}


def test_tiles_come_back_in_any_order_of_writing_with_equal_bytes(tmp_path):
    made = tiles()
    orders = {
        "row": list(made),
        "column": sorted(made, key=lambda k: k[::-1]),
        "shuffled": list(made),
    }
    np.random.default_rng(3).shuffle(orders["shuffled"])
    digests = []
    for name, order in orders.items():
        path = tmp_path / name / "mosaic_grid_3d_z03.ome.zarr"
        with MosaicGridWriter(path, 5, 6, SHAPE, VOXEL, attributes={"slice_id": 3}) as writer:
            for row, col in order:
                writer.write_tile(int(row), int(col), made[row, col])
        digests.append(digest(path))
        grid = open_mosaic_grid(path)
        assert (grid.rows, grid.cols, grid.tile_shape, grid.voxel_um) == (5, 6, SHAPE, VOXEL)
        assert grid.slice_id == 3
        for (row, col), tile in made.items():
            np.testing.assert_array_equal(grid.read_tile(row, col), tile)
    assert digests[0] == digests[1] == digests[2]
    assert validate_volume(path, samples=True) == ()


def test_the_chunk_is_one_tile_and_a_file_holds_the_square_of_the_sharding_factor(tmp_path):
    with MosaicGridWriter(tmp_path / "g.ome.zarr", 5, 6, SHAPE, VOXEL, sharding_factor=2) as writer:
        for key, tile in tiles().items():
            writer.write_tile(*key, tile)
    array = zarr.open_group(str(tmp_path / "g.ome.zarr"), mode="r")["0"]
    assert array.chunks == SHAPE
    assert array.shards == (5, 24, 16)
    assert array.metadata.dimension_names == ("z", "y", "x")


def test_missing_tiles_stay_zero_and_are_listed(tmp_path):
    missing = {(0, 0), (2, 3)}
    known = [
        GridTile(1, 1, (1.5, 2.5, None), "z0/tile", "ok", 7, 0.5),
        GridTile(0, 0, status="truncated"),
    ]
    writer = MosaicGridWriter(tmp_path / "g_z12.ome.zarr", 5, 6, SHAPE, VOXEL)
    writer.skip_tile(0, 0)
    for key, tile in tiles(missing=missing).items():
        writer.write_tile(*key, tile)
    writer.close(known)
    grid = open_mosaic_grid(tmp_path / "g_z12.ome.zarr")
    assert {(t.row, t.col) for t in grid.tiles if not grid.has(t.row, t.col)} == missing
    assert grid.tiles[0].status == "truncated"
    assert grid.tiles[7] == known[0]
    assert not grid.read_tile(2, 3).any()
    assert grid.slice_id == 12


@pytest.mark.parametrize("order", ["row-major", "tile_order"])
def test_few_tiles_wait_in_memory(tmp_path, order):
    rows, cols = 9, 8
    writer = MosaicGridWriter(tmp_path / "g.ome.zarr", rows, cols, SHAPE, VOXEL)
    made = tiles(rows, cols, missing={(0, 1)})
    waiting = []
    for key in np.ndindex(rows, cols) if order == "row-major" else writer.tile_order():
        if key == (0, 1):
            writer.skip_tile(*key)
            continue
        writer.write_tile(*key, made[key])
        waiting.append(len(writer._shards._partial))
    assert max(waiting) <= (2 if order == "row-major" else 1)
    assert waiting[-1] == 0
    writer.close()


def test_large_tiles_share_files_in_small_bands():
    assert shard_tiles(20, 25, 1 << 20) == (4, 4)
    assert shard_tiles(20, 25, 4 << 20) == (2, 4)
    assert shard_tiles(20, 25, 256 << 20) == (1, 1)
    assert shard_tiles(2, 3, 1) == (2, 3)


def test_a_tile_twice_outside_or_of_another_shape_is_refused(tmp_path):
    writer = MosaicGridWriter(tmp_path / "g.ome.zarr", 2, 2, SHAPE, VOXEL)
    tile = tiles(1, 1)[0, 0]
    writer.write_tile(0, 0, tile)
    with pytest.raises(ValueError, match="twice"):
        writer.write_tile(0, 0, tile)
    with pytest.raises(ValueError, match="outside"):
        writer.write_tile(2, 0, tile)
    with pytest.raises(ValueError, match="shape"):
        writer.write_tile(0, 1, tile[:, :3])


@pytest.mark.parametrize("depth", [4, 3])
@pytest.mark.parametrize("version", [2, 3])
def test_grid_axes_say_what_the_second_axis_is(tmp_path, version, depth):
    path = tmp_path / "mosaic_grid_3d_z07.ome.zarr"
    data = np.random.default_rng(0).random((4, 20, 18), dtype=np.float32)
    data[:, 10:, 12:] = 0
    group = zarr.open_group(str(path), mode="w", zarr_format=version)
    array = group.create_array("0", shape=data.shape, chunks=(depth, 10, 6), dtype="float32")
    array[:] = data
    multiscale = {
        "axes": [{"name": a, "type": "space", "unit": "millimeter"} for a in "zyx"],
        "datasets": [
            {
                "path": "0",
                "coordinateTransformations": [{"type": "scale", "scale": [0.01, 0.02, 0.03]}],
            }
        ],
    }
    if version == 2:
        group.attrs["multiscales"] = [{**multiscale, "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}
    grid = open_mosaic_grid(path)
    assert (grid.rows, grid.cols, grid.tile_shape) == (3, 2, (4, 6, 10))
    np.testing.assert_allclose(grid.voxel_um, (10, 30, 20))
    np.testing.assert_array_equal(grid.read_tile(1, 0), data[:, :10, 6:12].transpose(0, 2, 1))
    assert not grid.has(2, 1)
    assert grid.has(2, 0)
    assert grid.slice_id == 7
    grid = open_mosaic_grid(path, grid_axes="yx")
    assert (grid.rows, grid.cols, grid.tile_shape) == (2, 3, (4, 10, 6))
    np.testing.assert_array_equal(grid.read_tile(0, 1), data[:, :10, 6:12])


def test_a_grid_that_was_chunked_anew_loses_nothing(tmp_path):
    path = tmp_path / "g.ome.zarr"
    made = tiles(2, 2)
    with MosaicGridWriter(path, 2, 2, SHAPE, VOXEL) as writer:
        for key, tile in made.items():
            writer.write_tile(*key, tile)
    group = zarr.open_group(str(path), mode="r")
    attributes = json.loads(json.dumps(dict(group.attrs)))
    del attributes["soct"]["stored"]
    other = zarr.open_group(str(tmp_path / "h.ome.zarr"), mode="w")
    other.attrs.update(attributes)
    other.create_array("0", data=group["0"][:], chunks=(5, 7, 7))
    grid = open_mosaic_grid(tmp_path / "h.ome.zarr")
    assert grid.tile_shape == SHAPE
    for key, tile in made.items():
        np.testing.assert_array_equal(grid.read_tile(*key), tile)


def test_a_damaged_grid_names_the_file(tmp_path):
    path = tmp_path / "g.ome.zarr"
    with MosaicGridWriter(path, 5, 6, SHAPE, VOXEL) as writer:
        for key, tile in tiles().items():
            writer.write_tile(*key, tile)
    file = path / "0" / "c" / "0" / "1" / "0"
    data = bytearray(file.read_bytes())
    data[100] ^= 4
    file.write_bytes(data)
    grid = open_mosaic_grid(path)
    grid.read_tile(0, 0)
    with pytest.raises(InputError) as caught:
        grid.read_tile(4, 0)
    assert caught.value.file == str(file)
    file.unlink()
    with pytest.raises(InputError, match="missing"):
        open_mosaic_grid(path)
