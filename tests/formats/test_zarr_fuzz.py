"""Whatever is done to the files of a store, its readers answer with a `UserError` or with an array."""

import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from soct.errors import UserError
from soct.formats.mosaic_grid import MosaicGridWriter, open_mosaic_grid
from soct.formats.ome_zarr import create_volume, open_volume
from soct.formats.validation import validate_volume
from soct.space import Voxel
from tests.formats.fuzzing import FUZZ
from tests.formats.test_ome_zarr import write_foreign

SHAPE = (4, 6, 8)
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [
            0,
            -1,
            1,
            2,
            3,
            2**31,
            10**12,
            2**63,
            2**64,
            10**30,
            1e308,
            "",
            "zyx",
            "../..",
            "float64",
            "string",
            "r16",
            "sharding_indexed",
            "gzip",
            "blosc",
            [],
            {},
            [[]],
            [0, 0, 0],
            [10**12] * 3,
            [2**40, 1, 1],
            [1, 1, 1],
        ]
    ),
    st.text(max_size=5),
)


def paths_in(content, prefix=()):
    """List the path of every value in a JSON object."""
    found = [prefix] if prefix else []
    items = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    for key, value in items:
        found += paths_in(value, (*prefix, key))
    return found


def changed(content, path, value):
    content = json.loads(json.dumps(content))
    target = content
    for key in path[:-1]:
        target = target[key]
    if value is ...:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return content


def read_corner(volume):
    return volume.read(*((0, min(2, n)) for n in volume.shape))


def read_everything(path: Path):
    for read in (
        lambda: read_corner(open_volume(path)),
        lambda: open_volume(path).read_valid()[:, :1],
        lambda: [open_mosaic_grid(path).read_tile(0, 0), open_mosaic_grid(path).has(0, 0)],
        lambda: validate_volume(path),
    ):
        try:
            read()
        except UserError as error:
            str(error).encode()


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    data = np.random.default_rng(0).random(SHAPE, dtype=np.float32)
    with create_volume(root / "volume.ome.zarr", SHAPE, Voxel(1, 1, 1)) as writer:
        writer.write((0, 0, 0), data)
        writer.write_valid(np.ones((2, 6, 8), np.int16))
    with MosaicGridWriter(root / "grid_z1.ome.zarr", 2, 2, (4, 3, 4), Voxel(1, 1, 1)) as grid:
        for row, col in np.ndindex(2, 2):
            grid.write_tile(row, col, data[:, row * 3 : row * 3 + 3, col * 4 : col * 4 + 4])
    write_foreign(root / "foreign.zarr", data, "zyx", "millimeter", [1, 1, 1], "0.4")
    return root


def metadata_files(root: Path):
    names = {"zarr.json", ".zarray", ".zattrs"}
    files = (f for f in root.rglob("*") if f.name in names)
    return sorted(f.relative_to(root) for f in files if len(f.read_bytes()) > 10)


@settings(FUZZ, max_examples=250)
@given(st.data())
def test_mutated_metadata_give_only_user_errors(stores, data):
    file = stores / data.draw(st.sampled_from(metadata_files(stores)))
    whole = file.read_bytes()
    content = json.loads(whole)
    path = data.draw(st.sampled_from(paths_in(content)))
    value = data.draw(st.just(...) | _LEAVES)
    try:
        file.write_text(json.dumps(changed(content, path, value)))
        read_everything(stores / file.relative_to(stores).parts[0])
    finally:
        file.write_bytes(whole)


@FUZZ
@given(st.data())
def test_random_and_truncated_files_give_only_user_errors(stores, data):
    files = sorted(f for f in stores.rglob("*") if f.is_file())
    file = data.draw(st.sampled_from(files))
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    junk = data.draw(st.binary(max_size=40))
    try:
        file.write_bytes(
            data.draw(st.sampled_from([whole[:cut], junk, whole[:cut] + junk, junk + whole]))
        )
        read_everything(stores / file.relative_to(stores).parts[0])
    finally:
        file.write_bytes(whole)


def test_nesting_numbers_and_sizes_do_not_break_the_reader(tmp_path):
    (tmp_path / "zarr.json").write_text('{"attributes": ' + "[" * 100_000)
    read_everything(tmp_path)
    (tmp_path / "zarr.json").write_text('{"attributes": ' + "9" * 10_000 + "}")
    read_everything(tmp_path)
    (tmp_path / "zarr.json").write_bytes(b"\xff\xfe\0")
    read_everything(tmp_path)
    with (tmp_path / "zarr.json").open("wb") as file:
        file.truncate(1 << 40)
    read_everything(tmp_path)


def test_huge_shapes_allocate_nothing(stores, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name in ("volume.ome.zarr", "grid_z1.ome.zarr"):
        shutil.copytree(stores / name, tmp_path / name)
        array = tmp_path / name / "0" / "zarr.json"
        whole = json.loads(array.read_text())
        for keys in (["shape"], ["chunk_grid", "configuration", "chunk_shape"]):
            for size in (10**5, 10**9, 10**12):
                content = changed(whole, keys, [size] * 3)
                array.write_text(json.dumps(content))
                read_everything(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024
