import hashlib
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

from soct.errors import InputError
from soct.formats.ome_zarr import create_volume, open_volume
from soct.formats.pyramid_layout import balanced
from soct.formats.validation import validate_volume
from soct.space import Voxel

VOXEL = Voxel(10, 25, 25)


def volume(shape=(40, 70, 90), seed=0):
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def write(path: Path, data, **options):
    with create_volume(path, data.shape, VOXEL, dtype=data.dtype, **options) as writer:
        writer.write((0, 0, 0), data)
    return path


def files_of(path: Path):
    return sorted(f for f in path.rglob("*") if f.is_file())


def digest(path: Path):
    return {
        str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files_of(path)
    }


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.uint8])
def test_what_is_written_is_read_by_soct_and_by_zarr_alone(tmp_path, codec, dtype):
    data = (100 * volume()).astype(dtype)
    path = write(tmp_path / "v.ome.zarr", data, codec=codec, attributes={"slice_id": 4})
    reader = open_volume(path)
    assert reader.shape == data.shape
    assert reader.voxel_um == VOXEL
    assert reader.attributes["slice_id"] == 4
    np.testing.assert_array_equal(reader.read(), data)
    np.testing.assert_array_equal(reader.read((3, 9), None, (80, 90)), data[3:9, :, 80:])
    np.testing.assert_array_equal(zarr.open_group(str(path), mode="r")["0"][:], data)
    assert validate_volume(path, samples=True) == ()


@pytest.mark.parametrize(
    "step", [(40, 70, 90), (7, 70, 90), (40, 9, 90), (40, 70, 1), (13, 17, 19)]
)
def test_blocks_of_any_shape_in_any_order_give_the_same_bytes(tmp_path, step):
    data = volume()
    options = {"chunks": (10, 16, 16), "shards": (20, 32, 64)}
    whole = digest(write(tmp_path / "a" / "v.ome.zarr", data, **options))
    starts = [
        (z, y, x)
        for z in range(0, 40, step[0])
        for y in range(0, 70, step[1])
        for x in range(0, 90, step[2])
    ]
    np.random.default_rng(1).shuffle(starts)
    with create_volume(tmp_path / "b" / "v.ome.zarr", data.shape, VOXEL, **options) as writer:
        for z, y, x in starts:
            writer.write((z, y, x), data[z : z + step[0], y : y + step[1], x : x + step[2]])
    assert digest(tmp_path / "b" / "v.ome.zarr") == whole


def test_the_number_of_threads_does_not_change_a_byte(tmp_path):
    data = volume((80, 130, 200))
    first, second = (
        write(tmp_path / str(n) / "v.ome.zarr", data, codec="zstd", threads=n) for n in (1, 3)
    )
    assert digest(first) == digest(second)


def test_a_volume_that_was_never_closed_is_not_complete(tmp_path):
    path = tmp_path / "v.ome.zarr"
    writer = create_volume(path, (4, 5, 6), VOXEL)
    with pytest.raises(ValueError, match="outside"), writer:
        writer.write((1, 0, 0), volume((4, 5, 6)))
    with pytest.raises(InputError, match="no complete"):
        open_volume(path)
    with pytest.raises(InputError, match="no such folder"):
        open_volume(tmp_path / "absent.ome.zarr")


def test_voxels_that_never_came_are_zero(tmp_path):
    data = volume()
    with create_volume(tmp_path / "v.ome.zarr", data.shape, VOXEL) as writer:
        writer.write((5, 10, 20), data[5:20, 10:30, 20:60])
    expected = np.zeros_like(data)
    expected[5:20, 10:30, 20:60] = data[5:20, 10:30, 20:60]
    np.testing.assert_array_equal(open_volume(tmp_path / "v.ome.zarr").read(), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 300), (129, 1, 1)])
def test_axes_of_one_voxel_are_fine(tmp_path, shape):
    data = volume(shape)
    path = write(tmp_path / "v.ome.zarr", data)
    np.testing.assert_array_equal(open_volume(path).read(), data)
    assert validate_volume(path) == ()


def test_the_valid_range_is_kept_and_is_the_full_depth_by_default(tmp_path):
    data = volume()
    reader = open_volume(write(tmp_path / "a.ome.zarr", data))
    assert reader.read_valid().dtype == np.int16
    assert (reader.read_valid()[0] == 0).all()
    assert (reader.read_valid()[1] == 40).all()
    valid = np.random.default_rng(0).integers(0, 40, (2, 70, 90)).astype(np.int16)
    with create_volume(tmp_path / "b.ome.zarr", data.shape, VOXEL) as writer:
        writer.write_valid(valid)
        writer.write((0, 0, 0), data)
    np.testing.assert_array_equal(open_volume(tmp_path / "b.ome.zarr").read_valid(), valid)
    assert validate_volume(tmp_path / "b.ome.zarr", samples=True) == ()


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_every_flipped_bit_of_a_shard_is_found_on_reading_and_the_file_is_named(tmp_path, codec):
    data = volume((20, 30, 40))
    path = write(
        tmp_path / "v.ome.zarr", data, codec=codec, chunks=(10, 10, 10), shards=(20, 30, 20)
    )
    file = path / "0" / "c" / "0" / "0" / "1"
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(whole), 40), len(whole) - 1]:
        broken = bytearray(whole)
        broken[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(broken)
        with pytest.raises(InputError) as caught:
            open_volume(path).read()
        assert caught.value.file == str(file)


def test_a_truncated_or_lost_shard_is_named(tmp_path):
    path = write(
        tmp_path / "v.ome.zarr", volume((20, 30, 40)), chunks=(10, 10, 10), shards=(20, 30, 20)
    )
    file = path / "0" / "c" / "0" / "0" / "1"
    whole = file.read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(InputError) as caught:
            open_volume(path).read()
        assert caught.value.file == str(file)
    file.unlink()
    with pytest.raises(InputError) as caught:
        open_volume(path)
    assert caught.value.file == str(file)
    assert [finding.file for finding in validate_volume(path)] == [str(file)]


def test_reading_and_writing_outside_is_refused(tmp_path):
    path = write(tmp_path / "v.ome.zarr", volume((4, 5, 6)))
    with pytest.raises(ValueError, match="outside"):
        open_volume(path).read((0, 5))
    with pytest.raises(ValueError, match="holds a volume already"):
        create_volume(path, (4, 5, 6), VOXEL)
    writer = create_volume(tmp_path / "w.ome.zarr", (4, 5, 6), VOXEL)
    with pytest.raises(ValueError, match="outside"):
        writer.write((0, 0, 1), volume((4, 5, 6)))


def write_foreign(path: Path, data, axes, unit, scale, version):
    """Write as other tools do: through zarr alone, and with metadata of another version."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    chunks = tuple(max(1, n // 2) for n in data.shape)
    array = group.create_array("s0", shape=data.shape, chunks=chunks, dtype=data.dtype)
    array[:] = data
    transforms = [{"type": "scale", "scale": scale}]
    multiscale = {
        "axes": [
            {"name": a, "type": "space", "unit": unit} if a in "zyx" else {"name": a} for a in axes
        ],
        "datasets": [{"path": "s0", "coordinateTransformations": transforms}],
    }
    if version == "0.4":
        group.attrs["multiscales"] = [{**multiscale, "version": "0.4"}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [multiscale]}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("unit", ["millimeter", "micrometer"])
def test_images_of_other_tools_are_read(tmp_path, version, unit):
    data = volume((6, 8, 10))
    factor = 1000 if unit == "millimeter" else 1
    write_foreign(
        tmp_path / "f.zarr", data, "zyx", unit, [10 / factor, 25 / factor, 25 / factor], version
    )
    reader = open_volume(tmp_path / "f.zarr")
    np.testing.assert_allclose(reader.voxel_um, VOXEL)
    np.testing.assert_array_equal(reader.read(), data)
    write_foreign(tmp_path / "g.zarr", data[None, None], "tczyx", unit, [1, 1, 1, 1, 1], version)
    np.testing.assert_array_equal(open_volume(tmp_path / "g.zarr").read((1, 3)), data[1:3])


def test_a_level_path_that_leaves_the_image_is_refused(tmp_path):
    write_foreign(tmp_path / "f.zarr", volume((4, 4, 4)), "zyx", "micrometer", [1, 1, 1], "0.5")
    file = tmp_path / "f.zarr" / "zarr.json"
    for path in ("../f.zarr/s0", "/etc", "s0\\u0000"):
        file.write_text(file.read_text().replace('"s0"', f'"{path}"'))
        with pytest.raises(InputError):
            open_volume(tmp_path / "f.zarr")
        file.write_text(file.read_text().replace(f'"{path}"', '"s0"'))


def test_chunks_cover_an_axis_with_little_padding():
    for length in range(1, 300):
        n = balanced(length, 64)
        assert n <= 64
        assert 0 <= -(-length // n) * n - length < -(-length // 64)


def read_sum(path):
    return float(open_volume(path, threads=1).read().sum(dtype=np.float64))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_worker_processes_read_the_same(tmp_path, method):
    data = volume()
    path = write(tmp_path / "v.ome.zarr", data)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert pool.submit(read_sum, path).result(timeout=120) == data.sum(dtype=np.float64)
